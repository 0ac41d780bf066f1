#!/usr/bin/python3
"""Does anything grow over 100,000 requests of the HTTP worker?

    test/bench/http_flat.py [REQUESTS [DIRECTORY]]      default 100000, build/

Half of the requests are handed to the worker by one statement after the other, 50 at once; half are
those of sessions that ask for free slots which are not cached.  Meanwhile another session writes, so
that a snapshot which is held grows old.  Four times a second the worker is looked at: memory (Pss
moves with the number of sessions that share pages; it is noted, not judged), file descriptors,
threads, dead rows in the tables of tenantcall, age of its oldest snapshot.

DIRECTORY gets http_flat.csv with all of it and, where gnuplot is installed (Debian: gnuplot-nox),
http_flat.svg.  The exit code is 0 if the second half of the requests needed no more than the first.
"""
import csv
import os
import pathlib
import shutil
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True

from stage import DATABASE, WORKER, Stage

from pgserver import REPO, Failure, Workspace, main_guard, run, say

AT_ONCE = 50
SESSIONS = 8
PART = 2000
INTERVAL = 0.25
COLUMNS = ("requests", "seconds", "rss_kb", "anon_kb", "pss_kb", "fds", "threads", "dead_rows", "snapshot_age")
LOOK = """SELECT coalesce(age(backend_xmin), 0),
    (SELECT sum(n_dead_tup) FROM pg_stat_all_tables WHERE schemaname IN ('tenantcall', 'telephony')),
    (SELECT sum(requests) FROM tenantcall.stat_http)
    FROM pg_stat_activity WHERE pid = {pid}"""
PLOT = """
set terminal svg size 900,760 dynamic font "sans-serif,13" background "#ffffff"
set output "{svg}"
set datafile separator ","
set multiplot layout 4,1 title "HTTP worker over {requests} requests" margins 0.08,0.96,0.08,0.93 spacing 0.03,0.04
set grid lc rgb "#dddddd"
set border lc rgb "#666666"
set key right center reverse Left samplen 2
set xrange [0:*]
set yrange [0:*]
set offsets 0, 0, graph 0.25, 0
set format x ""
set ylabel "MB"
plot "{csv}" using ($1/1000):($3/1024) skip 1 with lines lw 1.5 lc rgb "#7f7f7f" title "memory, shared memory included", \\
     "" using ($1/1000):($4/1024) skip 1 with lines lw 2 lc rgb "#1f77b4" title "memory of its own"
set ylabel "number"
plot "{csv}" using ($1/1000):6 skip 1 with lines lw 2 lc rgb "#2ca02c" title "file descriptors", \\
     "" using ($1/1000):7 skip 1 with lines lw 2 lc rgb "#9467bd" title "threads"
set ylabel "rows"
set yrange [0:10<*]
plot "{csv}" using ($1/1000):8 skip 1 with lines lw 2 lc rgb "#d62728" title "dead rows in tables of tenantcall"
set ylabel "transactions"
set format x "%g"
set xlabel "thousand requests"
plot "{csv}" using ($1/1000):9 skip 1 with lines lw 2 lc rgb "#ff7f0e" title "age of the worker's oldest snapshot"
"""


def field(path, name):
    """A number of a file of lines "Name: number kB"."""
    for line in pathlib.Path(path).read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    raise Failure(f"{path} has no {name}")


class Watch(threading.Thread):
    """Looks at the worker again and again."""

    def __init__(self, stage):
        super().__init__()
        self.stage, self.pid = stage, stage.worker
        self.rows, self.error, self.stop = [], None, threading.Event()

    def run(self):
        """Until told to stop; an error ends it, and is shown in the end."""
        try:
            with self.stage.server.connect(dbname=DATABASE, autocommit=True) as conn:
                self.begun = time.monotonic()
                while not self.stop.wait(INTERVAL):
                    self.rows.append(self.look(conn))
        except Exception as error:  # shown by main()
            self.error = error

    def look(self, conn):
        """One row of COLUMNS."""
        age, dead, requests = conn.execute(LOOK.format(pid=self.pid)).fetchone()
        process = f"/proc/{self.pid}"
        return (int(requests or 0), round(time.monotonic() - self.begun, 2), field(f"{process}/status", "VmRSS"),
                field(f"{process}/status", "RssAnon"), field(f"{process}/smaps_rollup", "Pss"), len(os.listdir(f"{process}/fd")),
                field(f"{process}/status", "Threads"), int(dead or 0), age)


