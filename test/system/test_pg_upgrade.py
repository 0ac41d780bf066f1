"""pg_upgrade of a server with everything in it, by copying and by linking.

From the version of TC_OLD_INSTALL, a tree with an older server and tenantcall built for it (see
test/matrix, which goes from 15 to 17), or else from the same version.
"""
import os
import pathlib

import pytest

import pgserver
from conftest import Database
from desk import monday
from full_house import FullHouse, contents, differences

DATABASE = "house"


@pytest.fixture
def old_install(install, monkeypatch):
    """The programs to upgrade from; libraries that this system does not have are in their lib."""
    root = os.environ.get("TC_OLD_INSTALL")
    if not root:
        return install
    bindir, = pathlib.Path(root).glob("usr/lib/postgresql/*/bin")
    monkeypatch.setenv("LD_LIBRARY_PATH", f"{root}/lib")
    return pgserver.Install(root, bindir)


def major(install):
    """The major version of an installation."""
    return int(pgserver.run([install.program("postgres"), "--version"], "postgres").split()[2].split(".")[0])


def new_cluster(workspace, install, old):
    """An empty server to upgrade to, not started, with the settings of the old one."""
    options = ("--no-data-checksums",) if major(old.install) < 18 <= major(install) else ()
    new = pgserver.Cluster(workspace, install, "new", dict(old.conf), initdb=options)
    new.key_file.write_text(old.key_file.read_text())
    new.write_conf()
    return new


def upgrade(old, new, *options):
    """Runs pg_upgrade; returns what it printed."""
    try:
        return pgserver.run(pgserver.as_server_user(
            [new.install.program("pg_upgrade"), "-b", old.install.bindir, "-B", new.install.bindir,
             "-d", old.data, "-D", new.data, "-s", new.socket_dir, "-U", "postgres", *options]),
            "pg_upgrade", cwd=new.dir)
    except pgserver.Failure as failure:
        logs = [path.read_text(errors="replace")[-1000:] for path in new.data.glob("pg_upgrade_output.d/*/log/*dump*.log")]
        raise pgserver.Failure("\n".join([str(failure)[-500:], *logs])) from None


def spent(server, company):
    """Tokens left of a limit, after one more was taken."""
    return server.sql(f"SELECT remaining FROM tenantcall.take_for({company}, 'export')", dbname=DATABASE)


def made(server, stem):
    """Makes a role."""
    server.sql(f"CREATE ROLE {stem} LOGIN")
    return stem


def comparable(found):
    """Contents without what PostgreSQL 17 has added: the privilege MAINTAIN."""
    return {**found, "protection": found["protection"].replace("arwdDxtm/", "arwdDxt/")}


def prepare(old, calcom):
    """A full house with orders for a calendar that answers, and nobody who sends them."""
    old.create_template()
    house = FullHouse(Database(old, old.create_database(DATABASE)),
                      lambda stem, options="LOGIN": made(old, stem)).fill()
    calcom.account("cal_key")
    for company in (house.a, house.b):
        calcom.event_type("cal_key", 500 + company.id)
    house.admin.execute("SELECT tenantcall.set_credential('acc', 'cal_key', %s), tenantcall.resume_outbox()",
                        [calcom.url])
    house.admin.close()
    house.signer.close()
    return house


@pytest.mark.limit(300)
@pytest.mark.parametrize("way", ["copy, not preloaded", "link"])
def test_pg_upgrade(workspace, install, old_install, calcom, way):
    """Rows, sequences, policies and triggers are the same; limits begin anew; the servers that
    pg_upgrade starts in between send nothing; afterwards every order is sent."""
    worker = {"tenantcall.worker_databases": DATABASE}
    old = pgserver.Cluster(workspace, old_install, "old", {
        "tenantcall.http_local_hosts": "127.0.0.1", "tenantcall.outbox_settle": "1 s", "tenantcall.http_quota": 0}).start()
    new = None
    print(f"from PostgreSQL {major(old_install)} to {major(install)}, {way}")
    try:
        house = prepare(old, calcom)
        before = comparable(contents(old, DATABASE))
        assert [spent(old, house.a.id) for _ in range(2)] == ["2", "1"]
        old.stop()
        assert (old.data / "pg_stat" / "tenantcall_rate").exists()
        old.write_conf(**worker)
        new = new_cluster(workspace, install, old)
        if way != "link":
            new.write_conf(shared_preload_libraries="")
        assert "Upgrade Complete" in upgrade(old, new, *(["--link"] if way == "link" else []))
        assert calcom.count("/v2/bookings") == 0
        new.start(shared_preload_libraries="tenantcall", **{"tenantcall.worker_databases": None})
        assert differences(before, comparable(contents(new, DATABASE))) == {}
        assert spent(new, house.a.id) == "2"  # full again
        house.works(Database(new, DATABASE))
        new.restart(**worker)
        new.wait_until(lambda: new.sql("SELECT count(*) FROM tenantcall.outbox_due", dbname=DATABASE) == "0",
                       "the orders to be sent")
        assert len(calcom.bookings()) == 3
    finally:
        for server in (old, new):
            if server is not None:
                server.stop("immediate")
