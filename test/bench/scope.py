#!/usr/bin/python3
"""What scoping costs a query, beside the same query with a hand-written WHERE on an unscoped copy.

    test/bench/scope.py [ROWS]         default 1,000,000

Both forms run there and back in one session, as a role that row security binds: the median of the
ratios of each round, and in brackets the least and the greatest.  Rounds are taken on several starts
of the server: the copy that a server reads into its buffers first is scanned faster by some
hundredths for as long as it runs, so that each of them is the first on every other start.
Execution is the server's own figure (EXPLAIN ANALYZE, timing of nodes off); the partitioned case
is measured at the client, planning included: prepared, and planned anew each time, where only the
constant lets the planner leave partitions out.  Exits with 1 if a budget is missed.

The floor stands beside the scan that has the most rows to judge: the same comparison, without row
security, with what is no constant either, the parameter of a subquery and a C function that returns
a variable of the server and does nothing else.
"""
import pathlib
import re
import statistics
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "setup"))

from paired import noted, ratios, shown
from pgserver import Cluster, Install, Workspace, main_guard, say

COMPANIES = 20
STARTS = 6  # of the server: an even number, since the order of the copies alternates
ROUNDS = 7  # on each of them
PARTITIONS = 64

# name, settings, statement with "{table}" and "{where}", budget
CASES = (
    ("sequential", "enable_indexscan=off enable_bitmapscan=off enable_indexonlyscan=off "
     "max_parallel_workers_per_gather=0", "SELECT count(*), sum(room) FROM {table}{where}", 1.05),
    ("index", "max_parallel_workers_per_gather=0 enable_seqscan=off enable_bitmapscan=off",
     "SELECT count(*), sum(room) FROM {table}{where}", 1.05),
    ("parallel", "enable_indexscan=off enable_bitmapscan=off enable_indexonlyscan=off "
     "max_parallel_workers_per_gather=2 parallel_setup_cost=0 parallel_tuple_cost=0 "
     "min_parallel_table_scan_size=0", "SELECT count(*), sum(room) FROM {table}{where}", 1.05),
)
# name, what shifted.company_id, whose zeros are the rows of company 7, is compared with
FLOORS = (("floor: a parameter", "(SELECT 0::bigint)"), ("floor: a C no-op", "zero()"))

TABLES = """
CREATE ROLE bench_app LOGIN;
GRANT EXECUTE ON FUNCTION tenantcall.enter TO bench_app;
CREATE TABLE plain (id bigint, company_id bigint NOT NULL, room int, note text);
INSERT INTO plain SELECT g, g % {companies} + 1, g % 50, repeat('x', 40) FROM generate_series(1, {rows}) AS g;
CREATE TABLE scoped (LIKE plain);
INSERT INTO scoped SELECT * FROM plain;
CREATE TABLE shifted (LIKE plain);
INSERT INTO shifted SELECT id, company_id - 7, room, note FROM plain;
CREATE FUNCTION zero() RETURNS bigint LANGUAGE internal STABLE PARALLEL SAFE AS 'pg_trigger_depth';
CREATE INDEX ON plain (company_id);
CREATE INDEX ON scoped (company_id);
CREATE TABLE plain_parted (LIKE plain) PARTITION BY HASH (company_id);
CREATE TABLE scoped_parted (LIKE plain) PARTITION BY HASH (company_id);
DO $$
BEGIN
    FOR i IN 0..{partitions} - 1 LOOP
        EXECUTE format('CREATE TABLE plain_parted_%s PARTITION OF plain_parted FOR VALUES WITH (MODULUS {partitions}, REMAINDER %s)', i, i);
        EXECUTE format('CREATE TABLE scoped_parted_%s PARTITION OF scoped_parted FOR VALUES WITH (MODULUS {partitions}, REMAINDER %s)', i, i);
    END LOOP;
END
$$;
INSERT INTO plain_parted SELECT * FROM plain WHERE id <= 10000;
INSERT INTO scoped_parted SELECT * FROM plain WHERE id <= 10000;
CREATE INDEX ON plain_parted (company_id, id);
CREATE INDEX ON scoped_parted (company_id, id);
SELECT tenantcall.scope_table('scoped'), tenantcall.scope_table('scoped_parted');
GRANT SELECT ON ALL TABLES IN SCHEMA public TO bench_app;
"""


