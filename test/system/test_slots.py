"""Free slots: true, asked for once, and never another company's."""
import datetime
import select
import time

import psycopg
import pytest

import pgserver
from calcom_standin import CalcomStandIn
from conftest import numbers
from desk import BERLIN, DATABASE, Desk, monday

HOUR = datetime.timedelta(hours=1)
HALF = datetime.timedelta(minutes=30)


@pytest.fixture(scope="module", name="server")
def make_server(workspace, install, certificates):
    """A server with a worker, and a calendar, for all tests here: each has its own account."""
    with CalcomStandIn(tls=certificates) as calcom:
        cluster = pgserver.Cluster(workspace, install, "slots", {
            "tenantcall.worker_databases": DATABASE, "tenantcall.http_local_hosts": "127.0.0.1",
            "max_connections": 560}).start()
        cluster.create_template()
        yield Desk(cluster, calcom)
        cluster.discard()
        assert calcom.errors == []


@pytest.fixture(name="shop")
def make_shop(server):
    """A company with one service, open as its calendar is."""
    server.calcom.forget()
    server.account = server.credential(f"a{next(numbers)}")
    server.shop = server.company("Shop", server.account, Mitte=None)
    server.cut = server.service(server.shop, "Haircut", 501)
    yield server
    server.cluster.reload(**{f"tenantcall.slot_{name}": None for name in ("ttl", "empty_ttl", "stale_ttl")})


def code_of(call):
    """The SQLSTATE that a call raises."""
    with pytest.raises(psycopg.Error) as info:
        call()
    return info.value.sqlstate, info.value.diag.message_detail


def all_day(day=None):
    """What the stand-in offers on a workday: 09:00 to 17:00 UTC."""
    day = day or monday()
    return [day + 9 * HOUR + HALF * i for i in range(16)]


def test_truth(shop):
    """What the calendar says, no more and no less; a fresh answer is not asked for again."""
    assert shop.slots(shop.shop, shop.cut) == all_day()
    assert shop.slots(shop.shop, shop.cut) == all_day()
    query = "SELECT starts_at FROM tenantcall.available_slots(%s, %s, %s, max_wait => '0')"
    got = shop.see(shop.shop, query, [shop.cut, monday() + 16 * HOUR, monday() + 23 * HOUR])
    assert [start for start, in got] == all_day()[14:]
    assert shop.asked() == 1  # the window is another one, the day the same


def test_window(shop):
    """Slots begin in the window, its end excluded."""
    query = "SELECT starts_at FROM tenantcall.available_slots(%s, %s, %s)"
    got = shop.see(shop.shop, query, [shop.cut, monday() + 10 * HOUR, monday() + 11 * HOUR])
    assert [start for start, in got] == [monday() + 10 * HOUR, monday() + 10 * HOUR + HALF]


def test_local_time(shop):
    """Clocks of the branch, or of the zone that is named."""
    query = ("SELECT local_start, time_zone, ends_at FROM tenantcall.available_slots"
             "(%s, %s, %s, %s) LIMIT 1")
    for zone, name in ((None, "Europe/Berlin"), ("Asia/Kolkata", "Asia/Kolkata")):
        (local, shown, end), = shop.see(shop.shop, query,
                                        [shop.cut, monday(), monday() + 24 * HOUR, zone])
        assert shown == name
        assert end == all_day()[0] + HALF
        if zone is None:
            assert local == all_day()[0].astimezone(BERLIN).replace(tzinfo=None)
        else:
            assert local == (all_day()[0] + 5 * HOUR + HALF).replace(tzinfo=None)


