"""Functions that are called on any node of a Citus cluster, and do their work on the company's.

Skipped where Citus is not to be had.
"""
import psycopg
import pytest

from retell import Call, sign
from test_citus_calendar import NAME, Place, _cloud, pytestmark  # noqa: F401: fixtures
from world import KEY

DAY = "'2050-01-03', '2050-01-04'"


@pytest.fixture(name="place")
def _place(cloud, calcom):
    """A company that is at home on a worker."""
    return Place(cloud, calcom, cloud.account(calcom))


@pytest.fixture(name="stranger")
def _stranger(cloud, calcom, place):
    """A company that is at home on the other one."""
    return Place(cloud, calcom, place.account, away_from=place)


def nodes(place):
    """The company's node, the coordinator, and a worker where the company is not."""
    home, coordinator = place.node(), place.cloud.stage.coordinator
    return [home, coordinator, next(node for node in place.cloud.stage.workers if node != home)]


def session(place, node, role, token=True):
    """A session on a node; an application's begins with a token."""
    conn = node.connect(role=place.cloud.world.roles[role], dbname=NAME, autocommit=True)
    if role == "app" and token:
        conn.execute("BEGIN")
        conn.execute("SELECT tenantcall.enter_token(%s)",
                     [place.cloud.world.token(place.company, "Mitte")])
    return conn


def asked(place, node, query, *params, role="app", token=True):
    """The rows of a query that is sent to a node, in a transaction of its own."""
    with session(place, node, role, token) as conn:
        return conn.execute(query, params).fetchall()


def error_of(call):
    """What is raised."""
    with pytest.raises(psycopg.Error) as error:
        call()
    return error.value


def test_one_bucket(cloud, place):
    """take() and its likes spend from the bucket of the company's node, whichever is asked."""
    cloud.world.admin.execute("SELECT tenantcall.set_rate_policy('spent', 9, '1 day', 9)")
    ways = [("app", "SELECT allowed, remaining FROM tenantcall.take('spent')"),
            ("app", "SELECT allowed, remaining FROM tenantcall.take_or_fail('spent')"),
            ("gateway", f"SELECT allowed, remaining FROM tenantcall.take_for({place.id}, 'spent')")]
    left = 9
    for role, query in ways:
        for node in nodes(place):
            left -= 1
            assert asked(place, node, query, role=role) == [(True, left)], query
            assert asked(place, node, "SELECT allowed, remaining FROM tenantcall.peek('spent')") \
                == [(left > 0, left)]
    for role, query in (ways[0], ways[2]):
        assert [asked(place, node, query, role=role) for node in nodes(place)] == [[(False, 0)]] * 3
    for node in nodes(place):
        error = error_of(lambda node=node: asked(place, node, ways[1][1]))
        assert (error.sqlstate, error.diag.message_primary) \
            == ("PT429", 'rate limit "spent" exceeded')
        assert "Remaining: 0 of 9. Retry after: " in error.diag.message_detail
        assert error.diag.message_hint == "Try again after that time."
    reset = f"SELECT tenantcall.reset_bucket('spent', {place.id})"
    for node in nodes(place):
        assert asked(place, node, reset, role="admin") == [(True,)]
        assert asked(place, node, reset, role="admin") == [(False,)]
        assert asked(place, node, ways[0][1]) == [(True, 8)]
    buckets = "SELECT remaining, denied FROM tenantcall.stat_rate_limits WHERE policy = 'spent'"
    shown = [asked(place, node, buckets) for node in nodes(place)]
    assert shown[0] and shown[0] == shown[1] == shown[2]


def test_refunds(cloud, place, stranger):
    """A ticket is good on any node, once, for its company alone."""
    cloud.world.admin.execute("SELECT tenantcall.set_rate_policy('lent', 3, '1 day', 3)")
    refund, left = "SELECT tenantcall.refund(%s)", "SELECT remaining FROM tenantcall.peek('lent')"
    take = {"app": "SELECT ticket FROM tenantcall.take('lent')",
            "gateway": f"SELECT ticket FROM tenantcall.take_for({place.id}, 'lent')"}
    for role, query in take.items():
        for node in nodes(place):
            for back in nodes(place):
                (ticket,), = asked(place, node, query, role=role)
                for who, token in ((stranger, True), (place, False)):
                    assert error_of(lambda w=who, e=token, t=ticket, n=back: asked(
                        w, n, refund, t, token=e)).sqlstate == "PT403"
                assert asked(place, back, refund, ticket, role=role) == [(True,)]
                assert asked(place, back, refund, ticket, role=role) == [(False,)]
                assert asked(place, back, left) == [(3,)]
                forged = ticket[:40] + bytes([ticket[40] ^ 1]) + ticket[41:]
                assert error_of(lambda t=forged, n=back, r=role: asked(
                    place, n, refund, t, role=r)).sqlstate == "PT403"
    for node in nodes(place):
        with session(place, node, "app") as conn:
            conn.execute("SELECT tenantcall.take('lent', refund_on_abort => true)")
            assert conn.execute(left).fetchone() == (2,)
            conn.execute("ROLLBACK")
        assert asked(place, node, left) == [(3,)]


