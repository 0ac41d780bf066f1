"""Upkeep while events come in: partitions made and dropped, usage rolled up, companies deleted,
callers forgotten."""
import collections
import itertools
import random
import threading

import psycopg
import pytest

from calls import SECRET, House, fixture, ingest, message, now_ms, raw, sign

STAGES = ["call_started", "call_ended", "call_analyzed"]


@pytest.fixture
def house(db, role):
    """A company, a gateway and an administrator."""
    made = House(db, role("gateway"), admin=role("admin"))
    made.admin = db.sql("SELECT role FROM tenantcall.role_kinds WHERE kind = 'admin'")
    made.company()
    return made


class Worker(threading.Thread):
    """Does the same again and again until it is told to stop."""

    def __init__(self, job, stop):
        super().__init__(daemon=True)
        self.job, self.stop = job, stop
        self.done = collections.Counter()
        self.failure = None
        self.start()

    def run(self):
        try:
            for number in itertools.count():
                if self.stop.is_set():
                    break
                self.done[self.job(number)] += 1
        except BaseException as error:  # pylint: disable=broad-except
            self.failure = error


def finish(workers, stop):
    """Ends the workers; raises what they raised; their results."""
    stop.set()
    done = collections.Counter()
    for worker in workers:
        worker.join(60)
        if worker.failure is not None:
            raise worker.failure
        done += worker.done
    return done


def caller(house, stem, company=None):
    """A job that delivers the events of one call after the other."""
    conn = house.connect()
    number = house.numbers[company or house.companies[0]][0]

    def deliver(turn):
        call, stage = divmod(turn, 4)
        body = message(STAGES[stage % 3], f"{stem}_{call}", to_number=number)
        return ingest(conn, body)["outcome"]

    return deliver


def test_partitions_under_ingestion(house):
    """Partitions come and go while events come in: nobody fails, and nothing recent is lost."""
    months = "SELECT tenantcall.make_partition(parent, '2021-0%d-01') FROM unnest('{%s}'::name[]) AS parent"
    trail = "call_events,call_transitions,tenant_decisions,refusals"
    for month in range(1, 7):
        house.db.sql(months % (month, trail))
    stop = threading.Event()
    workers = [Worker(caller(house, f"partitions_{i}"), stop) for i in range(4)]
    actions = collections.Counter()
    with house.db.connect(role=house.admin, autocommit=True) as admin:
        admin.execute("SELECT count(*) FROM tenantcall.roll_up_usage(1000000)")
        for _ in range(1000):
            rows = admin.execute("SELECT action FROM tenantcall.maintain_partitions(8)").fetchall()
            if not rows:
                break
            actions.update(action for action, in rows)
        assert actions["dropped"] == 24 and actions["created"] == 20, actions
        assert set(actions) <= {"dropped", "created", "busy"}
    house.db.cluster.wait_until(lambda: min(sum(w.done.values()) for w in workers) > 100
                                or any(w.failure for w in workers), "some calls")
    done = finish(workers, stop)
    assert set(done) == {"applied", "merged", "duplicate"} - {"merged"}
    assert house.db.sql("SELECT count(*) FROM tenantcall.trail_partitions() "
                        "WHERE from_time < '2022-01-01'") == "0"
    assert house.db.sql("SELECT sum(deliveries) FROM telephony.call_events") == str(sum(done.values()))
    assert house.db.sql("SELECT sum(n) FROM (SELECT count(*) FROM telephony.call_events_default "
                        "UNION ALL SELECT count(*) FROM telephony.refusals_default) AS d (n)") == "0"