@pytest.mark.parametrize("month, before, after", [(3, 28, 29), (10, 24, 25)])
def test_daylight_saving(shop, month, before, after):
    """Opening hours are those of local clocks, also on the days on which these are changed."""
    shop.calcom.event_type(f"cal_{shop.account}", 502, hours={day: [("00:00", "24:00")] for day in range(7)})
    service = shop.service(shop.shop, "Any time", 502)
    for weekday in range(1, 8):
        shop.insert(shop.shop, "opening_hours", "weekday", weekday=weekday, opens="01:00",
                    closes="04:00", branch_id=shop.shop.branches["Mitte"])
    year = datetime.datetime.now().year + (1 if month < 11 else 0)
    while datetime.date(year, month, after).weekday() != 6:  # the last Sunday of the month
        before, after = before - 1, after - 1
        if after < 25:
            before, after = 30, 31
    start = datetime.datetime(year, month, before, tzinfo=datetime.timezone.utc)
    got = shop.slots(shop.shop, service, start, days=3)
    wanted = [start + HALF * i for i in range(3 * 48)]
    wanted = [at for at in wanted if datetime.time(1) <= at.astimezone(BERLIN).time() < datetime.time(4)
              and (at + HALF).astimezone(BERLIN).time() <= datetime.time(4)]
    assert got == wanted
    sunday = [at for at in got if at.astimezone(BERLIN).day == after]
    assert len(sunday) == (4 if month == 3 else 8)  # three hours of the clock are two, or four


def test_holidays(shop):
    """A closed day has none; one with other hours has these; both of the branch, or of all."""
    tuesday = monday() + 24 * HOUR
    shop.insert(shop.shop, "holidays", "holiday_id", day=monday().date(), name="Closed")
    shop.insert(shop.shop, "holidays", "holiday_id", day=tuesday.date(), opens="10:00",
                closes="12:00", branch_id=shop.shop.branches["Mitte"])
    assert shop.slots(shop.shop, shop.cut) == []
    got = [at.astimezone(BERLIN).time() for at in shop.slots(shop.shop, shop.cut, tuesday)]
    assert got == [datetime.time(10), datetime.time(10, 30), datetime.time(11),
                   datetime.time(11, 30)]


def test_changes_count_at_once(shop):
    """What the branch keeps is cached in each session, and right after every commit."""
    with shop.as_app(shop.shop, "Mitte") as conn:
        assert len(conn.execute(*shop.question(shop.cut)).fetchall()) == 16
        shop.insert(shop.shop, "holidays", "holiday_id", day=monday().date())
        assert conn.execute(*shop.question(shop.cut)).fetchall() == []
        with shop.as_admin(shop.shop) as admin:
            admin.execute("DELETE FROM telephony.holidays")
            admin.execute("UPDATE telephony.services SET min_notice = '60 days'")
        assert conn.execute(*shop.question(shop.cut)).fetchall() == []


def test_capacity(shop):
    """A slot is free while it has seats; what is held is not offered, in this company alone."""
    other = shop.company("Other", shop.account, West=None)
    theirs = shop.service(other, "Haircut", 501)
    group = shop.service(shop.shop, "Class", 503, capacity=2)
    at = all_day()[3]
    for service, free_after in ((shop.cut, [False]), (group, [True, False])):
        for free in free_after:
            with shop.as_app(shop.shop, "Mitte") as conn:
                conn.execute("SELECT tenantcall.hold_slot(%s, %s, NULL)", [service, at])
            assert (at in shop.slots(shop.shop, service)) == free
    assert at in shop.slots(other, theirs)


def test_a_seat_counts_once(shop):
    """Two short holds one after the other take one seat of a long slot, which has another."""
    short = shop.service(shop.shop, "Short", 504, capacity=2)
    long = shop.service(shop.shop, "Long", 504, capacity=2, duration="1 hour")
    at, hold = all_day()[0], "SELECT tenantcall.hold_slot(%s, %s, NULL)"
    for start in (at, at + HALF):
        shop.value(shop.shop, hold, [short, start], "Mitte")
    assert at in shop.slots(shop.shop, long)
    shop.value(shop.shop, hold, [long, at], "Mitte")
    assert at not in shop.slots(shop.shop, long)
    assert code_of(lambda: shop.value(shop.shop, hold, [long, at], "Mitte"))[0] == "PT409"