def test_company_locks(place):
    """A company's lock is one, whichever node it is taken on, until the transaction ends."""
    for holder in nodes(place):
        with session(place, holder, "app") as conn:
            conn.execute("SELECT tenantcall.company_lock('till')")
            for node in nodes(place):
                assert asked(place, node, "SELECT tenantcall.try_company_lock('till')") == [(False,)]
                assert asked(place, node, "SELECT tenantcall.try_company_lock('other')") == [(True,)]
            conn.execute("ROLLBACK")
        for node in nodes(place):
            assert asked(place, node, "SELECT tenantcall.try_company_lock('till')") == [(True,)]


def test_call_leases(cloud, place, stranger):
    """How many calls a company has at once is counted on its node; calls are bound as others are."""
    cloud.world.admin.execute("SELECT tenantcall.set_concurrency_policy(2, company_id => %s)",
                              [place.id])
    acquire = f"SELECT outcome, reason, in_use FROM tenantcall.acquire_call_lease({place.id}, %s)"
    release = f"SELECT tenantcall.release_call_lease({place.id}, %s)"
    home, coordinator, other = nodes(place)
    for one, two, three in ((home, coordinator, other), (other, home, coordinator),
                            (coordinator, other, home)):
        assert asked(place, one, acquire, "a", role="gateway") == [("acquired", None, 1)]
        assert asked(place, two, acquire, "b", role="gateway") == [("acquired", None, 2)]
        assert asked(place, three, acquire, "a", role="gateway") == [("held", None, 2)]
        assert asked(place, three, acquire, "c", role="gateway") == [("refused", "max_calls", 2)]
        assert asked(place, two, release, "a", role="gateway") == [(True,)]
        assert asked(place, one, release, "b", role="admin") == [(True,)]
        assert asked(place, three, release, "b", role="gateway") == [(False,)]
    bind = "SELECT tenantcall.bind_call_lease(%s, 'd', 'leased')"
    for number, entered in enumerate((False, True)):
        with session(place, coordinator, "gateway") as conn, conn.transaction():
            if entered:
                conn.execute("SELECT tenantcall.enter(%s)", [place.id])
            assert conn.execute(acquire, ["d"]).fetchone()[0] == ("acquired", "held")[number]
            assert conn.execute(bind, [place.id]).fetchone() == (True,)
    assert error_of(lambda: asked(stranger, coordinator, bind, stranger.id, role="gateway")).sqlstate \
        == "PT409"
    for node in (home, other):
        assert error_of(lambda n=node: asked(place, n, bind, place.id, role="gateway")).sqlstate \
            == "0A000"
    gateway = cloud.world.gateway()
    cloud.world.assign(place.company, "Mitte", "+49305550001")
    call = Call("leased", to="+49305550001")
    assert gateway.event(call.started())["company_id"] == place.id
    assert asked(place, other, "SELECT in_use, unbound FROM tenantcall.stat_call_leases") == [(1, 0)]
    assert gateway.event(call.ended())["status"] == "completed"
    assert asked(place, other, "SELECT in_use, unbound FROM tenantcall.stat_call_leases") == [(0, 0)]


def test_deliveries_within_a_company(cloud, place):
    """A gateway that has entered a company delivers as one that has not."""
    gateway = cloud.world.gateway()
    number = "+49305550002"
    cloud.world.assign(place.company, "Mitte", number)
    call = Call("entered", to=number)
    with gateway.connection.transaction():
        gateway.connection.execute("SELECT tenantcall.enter(%s)", [place.id])
        assert gateway.event(call.started())["outcome"] == "applied"
    assert gateway.event(call.ended())["status"] == "completed"


