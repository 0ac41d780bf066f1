"""Maintenance: jobs run company by company, by hand, by pg_cron, and by the HTTP worker's timer."""
import os
import signal
import threading
import time

import psycopg
import pytest

from conftest import Database

HOME, OTHER = "house", "front desk"  # database of pg_cron, and another
JOBS = {"holds", "leases", "stuck_calls", "outbox", "partitions", "retention", "usage"}
LEASES = 5
OLD = """
SELECT tenantcall.enter(%s);
INSERT INTO telephony.call_leases (holder, direction, acquired_at, seen_at)
SELECT 'old ' || n, 'outbound', now() - interval '1 day', now() - interval '1 day' FROM generate_series(1, %s) AS n;
"""


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

    def cron_jobs(self):
        """The jobs that pg_cron has for this database."""
        return self.cluster.sql(f"SELECT jobid, jobname, schedule, username, active, command "
                                f"FROM cron.job WHERE database = '{self.name}' ORDER BY jobname",
                                dbname=HOME)


@pytest.fixture(scope="module")
def server(workspace, install):
    """A server with pg_cron, which connects as anybody through the socket."""
    import pgserver
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
def home(server):
    """The database that pg_cron lives in."""
    server.create_database(HOME)
    server.sql("CREATE EXTENSION pg_cron", dbname=HOME)
    return Place(server, HOME)


@pytest.fixture(scope="module")
def other(server, home):
    """Another database, with an HTTP worker."""
    server.create_database(OTHER)
    return Place(server, OTHER)


@pytest.fixture(params=["home", "other"])
def place(request):
    """Either."""
    found = request.getfixturevalue(request.param)
    found.schedule(function="unschedule")
    found.sql("DELETE FROM tenantcall.maintenance_jobs; DELETE FROM tenantcall.maintenance_runs")
    return found


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
    server.sql("SELECT cron.schedule('tenantcall somebody else', '* * * * *', 'SELECT 1')", dbname=HOME)
    assert place.schedule() == dict.fromkeys(JOBS, "created")
    before = place.cron_jobs()
    assert before.count("CALL tenantcall.run_maintenance(") == len(JOBS)
    assert place.schedule() == dict.fromkeys(JOBS, "unchanged")
    assert place.cron_jobs() == before
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
                  "VALUES ('leases', '@reboot', '1 day') ON CONFLICT DO NOTHING")
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