def test_two_companies_one_account(shop):
    """They never share an answer, though account and event type are the same."""
    other = shop.company("Other", shop.account, West=None)
    theirs = shop.service(other, "Haircut", 501)
    assert shop.slots(shop.shop, shop.cut) == all_day()
    assert shop.slots(other, theirs) == all_day()
    assert shop.asked() == 2
    rows = shop.see(other, "SELECT company_id, misses, fetched FROM tenantcall.stat_cache")
    assert rows == [(other.id, 1, 1)]


def test_not_knowing_is_an_error(shop):
    """No rows mean that the calendar says none; all else is PT503, and is not asked at once again."""
    shop.calcom.close_day(f"cal_{shop.account}", 501, monday().date().isoformat())
    assert shop.slots(shop.shop, shop.cut) == []
    assert shop.slots(shop.shop, shop.cut) == []
    assert shop.asked() == 1
    cases = [("status", {}, "upstream"), ("rate_limited", {"style": "reset_seconds", "seconds": 5},
                                          "rate_limited"),
             ("not_found", {}, "not_found"), ("not_json", {}, "garbled"),
             ("wrong_json", {}, "garbled"), ("truncated", {}, "garbled")]
    for number, (fault, options, reason) in enumerate(cases):
        credential = shop.credential(f"{shop.account}f{number}")
        company = shop.company(fault, credential, Mitte=None)
        service = shop.service(company, "Haircut", 501)
        shop.calcom.fault(fault, path="/v2/slots", key=f"cal_{credential}", times=None, **options)
        before = shop.asked()
        for _ in range(2):
            state, detail = code_of(lambda: shop.slots(company, service))
            assert (state, reason in detail) == ("PT503", True), detail
        assert shop.asked() == before + 1


def test_a_key_that_the_calendar_refuses(shop):
    """It is told, and not tried again and again."""
    shop.admin.execute("SELECT tenantcall.set_credential(%s, 'of nobody', %s)", [shop.account, shop.calcom.url])
    for _ in range(2):
        state, detail = code_of(lambda: shop.slots(shop.shop, shop.cut, max_wait="30 s"))
        assert (state, "unauthorized" in detail) == ("PT503", True), detail
    assert shop.asked() <= 1


def test_stale_while_it_is_asked_again(shop):
    """An answer beyond its time is given at once, and asked again behind the caller's back."""
    shop.cluster.reload(**{"tenantcall.slot_ttl": 0})
    assert len(shop.slots(shop.shop, shop.cut)) == 16
    shop.calcom.book_elsewhere(f"cal_{shop.account}", 501, all_day()[0], tell=False)
    rule = shop.calcom.fault("slow", seconds=1, path="/v2/slots")
    assert len(shop.slots(shop.shop, shop.cut)) == 16  # stale, and not waited for
    shop.cluster.wait_until(lambda: rule.met == 1, "the refresh")
    shop.cluster.wait_until(lambda: len(shop.slots(shop.shop, shop.cut)) == 15, "the new answer")


def test_stale_when_the_calendar_is_down(shop):
    """A failed refresh leaves the answer, for as long as it is good."""
    shop.cluster.reload(**{"tenantcall.slot_ttl": 0})
    assert len(shop.slots(shop.shop, shop.cut)) == 16
    rule = shop.calcom.fault("status", path="/v2/slots", times=None)
    assert len(shop.slots(shop.shop, shop.cut)) == 16
    shop.cluster.wait_until(lambda: rule.met > 0, "the refresh")
    assert len(shop.slots(shop.shop, shop.cut)) == 16
    assert code_of(lambda: shop.slots(shop.shop, shop.cut, max_age="0"))[0] == "PT503"


def test_max_age(shop):
    """Who wants it fresh has it asked for."""
    assert len(shop.slots(shop.shop, shop.cut)) == 16
    shop.calcom.book_elsewhere(f"cal_{shop.account}", 501, all_day()[0], tell=False)
    assert len(shop.slots(shop.shop, shop.cut)) == 16
    assert len(shop.slots(shop.shop, shop.cut, max_age="0")) == 15
    assert len(shop.slots(shop.shop, shop.cut)) == 15
    assert shop.asked() == 2


