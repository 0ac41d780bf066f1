"""stage: a server with an HTTP worker and a fast calendar, for benchmarks.

    with Workspace() as work, Stage(work) as stage:      # nginx answers; SystemExit without it
        stage.server                                     # a pgserver.Cluster, database stage.DATABASE
        stage.script("SELECT 1;", role="gateway")        # transactions a second of a pgbench script

Extensions to compare with are used where the server has them; TC_BENCH_TREE may name a directory
into which "make install DESTDIR=..." has put them instead.

Settings are those of an installation, but for the quota, which would end every benchmark at two
requests a second, and for the calendar on loopback, which has to be allowed.
"""
import datetime
import os
import pathlib
import re
import shutil
import sys

HERE = pathlib.Path(__file__).resolve().parent
for directory in ("setup", "calcom"):
    sys.path.insert(0, str(HERE.parent / directory))

from calcom_nginx import NginxStandIn, Unavailable
from pgserver import Cluster, Failure, Install, as_server_user

DATABASE = "bench"
DAY = datetime.date.today() + datetime.timedelta(days=7)
SLOTS = {"status": "success", "data": {str(DAY): [
    {"start": f"{DAY}T{hour:02d}:{minute:02d}:00.000Z"}
    for hour in range(8, 16) for minute in (0, 30)]}}
WORKER = ("SELECT pid FROM pg_stat_activity WHERE backend_type ILIKE 'tenantcall http worker%'"
          f" AND datname = '{DATABASE}'")


def installation(work):
    """The private installation, with what TC_BENCH_TREE holds."""
    install = Install.given()
    if install is not None:
        return install
    install = Install.build(work)
    for directory in (Install.pg_config("pkglibdir"), Install.pg_config("sharedir") + "/extension"):
        source = pathlib.Path(os.environ.get("TC_BENCH_TREE", "/nowhere") + directory)
        for file in source.iterdir() if source.is_dir() else ():
            if file.is_file() and not file.name.startswith("tenantcall"):
                shutil.copy(file, str(install.root) + directory)
    return install


class Stage:
    """A server, a calendar, and a company with a branch and a service in it."""

    def __init__(self, work, **conf):
        self.work = work
        self.install = installation(work)
        self.server = Cluster(work, self.install, "bench", {
            "tenantcall.worker_databases": DATABASE, "tenantcall.http_local_hosts": "127.0.0.1",
            "tenantcall.http_quota": 0, "shared_buffers": "128MB", "max_connections": 200,
            "fsync": "on", **conf})
        directory = work.dir / "nginx"
        directory.mkdir()
        directory.chmod(0o777)
        self.calendar = NginxStandIn(directory, as_server_user([], die_with_us=True), slots=SLOTS)

    def __enter__(self):
        try:
            self.calendar.start()
        except Unavailable as reason:
            raise Failure(f"not measured: {reason}") from None
        self.server.start()
        self.server.create_template()
        self.server.create_database(DATABASE)
        self.fill()
        self.worker = int(self.server.wait_until(lambda: self.sql(WORKER), "the HTTP worker"))
        return self

    def __exit__(self, *_):
        self.server.stop("immediate")
        self.calendar.stop()

    def sql(self, statements):
        """Runs statements as superuser."""
        return self.server.sql(statements, dbname=DATABASE)

    def fill(self):
        """Makes roles, and the company."""
        for kind in ("app", "gateway", "admin"):
            self.sql(f"CREATE ROLE {kind} LOGIN; SELECT tenantcall.grant_{kind}('{kind}')")
        self.sql(f"SELECT tenantcall.set_credential('bench', 'cal_bench', '{self.calendar.url}')")
        self.company = self.sql(
            "SELECT tenantcall.create_company('bench', 'DE', 'Europe/Berlin')")
        self.sql(f"SELECT tenantcall.assign_credential({self.company}, 'bench')")
        self.branch, self.service = self.sql(
            f"BEGIN; SELECT FROM tenantcall.enter({self.company});"
            " INSERT INTO telephony.branches (name) VALUES ('bench') RETURNING branch_id;"
            " INSERT INTO telephony.services (name, calcom_event_type_id) VALUES ('bench', 501)"
            " RETURNING service_id; COMMIT").split()

    def script(self, text, seconds, clients=8, role="gateway"):
        """Transactions a second of a pgbench script."""
        path = self.work.dir / "script.sql"
        path.write_text(text)
        path.chmod(0o644)
        return pgbench(self.server, path, seconds, clients, role, DATABASE)


def pgbench(server, path, seconds, clients, role, dbname):
    """Transactions a second of a script in a file; raises if one fails."""
    out = server.client_program("pgbench", "-n", "-M", "prepared", "-c", str(clients), "-j", "1",
                                "-T", str(seconds), "-U", role, "-f", path, dbname)
    return float(re.search(r"tps = ([\d.]+)", out).group(1))
