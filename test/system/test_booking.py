"""Bookings against a local Cal.com: made once or not at all, whatever breaks on the way."""
import contextlib
import datetime
import itertools
import os
import queue
import signal
import threading

import psycopg
import pytest

import pgserver

DATABASE = "app"
SECRET = "whsec_of_test"
CONF = {
    "tenantcall.worker_databases": DATABASE,
    "tenantcall.http_local_hosts": "127.0.0.1, localhost",
    "tenantcall.http_quota": 0,
    "tenantcall.http_breaker_failures": 1000,
    "tenantcall.http_poll_interval": "1 s",
    "tenantcall.outbox_timeout": "2 s",
    "tenantcall.outbox_settle": "3 s",
    "max_connections": 100,
}
CUSTOMER = '{"name": "Anna", "phone": "+4930123456", "email": "anna@example.com"}'
WAIT = "40 s"
GATEWAY = "booking_gateway"


class Company:
    """A company with one branch and one service, on a calendar account."""

    def __init__(self, stage, account, event_type, capacity=1):
        self.stage, self.account, self.event_type = stage, account, event_type
        self.id, = stage.one("SELECT tenantcall.create_company('booking', 'DE', 'Europe/Berlin')")
        stage.sql(f"SELECT tenantcall.assign_credential({self.id}, '{account}')")
        self.branch, = self.one("INSERT INTO telephony.branches (name) VALUES ('b') RETURNING branch_id")
        self.service, = self.one(
            "INSERT INTO telephony.services (name, calcom_event_type_id, capacity) VALUES ('s', %s, %s) "
            "RETURNING service_id", event_type, capacity)
        self.hours = itertools.count()

    def one(self, query, *params):
        """The row of a query, in a transaction of its own, as a role that row security binds."""
        with self.stage.connect(autocommit=False, role=GATEWAY) as conn:
            conn.execute("SELECT tenantcall.enter(%s, %s)", (self.id, getattr(self, "branch", None)))
            cursor = conn.execute(query, params)
            return cursor.fetchone() if cursor.description else None

    def slot(self):
        """The start of a free slot: another one each time, on workdays from 9 to 17."""
        days, hour = divmod(next(self.hours), 8)
        weeks, day = divmod(days, 5)
        at = datetime.datetime(2050, 1, 3, 9, tzinfo=datetime.timezone.utc)  # a Monday
        return at + datetime.timedelta(weeks=weeks, days=day, hours=hour)

    def hold(self, at=None):
        return self.one("SELECT tenantcall.hold_slot(%s, %s, NULL)", self.service, at or self.slot())[0]

    def book(self, at=None):
        """Holds and books; the appointment's id."""
        return self.one("SELECT tenantcall.book(%s, %s)", self.hold(at), CUSTOMER)[0]

    def result(self, appointment, wait=WAIT):
        return self.one("SELECT * FROM tenantcall.booking_result(%s, %s)", appointment, wait)

    def orders(self, appointment):
        """Kinds and states of the orders of an appointment."""
        return self.one("SELECT string_agg(concat(kind, ' ', state), ', ' ORDER BY outbox_id) "
                        "FROM telephony.outbox WHERE appointment_id = %s", appointment)[0]

    def key(self, appointment):
        """What the stand-in knows the booking by."""
        return self.one("SELECT idempotency_key FROM telephony.outbox "
                        "WHERE appointment_id = %s AND kind = 'create'", appointment)[0]

    def hold_state(self, appointment):
        return self.one("SELECT h.state FROM telephony.slot_holds AS h JOIN telephony.appointments "
                        "USING (hold_id) WHERE appointment_id = %s", appointment)[0]