def test_nothing_is_kept(shop):
    """Where nothing may be kept, each caller's question is asked, once, and answered."""
    shop.cluster.reload(**{f"tenantcall.slot_{name}": 0 for name in ("ttl", "empty_ttl", "stale_ttl")})
    for asked in (1, 2):
        assert len(shop.slots(shop.shop, shop.cut)) == 16
        assert shop.asked() == asked
    shop.calcom.close_day(f"cal_{shop.account}", 501, monday().date().isoformat())
    assert shop.slots(shop.shop, shop.cut) == []
    assert shop.asked() == 3


def test_a_lock_does_not_stop_the_worker(shop):
    """Who keeps an order of its own locked does not hold up what others want to know."""
    other = shop.company("Other", shop.credential(f"a{next(numbers)}"), West=None)
    theirs = shop.service(other, "Haircut", 501)
    at, customer = all_day()[0], '{"name": "Anna", "email": "anna@example.com"}'
    met = shop.calcom.fault("slow", seconds=1, path="/v2/bookings", method="POST")
    hold = shop.value(shop.shop, "SELECT tenantcall.hold_slot(%s, %s, NULL)", [shop.cut, at], "Mitte")
    booked = shop.value(shop.shop, "SELECT tenantcall.book(%s, %s)", [hold, customer], "Mitte")
    shop.cluster.wait_until(lambda: met.met == 1, "the order")
    with shop.as_app(shop.shop, "Mitte") as conn:
        conn.execute("SELECT tenantcall.cancel_booking(%s)", [booked])  # and no commit
        for day in range(15):  # the order's answer comes meanwhile, and cannot be recorded
            shop.slots(other, theirs, monday() + day * 24 * HOUR, max_wait="1 s")
            time.sleep(0.3)
    result, = shop.see(shop.shop, "SELECT status FROM tenantcall.booking_result(%s, '40 s')", [booked])
    assert result == ("cancelled",)
    assert [b["status"] for b in shop.calcom.bookings(status="cancelled")] == ["cancelled"]


def waiting(desk, count):
    """Do so many sessions wait for slots?"""
    return int(desk.cluster.sql(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event IN ('Extension', 'TenantcallSlots')"
        " AND query LIKE '%available_slots%' AND state = 'active' AND pid <> pg_backend_pid()"
    )) >= count


def start(desk, company, service, isolation="READ COMMITTED"):
    """A connection that has begun to ask, without waiting for the answer."""
    conn = desk.connect("app")
    conn.execute(f"BEGIN ISOLATION LEVEL {isolation}")
    conn.execute("SELECT tenantcall.enter_token(%s)",
                 [desk.token(company, next(iter(company.branches)))])
    return conn


def ask(desk, conn, service):
    """Sends the question."""
    query, params = desk.question(service, max_wait="20 s")
    for param in params:
        query = query.replace("%s", f"'{param}'", 1)
    conn.pgconn.send_query(query.encode())


def answer(conn, timeout=30):
    """Number of rows, or the SQLSTATE."""
    end = time.monotonic() + timeout
    while True:
        conn.pgconn.consume_input()
        if not conn.pgconn.is_busy():
            break
        left = end - time.monotonic()
        assert left > 0, "no answer"
        select.select([conn.pgconn.socket], [], [], left)
    result = conn.pgconn.get_result()
    while conn.pgconn.get_result() is not None:
        pass
    state = result.error_field(psycopg.pq.DiagnosticField.SQLSTATE)
    return state.decode() if state else result.ntuples


