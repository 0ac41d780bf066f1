"""Maintenance: jobs run company by company, by hand, by pg_cron, and by the HTTP worker's timer."""
import os
import signal
import threading

import psycopg
import pytest

import pgserver
from conftest import Database

HOME, OTHER = "house", "front desk"  # database of pg_cron, and another
JOBS = {"holds", "leases", "stuck_calls", "outbox", "partitions", "retention", "usage"}
LEASES = 5
# What happens when a lease of a company is deleted.
HINDER = """
CREATE FUNCTION public.hinder() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN %s; RETURN OLD; END $$;
CREATE TRIGGER hinder BEFORE DELETE ON telephony.call_leases FOR EACH ROW WHEN (OLD.company_id = %s)
EXECUTE FUNCTION public.hinder()"""
RELIEVE = "DROP TRIGGER hinder ON telephony.call_leases; DROP FUNCTION public.hinder()"

# When that was, in the transaction's eyes.
NOTE = """
CREATE TABLE public.noted (at timestamptz);
CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN INSERT INTO public.noted VALUES (now()); RETURN OLD; END $$;
CREATE TRIGGER note BEFORE DELETE ON telephony.call_leases FOR EACH ROW EXECUTE FUNCTION public.note()"""


class Place(Database):
    """A database with companies whose leases have expired."""

    def __init__(self, cluster, name, companies=3):
        super().__init__(cluster, name)
        self.companies = [int(self.sql(f"SELECT tenantcall.create_company('c{n}', 'DE', 'Europe/Berlin')"))
                          for n in range(companies)]

    def make_old(self, leases=LEASES):
        """Gives each company expired leases, and no others."""
        with self.connect(autocommit=True) as conn:
            conn.execute("TRUNCATE telephony.call_leases")
            for company in self.companies:
                with conn.transaction():
                    conn.execute("SELECT tenantcall.enter(%s)", [company])
                    conn.execute(
                        "INSERT INTO telephony.call_leases (holder, direction, acquired_at, seen_at) "
                        "SELECT 'old ' || n, 'outbound', now() - interval '1 day', "
                        "now() - interval '1 day' FROM generate_series(1, %s) AS n", [leases])

    def left(self):
        """How many leases each company has left."""
        rows = self.sql("SELECT company_id, count(*) FROM telephony.call_leases GROUP BY 1")
        found = dict(map(int, row.split("|")) for row in rows.split("\n") if row)
        return [found.get(company, 0) for company in self.companies]

    def status(self, job):
        """What maintenance_status() says of a job."""
        with self.connect(autocommit=True) as conn:
            cursor = conn.cursor(row_factory=psycopg.rows.dict_row)
            return cursor.execute("SELECT * FROM tenantcall.maintenance_status() WHERE job = %s",
                                  [job]).fetchone()

    def schedule(self, role="postgres", function="schedule"):
        """Schedules, or unschedules; what was done with each job."""
        with self.connect(role=role, autocommit=True) as conn:
            rows = conn.execute(f"SELECT job, action FROM tenantcall.{function}_maintenance()")
            return dict(rows.fetchall())

    def advice(self):
        """How many findings of health() have scheduling as their remedy."""
        return self.sql("SELECT count(*) FROM tenantcall.health() WHERE remedy = 'SELECT * FROM tenantcall.schedule_maintenance()'")

    def cron_jobs(self):
        """The jobs that pg_cron has for this database."""
        return self.cluster.sql(f"SELECT jobid, jobname, schedule, username, active, command "
                                f"FROM cron.job WHERE database = '{self.name}' ORDER BY jobname",
                                dbname=HOME)


@pytest.fixture(scope="module")
def server(workspace, install):
    """A server with pg_cron, which connects as anybody through the socket."""
    sharedir = install.pg_config("sharedir")
    if not os.path.exists(f"{sharedir}/extension/pg_cron.control"):
        pytest.skip("pg_cron is not installed")
    server = pgserver.Cluster(workspace, install, "cron", {
        "shared_preload_libraries": "pg_cron, tenantcall", "cron.database_name": HOME,
        "tenantcall.worker_databases": f'"{OTHER}"', "tenantcall.maintenance_interval": 0,
        "max_worker_processes": 20})
    server.conf["cron.host"] = server.socket_dir
    server.start()
    server.create_template()
    yield server
    server.stop("immediate")


