"""Calendars on a Citus cluster: one node speaks to them, for the companies of all nodes.

Skipped where Citus is not to be had.
"""
import contextlib
import datetime
import itertools
import os
import queue
import signal

import psycopg
import pytest

import citus_stage
import conftest
from world import World

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
WAIT = "40 s"
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

    def slots(self, day=datetime.date(2050, 1, 3), wait="10 s", node=None):
        """How many slots are free on a day."""
        return self.one("SELECT count(*) FROM tenantcall.available_slots(%s, %s, %s, "
                        "max_wait => %s)", self.service, day,
                        day + datetime.timedelta(days=1), wait, node=node)[0]


class Cloud:
    """The distributed database."""

    def __init__(self, stage, world):
        self.stage, self.world = stage, world
        self.accounts = itertools.count(1)

    def sql(self, statements, node=None):
        """Statements of the superuser, on the coordinator or another node."""
        return (node or self.stage.coordinator).sql(statements, dbname=NAME)

    def account(self, calcom, hooks=None):
        """A calendar account that the stand-in knows."""
        name = f"account{next(self.accounts)}"
        calcom.account(name, webhook_secret=SECRET, webhook_target=hooks)
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
        with self.world.connect("admin") as conn:
            return conn.execute("SELECT tenantcall.elect_node('127.0.0.1', %s)",
                                [node.port]).fetchone()[0]

    def start(self, node):
        """A node comes back; sessions that had connections to it are made anew."""
        node.start()
        self.world.admin.close()
        self.world.signer.close()
        self.world.admin, self.world.signer = (self.world.connect(kind)
                                               for kind in ("admin", "gateway"))

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


def test_another_node_is_elected(cloud, calcom):
    """From the election on the new node alone sends, and nothing is sent twice or forgotten."""
    account = cloud.account(calcom)
    first = Place(cloud, calcom, account, capacity=3)
    places = [first, Place(cloud, calcom, account, away_from=first, capacity=3)]
    one, other = cloud.stage.coordinator, cloud.stage.workers[0]
    calcom.fault("slow", seconds=1, path="/v2/bookings", method="POST", times=2)
    appointments = [(place, place.book()) for place in places]
    one.wait_until(lambda: calcom.count("/v2/bookings", "POST") > 0, "the request")
    appointments += [(place, place.book()) for place in places for _ in range(3)]
    generation = cloud.elect(other)
    assert cloud.elect(other) == generation
    with cloud.world.connect("admin") as conn, pytest.raises(psycopg.errors.UndefinedObject):
        conn.execute("SELECT tenantcall.elect_node('127.0.0.1', 1)")
    with other.connect(role=cloud.world.roles["admin"], dbname=NAME) as conn, \
            pytest.raises(psycopg.errors.FeatureNotSupported, match="on the coordinator"):
        conn.execute("SELECT tenantcall.elect_node('127.0.0.1', %s)", [other.port])
    appointments += [(place, place.book()) for place in places for _ in range(3)]
    cloud.wait_for("elected", other)
    cloud.wait_for("idle", one)
    sent = cloud.requests(one, account)
    for place, appointment in appointments:
        made_once(calcom, place, appointment)
    made_once(calcom, first, first.book())
    assert first.slots() == 16
    assert cloud.requests(one, account) == sent
    assert cloud.requests(other, account) >= 8
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="another node"):
        cloud.world.admin.execute("SELECT tenantcall.check_credential(%s)", [account])
    cloud.elect(one)
    cloud.wait_for("elected", one)
    made_once(calcom, first, first.book())


@pytest.mark.parametrize("step", ["sending", "not recorded"])
def test_the_elected_node_fails(cloud, calcom, step):
    """It is gone, and another one is elected: nothing is lost or made twice, also when it is back."""
    account = cloud.account(calcom)
    place = Place(cloud, calcom, account, capacity=3)
    home = place.node()
    elected = next(worker for worker in cloud.stage.workers if worker != home)
    cloud.elect(elected)
    cloud.wait_for("elected", elected)
    fault = {"sending": {"fault": "slow", "seconds": 30},
             "not recorded": {"fault": "trickle", "seconds": 1}}[step]
    calcom.fault(path="/v2/bookings", method="POST", **fault)
    appointment = place.book()
    elected.wait_until(lambda: calcom.count("/v2/bookings", "POST") > 0, "the request")
    if step == "not recorded":
        elected.wait_until(calcom.bookings, "the booking")
    elected.stop("immediate")
    assert cloud.elect(cloud.stage.coordinator) > 0
    made_once(calcom, place, appointment)
    made_once(calcom, place, place.book())
    cloud.start(elected)
    cloud.wait_for("idle", elected)
    assert cloud.duty(cloud.stage.coordinator) == "elected"
    assert cloud.requests(elected, account) == 0
    assert place.one("SELECT string_agg(state, ',') FROM telephony.outbox WHERE company_id = %s "
                     "AND appointment_id = %s", place.id, appointment) == ("done",)


