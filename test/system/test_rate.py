"""Rate limits under concurrency, stopped and killed backends, old snapshots, a standby, no room."""
import os
import random
import signal
import threading

import psycopg
import pytest

HARD = "SELECT tenantcall.set_rate_policy('hard', %d, '300 days')"  # it hardly refills
TAKE_MANY = ("SELECT coalesce(sum(c) FILTER (WHERE (tenantcall.take_for(%s, 'hard', c)).allowed), 0)"
             " FROM unnest(%s::bigint[]) c")


def in_threads(count, work):
    """Runs work(0), work(1), ... at the same time; returns the results, raises the first error."""
    results = [None] * count
    barrier = threading.Barrier(count)

    def run(number):
        try:
            results[number] = work(number, barrier)
        except Exception as error:  # handed over to the main thread
            barrier.abort()
            results[number] = error

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        if isinstance(result, Exception):
            raise result
    return results


@pytest.mark.parametrize("seed", range(5))
def test_exactly_the_burst_is_admitted(db, seed):
    """16 sessions on one new bucket that hardly refills, with mixed costs."""
    dice = random.Random(seed)
    burst = dice.randrange(300, 1000)
    db.sql(HARD % burst)
    connections = [db.connect(autocommit=True) for _ in range(16)]
    costs = [[dice.choice((1, 1, 2, 3, 7)) for _ in range(60)] + [1] * 60 for _ in connections]

    def work(number, barrier):
        barrier.wait()
        return connections[number].execute(TAKE_MANY, (1, costs[number])).fetchone()[0]

    assert sum(in_threads(16, work)) == burst
    assert db.sql("SELECT allowed > 0, remaining FROM tenantcall.stat_rate_limits") == "t|0"


@pytest.mark.limit(120)
def test_64_sessions(make_cluster):
    """64 sessions, 200 new buckets one after another, mixed costs: exactly the burst, each time."""
    rounds, burst = 200, 150
    server = make_cluster(max_connections=80)
    server.create_database("app")
    server.sql(HARD % burst, dbname="app")
    connections = [server.connect(dbname="app", autocommit=True) for _ in range(64)]
    gate = threading.Barrier(64)

    def work(number, barrier):
        dice = random.Random(number)
        barrier.wait()
        admitted = []
        for turn in range(rounds):
            costs = [dice.choice((1, 2, 3, 7)) for _ in range(3)] + [1] * 4
            gate.wait()
            admitted.append(connections[number].execute(
                "SELECT coalesce(sum(c) FILTER (WHERE tenantcall.allow_for(%s, 'hard', c)), 0)"
                " FROM unnest(%s::bigint[]) c", (turn + 1, costs), prepare=True).fetchone()[0])
        return admitted

    totals = [sum(session) for session in zip(*in_threads(64, work))]
    assert totals == [burst] * rounds


def test_nothing_is_admitted_beyond_rate_and_burst(db):
    """At saturation: at most burst + rate * time."""
    db.sql("SELECT tenantcall.set_rate_policy('fast', 2000, '1 s', 50)")
    connections = [db.connect(autocommit=True) for _ in range(8)]
    clock = "SELECT extract(epoch FROM clock_timestamp())"
    began = connections[0].execute(clock).fetchone()[0]

    def work(number, barrier):
        barrier.wait()
        return connections[number].execute(
            "SELECT count(*) FILTER (WHERE (tenantcall.take_for(1, 'fast')).allowed)"
            " FROM generate_series(1, 100000)").fetchone()[0]

    admitted = sum(in_threads(8, work))
    seconds = float(connections[0].execute(clock).fetchone()[0] - began)
    assert 50 < admitted <= 50 + 2000 * seconds


@pytest.mark.limit(120)
def test_saturated(db):
    """At saturation for 20 s: admitted within [burst + rate * t - idle - 1, burst + rate * t]."""
    rate, burst, seconds = 2000, 4000, 20
    db.sql(f"SELECT tenantcall.set_rate_policy('fast', {rate}, '1 s', {burst})")
    connections = [db.connect(autocommit=True) for _ in range(8)]
    now = "SELECT extract(epoch FROM clock_timestamp())::float8"
    began = connections[0].execute(now).fetchone()[0]

    def work(number, barrier):
        barrier.wait()
        admitted, first, last = 0, None, began
        while last < began + seconds:
            last_began, n, refused, last = connections[number].execute(
                "SELECT min(t), count(*) FILTER (WHERE ok), count(*) FILTER (WHERE NOT ok), max(t) FROM"
                " (SELECT tenantcall.allow_for(1, 'fast') AS ok, extract(epoch FROM clock_timestamp())::float8 AS t"
                " FROM generate_series(1, 20000)) AS taken").fetchone()
            first = first or last_began
            admitted += n
        return admitted, first, last_began if refused else began

    results = in_threads(8, work)
    admitted = sum(result[0] for result in results)
    first, last = min(result[1] for result in results), max(result[2] for result in results)
    t = connections[0].execute(now).fetchone()[0] - began
    # nobody asked before the first, and nobody was refused, as far as we know, after the last statement began
    idle = rate * (t - (last - first))
    assert t > seconds and idle < rate * t / 4
    assert burst + rate * t - idle - 1 <= admitted <= burst + rate * t