@pytest.fixture(scope="module")
def places(server):
    """The database that pg_cron lives in, and another with an HTTP worker."""
    for name in (HOME, OTHER):
        server.create_database(name)
    server.sql("CREATE EXTENSION pg_cron", dbname=HOME)
    return {name: Place(server, name) for name in (HOME, OTHER)}


def fresh(place):
    """Takes back what an earlier test has left."""
    place.schedule(function="unschedule")
    place.sql("DELETE FROM tenantcall.maintenance_jobs; DELETE FROM tenantcall.maintenance_runs")
    return place


@pytest.fixture
def home(places):
    """The database that pg_cron lives in."""
    return fresh(places[HOME])


@pytest.fixture
def other(places):
    """Another database, with an HTTP worker."""
    return fresh(places[OTHER])


@pytest.fixture(params=["home", "other"])
def place(request):
    """Either."""
    return request.getfixturevalue(request.param)


def test_by_hand(home):
    """A job by hand does its work for all companies; so does everything."""
    home.make_old()
    home.sql("CALL tenantcall.run_maintenance('leases')")
    assert home.left() == [0, 0, 0]
    status = home.status("leases")
    assert (status["row_count"], status["companies"], status["busy"], status["failed"]) == (15, 3, 0, 0)
    assert status["last_end"] >= status["last_start"] and not status["running"]
    home.sql("CALL tenantcall.run_maintenance()")
    with home.connect() as conn:
        ran = conn.execute("SELECT job FROM tenantcall.maintenance_status() "
                           "WHERE last_end IS NOT NULL AND consecutive_failures = 0").fetchall()
    assert {job for job, in ran} == JOBS


def test_schedule(place):
    """Scheduled once, all jobs are there; again, nothing changes; what was changed is repaired."""
    server = place.cluster
    assert place.advice() != "0"
    server.sql("SELECT cron.schedule('tenantcall somebody else', '* * * * *', 'SELECT 1')", dbname=HOME)
    assert place.schedule() == dict.fromkeys(JOBS, "created")
    before = place.cron_jobs()
    assert before.count("CALL tenantcall.run_maintenance(") == len(JOBS)
    assert place.schedule() == dict.fromkeys(JOBS, "unchanged")
    assert place.cron_jobs() == before and place.advice() == "0"
    server.sql(f"""
        UPDATE cron.job SET active = false WHERE database = '{place.name}' AND jobname LIKE '%holds%';
        UPDATE cron.job SET command = 'SELECT 1' WHERE database = '{place.name}' AND jobname LIKE '%usage%';
        DELETE FROM cron.job WHERE database = '{place.name}' AND jobname LIKE '%outbox%'""", dbname=HOME)
    repaired = place.schedule()
    assert (repaired["holds"], repaired["usage"], repaired["outbox"]) == ("repaired", "repaired", "created")
    assert place.cron_jobs().count("CALL tenantcall.run_maintenance(") == len(JOBS)
    place.sql("INSERT INTO tenantcall.maintenance_jobs (job, enabled) VALUES ('usage', false)")
    assert place.schedule()["usage"] == "removed"
    assert place.schedule(function="unschedule") == dict.fromkeys(JOBS - {"usage"}, "removed")
    assert "run_maintenance" not in place.cron_jobs()
    others = server.sql("SELECT cron.unschedule('tenantcall somebody else')", dbname=HOME)
    assert others == "t"


