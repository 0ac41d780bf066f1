"""Servers that take over: a backup taken under load and put back, and a standby that is promoted.

What was acknowledged is there, nothing that leaks, limits hold as far as they can, and no booking
is made twice although nobody knows what the other server sent last.
"""
import json
import threading

import psycopg
import pytest

import pgserver
from conftest import Database
from full_house import CHECKED
from retell import Call, Gateway
from test_booking import CONF, DATABASE, GATEWAY, Stage
from world import KEY

NUMBER = "+4930111111"
QUOTA = 50


class Callers:
    """Calls that come in without end; what was acknowledged, and the WAL position by then."""

    def __init__(self, stage, threads=3):
        self.stage = stage
        self.stop = threading.Event()
        self.acknowledged = []
        self.admitted = 0
        self.errors = []
        self.guard = threading.Lock()
        self.threads = [threading.Thread(target=self._run, args=(n,)) for n in range(threads)]
        for thread in self.threads:
            thread.start()

    def _run(self, number):
        try:
            with self.stage.connect(role=GATEWAY) as conn:
                gateway = Gateway(conn, KEY)
                for n in range(1000000):
                    call = Call(f"load_{number}_{n}", to=NUMBER)
                    for event, body in (("call_started", call.started()), ("call_ended", call.ended())):
                        outcome = gateway.event(body)["outcome"]
                        assert outcome == "applied", outcome
                        lsn, = conn.execute("SELECT pg_current_wal_insert_lsn() - '0/0'").fetchone()
                        with self.guard:
                            self.acknowledged.append((call.call_id, event, int(lsn)))
                    taken, = conn.execute("SELECT allowed FROM tenantcall.take_for(1, 'export')").fetchone()
                    with self.guard:
                        self.admitted += taken
                    if self.stop.is_set():
                        return
        except psycopg.OperationalError:
            pass  # the server is gone
        except Exception as error:
            self.errors.append(error)

    def wait_for(self, more):
        """Waits until so many more were acknowledged."""
        goal = len(self.acknowledged) + more
        self.stage.cluster.wait_until(lambda: self.errors or len(self.acknowledged) >= goal, "events")
        assert not self.errors, self.errors[0]

    def end(self):
        """Stops; what was acknowledged."""
        self.stop.set()
        for thread in self.threads:
            thread.join(60)
        assert not self.errors, self.errors[0]
        return self.acknowledged


@pytest.fixture
def primary(workspace, install):
    """A server with a company that is called, whose worker is not running yet."""
    server = pgserver.Cluster(workspace, install, "primary", {
        **CONF, "tenantcall.worker_databases": None, "synchronous_commit": "on"}).start()
    server.create_template()
    server.create_database(DATABASE)
    stage = Stage(server)
    stage.sql(f"REVOKE TEMPORARY ON DATABASE {DATABASE} FROM PUBLIC; CREATE ROLE {GATEWAY} LOGIN;"
              f"SELECT tenantcall.grant_gateway('{GATEWAY}'), tenantcall.set_webhook_key('retell', 'k1', '{KEY}'),"
              f"tenantcall.set_rate_policy('export', {QUOTA}, '300 days')")
    yield stage
    server.stop("immediate")


def company_with_number(stage, calcom):
    """A company that has a calendar with room for doubles, and a phone."""
    company = stage.company(calcom, capacity=3)
    stage.sql(f"SELECT tenantcall.assign_number('{NUMBER}', {company.id}, {company.branch})")
    return company


def events_of(stage):
    """The events that a server has."""
    with stage.connect() as conn:
        return set(conn.execute("SELECT c.provider_call_id, e.event FROM telephony.call_events AS e "
                                "JOIN telephony.calls AS c USING (company_id, call_id)").fetchall())


def clean(stage):
    """Does check_isolation() find nothing?"""
    with stage.connect() as conn:
        return [row for row in conn.execute(CHECKED).fetchall() if row[0] != "info"] == []


def admitted(stage, times):
    """How many of so many requests are admitted."""
    with stage.connect() as conn:
        return conn.execute("SELECT count(*) FROM generate_series(1, %s) AS g, "
                            "LATERAL tenantcall.take_for(1 + 0 * g, 'export') WHERE allowed", [times]).fetchone()[0]


def on(company, stage):
    """The same company, on another server."""
    company.stage = stage
    return company


def orders_done(stage):
    """Waits until nothing is left to be sent."""
    stage.wait_for_worker()
    stage.cluster.wait_until(lambda: stage.sql("SELECT count(*) FROM tenantcall.outbox_due") == "0", "the orders")