class Stage:
    """A server with a worker in database "app"."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.numbers = itertools.count(1)

    def connect(self, autocommit=True, **options):
        return self.cluster.connect(dbname=DATABASE, autocommit=autocommit, **options)

    def sql(self, statements):
        return self.cluster.sql(statements, dbname=DATABASE)

    def one(self, query, *params):
        with self.connect() as conn:
            return conn.execute(query, params).fetchone()

    def company(self, calcom, capacity=1, hooks=None):
        """A company with an account of its own at the stand-in."""
        number = next(self.numbers)
        name = f"account{number}"
        calcom.account(name, webhook_secret=SECRET, webhook_target=hooks)
        calcom.event_type(name, 5000 + number, length=30, seats=capacity)
        self.sql(f"SELECT tenantcall.set_credential('{name}', '{name}', '{calcom.url}')")
        return Company(self, name, 5000 + number, capacity)

    def accepts(self):
        """Does the server take connections?"""
        return self.cluster.psql("-c", "SELECT 1", dbname=DATABASE).returncode == 0

    def worker(self):
        """Pid of the worker; None if there is none, or the server notices just now that a process was killed."""
        with contextlib.suppress(pgserver.Failure):
            return int(self.sql("SELECT pid FROM pg_stat_activity "
                                f"WHERE backend_type = 'tenantcall http worker' AND datname = '{DATABASE}'") or 0) or None
        return None

    def wait_for_worker(self):
        return self.cluster.wait_until(lambda: self.accepts() and self.worker(), "an HTTP worker")

    def settings(self, **changes):
        self.cluster.reload(**{f"tenantcall.{name}": value for name, value in changes.items()})


@pytest.fixture(scope="module")
def stage(workspace, install):
    server = pgserver.Cluster(workspace, install, "booking", CONF).start()
    server.create_template()
    server.create_database(DATABASE)
    stage = Stage(server)
    stage.wait_for_worker()
    stage.sql(f"SELECT tenantcall.set_webhook_key('calcom', 'k1', '{SECRET}');"
              f"CREATE ROLE {GATEWAY} LOGIN; SELECT tenantcall.grant_gateway('{GATEWAY}')")
    yield stage
    server.discard()


def made_once(calcom, company, appointment):
    """Is the booking there once, and known by its uid?"""
    key = company.key(appointment)
    status, uid, _ = company.result(appointment)
    assert status == "confirmed"
    assert [b["uid"] for b in calcom.bookings() if b["metadata"].get("tenantcall") == key] == [uid]
    assert calcom.made("tenantcall", key) == 1 and not calcom.twice_made("tenantcall")


def test_book_cancel_move(stage, calcom):
    """The usual way, with the chain of uids."""
    company = stage.company(calcom)
    first = company.book()
    status, uid, reason = company.result(first)
    assert (status, reason) == ("confirmed", None)
    made_once(calcom, company, first)
    booking, = calcom.bookings()
    assert (booking["uid"], booking["status"], booking["email"]) == (uid, "accepted", "anna@example.com")
    # a snapshot from before the answer sees the answer, too
    second = company.book()
    with stage.connect(autocommit=False, role=GATEWAY) as conn:
        conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        conn.execute("SELECT tenantcall.enter(%s)", (company.id,))
        row = conn.execute("SELECT * FROM tenantcall.booking_result(%s, %s)", (second, WAIT)).fetchone()
        assert row[0] == "confirmed"
    # moved: a new uid, and the old appointment gives way
    hold = company.hold()
    third, = company.one("SELECT tenantcall.reschedule_booking(%s, %s)", first, hold)
    status, new_uid, _ = company.result(third)
    assert status == "confirmed" and new_uid != uid
    assert company.result(first)[:2] == ("rescheduled", uid)
    assert (company.hold_state(first), company.hold_state(third)) == ("released", "booked")
    assert [b["rescheduled_from"] for b in calcom.bookings(uid=new_uid)] == [uid]
    with pytest.raises(psycopg.Error) as raised:
        company.one("SELECT tenantcall.cancel_booking(%s)", first)
    assert raised.value.sqlstate == "PT409" and str(third) in raised.value.diag.message_detail
    # cancelled
    assert company.one("SELECT tenantcall.cancel_booking(%s, 'ill')", third) == ("cancelling",)
    assert company.result(third) == ("cancelled", new_uid, "ill")
    assert calcom.bookings(uid=new_uid)[0]["status"] == "cancelled"
    assert company.hold_state(third) == "released"
    assert stage.one("SELECT count(*) FROM tenantcall.outbox_due WHERE company_id = %s", company.id) == (0,)
    assert company.one("SELECT count(*) FROM telephony.outbox WHERE request IS NOT NULL") == (0,)


@pytest.mark.parametrize("fault", [
    {"fault": "drop"}, {"fault": "hang"}, {"fault": "refuse"}, {"fault": "close"}, {"fault": "reset"},
    {"fault": "truncated"}, {"fault": "status", "code": 500}, {"fault": "status", "code": 502, "body": "bad"},
    {"fault": "not_json"}, {"fault": "wrong_json"}, {"fault": "late", "seconds": 2.5},
    {"fault": "rate_limited", "style": "retry_after", "seconds": 1},
    {"fault": "drop", "times": 3}], ids=lambda f: "-".join(map(str, f.values())))
def test_faults(stage, calcom, fault):
    """Whatever becomes of the request, the booking is made once, though there is room for two."""
    company = stage.company(calcom, capacity=3)
    rule = calcom.fault(path="/v2/bookings", method="POST", **fault)
    appointment = company.book()
    made_once(calcom, company, appointment)
    assert rule.met >= 1


def test_refused(stage, calcom):
    """The calendar's no is final, and readable; the slot is free again."""
    company = stage.company(calcom)
    at = company.slot()
    calcom.book_elsewhere(company.account, company.event_type, at.isoformat())
    appointment = company.book(at)
    status, uid, reason = company.result(appointment)
    assert (status, uid) == ("refused", None) and "already has booking" in reason
    assert company.hold_state(appointment) == "released"
    assert company.orders(appointment) == "create refused"
    company.hold(at)
    # a move that is refused leaves the booking as it is
    kept = company.book()
    assert company.result(kept)[0] == "confirmed"
    at = company.slot()
    calcom.book_elsewhere(company.account, company.event_type, at.isoformat())
    moved, = company.one("SELECT tenantcall.reschedule_booking(%s, %s)", kept, company.hold(at))
    assert company.result(moved)[0] == "refused"
    assert company.result(kept)[0] == "confirmed" and company.hold_state(kept) == "booked"


