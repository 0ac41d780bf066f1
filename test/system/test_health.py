"""health(): names what is wrong, since when, and what to do; and what it says to do helps.

Each test stages an incident, sees it in health() and in a view, runs the remedy as it is printed,
and sees health() clean again.
"""
import secrets

import psycopg
import pytest

import pgserver
from calcom_standin import CalcomStandIn
from desk import DATABASE, monday
from retell import Call
from ward import Ward, recent

ROOM = 300  # buckets


@pytest.fixture(scope="module", name="ward")
def make_ward(workspace, install, certificates):
    """One server for all incidents, with a calendar."""
    with CalcomStandIn(tls=certificates) as calcom:
        cluster = pgserver.Cluster(workspace, install, "health", {
            "tenantcall.worker_databases": DATABASE, "tenantcall.http_local_hosts": "127.0.0.1",
            "tenantcall.http_breaker_failures": 3, "tenantcall.http_breaker_pause": "10 min",
            "tenantcall.rate_max_buckets": ROOM, "tenantcall.stat_companies": 64}).start()
        cluster.create_template()
        yield Ward(cluster, calcom)
        cluster.stop("immediate")
        assert calcom.errors == []


def test_well(ward):
    """Nothing is wrong: one row says so, to administrators and pg_monitor; apps may not ask."""
    assert ward.wrong() == []
    with ward.db.connect(autocommit=True) as conn:
        conn.execute("SET ROLE pg_monitor")
        severities = [row[0] for row in conn.execute("SELECT * FROM tenantcall.health()")]
        assert "ok" in severities and set(severities) <= {"ok", "info"}
    with ward.connect("app") as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute("SELECT * FROM tenantcall.health()")


def test_within_a_company(ward):
    """Whoever has entered a company sees that one alone: health() does not call all others well."""
    here = ward.company("Here", Mitte=None)
    with ward.connect("admin") as conn:
        conn.autocommit = False
        conn.execute("SELECT tenantcall.enter(%s)", [here.id])
        severities = {severity: what for severity, what, *_ in conn.execute("SELECT * FROM tenantcall.health()")}
        assert "ok" not in severities and "only the company" in severities["warning"]
    assert ward.wrong() == []


def test_flood(ward):
    """A company that calls more functions than it may, and what to do about it."""
    acme = ward.company("Acme", Mitte="+4930111111")
    quiet = ward.company("Quiet", Mitte="+4930111112")
    ward.admin.execute("SELECT tenantcall.set_rate_policy('function_call', 5, '1 hour', company_id => %s)", [acme.id])
    gateway = ward.gateway()
    call, other = Call("flood", to="+4930111111"), Call("quiet", to="+4930111112")
    outcomes = [gateway.function(call.function(f"t{i}"))["outcome"] for i in range(9)]
    assert outcomes == ["run"] * 5 + ["limited"] * 4
    assert gateway.function(other.function("t"))["outcome"] == "run"
    what, since, remedy = ward.finding("floods", "warning")
    assert f"company {acme.id} (Acme) floods: 4 refused by policy function_call" == what
    assert recent(since)
    assert ward.why(acme) == "limited by function_call; refused: function_call limited rate_limit" and ward.why(quiet) is None
    assert ward.query("SELECT rate_denied, rate_allowed, refused_day, refusals_day FROM tenantcall.stat_companies "
                      "WHERE company_id = %s", [acme.id]) == [(4, 5, 4, {"limited": 4})]
    assert ward.query("SELECT outcome, count FROM tenantcall.stat_calls WHERE company_id = %s AND kind = 'function_call' "
                      "ORDER BY 1", [acme.id]) == [("limited", 4), ("run", 5)]
    ward.follow(remedy)
    assert ward.wrong() == []
    assert gateway.function(call.function("later"))["outcome"] == "run"


