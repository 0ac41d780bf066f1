"""health(): bookings, leases, upkeep and the like; each incident is staged, found, and mended.

As in test_health.py, on a server whose clock can be set ahead: what must last for minutes does.
"""
import threading

import psycopg
import pytest

import pgserver
from calcom_standin import CalcomStandIn
from desk import DATABASE, monday
from http_stage import Preload
from retell import Call, sign
from ward import Ward, recent

SECOND = "front desk"  # a database without a worker
CUSTOMER = '{"name": "Anna", "phone": "+4930123456", "email": "anna@example.com"}'
BREAK = """CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'the disk is gone'; END $$;
           CREATE TRIGGER refuse BEFORE DELETE ON telephony.call_leases FOR EACH ROW EXECUTE FUNCTION public.refuse()"""
LEASES = "INSERT INTO telephony.call_leases (holder, direction, acquired_at, seen_at) " \
         "SELECT 'old ' || n, 'outbound', now() - interval '1 day', now() - interval '1 day' FROM generate_series(1, %s) AS n"


class Shop:
    """A company with a service on a calendar account of its own, where one can book."""

    def __init__(self, ward, name):
        self.ward, self.account = ward, name
        ward.credential(name)
        self.company = ward.company(name, name, Mitte=None)
        self.service = ward.service(self.company, "Haircut", 500 + self.company.id)

    def book(self):
        """Books next Monday at nine."""
        with self.ward.connect("gateway") as conn, conn.transaction():
            conn.execute("SELECT tenantcall.enter(%s, %s)", [self.company.id, self.company.branches["Mitte"]])
            return conn.execute("SELECT tenantcall.book(tenantcall.hold_slot(%s, %s::timestamptz + interval '9 hours', NULL), %s)",
                                [self.service, monday(), CUSTOMER]).fetchone()[0]

    def wait_for_booking(self):
        """Waits until the calendar has the booking."""
        self.ward.cluster.wait_until(
            lambda: any(b["event_type_id"] == 500 + self.company.id for b in self.ward.calcom.bookings()), "the booking")

    def due(self, state):
        """Is its one order in that state?"""
        return self.ward.db.sql(f"SELECT state FROM tenantcall.outbox_due WHERE company_id = {self.company.id}") == state

    def turned_away(self):
        """Is its one order waiting after an attempt that was not sent?"""
        return self.ward.db.sql("SELECT count(*) FROM telephony.outbox WHERE state = 'queued' AND error = 'breaker_open' "
                                f"AND company_id = {self.company.id}") == "1"


class Later:
    """The server's clock is ahead by some seconds."""

    def __init__(self, ward, seconds):
        self.ward, self.seconds = ward, seconds

    def __enter__(self):
        self.ward.preload.set_clock(self.seconds)

    def __exit__(self, *_):
        self.ward.preload.set_clock(0)


@pytest.fixture(scope="module", name="ward")
def make_ward(workspace, install, certificates):
    """One server for all incidents, with a calendar."""
    preload = Preload(workspace)
    with CalcomStandIn(tls=certificates) as calcom:
        with preload:
            cluster = pgserver.Cluster(workspace, install, "findings", {
                "tenantcall.worker_databases": DATABASE, "tenantcall.http_local_hosts": "127.0.0.1",
                "tenantcall.http_breaker_failures": 1000, "tenantcall.http_poll_interval": "1 s",
                "tenantcall.outbox_settle": "1 s"}).start()
        cluster.create_template()
        ward = Ward(cluster, calcom)
        ward.preload = preload
        yield ward
        cluster.stop("immediate")
        assert calcom.errors == []


def clean(ward):
    """Waits until nothing is wrong any more: the worker needs a moment."""
    try:
        ward.cluster.wait_until(lambda: ward.wrong() == [], "nothing to be wrong")
    except pgserver.Failure as failure:
        raise AssertionError(ward.health()) from failure


def test_out_of_requests(ward):
    """The calendar admits no more requests for a while."""
    shop = Shop(ward, "busy")
    ward.calcom.fault("rate_limited", style="reset_seconds", seconds=10, times=None)
    with pytest.raises(psycopg.Error):
        ward.slots(shop.company, shop.service)
    what, since, remedy = ward.finding("has no requests left", "warning")
    assert what.startswith("calendar account busy ") and "1 were answered with 429" in what and recent(since)
    ward.db.sql(remedy.split(": ")[1])
    assert ward.db.sql("SELECT count(*) FROM pg_file_settings WHERE name = 'tenantcall.slot_ttl' AND error IS NULL") == "1"
    ward.db.sql("ALTER SYSTEM RESET tenantcall.slot_ttl")
    ward.calcom.clear_faults()
    clean(ward)  # it is over by itself
    assert ward.slots(shop.company, shop.service)


