"""Buckets across restarts and crashes; files that are not taken over; a full table and who fills it."""
import shutil
import time

import psycopg

GUARD = "".join(f"SELECT tenantcall.set_rate_policy('call_guard', {tokens}, '1 day', bandwidth => '{bandwidth}');"
                for bandwidth, tokens in (("per_minute", 20), ("per_call", 50), ("per_function", 10)))
POLICY = "SELECT tenantcall.set_rate_policy('hard', 10, '300 days')"
LEFT = "SELECT remaining FROM tenantcall.take_for(%d, 'hard', 1)"
SPEND = "SELECT count(*) FROM generate_series(1, 6) g WHERE tenantcall.allow_for(1, 'hard', g - g + 1)"


def prepared(make_cluster, **settings):
    """A server with a policy, of whose bucket 6 tokens of 10 are spent."""
    server = make_cluster(**{f"tenantcall.{name}": value for name, value in settings.items()})
    server.create_database("app")
    server.sql(POLICY, dbname="app")
    server.sql(SPEND, dbname="app")
    return server


def left(server, company=1):
    """Tokens left after taking one more."""
    return int(server.sql(LEFT % company, dbname="app"))


def saved_file(server):
    """Where the buckets are saved."""
    return server.data / "pg_stat" / "tenantcall_rate"


def test_restart(make_cluster):
    """Saved at shutdown, also an immediate one; tickets are void, keys of calls stay."""
    server = prepared(make_cluster, rate_save_interval=0)
    server.sql(GUARD, dbname="app")
    take = "SELECT remaining FROM tenantcall.take_for(1, 'call_guard', 1, call => 'c', function => 'f')"
    assert server.sql(take, dbname="app") == "9"
    ticket = server.sql("SELECT ticket FROM tenantcall.take_for(1, 'hard')", dbname="app")
    server.restart()
    assert left(server) == 2
    assert server.sql(take, dbname="app") == "8"
    assert "not a ticket" in server.psql("-c", f"SELECT tenantcall.refund('{ticket}')", dbname="app").stderr
    server.restart("immediate")
    assert left(server) == 1
    assert server.sql("SELECT allowed FROM tenantcall.stat_rate_limits WHERE policy = 'hard'", dbname="app") == "9"


def test_crash(make_cluster):
    """After kill -9 of the postmaster the last periodic save holds, and no more than it."""
    server = prepared(make_cluster, rate_save_interval=1)
    now = time.time()
    server.wait_until(lambda: saved_file(server).exists() and saved_file(server).stat().st_mtime > now + 1, "a save")
    server.kill9()
    server.start()
    assert left(server) == 3