def test_flood_suspended(ward):
    """The other remedy: the company is not served any more, at once."""
    spam = ward.company("Spam", Mitte="+4930111113")
    ward.admin.execute("SELECT tenantcall.set_rate_policy('function_call', 1, '1 hour', company_id => %s)", [spam.id])
    gateway = ward.gateway()
    call = Call("spam", to="+4930111113")
    assert [gateway.function(call.function(f"t{i}"))["outcome"] for i in range(2)] == ["run", "limited"]
    _, _, remedy = ward.finding("floods", "warning")
    ward.follow(remedy, which=1)
    assert gateway.function(call.function("t9"))["outcome"] == "suspended"
    assert ward.wrong() == []
    ward.finding("is suspended (floods), and is still called: 1 refused", "info")
    assert ward.why(spam).startswith("suspended: floods")
    ward.admin.execute("SELECT tenantcall.set_company_status(%s, 'active', 'over')", [spam.id])
    ward.admin.execute("SELECT tenantcall.set_rate_policy('function_call', 100, '1 minute', company_id => %s, change_mode => 'reset')", [spam.id])
    assert gateway.function(call.function("t10"))["outcome"] == "run"
    assert ward.wrong() == []


def test_calendar_down(ward):
    """The calendar answers nobody: which account, since when, why; and used again when it works."""
    account = ward.credential("down")
    shop = ward.company("Shop", account, Mitte=None)
    cut = ward.service(shop, "Haircut", 501)
    ward.calcom.fault("status", code=500, times=None)
    for day in range(4):
        with pytest.raises(psycopg.Error) as info:
            ward.slots(shop, cut, day=monday(day + 1))
        assert info.value.sqlstate == "PT503"
    ward.cluster.wait_until(lambda: ward.query("SELECT breaker FROM tenantcall.stat_http WHERE credential = 'down'") == [("open",)],
                            "the breaker to open")
    what, since, remedy = ward.finding("calendar account down", "error")
    assert "it is left alone, last error http_500" in what and recent(since)
    assert "the calendar did not answer lately" in ward.why(shop)
    assert ward.query("SELECT failed > 0 OR refused > 0, last_failed_at > now() - interval '1 hour' FROM tenantcall.stat_cache "
                      "WHERE company_id = %s", [shop.id]) == [(True, True)]
    ward.calcom.clear_faults()
    ward.follow(remedy, which=1)
    assert ward.query("SELECT breaker FROM tenantcall.stat_http WHERE credential = 'down'") == [("closed",)]
    assert ward.wrong() == []
    assert ward.slots(shop, cut, day=monday(9))


def test_set_breaker(ward):
    """An account that is taken out by hand is left alone at once, and used again at once."""
    account = ward.credential("hand")
    shop = ward.company("Hand", account, Mitte=None)
    cut = ward.service(shop, "Haircut", 502)
    ward.admin.execute("SELECT tenantcall.set_breaker('hand', 'open')")
    with pytest.raises(psycopg.Error):
        ward.slots(shop, cut)
    _, _, remedy = ward.finding("calendar account hand", "error")
    ward.follow(remedy, which=1)
    assert ward.wrong() == []
    assert ward.slots(shop, cut, day=monday(2))


def test_stuck_calls(ward):
    """Calls whose end was never told."""
    lost = ward.company("Lost", Mitte="+4930111114")
    ward.gateway().event(Call("stuck", to="+4930111114").started())
    assert ward.query("SELECT calls_live, calls_by_state FROM tenantcall.stat_companies WHERE company_id = %s",
                      [lost.id]) == [(1, {"ongoing": 1})]
    assert ward.wrong() == []
    ward.db.sql(f"UPDATE telephony.calls SET created_at = now() - interval '3 hours' WHERE company_id = {lost.id}")
    what, since, remedy = ward.finding("no sign of life", "warning")
    assert what == f"1 calls of 1 companies (company {lost.id}) have no end, and gave no sign of life for 2h"
    assert not recent(since)
    ward.follow(remedy)
    assert ward.wrong() == []
    assert ward.query("SELECT calls_live, calls_by_state FROM tenantcall.stat_companies WHERE company_id = %s",
                      [lost.id]) == [(0, {"abandoned": 1})]