def test_usage_while_calls_change(house):
    """Days that are rolled up while late events change them end as if counted once at the end."""
    company = house.companies[0]
    days = 5
    stop = threading.Event()

    def late(name):
        conn = house.db.connect(autocommit=True)

        def job(turn):
            # a call of some former day, told late, or one whose start or cost changes
            day = random.randrange(days)
            if turn % 3 == 0:
                conn.execute("INSERT INTO telephony.calls (company_id, provider_call_id, status, "
                             "started_at, duration, cost_cents) VALUES (%s, %s, 'inbound', "
                             "now() - %s * interval '1 day', '61 s', 0.1)",
                             [company, f"{name}_{turn}", day + 3])
            else:
                conn.execute("UPDATE telephony.calls SET cost_cents = cost_cents + 0.01, started_at "
                             "= now() - %s * interval '1 day' WHERE company_id = %s "
                             "AND provider_call_id = %s", [day + 3, company, f"{name}_{turn // 3 * 3}"])
            return "done"

        return job

    workers = [Worker(late(f"usage_{i}"), stop) for i in range(4)]
    usage = ("SELECT day, calls, minutes, cost_cents FROM tenantcall.company_usage("
             "current_date - 30, current_date + 1)")
    with house.db.connect(role=house.admin, autocommit=True) as admin:
        for _ in range(60):
            admin.execute("SELECT count(*) FROM tenantcall.roll_up_usage()")
            admin.execute(usage)
        finish(workers, stop)
        with house.db.connect(autocommit=True) as counter:
            truth = counter.execute(
                "SELECT (started_at AT TIME ZONE 'Europe/Berlin')::date, count(*), "
                "round(extract(epoch FROM sum(duration)) / 60, 2), sum(cost_cents) "
                "FROM telephony.calls GROUP BY 1 ORDER BY 1").fetchall()
            assert len(truth) >= days
            assert admin.execute(usage).fetchall() == truth
            admin.execute("SELECT count(*) FROM tenantcall.roll_up_usage()")
            assert admin.execute(usage).fetchall() == truth
            assert counter.execute("SELECT count(*) FROM telephony.usage_marks").fetchone() == (0,)
            # what is kept is all there, without the calls
            assert counter.execute("SELECT day, calls, round(seconds / 60, 2), cost_cents FROM "
                                   "telephony.usage_daily WHERE calls > 0 ORDER BY 1").fetchall() == truth


@pytest.mark.limit(180)
def test_deleting_while_events_come_in(house):
    """A company goes while its events come in, in batches too: no deadlock, nothing left behind."""
    cluster = house.db.cluster
    for turn in range(4):
        company = house.company()
        number = house.numbers[company][0]
        stop = threading.Event()

        def batches(name, company=company, number=number):
            conn = house.connect()

            def job(turn):
                # calls of before as well as new ones, in any order, in one transaction
                bodies = [message(random.choice(STAGES), f"{name}_{random.randrange(turn + 4)}",
                                  to_number=number) for _ in range(8)]
                bodies = [raw(body) for body in bodies]
                rows = conn.execute(
                    "SELECT r.outcome FROM unnest(%s::bytea[], %s::text[]) AS b (body, signature), "
                    "tenantcall.ingest_retell(b.body, b.signature) AS r",
                    [bodies, [sign(body) for body in bodies]]).fetchall()
                return "gone" if rows[-1][0] == "quarantined" else "taken"

            return job

        workers = [Worker(batches(f"delete_{turn}_{i}"), stop) for i in range(3)]
        cluster.wait_until(lambda: min(sum(w.done.values()) for w in workers) > 10
                           or any(w.failure for w in workers), "calls of the company")
        with house.db.connect(role=house.admin, autocommit=True) as admin:
            admin.execute("SELECT tenantcall.set_company_status(%s, 'suspended')", [company])
            deleted = dict(admin.execute("SELECT * FROM tenantcall.delete_company(%s)", [company]).fetchall())
        assert deleted["telephony.calls"] > 0
        before = [w.done["gone"] for w in workers]
        cluster.wait_until(lambda: all(w.done["gone"] > b + 3 for w, b in zip(workers, before))
                           or any(w.failure for w in workers), "events of the deleted company")
        finish(workers, stop)
        left = house.db.sql(
            "SELECT string_agg(format('SELECT %L, count(*) FROM %s WHERE company_id = COMPANY', "
            "c.oid::regclass, c.oid::regclass), ' UNION ALL ') FROM pg_class AS c JOIN pg_attribute "
            "AS a ON a.attrelid = c.oid AND a.attname = 'company_id' WHERE c.relkind IN ('r', 'p') "
            "AND c.relnamespace IN ('telephony'::regnamespace, 'tenantcall'::regnamespace) "
            "AND NOT c.relispartition AND c.relname <> 'rate_policies'")
        rows = house.db.sql(left.replace("COMPANY", str(company))).split("\n")
        assert len(rows) > 15 and [row for row in rows if not row.endswith("|0")] == []
    assert "deadlock detected" not in cluster.log()


def test_deleting_gives_up_politely(house):
    """Calls that a transaction holds on to: the deletion ends with an error that says so."""
    company = house.companies[0]
    with house.connect() as conn:
        ingest(conn, message("call_started", "held", to_number=house.numbers[company][0]))
    house.db.sql(f"SELECT tenantcall.set_company_status({company}, 'suspended')")
    with house.db.connect() as holder, house.db.connect(role=house.admin, autocommit=True) as admin:
        holder.execute("SELECT FROM telephony.calls FOR UPDATE")
        with pytest.raises(psycopg.errors.LockNotAvailable) as caught:
            admin.execute("SELECT * FROM tenantcall.delete_company(%s)", [company])
        assert "repeat" in caught.value.diag.message_hint
        holder.rollback()
        assert admin.execute("SELECT count(*) FROM tenantcall.delete_company(%s)", [company]).fetchone()[0] > 0


