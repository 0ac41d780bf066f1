"""pgserver: private PostgreSQL servers with tenantcall, for tests, demo and bench.

Nothing outside of one temporary directory is written, and servers listen on a Unix socket in that
directory only.  A server needs no installation of the extension either: its programs are copied
and its libraries linked into a tree of the same shape, into which "make install" installs; the
copied programs find libraries and share files relative to themselves.

    with Workspace() as work:                # temporary directory; cleans up, also on a signal
        install = Install.build(work)        # compiles, and installs into the private tree
        cluster = Cluster(work, install)     # initdb
        cluster.start()
        print(cluster.sql("SELECT tenantcall.version()"))

PostgreSQL refuses to run as root: servers of root run as user postgres (or nobody).

Only the standard library is used, except by Cluster.connect(), which needs psycopg.
"""
import os
import pathlib
import pwd
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time

REPO = pathlib.Path(__file__).resolve().parents[2]
EXTENSION = "tenantcall"
TEMPLATE_DB = "tc_template"  # has the extension, and the telephony schema
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

BASE_CONF = {
    "listen_addresses": "",
    "shared_preload_libraries": EXTENSION,
    "tenantcall.maintenance_interval": 0,  # what expires, expires when a test says so
    "shared_buffers": "64MB",
    "max_connections": 60,
    "max_prepared_transactions": 10,
    "wal_level": "replica",
    "max_wal_senders": 5,
    "fsync": "off",
    "jit": "off",
    "timezone": "UTC",
    "lc_messages": "C",
    "log_line_prefix": "%m [%p] %q%u@%d ",
}


class Failure(Exception):
    """Something that makes going on pointless; its text is for the user."""


class Interrupted(KeyboardInterrupt):
    """A signal asked us to end."""

    def __init__(self, signum):
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


def say(text):
    """Shows progress at once."""
    print(text, flush=True)


def environment(**extra):
    """The environment without settings that would lead clients to another server."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("PG") or k == "PG_CONFIG"}
    for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL"):
        env.pop(name, None)
    env.update(LC_ALL="C.UTF-8", PSQLRC="/dev/null", PYTHONDONTWRITEBYTECODE="1")
    env.update({k: str(v) for k, v in extra.items()})
    return env


def run(argv, what, **options):
    """Runs a program to its end; on failure shows its output and raises Failure."""
    options.setdefault("env", environment())
    done = subprocess.run([str(a) for a in argv], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
                          errors="replace", **options)
    if done.returncode != 0:
        raise Failure(f"{what} failed:\n{done.stdout.rstrip()}")
    return done.stdout


def server_user():
    """The system user that servers must run as, or None for our own."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise Failure("PostgreSQL does not run as root, and there is no user postgres or nobody")


def as_server_user(argv, die_with_us=False):
    """A command line that runs argv as the server's user, ended by our own end if wished."""
    user = server_user()
    prefix = ["setpriv"]
    if die_with_us:
        prefix += ["--pdeathsig", "QUIT"]
    if user is not None:
        prefix += [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    return (prefix if len(prefix) > 1 else []) + [str(a) for a in argv]


class Workspace:
    """A temporary directory that takes its servers with it when it goes."""

    def __init__(self, parent=None, keep=False):
        os.umask(0o022)
        self.keep = keep
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="tenantcall-", dir=parent or self._base()))
        self.dir.chmod(0o755)

    @staticmethod
    def _base():
        """TMPDIR, unless a socket path below it would be too long or the server cannot enter."""
        base = tempfile.gettempdir()
        user = server_user()
        if len(base) > 50:
            return "/tmp"
        if user is not None:
            probe = subprocess.run(as_server_user(["test", "-x", base]), check=False)
            return base if probe.returncode == 0 else "/tmp"
        return base

    def __enter__(self):
        for signum in SIGNALS:
            signal.signal(signum, self._interrupt)
        return self

    @staticmethod
    def _interrupt(signum, _frame):
        raise Interrupted(signum)

    def __exit__(self, kind, _value, _traceback):
        self.close()
        return False

    def close(self):
        """Stops every server below the directory and removes it; no signal comes between."""
        before = {signum: signal.signal(signum, signal.SIG_IGN) for signum in SIGNALS}
        try:
            for top, dirs, files in os.walk(self.dir):
                if "PG_VERSION" in files and "global" in dirs:
                    end_server(pathlib.Path(top))
                    dirs.clear()
            for pid in processes_in(self.dir, below=True):
                os.kill(pid, signal.SIGKILL)
            if not self.keep:
                shutil.rmtree(self.dir, ignore_errors=True)
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)


