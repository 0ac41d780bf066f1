#!/usr/bin/python3
"""Benchmark of the HTTP worker: requests a second over loopback, beside others.

    test/bench/http_worker.py [ROUNDS [SECONDS]]      e.g. 5 rounds, in which each runs for 5 s

nginx answers; everybody asks for the same 640 bytes, one after the other in each round.

    worker                   one statement has the worker ask 50 times at once, as pg_net's worker
                             gets its requests from one statement
    available_slots()        as an application meets it: sessions ask for days that are not cached,
                             so each statement waits for one request
    check_credential()       the same for an administrator's question
    pg_net, pgsql-http       where the server's installation has them (see http_peers.py)
    curl --parallel          without a database

The budget is that the worker reaches 25 times what pg_net does in its default settings.
"""
import statistics
import sys
import time

sys.dont_write_bytecode = True

from paired import cpu, noted, ratios, shown
from stage import WORKER, Stage

from http_peers import SESSIONS, CurlParallel, all_peers
from pgserver import Failure, Workspace, main_guard, say

AT_ONCE = 50
BUDGET = 25
BASE = "pg_net, default settings"
DAYS = 36500  # of questions that are not repeated soon


class Ours:
    """A way through the worker: sends requests for some seconds."""

    unavailable = None

    def __init__(self, stage, name, send):
        self.stage, self.name, self.send = stage, name, send
        self.cost = []

    def sent(self):
        """Requests that the worker has sent, and that failed."""
        return map(int, self.stage.sql(
            "SELECT requests, requests - answered + refused_quota + refused_breaker + refused_queue"
            " + refused_other FROM tenantcall.stat_http").split("|"))

    def measure(self):
        """Requests a second; what is not answered spoils everything."""
        self.stage.sql("SELECT tenantcall.reset_http_stats()")
        pid = int(self.stage.sql(WORKER))
        begun, start = cpu(pid), time.monotonic()
        spent = self.send() or time.monotonic() - start
        requests, bad = self.sent()
        if bad:
            raise Failure(f"{self.name}: {bad} of {requests} requests failed")
        self.cost.append((cpu(pid) - begun) / requests)
        return requests / spent


def our_ways(stage, seconds):
    """The ways through the worker."""
    def worker():
        stage.sql(f"SELECT tenantcall.http_test_requests('bench', {seconds * 4000}, {AT_ONCE},"
                  " path => '/v2/slots', max_wait => '60 s')")

    def slots():
        stage.script(f"\\set day random(1, {DAYS})\nBEGIN;\n"
                     f"SELECT tenantcall.enter({stage.company}, {stage.branch});\n"
                     f"SELECT * FROM tenantcall.available_slots({stage.service},"
                     " date '2030-01-01' + :day::int, date '2030-01-02' + :day::int);\nCOMMIT;\n",
                     seconds, SESSIONS, "gateway")
        return seconds

    def check():
        stage.script("SELECT * FROM tenantcall.check_credential('bench');\n", seconds, SESSIONS, "admin")
        return seconds

    yield Ours(stage, f"tenantcall worker, {AT_ONCE} at once", worker)
    yield Ours(stage, f"available_slots(), {SESSIONS} sessions", slots)
    yield Ours(stage, f"check_credential(), {SESSIONS} sessions", check)


def report(samples, ours):
    """Prints medians and spread; true if the budget is kept, or cannot be judged."""
    base = samples.get(BASE)
    say(f"\n  {'':38}{'requests/s':>11}{'least':>9}{'most':>9}   against {BASE}")
    for name, values in samples.items():
        middle = statistics.median(values)
        versus = f"{shown(ratios(values, base), 1):>22} x" if base else ""
        say(f"  {name:38}{middle:11.0f}{min(values):9.0f}{max(values):9.0f}   {versus}")
    if CurlParallel.name in samples:
        noted(f"{ours[0].name} / {CurlParallel.name}", ratios(samples[ours[0].name], samples[CurlParallel.name]))
    for way in ours:
        say(f"  {way.name}: {statistics.median(way.cost):.1f} µs of the worker's CPU for a request")
    if base is None:
        say(f"  SKIP: without pg_net the budget (worker >= {BUDGET} x) cannot be judged")
        return True
    each = ratios(samples[ours[0].name], base)
    kept = noted(f"{ours[0].name} / {BASE}", each, BUDGET)
    say(f"  budget: worker >= {BUDGET} x {BASE}: {shown(each, 1)} x, {'kept' if kept else 'MISSED'}")
    return kept


def main():
    """Runs everything in turns."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    with Workspace() as work, Stage(work, **{"tenantcall.http_credential_requests": AT_ONCE}) as stage:
        ours = list(our_ways(stage, seconds))
        sides = ours + list(all_peers(work, stage.install, f"{stage.calendar.url}/v2/slots"))
        for side in sides:
            if side.unavailable:
                say(f"SKIP {side.name}: {side.unavailable}")
        sides = [side for side in sides if not side.unavailable]
        samples = {side.name: [] for side in sides}
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}")
            for side in sides if number % 2 else list(reversed(sides)):
                samples[side.name].append(side.measure())
        return 0 if report(samples, ours) else 1


if __name__ == "__main__":
    main_guard(main)