def test_every_reason_for_the_end(house):
    """Each reason of the vendor ends a call in its state, in the words of the vendor's status too."""
    number = house.numbers[house.companies[0]][0]
    with house.connect() as conn, house.db.connect(role=house.admin, autocommit=True) as admin:
        reasons = dict(admin.execute("SELECT reason, state FROM "
                                     "tenantcall.disconnection_reasons_in_force").fetchall())
        assert len(reasons) == 34

        def end(reason, call_status="registered", connected=True):
            call_id = f"{reason}_{call_status}_{connected}_{len(reasons)}"
            if connected:
                ingest(conn, message("call_started", call_id, to_number=number))
            return ingest(conn, message("call_ended", call_id, to_number=number, call_status=call_status,
                                        disconnection_reason=reason))["status"]

        for reason, state in reasons.items():
            assert end(reason) == state, reason
            assert end(reason, "error", connected=False) == state, reason
        # what the vendor may add: accepted by its status of the call, seen by operators, then mapped
        assert (end("brand_new"), end("brand_new", "error"), end("brand_new", "not_connected", False)) == \
            ("completed", "failed", "not_connected")
        assert admin.execute("SELECT reason, calls FROM tenantcall.unmapped_reasons()").fetchall() == [("brand_new", 3)]
        admin.execute("INSERT INTO tenantcall.disconnection_reasons VALUES ('brand_new', 'transferred')")
        assert end("brand_new", "ended") == "transferred"
        assert admin.execute("SELECT count(*) FROM tenantcall.unmapped_reasons()").fetchone() == (0,)


def dump(db):
    """Everything that the database holds, as text; bytea is searched in hex."""
    return db.cluster.client_program("pg_dump", "--data-only", "--dbname", db.name)


def traces(db, words):
    """Which of the words a dump holds, as they are or as bytes in hex."""
    text = dump(db)
    return {word for word in words
            if word in text or word.encode().hex() in text}


