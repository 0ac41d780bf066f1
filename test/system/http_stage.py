"""http_stage: a server with an HTTP worker in database "app", for the tests of the worker.

    stage = Stage(cluster)
    stage.credential("acc", calcom.url)         # its key is known to the stand-in
    stage.check("acc")                          # (status, reason)
    stage.ask("acc", requests=10, at_once=5, path="/v2/me?x")    # a dict
"""
import concurrent.futures
import os
import pathlib
import struct
import tempfile
import threading
import time

import pgserver

DATABASE = "app"
CONF = {
    "tenantcall.worker_databases": DATABASE,
    "tenantcall.http_local_hosts": "127.0.0.1, localhost",
    "tenantcall.http_quota": 0,
    "tenantcall.http_breaker_failures": 1000,
    "tenantcall.http_poll_interval": "1 s",
    "max_connections": 100,
}


def interposer(directory):
    """Compiles interpose.c; its path."""
    library = directory / "interpose.so"
    pgserver.run(["gcc", "-shared", "-fPIC", "-O1", "-o", library,
                  pathlib.Path(__file__).with_name("interpose.c"), "-ldl"], "compiling interpose.c")
    return library


class Preload:
    """Starts servers with interpose.c before their libraries, and sets their wall clock."""

    def __init__(self, workspace):
        directory = pathlib.Path(tempfile.mkdtemp(prefix="preload-", dir=workspace.dir))
        directory.chmod(0o755)  # the server's user reads them
        self.library = interposer(directory)
        self.clock = directory / "clock"
        self.set_clock(0)
        self.clock.chmod(0o644)

    def set_clock(self, seconds):
        """The wall clock of the servers is ahead by so much from now on."""
        with open(self.clock, "r+b" if self.clock.exists() else "wb") as file:
            file.write(struct.pack("q", seconds))

    def __enter__(self):
        os.environ.update(LD_PRELOAD=str(self.library), TC_CLOCK=str(self.clock))

    def __exit__(self, *_):
        del os.environ["LD_PRELOAD"], os.environ["TC_CLOCK"]


class Stage:
    """What the tests do to the worker."""

    def __init__(self, cluster, database=DATABASE):
        self.cluster, self.database = cluster, database
        self.pool = concurrent.futures.ThreadPoolExecutor(32)
        self.numbers = iter(range(1, 1000))
        self.before = {}  # settings that were changed

    def sql(self, statements, **options):
        """Runs statements in the database."""
        return self.cluster.sql(statements, dbname=self.database, **options)

    def reload(self, **changes):
        """Changes settings, as SHOW would print them, and waits until the worker has read them."""
        with self.connect() as connection:
            for name in changes:
                if name not in self.before:
                    self.before[name] = connection.execute("SELECT current_setting(%s)",
                                                           [f"tenantcall.{name}"]).fetchone()[0]
        self.cluster.reload(**{f"tenantcall.{name}": value for name, value in changes.items()})
        with self.connect() as connection:
            for name, value in changes.items():
                self.cluster.wait_until(
                    lambda n=name, v=value: connection.execute(
                        "SELECT current_setting(%s)", [f"tenantcall.{n}"]).fetchone()[0] == str(v),
                    f"{name} to change")
        self.check("nobody")  # the worker has taken a turn since
        self.check("nobody")

    def restore(self):
        """Changes settings back."""
        changed, self.before = self.before, {}
        if changed:
            self.reload(**changed)
        self.before = {}

    def connect(self, **options):
        """A connection to the database, autocommit."""
        return self.cluster.connect(dbname=self.database, autocommit=True, **options)

    def credential(self, name, url, key="cal_key_of_test"):
        """Stores a credential."""
        self.sql(f"SELECT tenantcall.set_credential('{name}', '{key}', '{url}')")
        return name

    def account(self, calcom, url=None):
        """A credential with a name and key of its own, known to the stand-in."""
        number = next(self.numbers)
        key = calcom.account(f"cal_key_{number}_of_test")
        calcom.event_type(key, 500 + number)
        return self.credential(f"acc{number}", url or calcom.url, key)

    def worker(self):
        """The worker's process id, or None."""
        pid = self.cluster.sql("SELECT pid FROM pg_stat_activity "
                               f"WHERE backend_type = 'tenantcall http worker' AND datname = '{self.database}'")
        return int(pid) if pid else None

    def wait_for_worker(self, other_than=None):
        """Waits for a worker that answers; its process id."""
        pid = self.cluster.wait_until(lambda: self.worker() not in (None, other_than) and self.worker(),
                                      "an HTTP worker")
        self.cluster.wait_until(lambda: self.check("nobody")[1] == "no_credential", "its answer")
        return pid

    def check(self, name, max_wait="10 s", connection=None):
        """check_credential()"""
        def ask(on):
            return on.execute("SELECT status, reason FROM tenantcall.check_credential(%s, %s::interval)",
                              [name, max_wait]).fetchone()
        if connection is not None:
            return ask(connection)
        with self.connect() as own:
            return ask(own)

    def ask(self, name, connection=None, max_wait="10 s", **arguments):
        """http_test_requests(), as a dict."""
        import psycopg.rows
        names = ", ".join(f"{key} => %({key})s" for key in arguments)

        def run(on):
            with on.cursor(row_factory=psycopg.rows.dict_row) as cursor:
                return cursor.execute(
                    "SELECT * FROM tenantcall.http_test_requests(credential => %(credential)s, "
                    f"max_wait => %(max_wait)s::interval{', ' if names else ''}{names})",
                    {"credential": name, "max_wait": max_wait, **arguments}).fetchone()
        if connection is not None:
            return run(connection)
        with self.connect() as own:
            return run(own)

    def later(self, function, *arguments, **options):
        """Calls in a thread; the future."""
        return self.pool.submit(function, *arguments, **options)

    def stat(self, name, column):
        """A column of stat_http."""
        return self.sql(f"SELECT {column} FROM tenantcall.stat_http WHERE credential = '{name}'")

    def wait_for(self, name, condition):
        """Waits for a condition on the credential's row of stat_http."""
        self.cluster.wait_until(lambda: self.stat(name, condition) == "t", condition)


class Load:
    """Two companies that always want more than there is."""

    def __init__(self, stage, name):
        self.stage, self.name, self.stop = stage, name, threading.Event()
        self.answered = {1: 0, 2: 0}
        self.threads = [threading.Thread(target=self._run, args=(company,)) for company in self.answered]
        for thread in self.threads:
            thread.start()

    def _run(self, company):
        while not self.stop.is_set():
            try:
                result = self.stage.ask(self.name, requests=20, at_once=5, company_id=company,
                                        max_wait="1 s")
                self.answered[company] += result["answered"]
            except Exception:  # the server is being restarted
                time.sleep(0.05)

    def end(self):
        """Stops; what was answered."""
        self.stop.set()
        for thread in self.threads:
            thread.join()
        return self.answered