def set_attempts(ward, number):
    """Sets how often a booking is tried; the admin's session, which replays, has seen it then."""
    ward.cluster.reload(**{"tenantcall.outbox_max_attempts": number})
    ward.cluster.wait_until(lambda: ward.query("SHOW tenantcall.outbox_max_attempts") == [(str(number),)], "the setting")


def test_given_up(ward):
    """A booking that was tried too often."""
    shop = Shop(ward, "dead")
    set_attempts(ward, 1)
    ward.calcom.fault("status", code=500, path="/v2/bookings", times=None)
    shop.book()
    ward.cluster.wait_until(lambda: shop.due("dead"), "the end of it")
    what, since, remedy = ward.finding("were given up", "error")
    assert what == f"1 bookings of company {shop.company.id} were given up (calendar account dead)" and recent(since)
    assert ward.why(shop.company) == "1 bookings given up"
    ward.calcom.clear_faults()
    set_attempts(ward, 20)
    ward.follow(remedy)
    shop.wait_for_booking()
    clean(ward)


def test_old_order(ward):
    """A booking that waits for longer than five minutes, since its calendar is left alone."""
    shop = Shop(ward, "late")
    ward.admin.execute("SELECT tenantcall.set_breaker('late', 'open')")
    shop.book()
    ward.cluster.wait_until(shop.turned_away, "the first attempt")  # one under way now would be overdue then
    with Later(ward, 360):
        what, since, remedy = ward.finding("wait for the calendar", "error")
        assert what == f"1 bookings of company {shop.company.id} wait for the calendar (calendar account late)" and recent(since)
        assert ward.why(shop.company) == "1 bookings wait"
        assert ward.follow(remedy).fetchone()[:2] == (None, "breaker_open")
        ward.follow(ward.finding("calendar account late is down", "error")[2], which=1)
        shop.wait_for_booking()
        clean(ward)


def test_unknown(ward):
    """Whether the calendar took a booking cannot be found out for more than a quarter of an hour."""
    shop = Shop(ward, "vague")
    ward.calcom.fault("drop", path="/v2/bookings", method="POST")
    ward.calcom.fault("status", code=500, path="/v2/bookings", method="GET", times=None)
    shop.book()
    ward.cluster.wait_until(lambda: shop.due("reconcile"), "the question")
    assert ward.wrong() == []
    with Later(ward, 16 * 60):
        what, since, remedy = ward.finding("still not known", "warning")
        assert what.startswith(f"whether the calendar took 1 bookings of company {shop.company.id}") and recent(since)
        ward.calcom.clear_faults()
        assert ward.follow(remedy).fetchone()[:2] == (200, "ok")
        shop.wait_for_booking()
        clean(ward)


def test_no_credential(ward):
    """Companies of an account whose key was lost, such as by a restore of one table."""
    shop = Shop(ward, "nobodys").company
    ward.db.sql("DELETE FROM tenantcall.secrets WHERE name = 'nobodys'")
    what, _, remedy = ward.finding("is not stored", "error")
    assert what == f"credential nobodys is not stored, and 1 companies use it (company {shop.id})"
    ward.follow(remedy.replace("<key>", "cal_nobodys").replace("<url>", ward.calcom.url))
    assert ward.wrong() == []


def test_leases(ward):
    """All calls at once in use; and leases that nobody cleans up."""
    busy = ward.company("Busy", Mitte=None)
    ward.admin.execute("SELECT tenantcall.set_concurrency_policy(1, company_id => %s)", [busy.id])
    acquire = "SELECT outcome, reason FROM tenantcall.acquire_call_lease(%s, %s)"
    assert ward.signer.execute(acquire, [busy.id, "first"]).fetchall() == [("acquired", None)]
    assert ward.signer.execute(acquire, [busy.id, "second"]).fetchone()[0] == "refused"
    what, since, remedy = ward.finding("calls at once", "warning")
    assert what == f"all calls at once of company {busy.id} are in use (1)" and recent(since)
    assert "all of its 1 calls at once are in use" in ward.why(busy)
    ward.follow(remedy)
    assert ward.wrong() == []
    assert ward.signer.execute(acquire, [busy.id, "second"]).fetchone()[0] == "acquired"
    ward.signer.execute("SELECT tenantcall.release_call_lease(%s, 'second')", [busy.id])
    with ward.db.connect() as conn:
        conn.execute("SELECT tenantcall.enter(%s)", [busy.id])
        conn.execute(LEASES, [100])
    what, _, remedy = ward.finding("have expired and are still there", "info")
    assert what.startswith("100 leases")
    ward.follow(remedy)
    assert not any("expired" in row[1] for row in ward.health())


