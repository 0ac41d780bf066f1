"""Calendars on a Citus cluster: one node speaks to them, for the companies of all nodes.

Skipped where Citus is not to be had.
"""
import datetime
import itertools
import threading

import psycopg
import pytest

import citus_stage
import conftest
from world import World, in_parallel

pytestmark = [
    pytest.mark.skipif(citus_stage.where()[0] is None, reason=citus_stage.where()[1] or ""),
    pytest.mark.limit(240),
]
NAME = "distributed"
SECRET = "whsec_of_test"
SETTINGS = {
    "worker_databases": NAME,
    "http_local_hosts": "127.0.0.1, localhost",
    "http_quota": 0,
    "http_breaker_failures": 1000,
    "http_poll_interval": "1 s",
    "outbox_timeout": "2 s",
    "outbox_settle": "3 s",
}
CUSTOMER = '{"name": "Anna", "phone": "+4930123456", "email": "anna@example.com"}'
WAIT = "10 s"
EVENT_TYPES = itertools.count(7001)


class Place:
    """A company with one branch and one service, on a calendar account."""

    def __init__(self, cloud, calcom, account, away_from=None, capacity=1):
        self.cloud, self.account = cloud, account
        while True:
            self.company = cloud.world.company("calendar", Mitte=None)
            self.id = self.company.id
            if away_from is None or self.port() != away_from.port():
                break
        self.event_type = next(EVENT_TYPES)
        calcom.event_type(account, self.event_type, length=30, seats=capacity)
        cloud.world.admin.execute("SELECT tenantcall.assign_credential(%s, %s)", [self.id, account])
        self.service = cloud.world.service(self.company, "s", calcom_event_type_id=self.event_type,
                                           capacity=capacity)
        self.hours = itertools.count()

    def port(self):
        """Port of the company's node."""
        return int(self.cloud.sql(f"SELECT node_port FROM tenantcall.company_node({self.id})"))

    def node(self):
        """The company's node."""
        return next(node for node in self.cloud.stage.nodes if node.port == self.port())

    def one(self, query, *params, node=None):
        """The row of a query of the app, on the coordinator or another node."""
        node = node or self.cloud.stage.coordinator
        with node.connect(role=self.cloud.world.roles["app"], dbname=NAME) as conn, \
                conn.transaction():
            conn.execute("SELECT tenantcall.enter_token(%s)",
                         [self.cloud.world.token(self.company, "Mitte")])
            cursor = conn.execute(query, params)
            return cursor.fetchone() if cursor.description else None

    def slot(self):
        """The start of a free slot: another one each time, on workdays from 9 to 17."""
        days, hour = divmod(next(self.hours), 8)
        weeks, day = divmod(days, 5)
        at = datetime.datetime(2050, 1, 3, 9, tzinfo=datetime.timezone.utc)  # a Monday
        return at + datetime.timedelta(weeks=weeks, days=day, hours=hour)

    def hold(self, at=None, node=None):
        """Holds a slot."""
        return self.one("SELECT tenantcall.hold_slot(%s, %s, NULL)", self.service, at or self.slot(),
                        node=node)[0]

    def book(self, at=None, node=None):
        """Holds and books; the appointment's id."""
        return self.one("SELECT tenantcall.book(%s, %s)", self.hold(at, node), CUSTOMER,
                        node=node)[0]

    def result(self, appointment, wait=WAIT, node=None):
        """What became of it."""
        return self.one("SELECT * FROM tenantcall.booking_result(%s, %s)", appointment, wait,
                        node=node)

    def key(self, appointment):
        """What the stand-in knows the booking by."""
        return self.one("SELECT idempotency_key FROM telephony.outbox WHERE company_id = %s "
                        "AND appointment_id = %s AND kind = 'create'", self.id, appointment)[0]

    def slots(self, day=datetime.date(2050, 1, 3), node=None):
        """How many slots are free on a day."""
        return self.one("SELECT count(*) FROM tenantcall.available_slots(%s, %s, %s, "
                        "max_wait => '10 s')", self.service, day,
                        day + datetime.timedelta(days=1), node=node)[0]


