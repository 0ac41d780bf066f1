#!/usr/bin/python3
"""Events taken in by ingest_retell(), beside what the application this grew from did instead.

    test/bench/calls.py [CALLS]      default 1,400 calls of three events

What it did for each event are five prepared statements over the wire: look up the number, look up
the call, insert or update it, set its status, write a log row; each in autocommit (as it was), or
all those of a batch in one transaction.  Ours is one statement per event, or one per batch of 100
events, which travel with it.  All over the same socket, with the same durability, with fsync on and
off, client and session on one processor.  Beside them stands the least that a statement can be which
keeps anything of an event, an INSERT of its body, autocommitted: what nobody can exceed.

The sides run in turns (paired.py).  The budget is that of a batch against what the application did;
the other ratios are reported, and the processor time of the server.  Exits with 1 if it is missed.
"""
import hashlib
import hmac
import json
import pathlib
import statistics
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "setup"))

from paired import cpu, in_turns, noted, one_processor, ratios, shown
from pgserver import Cluster, Install, Workspace, main_guard, postmaster_of, say

KEY = "bench-key-of-the-account"
ROUNDS = 11
BATCH = 100
SETUP = """
CREATE EXTENSION tenantcall;
SELECT tenantcall.create_tables();
SELECT tenantcall.set_webhook_key('retell', 'bench', 'bench-key-of-the-account');
SELECT tenantcall.create_company('Bench', 'DE', 'Europe/Berlin');
BEGIN;
SELECT tenantcall.enter(1);
INSERT INTO telephony.branches (name) VALUES ('Bench');
COMMIT;
SELECT tenantcall.assign_number('+49301234567', 1, 1);
SELECT tenantcall.grant_gateway('bench_gateway');
"""
APP = """
CREATE SCHEMA app AUTHORIZATION bench_gateway;
CREATE TABLE app.phone_numbers (id bigint PRIMARY KEY, company_id bigint, branch_id bigint, number text UNIQUE);
CREATE TABLE app.calls (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, company_id bigint, branch_id bigint,
    provider_call_id text UNIQUE, from_number text, to_number text, status text, started_at timestamptz,
    ended_at timestamptz, disconnection_reason text, transcript text, updated_at timestamptz);
CREATE TABLE app.webhook_logs (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, company_id bigint, event text,
    payload jsonb, created_at timestamptz DEFAULT now());
INSERT INTO app.phone_numbers VALUES (1, 1, 1, '+49301234567');
"""
STATUS = {"call_started": "ongoing", "call_ended": "completed", "call_analyzed": "analyzed"}


def event(name, call_id, now):
    """A body as the platform sends it, and its signature."""
    call = {"call_type": "phone_call", "from_number": "+4915112345678", "to_number": "+49301234567",
            "direction": "inbound", "call_id": call_id, "agent_id": "agent_bench", "call_status": "ongoing",
            "start_timestamp": now, "metadata": {}}
    if name != "call_started":
        call |= {"end_timestamp": now + 60000, "disconnection_reason": "user_hangup",
                 "transcript": "Agent: Hello.\nUser: I need an appointment.\n" * 20}
    if name == "call_analyzed":
        call |= {"duration_ms": 60000, "call_analysis": {"call_summary": "An appointment.", "user_sentiment": "Positive"},
                 "call_cost": {"combined_cost": 70}}
    body = json.dumps({"event": name, "call": call})
    digest = hmac.new(KEY.encode(), body.encode() + str(now).encode(), hashlib.sha256).hexdigest()
    return name, call, body, f"v={now},d={digest}"


def single(cursor, events):
    """One statement per event."""
    for _, _, body, signature in events:
        cursor.execute("SELECT outcome FROM tenantcall.ingest_retell(%s::text, %s)", (body, signature), prepare=True)
        assert cursor.fetchone()[0] == "applied"


def batched(cursor, events):
    """One statement per 100 events."""
    for i in range(0, len(events), BATCH):
        part = events[i:i + BATCH]
        cursor.execute("SELECT count(*) FROM unnest(%b::text[], %b::text[]) AS m (body, signature), "
                       "tenantcall.ingest_retell(m.body, m.signature) AS i WHERE i.outcome = 'applied'",
                       ([e[2] for e in part], [e[3] for e in part]), prepare=True)
        assert cursor.fetchone()[0] == len(part)