def test_deliveries_past_the_coordinator(cloud, place):
    """What another node has sent before does not open the company's node to deliveries by hand."""
    body = Call("past", to="+49305550003").started()
    arguments = [place.id, "\\x" + body.hex(), sign(body, KEY)]
    by_hand = ("SELECT tenantcall.call_at_home(%s, NULL, 'tenantcall.ingest_retell(bytea,text,"
               "timestamptz)', ARRAY[%s, %s, now()::text])")
    for node in nodes(place):
        for before in ("SELECT 1", f"SELECT tenantcall.allow_for({place.id}, 'function_call')"):
            with session(place, node, "gateway") as conn:
                conn.execute("BEGIN")
                conn.execute(before)
                assert error_of(lambda c=conn: c.execute(by_hand, arguments)).sqlstate == "0A000"


def test_slots_and_holds(place):
    """Alternatives are the same on every node, and a hold may be released on any."""
    wanted = place.slot()
    free = f"SELECT starts_at FROM tenantcall.available_slots(%s, {DAY}, max_wait => '10 s')"
    alternatives = "SELECT starts_at FROM tenantcall.alternative_slots(%s, %s, 3, max_wait => '10 s')"
    for holder in nodes(place):
        hold = place.hold(wanted, node=holder)
        shown = [asked(place, node, alternatives, place.service, wanted) for node in nodes(place)]
        assert len(shown[0]) == 3 and shown[0] == shown[1] == shown[2]
        assert (wanted,) not in asked(place, holder, free, place.service)
        releaser = nodes(place)[(nodes(place).index(holder) + 1) % 3]
        asked(place, releaser, "SELECT tenantcall.release_hold(%s)", hold)
        assert (wanted,) in asked(place, holder, free, place.service)


def test_statistics(cloud, place):
    """A company sees its own numbers on every node, whatever is planned for the query."""
    number = "+49305550004"
    cloud.world.assign(place.company, "Mitte", number)
    assert cloud.world.gateway().event(Call("counted", to=number).started())["outcome"] == "applied"
    cloud.world.admin.execute("SELECT tenantcall.pause_outbox()")
    place.book()
    assert asked(place, nodes(place)[2], "SELECT deliveries, outbox_waiting FROM tenantcall.stat_companies") \
        == [(1, 1)]
    for query in ("SELECT company_id, calls_live, deliveries, rate_allowed, outbox_waiting, stats_reset "
                  "FROM tenantcall.stat_companies", "SELECT * FROM tenantcall.stat_calls",
                  "SELECT * FROM tenantcall.stat_call_leases",
                  "SELECT company_id, queued FROM tenantcall.stat_outbox",
                  "SELECT policy, allowed, stats_reset FROM tenantcall.stat_rate_limits",
                  "SELECT calls FROM tenantcall.company_usage(current_date - 1, current_date + 1)"):
        shown = []
        for node in nodes(place):
            for setting in ("off", "on"):
                with session(place, node, "app") as conn:
                    conn.execute(f"SET LOCAL force_parallel_mode = {setting}")
                    shown.append(conn.execute(query).fetchall())
                    conn.execute("ROLLBACK")
        assert shown[0] and all(rows == shown[0] for rows in shown), query
    cloud.world.admin.execute("SELECT tenantcall.resume_outbox()")


def test_what_administrators_ask_for(cloud, place):
    """Calls that want looking after are those of the company's node, for an administrator who has entered."""
    number = "+49305550006"
    cloud.world.assign(place.company, "Mitte", number)
    gateway = cloud.world.gateway()
    assert gateway.event(Call("odd", to=number).ended(disconnection_reason="brand_new"))["outcome"] == "applied"
    assert gateway.event(Call("stuck", to=number).started())["outcome"] == "applied"
    for node in nodes(place):
        with session(place, node, "admin") as conn, conn.transaction():
            conn.execute("SELECT tenantcall.enter(%s)", [place.id])
            assert conn.execute("SELECT reason, calls FROM tenantcall.unmapped_reasons()").fetchall() \
                == [("brand_new", 1)]
            assert [row[0] for row in conn.execute(
                "SELECT provider_call_id FROM tenantcall.stuck_calls('1 us')")] == ["stuck"]