def test_partitions(ward):
    """Next month's rows have no place of their own."""
    name = ward.db.sql("SELECT p.partition FROM tenantcall.trail_partitions() AS p "
                       "WHERE p.from_time > now() ORDER BY p.from_time LIMIT 1")
    ward.db.sql(f"DROP TABLE telephony.{name}")
    what, _, remedy = ward.finding("partitions of the audit trail are missing", "warning")
    assert what.startswith("1 partitions") and f"({name[:name.index('_2')]})" in what
    ward.follow(remedy)
    assert ward.wrong() == []


def test_upkeep_fails(ward):
    """Maintenance that fails, and why; done again by hand, it is well."""
    slow = ward.company("Upkeep", Mitte=None)
    ward.db.sql(BREAK)
    with ward.db.connect() as conn:
        conn.execute("SELECT tenantcall.enter(%s)", [slow.id])
        conn.execute(LEASES, [1])
    ward.admin.execute("CALL tenantcall.run_maintenance('leases')")
    what, since, remedy = ward.finding("maintenance leases", "error")
    assert f"(1 times: company {slow.id}: the disk is gone" in what and recent(since)
    ward.db.sql("DROP FUNCTION public.refuse() CASCADE")
    ward.follow(remedy)
    assert ward.wrong() == []


def test_nobody_does_upkeep(ward):
    """Not said of a new database; after a day it is a warning, and gone when somebody has done it."""
    assert [row[0] for row in ward.health() if "Nobody" in row[1]] == ["info", "info"]
    with Later(ward, 2 * 86400):
        overdue = [row for row in ward.health() if "Nobody" in row[1] and row[0] == "warning"]
        assert overdue and all(row[3] == "SELECT * FROM tenantcall.schedule_maintenance()" for row in overdue)
        ward.admin.execute("CALL tenantcall.run_maintenance()")
        assert not any("Nobody" in row[1] for row in ward.health())


def test_locks(ward):
    """A session that sleeps on a lock which another one waits for."""
    acme = ward.company("Locked", Mitte=None)
    holder = ward.connect("gateway")
    outcome = []

    def lock(conn):
        """Enters, and takes the company's lock."""
        conn.execute("BEGIN")
        conn.execute("SELECT tenantcall.enter(%s)", [acme.id])
        outcome.append(conn.execute("SELECT tenantcall.company_lock('till')").fetchone())

    lock(holder)
    waiter = threading.Thread(target=lock, args=[ward.connect("gateway")], daemon=True)
    waiter.start()
    waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND waitstart IS NOT NULL"
    ward.cluster.wait_until(lambda: ward.db.sql(waits) == "1", "somebody to wait")
    assert ward.wrong() == []
    with Later(ward, 31):
        what, since, remedy = ward.finding("waiting for a lock", "warning")
        assert what == f"session {holder.info.backend_pid} ({ward.roles['gateway']}) keeps 1 others waiting for a lock" and recent(since)
        ward.db.sql(remedy)
        waiter.join(60)
        clean(ward)
    assert len(outcome) == 2


def test_forged_bodies(ward):
    """The platform signs with a key that is not known here."""
    ward.company("Signed", Mitte="+4930111121")
    gateway = ward.gateway()
    body = Call("forged", to="+4930111121").started()
    for _ in range(10):
        assert gateway.event(body, sign(body, "another key"))["outcome"] == "rejected"
    what, since, remedy = ward.finding("bodies were rejected", "warning")
    assert what == "10 bodies were rejected: kind event, forged" and since is not None
    ward.follow(remedy.replace("<name>", "k2").replace("<secret>", "another key"))
    assert ward.wrong() == []
    assert gateway.event(body, sign(body, "another key"))["outcome"] == "applied"


def test_unmapped_reason(ward):
    """The platform tells of an end that nobody has given a state yet."""
    ward.company("Ended", Mitte="+4930111122")
    gateway = ward.gateway()
    gateway.event(Call("ended", to="+4930111122").ended(disconnection_reason="fell_asleep"))
    what, _, remedy = ward.finding("mean no state yet", "info")
    assert what.endswith("fell_asleep (1 companies)")
    ward.follow(remedy.replace("<state>", "completed"))
    assert not any("no state yet" in row[1] for row in ward.health())