def endless(connection, done, admitted):
    """Takes one at a time in long statements, until it is told to stop."""
    while not done.is_set():
        admitted.append(connection.execute(TAKE_MANY, (1, [1] * 20000)).fetchone()[0])


def test_a_stopped_backend_holds_nobody_up(db):
    """Others go on while a backend is stopped in its take loop, and nothing is over-admitted."""
    burst = 100000000
    db.sql(HARD % burst)
    victim = db.connect(autocommit=True)
    other = db.connect(autocommit=True)
    other.execute("SET statement_timeout = '20 s'")
    done, admitted, total = threading.Event(), [], 0
    loop = threading.Thread(target=endless, args=(victim, done, admitted))
    loop.start()
    try:
        for _ in range(30):
            os.kill(victim.info.backend_pid, signal.SIGSTOP)
            try:
                total += other.execute(TAKE_MANY, (1, [1] * 1000)).fetchone()[0]
            finally:
                os.kill(victim.info.backend_pid, signal.SIGCONT)
    finally:
        done.set()
        loop.join()
    assert total == 30 * 1000
    remaining = other.execute("SELECT remaining FROM tenantcall.stat_rate_limits").fetchone()[0]
    refilled = 20  # 100000000 in 300 days are 4 a second
    assert 0 <= remaining - (burst - total - sum(admitted)) <= refilled * 60


def test_a_killed_backend(make_cluster):
    """SIGKILL makes the server start over with what was saved last, and the limit holds again."""
    server = make_cluster()
    server.create_database("app")
    server.sql(HARD % 1000, dbname="app")
    victim = server.connect(dbname="app", autocommit=True)
    done = threading.Event()

    def run():
        try:
            endless(victim, done, [])
        except psycopg.OperationalError:
            pass

    loop = threading.Thread(target=run)
    loop.start()
    os.kill(victim.info.backend_pid, signal.SIGKILL)
    loop.join()

    def admitted():
        try:
            with server.connect(dbname="app", autocommit=True) as connection:
                return connection.execute(TAKE_MANY, (1, [1] * 2000)).fetchone()
        except psycopg.OperationalError:
            return None

    assert server.wait_until(admitted, "the server to recover")[0] <= 1000


def test_repeatable_read_sees_a_change(db):
    """A transaction with an old snapshot goes by the policy that others have set since."""
    db.sql(HARD % 100)
    with db.connect() as old, db.connect(autocommit=True) as admin:
        old.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        take = "SELECT quota FROM tenantcall.take_for(1, 'hard')"
        assert old.execute(take).fetchone()[0] == 100
        for quota in (7, 8):
            admin.execute(HARD % quota)
            assert old.execute(take).fetchone()[0] == quota


def test_standby(make_cluster):
    """A standby limits on its own, and policy changes arrive there."""
    server = make_cluster()
    server.create_database("app")
    server.sql(HARD % 100, dbname="app")
    copy = server.standby()
    server.wait_for_replay(copy)
    with copy.connect(dbname="app", autocommit=True) as connection:
        assert connection.execute(TAKE_MANY, (1, [1] * 150)).fetchone()[0] == 100
        quota = "SELECT quota FROM tenantcall.take_for(2, 'hard')"
        assert connection.execute(quota).fetchone()[0] == 100
        server.sql(HARD % 7, dbname="app")
        server.wait_for_replay(copy)
        assert connection.execute(quota).fetchone()[0] == 7
        server.sql("SELECT tenantcall.drop_rate_policy('hard')", dbname="app")
        server.wait_for_replay(copy)
        with pytest.raises(psycopg.Error) as error:
            connection.execute(quota)
        assert error.value.sqlstate == "PT404"


def test_no_room(make_cluster):
    """A full table refuses new buckets, keeps those in use, and lets full ones make way."""
    server = make_cluster(**{"tenantcall.rate_max_buckets": 100})
    server.create_database("app")
    server.sql(HARD % 10 + "; SELECT tenantcall.set_rate_policy('brief', 1000000, '1 s')", dbname="app")
    with server.connect(dbname="app", autocommit=True) as connection:
        def take(policy, first, last):
            return connection.execute(
                "SELECT coalesce(reason, 'ok'), count(*) FROM generate_series(%s::bigint, %s) g,"
                " LATERAL tenantcall.take_for(g, %s) GROUP BY 1 ORDER BY 1",
                (first, last, policy)).fetchall()

        assert take("brief", 1, 500) == [("ok", 500)]
        assert take("hard", 1, 60) == [("ok", 60)]
        reasons = dict(take("hard", 61, 200))
        assert reasons == {"ok": 40, "table_full": 100}
        assert take("hard", 1, 60) == [("ok", 60)]
        stat = connection.execute("SELECT max_buckets, used, evicted >= 400, refused"
                                  " FROM tenantcall.rate_table()").fetchone()
        assert stat == (100, stat[1], True, reasons["table_full"])
        assert stat[1] <= 100
        one = connection.execute("SELECT allowed, retry_after > '0' FROM tenantcall.take_for(9999, 'hard')")
        assert one.fetchone() == (False, True)


