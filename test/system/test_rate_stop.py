"""Backends that are stopped (SIGSTOP) or killed (SIGKILL) at every place of the rate limiter: others
go on or are refused in time, can be cancelled, and nothing is over-admitted."""
import os
import pathlib
import random
import signal
import threading
import time

import psycopg
import pytest

import pgserver

BURST = 1000
POLICIES = (f"SELECT tenantcall.set_rate_policy('hard', {BURST}, '300 days');"
            "SELECT tenantcall.set_rate_policy('other', 1000000, '300 days');"
            "SELECT tenantcall.set_rate_policy('slow', 10, '10 hours', 10);"
            "SELECT tenantcall.set_rate_policy('brief', 1000000, '1 s')")
TAKE = ("SELECT coalesce(reason, 'ok'), count(*) FROM generate_series(1, %s) n,"
        " LATERAL tenantcall.take_for(%s, %s, n - n + 1) GROUP BY 1")
OTHERS = range(2000, 3000)  # companies with buckets all over the table

# place -> what brings a session there, and whether it holds a lock exclusively then
PLACES = {
    "spend": ("SELECT (tenantcall.take_for({c}, 'hard')).allowed", False),
    "new": ("SELECT (tenantcall.take_for({c} + 100000, 'hard')).allowed", True),
    "change": ("SELECT (tenantcall.take_for({c}, 'hard')).allowed", True),
    "all": ("SELECT allowed FROM tenantcall.take_all('{{hard,other}}')", True),
    "reserve": ("SELECT allowed FROM tenantcall.take('slow', 1, '9 hours')", True),
    "wait": ("SELECT allowed FROM tenantcall.take('slow', 1, '9 hours')", False),
    "evict": ("SELECT (tenantcall.take_for(g, 'brief')).allowed FROM generate_series(5000::bigint, 5300) g", True),
    "refund": ("SELECT tenantcall.refund('{t}')", True),
    "read": ("SELECT count(*) > 0 FROM tenantcall.stat_rate_limits", False),
}


def is_stopped(pid):
    """Is the process stopped?"""
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@pytest.fixture(scope="module")
def server(workspace, install):
    """A server with a small table, in which locks are not waited for long."""
    conf = {"tenantcall.rate_lock_timeout": "100ms", "tenantcall.rate_max_buckets": 2000,
            "tenantcall.rate_save_interval": 1}
    server = pgserver.Cluster(workspace, install, "stop", conf).start()
    server.create_template()
    server.create_database("app")
    server.sql(POLICIES, dbname="app")
    yield server
    server.discard()


class Victim:
    """A session that is stopped at a place."""

    def __init__(self, server, place, company):
        self.place = place
        self.connection = server.connect(dbname="app")
        self.pid = self.connection.info.backend_pid
        self.error = None
        setup = self.connection.execute
        setup("SELECT tenantcall.enter(%s)", (company,))
        ticket = setup(f"SELECT ticket FROM tenantcall.take_for({company}, 'hard')").fetchone()[0]
        self.spent = 1 if place != "refund" else 0
        if place in ("wait", "reserve"):
            setup("SELECT tenantcall.take('slow', 10)")
        if place == "change":
            server.sql(f"SELECT tenantcall.set_rate_policy('hard', {BURST}, '299 days')", dbname="app")
        setup("SELECT tenantcall.rate_test_stop(%s)", (place,))
        self.statement = PLACES[place][0].format(c=company, t="\\x" + ticket.hex())
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        server.wait_until(lambda: is_stopped(self.pid) or not self.thread.is_alive(), f"the stop at {place}")
        self.stopped = self.thread.is_alive()  # if not, another one who is stopped was in the way

    def run(self):
        try:
            self.connection.execute(self.statement)
        except psycopg.Error as error:
            self.error = error


def company_of(server):
    """A new company."""
    return int(server.sql("SELECT tenantcall.create_company('c', 'DE', 'Europe/Berlin')", dbname="app"))


def unavailable(connection):
    """Requests that were refused for want of a lock, so far."""
    return connection.execute("SELECT unavailable FROM tenantcall.rate_table()").fetchone()[0]


def take(connection, company, policy, count):
    """Takes one at a time: reason -> how often."""
    return dict(connection.execute(TAKE, (count, company, policy)).fetchall())


def fill(connection):
    """Makes buckets all over the table, also so many full ones that new ones make them go."""
    connection.execute("SELECT tenantcall.allow_for(g, 'other') FROM generate_series(%s::bigint, %s) g",
                       (OTHERS[0], OTHERS[-1]))
    connection.execute("SELECT tenantcall.allow_for(g, 'brief') FROM generate_series(4000::bigint, 4900) g")