def test_protection(ward):
    """What somebody with a superuser's rights has switched off."""
    ward.db.sql("ALTER TABLE telephony.calls DISABLE ROW LEVEL SECURITY")
    what, _, remedy = ward.finding("is not protected as it was", "error")
    assert "telephony.calls" in what
    with ward.db.connect(autocommit=True) as conn:
        fixes = [row[-1] for row in conn.execute(remedy).fetchall() if row[0] == "error"]
        assert fixes
        for fix in fixes:
            conn.execute(fix)
    assert ward.wrong() == []
    ward.db.sql("ALTER TABLE telephony.calls DISABLE TRIGGER tenantcall_lifecycle")
    what, _, remedy = ward.finding("the lifecycle of table", "error")
    ward.db.sql(remedy)
    assert ward.wrong() == []


def test_test_mode(ward):
    """Settings that make entering too easy."""
    ward.db.sql("ALTER SYSTEM SET tenantcall.test_mode = on")
    ward.cluster.reload()
    ward.cluster.wait_until(lambda: ward.wrong() != [], "the setting")
    remedy = ward.finding("test mode is on", "error")[2]
    ward.db.sql(remedy.split(" -- ")[0])
    ward.cluster.reload()
    clean(ward)


def test_worker_gone(ward):
    """The worker ended, and cannot come back yet."""
    shop = Shop(ward, "left")
    ward.cluster.sql(f"ALTER DATABASE {DATABASE} ALLOW_CONNECTIONS false")
    ward.cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'tenantcall http worker'")
    try:
        ward.cluster.wait_until(lambda: ward.wrong() != [], "the worker's end")
        what, _, remedy = ward.finding("does not run", "error")
        assert what == "the HTTP worker of this database does not run: 0 bookings wait" and "started again by itself" in remedy
    finally:
        ward.cluster.sql(f"ALTER DATABASE {DATABASE} ALLOW_CONNECTIONS true")
    clean(ward)
    shop.book()
    shop.wait_for_booking()


def test_no_worker_wanted(ward):
    """Bookings in a database that no worker is to serve; after the remedy, both have one."""
    ward.cluster.create_database(SECOND)
    ward.calcom.account("cal_second")
    ward.calcom.event_type("cal_second", 900)
    with ward.cluster.connect(dbname=SECOND, autocommit=True) as conn:
        conn.execute("SELECT tenantcall.set_credential('second', 'cal_second', %s)", [ward.calcom.url])
        company, = conn.execute("SELECT tenantcall.create_company('Second', 'DE', 'Europe/Berlin')").fetchone()
        conn.execute("SELECT tenantcall.assign_credential(%s, 'second')", [company])
        with conn.transaction():
            conn.execute("SELECT tenantcall.enter(%s)", [company])
            branch, = conn.execute("INSERT INTO telephony.branches (name) VALUES ('b') RETURNING branch_id").fetchone()
            service, = conn.execute("INSERT INTO telephony.services (name, calcom_event_type_id) VALUES ('s', 900) "
                                    "RETURNING service_id").fetchone()
        with conn.transaction():
            conn.execute("SELECT tenantcall.enter(%s, %s)", [company, branch])
            conn.execute("SELECT tenantcall.book(tenantcall.hold_slot(%s, %s::timestamptz + interval '9 hours', NULL), %s)",
                         [service, monday(), CUSTOMER])
        found, = [row for row in conn.execute("SELECT severity, what, since, remedy FROM tenantcall.health()") if row[0] == "error"]
        with pytest.raises(psycopg.errors.InvalidParameterValue):
            conn.execute(f"ALTER SYSTEM SET tenantcall.worker_databases = '{DATABASE}, {SECOND}'")  # it needs quotes
        assert found[1] == "1 bookings wait, and no HTTP worker is to run in this database" and recent(found[2])
        conn.execute(found[3].split(" -- ")[0])
    ward.cluster.restart()
    ward.refresh()
    left = "SELECT count(*) FROM tenantcall.health() WHERE severity IN ('error', 'warning')"
    ward.cluster.wait_until(lambda: ward.cluster.sql(left, dbname=SECOND) == "0", "the second database's worker")
    ward.cluster.wait_until(lambda: any(b["event_type_id"] == 900 for b in ward.calcom.bookings()), "the booking")
    clean(ward)
