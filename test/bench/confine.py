#!/usr/bin/python3
"""What confining application roles costs statements that are not refused.

    test/bench/confine.py [ROUNDS]         default 15

pgbench runs SELECT 1 and a SELECT of 20 function calls, simple and prepared, in turns as a role
that is confined, as one that is not, and on a server that does not preload tenantcall.  Medians of
transactions per second are shown, and medians of the ratios of each round.
"""
import pathlib
import re
import statistics
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "setup"))

from pgserver import Cluster, Install, Workspace, environment, main_guard, run, say

TRANSACTIONS = 20000
STATEMENTS = {
    "SELECT 1": "SELECT 1;",
    "20 functions": "SELECT " + ", ".join(f"length(upper(md5(random()::text || '{n}')))" for n in range(4)) + ";",
}


def speed(cluster, role, mode, script):
    """Transactions per second."""
    text = run([cluster.install.program("pgbench"), "-n", "-M", mode, "-f", script, "-t", TRANSACTIONS,
                "-h", cluster.socket_dir, "-p", cluster.port, "-U", role, "postgres"], "pgbench",
               env=environment())
    return float(re.search(r"tps = ([0-9.]+)", text).group(1))


def main():
    """Runs every case."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    with Workspace() as work:
        install = Install.build(work)
        ours = Cluster(work, install).start()
        bare = Cluster(work, install, "bare", {"shared_preload_libraries": ""}).start()
        ours.sql("CREATE EXTENSION tenantcall; CREATE ROLE app LOGIN; SELECT tenantcall.grant_app('app')")
        for cluster in (ours, bare):
            cluster.sql("CREATE ROLE loose LOGIN")
        say(f"{'tps':<26}{'confined':>10}{'not':>10}{'no library':>12}{'confined/not':>14}{'/no library':>13}")
        for name, sql in STATEMENTS.items():
            script = work.dir / "script"
            script.write_text(sql + "\n")
            for mode in ("simple", "prepared"):
                cases = [(ours, "app"), (ours, "loose"), (bare, "loose")]
                tps = [[], [], []]
                for turn in range(rounds):
                    for which in sorted(range(3), key=lambda w: (w + turn) % 3):
                        tps[which].append(speed(*cases[which], mode, script))
                app, loose, none = map(statistics.median, tps)
                ratios = [statistics.median(a / b for a, b in zip(tps[0], other)) for other in tps[1:]]
                say(f"{name + ', ' + mode:<26}{app:>10.0f}{loose:>10.0f}{none:>12.0f}"
                    f"{ratios[0]:>14.3f}{ratios[1]:>13.3f}")
    return 0


main_guard(main)