def postmaster_of(data):
    """The process id of the server that runs in a data directory, or None."""
    try:
        pid = int((data / "postmaster.pid").read_text().split()[0])
        return pid if os.readlink(f"/proc/{pid}/cwd") == str(data.resolve()) else None
    except (OSError, ValueError, IndexError):
        return None


def processes_in(directory, below=False):
    """All processes that work in a directory (or below it): a server and its children."""
    wanted = str(directory.resolve())
    pids = []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            place = os.readlink(entry / "cwd") if entry.name.isdigit() else ""
        except OSError:
            continue
        if place == wanted or (below and place.startswith(wanted + "/")):
            pids.append(int(entry.name))
    return pids


def end_server(data):
    """Ends the server of a data directory: first politely, then by force."""
    for signum, patience in ((signal.SIGINT, 10), (signal.SIGQUIT, 5), (signal.SIGKILL, 5)):
        pid = postmaster_of(data)
        targets = [pid] if pid is not None else processes_in(data)
        if not targets:
            return
        for target in targets:
            try:
                os.kill(target, signum)
            except ProcessLookupError:
                pass
        deadline = time.monotonic() + patience
        while processes_in(data) and time.monotonic() < deadline:
            reap()
            time.sleep(0.02)


def reap():
    """Collects servers of ours that have ended, so that they do not stay as zombies."""
    for proc in Cluster.started:
        proc.poll()


def alive(pid):
    """Does the process exist?  A dying one still does, although it has no directory any more."""
    reap()
    return os.path.exists(f"/proc/{pid}")


class Install:
    """A private installation: a server's programs with tenantcall installed beside them."""

    def __init__(self, root, bindir):
        self.root = pathlib.Path(root)
        self.bindir = pathlib.Path(bindir)

    @staticmethod
    def pg_config(what):
        """An answer of pg_config."""
        name = os.environ.get("PG_CONFIG", "pg_config")
        return run([name, f"--{what}"], f"{name} --{what}").strip()

    @classmethod
    def build(cls, work, root=None):
        """Compiles the extension and installs it into a private tree."""
        self = cls.bare(root or work.dir / "install")
        self.make()
        return self

    @classmethod
    def bare(cls, root):
        """A private tree without the extension."""
        self = cls(root, str(root) + cls.pg_config("bindir"))
        shutil.copytree(cls.pg_config("bindir"), self.bindir, symlinks=True)
        self._link(pathlib.Path(cls.pg_config("pkglibdir")), ())
        self._link(pathlib.Path(cls.pg_config("sharedir")), ("extension",))
        return self

    @classmethod
    def given(cls):
        """The installation that a caller has made already, or None."""
        root = os.environ.get("TC_INSTALL")
        return cls(root, root + cls.pg_config("bindir")) if root else None

    def _link(self, source, real):
        """Links a directory's entries into the tree; those in real are directories of their own."""
        target = pathlib.Path(str(self.root) + str(source))
        target.mkdir(parents=True, exist_ok=True)
        for entry in source.iterdir():
            if entry.name in real:
                self._link(entry, ())
            elif not entry.name.startswith(EXTENSION):
                if not (target / entry.name).exists():
                    (target / entry.name).symlink_to(entry)

    def make(self):
        """Compiles what changed, and installs it."""
        common = ["-C", REPO, "-s", "with_llvm=no",
                  "PG_CONFIG=" + os.environ.get("PG_CONFIG", "pg_config")]
        if os.environ.get("TC_CC"):
            common.append(f"CC={os.environ['TC_CC']}")
        run(["make", "-j2", *common, "all"], "compiling")
        run(["make", *common, "install", f"DESTDIR={self.root}"], "installing")

    def program(self, name):
        """The path of one of the server's programs."""
        return self.bindir / name