@pytest.mark.limit(180)
def test_backup_under_load(primary, workspace, install, calcom):
    """pg_basebackup -X stream while calls come in, started as a server: every event that was
    acknowledged before the backup's end is there; an order that was sent since is not sent again."""
    company = company_with_number(primary, calcom)
    booked = [company.book() for _ in range(3)]
    callers = Callers(primary)
    callers.wait_for(100)
    backup = pgserver.Cluster(workspace, install, "backup", primary.cluster.conf, init=False)
    try:
        primary.cluster.base_backup(backup)
        callers.wait_for(50)
        acknowledged = callers.end()
        ranges = json.loads((backup.data / "backup_manifest").read_text())["WAL-Ranges"]
        end = max(int(high, 16) << 32 | int(low, 16) for high, low in (r["End-LSN"].split("/") for r in ranges))
        within = {(call, event) for call, event, lsn in acknowledged if lsn <= end}
        # the original goes on for a while, and sends
        primary.cluster.restart(**{"tenantcall.worker_databases": DATABASE})
        orders_done(primary)
        assert len(calcom.bookings()) == 3
        primary.cluster.stop("immediate")

        restored = Stage(backup.start(**{"tenantcall.worker_databases": DATABASE, "tenantcall.outbox_settle": "1 s"}))
        there = events_of(restored)
        print(f"{len(within)} events acknowledged within the backup, {len(acknowledged)} altogether, "
              f"{len(there)} restored; {callers.admitted} of {QUOTA} admitted before")
        assert len(within) >= 100 and within <= there
        assert clean(restored)
        assert callers.admitted <= QUOTA and admitted(restored, 2 * QUOTA) == QUOTA
        orders_done(restored)
        on(company, restored)
        assert [company.result(one)[0] for one in booked] == ["confirmed"] * 3
        assert len(calcom.bookings()) == 3 and not calcom.twice_made("tenantcall")
        assert "came with this copy" in backup.log()
        # a copy that stays where it is does not ask
        asked = calcom.count("/v2/bookings", "GET")
        backup.stop()
        backup.start(**{"tenantcall.worker_databases": None})
        company.book()
        backup.restart(**{"tenantcall.worker_databases": DATABASE})
        orders_done(restored)
        assert len(calcom.bookings()) == 4 and calcom.count("/v2/bookings", "GET") == asked
    finally:
        callers.stop.set()
        backup.stop("immediate")


@pytest.mark.limit(180)
def test_promotion(primary, calcom):
    """The primary is killed while calls come in: all that was acknowledged is on its synchronous
    standby, which sends nothing before it is promoted, and then what is left to be sent."""
    company = company_with_number(primary, calcom)
    early = [company.book() for _ in range(2)]
    callers = None
    copy = primary.cluster.standby(**{"tenantcall.worker_databases": DATABASE, "tenantcall.outbox_settle": "1 s",
                                      "cluster_name": "copy"})
    standby = Stage(copy)
    try:
        primary.cluster.reload(synchronous_standby_names="*")
        primary.cluster.wait_until(lambda: primary.sql("SELECT sync_state FROM pg_stat_replication") == "sync", "the standby")
        assert admitted(standby, 20) == 20
        callers = Callers(primary)
        callers.wait_for(100)
        late = [company.book() for _ in range(2)]
        primary.cluster.wait_for_replay(copy)
        assert standby.worker() is None and calcom.count("/v2/bookings") == 0
        callers.wait_for(100)
        primary.cluster.kill9()
        acknowledged = {(call, event) for call, event, _ in callers.end()}
        assert standby.worker() is None
        # what it had sent in its last moments: the calendar has it, the standby has not heard
        sent = book_as_sent(calcom, standby, company, early[0])
        copy.promote()
        orders_done(standby)
        there = events_of(standby)
        print(f"{len(acknowledged)} events acknowledged, {len(there)} on the promoted server; "
              f"{callers.admitted} of {QUOTA} admitted before")
        assert acknowledged <= there
        assert clean(standby)
        assert admitted(standby, 2 * QUOTA) == QUOTA - 20  # it goes on where it was as a standby
        on(company, standby)
        assert [company.result(one)[0] for one in early + late] == ["confirmed"] * 4
        assert company.result(early[0])[1] == sent
        assert len(calcom.bookings()) == 4 and not calcom.twice_made("tenantcall")
        with standby.connect(role=GATEWAY) as conn:
            assert Gateway(conn, KEY).event(Call("after", to=NUMBER).started())["outcome"] == "applied"
    finally:
        if callers is not None:
            callers.stop.set()
        copy.stop("immediate")


def book_as_sent(calcom, stage, company, appointment):
    """Makes the booking at the calendar as the worker would; its uid."""
    import urllib.request
    body, = stage.one("SELECT request::text FROM telephony.outbox WHERE appointment_id = %s", appointment)
    request = urllib.request.Request(calcom.url + "/v2/bookings", body.encode(), {
        "Authorization": f"Bearer {company.account}", "Content-Type": "application/json",
        "cal-api-version": "2024-08-13"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["data"]["uid"]
