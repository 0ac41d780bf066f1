#!/usr/bin/python3
"""Requests a second over loopback, and whether anything grows over 100,000 of them.

    test/bench/http_worker.py [ROUNDS]         default 5

All ask nginx (test/calcom/calcom_nginx.py) for the same small answer, in turns:

    worker      http_test_requests(): the HTTP worker with 50 requests under way, as for the outbox
    statements  32 sessions, each statement one request through the worker, the answer in its result
    pg_net      net.http_get() in its default settings, until all answers are in its table
    pgsql-http  32 sessions, each statement http_get()
    curl        curl --parallel --parallel-max 50

pg_net and pgsql-http are measured where the server has them; TC_BENCH_TREE may name a directory in
which "make install DESTDIR=..." has put them.  Medians of the rounds are shown.  Budget: the worker,
at least 25 times pg_net.

Then 100,000 requests, every 4,000 of which the worker's memory, file descriptors and threads, dead
rows and the oldest snapshot are looked at: build/http_flat.csv, for plotting.
"""
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

sys.dont_write_bytecode = True
for place in ("setup", "calcom"):
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / place))

from calcom_nginx import NginxStandIn
from pgserver import REPO, Cluster, Install, Workspace, as_server_user, environment, main_guard, say

PATH = "/v2/slots"
SESSIONS, AT_ONCE, BUDGET = 32, 50, 25
FLAT, STEP = 100_000, 4_000
CONF = {
    "tenantcall.worker_databases": "app", "tenantcall.http_quota": 0,
    "tenantcall.http_local_hosts": "127.0.0.1", "tenantcall.http_credential_requests": AT_ONCE,
    "tenantcall.http_queue_limit": 1000, "pg_net.database_name": "app", "max_connections": 100,
    "max_worker_processes": 16,
}


def add_tree(install):
    """Copies other extensions into the private installation; those that there are."""
    tree = os.environ.get("TC_BENCH_TREE")
    if tree:
        for directory in (Install.pg_config("pkglibdir"), Install.pg_config("sharedir") + "/extension"):
            source = pathlib.Path(tree + directory)
            for file in source.iterdir() if source.is_dir() else ():
                if file.is_file():
                    shutil.copy(file, str(install.root) + directory)
    place = pathlib.Path(str(install.root) + Install.pg_config("sharedir")) / "extension"
    return {name for name in ("pg_net", "http") if (place / f"{name}.control").exists()}


