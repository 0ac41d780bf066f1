"""soak_watch: memory, descriptors, sizes and snapshots over a soak; the plot of them, and whether they grow.

A sample is taken every few seconds.  Judged is the calm at the end, in which nothing is killed, so
that processes live long enough to be compared with themselves: the most of its second half may
exceed the most of its first half by no more than SLACK.  The administrator's session exports,
audits and deletes whole companies: what it needs at once depends on which.
"""
import csv
import os
import pathlib
import shutil
import statistics
import tempfile
import threading

from pgserver import run, say

COLUMNS = ("seconds", "worker_kb", "launcher_kb", "backends_kb", "worker_fds", "backends_fds", "events", "bookings",
           "database_mb", "queue_kb", "dead_rows", "snapshot_age", "snapshot_seconds", "shared_mb", "admin_kb")
# of the second half of the calm over its first half
SLACK = {"worker_kb": 1024, "launcher_kb": 256, "backends_kb": 3072, "worker_fds": 12, "backends_fds": 6, "admin_kb": 12288}
LONGEST_SNAPSHOT = 60  # seconds
LOOK = """SELECT pid, backend_type, usename, coalesce(age(backend_xmin), 0) AS age,
    coalesce(extract(epoch FROM now() - xact_start), 0)::float AS seconds FROM pg_stat_activity WHERE pid <> pg_backend_pid()"""
# Bytes of rows in tables of some size.
WEIGH = """SELECT c.oid::regclass::text, (pgstattuple_approx(c.oid)).approx_tuple_len FROM pg_class AS c WHERE relkind = 'r'
    AND relnamespace IN ('telephony'::regnamespace, 'tenantcall'::regnamespace) AND pg_relation_size(c.oid) > 4 << 20"""
EVERY = 60  # seconds
QUEUES = ("tenantcall.outbox_due", "telephony.call_leases", "telephony.inbound_requests", "tenantcall.quarantine")
SIZES = f"""SELECT pg_database_size(current_database()) >> 20 AS database_mb,
    ({' + '.join(f"pg_total_relation_size('{name}')" for name in QUEUES)}) >> 10 AS queue_kb,
    (SELECT sum(n_dead_tup) FROM pg_stat_all_tables WHERE schemaname IN ('tenantcall', 'telephony'))::bigint AS dead_rows"""
PLOT = """
set terminal svg size 900,1000 dynamic font "sans-serif,13" background "#ffffff"
set output "{svg}"
set datafile separator ","
set multiplot layout 5,1 title "Soak: {minutes} minutes, {events} events, {bookings} bookings, {kills} kills and restarts" \\
    margins 0.09,0.96,0.06,0.94 spacing 0.03,0.03
set grid lc rgb "#dddddd"
set border lc rgb "#666666"
set key left top Left reverse samplen 2
set xrange [0:{minutes}]
set yrange [0:*]
set offsets 0, 0, graph 0.35, 0
set format x ""
{arrows}
set ylabel "MB"
plot "{csv}" using ($1/60):($2/1024) skip 1 with lines lw 2 lc rgb "#1f77b4" title "memory of the HTTP worker's own", \\
     "" using ($1/60):($3/1024) skip 1 with lines lw 2 lc rgb "#9467bd" title "of its launcher", \\
     "" using ($1/60):($4/1024) skip 1 with lines lw 2 lc rgb "#ff7f0e" title "of the largest session", \\
     "" using ($1/60):($15/1024) skip 1 with lines lw 1 lc rgb "#8c564b" title "of the administrator's session"
unset arrow
set ylabel "number"
plot "{csv}" using ($1/60):5 skip 1 with lines lw 2 lc rgb "#1f77b4" title "sockets and pipes of the worker", \\
     "" using ($1/60):6 skip 1 with lines lw 2 lc rgb "#ff7f0e" title "most of a session"
set ylabel "thousand"
plot "{csv}" using ($1/60):($7/1000) skip 1 with lines lw 2 lc rgb "#2ca02c" title "events acknowledged", \\
     "" using ($1/60):($8/100) skip 1 with lines lw 2 lc rgb "#d62728" title "bookings, times ten"
set ylabel "MB"
plot "{csv}" using ($1/60):9 skip 1 with lines lw 2 lc rgb "#2ca02c" title "database", \\
     "" using ($1/60):($10/1024) skip 1 with lines lw 2 lc rgb "#d62728" title "queues: outbox, leases, inbound requests, quarantine"
set ylabel "seconds"
set format x "%g"
set xlabel "minutes"
plot "{csv}" using ($1/60):13 skip 1 with lines lw 2 lc rgb "#7f7f7f" title "age of the oldest transaction"
"""


def memory(pid):
    """Memory of a process's own, in kB; 0 if it has ended."""
    try:
        for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


