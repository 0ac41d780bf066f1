"""http_peers: others that ask many URLs, for a database or without one.

Each has a name, a reason why it cannot be measured here (or None), and measure(requests) -> requests
a second, counted only when all of them were answered with 200.  Nothing is installed or fetched:
pg_net and pgsql-http are used where the server's installation has them.
"""
import re
import shutil
import subprocess
import time

from pgserver import Cluster, Failure
from stage import pgbench

SESSIONS = 16
PATIENCE = 120
PG_NET_BATCH = 4000  # each is one connection at once; the calendar takes 4096


class PeerServer:
    """A server of their own for extensions; settings are the defaults of the server and theirs."""

    def __init__(self, work, install):
        self.cluster = Cluster(work, install, "peers", {
            "shared_preload_libraries": "", "shared_buffers": "128MB", "fsync": "on",
            "max_connections": 100})
        self.cluster.start()
        self.available = self.cluster.sql("SELECT name FROM pg_available_extensions").split("\n")
        if "pg_net" in self.available:
            self.cluster.restart(shared_preload_libraries="pg_net")

    def create(self, extension):
        """Creates an extension; returns why that is not possible, or None."""
        if extension not in self.available:
            return f"the server's installation has no extension {extension}"
        self.cluster.sql(f"CREATE EXTENSION {extension}")
        return None


class PgNet:
    """pg_net: a statement puts requests in a table, a worker takes them in batches."""

    def __init__(self, peers, url, batch_size=None):
        self.server, self.url, self.batch_size = peers.cluster, url, batch_size
        self.name = "pg_net, " + (f"batch_size {batch_size}" if batch_size else "default settings")
        self.requests = 2000 if batch_size is None else 20000
        self.unavailable = None

    def measure(self):
        """One statement asks for everything; the last answer in the table ends the time."""
        if self.batch_size:
            self.server.reload(**{"pg_net.batch_size": self.batch_size})
        else:
            self.server.reload(**{"pg_net.batch_size": None})
        self.server.sql("TRUNCATE net._http_response")
        self.server.sql("SELECT net.wait_until_running()")
        start = time.monotonic()
        self.server.sql(f"SELECT count(net.http_get('{self.url}'))"
                        f" FROM generate_series(1, {self.requests})")
        self.server.wait_until(self.all_there, f"{self.name}: the answers", PATIENCE)
        spent = time.monotonic() - start
        good = self.server.sql("SELECT count(*) FROM net._http_response WHERE status_code = 200")
        if int(good) != self.requests:
            raise Failure(f"{self.name}: {good} of {self.requests} requests were answered")
        return self.requests / spent

    def all_there(self):
        """Has every request ended?"""
        return int(self.server.sql("SELECT count(*) FROM net._http_response")) >= self.requests


class PgsqlHttp:
    """pgsql-http: each statement asks and waits."""

    def __init__(self, peers, url, keep_alive=False):
        self.server = peers.cluster
        self.name = f"pgsql-http, {SESSIONS} sessions" + (", keep-alive" if keep_alive else "")
        self.unavailable = None
        self.path = self.server.work.dir / f"pgsql_http_{int(keep_alive)}.sql"
        keep = "SET http.curlopt_tcp_keepalive = 1;\n" if keep_alive else ""
        self.path.write_text(keep + f"SELECT 1 / (status = 200)::int FROM http_get('{url}');\n" * 50)
        self.path.chmod(0o644)

    def measure(self):
        """Statements a second."""
        return 50 * pgbench(self.server, self.path, 5, SESSIONS, "postgres", "postgres")


class CurlParallel:
    """curl --parallel: no database at all."""

    name = "curl --parallel, 50 at once"
    requests = 20000

    def __init__(self, url):
        self.url = f"{url}?n=[1-{self.requests}]"
        self.unavailable = None if shutil.which("curl") else "curl is not installed"

    def measure(self):
        """One program asks for everything."""
        start = time.monotonic()
        done = subprocess.run(
            ["curl", "-q", "-s", "--noproxy", "*", "--parallel", "--parallel-max", "50", "-o", "/dev/null",
             "-w", "%{http_code}\n", self.url], capture_output=True, text=True, check=False)
        spent = time.monotonic() - start
        good = len(re.findall(r"^200$", done.stdout, re.MULTILINE))
        if good != self.requests:
            raise Failure(f"curl: {good} of {self.requests} requests were answered")
        return self.requests / spent


class Missing:
    """A peer that is not here."""

    def __init__(self, name, reason):
        self.name, self.unavailable = name, reason


def all_peers(work, install, url):
    """Every peer, those included that are not here."""
    server = PeerServer(work, install)
    missing = server.create("pg_net")
    if missing:
        yield Missing("pg_net", missing)
    else:
        yield PgNet(server, url)
        yield PgNet(server, url, batch_size=PG_NET_BATCH)
    missing = server.create("http")
    if missing:
        yield Missing("pgsql-http", missing)
    else:
        yield PgsqlHttp(server, url)
        yield PgsqlHttp(server, url, keep_alive=True)
    yield CurlParallel(url)
