"""Waiting for a rate limit: order, cancellation of every kind, places given back; all or nothing."""
import os
import random
import socket
import threading
import time

import psycopg
import pytest

from test_rate import in_threads

SLOW = "SELECT tenantcall.set_rate_policy('slow', %d, '%s', 1)"
TAKE = "SELECT allowed FROM tenantcall.take('slow', 1, '9 hours')"


class Waiter:
    """A session that waits in a thread of its own."""

    def __init__(self, db, company, order=None):
        self.connection = db.connect()
        self.pid = self.connection.info.backend_pid
        self.connection.execute("SELECT tenantcall.enter(%s)", (company,))
        self.error = None
        self.done_at = None
        self.order = order
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        try:
            self.connection.execute(TAKE)
            self.done_at = time.monotonic()
            if self.order is not None:
                self.order.append(self.pid)
        except psycopg.Error as error:
            self.error = error


def company_of(db):
    """A new company."""
    return int(db.sql("SELECT tenantcall.create_company('waiting', 'DE', 'Europe/Berlin')"))


def reset_after(admin):
    """Seconds until the bucket is full."""
    return float(admin.execute("SELECT coalesce(max(extract(epoch FROM reset_after)), 0)"
                               " FROM tenantcall.stat_rate_limits").fetchone()[0])


def start(db, admin, company, count, order=None):
    """Waiters that have come one after another."""
    waiters = []
    for _ in range(count):
        before = reset_after(admin)
        waiters.append(Waiter(db, company, order))
        db.cluster.wait_until(lambda: reset_after(admin) > before + 0.05 or waiters[-1].done_at, "the next to wait")
    return waiters


def test_first_come_first_served(db):
    """Waiters go on in the order in which they came, at the rate of the policy."""
    company = company_of(db)
    db.sql(SLOW % (1, "0.5 s"))
    admin = db.connect(autocommit=True)
    admin.execute(f"SELECT tenantcall.take_for({company}, 'slow')")
    order = []
    waiters = start(db, admin, company, 5, order)
    event = admin.execute("SELECT wait_event_type, wait_event FROM pg_stat_activity WHERE pid = %s",
                          (waiters[-1].pid,)).fetchone()
    assert event == ("Extension", "TenantcallRateLimit" if int(db.sql("SHOW server_version_num")) >= 170000 else "Extension")
    for waiter in waiters:
        waiter.thread.join()
    assert order == [waiter.pid for waiter in waiters]
    times = [waiter.done_at for waiter in waiters]
    assert times[-1] - times[0] > 4 * 0.5 - 0.2
    assert admin.execute("SELECT waited FROM tenantcall.stat_rate_limits").fetchone()[0] == 5


@pytest.mark.parametrize("how", ("cancel", "terminate", "timeout", "disconnect"))
def test_a_place_is_given_back(db, how):
    """Whoever waits behind one who leaves moves up by one place; nobody else is disturbed."""
    company = company_of(db)
    db.sql(SLOW % (1, "1 hour"))
    admin = db.connect(autocommit=True)
    admin.execute(f"SELECT tenantcall.take_for({company}, 'slow')")
    first, second, third = start(db, admin, company, 3)
    assert 3 * 3600 < reset_after(admin) <= 4 * 3600
    if how == "disconnect":
        socket.socket(fileno=os.dup(second.connection.fileno())).shutdown(socket.SHUT_RDWR)
    elif how == "timeout":
        pass
    else:
        admin.execute(f"SELECT pg_{how}_backend(%s)", (second.pid,))
    if how == "timeout":
        late = db.connect()
        late.execute(f"SELECT tenantcall.enter({company})")
        late.execute("SET statement_timeout = '100 ms'")
        with pytest.raises(psycopg.errors.QueryCanceled):
            late.execute(TAKE)
        assert 3 * 3600 < reset_after(admin) <= 4 * 3600
    else:
        db.cluster.wait_until(lambda: reset_after(admin) <= 3 * 3600, "the place")
        assert reset_after(admin) > 2 * 3600
        second.thread.join()
        assert second.error is not None
    assert first.thread.is_alive() and third.thread.is_alive()
    db.sql(f"SELECT tenantcall.reset_bucket('slow', {company})")
    first.thread.join()
    third.thread.join()
    assert first.error is None and third.error is None
    if how == "timeout":
        second.thread.join()