@pytest.mark.limit(180)
def test_500_sessions_one_request(shop):
    """Single flight: all wait for one request, also when the one who began it is gone."""
    rule = shop.calcom.fault("slow", seconds=6, path="/v2/slots")
    leader = start(shop, shop.shop, shop.cut)
    killed = start(shop, shop.shop, shop.cut)
    followers = [start(shop, shop.shop, shop.cut) for _ in range(498)]
    for conn in [leader, killed, *followers]:
        ask(shop, conn, shop.cut)
    shop.cluster.wait_until(lambda: waiting(shop, 500), "500 who wait")
    leader.cancel()
    assert answer(leader) == "57014"
    shop.cluster.sql(f"SELECT pg_terminate_backend({killed.info.backend_pid})")
    assert answer(killed) == "57P01"
    assert {answer(conn) for conn in followers} == {16}
    assert shop.asked() == 1
    assert rule.met == 1


def test_repeatable_read_gets_the_fresh_answer(shop):
    """A snapshot taken before the answer came does not hide it."""
    conn = start(shop, shop.shop, shop.cut, "REPEATABLE READ")
    conn.execute("SELECT count(*) FROM telephony.services")  # takes the snapshot
    assert len(shop.slots(shop.shop, shop.cut)) == 16
    shop.calcom.book_elsewhere(f"cal_{shop.account}", 501, all_day()[0], tell=False)
    with shop.as_app(shop.shop, "Mitte") as other:
        other.execute("SELECT tenantcall.invalidate_slots(501, %s, %s)",
                      [monday(), monday() + 24 * HOUR])
    ask(shop, conn, shop.cut)
    assert answer(conn) == 15


def test_no_stale_free_after_a_change(shop):
    """A change that commits while the calendar's old answer is on its way: it is thrown away."""
    shop.calcom.fault("trickle", seconds=0.002, path="/v2/slots")
    conn = start(shop, shop.shop, shop.cut)
    ask(shop, conn, shop.cut)
    shop.cluster.wait_until(lambda: shop.asked() == 1 and waiting(shop, 1), "the request")
    shop.calcom.book_elsewhere(f"cal_{shop.account}", 501, all_day()[0], tell=False)
    with shop.as_app(shop.shop, "Mitte") as other:
        other.execute("SELECT tenantcall.invalidate_slots(501, %s, %s)",
                      [monday(), monday() + 24 * HOUR])
    assert answer(conn) == 15
    assert shop.asked() == 2
    assert shop.slots(shop.shop, shop.cut) == all_day()[1:]


def test_a_change_that_rolls_back(shop):
    """It is none: the answer stays."""
    assert len(shop.slots(shop.shop, shop.cut)) == 16
    with shop.as_app(shop.shop, "Mitte") as other:
        other.execute("SELECT tenantcall.invalidate_slots(501, %s, %s)",
                      [monday(), monday() + 24 * HOUR])
        raise psycopg.Rollback
    assert len(shop.slots(shop.shop, shop.cut)) == 16
    assert shop.asked() == 1


def test_cancel_and_timeout(shop):
    """A caller who hangs up is let go at once; the calendar's answer serves the next."""
    shop.calcom.fault("hang", path="/v2/slots")
    conn = start(shop, shop.shop, shop.cut)
    conn.execute("SET LOCAL statement_timeout = 200")
    ask(shop, conn, shop.cut)
    assert answer(conn) == "57014"
    assert code_of(lambda: shop.slots(shop.shop, shop.cut, max_wait="100 ms"))[0] == "PT503"


def test_another_account_is_another_calendar(shop):
    """When a credential leads elsewhere, what was kept of the old calendar is not given."""
    assert len(shop.slots(shop.shop, shop.cut)) == 16
    shop.calcom.account("cal_new")
    shop.calcom.event_type("cal_new", 501, hours={0: [("09:00", "10:00")]})
    shop.credential(shop.account, "cal_new")
    assert shop.slots(shop.shop, shop.cut) == all_day()[:2]


