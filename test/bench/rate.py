#!/usr/bin/python3
"""Benchmark of rate limits: nanoseconds a call inside one query, and statements a second.

    test/bench/rate.py [ROUNDS [SECONDS]]      e.g. 5 rounds of 5 s each (pgbench)

Everything that is compared runs interleaved on one private server; medians are printed.
"""
import pathlib
import re
import statistics
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "setup"))

from pgserver import Cluster, Install, Workspace, main_guard, say

CALLS = 2000000
CLIENTS = 8
TENANTS = 1000000

# id runs over the tenants in an order that no cache likes
MANY = f"((a.g * 1000 + b.g) * 7919 % {TENANTS} + 1)"
IN_QUERY = {
    "a C no-op: int8up(id)": "int8up(a.g)",
    "allow(), 1 tenant": "tenantcall.allow('bench')",
    "a C no-op: int8up(id of 1,000,000)": f"int8up({MANY})",
    "take_for(), 1 tenant": f"tenantcall.take_for({MANY} - {MANY} + 1, 'bench')",
    "take_for(), 1,000,000 tenants": f"tenantcall.take_for({MANY}, 'bench')",
}
SCRIPTS = {
    "SELECT 1": "SELECT 1;\n",
    "SELECT take_for(id), 1 tenant": "SELECT (tenantcall.take_for(1, 'bench')).allowed;\n",
    "SELECT take_for(id), 1,000,000 tenants":
        f"\\set id random(1, {TENANTS})\nSELECT (tenantcall.take_for(:id, 'bench')).allowed;\n",
    "BEGIN; enter; 30 x SELECT 1; COMMIT":
        "BEGIN;\nSELECT tenantcall.enter(:company);\n" + 30 * "SELECT 1;\n" + "COMMIT;\n",
    "BEGIN; enter; 30 x SELECT allow(); COMMIT":
        "BEGIN;\nSELECT tenantcall.enter(:company);\n"
        + 30 * "SELECT tenantcall.allow('bench');\n" + "COMMIT;\n",
}


def measure_query(server, expression, company):
    """Nanoseconds a call."""
    with server.connect(dbname="bench") as connection:
        connection.execute("SELECT tenantcall.enter(%s)", (company,))
        connection.execute("SET LOCAL jit = off")
        connection.execute("CREATE TEMP TABLE s ON COMMIT DROP AS SELECT generate_series(0, 999)::bigint AS g")
        sql = f"EXPLAIN (ANALYZE, TIMING OFF) SELECT count({expression}) FROM s a, s b, generate_series(1, {CALLS // 1000000})"
        plan = "\n".join(row[0] for row in connection.execute(sql))
        connection.rollback()
    return float(re.search(r"Execution Time: ([\d.]+) ms", plan).group(1)) * 1e6 / CALLS


def measure_pgbench(server, script, company, seconds):
    """Transactions a second."""
    out = server.client_program("pgbench", "-n", "-M", "prepared", "-c", str(CLIENTS), "-j", "2",
                                "-T", str(seconds), "-D", f"company={company}", "-f", script, "bench")
    return float(re.search(r"tps = ([\d.]+)", out).group(1))


def table(title, unit, samples, base):
    """Prints medians, and how each compares with its base."""
    say(f"\n{title}")
    median = {name: statistics.median(values) for name, values in samples.items()}
    for name, value in median.items():
        other = median[base(name)]
        versus = f"{value - other:+8.0f}" if unit == "ns" else f"{value / other:8.3f} x"
        say(f"  {name:42} {value:10.0f} {unit:4} {versus}")


def bench(server, work, rounds, seconds):
    """Measures and prints."""
    company = server.sql("SELECT tenantcall.create_company('bench', 'DE', 'Europe/Berlin')", dbname="bench")
    server.sql("SELECT tenantcall.set_rate_policy('bench', 1000000, '1 s', 1000000000)", dbname="bench")
    queries = {name: [] for name in IN_QUERY}
    programs = {name: [] for name in SCRIPTS}
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        for name, expression in IN_QUERY.items():
            queries[name].append(measure_query(server, expression, company))
        for name, text in SCRIPTS.items():
            path = work.dir / "script.sql"
            path.write_text(text)
            path.chmod(0o644)
            programs[name].append(measure_pgbench(server, path, company, seconds))
    table(f"inside one query, {CALLS} calls", "ns", queries,
          lambda name: list(IN_QUERY)[0 if list(IN_QUERY).index(name) < 2 else 2])
    table(f"pgbench -M prepared, {CLIENTS} clients", "tps", programs,
          lambda name: list(SCRIPTS)[0 if list(SCRIPTS).index(name) < 3 else 3])


def main():
    """Runs it on a server of its own."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    with Workspace() as work:
        server = Cluster(work, Install.build(work), "bench", {
            "tenantcall.rate_max_buckets": 1200000, "shared_buffers": "128MB", "fsync": "off"})
        server.start()
        try:
            server.create_template()
            server.create_database("bench")
            bench(server, work, rounds, seconds)
        finally:
            server.stop("immediate")


if __name__ == "__main__":
    main_guard(main)