@pytest.mark.parametrize("kind", ["cancel", "reschedule"])
@pytest.mark.parametrize("fault", ["drop", "hang", "reset"])
def test_faults_later(stage, calcom, kind, fault):
    """Cancelling and moving survive lost answers as well."""
    company = stage.company(calcom)
    appointment = company.book()
    status, uid, _ = company.result(appointment)
    assert status == "confirmed"
    calcom.fault(fault, path=f"/v2/bookings/{uid}/{kind}", method="POST")
    if kind == "cancel":
        company.one("SELECT tenantcall.cancel_booking(%s)", appointment)
        assert company.result(appointment)[0] == "cancelled"
        assert calcom.bookings(uid=uid)[0]["status"] == "cancelled"
    else:
        moved, = company.one("SELECT tenantcall.reschedule_booking(%s, %s)", appointment, company.hold())
        status, new_uid, _ = company.result(moved)
        assert status == "confirmed"
        assert [b["uid"] for b in calcom.bookings(rescheduled_from=uid)] == [new_uid]


def claim_by_hand(stage, company, appointment):
    """Leaves an order as a worker does that is killed between claiming and sending it."""
    stage.sql(f"BEGIN; SELECT tenantcall.enter({company.id});"
              "UPDATE telephony.outbox SET state = 'sending', attempt = 1, sent_at = clock_timestamp() "
              f"WHERE appointment_id = {appointment}; COMMIT;"
              "UPDATE tenantcall.outbox_due SET state = 'sending', attempt = 1, due_at = clock_timestamp() "
              f"WHERE company_id = {company.id}")


@pytest.mark.parametrize("blow", ["worker", "server"])
@pytest.mark.parametrize("step", ["before sending", "while sending", "sent, not answered", "not recorded"])
def test_crash(stage, calcom, step, blow):
    """The worker killed, or the server crashed, at each step: nothing is lost, nothing made twice."""
    company = stage.company(calcom, capacity=3)
    stage.settings(outbox_settle="7 s" if step == "sent, not answered" else "3 s")
    stage.wait_for_worker()
    if step == "before sending":
        stage.sql("SELECT tenantcall.pause_outbox()")
        appointment = company.book()
        claim_by_hand(stage, company, appointment)
    else:
        fault = {"while sending": {"fault": "slow", "seconds": 30},
                 # the calendar takes longer than the lease lasts: not there yet is not never
                 "sent, not answered": {"fault": "late", "seconds": 5},
                 "not recorded": {"fault": "trickle", "seconds": 1}}[step]
        calcom.fault(path="/v2/bookings", method="POST", **fault)
        appointment = company.book()
        stage.cluster.wait_until(lambda: calcom.count("/v2/bookings", "POST") > 0, "the request")
    if step == "not recorded":
        stage.cluster.wait_until(calcom.bookings, "the booking")
    if blow == "worker":
        os.kill(stage.wait_for_worker(), signal.SIGKILL)
        stage.cluster.wait_until(stage.accepts, "the server")
    else:
        stage.cluster.stop("immediate")
        stage.cluster.start()
    stage.wait_for_worker()
    if step == "before sending":
        stage.sql("SELECT tenantcall.resume_outbox()")
    made_once(calcom, company, appointment)
    assert company.orders(appointment) == "create done"