def test_forgetting_a_caller(cloud, place):
    """On the coordinator, what it has in quarantine goes with what the company's node has."""
    home, coordinator, other = nodes(place)
    number, caller = "+49305550005", "+491701234567"
    cloud.world.assign(place.company, "Mitte", number)
    gateway = cloud.world.gateway()
    call = Call("forgotten", to=number, caller=caller)
    for body in (call.started(), call.ended(), call.analyzed()):
        assert gateway.event(body)["outcome"] == "applied"
    accepted = gateway.function(call.function("t1"))
    gateway.finish(accepted, {"name": "Anna"})
    stray = Call("stray", to="+49305559999", caller=caller)
    assert gateway.event(stray.started())["outcome"] == "quarantined"
    # a body that has nothing but the call's id
    coordinator.sql("INSERT INTO tenantcall.quarantine (provider, kind, event, provider_call_id, body, outcome, "
                    "reason, received_at, body_digest) SELECT 'retell', 'function_call', 'x', c, 'Anna', 'quarantined', 'y', "
                    "now(), sha256(c::bytea) "
                    "FROM unnest('{forgotten,unrelated}'::text[]) AS c", dbname=NAME)
    kept = "SELECT string_agg(provider_call_id, ' ' ORDER BY provider_call_id) FROM tenantcall.quarantine"
    assert coordinator.sql(kept, dbname=NAME) == "forgotten stray unrelated"
    forget = f"SELECT calls, events, function_calls, quarantined FROM tenantcall.forget_caller('0170 1234567', {place.id})"
    for node in (home, other):
        error = error_of(lambda n=node: asked(place, n, forget, role="gateway"))
        assert error.sqlstate == "0A000" and "coordinator" in error.diag.message_hint
    assert asked(place, coordinator, forget.replace(f", {place.id}", "")) == [(1, 3, 1, 1)]
    assert coordinator.sql(kept, dbname=NAME) == "stray unrelated"
    assert asked(place, coordinator, forget, role="gateway") == [(0, 0, 0, 1)]
    assert coordinator.sql(kept, dbname=NAME) == "unrelated"
    for node in nodes(place):
        assert asked(place, node, "SELECT from_number, transcript FROM telephony.calls WHERE company_id = %s "
                                  "AND provider_call_id = 'forgotten'", place.id) == [(None, None)]
    assert asked(place, other, "SELECT tenantcall.caller_calls(%s)", caller) == [([],)]


def test_what_is_refused(cloud, place):
    """What does not work on the node that is asked says so, and where to ask."""
    home, coordinator, other = nodes(place)
    for node in (coordinator, other):
        error = error_of(lambda n=node: asked(place, n, "SELECT tenantcall.select_service('s')"))
        assert error.sqlstate == "PT503" and "call_at_home" in error.diag.message_hint
        everywhere = error_of(lambda n=node: asked(
            place, n, "SELECT tenantcall.invalidate_slots(1, now(), now() + '1 day')", role="gateway"))
        assert everywhere.sqlstate == "0A000"
    for node in (home, other):
        assert error_of(lambda n=node: asked(
            place, n, "SELECT tenantcall.invalidate_slots(1, now(), now() + '1 day')", role="gateway")).sqlstate == "0A000"
    for node in nodes(place):
        with session(place, node, "app", token=False) as conn:
            conn.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            conn.execute("SELECT tenantcall.enter_token(%s)", [cloud.world.token(place.company)])
            error = error_of(lambda c=conn: c.execute(
                f"SELECT count(*) FROM tenantcall.available_slots({place.service}, {DAY})"))
            assert error.sqlstate == "0A000" and "READ COMMITTED" in str(error)
        with session(place, node, "app") as conn:
            assert error_of(lambda c=conn: c.execute("CREATE TEMP TABLE calls (x int)")).sqlstate \
                == "42501"
    for arguments in ("NULL, 1", "'x', NULL"):
        assert error_of(lambda a=arguments: asked(
            place, coordinator, f"SELECT tenantcall.elect_node({a})", role="admin")).sqlstate == "22004"


def test_no_elected_node(cloud, place):
    """While the elected node is down, slots are refused with a reason, and come again."""
    home, coordinator, other = nodes(place)
    cloud.elect(other)
    cloud.wait_for("elected", other)
    assert place.slots(node=home) == place.slots(node=coordinator) > 0
    other.stop("immediate")
    for node in (home, coordinator):
        error = error_of(lambda n=node: place.slots(node=n))
        assert error.sqlstate == "PT503" and "elected_node()" in error.diag.message_hint
    cloud.start(other)
    cloud.wait_for("elected", other)
    home.wait_until(lambda: place.slots(node=home) > 0, "slots")
    cloud.elect(coordinator)
    cloud.wait_for("elected", coordinator)