def test_a_cancelled_wait_gives_its_place_back(db):
    """By pg_cancel_backend and by pg_terminate_backend; those who wait behind it are not disturbed."""
    company = db.sql("SELECT tenantcall.create_company('waiting', 'DE', 'Europe/Berlin')")
    db.sql("SELECT tenantcall.set_rate_policy('slow', 1, '1 hour')")
    admin = db.connect(autocommit=True)
    admin.execute(f"SELECT tenantcall.take_for({company}, 'slow')")
    for end in ("pg_cancel_backend", "pg_terminate_backend"):
        waiter = db.connect()
        waiter.execute(f"SELECT tenantcall.enter({company})")

        def wait():
            with pytest.raises(psycopg.Error):
                waiter.execute("SELECT tenantcall.take('slow', 1, '2 hours')")

        reset = f"SELECT extract(epoch FROM reset_after) FROM tenantcall.stat_rate_limits"
        thread = threading.Thread(target=wait)
        thread.start()
        db.cluster.wait_until(lambda: admin.execute(reset).fetchone()[0] > 3600, "the wait")
        admin.execute(f"SELECT {end}(%s)", (waiter.info.backend_pid,))
        thread.join()
        db.cluster.wait_until(lambda: admin.execute(reset).fetchone()[0] <= 3600, "the place")
        assert admin.execute(reset).fetchone()[0] > 3000


def test_policies_are_dumped(db):
    """What was set survives dump and restore; versions go on rising."""
    db.sql(HARD % 123 + "; SELECT tenantcall.set_rate_policy('function_call', 5, '1 s', company_id => 4)")
    dump = db.cluster.client_program("pg_dump", "-d", db.name)
    copy = db.cluster.create_database(db.name + "_copy", template="template0")
    try:
        restored = db.cluster.psql("-v", "ON_ERROR_STOP=1", dbname=copy, stdin=dump)
        assert restored.returncode == 0, restored.stderr
        assert db.cluster.sql("SELECT quota FROM tenantcall.take_for(1, 'hard')", dbname=copy) == "123"
        assert db.cluster.sql("SELECT quota FROM tenantcall.take_for(4, 'function_call')", dbname=copy) == "5"
        db.cluster.sql("SELECT tenantcall.set_rate_policy('function_call', 6, '1 s', company_id => 4)",
                       dbname=copy)
        assert db.cluster.sql("SELECT quota FROM tenantcall.take_for(4, 'function_call')", dbname=copy) == "6"
    finally:
        db.cluster.drop_database(copy)


def test_by_uuid_alone(cluster):
    """Without a directory a company may be known by its UUID only: it has the policy's own limit."""
    name = cluster.create_database("by_uuid", template="template1")
    try:
        cluster.sql("CREATE EXTENSION tenantcall; " + HARD % 10 +
                    "; SELECT tenantcall.set_rate_policy('branch', 5, '300 days', level => 'branch')"
                    "; SELECT tenantcall.set_rate_policy('number', 4, '300 days', level => 'number')", dbname=name)
        with cluster.connect(dbname=name) as connection:
            def take(policy, company, branch=None, number=None):
                connection.execute("SELECT tenantcall.enter_uuid(%s, %s)", (company, branch))
                answer = connection.execute("SELECT quota, remaining FROM tenantcall.take(%s, 1, number => %s)",
                                            (policy, number)).fetchone()
                seen = connection.execute("SELECT count(*) FROM tenantcall.stat_rate_limits WHERE company_uuid = %s"
                                          " AND policy = %s", (company, policy)).fetchone()[0]
                connection.commit()
                return answer, seen

            one, two = (f"00000000-0000-4000-8000-00000000000{n}" for n in (1, 2))
            assert [take("hard", one), take("hard", one), take("hard", two)] == [((10, 9), 1), ((10, 8), 1), ((10, 9), 1)]
            assert [take("branch", one, two), take("branch", one, one), take("branch", one, two), take("branch", one)] == \
                [((5, 4), 1), ((5, 4), 2), ((5, 3), 2), ((5, 4), 3)]
            assert [take("number", one, number="+4930"), take("number", two, number="+4930")] == [((4, 3), 1), ((4, 3), 1)]
    finally:
        cluster.drop_database(name)


def test_not_preloaded(make_cluster):
    """Without shared_preload_libraries limits refuse with one clear error."""
    server = make_cluster(template=False, shared_preload_libraries=None)
    server.sql("CREATE EXTENSION tenantcall")
    with server.connect(autocommit=True) as connection:
        for call in ("take_for(1, 'function_call')", "allow('function_call')", "rate_table()",
                     "rate_buckets()", "set_rate_policy('x', 1, '1 s')", "peek('function_call')", "rate_test_stop('none')"):
            with pytest.raises(psycopg.Error) as error:
                connection.execute(f"SELECT tenantcall.{call}")
            assert error.value.sqlstate == "55000"
            assert "shared_preload_libraries" in str(error.value)
