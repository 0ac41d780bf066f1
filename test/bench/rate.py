#!/usr/bin/python3
"""Benchmark of rate limits: nanoseconds a call inside one query, and statements a second.

    test/bench/rate.py [ROUNDS [SECONDS]]      default 5 rounds, 3 s for each side (pgbench)

Statements are compared with SELECT 1, with a bucket kept in a row (UPDATE), and, where redis-server
is installed, with GCRA as a Lua script in Redis; all over Unix sockets, 8 clients.  Calls inside a
query are compared with a C function that does nothing, over the same expressions.

What is compared runs in turns within each round, on one private server.  A figure is a ratio or a
difference within a round; the median over the rounds counts, the least and the greatest are shown.
Exits with 1 if a budget is missed.  curves.py shows how it scales.
"""
import pathlib
import statistics
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "setup"))

from pgserver import Failure, Workspace, main_guard, say
from rate_sides import ALLOW, REDIS, SCRIPTS, SELECT_1, TENANTS, UPDATE, InQuery, Redis, pgbench, spread, start, tenant

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
            ns = session.measure(expression) - session.measure(nothing)
            if number > 0:
                found[name].append(ns)
    session.connection.close()
    return found


def measure_statements(server, redis, company, rounds, seconds):
    """Statements a second, for each round."""
    found = {name: [] for name in STATEMENTS}
    if redis.process is not None:
        found[REDIS] = []
    for number in range(rounds):
        say(f"statements: round {number + 1} of {rounds}")
        names = list(STATEMENTS)
        for name in names[number % len(names):] + names[:number % len(names)]:
            text = STATEMENTS[name]
            found[name].append(pgbench(server, text, CLIENTS, seconds, company=company))
        if redis.process is not None:
            found[REDIS].append(redis.measure(CLIENTS, seconds))
    return found


def line(name, values, form, kept, budget):
    """Prints a figure and its budget; returns whether that is kept."""
    verdict = "" if budget is None else f"   budget {budget}: {'kept' if kept else 'MISSED'}"
    say(f"  {name:56} {spread(values, form):28}{verdict}")
    return kept or budget is None


def report(calls, statements):
    """Prints all; returns whether every budget is kept."""
    kept = True
    say(f"\nns a call over a C no-op, {CALLS:,} calls in one query")
    for name, values in calls.items():
        budget = IN_QUERY[name][2]
        kept &= line(name, values, "{:.0f}", budget is None or statistics.median(values) <= budget, budget)
    say(f"\nstatements a second, pgbench -M prepared, {CLIENTS} clients")
    for name, values in statements.items():
        line(name, values, "{:.0f}", True, None)
    say("\nratios")
    for side, base, budget in RATIOS:
        if base not in statements:
            continue
        values = [a / b for a, b in zip(statements[side], statements[base])]
        kept &= line(f"{side} / {base}", values, "{:.3f}", budget is None or statistics.median(values) >= budget, budget)
    return kept


def main():
    """Runs it on a server of its own."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    with Workspace() as work:
        server = start(work)
        redis = Redis(work)
        try:
            company = server.sql("SELECT tenantcall.create_company('bench', 'DE', 'Europe/Berlin')", dbname="bench")
            calls = measure_calls(server, company, rounds)
            statements = measure_statements(server, redis, company, rounds, seconds)
        finally:
            redis.stop()
            server.stop("immediate")
    if not report(calls, statements):
        raise Failure("a budget is missed")


if __name__ == "__main__":
    main_guard(main)
