#!/usr/bin/python3
"""Does the calendar ever count more than its limit in any 60 s, over a long time?

    test/bench/http_soak.py [MINUTES]         default 60

Two companies on one credential always want more than there is, one of them twenty times as much,
while worker and server are restarted, terminated and killed, and the server's wall clock jumps by
hours.  The stand-in counts: 120 requests in any window of 60 s, then refusals.
"""
import os
import pathlib
import random
import signal
import sys
import time

sys.dont_write_bytecode = True
for place in ("setup", "calcom", "system"):
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / place))

from calcom_standin import CalcomStandIn
from http_stage import CONF, Load, Preload, Stage
from pgserver import Cluster, Install, Workspace, main_guard, say


def disturb(stage, what):
    """One disturbance."""
    if what == "terminate":
        os.kill(stage.worker() or stage.wait_for_worker(), signal.SIGTERM)
    elif what == "kill":
        os.kill(stage.worker() or stage.wait_for_worker(), signal.SIGKILL)
    elif what == "clock":
        stage.preload.set_clock(random.choice((-7200, -60, 0, 60, 7200, 86400 * 365)))
    else:
        stage.cluster.restart(what)
    stage.cluster.wait_until(lambda: stage.cluster.psql("-c", "SELECT 1").returncode == 0, "the server")


def main():
    """Runs."""
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 60
    random.seed(1)
    with Workspace() as work, CalcomStandIn(tls=False) as calcom:
        install, preload = Install.build(work), Preload(work)
        with preload:
            cluster = Cluster(work, install, conf={**CONF, "tenantcall.http_quota": 120}).start()
            cluster.create_template()
            cluster.create_database("app")
            stage = Stage(cluster)
            stage.preload = preload
            stage.wait_for_worker()
            name = stage.account(calcom)
            load, end = Load(stage, name), time.monotonic() + minutes * 60
            while time.monotonic() < end:
                time.sleep(min(random.uniform(5, 90), max(0, end - time.monotonic())))
                what = random.choice(("terminate", "kill", "clock", "clock", "fast", "immediate"))
                disturb(stage, what)
                say(f"{what:<10} requests {calcom.count():>6}, most in 60 s {calcom.most_in_window():>4}, "
                    f"refused {calcom.limit.refused}")
            answered = load.end()
        most = calcom.most_in_window()
        say(f"requests {calcom.count()}, most in 60 s {most} of 120, refused {calcom.limit.refused}, "
            f"answered by company {answered}")
        return 0 if most <= 120 and calcom.limit.refused == 0 else 1


main_guard(main)