def test_pg_cron_runs_it(home, other):
    """pg_cron runs the jobs, in its own database and in another."""
    for place in (home, other):
        place.make_old()
        place.sql("INSERT INTO tenantcall.maintenance_jobs (job, schedule, every) "
                  "VALUES ('leases', '@reboot', '1 day')")
        place.schedule()
    home.cluster.restart()
    for place in (home, other):
        home.cluster.wait_until(lambda place=place: place.left() == [0, 0, 0], "pg_cron")
        home.cluster.wait_until(lambda place=place: place.status("leases")["last_end"], "the end")
        status = place.status("leases")
        assert (status["row_count"], status["problem"]) == (15, None)
    details = home.sql("SELECT DISTINCT status FROM cron.job_run_details "
                       "WHERE command LIKE '%leases%' AND status IN ('succeeded', 'failed')")
    assert details == "succeeded"


def test_one_company_stops_no_other(home):
    """What fails for one company, and what is locked, is left; the others have their turn."""
    first, second, third = home.companies
    home.make_old()
    home.sql(HINDER % ("RAISE 'this company is broken'", second))
    home.sql("CALL tenantcall.run_maintenance('leases')")
    assert home.left() == [0, LEASES, 0]
    status = home.status("leases")
    assert (status["failed"], status["consecutive_failures"], status["companies"]) == (1, 1, 3)
    assert status["last_error"] == f"company {second}: this company is broken (SQLSTATE P0001)"
    assert "fails" in status["problem"]
    home.sql(RELIEVE)
    home.sql("CALL tenantcall.run_maintenance('leases')")
    status = home.status("leases")
    assert (home.left(), status["consecutive_failures"], status["problem"]) == ([0, 0, 0], 0, None)

    home.sql("CALL tenantcall.run_maintenance('usage')")
    with home.connect() as holder:
        holder.execute("SELECT FROM telephony.usage_state WHERE company_id = %s FOR UPDATE", [second])
        home.sql("CALL tenantcall.run_maintenance('usage')")
        status = home.status("usage")
        assert (status["busy"], status["failed"], status["companies"]) == (1, 0, 3)
        assert "locked" in status["problem"]


def test_bounded(home):
    """A run takes so many rows of each company, and so much time: then the next goes on."""
    home.make_old()
    home.sql("INSERT INTO tenantcall.maintenance_jobs (job, max_rows) VALUES ('leases', 2)")
    for left in (3, 1, 0):
        home.sql("CALL tenantcall.run_maintenance('leases')")
        assert home.left() == [left] * 3
    home.sql("DELETE FROM tenantcall.maintenance_jobs")
    home.make_old()
    for number, left in enumerate(([0, LEASES, LEASES], [0, 0, LEASES])):
        home.sql(HINDER % ("PERFORM pg_sleep(0.25)", home.companies[number]))
        home.sql("SET tenantcall.maintenance_max_time = '1s'; CALL tenantcall.run_maintenance('leases')")
        assert home.left() == left
        home.sql(RELIEVE)
    home.sql("CALL tenantcall.run_maintenance('leases')")
    assert home.left() == [0, 0, 0]
    assert home.sql("SELECT last_company FROM tenantcall.maintenance_runs WHERE job = 'leases'") == ""


class Runner(threading.Thread):
    """Runs a job in a session of its own."""

    def __init__(self, place):
        super().__init__(daemon=True)
        self.conn = place.connect(autocommit=True)
        self.error = None
        self.start()

    def run(self):
        try:
            self.conn.execute("CALL tenantcall.run_maintenance('leases')")
        except psycopg.Error as error:
            self.error = error

    def end(self):
        """Waits for the end; returns the error."""
        self.join(60)
        self.conn.close()
        return self.error