def test_those_behind_move_up(db):
    """A place given back ahead of others shortens their wait, and never puts two at one instant."""
    company = company_of(db)
    db.sql(SLOW % (1, "2 s"))
    admin = db.connect(autocommit=True)
    began = time.monotonic()
    admin.execute(f"SELECT tenantcall.take_for({company}, 'slow')")
    order = []
    waiters = start(db, admin, company, 3, order)
    admin.execute("SELECT pg_cancel_backend(%s)", (waiters[0].pid,))
    for waiter in waiters:
        waiter.thread.join()
    assert order == [waiters[1].pid, waiters[2].pid]
    assert 1.9 < waiters[1].done_at - began < 3.5
    assert waiters[2].done_at - waiters[1].done_at > 1.7


@pytest.mark.parametrize("change", ("faster", "reset", "disabled", "shadow", "dropped"))
def test_a_turn_follows_the_policy(db, change):
    """Who waits goes by the policy as it is now, although nobody else asks."""
    company = company_of(db)
    db.sql(SLOW % (1, "3 hours"))
    admin = db.connect(autocommit=True)
    admin.execute(f"SELECT tenantcall.take_for({company}, 'slow')")
    order = []
    waiters = start(db, admin, company, 2, order)
    assert reset_after(admin) > 2 * 3600
    if change == "dropped":
        admin.execute("SELECT tenantcall.drop_rate_policy('slow')")
    else:
        admin.execute("SELECT tenantcall.set_rate_policy('slow', 1, %s, 1, change_mode => %s, enabled => %s, shadow => %s)",
                      ("0.2 s" if change == "faster" else "3 hours", "reset" if change == "reset" else "proportional",
                       change != "disabled", change == "shadow"))
    for waiter in waiters:
        waiter.thread.join()
    if change == "dropped":
        assert [waiter.error.sqlstate for waiter in waiters] == ["PT404"] * 2
        return
    assert [waiter.error for waiter in waiters] == [None] * 2
    if change == "faster":
        assert order == [waiter.pid for waiter in waiters]
        assert waiters[1].done_at - waiters[0].done_at > 0.1


def test_a_slower_policy_makes_those_who_wait_wait_longer(db):
    """Ten times as slow: the turn comes ten times as late, and not when it would have come before."""
    company = company_of(db)
    db.sql(SLOW % (1, "4 s"))
    admin = db.connect(autocommit=True)
    admin.execute(f"SELECT tenantcall.take_for({company}, 'slow')")
    waiter, = start(db, admin, company, 1)
    db.sql(SLOW % (1, "1 hour"))
    db.cluster.wait_until(lambda: reset_after(admin) > 1800, "the change")
    waiter.thread.join(5)
    assert waiter.thread.is_alive()
    db.sql(f"SELECT tenantcall.reset_bucket('slow', {company})")
    waiter.thread.join()
    assert waiter.error is None


@pytest.mark.limit(60)
def test_take_all_in_any_order(make_cluster):
    """Random orders of policies, in a table so small that buckets are evicted all the time."""
    server = make_cluster(**{"tenantcall.rate_max_buckets": 40})
    server.create_database("app")
    names = [f"p{n}" for n in range(6)]
    for name in names:
        server.sql(f"SELECT tenantcall.set_rate_policy('{name}', 100, '300 days')", dbname="app")
    server.sql("SELECT tenantcall.set_rate_policy('brief', 1000000, '1 s')", dbname="app")
    company = server.sql("SELECT tenantcall.create_company('c', 'DE', 'Europe/Berlin')", dbname="app")
    connections = [server.connect(dbname="app") for _ in range(8)]
    for connection in connections:
        connection.execute(f"SELECT tenantcall.enter({company})")
        connection.execute("SET statement_timeout = '30 s'")
    spent = [dict.fromkeys(names, 0) for _ in connections]

    def work(number, barrier):
        dice = random.Random(number)
        barrier.wait()
        for turn in range(300):
            chosen = dice.sample(names, dice.randrange(2, 6))
            costs = [dice.choice((1, 1, 2)) for _ in chosen]
            allowed, violated = connections[number].execute(
                "SELECT allowed, violated FROM tenantcall.take_all(%s, %s)", (chosen, costs)).fetchone()
            assert allowed == (violated == [])
            for name, cost in zip(chosen, costs):
                spent[number][name] += cost if allowed else 0
            connections[number].execute("SELECT tenantcall.allow_for(g, 'brief') FROM"
                                        " generate_series(%s::bigint, %s) g", (turn * 7 + 2, turn * 7 + 9))

    in_threads(8, work)
    for name in names:
        left = int(connections[0].execute("SELECT remaining FROM tenantcall.peek(%s)", (name,)).fetchone()[0])
        assert left == 100 - sum(part[name] for part in spent)