def cpu(pid):
    """Microseconds of CPU time that a process has had, to which others on the machine add nothing."""
    return int(pathlib.Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1000


def timed(function, number):
    """Requests a second."""
    began = time.monotonic()
    function(number)
    return number / (time.monotonic() - began)


class Bench:
    """The ways to send requests."""

    def __init__(self, work, cluster, fast):
        self.work, self.cluster, self.url = work, cluster, fast.url + PATH
        self.sides = {"worker": (self.worker, 20000), "statements": (self.statements, 20000)}

    def sql(self, text):
        """Runs statements in the database."""
        return self.cluster.sql(text, dbname="app")

    def add(self, others):
        """The sides to compare with."""
        if "pg_net" in others:
            self.sql("CREATE EXTENSION pg_net")
            self.sides["pg_net"] = (self.pg_net, 600)
        if "http" in others:
            self.sql("CREATE EXTENSION http")
            self.sides["pgsql-http"] = (self.pgsql_http, 10000)
        if shutil.which("curl"):
            self.sides["curl"] = (self.curl, 10000)

    def worker(self, number):
        """One statement asks for all of them."""
        done = self.sql("SELECT answered FROM tenantcall.http_test_requests('fast', requests => "
                        f"{number}, at_once => {AT_ONCE}, path => '{PATH}', max_wait => '10 min')")
        assert done == str(number), done

    def pgbench(self, script, number):
        """Sessions that run a statement again and again."""
        file = self.work.dir / "script.sql"
        file.write_text(script + ";\n")
        subprocess.run([self.cluster.install.program("pgbench"), "-n", "-M", "prepared", "-c", str(SESSIONS),
                        "-j", "2", "-t", str(number // SESSIONS), "-f", file, "-h", self.cluster.socket_dir,
                        "-p", str(self.cluster.port), "-U", "postgres", "app"],
                       check=True, capture_output=True, env=environment())

    def statements(self, number):
        """Each statement one request."""
        self.pgbench(f"SELECT answered, status FROM tenantcall.http_test_requests('fast', path => '{PATH}')", number)

    def pg_net(self, number):
        """All requests in one transaction, then wait for the last answer."""
        self.sql("TRUNCATE net._http_response")
        self.sql(f"SELECT count(net.http_get('{self.url}')) FROM generate_series(1, {number})")
        with self.cluster.connect(dbname="app", autocommit=True) as connection:
            while connection.execute("SELECT count(*) FROM net._http_response").fetchone()[0] < number:
                time.sleep(0.01)
        assert self.sql("SELECT count(*) FROM net._http_response WHERE status_code = 200") == str(number)

    def pgsql_http(self, number):
        """Each statement one request, from its own backend."""
        self.pgbench(f"SELECT status FROM http_get('{self.url}')", number)

    def curl(self, number):
        """The program, with as many requests under way as the worker."""
        file = self.work.dir / "urls"
        file.write_text(f'url = "{self.url}"\noutput = "/dev/null"\n' * number)
        subprocess.run(["curl", "-s", "--parallel", "--parallel-max", str(AT_ONCE), "-K", file], check=True,
                       stderr=subprocess.DEVNULL)

    def compare(self, rounds):
        """All sides in turns; the medians."""
        rates = {name: [] for name in self.sides}
        for turn in range(rounds):
            for name, (function, number) in self.sides.items():
                rates[name].append(timed(function, number))
            say(f"  round {turn + 1}: " + ", ".join(f"{name} {values[-1]:,.0f}" for name, values in rates.items()))
        return {name: statistics.median(values) for name, values in rates.items()}

    def look(self, pid):
        """The worker's memory (kB), file descriptors, threads; dead rows; the oldest snapshot's age."""
        status = dict(line.split(":\t", 1) for line in
                      pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
        dead, oldest = self.sql(
            "SELECT (SELECT coalesce(sum(n_dead_tup), 0) FROM pg_stat_all_tables),"
            " (SELECT coalesce(max(age(backend_xmin)), 0) FROM pg_stat_activity WHERE pid <> pg_backend_pid())").split("|")
        return (int(status["VmRSS"].split()[0]), len(os.listdir(f"/proc/{pid}/fd")),
                int(status["Threads"]), int(dead), int(oldest))

    def flat(self):
        """Does anything grow?"""
        pid = self.sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'tenantcall http worker'")
        rows, spent = [], cpu(pid)
        for sent in range(STEP, FLAT + 1, STEP):
            self.worker(STEP)
            rows.append((sent, *self.look(pid)))
        spent = (cpu(pid) - spent) / FLAT
        out = REPO / "build" / "http_flat.csv"
        out.parent.mkdir(exist_ok=True)
        names = ("requests", "memory_kb", "descriptors", "threads", "dead_rows", "oldest_snapshot")
        out.write_text("\n".join(",".join(map(str, row)) for row in [names, *rows]) + "\n")
        say(f"{'requests':>10}{'memory kB':>12}{'descriptors':>13}{'threads':>9}{'dead rows':>11}{'snapshot':>10}")
        for row in [rows[0], rows[len(rows) // 2], rows[-1]]:
            say(f"{row[0]:>10}{row[1]:>12}{row[2]:>13}{row[3]:>9}{row[4]:>11}{row[5]:>10}")
        say(f"CPU time of the worker: {spent:.1f} microseconds for each request")
        early, late = rows[2], rows[-1]
        return late[1] <= early[1] * 1.05 + 512 and late[2] <= early[2] + 2 and late[3] <= early[3] and late[5] <= 5


def main():
    """Measures."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with Workspace() as work:
        install = Install.build(work)
        others = add_tree(install)
        libraries = "tenantcall,pg_net" if "pg_net" in others else "tenantcall"
        cluster = Cluster(work, install, conf={**CONF, "shared_preload_libraries": libraries}).start()
        cluster.create_template()
        cluster.create_database("app")
        place = work.dir / "nginx"
        place.mkdir()
        cluster._own(place)
        with NginxStandIn(place, as_server_user([])) as fast:
            bench = Bench(work, cluster, fast)
            bench.sql(f"SELECT tenantcall.set_credential('fast', 'key', '{fast.url}')")
            cluster.wait_until(lambda: bench.sql("SELECT count(*) FROM pg_stat_activity "
                                                 "WHERE backend_type = 'tenantcall http worker'") == "1")
            bench.add(others)
            say("requests a second")
            median = bench.compare(rounds)
            for name, value in median.items():
                part = f"   worker is {median['worker'] / value:6.2f} times, statements {median['statements'] / value:6.2f}"
                say(f"  {name:<12}{value:>10,.0f}{part}")
            flat = bench.flat()
            say(f"flat: {'yes' if flat else 'NO'}")
            if "pg_net" not in median:
                say("pg_net is not installed: the budget is not measured")
                return 1
            least = median["worker"] / median["pg_net"]
            say(f"budget: {BUDGET} times pg_net, reached {least:.1f}")
            return 0 if flat and least >= BUDGET else 1


main_guard(main)
