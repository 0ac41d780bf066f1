#!/usr/bin/python3
"""Numbers looked up by resolve_phone(), beside the same look-up in a SQL function.

    test/bench/lookup.py [NUMBERS]          default 10,000,000 numbers of 1,000 companies

Random numbers of them, in one statement: 1,000 that the session has in memory, as a session has the
numbers that ring; as many as a session keeps by default; each of all, which the session has never
seen or no longer knows (and so reads from the table, as the SQL function does); and each of all with
tenantcall.directory_cache_size set to hold them.  The sides run in turns; medians of the rounds are
compared.  Says the memory that the session takes for it.  Exits with 1 if a budget is missed.
"""
import pathlib
import statistics
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "setup"))

from pgserver import Cluster, Install, Workspace, main_guard, say

ROUNDS = 5
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


def timed(cursor, function):
    """Numbers per second."""
    start = time.perf_counter()
    cursor.execute(f"SELECT count(r.company_id), count(*) FROM app.wanted AS w, {function}(w.number) AS r")
    found, count = cursor.fetchone()
    assert found == count > 0
    return count / (time.perf_counter() - start)


def compare(cluster, name, count, cache, budget):
    """One comparison; the numbers are drawn anew for each round unless there is memory for them."""
    rates = ([], [])
    draw = f"INSERT INTO app.wanted SELECT '+49' || (40000000001 + floor(random() * {NUMBERS}))::bigint FROM generate_series(1, {count})"
    with cluster.connect(autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(f"SET tenantcall.directory_cache_size = {cache}")
        for turn in range(ROUNDS + 1):
            if turn == 0 or budget is None:
                cursor.execute("TRUNCATE app.wanted")
                cursor.execute(draw)
                cursor.execute("VACUUM ANALYZE app.wanted")
            for which in (0, 1) if turn % 2 else (1, 0):
                rate = timed(cursor, ("tenantcall.resolve_phone", "app.resolve")[which])
                if turn > 0:
                    rates[which].append(rate)
        memory = cursor.execute(MEMORY).fetchone()[0]
    ours, theirs = map(statistics.median, rates)
    verdict = "" if budget is None else f"at least {budget} x   {'ok' if ours / theirs >= budget else 'MISSED'}"
    say(f"{name:<34}{ours:>12,.0f}{theirs:>12,.0f} numbers/s {ours / theirs:>7.2f} x   {memory / 1024:>9,.0f} kB   {verdict}".rstrip())
    return budget is None or ours / theirs >= budget


def main():
    """Runs all."""
    with Workspace() as work:
        cluster = Cluster(work, Install.build(work), conf={"shared_buffers": "3GB", "max_wal_size": "8GB"}).start()
        start = time.perf_counter()
        cluster.sql(SETUP.format(numbers=NUMBERS))
        cluster.sql("VACUUM (ANALYZE)")
        say(f"made {NUMBERS:,} numbers in {time.perf_counter() - start:.0f} s")
        say(f"{'':<34}{'tenantcall':>12}{'SQL':>12}{'':>34}per session")
        kept = compare(cluster, "1,000 of them", 1000, 50000, 5)
        kept &= compare(cluster, "30,000 of them", 30000, 50000, 5)
        kept &= compare(cluster, "1,000,000 of them, all kept", 1000000, 10000000, 5)
        compare(cluster, "all of them, as they come", 100000, 50000, None)
    return 0 if kept else 1


NUMBERS = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000

if __name__ == "__main__":
    main_guard(main)