def test_the_worker_ends_while_the_calendar_is_asked(shop):
    """The next one asks once more, and who waits gets the answer."""
    shop.calcom.fault("hang", path="/v2/slots")
    conn = start(shop, shop.shop, shop.cut)
    ask(shop, conn, shop.cut)
    shop.cluster.wait_until(lambda: shop.asked() == 1, "the request")
    shop.cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                     "WHERE backend_type = 'tenantcall http worker'")
    assert answer(conn) == 16
    assert shop.asked() == 2


def alternatives(shop, wanted, n=2, preference=None, customer=None):
    """Starts and strategies of what is offered instead."""
    return shop.see(shop.shop, "SELECT starts_at, strategy FROM tenantcall.alternative_slots"
                    "(%s, %s, %s, %s, %s)", [shop.cut, wanted, n, preference, customer], "Mitte")


def test_alternatives_are_free(shop):
    """Neither the refused time nor one that is taken is offered, whoever took it."""
    wanted = monday() + 14 * HOUR
    assert alternatives(shop, wanted) == [(wanted + HALF, "same_day"),
                                          (wanted + HOUR, "same_day")]
    shop.calcom.book_elsewhere(f"cal_{shop.account}", 501, wanted + HALF, tell=False)
    with shop.as_app(shop.shop, "Mitte") as conn:
        conn.execute("SELECT tenantcall.invalidate_slots(501, %s, %s)",
                     [monday(), monday() + 24 * HOUR])
        conn.execute("SELECT tenantcall.hold_slot(%s, %s, NULL)", [shop.cut, wanted + HOUR])
    offered = alternatives(shop, wanted)
    assert offered == [(wanted + 3 * HALF, "same_day"), (wanted + 4 * HALF, "same_day")]


def test_alternatives_of_other_days(shop):
    """A day without a free slot: the next workday at the same time, and the next week."""
    wanted = monday() + 14 * HOUR
    for day in (monday(), monday() + 24 * HOUR):
        shop.calcom.close_day(f"cal_{shop.account}", 501, day.date().isoformat())
    shop.insert(shop.shop, "holidays", "holiday_id", day=(monday() + 24 * HOUR).date())
    assert alternatives(shop, wanted, 2) == [
        (wanted + 48 * HOUR, "next_workday"), (wanted + 7 * 24 * HOUR, "next_week")]


def test_alternatives_by_preference(shop):
    """Preferred hours are those of the branch's clocks: on this day, then on others."""
    wanted = monday() + 9 * HOUR
    got = alternatives(shop, wanted, 50, '{"from": "15:00", "to": "16:00"}')
    assert [strategy for _, strategy in got[:2]] == ["preferred_day"] * 2
    assert {at.astimezone(BERLIN).time() for at, _ in got} == {datetime.time(15),
                                                              datetime.time(15, 30)}
    assert {strategy for _, strategy in got[2:]} == {"preferred_other_day"}


def test_alternatives_leave_the_customer_time(shop):
    """Nothing is offered while the customer has another appointment, on any day."""
    wanted = monday() + 14 * HOUR
    customer = shop.insert(shop.shop, "customers", "customer_id", name="Ms Weber",
                           phone="+4915112345678")
    other = shop.service(shop.shop, "Colour", 504)
    with shop.as_app(shop.shop, "Mitte") as conn:
        hold, = conn.execute("SELECT tenantcall.hold_slot(%s, %s, NULL)",
                             [other, wanted + HALF]).fetchone()
        conn.execute("SELECT tenantcall.book(%s, %s)", [
            hold, '{"name": "Ms Weber", "phone": "+4915112345678"}'])
    assert alternatives(shop, wanted, 1) == [(wanted + HALF, "same_day")]
    assert alternatives(shop, wanted, 1, customer=customer) == [(wanted + HOUR, "same_day")]


def test_strategies_are_data(shop):
    """A company changes where is looked; the others keep what is shipped."""
    wanted = monday() + 14 * HOUR
    shop.insert(shop.shop, "slot_strategies", "strategy", strategy="same_day", position=10,
                is_active=False)
    assert alternatives(shop, wanted, 1) == [(wanted + 24 * HOUR, "next_workday")]