def worker_of(cloud, node):
    """Pid of a node's worker."""
    return int(cloud.sql("SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
                         "AND backend_type = 'tenantcall http worker'", node))


def test_a_predecessor_that_was_cut_off(cloud, calcom):
    """A worker that sleeps while another node is elected does not send what it had taken before."""
    account = cloud.account(calcom)
    place = Place(cloud, calcom, account, capacity=3)
    one, other = cloud.stage.coordinator, cloud.stage.workers[0]
    cloud.elect(one)
    cloud.wait_for("elected", one)
    one.reload(**{"tenantcall.http_credential_requests": 1})
    calcom.fault("slow", seconds=1.5, path="/v2/bookings", method="POST", times=1)
    appointments = [place.book() for _ in range(3)]
    due = "SELECT count(*) FROM tenantcall.outbox_due WHERE state = 'sending'"
    one.wait_until(lambda: calcom.count("/v2/bookings", "POST") > 0 and cloud.sql(due) == "3",
                   "orders that were taken")
    pid = worker_of(cloud, one)
    os.kill(pid, signal.SIGSTOP)
    try:
        cloud.elect(other)
        cloud.wait_for("elected", other)
        assert cloud.duty(one) == "elected"
        for appointment in appointments:
            made_once(calcom, place, appointment)
    finally:
        os.kill(pid, signal.SIGCONT)
    cloud.wait_for("idle", one)
    for appointment in appointments:
        made_once(calcom, place, appointment)
    one.reload(**{"tenantcall.http_credential_requests": 16})


def test_a_node_fails_before_it_tells(cloud, calcom):
    """What changed on a node that crashes is not taken for unchanged by the elected one."""
    cloud.elect(cloud.stage.coordinator)
    cloud.wait_for("elected", cloud.stage.coordinator)
    place = Place(cloud, calcom, cloud.account(calcom))
    home = place.node()
    assert place.slots() == place.slots() == 16
    asked = calcom.count("/v2/slots")
    pid = worker_of(cloud, home)
    os.kill(pid, signal.SIGSTOP)
    place.one("SELECT tenantcall.invalidate_slots(%s, '2050-01-01', '2050-02-01')",
              place.event_type, node=home)
    assert place.slots() == 16 and calcom.count("/v2/slots") == asked
    os.kill(pid, signal.SIGKILL)

    def asked_again():
        with contextlib.suppress(psycopg.OperationalError):
            place.slots()
        return calcom.count("/v2/slots") > asked

    home.wait_until(asked_again, "another look at the calendar")


def test_orders_go_to_the_elected_node_alone(cloud, calcom):
    """A node that is not elected any more, or a copy of the one that is, gets no orders."""
    account = cloud.account(calcom)
    place = Place(cloud, calcom, account)
    cloud.world.admin.execute("SELECT tenantcall.pause_outbox()")
    appointment = place.book()
    generation, where = cloud.sql("SELECT generation, place FROM tenantcall.elected_nodes",
                                  place.node()).split("|")
    for node in cloud.stage.nodes:
        assert cloud.sql("SELECT sum(queued) FROM tenantcall.stat_outbox WHERE paused", node) == "1"
    claim = ("BEGIN; DELETE FROM tenantcall.outbox_pause; SELECT count(*) FROM "
             "tenantcall.claim_orders(0, {}, {}, 8, '{{}}', 10, 10); ROLLBACK")
    assert place.result(appointment, "0")[0] == "pending"
    for asked, taken in (((int(generation) - 1, where), "0"), ((generation, 4711), "0"),
                         ((generation, where), "1")):
        assert cloud.sql(claim.format(*asked), place.node()) == taken
    cloud.world.admin.execute("SELECT tenantcall.resume_outbox()")
    made_once(calcom, place, appointment)


def test_quotas_are_of_the_cluster(cloud, calcom):
    """Requests for companies of different nodes come out of the account's one quota."""
    account = cloud.account(calcom)
    first = Place(cloud, calcom, account)
    second = Place(cloud, calcom, account, away_from=first)
    elected = next(node for node in cloud.stage.nodes if cloud.duty(node) == "elected")
    elected.reload(**{"tenantcall.http_quota": 12, "tenantcall.http_quota_burst": 4,
                      "tenantcall.http_quota_window": "2 s"})
    try:
        for number in range(12):
            day = datetime.date(2050, 2, 7) + datetime.timedelta(days=7 * number)
            assert [place.slots(day) for place in (first, second)] == [16, 16]
        assert cloud.requests(elected, account) == calcom.count("/v2/slots") == 24
        assert calcom.most_in_window(account, 2.0) <= 12
    finally:
        elected.reload(**{"tenantcall.http_quota": 0})