class Writer(threading.Thread):
    """Commits transactions with an id of their own."""

    def __init__(self, stage):
        super().__init__()
        self.stage, self.stop = stage, threading.Event()

    def run(self):
        """Some 300 a second until told to stop."""
        with self.stage.server.connect(dbname=DATABASE, autocommit=True) as conn:
            while not self.stop.wait(0.003):
                conn.execute("SELECT pg_current_xact_id()")


def ask(stage, requests):
    """Sends the requests; the days do not come again, so none is answered from the cache."""
    day = 0
    for done in range(0, requests, 2 * PART):
        stage.sql(f"SELECT tenantcall.http_test_requests('bench', {PART}, {AT_ONCE}, path => '/v2/slots',"
                  " max_wait => '60 s')")
        threads = [threading.Thread(target=ask_slots, args=(stage, day + i * PART // SESSIONS))
                   for i in range(SESSIONS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        day += PART
        if done % 10000 == 0:
            say(f"{done + 2 * PART} of {requests}")


def ask_slots(stage, first):
    """One session's part of questions, each in a transaction of its own."""
    with stage.server.connect(role="gateway", dbname=DATABASE) as conn:
        for day in range(first, first + PART // SESSIONS):
            conn.execute("SELECT tenantcall.enter(%s, %s)", [int(stage.company), int(stage.branch)])
            conn.execute("SELECT FROM tenantcall.available_slots(%s, date '2030-01-01' + %s,"
                         " date '2030-01-02' + %s, max_wait => '30 s')", [int(stage.service), day, day])
            conn.commit()


def write(directory, rows):
    """The data, and the plot where there is gnuplot."""
    directory.mkdir(parents=True, exist_ok=True)
    data = directory / "http_flat.csv"
    with open(data, "w", newline="", encoding="ascii") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    say(f"wrote {data.name}: {len(rows)} samples")
    if shutil.which("gnuplot") is None:
        say("SKIP the plot: gnuplot is not installed")
        return
    with tempfile.NamedTemporaryFile("w", suffix=".gp") as script:
        script.write(PLOT.format(csv="http_flat.csv", svg="http_flat.svg", requests=f"{rows[-1][0]:,}"))
        script.flush()
        run(["gnuplot", script.name], "gnuplot", cwd=directory)
    say("wrote http_flat.svg")


def is_flat(rows):
    """Prints the most of each half; false if the second half needed more."""
    rows = [row for row in rows if row[0] > 0]
    half = rows[-1][0] / 2
    halves = [row for row in rows if row[0] <= half], [row for row in rows if row[0] > half]
    slack = {"rss_kb": 1024, "anon_kb": 512, "fds": 2, "threads": 0, "dead_rows": 0, "snapshot_age": 300}
    flat = True
    say(f"  {'most of':16}{'first half':>12}{'second half':>13}")
    for name, more in slack.items():
        column = COLUMNS.index(name)
        first, second = (max(row[column] for row in part) for part in halves)
        good = second <= first + more and (name != "snapshot_age" or second <= more)
        flat = flat and good
        say(f"  {name:16}{first:12}{second:13}{'' if good else '   GROWS'}")
    return flat


def main():
    """Sends, watches, and writes."""
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else 100000
    directory = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else REPO / "build"
    with Workspace() as work, Stage(work, **{"tenantcall.http_credential_requests": AT_ONCE}) as stage:
        others = [Watch(stage), Writer(stage)]
        for other in others:
            other.start()
        try:
            ask(stage, requests)
        finally:
            for other in others:
                other.stop.set()
                other.join()
        if others[0].error:
            raise Failure(f"watching failed: {others[0].error}")
        if int(stage.sql(WORKER)) != stage.worker:
            raise Failure("the worker was restarted meanwhile")
        write(directory, others[0].rows)
        return 0 if is_flat(others[0].rows) else 1


if __name__ == "__main__":
    main_guard(main)