def theirs(cursor, events):
    """The application's five statements."""
    for name, call, body, signature in events:
        digest = hmac.new(KEY.encode(), body.encode() + signature[2:15].encode(), hashlib.sha256).hexdigest()
        assert signature.endswith(digest)
        cursor.execute("SELECT company_id, branch_id FROM app.phone_numbers WHERE number = %s", (call["to_number"],), prepare=True)
        company, branch = cursor.fetchone()
        cursor.execute("SELECT id, status FROM app.calls WHERE provider_call_id = %s", (call["call_id"],), prepare=True)
        cursor.fetchone()
        cursor.execute(
            "INSERT INTO app.calls (company_id, branch_id, provider_call_id, from_number, to_number, status, started_at, "
            "ended_at, disconnection_reason, transcript, updated_at) VALUES (%s, %s, %s, %s, %s, 'inbound', "
            "to_timestamp(%s / 1000.0), to_timestamp(%s / 1000.0), %s, %s, now()) ON CONFLICT (provider_call_id) DO UPDATE "
            "SET ended_at = excluded.ended_at, disconnection_reason = excluded.disconnection_reason, "
            "transcript = excluded.transcript, updated_at = now()",
            (company, branch, call["call_id"], call["from_number"], call["to_number"], call["start_timestamp"],
             call.get("end_timestamp"), call.get("disconnection_reason"), call.get("transcript")), prepare=True)
        cursor.execute("UPDATE app.calls SET status = %s WHERE provider_call_id = %s", (STATUS[name], call["call_id"]), prepare=True)
        cursor.execute("INSERT INTO app.webhook_logs (company_id, event, payload) VALUES (%s, %s, %s)", (company, name, body), prepare=True)


def theirs_batched(cursor, events):
    """The same, with a transaction per 100 events."""
    for i in range(0, len(events), BATCH):
        with cursor.connection.transaction():
            theirs(cursor, events[i:i + BATCH])


def least(cursor, events):
    """One INSERT of the body per event."""
    for name, _, body, _ in events:
        cursor.execute("INSERT INTO app.webhook_logs (company_id, event, payload) VALUES (1, %s, %s)", (name, body), prepare=True)


def timed(run, *arguments):
    """Seconds that it takes."""
    start = time.perf_counter()
    run(*arguments)
    return time.perf_counter() - start


def report(name, ours, theirs, budget, title):
    """Prints one comparison of rates; True if the budget is kept.  The title is its name among all benchmarks."""
    each = ratios(ours, theirs)
    kept = noted(title, each, budget)
    verdict = "" if budget is None else f"at least {budget} x   {'ok' if kept else 'MISSED'}"
    say(f"{name:<34}{statistics.median(ours):>12,.0f}{statistics.median(theirs):>12,.0f} events/s  {shown(each):>22} x   {verdict}".rstrip())
    return kept


def make_events(turn, which, calls):
    """The events of some calls, in the order of their lives."""
    now = int(time.time() * 1000) + 1
    return [event(name, f"call_{turn}_{which}_{i}", now) for i in range(calls) for name in STATUS]


def measure(cluster, calls):
    """Events per second of each way in each round, and µs of the server's processor time for one."""
    ways = [single, batched, theirs, theirs_batched, least]
    rates, costs = {way: [] for way in ways}, {way: [] for way in ways}
    with (one_processor(postmaster_of(cluster.data)),
          cluster.connect(role="bench_gateway", autocommit=True) as connection, connection.cursor() as cursor):
        pid = connection.info.backend_pid
        for turn, way in in_turns(ways, ROUNDS):
            events = make_events(f"{pid}_{turn}", way.__name__, calls // ROUNDS)
            begun = cpu(pid)
            spent = timed(way, cursor, events)
            if turn > 0:
                rates[way].append(len(events) / spent)
                costs[way].append((cpu(pid) - begun) / len(events))
    return [rates[way] for way in ways], [statistics.median(costs[way]) for way in ways]


def bench_ingest(cluster, calls):
    """Each way of ours against each way of theirs."""
    kept = True
    for fsync in ("on", "off"):
        cluster.sql(f"ALTER SYSTEM SET fsync = {fsync}")
        cluster.sql("SELECT pg_reload_conf()")
        (one, many, five, five_batched, insert), costs = measure(cluster, calls)
        say(f"fsync {fsync}")
        for name, ours, theirs, budget in (("a batch, five autocommitted", many, five, 4),
                                           ("a batch, five in a batch", many, five_batched, None),
                                           ("one event, five autocommitted", one, five, None),
                                           ("one INSERT, five autocommitted", insert, five, None)):
            kept &= report(name, ours, theirs, budget, f"{name.replace(', ', ' / ')}, fsync {fsync}")
        say("µs of the server's processor time for an event: one event {:.0f}, a batch {:.0f}, five autocommitted {:.0f}, "
            "five in a batch {:.0f}, one INSERT {:.0f}".format(*costs))
    return kept


def main():
    """Runs all."""
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 1400
    with Workspace() as work:
        cluster = Cluster(work, Install.build(work), conf={"shared_buffers": "512MB", "max_wal_size": "4GB"}).start()
        cluster.sql("CREATE ROLE bench_gateway LOGIN")
        cluster.sql(SETUP)
        cluster.sql(APP)
        cluster.sql("GRANT ALL ON ALL TABLES IN SCHEMA app TO bench_gateway; GRANT ALL ON ALL SEQUENCES IN SCHEMA app TO bench_gateway")
        say(f"{'':<34}{'tenantcall':>12}{'instead':>12}{'':>11}{'ratio (least-greatest)':>24}")
        kept = bench_ingest(cluster, calls)
    return 0 if kept else 1


if __name__ == "__main__":
    main_guard(main)
