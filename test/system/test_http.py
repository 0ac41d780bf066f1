"""The HTTP worker: what it refuses, what it survives, and that nobody sees its keys."""
import re

import psycopg
import pytest

import pgserver
from http_stage import CONF, Preload, Stage


@pytest.fixture(scope="module")
def shared_stage(workspace, install):
    """One server for all tests here."""
    with Preload(workspace):
        server = pgserver.Cluster(workspace, install, "http", CONF).start()
    server.create_template()
    server.create_database("app")
    stage = Stage(server)
    stage.wait_for_worker()
    yield stage
    server.discard()


@pytest.fixture
def stage(shared_stage):
    """The same, with its settings put back after each test."""
    yield shared_stage
    shared_stage.restore()


def test_check_credential(stage, calcom, cluster):
    """It says what a calendar thinks of a key; who may not ask, and where there is no worker."""
    name = stage.account(calcom)
    assert stage.check(name) == (200, "ok")
    stage.credential(name, calcom.url, "another key")
    assert stage.check(name) == (401, "denied")
    stage.sql(f"SELECT tenantcall.set_breaker('{name}', 'closed')")
    key = calcom.account("a new key")
    stage.credential(name, calcom.url, key)
    assert stage.check(name) == (200, "ok")
    assert stage.check("nobody") == (None, "no_credential")
    stage.sql("CREATE ROLE http_app LOGIN; SELECT tenantcall.grant_app('http_app');"
              "CREATE ROLE http_admin LOGIN; SELECT tenantcall.grant_admin('http_admin')")
    with stage.connect(role="http_admin") as admin:
        assert stage.check(name, connection=admin) == (200, "ok")
        assert admin.execute("SELECT count(*) FROM tenantcall.stat_http").fetchone()[0] > 0
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            stage.ask(name, connection=admin)
    with stage.connect(role="http_app") as app:
        for call in ("check_credential('x')", "set_breaker('x', 'open')", "reset_http_stats()",
                     "http_accounts()", "http_test_requests('x')"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                app.execute(f"SELECT tenantcall.{call}")
    stage.cluster.create_database("other")
    with pytest.raises(psycopg.Error) as raised, stage.cluster.connect(dbname="other") as other:
        other.execute("SELECT tenantcall.check_credential('x')")
    assert raised.value.sqlstate == "PT503"


@pytest.mark.parametrize("address", [
    "7f000001", "0a000001", "ac100001", "c0a80001", "a9fea9fe", "a9fe0001", "00000000", "64646464",
    "0" * 31 + "1", "0" * 20 + "ffff7f000001", "0" * 20 + "ffffa9fea9fe", "fe80" + "0" * 27 + "1",
    "fc00" + "0" * 27 + "1", "0064ff9b" + "0" * 16 + "7f000001", "2002a9fea9fe" + "0" * 19 + "1"])
def test_names_that_lead_inside(stage, calcom, address):
    """A name may resolve to whatever its owner likes: the address decides."""
    port = calcom.url.rpartition(":")[2]
    name = stage.credential("inside", f"https://{address}.addr.test:{port}")
    result = stage.ask(name)
    assert (result["reason"], result["sent"]) == ("address_refused", False)
    assert calcom.connections() == 0


def test_what_configuration_allows(stage, calcom):
    """Loopback and plain http for named hosts only; link-local for nobody."""
    port = calcom.url.rpartition(":")[2]
    for hosts, url, reason in (
            ("", f"http://127.0.0.1:{port}", "plain_http_refused"),
            ("", f"https://127.0.0.1:{port}", "address_refused"),
            ("127.0.0.1:1", f"http://127.0.0.1:{port}", "plain_http_refused"),
            (f"127.0.0.1:{port}", f"http://127.0.0.1:{port}", None),
            ("7f000001.addr.test", f"http://7f000001.addr.test:{port}", None),
            ("a9fea9fe.addr.test", f"http://a9fea9fe.addr.test:{port}", "address_refused"),
            ("", f"http://127.0.0.1:{port}", "plain_http_refused")):  # although connected before
        stage.reload(http_local_hosts=hosts)
        name = stage.credential("allowed", url, calcom.account("cal_key_allowed"))
        assert stage.ask(name)["reason"] == reason, (hosts, url)


def test_kept_connection_is_checked(stage, calcom):
    """A connection made while a host was trusted is not used for a request that may not."""
    port = calcom.tls_url.rpartition(":")[2]
    stage.reload(http_ca_file=calcom.ca_file, http_local_hosts="localhost")
    name = stage.account(calcom, f"https://localhost:{port}")
    assert stage.check(name) == (200, "ok")
    stage.reload(http_local_hosts="127.0.0.1")
    count = calcom.count()
    result = stage.ask(name)
    assert (result["reason"], result["sent"]) == ("address_refused", False)
    assert calcom.count() == count


def test_redirects(stage, calcom):
    """No redirect is followed, wherever to."""
    name = stage.account(calcom)
    for location in (f"{calcom.url}/v2/me?again", "http://169.254.169.254/latest", "file:///etc/passwd"):
        calcom.fault("redirect", location=location)
        result = stage.ask(name)
        assert (result["reason"], result["status"]) == ("redirect", None)
    assert [entry.target for entry in calcom.requests()] == ["/v2/me"] * 3


def test_certificates(stage, calcom):
    """Only a good certificate for the right name will do."""
    name = stage.account(calcom, calcom.tls_url)
    assert stage.ask(name)["reason"] == "tls"  # by an unknown authority
    stage.reload(http_ca_file=calcom.ca_file)
    assert stage.check(name) == (200, "ok")
    for kind in ("wrong_name", "expired", "untrusted"):
        stage.credential(name, calcom.bad_tls_url(kind))
        result = stage.ask(name)
        assert (kind, result["reason"], result["sent"]) == (kind, "tls", False)


def test_many_over_tls(stage, calcom_fast):
    """By HTTP/2 where libcurl and server speak it well, else by HTTP/1.1; writes among them."""
    stage.reload(http_ca_file=calcom_fast.ca_file)
    name = stage.credential("fast", calcom_fast.tls_url)
    writes = stage.later(stage.ask, name, requests=50, at_once=5, method="POST", path="/v2/bookings",
                         body="{}", **{"class": "write"})
    assert stage.ask(name, requests=1000, at_once=50, path="/v2/slots")["answered"] == 1000
    assert writes.result()["answered"] == 50


@pytest.mark.parametrize("fault, reason", [
    ("endless", "too_large"), ("endless_headers", "too_large"), ("large", "too_large"),
    ("reset", "broken_answer"), ("close", "broken_answer"), ("refuse", "broken_answer"),
    ("hang", "timeout"), ("trickle", "timeout")])
def test_faults(stage, calcom, fault, reason):
    """Whatever the calendar does, the request ends, and the next one works."""
    name = stage.account(calcom)
    calcom.fault(fault, times=None)
    result = stage.ask(name, max_wait="2 s")
    assert (result["reason"], result["sent"], result["answered"]) == (reason, True, 0)
    calcom.clear_faults()
    assert stage.check(name) == (200, "ok")
    assert calcom.errors == []


def test_nobody_listens(stage):
    """No server, no name."""
    result = stage.ask(stage.credential("none", "http://localhost:1"))
    assert (result["reason"], result["sent"]) == ("connect", False)
    result = stage.ask(stage.credential("none", "https://does-not-exist.invalid"), max_wait="5 s")
    assert result["reason"] in ("dns", "timeout") and not result["sent"]


def test_requests_with_line_ends(stage, calcom):
    """Nothing can be smuggled into a request."""
    name = stage.account(calcom)
    for path in ("/v2/me\r\nX: y", "/v2/me x", "@evil", "//evil/", "/a#b"):
        assert stage.ask(name, path=path)["reason"] == "invalid_request"
    assert stage.ask(name, method="TRACE")["reason"] == "invalid_request"
    stage.credential(name, calcom.url, "key\r\nX-Evil: y")
    assert stage.ask(name)["reason"] == "no_credential"
    assert calcom.count() == 0


@pytest.mark.parametrize("fault", ["close", "refuse", "drop", "reset"])
def test_write_is_sent_once(stage, calcom, fault):
    """libcurl sends again what broke on a kept connection: not what is no GET."""
    name = stage.account(calcom)
    assert stage.ask(name, requests=5)["answered"] == 5  # a connection is kept
    calcom.fault(fault, method="POST", times=None)
    result = stage.ask(name, method="POST", path="/v2/bookings", body="{}")
    assert (result["reason"], result["sent"]) == ("broken_answer", True)
    assert calcom.count("/v2/bookings", "POST") == 1


def test_hanging_names(stage, calcom):
    """A name server that hangs delays nobody else, and a waiting backend can be cancelled."""
    healthy, hanging = stage.account(calcom), stage.credential("hanging", "https://a.hang.test")
    stage.reload(http_connect_timeout="59s", http_timeout="59s")
    with stage.connect() as waiting, stage.connect() as timed_out:
        future = stage.later(stage.check, hanging, "60 s", waiting)
        stage.wait_for(hanging, "under_way = 1")
        assert stage.ask(healthy, requests=100, at_once=10)["answered"] == 100
        timed_out.execute("SET statement_timeout = '100 ms'")
        with pytest.raises(psycopg.errors.QueryCanceled):
            stage.check(hanging, "60 s", timed_out)
        assert not future.done() and stage.stat(hanging, "under_way") == "2"
        waiting.cancel()
        with pytest.raises(psycopg.errors.QueryCanceled):
            future.result()
        assert stage.stat(hanging, "under_way") == "2"  # the worker goes on
        assert stage.ask(healthy, requests=10)["answered"] == 10


def test_no_key_is_shown(stage, calcom):
    """Not in the log at any level, not in statistics, activity or errors."""
    secret = "cal_live_0123456789abcdefSECRET"
    stage.cluster.reload(log_min_messages="debug5", log_error_verbosity="verbose")
    name = stage.credential("secretive", calcom.url, calcom.account(secret))
    seen = []
    for fault in (None, "unauthorized", "status", "endless", "hang", "redirect", "not_json"):
        if fault:
            calcom.fault(fault)
        future = stage.later(stage.ask, name, max_wait="1 s")
        seen.append(stage.sql("SELECT string_agg(a::text, ';') FROM pg_stat_activity a; SELECT * FROM "
                              "tenantcall.stat_http, tenantcall.stat_http_companies"))
        seen.append(str(future.result()))
        stage.sql(f"SELECT tenantcall.set_breaker('{name}', 'closed')")
    for url in (calcom.tls_url, "https://localhost:1", "https://0a000001.addr.test"):
        stage.credential(name, url, secret)
        seen.append(str(stage.ask(name, max_wait="1 s")))
    key_file = stage.cluster.key_file.read_text()
    stage.cluster.key_file.write_text("other " + "x" * 40 + "\n")  # nothing can be decrypted now
    stage.cluster.reload()
    stage.cluster.wait_until(lambda: stage.check(name)[1] == "no_credential", "the keys to be gone")
    stage.cluster.key_file.write_text(key_file)
    stage.cluster.reload(log_min_messages="warning", log_error_verbosity="default")
    stage.cluster.wait_until(lambda: stage.check(name)[1] != "no_credential", "the keys to be back")
    log = stage.cluster.log()
    # the statement that brings a key is the client's; debug5 shows it as the client sent it
    mine = "\n".join(line for line in log.split("\n") if "set_credential" not in line)
    assert "DEBUG" in log
    assert secret not in mine and "Bearer" not in log and "uthorization" not in log
    assert not re.search(secret, "\n".join(seen))
    assert calcom.count() > 0


def test_too_many(stage, calcom):
    """More sessions than there are slots for their questions: the next one is told so at once."""
    name = stage.account(calcom)
    calcom.fault("hang", times=None)
    sessions = [stage.connect() for _ in range(75)]  # some slots may still be taken by tests before
    for session in sessions:
        session.pgconn.send_query(f"SELECT tenantcall.check_credential('{name}')".encode())

    def refused(question):
        try:
            return question(name, max_wait="100 ms") is None
        except psycopg.Error as error:
            return error.sqlstate == "PT429"

    def answered(session):
        session.pgconn.consume_input()
        return not session.pgconn.is_busy()

    stage.cluster.wait_until(lambda: sum(map(answered, sessions)) >= 11, "all 64 slots to be taken")
    assert refused(stage.check) and refused(stage.ask)
    for session in sessions:
        session.close()


def test_breaker(stage, calcom):
    """Failures open it, refusals of the calendar's business do not, denials do at once."""
    name = stage.account(calcom)
    stage.reload(http_breaker_failures=3, http_breaker_pause="1s")
    calcom.fault("status", code=500, times=2)
    calcom.fault("status", code=400, times=10)
    assert stage.ask(name, requests=12)["failed"] == 12
    assert stage.stat(name, "breaker") == "closed"
    calcom.fault("status", code=500, times=3)
    assert stage.ask(name, requests=3)["failed"] == 3
    result = stage.ask(name)
    assert (result["reason"], result["sent"], stage.stat(name, "breaker")) == ("breaker_open", False, "open")
    assert 0 < result["retry_after_ms"] <= 1000
    count = calcom.count()
    assert stage.ask(name, requests=50, at_once=50)["refused"] == 50
    assert calcom.count() == count
    stage.cluster.wait_until(lambda: stage.ask(name)["answered"] == 1, "the pause to end")
    assert stage.ask(name)["answered"] == 1
    assert stage.stat(name, "breaker") == "closed"
    calcom.fault("forbidden")
    assert stage.check(name) == (403, "denied")
    assert stage.stat(name, "breaker") == "open"
    stage.sql(f"SELECT tenantcall.set_breaker('{name}', 'closed')")
    assert stage.check(name) == (200, "ok")
    stage.sql(f"SELECT tenantcall.set_breaker('{name}', 'open')")
    assert stage.ask(name)["retry_after_ms"] is None
    stage.sql(f"SELECT tenantcall.set_breaker('{name}', 'closed'); SELECT tenantcall.reset_http_stats()")
    assert stage.stat(name, "requests || ' ' || breaker") == "0 closed"


def order_of(calcom):
    """The queries of the requests, in order of coming."""
    return [target.partition("?")[2] for _, target in
            sorted({(entry.serial, entry.target) for entry in calcom.requests("/v2/me")})]


def test_classes(stage, calcom):
    """Live calls before writes before refreshes; but one of four is a write, if one waits."""
    name = stage.account(calcom)
    stage.reload(http_credential_requests=1)
    calcom.fault("slow", seconds=1)
    futures = [stage.later(stage.ask, name, path="/v2/me?first")]
    stage.wait_for(name, "under_way = 1")
    for kind, number in (("refresh", 5), ("write", 5), ("live", 9)):
        futures.append(stage.later(stage.ask, name, requests=number, at_once=number,
                                   path=f"/v2/me?{kind}", **{"class": kind}))
        stage.wait_for(name, f"queued_{kind} = {number}")
    for future in futures:
        assert future.result()["failed"] == 0
    assert order_of(calcom) == ["first", *(["live"] * 3 + ["write"]) * 3, *["write"] * 2, *["refresh"] * 5]


def test_flood(stage, calcom):
    """A company that asks 10,000 times delays another's call by one request."""
    name = stage.account(calcom)
    stage.reload(http_credential_requests=2, http_queue_limit=60)
    calcom.fault("slow", seconds=0.02, times=None)
    flood = stage.later(stage.ask, name, requests=10000, at_once=10000, company_id=1,
                        path="/v2/me?flood", max_wait="60 s")
    stage.wait_for(name, "queued_live > 40")
    with stage.connect() as connection:
        for number in range(5):
            before = calcom.count()
            assert stage.ask(name, connection, company_id=2, path=f"/v2/me?{number}")["answered"] == 1
            assert order_of(calcom).index(str(number)) <= before + 10, "it waited behind the flood"
            assert not flood.done()
    result = flood.result()
    assert result["refused"] == 9940 and result["reason"] == "queue_full"
    parts = stage.sql("SELECT company_id, requests, refused_queue FROM tenantcall.stat_http_companies "
                      f"WHERE credential = '{name}' ORDER BY 1")
    assert parts == "1|60|9940\n2|5|0"


@pytest.mark.parametrize("style", ["none", "retry_after", "retry_after_date", "reset_seconds",
                                   "reset_unix", "reset_ms", "plain"])
def test_rate_limited(stage, calcom, style):
    """After a 429 nothing is sent for as long as it says."""
    name = stage.account(calcom)
    calcom.fault("rate_limited", style=style, seconds=30)
    result = stage.ask(name)
    assert result["status"] == 429
    seconds = float(stage.stat(name, "extract(epoch FROM quota_wait)"))
    assert (55 < seconds <= 60) if style == "none" else (25 < seconds <= 62)
    result = stage.ask(name, requests=20, at_once=20, max_wait="2 s")
    assert result["reason"] == "quota" and result["refused"] == 20
    assert result["retry_after_ms"] > 20000
    assert calcom.count() == 1
    assert stage.stat(name, "rate_limited") == "1"