def descriptors(pid):
    """How many sockets, pipes and the like a process has open; files of tables are kept open on purpose."""
    number = 0
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            number += "/data/" not in os.readlink(f"/proc/{pid}/fd/{name}")
    except OSError:
        pass
    return number


class Watch(threading.Thread):
    """Looks again and again, as long as the server lets it."""

    def __init__(self, town, interval):
        super().__init__(daemon=True)
        self.town, self.journal, self.interval = town, town.journal, interval
        self.rows, self.over = [], threading.Event()
        self.content, self.weighed_at = {}, 0  # the most bytes of rows that a table has held

    def run(self):
        """Until told to stop; a server that is away is a gap."""
        connection = None
        while not self.over.wait(self.interval):
            try:
                connection = connection or self.town.connect()
                self.rows.append(self.look(connection))
                if self.journal.now() >= self.weighed_at + EVERY:
                    self.weigh(connection)
            except Exception:  # the server is away, or our session was
                if connection is not None:
                    connection.close()
                connection = None

    def weigh(self, connection):
        """Notes what the tables hold."""
        for table, held in connection.execute(WEIGH).fetchall():
            self.content[table] = max(self.content.get(table, 0), int(held))
        self.weighed_at = self.journal.now()

    def look(self, connection):
        """One row of COLUMNS."""
        processes = connection.execute(LOOK).fetchall()
        database, queue, dead = connection.execute(SIZES).fetchone()
        worker = [pid for pid, kind, *_ in processes if kind == "tenantcall http worker"]
        launcher = [pid for pid, kind, *_ in processes if kind == "tenantcall http launcher"]
        clients = [pid for pid, kind, user, *_ in processes if kind == "client backend" and user in ("app", "gateway")]
        admin = [pid for pid, kind, user, *_ in processes if kind == "client backend" and user == "admin"]
        seconds = max((row[4] for row in processes if row[1] != "autovacuum worker"), default=0)
        with self.journal.lock:
            bookings = len(self.journal.bookings)
            events = self.journal.counts["events"]
        return (round(self.journal.now(), 1), max(map(memory, worker), default=0), max(map(memory, launcher), default=0),
                max(map(memory, clients), default=0), max(map(descriptors, worker), default=0),
                max(map(descriptors, clients + admin), default=0), events, bookings, database, queue, dead or 0,
                max((row[3] for row in processes), default=0), round(max(seconds, 0), 2), self.shared(),
                max(map(memory, admin), default=0))

    def shared(self):
        """MB of shared memory that the server has touched, as its main process sees it."""
        for line in pathlib.Path(f"/proc/{self.town.cluster.process.pid}/status").read_text().splitlines():
            if line.startswith("RssShmem:"):
                return int(line.split()[1]) >> 10
        return 0


def judge(rows, calm_from, slack=None):
    """What grows during the calm: (column, most of its first half, most of its second half)."""
    calm = [row for row in rows if row[0] >= calm_from]
    if len(calm) < 8:
        return []
    found = []
    for column, more in (slack or SLACK).items():
        place = COLUMNS.index(column)
        values = [row[place] for row in calm]
        first, second = values[:len(values) // 2], values[len(values) // 2:]
        # the ninth decile: a session that reads a great deal once is no leak
        before, after = max(first), statistics.quantiles(second, n=10)[-1]
        if after > before + more:
            found.append((column, before, round(after)))
    oldest = max(row[COLUMNS.index("snapshot_seconds")] for row in rows)
    if oldest > LONGEST_SNAPSHOT:
        found.append(("snapshot_seconds", LONGEST_SNAPSHOT, oldest))
    return found


def write(directory, journal, rows, name="soak"):
    """The samples, and the plot where there is gnuplot."""
    directory.mkdir(parents=True, exist_ok=True)
    data = directory / f"{name}.csv"
    with open(data, "w", newline="", encoding="ascii") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    if shutil.which("gnuplot") is None:
        say("SKIP the plot: gnuplot is not installed (Debian: gnuplot-nox)")
        return
    kills = [(at, what) for at, what in journal.happened if what != "calm"]
    arrows = "\n".join(f'set arrow from {at / 60:.3f}, graph 0 to {at / 60:.3f}, graph 1 nohead lw 0.6 lc rgb "#cccccc"'
                       for at, _ in kills)
    with tempfile.NamedTemporaryFile("w", suffix=".gp") as script:
        script.write(PLOT.format(csv=data.name, svg=f"{name}.svg", arrows=arrows, minutes=f"{rows[-1][0] / 60:.3g}",
                                 events=f"{rows[-1][6]:,}", bookings=f"{rows[-1][7]:,}", kills=len(kills)))
        script.flush()
        run(["gnuplot", script.name], "gnuplot", cwd=directory)