def test_commits(home):
    """Each company's work is committed at once; within a transaction it is the transaction's."""
    home.make_old()
    home.sql(HINDER % ("PERFORM pg_sleep(60)", home.companies[1]))
    runner = Runner(home)
    home.cluster.wait_until(lambda: home.left()[0] == 0, "the first company's turn")
    home.sql(f"SELECT pg_cancel_backend({runner.conn.info.backend_pid})")
    assert isinstance(runner.end(), psycopg.errors.QueryCanceled)
    assert home.left() == [0, LEASES, LEASES]
    home.sql(RELIEVE)
    with home.connect() as conn:
        conn.execute("CALL tenantcall.run_maintenance('leases')")
        conn.rollback()
        assert home.left() == [0, LEASES, LEASES]
        with pytest.raises(psycopg.errors.RaiseException, match="PT404"):
            conn.execute("DO $$ BEGIN CALL tenantcall.run_maintenance('nothing'); EXCEPTION "
                         "WHEN OTHERS THEN RAISE '%', SQLSTATE; END $$")
    home.sql("DO $$ BEGIN CALL tenantcall.run_maintenance('leases'); END $$")
    assert home.left() == [0, 0, 0]


def test_killed_in_a_run(home):
    """A second run at the same time does nothing; a run that is killed is noted, and repeated."""
    server = home.cluster
    home.make_old()
    home.sql(HINDER % ("PERFORM pg_sleep(60)", home.companies[1]))
    runner = Runner(home)
    server.wait_until(lambda: home.left()[0] == 0, "the first company's turn")
    assert home.status("leases")["running"]
    again = home.psql("-c", "CALL tenantcall.run_maintenance('leases')")
    assert (again.returncode, "already being run" in again.stderr) == (0, True)
    os.kill(runner.conn.info.backend_pid, signal.SIGKILL)
    assert runner.end() is not None
    server.wait_until(lambda: home.psql("-c", "SELECT 1").returncode == 0, "recovery")
    status = home.status("leases")
    assert (status["running"], status["consecutive_failures"]) == (False, 1)
    assert "cut short" in status["problem"]
    home.sql(RELIEVE)
    home.sql("CALL tenantcall.run_maintenance('leases')")
    status = home.status("leases")
    assert (home.left(), status["consecutive_failures"], status["problem"]) == ([0, 0, 0], 0, None)
    assert "cut short" in status["last_error"]


def test_outbox_is_reaped(home):
    """What is due without an order is removed, of companies that are gone as well."""
    company = home.companies[0]
    home.sql("INSERT INTO tenantcall.outbox_due (company_id, outbox_id, credential, state, last_attempt, due_at) "
             f"SELECT c, n, 'x', 'dead', 1, 'infinity' FROM unnest(ARRAY[{company}, 999999]) AS c, generate_series(1, 3) AS n")
    home.sql("CALL tenantcall.run_maintenance('outbox')")
    assert home.sql("SELECT count(*) FROM tenantcall.outbox_due") == "0"
    assert home.status("outbox")["row_count"] == 6


def test_owner(home, other):
    """The jobs' owner cannot just be dropped; if it is gone all the same, that is said and repaired."""
    server = home.cluster
    server.sql("CREATE ROLE ops SUPERUSER LOGIN; CREATE ROLE nologin SUPERUSER")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="may not log in"):
        with other.connect(autocommit=True) as conn:
            conn.execute("SET ROLE nologin")
            conn.execute("SELECT tenantcall.schedule_maintenance()")
    assert set(other.schedule(role="ops").values()) == {"created"}
    assert other.status("holds")["scheduled_by"] == "ops"
    with pytest.raises(Exception, match="cannot be dropped because some objects depend on it"):
        server.sql("DROP ROLE ops")
    server.sql("ALTER ROLE ops RENAME TO operations")
    assert "is called \"operations\" now" in other.status("holds")["problem"]
    server.sql("ALTER ROLE operations RENAME TO ops")
    other.sql("DROP OWNED BY ops")
    server.sql("DROP ROLE ops; DROP ROLE nologin")
    assert "was dropped" in other.status("holds")["problem"]
    assert set(other.schedule().values()) == {"repaired"}
    assert other.status("holds")["problem"] is None or "dropped" not in other.status("holds")["problem"]
    home.make_old()
    home.sql("INSERT INTO tenantcall.maintenance_jobs (job, schedule, every) VALUES ('leases', '@reboot', '1 day')")
    home.schedule()
    server.restart()
    server.wait_until(lambda: home.left() == [0, 0, 0], "pg_cron to run again")


