"""Fixtures of the system tests.  What a Cluster can do stands in test/setup/pgserver.py.

    db            a fresh database with the extension (and telephony), as an object:
                  db.connect(role=..., autocommit=...), db.sql(...), db.psql(...), db.name, db.cluster
    cluster       the server that most tests share: do not restart it, do not change its settings
    make_cluster  make_cluster(**settings) -> a server of the test's own, started, which may be
                  restarted, killed, and copied; None takes a setting away
    role          role("app", "LOGIN ...") -> name of a new role, dropped after the test
    world         db with an app, a gateway and an admin role, and means to make companies: world.py
    calcom        a local Cal.com, running, which knows nobody yet: test/calcom/calcom_standin.py
    make_calcom   make_calcom(**options) -> another one
    calcom_fast   nginx with answers that never change, for throughput; skips where there is none

Every test has TEST_TIMEOUT seconds, or what @pytest.mark.limit(seconds) says.
"""
import faulthandler
import itertools
import os
import pathlib
import signal
import sys

import pytest

for directory in ("setup", "calcom"):
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / directory))

import calcom_nginx  # noqa: E402
import calcom_tls  # noqa: E402
import pgserver  # noqa: E402
from calcom_standin import CalcomStandIn  # noqa: E402
from world import World  # noqa: E402

TEST_TIMEOUT = 90
numbers = itertools.count(1)


class Timeout(Exception):
    """A test took too long."""


class Lane:
    """One of several runs side by side: runs the files that none of the others has taken."""

    def __init__(self, claims):
        self.claims = pathlib.Path(claims)
        self.mine = {}

    def takes(self, module):
        """Is the file ours, or to be had?"""
        if module not in self.mine:
            try:
                (self.claims / module).touch(exist_ok=False)
                self.mine[module] = True
            except FileExistsError:
                self.mine[module] = False
        return self.mine[module]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item):
        """Passes over the tests of others."""
        return None if self.takes(item.module.__name__) else True


def pytest_configure(config):
    config.addinivalue_line("markers", "limit(seconds): how long the test may take")
    if os.environ.get("TC_CLAIMS"):
        config.pluginmanager.register(Lane(os.environ["TC_CLAIMS"]))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    """Ends a test that hangs: by an exception, and if that does not help, altogether."""
    marker = item.get_closest_marker("limit")
    seconds = marker.args[0] if marker else TEST_TIMEOUT

    def late(_signum, _frame):
        raise Timeout(f"the test took more than {seconds} s")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    faulthandler.dump_traceback_later(seconds + 60, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()
    signal.alarm(0)


class Database:
    """A database on a cluster."""

    def __init__(self, cluster, name):
        self.cluster = cluster
        self.name = name

    def connect(self, role="postgres", **options):
        """A psycopg connection, which the fixture closes."""
        return self.cluster.connect(role=role, dbname=self.name, **options)

    def sql(self, statements, role="postgres"):
        """Runs statements through psql; returns unaligned text, raises on an error."""
        return self.cluster.sql(statements, dbname=self.name, role=role)

    def psql(self, *options, role="postgres", stdin=None):
        """Runs psql; returns the finished process."""
        return self.cluster.psql(*options, dbname=self.name, role=role, stdin=stdin)


@pytest.fixture(scope="session")
def workspace():
    """The temporary directory of the session; within that of test/run, if it runs us."""
    with pgserver.Workspace(parent=os.environ.get("TC_WORK")) as work:
        yield work
        # what all tests have left takes as long as it takes to remove
        signal.alarm(0)
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="session")
def install(workspace):
    """The private installation."""
    return pgserver.Install.given() or pgserver.Install.build(workspace)


@pytest.fixture(scope="session")
def cluster(workspace, install):
    """The server that most tests share."""
    server = pgserver.Cluster(workspace, install, "shared").start()
    server.create_template()
    yield server
    server.discard()


@pytest.fixture
def db(cluster):
    """A fresh database with the extension."""
    database = Database(cluster, cluster.create_database(f"test_{next(numbers)}"))
    yield database
    cluster.drop_database(database.name)


@pytest.fixture
def role(cluster):
    """Makes roles with names of their own, and drops them after the test."""
    names = []

    def make(stem, options="LOGIN"):
        name = f"{stem}_{next(numbers)}"
        cluster.sql(f'CREATE ROLE "{name}" {options}')
        names.append(name)
        return name

    yield make
    for name in names:
        for dbname in cluster.sql("SELECT datname FROM pg_database WHERE datallowconn "
                                  "AND datname <> 'template1'").split("\n"):
            cluster.sql(f'DROP OWNED BY "{name}"', dbname=dbname)
        cluster.sql(f'DROP ROLE "{name}"')


@pytest.fixture
def world(db, role):
    """A database in which companies can be made and phones can ring."""
    return World(db, role)


@pytest.fixture
def make_cluster(workspace, install):
    """Makes servers of the test's own, and stops them after it."""
    servers = []

    def make(start=True, template=True, **conf):
        server = pgserver.Cluster(workspace, install, "own", conf)
        servers.append(server)
        if start:
            server.start()
            if template:
                server.create_template()
        return server

    yield make
    for server in servers:
        server.discard()


@pytest.fixture(scope="session")
def certificates(workspace):
    """Good and bad certificates of an authority of the session's own."""
    return calcom_tls.available() and calcom_tls.Certificates(workspace.dir / "tls")


@pytest.fixture
def make_calcom(certificates):
    """Makes stand-ins for Cal.com; one that failed in itself fails the test."""
    made = []

    def make(**options):
        made.append(CalcomStandIn(tls=certificates, **options).start())
        return made[-1]

    yield make
    for standin in made:
        standin.stop()
    assert [error for standin in made for error in standin.errors] == []


@pytest.fixture
def calcom(make_calcom):
    """A stand-in for Cal.com."""
    return make_calcom()


@pytest.fixture
def calcom_fast(workspace, certificates):
    """A Cal.com that is nothing but fast."""
    directory = workspace.dir / f"nginx_{next(numbers)}"
    directory.mkdir(mode=0o777)
    directory.chmod(0o777)
    try:
        with calcom_nginx.NginxStandIn(directory, pgserver.as_server_user([], die_with_us=True),
                                       tls=certificates) as fast:
            yield fast
    except calcom_nginx.Unavailable as reason:
        pytest.skip(str(reason))
