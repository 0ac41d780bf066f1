#!/usr/bin/python3
"""Benchmark of rate limits: nanoseconds a call inside one query, and statements a second.

    test/bench/rate.py [ROUNDS [SECONDS]]      e.g. 5 rounds of 5 s each (pgbench)

Statements are compared with SELECT 1, with a bucket kept in a row (UPDATE), and, where redis-server
is installed, with GCRA as a Lua script in Redis; all over Unix sockets, 8 clients.

Everything that is compared runs interleaved on one private server; medians are printed.
"""
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import time

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
    "allow_for(), 1 tenant": f"tenantcall.allow_for({MANY} - {MANY} + 1, 'bench')",
    "allow_for(), 1,000,000 tenants": f"tenantcall.allow_for({MANY}, 'bench')",
    "take_for(), 1 tenant": f"tenantcall.take_for({MANY} - {MANY} + 1, 'bench')",
    "take_for(), 1,000,000 tenants": f"tenantcall.take_for({MANY}, 'bench')",
}
SCRIPTS = {
    "SELECT 1": "SELECT 1;\n",
    "SELECT allow_for(id), 1 tenant": "SELECT tenantcall.allow_for(1, 'bench');\n",
    "SELECT allow_for(id), 1,000,000 tenants":
        f"\\set id random(1, {TENANTS})\nSELECT tenantcall.allow_for(:id, 'bench');\n",
    "UPDATE of a row, 1 tenant":
        "UPDATE bucket SET s = greatest(s, extract(epoch FROM clock_timestamp()) * 1e6) + 1"
        " WHERE id = 1 AND s <= extract(epoch FROM clock_timestamp()) * 1e6 + 1e9;\n",
    "BEGIN; enter; 30 x SELECT 1; COMMIT":
        "BEGIN;\nSELECT tenantcall.enter(:company);\n" + 30 * "SELECT 1;\n" + "COMMIT;\n",
    "BEGIN; enter; 30 x SELECT allow(); COMMIT":
        "BEGIN;\nSELECT tenantcall.enter(:company);\n"
        + 30 * "SELECT tenantcall.allow('bench');\n" + "COMMIT;\n",
}
REDIS = "GCRA in Lua, Redis, 1 tenant"
GCRA = """
local now = redis.call('TIME')
local t = now[1] * 1000000 + now[2]
local tat = tonumber(redis.call('GET', KEYS[1]) or t)
if tat < t then tat = t end
local after = tat + tonumber(ARGV[1])
if after - t > tonumber(ARGV[2]) then return 0 end
redis.call('SET', KEYS[1], string.format('%.0f', after), 'PX', math.ceil((after - t) / 1000) + 1)
return 1
"""


class Redis:
    """A private Redis, if there is one to start."""

    def __init__(self, work):
        self.socket = work.dir / "redis"
        self.process = None
        if not all(map(shutil.which, ("redis-server", "redis-benchmark", "redis-cli"))):
            say("no redis-server here: not compared")
            return
        self.process = subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", self.socket, "--save", ""],
                                        stdout=subprocess.DEVNULL)
        while not self.socket.exists():
            time.sleep(0.05)
        self.script = self.run("redis-cli", "script", "load", GCRA).strip()

    def run(self, program, *arguments):
        """Runs a client program."""
        return subprocess.run([program, "-s", self.socket, *map(str, arguments)], check=True,
                              capture_output=True, text=True).stdout

    def measure(self, seconds):
        """Calls a second."""
        out = self.run("redis-benchmark", "-c", CLIENTS, "-n", seconds * 50000, "-q", "evalsha", self.script, 1,
                       "bench", 1, 1000000000)
        return float(re.findall(r"([\d.]+) requests per second", out)[-1])

    def stop(self):
        """Ends it."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait()


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


def bench(server, redis, rounds, seconds):
    """Measures and prints."""
    work = server.work
    server.sql("CREATE TABLE bucket (id int PRIMARY KEY, s double precision) WITH (fillfactor = 50);"
               " INSERT INTO bucket VALUES (1, 0)", dbname="bench")
    company = server.sql("SELECT tenantcall.create_company('bench', 'DE', 'Europe/Berlin')", dbname="bench")
    server.sql("SELECT tenantcall.set_rate_policy('bench', 1000000, '1 s', 1000000000)", dbname="bench")
    queries = {name: [] for name in IN_QUERY}
    programs = {name: [] for name in SCRIPTS}
    if redis.process is not None:
        programs[REDIS] = []
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        for name, expression in IN_QUERY.items():
            queries[name].append(measure_query(server, expression, company))
        for name, text in SCRIPTS.items():
            path = work.dir / "script.sql"
            path.write_text(text)
            path.chmod(0o644)
            programs[name].append(measure_pgbench(server, path, company, seconds))
        if redis.process is not None:
            programs[REDIS].append(redis.measure(seconds))
    table(f"inside one query, {CALLS} calls", "ns", queries,
          lambda name: list(IN_QUERY)[0 if list(IN_QUERY).index(name) < 2 else 2])
    table(f"pgbench -M prepared, {CLIENTS} clients", "tps", programs,
          lambda name: list(SCRIPTS)[4 if name.startswith("BEGIN") else 0])


def main():
    """Runs it on a server of its own."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    with Workspace() as work:
        server = Cluster(work, Install.build(work), "bench", {
            "tenantcall.rate_max_buckets": 1200000, "shared_buffers": "128MB", "fsync": "on"})
        server.start()
        redis = Redis(work)
        try:
            server.create_template()
            server.create_database("bench")
            bench(server, redis, rounds, seconds)
        finally:
            redis.stop()
            server.stop("immediate")


if __name__ == "__main__":
    main_guard(main)