def test_cancelled(home, other):
    """Whoever gives up scheduling in another database leaves nothing that schedules later."""
    with home.connect() as blocker:
        blocker.execute("LOCK TABLE cron.job")
        with other.connect(autocommit=True) as conn, pytest.raises(psycopg.errors.QueryCanceled):
            conn.execute("SET statement_timeout = '2s'")
            conn.execute("SELECT tenantcall.schedule_maintenance()")
        home.cluster.wait_until(lambda: home.sql("SELECT count(*) FROM pg_stat_activity "
                                                 "WHERE backend_type = 'tenantcall schedule'") == "0", "the process to end")
    assert other.cron_jobs() == "" and other.status("holds")["scheduled_by"] is None


def test_roles(home, other):
    """An administrator may do all of it, with pg_cron's rights; others may not."""
    server = home.cluster
    server.sql("CREATE ROLE keeper LOGIN; CREATE ROLE second LOGIN; CREATE ROLE app LOGIN")
    for place in (home, other):
        place.sql("SELECT tenantcall.grant_admin('keeper'), tenantcall.grant_admin('second'), tenantcall.grant_app('app')")
        place.make_old()
        place.sql("CALL tenantcall.run_maintenance('leases')", role="keeper")
        assert place.left() == [0, 0, 0]
        for call in ("CALL tenantcall.run_maintenance()", "SELECT tenantcall.schedule_maintenance()",
                     "SELECT tenantcall.maintenance_status()"):
            with pytest.raises(Exception, match="permission denied"):
                place.sql(call, role="app")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied"):
            place.schedule(role="keeper")
        home.sql("GRANT USAGE ON SCHEMA cron TO keeper, second")
        if place is other:
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="schedule_in_database"):
                place.schedule(role="keeper")
            home.sql("GRANT EXECUTE ON FUNCTION cron.schedule_in_database TO keeper")
        assert set(place.schedule(role="keeper").values()) == {"created"}
        assert set(place.schedule(role="keeper").values()) == {"unchanged"}
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="scheduled by role \"keeper\""):
            place.schedule(role="second")
        server.sql("ALTER ROLE keeper RENAME TO keeper2")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="scheduled by role \"keeper\""):
            place.schedule(role="keeper2")
        server.sql("ALTER ROLE keeper2 RENAME TO keeper")
        assert place.sql("SELECT check_name, object, detail FROM tenantcall.check_isolation() "
                         "WHERE severity = 'error' AND check_name IN ('role_functions', 'role_unnoted')") == ""
        assert set(place.schedule(role="keeper", function="unschedule").values()) == {"removed"}
        place.schedule(role="keeper")
        revoked = place.psql("-c", "SELECT tenantcall.revoke_role('keeper')")
        assert (revoked.returncode, 'belong to role "keeper"' in revoked.stderr) == (0, True)
        assert set(place.schedule().values()) == {"repaired"}
        home.sql("REVOKE USAGE ON SCHEMA cron FROM keeper, second")


def test_without_pg_cron(db, home, other):
    """What is missing is said, and what to do."""
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="pg_cron is not loaded") as raised:
        with db.connect() as conn:
            conn.execute("SELECT tenantcall.schedule_maintenance()")
    assert "shared_preload_libraries" in raised.value.diag.message_hint
    assert db.sql("SELECT count(*) FROM tenantcall.unschedule_maintenance()") == "0"
    home.sql("DROP EXTENSION pg_cron")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="pg_cron is not installed") as raised:
        other.schedule()
    assert HOME in raised.value.diag.message_detail
    home.sql("CREATE EXTENSION pg_cron")
    other.sql("INSERT INTO tenantcall.maintenance_jobs VALUES ('holds', '30 seconds', '30 seconds')")
    if home.sql("SELECT extversion LIKE '1.4%' FROM pg_extension WHERE extname = 'pg_cron'") == "t":
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="no schedules in seconds"):
            other.schedule()
    else:
        assert other.schedule()["holds"] == "created"