class Cluster:
    """One server with its data directory, reachable through a private socket only."""

    started = []  # server processes of this program

    def __init__(self, work, install, name="main", conf=None, init=True, attached=True, initdb=()):
        self.work = work
        self.install = install
        self.attached = attached  # does the server end with this program?
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix=f"{name}-", dir=work.dir))
        self.data = self.dir / "data"
        self.socket_dir = self.dir / "socket"
        self.log_file = self.dir / "log"
        self.key_file = self.dir / "keys"
        self.port = random.randint(20000, 60000)  # a part of the socket's name, nothing else
        self.process = None
        self.conf = {**BASE_CONF, **(conf or {})}
        self.socket_dir.mkdir()
        self._write_keys()
        self._own(self.dir, self.socket_dir)
        if init:
            self._init(initdb)

    def _own(self, *paths):
        """Gives paths to the server's user, closed to others."""
        user = server_user()
        for path in paths:
            if user is not None:
                os.chown(path, user.pw_uid, user.pw_gid)
            path.chmod(0o700 if path.is_dir() else 0o600)

    def _write_keys(self):
        """Makes the key file: a key id and a secret on each line, the first of which signs."""
        lines = [f"{kid} {secrets.token_hex(32)}\n" for kid in ("k2", "k1")]
        self.key_file.write_text("".join(lines))
        self._own(self.key_file)

    def _init(self, options):
        """Creates the data directory."""
        run(as_server_user([self.install.program("initdb"), "-D", self.data, "-U", "postgres",
                            "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync",
                            "--no-instructions", *options]), "initdb", cwd=self.dir)
        with open(self.data / "postgresql.conf", "a", encoding="utf-8") as conf:
            conf.write("include = 'test.conf'\n")

    def write_conf(self, **changes):
        """Writes the settings, with changes that stay; None takes one away."""
        self.conf.update(changes)
        fixed = {"unix_socket_directories": self.socket_dir, "port": self.port}
        if "tenantcall.key_file" not in self.conf:
            fixed["tenantcall.key_file"] = self.key_file
        lines = [f"{name} = '" + str(value).replace("'", "''") + "'\n"
                 for name, value in {**self.conf, **fixed}.items() if value is not None]
        conf = self.data / "test.conf"
        conf.write_text("".join(lines))
        self._own(conf)

    # --- start and stop ---------------------------------------------------------------------

    def start(self, timeout=60, **changes):
        """Starts the server and waits until it takes connections."""
        self.write_conf(**changes)
        argv = as_server_user([self.install.program("postgres"), "-D", self.data], self.attached)
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(argv, stdout=log, stderr=log, cwd=self.dir,
                                            stdin=subprocess.DEVNULL, env=environment(),
                                            start_new_session=True)
        Cluster.started.append(self.process)
        self.wait_until(self._ready, "the server to start", timeout)
        return self

    def _ready(self):
        """Has the server said in its pid file that it takes connections?"""
        if self.process.poll() is not None:
            raise Failure("the server did not start:\n" + self.log()[-4000:])
        try:
            lines = (self.data / "postmaster.pid").read_text().split("\n")
        except OSError:
            return False
        if len(lines) < 8 or lines[0] != str(self.process.pid):  # still that of a crashed one
            return False
        return lines[7].strip() in ("ready", "standby")

    def running(self):
        """Is the server running?"""
        return postmaster_of(self.data) is not None

    def stop(self, mode="fast", timeout=60):
        """Stops the server: smart, fast or immediate."""
        signum = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode]
        self._signal(signum, timeout)

    def kill9(self):
        """Kills the server as a crash would, and waits until its children are gone as well."""
        self._signal(signal.SIGKILL, 60)

    def _signal(self, signum, timeout):
        """Sends the server a signal that ends it, and waits for the end."""
        pid = postmaster_of(self.data)
        if pid is None:
            return
        os.kill(pid, signum)
        self.wait_until(lambda: not alive(pid) and not processes_in(self.data),
                        "the server to end", timeout)
        self.process = None

    def restart(self, mode="fast", **changes):
        """Stops and starts, with changed settings."""
        self.stop(mode)
        return self.start(**changes)

    def reload(self, **changes):
        """Makes the server read changed settings."""
        self.write_conf(**changes)
        os.kill(postmaster_of(self.data), signal.SIGHUP)

    # --- replication ------------------------------------------------------------------------

    def standby(self, name="standby", **conf):
        """A streaming copy of this server, started."""
        copy = Cluster(self.work, self.install, name, {**self.conf, **conf}, init=False)
        self.base_backup(copy, "-R")
        return copy.start()

    def base_backup(self, copy, *options):
        """Copies this server's data, and key file, to a server that has not been initialized."""
        run(as_server_user([self.install.program("pg_basebackup"), "-D", copy.data, *options, "-X",
                            "stream", "-c", "fast", "--no-sync", "-U", "postgres",
                            "-h", self.socket_dir, "-p", self.port]), "pg_basebackup", cwd=copy.dir)
        copy.key_file.write_text(self.key_file.read_text())

    def promote(self):
        """Turns a standby into a primary."""
        self.sql("SELECT pg_promote(true, 60)")

    def wait_for_replay(self, standby):
        """Waits until a standby has applied all that this server has written."""
        lsn = self.sql("SELECT pg_current_wal_insert_lsn()")
        query = f"SELECT pg_last_wal_replay_lsn() >= '{lsn}'"
        self.wait_until(lambda: standby.sql(query) == "t", "the standby to catch up")

    # --- use --------------------------------------------------------------------------------

    def psql_argv(self, *options, dbname="postgres", role="postgres"):
        """A command line of psql."""
        return [str(self.install.program("psql")), "-X", "-h", str(self.socket_dir),
                "-p", str(self.port), "-U", role, "-d", dbname, *map(str, options)]

    def psql(self, *options, dbname="postgres", role="postgres", stdin=None):
        """Runs psql; returns the finished process with returncode, stdout and stderr."""
        return subprocess.run(self.psql_argv(*options, dbname=dbname, role=role), input=stdin or "",
                              capture_output=True, text=True, env=environment(), check=False)

    def sql(self, statements, dbname="postgres", role="postgres"):
        """Runs statements; returns the rows as unaligned text, raises Failure on an error."""
        done = self.psql("-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-f", "-", dbname=dbname,
                         role=role, stdin=statements)
        if done.returncode != 0:
            raise Failure(f"SQL failed: {done.stderr.strip()}")
        return done.stdout.rstrip("\n")

    def connect(self, role="postgres", dbname="postgres", autocommit=False, **options):
        """A psycopg connection."""
        import psycopg
        return psycopg.connect(host=str(self.socket_dir), port=self.port, user=role,
                               dbname=dbname, autocommit=autocommit, **options)

    def client_program(self, name, *options, **run_options):
        """Runs a client program such as pg_dump; returns its output, raises Failure."""
        return run([self.install.program(name), "-h", self.socket_dir, "-p", self.port,
                    "-U", "postgres", *options], name, **run_options)

    def log(self):
        """What the server has logged."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def wait_until(self, condition, what="a condition", timeout=60):
        """Waits for a condition; returns what it returned."""
        deadline = time.monotonic() + timeout
        while True:
            value = condition()
            if value:
                return value
            if time.monotonic() > deadline:
                raise Failure(f"waited {timeout} s in vain for {what}\n" + self.log()[-2000:])
            time.sleep(0.02)

    # --- databases --------------------------------------------------------------------------

    def create_template(self):
        """Makes the template database: the extension, and the telephony schema."""
        self.sql(f"CREATE DATABASE {TEMPLATE_DB}")
        self.sql("CREATE EXTENSION tenantcall;\n" + CREATE_TABLES, dbname=TEMPLATE_DB)

    def create_database(self, name, template=TEMPLATE_DB):
        """Makes a database, as a rule one with the extension installed."""
        self.sql(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return name

    def drop_database(self, name):
        """Drops a database together with its connections."""
        self.sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


# The tables are made where the extension has the function for it.
CREATE_TABLES = """
SET client_min_messages = warning;
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_proc
               WHERE pronamespace = 'tenantcall'::regnamespace AND proname = 'create_tables') THEN
        PERFORM tenantcall.create_tables();
    END IF;
END
$$;
"""


def main_guard(main):
    """Runs a program's main function; failures and signals become messages and exit codes."""
    try:
        sys.exit(main())
    except Failure as failure:
        print(f"{pathlib.Path(sys.argv[0]).name}: {failure}", file=sys.stderr)
        sys.exit(1)
    except Interrupted as interrupted:
        print(f"\ninterrupted by {interrupted}", file=sys.stderr)
        sys.exit(128 + interrupted.signum)
