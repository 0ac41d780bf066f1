#!/usr/bin/python3
"""Events taken in by ingest_retell(), and numbers looked up, beside what applications do instead.

    test/bench/calls.py [CALLS [NUMBERS]]         default 400 calls of three events, 100,000 numbers

ingest: one statement per event, against the five statements that the application this grew from
sent over the wire (look up the number, look up the call, insert or update it, set its status,
write a log row), each in autocommit, prepared, with the same durability.  look-up: 1,000 numbers
in one statement, against a SQL function over the same table.  The two sides run in turns; medians
of the rounds are compared.  Exits with 1 if a budget is missed.
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

from pgserver import Cluster, Install, Workspace, main_guard, say

KEY = "bench-key-of-the-account"
ROUNDS = 7
SETUP = """
CREATE EXTENSION tenantcall;
SELECT tenantcall.create_tables();
SELECT tenantcall.set_webhook_key('retell', 'bench', %s);
SELECT tenantcall.create_company('Bench', 'DE', 'Europe/Berlin');
BEGIN;
SELECT tenantcall.enter(1);
INSERT INTO telephony.branches (name) VALUES ('Bench');
COMMIT;
SELECT tenantcall.assign_number('+49301234567', 1, 1);
CREATE ROLE bench_gateway LOGIN;
SELECT tenantcall.grant_gateway('bench_gateway');
CREATE SCHEMA app AUTHORIZATION bench_gateway;
"""
APP = """
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


def ours(cursor, events):
    """One statement per event."""
    for _, _, body, signature in events:
        cursor.execute("SELECT outcome FROM tenantcall.ingest_retell(%s::text, %s)", (body, signature), prepare=True)
        assert cursor.fetchone()[0] == "applied"


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


def timed(run, *arguments):
    """Seconds that it takes."""
    start = time.perf_counter()
    run(*arguments)
    return time.perf_counter() - start


def report(name, ours_rate, their_rate, unit, budget):
    """Prints one comparison; True if the budget is kept."""
    ratio = ours_rate / their_rate
    say(f"{name:<28}{ours_rate:>12,.0f}{their_rate:>12,.0f} {unit:<10}{ratio:>7.2f} x   "
        f"at least {budget} x   {'ok' if ratio >= budget else 'MISSED'}")
    return ratio >= budget


def bench_ingest(cluster, calls):
    """Events per second on one connection."""
    rates = ([], [])
    with cluster.connect(role="bench_gateway", autocommit=True) as connection, connection.cursor() as cursor:
        for turn in range(ROUNDS + 1):
            now = int(time.time() * 1000) + 1
            events = [event(name, f"call_{turn}_{i}", now) for i in range(calls // ROUNDS) for name in STATUS]
            for which in ((0, 1) if turn % 2 else (1, 0)):
                spent = timed((ours, theirs)[which], cursor, events)
                if turn > 0:
                    rates[which].append(len(events) / spent)
    return report("ingest, fsync on", statistics.median(rates[0]), statistics.median(rates[1]), "events/s", 4)


def bench_lookup(cluster, numbers):
    """Look-ups per second within one statement."""
    cluster.sql(f"""
        ALTER TABLE telephony.phone_numbers DISABLE TRIGGER ALL;
        INSERT INTO telephony.phone_numbers (company_id, branch_id, number)
            SELECT 1, 1, '+49' || (40000000000 + g) FROM generate_series(1, {numbers}) AS g;
        ALTER TABLE telephony.phone_numbers ENABLE TRIGGER ALL;
        CREATE FUNCTION app.resolve(wanted text) RETURNS TABLE (company_id bigint, branch_id bigint, phone_number_id bigint, status text)
            LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
            SELECT n.company_id, n.branch_id, n.phone_number_id, c.status FROM telephony.phone_numbers AS n
            JOIN telephony.companies AS c USING (company_id) WHERE n.number = wanted AND n.released_at IS NULL $$;
        GRANT EXECUTE ON FUNCTION app.resolve TO bench_gateway;
        CREATE TABLE app.wanted (number text);
        INSERT INTO app.wanted SELECT '+49' || (40000000001 + floor(random() * {numbers}))::bigint FROM generate_series(1, 1000);
        GRANT SELECT ON app.wanted TO bench_gateway;
        """)
    cluster.sql("VACUUM (ANALYZE) telephony.phone_numbers")
    kept = True
    with cluster.connect(role="bench_gateway", autocommit=True) as connection, connection.cursor() as cursor:
        for name, cache in (("look-up, from memory", 10000), ("look-up, read each time", 16)):
            cluster.sql(f"ALTER DATABASE {connection.info.dbname} SET tenantcall.directory_cache_size = {cache}")
            rates = ([], [])
            with cluster.connect(role="bench_gateway", autocommit=True) as own, own.cursor() as other:
                for turn in range(ROUNDS + 1):
                    for which in (0, 1):
                        call = ("tenantcall.resolve_phone", "app.resolve")[which]
                        spent = timed(other.execute, f"SELECT count(r.company_id) FROM app.wanted AS w, {call}(w.number) AS r")
                        assert other.fetchone()[0] == 1000
                        if turn > 0:
                            rates[which].append(1000 / spent)
            kept &= report(f"{name} of {numbers:,}", statistics.median(rates[0]), statistics.median(rates[1]), "numbers/s", 5)
    return kept


def main():
    """Runs both."""
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    numbers = int(sys.argv[2]) if len(sys.argv) > 2 else 100_000
    with Workspace() as work:
        cluster = Cluster(work, Install.build(work), conf={"fsync": "on", "shared_buffers": "512MB", "max_wal_size": "4GB"}).start()
        cluster.sql(SETUP.replace("%s", f"'{KEY}'"))
        cluster.sql(APP)
        cluster.sql("GRANT ALL ON ALL TABLES IN SCHEMA app TO bench_gateway; GRANT ALL ON ALL SEQUENCES IN SCHEMA app TO bench_gateway")
        say(f"{'':<28}{'tenantcall':>12}{'instead':>12}")
        kept = bench_ingest(cluster, calls)
        kept &= bench_lookup(cluster, numbers)
    return 0 if kept else 1


if __name__ == "__main__":
    main_guard(main)
