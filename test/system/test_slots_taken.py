"""What is held here is kept beside the calendar's answer, and counts from the moment it is seen."""
import datetime

import psycopg
import pytest

from desk import Desk, monday

HALF = datetime.timedelta(minutes=30)
NINE = monday() + datetime.timedelta(hours=9)


@pytest.fixture(name="shop")
def make_shop(make_cluster, calcom):
    """A company with one service that 16 callers a day may have, and an answer in memory."""
    desk = Desk(make_cluster(**{"tenantcall.worker_databases": "calendars",
                                "tenantcall.http_quota": 0,
                                "tenantcall.http_local_hosts": "127.0.0.1"}), calcom)
    desk.account = desk.credential("a")
    desk.shop = desk.company("Shop", desk.account, Mitte=None)
    desk.cut = desk.service(desk.shop, "Haircut", 501)
    assert len(desk.slots(desk.shop, desk.cut)) == 16
    return desk


def hold(conn, shop, at=NINE):
    """Holds a slot; its hold_id."""
    return conn.execute("SELECT tenantcall.hold_slot(%s, %s, NULL)", [shop.cut, at]).fetchone()[0]


def free(conn, shop):
    """How many slots a transaction is offered."""
    return len(conn.execute(*shop.question(shop.cut)).fetchall())


def free_now(shop):
    """How many a new one is offered, and of the second answer."""
    numbers = {len(shop.slots(shop.shop, shop.cut)) for _ in range(2)}
    assert len(numbers) == 1
    return numbers.pop()


def test_holds_of_others(shop):
    """They count from their commit, and no longer than until their release."""
    with shop.as_app(shop.shop, "Mitte") as conn:
        hold_id = hold(conn, shop)
        assert free_now(shop) == 16
    assert free_now(shop) == 15
    with shop.as_app(shop.shop, "Mitte") as conn:
        conn.execute("SELECT tenantcall.release_hold(%s)", [hold_id])
        assert free_now(shop) == 15
    assert free_now(shop) == 16


def test_own_hold(shop):
    """A transaction sees what it has done itself, and shows it to nobody before it commits."""
    with shop.as_app(shop.shop, "Mitte") as conn:
        assert free(conn, shop) == 16
        hold(conn, shop)
        assert free(conn, shop) == 15
        assert free_now(shop) == 16
        with pytest.raises(psycopg.errors.UndefinedTable), conn.transaction():
            hold(conn, shop, NINE + HALF)
            assert free(conn, shop) == 14
            conn.execute("SELECT FROM missing")
        assert free(conn, shop) == 15
        raise psycopg.Rollback
    assert free_now(shop) == 16


def test_expiry(shop):
    """A hold counts until it expires, though nothing tells of that."""
    with shop.as_app(shop.shop, "Mitte") as conn:
        hold(conn, shop)
    assert free_now(shop) == 15
    shop.db.sql("UPDATE telephony.slot_holds SET expires_at = clock_timestamp() + interval '1.5 s'")
    shop.cluster.wait_until(lambda: free_now(shop) == 16, "the hold to expire")


def test_rows_changed_by_hand(shop):
    """No function told of the change; it is seen nevertheless, a moment later."""
    with shop.as_app(shop.shop, "Mitte") as conn:
        hold(conn, shop)
    assert free_now(shop) == 15
    shop.db.sql("UPDATE telephony.slot_holds SET state = 'released', released_at = now()")
    shop.cluster.wait_until(lambda: len(shop.slots(shop.shop, shop.cut)) == 16, "the release")


def test_prepared_transaction(shop):
    """The same for one that was prepared, since its hold can be seen much later than it was told."""
    conn = shop.connect("app")
    conn.execute("BEGIN")
    conn.execute("SELECT tenantcall.enter_token(%s)", [shop.token(shop.shop, "Mitte")])
    try:
        hold(conn, shop)
        conn.execute("PREPARE TRANSACTION 'hold'")
    except psycopg.Error as error:
        pytest.skip(f"holds cannot be prepared: {error.diag.message_primary}")
    assert free_now(shop) == 16
    conn.execute("COMMIT PREPARED 'hold'")
    shop.cluster.wait_until(lambda: len(shop.slots(shop.shop, shop.cut)) == 15, "the hold")


def test_more_than_is_kept(shop):
    """Beyond what is kept beside an answer, the table itself is read."""
    group = shop.service(shop.shop, "Class", 502, capacity=20)
    for number in range(20):
        with shop.as_app(shop.shop, "Mitte") as conn:
            conn.execute("SELECT tenantcall.hold_slot(%s, %s, NULL)", [group, NINE])
        for _ in range(2):
            got = shop.slots(shop.shop, group)
            assert (NINE in got) == (number < 19)


def test_old_snapshot(shop):
    """A transaction that still sees the past does not show it to others."""
    old = shop.connect("app")
    old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    old.execute("SELECT tenantcall.enter_token(%s)", [shop.token(shop.shop, "Mitte")])
    old.execute("SELECT count(*) FROM telephony.services")  # takes the snapshot
    with shop.as_app(shop.shop, "Mitte") as conn:
        hold(conn, shop)
    old.execute(*shop.question(shop.cut))  # has the calendar asked again, and reads the holds
    assert free_now(shop) == 15
    assert free(old, shop) == 15
