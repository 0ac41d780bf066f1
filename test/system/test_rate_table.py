"""The table of buckets: whatever comes and goes, each bucket keeps what it holds.

One session with a clock of its own fills a table to the last place, has a part of it make way for
others, and asks every bucket again in another order.  Entries then stand away from their homes, and
chains have lost members at every position.
"""
ROOM = 20000
BEGIN = 10 ** 15  # ns
FULL = 200 * 10 ** 9  # after that long every bucket is full
IN_ORDER = f"SELECT generate_series(1, {ROOM})::bigint"
SHUFFLED = f"SELECT (g * 7919 % {ROOM} + 1)::bigint FROM generate_series(0, {ROOM - 1}) g"
EVEN = f"SELECT generate_series(2, {ROOM}, 2)::bigint"
QUARTER = f"SELECT generate_series(1, {ROOM}, 4)::bigint"
OTHERS = f"SELECT generate_series({ROOM + 1}, {ROOM + ROOM * 2 // 5})::bigint"


def check(connection, tenants, cost, remaining):
    """Each tenant's bucket admits `cost`, and has so many tokens left."""
    wrong = connection.execute(
        f"SELECT t.g, r.allowed, r.remaining, r.reason FROM ({tenants}) t (g),"
        f" LATERAL tenantcall.take_for(t.g, 'table', {cost}) r"
        f" WHERE r.allowed IS NOT TRUE OR r.remaining IS DISTINCT FROM {remaining}").fetchall()
    assert (len(wrong), wrong[:3]) == (0, [])


def test_buckets_keep_what_they_hold(make_cluster):
    """Also when every place is taken, and when neighbours make way."""
    server = make_cluster(**{"tenantcall.rate_max_buckets": ROOM})
    server.create_database("app")
    with server.connect(dbname="app", autocommit=True) as connection:
        def clock(ns):
            connection.execute("SELECT tenantcall.rate_test_clock(%s)", (ns,))

        def table():
            return connection.execute("SELECT used, evicted FROM tenantcall.rate_table()").fetchone()

        connection.execute("SELECT tenantcall.set_rate_policy('table', 10, '100 s', 10)")
        clock(BEGIN)
        check(connection, IN_ORDER, "1 + t.g % 3", "9 - t.g % 3")
        assert table() == (ROOM, 0)
        assert connection.execute(f"SELECT reason FROM tenantcall.take_for({ROOM + 1}, 'table')"
                                  ).fetchone() == ("table_full",)
        check(connection, SHUFFLED, "2", "7 - t.g % 3")
        clock(BEGIN + FULL)
        check(connection, EVEN, "4", "6")
        check(connection, OTHERS, "3", "7")
        used, evicted = table()
        assert used <= ROOM and evicted >= ROOM * 2 // 5
        check(connection, EVEN, "1", "5")
        check(connection, OTHERS, "1", "6")
        assert connection.execute("SELECT count(*), count(DISTINCT company_id) FROM tenantcall.rate_buckets()"
                                  " WHERE quota IS NOT NULL"
                                  ).fetchone() == (used, used)
        clock(BEGIN + 2 * FULL)
        check(connection, EVEN, "5", "5")
        check(connection, QUARTER, "5", "5")
        assert table()[0] <= ROOM
