#!/usr/bin/python3
"""What confining application roles costs statements that are not refused.

    test/bench/confine.py [ROUNDS]         default 31

SELECT 1 and a SELECT of 20 function calls, simple and prepared, run in turns in three sessions: of
a role that is confined, of one that is not, and on a server that does not preload tenantcall.  What
counts is the CPU time of the server's process, which others on the machine do not add to.  Medians
of microseconds for each statement are shown, and medians of the ratios of each round.
"""
import pathlib
import statistics
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "setup"))

from paired import noted, ratios
from pgserver import Cluster, Install, Workspace, main_guard, say

RUNS = 2000
STATEMENTS = {
    "SELECT 1": "SELECT 1;",
    "20 functions": "SELECT " + ", ".join(f"length(upper(md5(random()::text || '{n}')))" for n in range(4)) + ";",
}


def cpu(pid):
    """Nanoseconds of CPU time that a process has had."""
    return int(pathlib.Path(f"/proc/{pid}/schedstat").read_text().split()[0])


def spent(conn, sql, prepared):
    """Microseconds of CPU time of one run, in the server."""
    pid = conn.info.backend_pid
    cursor = conn.cursor()
    start = cpu(pid)
    for _ in range(RUNS):
        cursor.execute(sql, prepare=prepared)
    return (cpu(pid) - start) / RUNS / 1000


def main():
    """Runs every case."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 31
    with Workspace() as work:
        install = Install.build(work)
        ours = Cluster(work, install).start()
        bare = Cluster(work, install, "bare", {"shared_preload_libraries": ""}).start()
        ours.sql("CREATE EXTENSION tenantcall; CREATE ROLE app LOGIN; SELECT tenantcall.grant_app('app')")
        for cluster in (ours, bare):
            cluster.sql("CREATE ROLE loose LOGIN")
        conns = [ours.connect(role="app", autocommit=True), ours.connect(role="loose", autocommit=True),
                 bare.connect(role="loose", autocommit=True)]
        say(f"{'microseconds of CPU':<26}{'confined':>10}{'not':>10}{'no library':>12}{'confined/not':>14}"
            f"{'/no library':>13}")
        for name, sql in STATEMENTS.items():
            for prepared in (False, True):
                times = [[], [], []]
                for turn in range(rounds):
                    for which in sorted(range(3), key=lambda w: (w + turn) % 3):
                        times[which].append(spent(conns[which], sql, prepared))
                app, loose, none = map(statistics.median, times)
                each = [ratios(times[0], other) for other in times[1:]]
                for base, values in zip(("not confined", "no library"), each):
                    noted(f"{name}{', prepared' if prepared else ', simple'}: confined / {base}", values)
                middle = [statistics.median(values) for values in each]
                say(f"{name + (', prepared' if prepared else ', simple'):<26}{app:>10.2f}{loose:>10.2f}{none:>12.2f}"
                    f"{middle[0]:>14.3f}{middle[1]:>13.3f}")
        for conn in conns:
            conn.close()
    return 0


main_guard(main)