def test_races(stage, calcom):
    """Forty callers want one slot of three seats: three get one, the others are told at once."""
    company = stage.company(calcom, capacity=3)
    at = company.slot()
    start = threading.Barrier(40)
    results = queue.Queue()

    def want():
        with stage.connect(autocommit=False) as conn:
            conn.execute("SELECT tenantcall.enter(%s, %s)", (company.id, company.branch))
            start.wait()
            try:
                conn.execute("SELECT tenantcall.hold_slot(%s, %s, NULL)", (company.service, at))
                conn.commit()
                results.put("held")
            except psycopg.Error as error:
                results.put(error.sqlstate)

    threads = [threading.Thread(target=want) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    got = sorted(results.get() for _ in range(40))
    assert got == ["PT409"] * 37 + ["held"] * 3
    assert company.one("SELECT array_agg(seat ORDER BY seat) FROM telephony.slot_holds "
                       "WHERE state = 'held'") == ([1, 2, 3],)


def test_deadlock_of_holds(stage, calcom):
    """Two sessions that want each other's slots: one of them is told, and none waits for long."""
    company = stage.company(calcom)
    one, other = company.slot(), company.slot()
    first, second = stage.connect(autocommit=False), stage.connect(autocommit=False)
    hold = "SELECT tenantcall.hold_slot(%s, %s, NULL)"
    later = datetime.timedelta(minutes=10)  # overlaps, and is another slot
    for conn, at in ((first, one), (second, other)):
        conn.execute("SELECT tenantcall.enter(%s, %s)", (company.id, company.branch))
        conn.execute(hold, (company.service, at))
    errors = []

    def want(conn, at):
        try:
            conn.execute(hold, (company.service, at + later))
        except psycopg.Error as error:
            errors.append(error.sqlstate)
            conn.rollback()

    threads = [threading.Thread(target=want, args=pair) for pair in ((first, other), (second, one))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors and set(errors) == {"PT409"}


def test_move_of_what_is_gone(stage, calcom):
    """What became of a move cannot be asked once the booking that was to be moved has no uid."""
    company, worker = stage.company(calcom), stage.wait_for_worker()
    first = company.book()
    uid = company.result(first)[1]
    met = calcom.fault("hang", path=f"/v2/bookings/{uid}/reschedule", method="POST")
    second, = company.one("SELECT tenantcall.reschedule_booking(%s, %s)", first, company.hold())
    stage.cluster.wait_until(lambda: met.met == 1, "the request")
    stage.sql(f"BEGIN; SELECT tenantcall.enter({company.id}); UPDATE telephony.appointments "
              f"SET uid = NULL WHERE appointment_id = {first}; COMMIT")
    stage.cluster.wait_until(lambda: company.orders(second) == "reschedule dead", "the end of it")
    assert company.result(second, "0")[0] == "unknown"
    assert stage.worker() == worker  # a crash would have taken it along


def test_cancel_while_sending(stage, calcom):
    """A cancellation waits for the order before it, and follows."""
    company = stage.company(calcom)
    calcom.fault("slow", seconds=1, path="/v2/bookings", method="POST")
    appointment = company.book()
    stage.cluster.wait_until(lambda: calcom.count("/v2/bookings", "POST") > 0, "the request")
    assert company.one("SELECT tenantcall.cancel_booking(%s, 'no')", appointment) == ("cancelling",)
    assert company.orders(appointment) in ("create sending, cancel waiting", "create done, cancel queued")
    status, uid, reason = company.result(appointment)
    assert (status, reason) == ("cancelled", "no")
    assert [b["status"] for b in calcom.bookings()] == ["cancelled"] and calcom.bookings()[0]["uid"] == uid


def test_wait_is_cancelled(stage, calcom):
    """Who waits for an answer can be cancelled, and is woken by the commit, not by looking often."""
    company = stage.company(calcom)
    calcom.fault("slow", seconds=1, path="/v2/bookings", method="POST")
    appointment = company.book()
    with stage.connect(autocommit=False) as conn:
        conn.execute("SELECT tenantcall.enter(%s)", (company.id,))
        conn.execute("SET LOCAL statement_timeout = '100 ms'")
        with pytest.raises(psycopg.errors.QueryCanceled):
            conn.execute("SELECT * FROM tenantcall.booking_result(%s, '30 s')", (appointment,))
    assert company.result(appointment, "0")[0] in ("pending", "confirmed")
    assert company.result(appointment)[0] == "confirmed"


def test_pause(stage, calcom):
    """Paused, nothing is sent; resumed, all of it."""
    company = stage.company(calcom)
    stage.sql("SELECT tenantcall.pause_outbox()")
    appointment = company.book()
    probe = "SELECT status FROM tenantcall.check_credential(%s)"
    for _ in range(3):  # the worker has taken a turn since
        assert stage.one(probe, company.account) == (200,)
    assert calcom.count("/v2/bookings", "POST") == 0
    assert company.result(appointment, "0")[0] == "pending"
    stage.sql("SELECT tenantcall.resume_outbox()")
    made_once(calcom, company, appointment)
    # also what the worker has claimed already, and what waits for its turn
    stage.settings(http_credential_requests=1)
    rule = calcom.fault("slow", seconds=1, path="/v2/bookings", method="POST")
    more = [company.book() for _ in range(5)]
    stage.cluster.wait_until(lambda: rule.met == 1 and stage.one(
        "SELECT sending FROM tenantcall.stat_outbox WHERE company_id = %s", company.id) == (5,), "the claims")
    stage.sql("SELECT tenantcall.pause_outbox()")
    stage.cluster.wait_until(lambda: stage.one(
        "SELECT sending FROM tenantcall.stat_outbox WHERE company_id = %s", company.id)[0] == 0, "the end of the first")
    assert calcom.count("/v2/bookings", "POST") == 2
    stage.settings(http_credential_requests=16)
    stage.sql("SELECT tenantcall.resume_outbox()")
    for appointment in more:
        made_once(calcom, company, appointment)


def test_time_goes_on(stage, calcom):
    """now() in the worker is that of the transaction: each order is recorded after it was given."""
    company = stage.company(calcom)
    stage.sql("CREATE TABLE public.recorded (outbox_id bigint, at timestamptz);"
              "CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS "
              "$$ BEGIN INSERT INTO public.recorded VALUES (NEW.outbox_id, now()); RETURN NEW; END $$;"
              "CREATE TRIGGER note AFTER UPDATE ON telephony.outbox FOR EACH ROW EXECUTE FUNCTION public.note()")
    try:
        for _ in range(2):
            given, = stage.one("SELECT clock_timestamp()")
            assert company.result(company.book())[0] == "confirmed"
            assert stage.one("SELECT count(*) > 0, min(at) > %s FROM public.recorded", given) == (True, True)
            stage.sql("TRUNCATE public.recorded")
    finally:
        stage.sql("DROP FUNCTION public.note() CASCADE; DROP TABLE public.recorded")


def test_dead_letter(stage, calcom):
    """What is given up is seen, and can be replayed."""
    stage.settings(outbox_max_attempts=2)
    company = stage.company(calcom)
    try:
        calcom.fault("status", code=500, path="/v2/bookings", times=None)
        appointment = company.book()
        stage.cluster.wait_until(lambda: stage.one(
            "SELECT dead FROM tenantcall.stat_outbox WHERE company_id = %s", company.id) == (1,), "the end")
        status, _, reason = company.result(appointment, "0")
        assert status == "unknown" and "given up" in reason
        assert company.orders(appointment) == "create dead"
    finally:
        stage.settings(outbox_max_attempts=20)
    calcom.clear_faults()
    assert stage.one("SELECT tenantcall.replay_outbox(%s)", company.id) == (1,)
    made_once(calcom, company, appointment)


def test_dead_cancellation_is_erased(stage, calcom):
    """A cancellation that was given up is sent again, also after the caller was forgotten."""
    company, worker = stage.company(calcom), stage.wait_for_worker()
    appointment = company.book()
    assert company.result(appointment)[0] == "confirmed"
    calcom.fault("status", path="/v2/bookings/", times=None)
    stage.settings(outbox_max_attempts=1)
    company.one("SELECT tenantcall.cancel_booking(%s, 'ill')", appointment)
    stage.cluster.wait_until(lambda: company.orders(appointment) == "create done, cancel dead", "its end")
    stage.settings(outbox_max_attempts=20)
    calcom.clear_faults()
    stage.sql(f"SELECT tenantcall.forget_caller('+4930123456', {company.id})")
    assert stage.one("SELECT tenantcall.replay_outbox(%s)", company.id) == (1,)
    assert company.result(appointment)[0] == "cancelled"
    assert [b["status"] for b in calcom.bookings()] == ["cancelled"]
    assert stage.worker() == worker  # a crash would have taken it along


def test_fair(stage, calcom):
    """A company with many orders does not hold up another's one."""
    many, single = stage.company(calcom), stage.company(calcom)
    calcom.fault("slow", seconds=0.2, key=many.account, path="/v2/bookings", method="POST", times=None)
    stage.sql("SELECT tenantcall.pause_outbox()")
    flood = [many.book() for _ in range(60)]
    one = single.book()
    stage.sql("SELECT tenantcall.resume_outbox()")
    assert single.result(one)[0] == "confirmed"
    assert stage.one("SELECT queued > 0 FROM tenantcall.stat_outbox WHERE company_id = %s", many.id) == (True,)
    for appointment in flood:
        assert many.result(appointment)[0] == "confirmed"
    assert not calcom.twice_made("tenantcall")


def ingest(stage, body, headers):
    return stage.one("SELECT outcome, reason FROM tenantcall.ingest_calcom(%s::bytea, %s)", body,
                     headers["X-Cal-Signature-256"])


@pytest.mark.parametrize("order", ["same", "reversed", "shuffled"])
def test_webhooks(stage, calcom, order):
    """What the calendar tells ends in the same state in any order and twice; our own echo is no news."""
    hooks = queue.Queue()
    company = stage.company(calcom, hooks=hooks)
    calcom.webhooks.hold()
    own = company.book()
    assert company.result(own)[0] == "confirmed"
    at, then = company.slot(), company.slot()
    elsewhere = calcom.book_elsewhere(company.account, company.event_type, at.isoformat())
    with calcom.lock:
        account = calcom.keys[company.account]
        moved = account.reschedule(elsewhere, then, "another time")
        old = account.booking(elsewhere)
        from calcom_webhook import message
        calcom.webhooks.send(account, message("BOOKING_RESCHEDULED", moved, calcom.now(), old))
    calcom.webhooks.release(order, copies=2)
    calcom.webhooks.wait()
    outcomes = []
    while not hooks.empty():
        outcomes.append(ingest(stage, *hooks.get()))
    assert {o for o, _ in outcomes} <= {"applied", "merged", "duplicate"}
    assert company.one("SELECT count(*) FROM telephony.outbox") == (1,)
    rows, = company.one(
        "SELECT jsonb_agg(jsonb_build_array(a.uid, a.status, h.state, f.uid) ORDER BY a.starts_at) "
        "FROM telephony.appointments AS a LEFT JOIN telephony.slot_holds AS h USING (hold_id) "
        "LEFT JOIN telephony.appointments AS f ON f.appointment_id = a.rescheduled_from WHERE a.elsewhere")
    assert [row[:2] for row in rows] == [[elsewhere, "rescheduled"], [moved.uid, "confirmed"]]
    assert rows[1][2:] == ["booked", elsewhere] and rows[0][2] in (None, "released")
    with pytest.raises(psycopg.Error) as raised:
        company.hold(then)
    assert raised.value.sqlstate == "PT409"
    company.hold(at)


@pytest.mark.parametrize("first", (0, 1))
def test_webhooks_at_once(stage, calcom, first):
    """A booking made elsewhere and cancelled: of two messages at once the second finds what the first has made."""
    hooks = queue.Queue()
    company = stage.company(calcom, hooks=hooks)
    uid = calcom.book_elsewhere(company.account, company.event_type, company.slot().isoformat())
    calcom.cancel_elsewhere(company.account, uid)
    calcom.webhooks.wait()
    told = [hooks.get(timeout=10) for _ in range(2)]
    with stage.connect(autocommit=False) as conn:
        body, headers = told[first]
        before = conn.execute("SELECT outcome FROM tenantcall.ingest_calcom(%s::bytea, %s)",
                              [body, headers["X-Cal-Signature-256"]]).fetchone()
        outcomes = []
        other = threading.Thread(target=lambda: outcomes.append(ingest(stage, *told[1 - first])))
        other.start()
        stage.cluster.wait_until(lambda: stage.sql("SELECT count(*) FROM pg_locks WHERE NOT granted") != "0", "the other to wait")
    other.join(60)
    assert before[0] == "applied" and outcomes[0][0] in ("applied", "merged")
    assert company.one("SELECT count(*), min(status) FROM telephony.appointments") == (1, "cancelled")
    assert company.one("SELECT count(*) FROM telephony.slot_holds WHERE state = 'booked'") == (0,)
