"""rate_sides: what the benchmarks of rate limits compare, and how one run of each is measured.

Statements go over a Unix socket, prepared.  Calls inside of one query are measured by the processor
time of the backend where the system tells it, since machines are shared.

Machines drift, too: what is compared runs there and back (a, b, b, a), in runs of about a second,
so that a drift over the round falls on all of them alike; a ratio is one within a round.
"""
import contextlib
import math
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import time

from pgserver import Cluster, Failure, Install, say

TENANTS = 1000000
POLICY = "tenantcall.set_rate_policy('bench', 1000000, '1 s', 1000000000)"
SELECT_1 = "SELECT 1"
ALLOW = "allow()"
UPDATE = "UPDATE of a row"
REDIS = "Redis, GCRA in Lua"
SCRIPTS = {
    SELECT_1: "SELECT 1;\n",
    ALLOW: "SELECT tenantcall.allow_for(1, 'bench');\n",
    UPDATE:
        "UPDATE bucket SET s = greatest(s, extract(epoch FROM clock_timestamp()) * 1e6) + 1"
        " WHERE id = 1 AND s <= extract(epoch FROM clock_timestamp()) * 1e6 + 1e9;\n",
}
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


def start(work):
    """A server with room for all tenants, durable as it ships, and a policy that never refuses."""
    server = Cluster(work, Install.build(work), "bench", {
        "tenantcall.rate_max_buckets": TENANTS * 6 // 5, "shared_buffers": "128MB", "fsync": "on",
        "max_connections": 100, "tenantcall.rate_save_interval": 0})
    server.start()
    server.create_template()
    server.create_database("bench")
    server.sql("CREATE TABLE bucket (id int PRIMARY KEY, s double precision) WITH (fillfactor = 50);"
               " INSERT INTO bucket VALUES (1, 0)", dbname="bench")
    server.sql(f"SELECT {POLICY}", dbname="bench")
    return server


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

    def measure(self, clients, seconds):
        """Calls a second."""
        with one_core(clients, self.process.pid):
            out = self.run("redis-benchmark", "-c", clients, "-n", int(seconds * 40000), "-q", "evalsha", self.script, 1,
                           "bench", 1, 1000000000)
        return float(re.findall(r"([\d.]+) requests per second", out)[-1])

    def stop(self):
        """Ends it."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait()


def pgbench(server, text, clients, seconds, **variables):
    """Transactions a second of a script, and the server's processor time for each, in us."""
    path = server.work.dir / "script.sql"
    path.write_text(text)
    path.chmod(0o644)
    defines = [word for name, value in variables.items() for word in ("-D", f"{name}={value}")]
    before = ended_sessions(server)
    with one_core(clients, server.process.pid):
        out = server.client_program("pgbench", "-n", "-M", "prepared", "-c", str(clients), "-j", str(min(clients, 2)),
                                    "-T", str(seconds), *defines, "-f", path, "bench")
    tps = re.search(r"tps = ([\d.]+)", out)
    if tps is None:
        raise Failure(f"pgbench got nothing done in {seconds} s:\n{out}")
    done = int(re.search(r"actually processed: (\d+)", out).group(1))
    return float(tps.group(1)), (ended_sessions(server) - before) * 1e6 / done


def sessions_of(postmaster):
    """How many sessions a server has, those included that have ended but are not yet accounted for."""
    n = 0
    for directory in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (directory / "stat").read_text().rsplit(")", 1)[1].split()[:2]
            n += int(parent) == postmaster and (state == "Z" or b"[local]" in (directory / "cmdline").read_bytes())
        except OSError:
            pass  # it is gone
    return n


def ended_sessions(server):
    """Seconds of processor time that all sessions had; waits for the last ones to end."""
    postmaster = server.process.pid
    times = pathlib.Path(f"/proc/{postmaster}/stat")
    if not times.exists():
        return math.nan
    server.wait_until(lambda: sessions_of(postmaster) == 0, "the sessions to end")
    user, system = times.read_text().rsplit(")", 1)[1].split()[13:15]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def one_core(clients, *pids):
    """A single client and what serves him take turns: on one core, wherever the system would put them.

    Otherwise it is a matter of luck whether each statement has to wake another core up.  What these
    processes start meanwhile stays there, too.
    """
    if clients > 1 or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = {pid: os.sched_getaffinity(pid) for pid in (0, *pids)}
    try:
        for pid in before:
            os.sched_setaffinity(pid, {max(before[0])})
        yield
    finally:
        for pid, cores in before.items():
            os.sched_setaffinity(pid, cores)


def there_and_back(sides):
    """The order of a round: each side twice, as far from the middle the first time as the second."""
    return [*sides, *reversed(sides)]


def tenant(n):
    """An SQL expression that runs over n tenants in an order that no cache likes."""
    return f"((a.g * 1000 + b.g) * 611953 % {n} + 1)"


class InQuery:
    """A session that calls an expression many times in one query."""

    def __init__(self, server, calls):
        self.connection = server.connect(dbname="bench")
        self.calls = calls
        self.connection.execute("SET jit = off")
        self.connection.execute("CREATE TEMP TABLE s AS SELECT generate_series(0, 999)::bigint AS g")
        self.connection.execute("ANALYZE s")
        self.connection.commit()
        self.schedstat = pathlib.Path(f"/proc/{self.connection.info.backend_pid}/schedstat")

    def clock(self):
        """Nanoseconds that the backend has had the processor, or else that have passed."""
        if self.schedstat.exists():
            return int(self.schedstat.read_text().split()[0])
        return time.monotonic_ns()

    def measure(self, expression):
        """Nanoseconds a call."""
        begin = self.clock()
        self.connection.execute(
            f"SELECT count({expression}) FROM s a, s b, generate_series(1, {self.calls // 1000000})")
        return (self.clock() - begin) / self.calls

    def over(self, expression, nothing):
        """Nanoseconds that a call costs more than another one."""
        sides = there_and_back((nothing, expression))
        ns = [self.measure(side) for side in sides]
        return (ns[1] + ns[2] - ns[0] - ns[3]) / 2

    def touch_all(self):
        """Makes the buckets of all tenants, in another order."""
        self.connection.execute(
            f"SELECT count(tenantcall.allow_for(g, 'bench')) FROM generate_series(1, {TENANTS}) g")


def spread(values, form="{:.2f}"):
    """A median, and in brackets the least and the greatest."""
    return " ".join((form.format(statistics.median(values)),
                     f"({form.format(min(values))}–{form.format(max(values))})"))