def test_quarantine(ward):
    """Authentic messages of a number that is nobody's yet."""
    late = ward.company("Late", Mitte=None)
    gateway = ward.gateway()
    call = Call("late", to="+4930111115")
    assert gateway.event(call.started())["outcome"] == "quarantined"
    assert gateway.event(call.ended())["outcome"] == "quarantined"
    what, since, remedy = ward.finding("could not be placed", "warning")
    assert what.startswith("2 authentic messages") and "number +4930111115" in what and recent(since)
    remedy = remedy.replace("<company_id>", str(late.id)).replace("<branch_id>", str(late.branches["Mitte"]))
    ward.follow(remedy, which=0)
    what, _, again = ward.finding("could not be placed", "warning")
    assert what.endswith(f", which belongs to company {late.id} now") and again in remedy
    assert ward.query("SELECT count(*) FROM tenantcall.quarantined WHERE replayed_at IS NULL") == [(2,)]
    ward.follow(again)
    assert ward.wrong() == []
    assert ward.see(late, "SELECT status FROM telephony.calls") == [("completed",)]


def test_quarantine_without_number(ward):
    """A call from a web page, of an agent that is nobody's, has no number to be looked up."""
    body = Call("web").started_web(agent_id="agent_of_the_page", from_number=None, to_number=None, direction=None)
    assert ward.gateway().event(body)["outcome"] == "quarantined"
    what, _, remedy = ward.finding("could not be placed", "warning")
    assert what.startswith("1 authentic messages") and "number" not in what and "replay_quarantined()" in remedy
    ward.db.sql("DELETE FROM tenantcall.quarantine WHERE replayed_at IS NULL")
    assert ward.wrong() == []


def test_pause(ward):
    """A paused outbox is not forgotten."""
    ward.admin.execute("SELECT tenantcall.pause_outbox()")
    what, since, remedy = ward.finding("the outbox is paused", "warning")
    assert ward.roles["admin"] in what and recent(since)
    ward.db.sql("UPDATE tenantcall.outbox_pause SET paused_at = now() - interval '2 hours'")
    ward.finding("for more than an hour", "error")
    ward.follow(remedy)
    assert ward.wrong() == []


def test_full_table(ward):
    """No room for buckets: said, with the statement that makes room."""
    ward.admin.execute("SELECT tenantcall.set_rate_policy('crowd', 10, '10 hours')")
    with ward.connect("gateway") as conn:
        reasons = dict(conn.execute(
            "SELECT coalesce(r.reason, 'allowed'), count(*) FROM generate_series(100000, %s) AS g, "
            "tenantcall.take_for(g, 'crowd') AS r GROUP BY 1", [100000 + 2 * ROOM]).fetchall())
    assert reasons["table_full"] >= ROOM
    what, since, remedy = ward.finding("the table of buckets is full", "error")
    assert f"{reasons['table_full']} requests were refused" in what and recent(since)
    assert ward.query("SELECT refused FROM tenantcall.rate_table()") == [(reasons["table_full"],)]
    ward.db.sql(remedy.split(" -- ")[0])
    ward.cluster.restart(**{"tenantcall.rate_max_buckets": None})
    ward.refresh()
    assert ward.db.sql("SHOW tenantcall.rate_max_buckets") == str(2 * ROOM)
    assert ward.wrong() == []
    with ward.connect("gateway") as conn:
        assert conn.execute("SELECT allowed FROM tenantcall.take_for(200000, 'crowd')").fetchone() == (True,)


def write_keys(ward, lines):
    """Replaces the key file, and has the server read it."""
    ward.cluster.key_file.write_text("".join(lines))
    with ward.db.connect(autocommit=True) as conn:
        before, = conn.execute("SELECT pg_conf_load_time()").fetchone()
        conn.execute("SELECT pg_reload_conf()")
        ward.cluster.wait_until(lambda: conn.execute("SELECT pg_conf_load_time() > %s", [before]).fetchone()[0],
                                "the reload")