def test_timer(other):
    """The HTTP worker has the essential jobs done, by a process of its own, unless it was just done."""
    server = other.cluster
    worker = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'tenantcall http worker'"
    server.wait_until(lambda: other.sql(worker), "the HTTP worker")
    before = other.sql(worker)
    other.sql("INSERT INTO tenantcall.maintenance_jobs (job, schedule, every) "
              "VALUES ('leases', '* * * * *', '1 second'), ('holds', '* * * * *', '1 day')")
    other.sql("CALL tenantcall.run_maintenance('holds')")
    other.make_old()
    server.reload(**{"tenantcall.maintenance_interval": 1})
    server.wait_until(lambda: other.left() == [0, 0, 0], "the timer")
    other.make_old()
    server.wait_until(lambda: other.left() == [0, 0, 0], "the timer once more")
    # now() is that of each transaction, of which every company has one
    noted = "SELECT count(*) = 15, count(DISTINCT at), min(at) > '%s' FROM public.noted"
    other.sql(NOTE)
    began = other.sql("SELECT clock_timestamp()")
    other.make_old()
    server.wait_until(lambda: other.left() == [0, 0, 0], "the timer a third time")
    assert other.sql(noted % began) == "t|3|t"
    other.sql("DROP FUNCTION public.note() CASCADE; DROP TABLE public.noted")
    runs = "SELECT string_agg(job, ',' ORDER BY job) FROM tenantcall.maintenance_runs WHERE started_by = 'tenantcall worker'"
    server.wait_until(lambda: other.sql(runs) == "leases,outbox,partitions,stuck_calls", "the essential jobs")
    assert other.sql("SELECT runs, started_by FROM tenantcall.maintenance_runs WHERE job = 'holds'") == "1|postgres"
    assert other.sql(worker) == before


def test_dropped_under_the_timer(other):
    """Neither DROP EXTENSION nor DROP DATABASE is held up by a run for long."""
    server = other.cluster
    server.reload(**{"tenantcall.maintenance_interval": 1})
    slow = "SELECT count(*) FROM pg_locks WHERE locktype = 'object' AND classid = 'tenantcall.maintenance_runs'::regclass"
    for statement, dbname in ((f'DROP DATABASE "{OTHER}"', "postgres"), ("DROP EXTENSION tenantcall CASCADE", OTHER)):
        if dbname == OTHER:
            server.create_database(OTHER)
            other = Place(server, OTHER)
        other.sql("INSERT INTO tenantcall.maintenance_jobs (job, schedule, every) SELECT job, '0 0 1 1 *', '1 second' "
                  "FROM tenantcall.maintenance_job_defaults")
        if dbname == OTHER:
            other.schedule()
        other.sql(HINDER % ("PERFORM pg_sleep(0.2)", other.companies[1]))
        other.make_old(15)
        server.wait_until(lambda: other.sql(slow) != "0", "a run")
        done = server.psql("-c", statement, dbname=dbname)
        assert (done.returncode, "pg_cron still has the jobs" in done.stderr) == (0, dbname == OTHER)
    assert server.sql("SELECT count(*) FROM pg_extension WHERE extname = 'tenantcall'", dbname=OTHER) == "0"
    server.wait_until(lambda: server.sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'tenantcall maintenance'") == "0",
                      "the process to end")
    assert "PANIC" not in server.log()


def test_standby(cluster):
    """A standby runs nothing, and says so."""
    copy = cluster.standby("maintenance")
    try:
        for call in ("CALL tenantcall.run_maintenance()", "SELECT tenantcall.schedule_maintenance()"):
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                with copy.connect(dbname="tc_template", autocommit=True) as conn:
                    conn.execute(call)
        assert copy.sql("SELECT count(*) FROM tenantcall.maintenance_status()", dbname="tc_template") == str(len(JOBS))
    finally:
        copy.stop("immediate")
