#!/usr/bin/python3
"""Benchmark of rate limits: nanoseconds a call inside one query, and statements a second.

    test/bench/rate.py [ROUNDS [SECONDS]]      default 7 rounds; each run of pgbench takes 1 s

Statements are compared with SELECT 1, with a bucket kept in a row (UPDATE), and, where redis-server
is installed, with GCRA as a Lua script in Redis; all over Unix sockets, 8 clients.  Calls inside a
query are compared with a C function that does nothing, over the same expressions.

What is compared runs there and back within each round, on one private server.  A figure is a ratio
or a difference within a round; the median over the rounds counts, the least and the greatest are
shown.  Beside the ratio of speeds stands that of the processor time which the server's sessions
used for a statement: it has no share of the client's time and of other work on the machine.
Exits with 1 if a budget is missed.  curves.py shows how it scales, floor.py what the least is.
"""
import math
import pathlib
import statistics
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "setup"))

from pgserver import Failure, Workspace, main_guard, say
from paired import noted
from rate_sides import (ALLOW, REDIS, SCRIPTS, SELECT_1, TENANTS, UPDATE, InQuery, Redis, pgbench, spread, start, tenant,
                        there_and_back)

CALLS = 2000000
CLIENTS = 8
ONE, MANY = "1 tenant", f"{TENANTS:,} tenants"
ID = {ONE: f"{tenant(TENANTS)} - {tenant(TENANTS)} + 1", MANY: tenant(TENANTS)}
# expression -> the one that does nothing, and the budget in ns
IN_QUERY = {
    "allow(), 1 tenant": ("tenantcall.allow('bench')", "int8up(a.g)", 100),
    **{f"allow_for(), {who}": (f"tenantcall.allow_for({ID[who]}, 'bench')", f"int8up({ID[who]})", budget)
       for who, budget in ((ONE, 100), (MANY, 300))},
    **{f"take_for(), {who}": (f"tenantcall.take_for({ID[who]}, 'bench')", f"int8up({ID[who]})", None)
       for who in (ONE, MANY)},
}
THIRTY = ("BEGIN;\nSELECT tenantcall.enter(:company);\n", "COMMIT;\n")
ENTERED, ENTERED_BASE = "BEGIN; enter; 30 x allow(); COMMIT", "BEGIN; enter; 30 x SELECT 1; COMMIT"
RANDOM, RANDOM_BASE = "allow_for(), 1,000,000 tenants", "SELECT of a parameter"
STATEMENTS = {
    **SCRIPTS,
    RANDOM_BASE: f"\\set id random(1, {TENANTS})\nSELECT :id;\n",
    RANDOM: f"\\set id random(1, {TENANTS})\nSELECT tenantcall.allow_for(:id, 'bench');\n",
    ENTERED_BASE: THIRTY[0] + 30 * "SELECT 1;\n" + THIRTY[1],
    ENTERED: THIRTY[0] + 30 * "SELECT tenantcall.allow('bench');\n" + THIRTY[1],
}
# what is divided by what, and the budget
RATIOS = ((ALLOW, SELECT_1, 0.95), (RANDOM, RANDOM_BASE, None), (ENTERED, ENTERED_BASE, 0.95), (ALLOW, UPDATE, 30),
          (ALLOW, REDIS, 1.2))


def measure_calls(server, company, rounds):
    """Nanoseconds over a no-op, for each round."""
    session = InQuery(server, CALLS)
    found = {name: [] for name in IN_QUERY}
    session.connection.execute("SELECT tenantcall.enter(%s)", (company,))
    session.touch_all()
    for number in range(rounds + 1):
        say(f"in one query: round {number} of {rounds}" if number > 0 else "in one query: warming up")
        for name, (expression, nothing, _) in IN_QUERY.items():
            ns = session.over(expression, nothing)
            if number > 0:
                found[name].append(ns)
    session.connection.close()
    return found


def measure_ratios(server, redis, company, rounds, seconds):
    """What one round after the other finds of each pair: speeds and server's times of both."""
    pairs = [pair[:2] for pair in RATIOS if redis.process is not None or REDIS not in pair]
    found = {pair: [] for pair in pairs}
    for number in range(rounds):
        say(f"statements: round {number + 1} of {rounds}")
        for pair in pairs:
            runs = {side: [] for side in pair}
            for side in there_and_back(pair):
                runs[side].append((redis.measure(CLIENTS, seconds), math.nan) if side == REDIS else
                                  pgbench(server, STATEMENTS[side], CLIENTS, seconds, company=company))
            found[pair].append([[statistics.mean(both) for both in zip(*runs[side])] for side in pair])
    return found


def line(name, values, form, kept, budget):
    """Prints a figure and its budget; returns whether that is kept."""
    verdict = "" if budget is None else f"   budget {budget}: {'kept' if kept else 'MISSED'}"
    say(f"  {name:56} {spread(values, form):28}{verdict}")
    return kept or budget is None


def report(calls, pairs):
    """Prints all; returns whether every budget is kept."""
    kept = True
    say(f"\nns a call over a C no-op, {CALLS:,} calls in one query")
    for name, values in calls.items():
        budget = IN_QUERY[name][2]
        kept &= line(name, values, "{:.0f}", noted(f"{name}, ns over a C no-op", values, at_most=budget), budget)
    say(f"\nstatements a second, pgbench -M prepared, {CLIENTS} clients; and microseconds of the server for each")
    shown = {}
    for pair, rounds in pairs.items():
        for i, side in enumerate(pair):
            shown.setdefault(side, []).extend(both[i] for both in rounds)
    for side, values in shown.items():
        speed, time = zip(*values)
        say(f"  {side:56} {spread(speed, '{:.0f}'):28} {spread(time, '{:.2f}')}")
    say("\nratios of speeds")
    for side, base, budget in RATIOS:
        if (side, base) not in pairs:
            continue
        rounds = pairs[side, base]
        values = [a[0] / b[0] for a, b in rounds]
        kept &= line(f"{side} / {base}", values, "{:.3f}", noted(f"{side} / {base}", values, budget), budget)
    say("\nratios of the server's time")
    for (side, base), rounds in pairs.items():
        if base != REDIS:
            line(f"{side} / {base}", [a[1] / b[1] for a, b in rounds], "{:.3f}", True, None)
    return kept


def main():
    """Runs it on a server of its own."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    with Workspace() as work:
        server = start(work)
        redis = Redis(work)
        try:
            company = server.sql("SELECT tenantcall.create_company('bench', 'DE', 'Europe/Berlin')", dbname="bench")
            calls = measure_calls(server, company, rounds)
            pairs = measure_ratios(server, redis, company, rounds, seconds)
        finally:
            redis.stop()
            server.stop("immediate")
    if not report(calls, pairs):
        raise Failure("a budget is missed")


if __name__ == "__main__":
    main_guard(main)