def test_key_rotated_too_early(ward):
    """The old key was taken out while tokens and secrets still need it: which one, and back with it."""
    acme = ward.company("Token", Mitte=None)
    old = ward.cluster.key_file.read_text().splitlines(keepends=True)
    token = ward.token(acme)
    with ward.connect("app") as conn, conn.transaction():
        conn.execute("SELECT tenantcall.enter_token(%s)", [token])
    new = f"k3 {secrets.token_hex(32)}\n"
    write_keys(ward, [new, *old[1:]])
    with ward.connect("app") as conn:
        for _ in range(3):
            with pytest.raises(psycopg.Error), conn.transaction():
                conn.execute("SELECT tenantcall.enter_token(%s)", [token])
    what, since, remedy = ward.finding("tokens are refused", "error")
    assert what == 'tokens are refused (3): they are signed by key "k2", which was taken out of the key file too early'
    assert recent(since)
    assert 'Put key "k2" back below the first line of the key file' in remedy
    what, _, remedy = ward.finding("stored secrets cannot be read", "error")
    assert 'under key "k2"' in what and 'Put key "k2" back below the first line' in remedy
    assert ward.query("SELECT count FROM tenantcall.stat_context WHERE kind = 'token' AND outcome = 'unknown_key'") == [(3,)]
    write_keys(ward, [new, old[0], *old[1:]])
    with ward.connect("app") as conn, conn.transaction():
        conn.execute("SELECT tenantcall.enter_token(%s)", [token])
    assert ward.query("SELECT count FROM tenantcall.stat_context WHERE kind = 'enter' AND outcome = 'token' AND company_id = %s",
                      [acme.id]) == [(2,)]
    ward.refresh()
    assert ward.wrong() == []


def test_key_file_gone(ward):
    """No key file at all: an error with the reason, and the other checks go on."""
    ward.cluster.reload(**{"tenantcall.key_file": "nowhere"})
    ward.cluster.wait_until(lambda: any("nowhere" in row[1] for row in ward.health()), "the reload")
    severity, what, _, remedy = next(row for row in ward.health() if "key file" in row[1])
    assert severity == "error" and "No such file" in what and "tenantcall.key_file" in remedy
    ward.cluster.reload(**{"tenantcall.key_file": str(ward.cluster.key_file)})
    ward.cluster.wait_until(lambda: ward.wrong() == [], "the reload")


def test_a_check_that_fails(ward):
    """It is a finding, and takes nothing with it."""
    ward.db.sql("ALTER TABLE tenantcall.outbox_pause RENAME TO elsewhere")
    what, _, _ = ward.finding("check pause could not be made", "warning")
    assert "outbox_pause" in what
    ward.db.sql("ALTER TABLE tenantcall.elsewhere RENAME TO outbox_pause")
    assert ward.wrong() == []


def test_levels(ward):
    """Without tables, and without the library preloaded, health() says what it can."""
    ward.cluster.sql("CREATE DATABASE bare")
    ward.cluster.sql("CREATE EXTENSION tenantcall", dbname="bare")
    assert ward.cluster.sql("SELECT severity FROM tenantcall.health()", dbname="bare") == "ok"
    assert ward.cluster.sql("SELECT count(*) FROM tenantcall.stat_companies", dbname="bare") == "0"
    standby = ward.cluster.standby()
    rows = standby.sql("SELECT severity, what FROM tenantcall.health()", dbname=DATABASE).split("\n")
    assert [row.split("|")[0] for row in rows] == ["info", "info", "ok"] and "standby" in rows[0]
    standby.restart(**{"shared_preload_libraries": None})
    severity, what, _, remedy = standby.sql("SELECT * FROM tenantcall.health()", dbname=DATABASE).split("|")
    assert (severity, what) == ("error", "tenantcall is not loaded by shared_preload_libraries")
    assert "shared_preload_libraries" in remedy
    standby.stop("immediate")


def test_more_companies_than_are_counted(ward):
    """What finds no room of its own is counted with the database: nothing is lost."""
    entered = "SELECT sum(count)::bigint, sum(count) FILTER (WHERE company_id IS NULL) IS NOT NULL, " \
              "count(DISTINCT company_id) FROM tenantcall.stat_context WHERE kind = 'enter' AND outcome = 'id'"
    before = ward.query(entered)[0][0] or 0
    with ward.connect("admin") as conn:
        conn.autocommit = True
        for number in range(70):
            company, = conn.execute("SELECT tenantcall.create_company(%s, 'DE', 'Europe/Berlin')", [f"many {number}"]).fetchone()
            with conn.transaction():
                conn.execute("SELECT tenantcall.enter(%s)", [company])
    after, together, apart = ward.query(entered)[0]
    assert (after - before, together, apart <= 64) == (70, True, True)