def executed(cursor, statement):
    """Milliseconds of execution, by the server's own figure."""
    cursor.execute("EXPLAIN (ANALYZE, TIMING OFF) " + statement)
    text = "\n".join(row[0] for row in cursor.fetchall())
    return float(re.search(r"Execution Time: ([0-9.]+)", text).group(1))


def compare(cursor, first, second, measure, start):
    """Milliseconds of two statements that run in turns, in each round."""
    times = ([], [])
    for turn in range(ROUNDS + 1):
        spent = ([], [])
        for which in (0, 1, 1, 0) if (turn + start) % 2 else (1, 0, 0, 1):
            spent[which].append(measure(cursor, (first, second)[which]))
        if turn > 0:
            for which in (0, 1):
                times[which].append(statistics.mean(spent[which]))
    return times


def hundred_times(cursor, statement):
    """Microseconds of one run of a prepared statement, planning included where it is planned."""
    sql, parameters = statement
    start = time.perf_counter()
    for _ in range(100):
        cursor.execute(sql, parameters, prepare=True)
        cursor.fetchall()
    return (time.perf_counter() - start) * 1e4


def comparisons():
    """Yields name, settings, our statement, the other, what measures them, unit and budget of each."""
    for name, settings, statement, budget in CASES:
        yield (name, settings, statement.format(table="scoped", where=""),
               statement.format(table="plain", where=" WHERE company_id = 7"), executed, "ms", budget)
    name, settings, statement, _ = CASES[0]
    for label, value in FLOORS:
        yield (f"{name}, {label}", settings, statement.format(table="shifted", where=f" WHERE company_id = {value}"),
               statement.format(table="shifted", where=" WHERE company_id = 0"), executed, "ms", None)
    lookup = "SELECT count(*) FROM {}_parted WHERE id = %s"
    sides = ((lookup.format("scoped"), (4711,)), (lookup.format("plain") + " AND company_id = %s", (4711, 7)))
    yield (f"{PARTITIONS} partitions, prepared", "", *sides, hundred_times, "us", 1.4)
    yield (f"{PARTITIONS} partitions, planned", "plan_cache_mode=force_custom_plan", *sides, hundred_times, "us", None)


def report(name, times, unit, budget):
    """Prints one comparison; True if the budget, if there is one, is kept."""
    each = ratios(*times)
    kept = noted(f"{name} / WHERE", each, at_most=budget)
    verdict = "stated" if budget is None else f"at most {budget} x   {'ok' if kept else 'MISSED'}"
    scoped, plain = map(statistics.median, times)
    say(f"{name:<32}{scoped:>11.3f}{plain:>13.3f} {unit}{shown(each, 3):>24} x   {verdict}")
    return kept


def main():
    """Runs every case, on one start of the server after the other."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    found = {case[0]: ([], []) for case in comparisons()}
    with Workspace() as work:
        cluster = Cluster(work, Install.build(work), conf={"shared_buffers": "512MB",
                                                           "max_wal_size": "4GB"}).start()
        cluster.sql("CREATE EXTENSION tenantcall")
        cluster.sql(TABLES.format(rows=rows, companies=COMPANIES, partitions=PARTITIONS))
        cluster.sql("VACUUM (ANALYZE, FREEZE)")
        for start in range(STARTS):
            cluster.restart()
            with cluster.connect(role="bench_app") as connection, connection.cursor() as cursor:
                cursor.execute("SELECT tenantcall.enter(7)")
                for name, settings, ours, theirs, measure, *_ in comparisons():
                    for setting in settings.split():
                        cursor.execute("SET LOCAL " + setting)
                    for all_of_it, part in zip(found[name], compare(cursor, ours, theirs, measure, start), strict=True):
                        all_of_it += part
                    for setting in settings.split():
                        cursor.execute(f"SET LOCAL {setting.split('=')[0]} TO DEFAULT")
    say(f"{'':<32}{'scoped':>11}{'WHERE':>13}{'':>3}{'ratio (least-greatest)':>24}")
    kept = [report(name, found[name], unit, budget) for name, *_, unit, budget in comparisons()]
    return 0 if all(kept) else 1


if __name__ == "__main__":
    main_guard(main)
