#!/usr/bin/python3
"""Numbers looked up by resolve_phone(), beside the same look-up in a SQL function.

    test/bench/lookup.py [NUMBERS]          default 10,000,000 numbers of 1,000 companies

Random numbers of them, in one statement: 1,000 that the session has in memory, as a session has the
numbers that ring; as many as a session keeps by default; each of all, which the session has never
seen or no longer knows (and so reads from an index, as the SQL function does); and each of all with
tenantcall.directory_cache_size set to hold them.  For what is not in memory there is a floor: a join
with the index alone, which finds and fetches its entries without calling any function for them.

The sides run in turns (paired.py).  Says the memory that the session takes for it.  Exits with 1 if
a budget is missed.
"""
import pathlib
import statistics
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "setup"))

from paired import in_turns, noted, ratios, shown
from pgserver import Cluster, Install, Workspace, main_guard, say

ROUNDS = 9
SETUP = """
CREATE EXTENSION tenantcall;
SELECT tenantcall.create_tables();
INSERT INTO telephony.companies (name, time_zone) SELECT 'Company ' || g, 'UTC' FROM generate_series(1, 1000) AS g;
BEGIN;
ALTER TABLE telephony.branches DISABLE TRIGGER ALL;
INSERT INTO telephony.branches (company_id, branch_id, name) SELECT company_id, company_id, 'Main' FROM telephony.companies;
ALTER TABLE telephony.branches ENABLE TRIGGER ALL;
ALTER TABLE telephony.phone_numbers DISABLE TRIGGER ALL;
INSERT INTO telephony.phone_numbers (company_id, branch_id, number)
    SELECT 1 + g % 1000, 1 + g % 1000, '+49' || (40000000000 + g) FROM generate_series(1, {numbers}) AS g;
ALTER TABLE telephony.phone_numbers ENABLE TRIGGER ALL;
COMMIT;
CREATE SCHEMA app;
CREATE FUNCTION app.resolve(wanted text) RETURNS TABLE (company_id bigint, branch_id bigint, phone_number_id bigint, status text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT n.company_id, n.branch_id, n.phone_number_id, c.status FROM telephony.phone_numbers AS n
    JOIN telephony.companies AS c USING (company_id) WHERE n.number = wanted AND n.released_at IS NULL $$;
CREATE TABLE app.wanted (number text);
"""
MEMORY = "SELECT sum(total_bytes) FROM pg_backend_memory_contexts WHERE name LIKE 'tenantcall numbers'"


CALL = "SELECT count(r.company_id), count(*) FROM app.wanted AS w, {}(w.number) AS r"
OURS, THEIRS = CALL.format("tenantcall.resolve_phone"), CALL.format("app.resolve")
FLOOR = """SELECT count(n.company_id), count(*) FROM app.wanted AS w, LATERAL (
    SELECT n.company_id, n.branch_id, n.phone_number_id FROM telephony.phone_numbers AS n
    WHERE n.number = w.number AND n.released_at IS NULL OFFSET 0) AS n"""


def timed(cursor, query):
    """Numbers per second."""
    start = time.perf_counter()
    cursor.execute(query)
    found, count = cursor.fetchone()
    assert found == count > 0
    return count / (time.perf_counter() - start)


def measure(cluster, sides, count, cache, anew):
    """Numbers per second of each side in each round, and bytes of memory; the numbers are drawn anew for each if wished."""
    rates = {side: [] for side in sides}
    draw = f"INSERT INTO app.wanted SELECT '+49' || (40000000001 + floor(random() * {NUMBERS}))::bigint FROM generate_series(1, {count})"
    with cluster.connect(autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(f"SET tenantcall.directory_cache_size = {cache}")
        for turn, side in in_turns(sides, ROUNDS):
            if anew or turn == 0:
                cursor.execute("TRUNCATE app.wanted")
                cursor.execute(draw)
                cursor.execute("VACUUM ANALYZE app.wanted")
            rate = timed(cursor, side)
            if turn > 0:
                rates[side].append(rate)
        memory = cursor.execute(MEMORY).fetchone()[0]
    return [rates[side] for side in sides], memory


def report(name, ours, theirs, memory, budget):
    """Prints one comparison; true if the budget is kept."""
    each = ratios(ours, theirs)
    kept = noted(f"{name} / SQL function", each, budget)
    verdict = "" if budget is None else f"at least {budget} x   {'ok' if kept else 'MISSED'}"
    say(f"{name:<34}{statistics.median(ours):>12,.0f}{statistics.median(theirs):>12,.0f} numbers/s {shown(each):>22} x"
        f"   {memory / 1024:>9,.0f} kB   {verdict}".rstrip())
    return kept


def compare(cluster, name, count, cache):
    """Numbers for which there is memory."""
    (ours, theirs), memory = measure(cluster, [OURS, THEIRS], count, cache, False)
    return report(name, ours, theirs, memory, 5)


def compare_unseen(cluster):
    """Numbers that the session has not seen, or no longer knows; and the index alone."""
    (ours, theirs, floor), memory = measure(cluster, [OURS, THEIRS, FLOOR], 100000, 50000, True)
    report("all of them, as they come", ours, theirs, memory, None)
    report("the same: the index alone", floor, theirs, memory, None)


def main():
    """Runs all."""
    with Workspace() as work:
        cluster = Cluster(work, Install.build(work), conf={"shared_buffers": "3GB", "max_wal_size": "8GB"}).start()
        start = time.perf_counter()
        cluster.sql(SETUP.format(numbers=NUMBERS))
        cluster.sql("VACUUM (ANALYZE)")
        say(f"made {NUMBERS:,} numbers in {time.perf_counter() - start:.0f} s")
        say(f"{'':<34}{'tenantcall':>12}{'SQL':>12}{'':>11}{'ratio (least-greatest)':>24}{'':>5}per session")
        kept = compare(cluster, "1,000 of them", 1000, 50000)
        kept &= compare(cluster, "30,000 of them", 30000, 50000)
        kept &= compare(cluster, "1,000,000 of them, all kept", 1000000, 10000000)
        compare_unseen(cluster)
    return 0 if kept else 1


NUMBERS = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000

if __name__ == "__main__":
    main_guard(main)