def test_credentials_are_of_the_cluster(cloud, calcom):
    """A key that is changed on one node counts on the elected one at once."""
    account = cloud.account(calcom)
    place = Place(cloud, calcom, account)
    elected = next(node for node in cloud.stage.nodes if cloud.duty(node) == "elected")
    assert place.slots() == 16
    check = f"SELECT reason FROM tenantcall.check_credential('{account}')"
    for key, reason in (("unknown", "denied"), (account, "ok")):
        cloud.sql(f"SELECT tenantcall.set_credential('{account}', '{key}', '{calcom.url}')",
                  place.node())
        assert cloud.sql(check, elected) == reason
        if reason == "denied":
            cloud.sql(f"SELECT tenantcall.set_breaker('{account}', 'closed')", elected)
    assert place.slots() == 16


def test_webhooks(cloud, calcom):
    """What the calendar tells goes to the company's node, and does away with old answers."""
    hooks = queue.Queue()
    account = cloud.account(calcom, hooks)
    first = Place(cloud, calcom, account)
    second = Place(cloud, calcom, account, away_from=first)
    gateway = cloud.world.connect("gateway")

    def ingest():
        body, headers = hooks.get(timeout=10)
        return gateway.execute(
            "SELECT outcome, company_id FROM tenantcall.ingest_calcom(%s::bytea, %s)",
            [body, headers["X-Cal-Signature-256"]]).fetchone()

    for place in (first, second):
        assert place.slots() == 16
        uid = calcom.book_elsewhere(account, place.event_type, place.slot().isoformat())
        assert ingest() == ("applied", place.id)
        assert place.one("SELECT status FROM telephony.appointments WHERE company_id = %s "
                         "AND uid = %s", place.id, uid) == ("confirmed",)
        assert place.slots() == 15
        calcom.cancel_elsewhere(account, uid)
        assert ingest() == ("applied", place.id)
        cloud.stage.coordinator.wait_until(lambda p=place: p.slots() == 16, "the slot")
        own = made_once(calcom, place, place.book())
        assert ingest()[1] == place.id
        calcom.cancel_elsewhere(account, own)
        assert ingest() == ("applied", place.id)
    with first.node().connect(role=cloud.world.roles["gateway"], dbname=NAME) as conn, \
            pytest.raises(psycopg.errors.FeatureNotSupported, match="on the coordinator"):
        conn.execute("SELECT tenantcall.ingest_calcom('x'::text, 'y')")


def test_orders_move_with_their_company(cloud, calcom):
    """What waits to be sent moves with the shards, and so does what is under way."""
    account = cloud.account(calcom)
    place = Place(cloud, calcom, account)
    source = place.port()
    target = next(node.port for node in cloud.stage.workers if node.port != source)
    done = made_once(calcom, place, place.book())
    calcom.fault("slow", seconds=1, path="/v2/bookings", method="POST", times=1)
    appointments = [place.book()]
    cloud.stage.coordinator.wait_until(lambda: calcom.count("/v2/bookings", "POST") > 1, "it")
    cloud.world.admin.execute("SELECT tenantcall.pause_outbox()")
    appointments += [place.book() for _ in range(3)]
    cloud.sql("SET citus.enable_unsafe_triggers = on; SELECT citus_move_shard_placement("
              f"get_shard_id_for_distribution_column('telephony.calls', {place.id}), "
              f"'127.0.0.1', {source}, '127.0.0.1', {target}, 'block_writes')")
    assert place.port() == target
    cloud.world.admin.execute("SELECT tenantcall.resume_outbox()")
    for appointment in appointments:
        made_once(calcom, place, appointment)
    assert place.one("SELECT uid FROM telephony.appointments WHERE company_id = %s "
                     "ORDER BY appointment_id LIMIT 1", place.id) == (done,)
    assert place.slots() == 11


def test_health_of_the_elected_node(cloud):
    """health() says on every node when nobody speaks to calendars."""
    elected = next(node for node in cloud.stage.nodes if cloud.duty(node) == "elected")
    health = "SELECT count(*) FROM tenantcall.health() WHERE what LIKE '%calendars%'"
    for node in cloud.stage.nodes:
        assert cloud.sql(health, node) == "0"
        assert cloud.sql("SELECT node_port FROM tenantcall.elected_node()", node) \
            == str(elected.port)
    for node in cloud.stage.nodes:
        cloud.sql("UPDATE tenantcall.elected_nodes SET place = place + 1", node)
    cloud.wait_for("copy", elected)
    for node in cloud.stage.nodes:
        assert cloud.sql(health, node) == "1"
    cloud.elect(elected)
    cloud.wait_for("elected", elected)