class Cloud:
    """The distributed database."""

    def __init__(self, stage, world):
        self.stage, self.world = stage, world
        self.accounts = itertools.count(1)

    def sql(self, statements, node=None):
        """Statements of the superuser, on the coordinator or another node."""
        return (node or self.stage.coordinator).sql(statements, dbname=NAME)

    def account(self, calcom):
        """A calendar account that the stand-in knows."""
        name = f"account{next(self.accounts)}"
        calcom.account(name, webhook_secret=SECRET)
        self.world.admin.execute("SELECT tenantcall.set_credential(%s, %s, %s)",
                                 [name, name, calcom.url])
        return name

    def duty(self, node):
        """What a node's worker does."""
        return self.sql("SELECT duty FROM tenantcall.elected_node()", node)

    def wait_for(self, duty, node):
        """Waits until a node's worker does this."""
        self.stage.coordinator.wait_until(lambda: self.duty(node) == duty, f"{duty} of {node.port}")

    def elect(self, node):
        """Has a node speak to calendars."""
        return self.world.admin.execute("SELECT tenantcall.elect_node('127.0.0.1', %s)",
                                        [node.port]).fetchone()[0]

    def requests(self, node, account):
        """How many requests of an account a node has sent."""
        return int(self.sql("SELECT coalesce(sum(requests), 0) FROM tenantcall.stat_http "
                            f"WHERE credential = '{account}'", node))


@pytest.fixture(scope="module", name="cloud")
def _cloud(workspace, install):
    """A cluster, whose coordinator is elected."""
    stage = citus_stage.Stage(workspace, install, **SETTINGS)
    stage.create_database(NAME)
    coordinator = conftest.Database(stage.coordinator, NAME)
    coordinator.sql("SELECT tenantcall.distribute(8)")

    def role(stem):
        coordinator.sql(f"CREATE ROLE calendar_{stem} LOGIN")
        return f"calendar_{stem}"

    world = World(coordinator, role)
    coordinator.sql("SELECT tenantcall.distribute_roles()")
    world.admin.execute("SELECT tenantcall.set_webhook_key('calcom', 'k1', %s)", [SECRET])
    cloud = Cloud(stage, world)
    cloud.wait_for("elected", stage.coordinator)
    for worker in stage.workers:
        cloud.wait_for("idle", worker)
    yield cloud
    for n in stage.nodes: open(f"/tmp/cclog_{n.port}", "w").write(n.log())  # DEBUG
    stage.stop()


def made_once(calcom, place, appointment, node=None):
    """Is the booking there once, and known by its uid?"""
    status, uid, reason = place.result(appointment, node=node)
    assert (status, reason) == ("confirmed", None)
    key = place.key(appointment)
    assert [b["uid"] for b in calcom.bookings() if b["metadata"].get("tenantcall") == key] == [uid]
    assert calcom.made("tenantcall", key) == 1 and not calcom.twice_made("tenantcall")
    return uid


def test_slots_and_bookings_of_any_node(cloud, calcom):
    """Asked and ordered on the coordinator, at home, and elsewhere; sent by the elected node."""
    account = cloud.account(calcom)
    first = Place(cloud, calcom, account)
    second = Place(cloud, calcom, account, away_from=first)
    nodes = [None, first.node(), second.node()]
    for place in (first, second):
        assert [place.slots(node=node) for node in nodes] == [16] * 3
        for node in nodes:
            made_once(calcom, place, place.book(node=node), node)
        assert [place.slots(node=node) for node in nodes] == [13] * 3
    appointment = first.book()
    uid = made_once(calcom, first, appointment)
    hold = first.hold()
    moved, = first.one("SELECT tenantcall.reschedule_booking(%s, %s)", appointment, hold)
    status, new_uid, _ = first.result(moved)
    assert status == "confirmed" and new_uid != uid
    assert first.one("SELECT tenantcall.cancel_booking(%s, 'ill')", moved) == ("cancelling",)
    assert first.result(moved)[:2] == ("cancelled", new_uid)
    assert cloud.sql("SELECT count(*) FROM tenantcall.outbox_due") == "0"
    assert [cloud.requests(worker, account) for worker in cloud.stage.workers] == [0, 0]
    assert cloud.requests(cloud.stage.coordinator, account) > 8
