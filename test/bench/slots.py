#!/usr/bin/python3
"""Benchmark of available_slots() from memory, against SELECT 1.

    test/bench/slots.py [ROUNDS [SECONDS]]      e.g. 11 rounds of 2 s each

pgbench -M prepared, 8 clients; each transaction enters a company and runs 30 times the same.  The
day that is asked for has 16 slots, 3 of which are held here; the calendar was asked once.  Beside
it stands a plain function that returns as many rows of the same columns.  All run in turns.

Budget: at least half of what SELECT 1 does, in the median of the rounds.
"""
import statistics
import sys

sys.dont_write_bytecode = True

from paired import noted, ratios, shown
from stage import DAY, Stage

from pgserver import Failure, Workspace, main_guard, say

TIMES = 30
BUDGET = 0.5


def statements(stage):
    """What is compared, SELECT 1 first."""
    slots = (f"tenantcall.available_slots({stage.service}, timestamptz '{DAY} 00:00Z',"
             f" timestamptz '{DAY} 24:00Z')")
    return {
        "SELECT 1": "SELECT 1",
        "SELECT * FROM available_slots()": f"SELECT * FROM {slots}",
        "SELECT count(*) FROM available_slots()": f"SELECT count(*) FROM {slots}",
        "16 rows of generate_series()": "SELECT now(), now(), now()::timestamp, 'Europe/Berlin'"
                                        " FROM generate_series(1, 16)",
    }


def prepare(stage):
    """Holds three slots, and has the calendar asked."""
    enter = f"BEGIN; SELECT FROM tenantcall.enter({stage.company}, {stage.branch}); "
    for hour in (9, 10, 11):
        stage.sql(f"{enter} SELECT tenantcall.hold_slot({stage.service}, '{DAY} {hour}:00Z', NULL); COMMIT")
    stage.sql("UPDATE telephony.slot_holds SET expires_at = 'infinity'")
    count = stage.sql(f"{enter} {statements(stage)['SELECT count(*) FROM available_slots()']}; COMMIT")
    if count != "13":
        raise Failure(f"the calendar answered with {count} slots, not 13")


def report(samples):
    """Prints medians and the medians of each round's ratio; true if the budget is kept."""
    base = list(samples.values())[0]
    say(f"\n  {'':42}{'statements/s':>13}{'of SELECT 1':>13}{'least':>8}{'most':>8}")
    for name, values in samples.items():
        each = ratios(values, base)
        say(f"  {name:42}{statistics.median(values):13.0f}{statistics.median(each):13.3f}"
            f"{min(each):8.3f}{max(each):8.3f}")
    each = ratios(list(samples.values())[1], base)
    kept = noted("available_slots() from memory / SELECT 1", each, BUDGET)
    say(f"  budget: available_slots() >= {BUDGET} x SELECT 1: {shown(each, 3)}, {'kept' if kept else 'MISSED'}")
    return kept


def main():
    """Runs everything in turns."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 11
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 2
    with Workspace() as work, Stage(work) as stage:
        prepare(stage)
        enter = f"BEGIN;\nSELECT tenantcall.enter({stage.company}, {stage.branch});\n"
        samples = {name: [] for name in statements(stage)}
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}")
            sides = list(statements(stage).items())
            for name, sql in sides if number % 2 else reversed(sides):
                script = enter + f"{sql};\n" * TIMES + "COMMIT;\n"
                samples[name].append(TIMES * stage.script(script, seconds))
        requests = stage.sql("SELECT sum(requests) FROM tenantcall.stat_http")
        say(f"  the calendar was asked {requests} times")
        return 0 if report(samples) else 1


if __name__ == "__main__":
    main_guard(main)