def test_files_that_are_refused(make_cluster):
    """Damaged, truncated, copied and foreign files: a warning, and full buckets."""
    server = prepared(make_cluster, rate_save_interval=0)
    path = saved_file(server)
    for damage in ("flip", "truncate", "copy", "garbage", "empty"):
        server.stop()
        data = bytearray(path.read_bytes())
        if damage == "flip":
            data[len(data) // 2] ^= 1
        elif damage == "truncate":
            del data[-40:]
        elif damage == "garbage":
            data = b"x" * len(data)
        elif damage == "empty":
            data = b""
        if damage == "copy":
            other = path.with_name("other")
            shutil.copy2(path, other)
            shutil.chown(other, "postgres", "postgres")
            other.rename(path)
        else:
            with open(path, "r+b") as file:
                file.truncate(0)
                file.write(data)
        before = len(server.log())
        server.start()
        assert left(server) == 9, damage
        assert "saved rate limit buckets are not taken over" in server.log()[before:]
        server.sql(SPEND, dbname="app")
    server.restart()
    assert left(server) == 2


def test_a_clone_does_not_replay(make_cluster):
    """A copied data directory starts with full buckets."""
    server = prepared(make_cluster, rate_save_interval=1)
    copy = server.standby()
    server.wait_for_replay(copy)
    copy.stop()
    server.stop()
    shutil.copy2(saved_file(server), saved_file(copy))
    shutil.chown(saved_file(copy), "postgres", "postgres")
    copy.start()
    assert left(copy) == 9
    server.start()
    assert left(server) == 3


def test_full_table(make_cluster):
    """deny refuses, allow passes, evict lets the fullest bucket go; each is counted."""
    server = make_cluster(**{"tenantcall.rate_max_buckets": 50})
    server.create_database("app")
    server.sql(POLICY, dbname="app")
    with server.connect(dbname="app", autocommit=True) as connection:
        def take(first, last, cost=1):
            return dict(connection.execute(
                "SELECT allowed, count(*) FROM generate_series(%s::bigint, %s) g,"
                " LATERAL tenantcall.take_for(g, 'hard', %s) GROUP BY 1", (first, last, cost)).fetchall())

        def stat():
            return connection.execute("SELECT refused, passed, forced, forgiven, used FROM tenantcall.rate_table()").fetchone()

        def setting(value):
            server.sql(f"ALTER SYSTEM SET tenantcall.rate_full = {value}")
            server.sql("SELECT pg_reload_conf()")
            server.wait_until(lambda: connection.execute("SHOW tenantcall.rate_full").fetchone()[0] == value, value)

        assert take(1, 1, 10) == {True: 1}  # the victim has spent everything
        assert take(2, 60) == {True: 49, False: 10}
        assert stat() == (10, 0, 0, 0, 50)
        setting("allow")
        assert take(101, 110) == {True: 10}
        assert stat() == (10, 10, 0, 0, 50)
        setting("evict")
        assert take(201, 400) == {True: 200}
        assert stat() == (10, 10, 200, 200, 50)
        assert take(1, 1) == {False: 1}  # nobody's made-up keys have reset it
        setting("deny")
        assert take(501, 501) == {False: 1}


def test_counts_of_buckets_that_made_way(make_cluster):
    """They go on counting in a sum of their company, level and policy; the company sees its own."""
    server = make_cluster(**{"tenantcall.rate_max_buckets": 64})
    server.create_database("app")
    server.sql("SELECT tenantcall.set_rate_policy('brief', 10, '0.001 s', 10);"
               "SELECT tenantcall.set_rate_policy('line', 10, '0.001 s', 10, level => 'number');"
               "CREATE ROLE app LOGIN; SELECT tenantcall.grant_app('app');"
               "GRANT EXECUTE ON FUNCTION tenantcall.enter(bigint, bigint) TO app", dbname="app")
    companies = [int(line) for line in server.sql("SELECT tenantcall.create_company('c' || n, 'DE', 'Europe/Berlin')"
                                                  " FROM generate_series(1, 200) n", dbname="app").split()]
    with server.connect(dbname="app", autocommit=True) as connection:
        for _ in range(3):
            for company in companies:
                connection.execute("SELECT tenantcall.allow_for(%s, 'brief', 10), tenantcall.allow_for(%s, 'brief', 11)", (company, company))
        for number in range(100):
            connection.execute("SELECT tenantcall.take_for(%s, 'line', 1, number => %s)", (companies[0], str(number)))
        total = connection.execute("SELECT policy, sum(allowed), sum(denied), count(*) FILTER (WHERE quota IS NULL) > 0"
                                   " FROM tenantcall.stat_rate_limits GROUP BY 1 ORDER BY 1").fetchall()
        assert total == [("brief", 600, 600, True), ("line", 100, 0, True)]
        each = connection.execute("SELECT company_id, sum(allowed), sum(denied), max(last_denied_at) IS NOT NULL FROM tenantcall.stat_rate_limits"
                                  " WHERE policy = 'brief' GROUP BY 1 ORDER BY 1").fetchall()
        assert each == [(company, 3, 3, True) for company in companies]
        with server.connect(dbname="app", role="app") as app:
            app.execute("SELECT tenantcall.enter(%s)", (companies[0],))
            own = "SELECT policy, sum(allowed), sum(denied) FROM tenantcall.stat_rate_limits GROUP BY 1 ORDER BY 1"
            assert app.execute(own).fetchall() == [("brief", 3, 3), ("line", 100, 0)]
        connection.execute("SELECT tenantcall.reset_rate_stats()")
        assert connection.execute("SELECT sum(allowed + denied) FROM tenantcall.stat_rate_limits").fetchone()[0] == 0


def test_made_up_keys(make_cluster):
    """A company that makes calls up fills its share of the table, and hurts no other company."""
    server = make_cluster(**{"tenantcall.rate_max_buckets": 400})
    server.create_database("app")
    server.sql(GUARD + POLICY + "; CREATE ROLE app LOGIN; SELECT tenantcall.grant_app('app')", dbname="app")
    company = server.sql("SELECT tenantcall.create_company('c', 'DE', 'Europe/Berlin')", dbname="app")
    made_up = ("SELECT count(*) FROM generate_series(1, 2000) g,"
               " LATERAL tenantcall.take_for(%s, 'call_guard', 1, call => g::text, function => 'f') t WHERE t.allowed")
    assert 10 <= int(server.sql(made_up % company, dbname="app")) <= 20
    assert server.sql("SELECT count(*) FROM generate_series(1000, 1100) g WHERE tenantcall.allow_for(g, 'hard')",
                      dbname="app") == "101"
    assert 10 <= int(server.sql(made_up % 77, dbname="app")) <= 20
    # a victim that has spent all stays so, whatever an attacker makes up: numbers, calls, branches of his own company
    server.sql("SELECT tenantcall.take_for(4000, 'hard', 10); SELECT tenantcall.set_rate_policy('line', 10, '300 days', level => 'number');"
               "SELECT tenantcall.set_rate_policy('desk', 10, '300 days', level => 'branch')", dbname="app")
    spent = 0
    for setting in ("evict", "allow", "deny"):
        server.sql(f"ALTER SYSTEM SET tenantcall.rate_full = {setting}")
        server.sql("SELECT pg_reload_conf()")
        server.wait_until(lambda: server.sql("SHOW tenantcall.rate_full") == setting, setting)
        with server.connect(dbname="app") as attacker:
            attacker.execute("SELECT tenantcall.enter(%s)", (company,))
            used = "SELECT used FROM tenantcall.rate_table()"
            before = attacker.execute(used).fetchone()[0]
            attacker.execute("SELECT tenantcall.take('line', 1, number => g::text), tenantcall.take('call_guard', 1, call => g::text, function => g::text)"
                             " FROM generate_series(1, 3000) g")
            assert attacker.execute(used).fetchone()[0] <= max(before, 101 + 4 * 53)
            # a bucket that has no room does not let him past the others
            spent += attacker.execute("SELECT count(*) FILTER (WHERE t.allowed) FROM generate_series(1, 500) g,"
                                      " LATERAL tenantcall.take_all('{hard,line}', number => 'n' || g) t").fetchone()[0]
            assert spent <= 10
            for policy in ("nowhere", "", "x" * 64):
                try:
                    attacker.execute("SAVEPOINT s")
                    attacker.execute("SELECT tenantcall.allow(%s)", (policy,))
                    raise AssertionError(policy)
                except psycopg.Error as error:
                    assert error.sqlstate in ("PT404", "22023")
                    attacker.execute("ROLLBACK TO s")
        assert server.sql("SELECT allowed, reason FROM tenantcall.take_for(4000, 'hard')", dbname="app") == "f|limited"
    with server.connect(role="app", dbname="app") as connection:
        for call in ("set_rate_policy('x', 1, '1 s')", "reset_bucket('hard', 1)", "rate_test_clock(1)",
                     "take_for(1, 'hard')", "allow_for(1, 'hard')", "reset_rate_stats()"):
            try:
                connection.execute(f"SELECT tenantcall.{call}")
                raise AssertionError(call)
            except psycopg.errors.InsufficientPrivilege:
                connection.rollback()