def test_nothing_of_a_forgotten_caller_in_a_dump(house):
    """Whatever was stored of a caller, in whatever way: a dump of all data has none of it."""
    company = house.companies[0]
    number = house.numbers[company][0]
    person, digits, name, secret = "+4915199887766", "4915199887766", "Anneliese", "Kropfkur"
    personal = dict(to_number=number, from_number=person, start_timestamp=now_ms(), transcript=f"{name} wants a {secret}",
                    recording_url=f"https://example.com/{secret}",
                    metadata={"who": name}, retell_llm_dynamic_variables={"customer_name": name},
                    call_analysis={"call_summary": f"{name}: {secret}", "user_sentiment": "Positive"},
                    call_cost={"combined_cost": 12.25, "product_costs": [{"product": secret}]})

    def function(call_id, to_number=number):
        body = fixture("function_check_availability")
        body["args"] = {"name": name, "what": secret}
        body["call"].update(call_id=call_id, **{**personal, "to_number": to_number})
        return body

    with house.connect() as conn, house.db.connect(role=house.admin, autocommit=True) as admin, \
            house.db.connect(autocommit=True) as root:
        def accept(body):
            data = raw(body)
            cursor = conn.execute("SELECT outcome, idempotency_key FROM tenantcall.accept_function_call("
                                  "%s::bytea, %s)", [data, sign(data)])
            return cursor.fetchone()

        # customers, calls, events, function calls with answers, decisions
        root.execute("INSERT INTO telephony.customers (company_id, name, phone, email) VALUES "
                     "(%s, %s, %s, %s)", [company, name, person, f"{name}@example.com"])
        for event in ("call_started", "transcript_updated", "call_ended"):
            assert ingest(conn, message(event, "known", **personal))["outcome"] == "applied"
        # an appointment, an order that was given up, and what the calendar told
        customer = f'{{"name": "{name}", "phone": "{person}", "email": "{name}@example.com"}}'
        appointment, = root.execute(
            "WITH s AS (INSERT INTO telephony.services (company_id, name) VALUES (%(c)s, 'Cut') "
            "RETURNING service_id) INSERT INTO telephony.appointments (company_id, service_id, "
            "credential, calcom_event_type_id, starts_at, ends_at, status, customer, reason) "
            "SELECT %(c)s, service_id, 'a', 1, now(), now() + interval '1 hour', 'confirmed', %(j)s, "
            "%(r)s FROM s RETURNING appointment_id",
            {"c": company, "j": customer, "r": f"{name} wants a {secret}"}).fetchone()
        root.execute("INSERT INTO telephony.outbox (company_id, appointment_id, kind, request, state) "
                     "VALUES (%s, %s, 'create', %s, 'dead')", [company, appointment, customer])
        root.execute("INSERT INTO telephony.calendar_events (company_id, event_key, appointment_id, "
                     "trigger, received_at, outcome, body) VALUES (%s, 'e', %s, 'BOOKING_CREATED', "
                     "now(), 'applied', %s)", [company, appointment, customer])
        outcome, key = accept(function("known"))
        assert outcome == "run"
        conn.execute("SELECT tenantcall.finish_function_call(%s, %s, %s::jsonb)",
                     [company, key, f'{{"for": "{name}"}}'])
        inbound = fixture("call_inbound")
        inbound["call_inbound"].update(to_number=number, from_number=person)
        for body in (inbound, {**inbound, "call_inbound": {**inbound["call_inbound"], "to_number": "+493011111"}}):
            conn.execute("SELECT tenantcall.answer_inbound_call(%s::bytea, %s)", [raw(body), sign(body)])
        # the quarantine: conflicts of the call, calls of nobody, what is no JSON, escaped, binary
        assert ingest(conn, message("call_analyzed", "nobody's", **{**personal, "to_number": "+493011111"}))["outcome"] == "quarantined"
        assert accept(function("nobody's", "+493011111"))[0] == "unknown"
        other = house.company()
        assert ingest(conn, message("call_analyzed", "known", **{**personal, "to_number": house.numbers[other][0]}))["outcome"] == "conflict"
        for broken in (f'{{"from_number": "{person}", "{name}": ', f'{{"x": "\\u002b{digits}", "{name}": 1}}',
                       f'\xff\x00tel:{person};{name}'):
            broken = broken.encode("latin-1")
            assert ingest(conn, broken)["outcome"] == "quarantined"
        # a number that only contains it is another one's
        assert ingest(conn, b'{"x": "+9%s", "keep": "neighbour"}' % digits.encode())["outcome"] == "quarantined"
        words = [person, digits, name, secret, "neighbour"]
        assert traces(house.db, words) == set(words)

        before = admin.execute("SELECT calls, minutes, function_calls, cost_cents FROM tenantcall.company_usage("
                               "current_date - 1, current_date + 1) WHERE company_id = %s", [company]).fetchall()
        counts = admin.execute("SELECT * FROM tenantcall.forget_caller(%s, %s)", [person, company]).fetchone()
        assert min(counts) > 0
        # what is left of it is the digits within the neighbour's
        root.execute("DELETE FROM tenantcall.quarantine WHERE body = %s",
                     [b'{"x": "+9%s", "keep": "neighbour"}' % digits.encode()])
        assert traces(house.db, [person, digits, name, secret]) == set()
        assert admin.execute("SELECT calls, minutes, function_calls, cost_cents FROM tenantcall.company_usage("
                             "current_date - 1, current_date + 1) WHERE company_id = %s", [company]).fetchall() == before

        # delivered again, later for the first time, longer, or in conflict: nothing comes back
        later = {**personal, "transcript": f"{name} wants a {secret}, and a long one at that"}
        outcomes = [ingest(conn, message(event, "known", **later)) for event in
                    ("call_started", "transcript_updated", "call_ended", "call_analyzed", "transfer_started")]
        assert [(o["outcome"], o["status"]) for o in outcomes] == \
            [("duplicate", "completed")] * 3 + [("applied", "analyzed")] * 2, outcomes
        assert ingest(conn, message("call_analyzed", "known", **{**later, "to_number": house.numbers[other][0]}))["outcome"] == "conflict"
        outcome, key = accept({**function("known"), "call": {**function("known")["call"],
                               "transcript_with_tool_calls": [{"name": "check_availability", "tool_call_id": "later"}]}})
        assert outcome == "run"
        conn.execute("SELECT tenantcall.finish_function_call(%s, %s, %s::jsonb)", [company, key, f'{{"for": "{name}"}}'])
        assert traces(house.db, [person, digits, name, secret, SECRET]) == set()
        row = root.execute("SELECT status, cost_cents, analyzed_at IS NOT NULL, transcript, summary, sentiment, from_number, "
                           "to_number FROM telephony.calls WHERE provider_call_id = 'known'").fetchone()
        assert row[:3] == ("analyzed", 12.25, True) and row[3:7] == (None,) * 4 and row[7] == number