@pytest.mark.parametrize("place", PLACES)
def test_stopped(server, place):
    """The buckets of others are there; the partition that is locked refuses in time; no token is lost or won."""
    exclusive = PLACES[place][1]
    company = company_of(server)
    connection = server.connect(dbname="app", autocommit=True)
    connection.execute("SET statement_timeout = '30 s'")
    fill(connection)
    before = unavailable(connection)
    victim = Victim(server, place, company)
    try:
        reasons = dict(connection.execute(
            "SELECT coalesce(reason, 'ok'), count(*) FROM generate_series(%s::bigint, %s) c,"
            " LATERAL tenantcall.take_for(c, 'other') GROUP BY 1", (OTHERS[0], OTHERS[-1])).fetchall())
        assert set(reasons) <= ({"ok", "unavailable"} if exclusive else {"ok"})
        assert reasons["ok"] > len(OTHERS) * 0.8
        mine = take(connection, company, "hard", 20)
        assert sum(mine.values()) == 20 and set(mine) <= ({"ok", "unavailable"} if exclusive else {"ok"})
        count = unavailable(connection) - before
        assert count >= reasons.get("unavailable", 0) + mine.get("unavailable", 0)
        assert (count > 0) == exclusive
        assert connection.execute("SELECT count(*) > 100 FROM tenantcall.stat_rate_limits").fetchone()[0]
    finally:
        os.kill(victim.pid, signal.SIGCONT)
        if place in ("wait", "reserve"):
            server.sql(f"SELECT pg_cancel_backend({victim.pid})")
        victim.thread.join()
    if place not in ("wait", "reserve"):
        assert victim.error is None
    spent = victim.spent + mine.get("ok", 0) + (place in ("spend", "change", "all"))
    rest = take(connection, company, "hard", BURST + 100)
    assert set(rest) == {"ok", "limited"}
    # a conversion rounds up what the bucket lacks, by less than a token
    assert BURST - spent - (place == "change") <= rest["ok"] <= BURST - spent


@pytest.fixture
def long_timeout(server):
    """Locks are waited for very long."""
    server.reload(**{"tenantcall.rate_lock_timeout": "60s"})
    yield
    server.reload(**{"tenantcall.rate_lock_timeout": "100ms"})


def test_the_wait_for_a_stopped_one_is_cancelled(server, long_timeout):
    """By statement_timeout, at every place that locks; raised errors where no result can tell."""
    company = company_of(server)
    connection = server.connect(dbname="app")
    connection.execute("SELECT tenantcall.enter(%s)", (company,))
    ticket = connection.execute("SELECT ticket FROM tenantcall.take('hard')").fetchone()[0]
    connection.execute("SET statement_timeout = '100 ms'")
    connection.execute("SAVEPOINT s")
    victim = Victim(server, "all", company)
    calls = ("allow('hard')", "take('hard')", "take('hard', 1, '1 s')", "take_all('{hard}')", "peek('hard')",
             f"refund('\\x{ticket.hex()}')", f"reset_bucket('hard', {company})", "reset_rate_stats()")
    try:
        server.wait_until(lambda: connection.execute("SHOW tenantcall.rate_lock_timeout").fetchone()[0] == "1min", "reload")
        for call in calls[:5] + calls[6:]:
            with pytest.raises(psycopg.errors.QueryCanceled):
                connection.execute(f"SELECT tenantcall.{call}")
            connection.execute("ROLLBACK TO s")
        server.reload(**{"tenantcall.rate_lock_timeout": "50ms"})
        server.wait_until(lambda: connection.execute("SHOW tenantcall.rate_lock_timeout").fetchone()[0] == "50ms", "reload")
        connection.execute("SET statement_timeout = '30 s'")
        connection.execute("SAVEPOINT s")
        for call in calls[5:]:
            with pytest.raises(psycopg.Error) as error:
                connection.execute(f"SELECT tenantcall.{call}")
            assert error.value.sqlstate == "PT503"
            connection.execute("ROLLBACK TO s")
    finally:
        os.kill(victim.pid, signal.SIGCONT)
        victim.thread.join()
    assert connection.execute(f"SELECT tenantcall.{calls[5]}").fetchone()[0] is True


