"""The HTTP worker's life: kills, restarts, databases that come and go, standbys."""
import os
import signal
import time

import psycopg
import pytest

from http_stage import CONF, Stage

pytestmark = pytest.mark.limit(300)


@pytest.fixture
def make_stage(make_cluster):
    """A server of the test's own with a worker, which may be killed."""
    def make(**conf):
        server = make_cluster(**{**CONF, **conf})
        server.create_database("app")
        stage = Stage(server)
        stage.wait_for_worker()
        return stage
    return make


def test_killed_and_terminated(make_stage, calcom):
    """kill -9 restarts the server, SIGTERM the worker alone; both times it goes on."""
    stage = make_stage(**{"tenantcall.http_quota": 120})
    name, pid = stage.account(calcom), stage.wait_for_worker()
    stage.cluster.wait_until(lambda: stage.stat(name, "quota_remaining") != "", "the account") \
        if stage.check(name) == (200, "ok") else pytest.fail("it never worked")
    calcom.fault("hang", times=3)
    future = stage.later(stage.ask, name, requests=3, at_once=3, max_wait="60 s")
    stage.wait_for(name, "under_way = 3")
    os.kill(pid, signal.SIGTERM)
    result = future.result()
    assert (result["reason"], result["sent"], result["failed"]) == ("shutdown", True, 3)
    second = stage.wait_for_worker(other_than=pid)
    assert stage.stat(name, "under_way") == "0"
    assert stage.check(name) == (200, "ok")
    os.kill(second, signal.SIGKILL)
    stage.cluster.wait_until(lambda: "all server processes terminated; reinitializing" in stage.cluster.log(),
                             "the crash to be noticed")
    stage.cluster.wait_until(lambda: stage.cluster.psql("-c", "SELECT 1").returncode == 0, "the server")
    third = stage.wait_for_worker(other_than=second)
    result = stage.ask(name, requests=20, at_once=20, max_wait="1 s")
    assert result["answered"] <= 2 and result["reason"] == "quota"  # it begins without tokens
    with stage.connect() as connection:
        connection.execute("SELECT pg_cancel_backend(%s)", [third])
    assert stage.check("nobody")[1] == "no_credential" and stage.worker() == third


def test_a_credential_that_could_not_be_read(make_stage, calcom):
    """What kept the worker from reading it is over some day; the account is then used again."""
    stage = make_stage()
    name = stage.account(calcom)
    with stage.connect() as connection, connection.transaction():
        connection.execute("LOCK TABLE tenantcall.secrets IN ACCESS EXCLUSIVE MODE")
        assert stage.check(name) == (None, "no_credential")
    stage.cluster.wait_until(lambda: stage.check(name) == (200, "ok"), "the credential")


def test_fast_shutdown(make_stage, calcom):
    """50 requests under way do not hold the server up."""
    stage = make_stage(**{"tenantcall.http_credential_requests": 50, "tenantcall.http_timeout": "60 s"})
    name = stage.account(calcom)
    calcom.fault("hang", times=None)
    future = stage.later(stage.ask, name, requests=50, at_once=50, max_wait="60 s")
    stage.wait_for(name, "under_way = 50")
    began = time.monotonic()
    stage.cluster.stop("fast")
    took = time.monotonic() - began
    print(f"fast shutdown with 50 requests under way: {took:.3f} s")
    assert took < 30, "it waited for answers"  # which take 60 s; 2 s are promised, on an idle machine
    with pytest.raises(psycopg.OperationalError):
        future.result()
    stage.cluster.start()
    stage.wait_for_worker()


def test_extension_comes_and_goes(make_stage, calcom):
    """DROP EXTENSION in the middle of a request."""
    stage = make_stage()
    name, pid = stage.account(calcom), stage.worker()
    calcom.fault("slow", seconds=2)
    future = stage.later(stage.ask, name, max_wait="30 s")
    stage.wait_for(name, "under_way = 1")
    stage.sql("DROP EXTENSION tenantcall CASCADE")
    assert future.result()["answered"] == 1
    stage.sql("SET client_min_messages = warning; DROP SCHEMA telephony CASCADE; CREATE EXTENSION tenantcall;"
              "SELECT tenantcall.create_tables()")
    assert stage.check(name) == (None, "no_credential")
    again = stage.account(calcom)
    assert stage.check(again) == (200, "ok")
    assert stage.worker() == pid
    log = [line for line in stage.cluster.log().split("\n") if f"[{pid}]" in line]
    assert not [line for line in log if "ERROR" in line or "FATAL" in line], log


def test_database_comes_and_goes(make_cluster, calcom):
    """The worker waits for its database, and is not in the way when it goes."""
    server = make_cluster(**CONF)
    stage = Stage(server)
    server.create_database("app")
    first = stage.wait_for_worker()
    calcom.fault("hang", times=None)
    name = stage.account(calcom)
    future = stage.later(stage.ask, name, max_wait="60 s")
    stage.wait_for(name, "under_way = 1")
    os_pid = server.sql("SELECT pid FROM pg_stat_activity WHERE datname = 'app' AND backend_type = 'client backend'")
    server.sql(f"SELECT pg_terminate_backend({os_pid})")
    with pytest.raises(psycopg.OperationalError):
        future.result()
    server.sql("DROP DATABASE app")  # no FORCE
    assert stage.worker() is None
    server.create_database("app")
    second = stage.wait_for_worker(other_than=first)
    server.sql("ALTER DATABASE app RENAME TO elsewhere")
    server.sql("ALTER DATABASE elsewhere RENAME TO app")
    third = stage.wait_for_worker(other_than=second)
    server.sql("CREATE DATABASE copy TEMPLATE app")
    stage.wait_for_worker(other_than=third)
    server.sql("DROP DATABASE app WITH (FORCE)")
    assert "FATAL" not in [line for line in server.log().split("\n") if "http" in line]


def test_standby(make_stage, calcom):
    """A standby has no worker until it is promoted."""
    stage = make_stage()
    name = stage.account(calcom)
    standby = stage.cluster.standby()
    try:
        other = Stage(standby)
        stage.cluster.wait_for_replay(standby)
        assert other.worker() is None
        with pytest.raises(psycopg.Error) as raised:
            other.check(name)
        assert raised.value.sqlstate == "PT503"
        standby.promote()
        other.wait_for_worker()
        assert other.check(name) == (200, "ok")
    finally:
        standby.stop("immediate")


def test_without_room(make_stage, calcom):
    """More credentials and companies than shared memory has room for: all of them work."""
    stage = make_stage(**{"tenantcall.http_max_entries": 16})
    names = [stage.account(calcom) for _ in range(6)]
    for name in names:
        assert stage.check(name) == (200, "ok")
    for company in range(1, 30):
        assert stage.ask(names[0], company_id=company)["answered"] == 1
    assert stage.sql("SELECT count(*) FROM tenantcall.stat_http") == "4"
    assert stage.sql("SELECT count(*) FROM tenantcall.stat_http_companies") == "12"
