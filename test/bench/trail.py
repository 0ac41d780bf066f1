#!/usr/bin/python3
"""The audit trail when it is long: taking in events beside 1,000,000 rows of it, and dropping these.

    test/bench/trail.py [ROWS [CALLS]]        default 1,000,000 audit rows, 660 calls of three events

Two databases: one new, one with ROWS rows of audit trail, half of them in partitions of former
months, half in this month's.  Events are taken in by turns (paired.py), before and after the former
months are dropped.  While they are dropped, one event after the other
is taken in: the longest wait is reported.  Exits with 1 if a budget is missed.
"""
import statistics
import sys
import threading
import time

sys.dont_write_bytecode = True

from calls import ROUNDS, SETUP, make_events, report, single, timed
from paired import in_turns, one_processor

from pgserver import Cluster, Install, Workspace, main_guard, say

FILL = """
SET synchronous_commit = off;
SELECT tenantcall.make_partition(parent::name, '2021-01-01'::timestamptz + make_interval(months => m))
FROM unnest('{{call_events,call_transitions,tenant_decisions,refusals}}'::text[]) AS parent, generate_series(0, 2) AS m;
INSERT INTO telephony.call_transitions (company_id, relation, key, from_state, to_state, at, by_role, event)
SELECT 1, 'telephony.calls', g::text, 'inbound', 'ongoing', CASE g % 2 WHEN 0 THEN now()
       ELSE '2021-01-01'::timestamptz + (g % 80) * interval '1 day' END, 'bench', 'call_started' FROM generate_series(1, {0}) AS g;
INSERT INTO telephony.tenant_decisions (company_id, kind, outcome, source, provider_call_id, decided_at, by_role)
SELECT 1, 'event', 'placed', 'to_number', 'old_' || g, CASE g % 2 WHEN 0 THEN now()
       ELSE '2021-01-01'::timestamptz + (g % 80) * interval '1 day' END, 'bench' FROM generate_series(1, {0}) AS g;
ANALYZE telephony.call_transitions, telephony.tenant_decisions;
CHECKPOINT;
"""


def compare(connections, label, calls, turns):
    """Events per second into the long trail, over those into the new one."""
    rates = ([], [])
    with one_processor(*(connection.info.backend_pid for connection in connections)):
        for turn, which in in_turns([0, 1], ROUNDS):
            events = make_events(f"{turns}_{turn}", "trail", calls // ROUNDS)
            spent = timed(single, connections[which].cursor(), events)
            if turn > 0:
                rates[which].append(len(events) / spent)
    return report(label, *rates, 0.9, f"{label} beside 1,000,000 audit rows / without them")


def drop(cluster, connection):
    """Drops the former months while events come in; says how long an event had to wait."""
    waits, stop = [], threading.Event()

    def take():
        cursor = connection.cursor()
        number = 0
        while not stop.is_set():
            number += 1
            waits.append(timed(single, cursor, make_events(number, "while", 1)[:1]))

    taker = threading.Thread(target=take)
    taker.start()
    actions, spent = [], []
    with cluster.connect(dbname="long", autocommit=True) as admin:
        admin.execute("SELECT tenantcall.roll_up_usage(1000000)")
        while True:
            start = time.perf_counter()
            rows = admin.execute("SELECT action FROM tenantcall.maintain_partitions()").fetchall()
            spent.append(time.perf_counter() - start)
            if not rows:
                break
            actions += [action for action, in rows]
    stop.set()
    taker.join()
    say(f"{actions.count('dropped')} partitions dropped, {actions.count('busy')} times busy, the longest step "
        f"{1000 * max(spent):.0f} ms; longest wait of {len(waits)} events meanwhile {1000 * max(waits):.0f} ms, "
        f"median {1000 * statistics.median(waits):.1f} ms")
    return actions.count("dropped") == 12


def main():
    """Runs all."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    calls = int(sys.argv[2]) if len(sys.argv) > 2 else 660
    with Workspace() as work:
        cluster = Cluster(work, Install.build(work), "bench", {"fsync": "on"}).start()
        cluster.sql("CREATE ROLE bench_gateway LOGIN")
        for name in ("long", "short"):
            cluster.sql(f"CREATE DATABASE {name} TEMPLATE template0")
            cluster.sql(SETUP, dbname=name)
        cluster.sql(FILL.format(rows // 2), dbname="long")
        connections = [cluster.connect(role="bench_gateway", dbname=name, autocommit=True) for name in ("long", "short")]
        say(f"{rows:,} rows of audit trail            with     without             ratio (least-greatest)")
        kept = compare(connections, "events taken in", calls, 1)
        kept = drop(cluster, connections[0]) and kept
        kept = compare(connections, "after dropping old ones", calls, 2) and kept
        for connection in connections:
            connection.close()
    return 0 if kept else 1


if __name__ == "__main__":
    main_guard(main)