@pytest.mark.parametrize("places", (("spend", "new", "read"), ("change", "all", "wait"), ("reserve", "evict", "refund")))
def test_killed(server, places):
    """SIGKILL at every place: the server starts over with what was saved last, and goes on."""
    saved = server.data / "pg_stat" / "tenantcall_rate"
    connection = server.connect(dbname="app", autocommit=True)
    fill(connection)
    companies = [company_of(server) for _ in range(20)]
    for company in companies:
        assert take(connection, company, "hard", 600) == {"ok": 600}
    spare = iter(companies)
    now = time.time()
    server.wait_until(lambda: saved.exists() and saved.stat().st_mtime > now + 1, "a save")
    victims = []
    for place in places:
        while not (victims and victims[-1].place == place and victims[-1].stopped):
            victims.append(Victim(server, place, next(spare)))
    crashes = server.log().count("reinitializing")
    for victim in victims:
        if victim.stopped:
            os.kill(victim.pid, signal.SIGKILL)
    for victim in victims:
        victim.thread.join()

    def again():
        try:
            return server.log().count("reinitializing") > crashes and server.connect(dbname="app", autocommit=True)
        except psycopg.OperationalError:
            return None

    connection = server.wait_until(again, "the server to recover")
    for company in companies:
        reasons = take(connection, company, "hard", BURST)
        assert set(reasons) == {"ok", "limited"}
        assert BURST - 602 <= reasons["ok"] <= BURST - 600


class Worker:
    """A session that does all kinds of things to the buckets, and counts what it was given."""

    def __init__(self, server, company, number):
        self.connection = server.connect(dbname="app")
        self.pid = self.connection.info.backend_pid
        self.connection.execute("SELECT tenantcall.enter(%s)", (company,))
        self.dice = random.Random(number)
        self.spent = {"hard": 0, "other": 0}
        self.refused = 0
        self.error = None

    def step(self):
        """One request."""
        run, dice = self.connection.execute, self.dice
        cost = dice.choice((1, 1, 2, 5))
        kind = dice.randrange(8)
        if kind == 0:
            allowed, reason = run("SELECT allowed, reason FROM tenantcall.take_all('{hard,other}', %s)",
                                  ([cost, cost],)).fetchone()
            for policy in self.spent:
                self.spent[policy] += cost if allowed else 0
        elif kind == 1:
            run("SELECT tenantcall.allow_for(g, 'brief') FROM generate_series(%s::bigint, %s) g", (cost * 1000, cost * 1000 + 50))
            return
        elif kind == 2:
            allowed, reason, ticket = run("SELECT allowed, reason, ticket FROM tenantcall.take('other', %s)", (cost,)).fetchone()
            self.spent["other"] += cost if allowed else 0
            run("SAVEPOINT s")
            try:
                if allowed and run("SELECT tenantcall.refund(%s)", (ticket,)).fetchone()[0]:
                    self.spent["other"] -= cost
            except psycopg.Error as error:
                assert error.sqlstate == "PT503"
                run("ROLLBACK TO s")
        elif kind == 3:
            run("SELECT count(*) FROM tenantcall.stat_rate_limits")
            return
        else:
            policy = dice.choice(("hard", "other"))
            allowed, reason = run("SELECT allowed, reason FROM tenantcall.take(%s, %s)", (policy, cost)).fetchone()
            self.spent[policy] += cost if allowed else 0
        assert reason in (None, "limited", "unavailable"), reason
        self.refused += reason == "unavailable"

    def run(self, done):
        try:
            while not done.is_set():
                self.step()
        except BaseException as error:  # handed over to the main thread
            self.error = error


def test_a_storm_of_stops(server):
    """Sessions stopped at random and continued, while policies change and buckets make way: every
    token that was given is missing from the bucket, and no other."""
    company = company_of(server)
    server.sql(f"SELECT tenantcall.set_rate_policy('hard', 100000, '300 days', company_id => {company})", dbname="app")
    workers = [Worker(server, company, n) for n in range(6)]
    admin = server.connect(dbname="app", autocommit=True)
    done = threading.Event()
    threads = [threading.Thread(target=worker.run, args=(done,)) for worker in workers]
    for thread in threads:
        thread.start()
    dice = random.Random(4)
    try:
        for turn in range(150):
            chosen = dice.sample(workers, 2)
            for worker in chosen:
                os.kill(worker.pid, signal.SIGSTOP)
            if turn % 10 == 0:
                admin.execute("SELECT tenantcall.set_rate_policy('hard', 100000, %s, company_id => %s)",
                              (f"{300 - turn // 10} days", company))
            time.sleep(dice.random() * 0.04)
            for worker in chosen:
                os.kill(worker.pid, signal.SIGCONT)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert [worker.error for worker in workers] == [None] * len(workers)
    left = dict(admin.execute("SELECT policy, remaining FROM tenantcall.stat_rate_limits"
                              " WHERE company_id = %s AND policy <> 'brief'", (company,)).fetchall())
    spent = {policy: sum(worker.spent[policy] for worker in workers) for policy in left}
    assert sum(spent.values()) > 1000
    assert 0 <= left["other"] - (1000000 - spent["other"]) <= 5
    assert -1 <= left["hard"] - (100000 - spent["hard"]) <= 5