def test_an_event_type_that_is_gone(shop):
    """The calendar does not know it: that is not "no slots", and the caller chooses the next."""
    gone = shop.service(shop.shop, "Gone", None)
    with shop.as_admin(shop.shop) as conn:
        conn.execute("UPDATE telephony.services SET calcom_event_type_id = 599, is_default = true "
                     "WHERE service_id = %s", [gone])
    assert shop.value(shop.shop, "SELECT service_id FROM tenantcall.select_service()") == gone
    state, detail = code_of(lambda: shop.slots(shop.shop, gone))
    assert (state, "not_found" in detail) == ("PT503", True)
    assert shop.value(shop.shop, "SELECT service_id FROM tenantcall.select_service(exclude => "
                      "ARRAY[%s::bigint])", [gone]) == shop.cut


def test_holds_leave_the_answer(shop):
    """What is taken here is seen at once by everybody, and the calendar is not asked for it."""
    at = all_day()[3]
    assert at in shop.slots(shop.shop, shop.cut)
    for _ in range(2):
        with shop.as_app(shop.shop, "Mitte") as conn:
            hold, = conn.execute("SELECT tenantcall.hold_slot(%s, %s, NULL)",
                                 [shop.cut, at]).fetchone()
            assert (at,) not in conn.execute(*shop.question(shop.cut)).fetchall()
        assert at not in shop.slots(shop.shop, shop.cut)
        with shop.as_app(shop.shop, "Mitte") as conn:
            conn.execute("SELECT tenantcall.release_hold(%s)", [hold])
        assert at in shop.slots(shop.shop, shop.cut)
    assert shop.asked() == 1


def test_more_slots_than_an_answer_holds(shop):
    """An error of the question's own: neither "no slots", nor a failure of the shared account."""
    shop.calcom.event_type(f"cal_{shop.account}", 505, length=5,
                           hours={day: [("00:00", "24:00")] for day in range(7)})
    service = shop.service(shop.shop, "Always", 505, duration="5 minutes")
    for _ in range(2):
        state, detail = code_of(lambda: shop.slots(shop.shop, service, days=60, max_wait="30 s"))
        assert (state, "too_many_slots" in detail) == ("PT503", True), detail
    assert shop.asked() == 1
    failures = shop.cluster.sql("SELECT errors, breaker FROM tenantcall.stat_http WHERE "
                                f"credential = '{shop.account}'", dbname=DATABASE)
    assert failures.split("|")[1] == "closed"


def test_no_company_spoils_the_answers_of_another(shop):
    """On one account and event type: what a company does by itself is nothing to the others."""
    other = shop.company("Other", shop.account, West=None)
    theirs = shop.service(other, "Haircut", 501)
    assert shop.slots(shop.shop, shop.cut) == all_day()
    asked = shop.asked()
    with shop.as_app(other, "West") as conn:
        conn.execute("SELECT tenantcall.invalidate_slots(501, %s, %s)",
                     [monday(), monday() + 24 * HOUR])
    shop.admin.execute("SELECT tenantcall.pause_outbox()")
    try:
        with shop.as_app(other, "West") as conn:
            hold, = conn.execute("SELECT tenantcall.hold_slot(%s, %s, NULL)",
                                 [theirs, all_day()[0]]).fetchone()
            appointment, = conn.execute("SELECT tenantcall.book(%s, %s)", [
                hold, '{"name": "Ms Weber", "phone": "+4915112345678"}']).fetchone()
        with shop.as_app(other, "West") as conn:
            conn.execute("SELECT tenantcall.cancel_booking(%s, 'again')", [appointment])
    finally:
        shop.admin.execute("SELECT tenantcall.resume_outbox()")
    assert shop.slots(shop.shop, shop.cut) == all_day()
    assert shop.asked() == asked
    assert shop.slots(other, theirs) == all_day()  # its own is asked again
    assert shop.asked() == asked + 1
