"""stage: what a demo needs: a server of its own, readable tables, and checks that count.

    def play(stage):
        stage.section("Two companies")
        stage.sql("...", role="gateway")                     # statements without a result to show
        rows = stage.table("who is who", "SELECT ...", role="gateway")
        stage.check("the first company is Acme", rows[0]["name"], "Acme")

    run(play)      # sets up, plays, sums up, cleans up; does not return

A check that does not hold makes the exit code non-zero; so does an error.
"""
import contextlib
import datetime
import pathlib
import sys
import tempfile
import time

sys.dont_write_bytecode = True
for directory in ("setup", "calcom"):
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / directory))

from calcom_standin import CalcomStandIn
from pgserver import Cluster, Install, Workspace, main_guard, say

if hasattr(sys.stdout, "reconfigure"):
    sys.stdout.reconfigure(errors="replace")

DATABASE = "demo"
WIDEST = 72  # characters of a column, after which it is cut
BOLD, GREEN, RED, PLAIN = ("\033[1m", "\033[32m", "\033[31m", "\033[0m") \
    if sys.stdout.isatty() else ("", "", "", "")


def text_of(value):
    """A value as a table shows it."""
    if value is None:
        return "·"
    if isinstance(value, datetime.timedelta):
        return f"{value.total_seconds():g} s"
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = " ".join(str(value).split())
    return text if len(text) <= WIDEST else text[:WIDEST - 1] + "…"


class Stage:
    """A running demo: a server, and a local calendar that its HTTP worker may speak to."""

    def __init__(self, cluster, calcom):
        self.cluster = cluster
        self.calcom = calcom
        self.connections = {}
        self.held = self.broken = 0

    def connection(self, role="postgres"):
        """The role's own connection, in autocommit mode; opened when first asked for."""
        if role not in self.connections:
            self.connections[role] = self.session(role)
        return self.connections[role]

    def session(self, role):
        """A connection of a role beside its own one, for those who work at the same time."""
        from psycopg.rows import dict_row
        opened = self.cluster.connect(role=role, dbname=DATABASE, autocommit=True,
                                      row_factory=dict_row)
        return self.connections.setdefault((role, len(self.connections)), opened)

    def close(self):
        """Closes all connections."""
        for connection in self.connections.values():
            connection.close()

    def section(self, title):
        """A headline."""
        say(f"\n{BOLD}== {title}{PLAIN}")

    def note(self, text):
        """A line of explanation."""
        say(f"   {text}")

    def sql(self, statement, params=None, role="postgres"):
        """Runs a statement as a role; returns its rows as dicts, if it has any."""
        cursor = self.connection(role).execute(statement, params)
        return cursor.fetchall() if cursor.description else []

    @contextlib.contextmanager
    def transaction(self, role="postgres"):
        """A transaction as a role: with stage.transaction("app"): stage.sql(..., role="app")"""
        with self.connection(role).transaction():
            yield

    def refused(self, statement, params=None, role="postgres"):
        """Runs a statement that is expected to fail; returns (SQLSTATE, message), or None."""
        import psycopg
        try:
            self.connection(role).execute(statement, params)
        except psycopg.Error as error:
            return error.sqlstate, error.diag.message_primary
        return None

    def statement(self, statement, role="postgres"):
        """Shows a statement and runs it."""
        self.note(f"{role}=> {statement}")
        return self.sql(statement, role=role)

    def token(self, town, company):
        """A token that admits the app to a company."""
        return self.sql("SELECT tenantcall.sign_token(%s, NULL, '1 minute', 'app') AS token",
                        [town.id(company)], role="gateway")[0]["token"]

    @contextlib.contextmanager
    def as_app(self, town, company):
        """A transaction of the app, within a company."""
        with self.transaction("app"):
            self.sql("SELECT tenantcall.enter_token(%s)", [self.token(town, company)], role="app")
            yield

    def table_as(self, town, company, title, statement):
        """Shows what a query gives the app of a company; returns the rows as dicts."""
        with self.as_app(town, company):
            return self.table(title, statement, role="app")

    def refused_in(self, town, company, statement, params=None):
        """Like refused(), by the app within a company; what it did is rolled back."""
        import psycopg
        answer = None
        with self.as_app(town, company):
            answer = self.refused(statement, params, role="app")
            raise psycopg.Rollback()
        return answer

    def rows(self, title, rows, names=None):
        """Prints dicts as an aligned table; returns them."""
        self.print_rows(title, names or list(rows[0]) if rows else ["nothing"], rows)
        return rows

    def table(self, title, statement, params=None, role="postgres"):
        """Runs a query as a role and prints an aligned table; returns the rows as dicts."""
        cursor = self.connection(role).execute(statement, params)
        rows = cursor.fetchall()
        self.print_rows(title, [column.name for column in cursor.description], rows)
        return rows

    def print_rows(self, title, names, rows):
        """Prints dicts as an aligned table."""
        lines = [names] + [[text_of(row[name]) for name in names] for row in rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(names))]
        numeric = [{type(row[name]) for row in rows} - {type(None)} in ({int}, {float}, {int, float})
                   for name in names]
        say(f"   {title}")
        for number, line in enumerate(lines):
            cells = [cell.rjust(width) if right and number else cell.ljust(width)
                     for cell, width, right in zip(line, widths, numeric)]
            say("     " + " │ ".join(cells).rstrip())
            if number == 0:
                say("     " + "─┼─".join("─" * width for width in widths))
        if not rows:
            say("     (no rows)")

    def check(self, description, actual, expected=True):
        """Says whether something is as it must be; returns that."""
        held = actual == expected
        if held:
            self.held += 1
            say(f"   {GREEN}✓{PLAIN} {description}")
        else:
            self.broken += 1
            say(f"   {RED}✗ {description}: got {actual!r}, expected {expected!r}{PLAIN}")
        return held


SETTINGS = {"tenantcall.worker_databases": DATABASE, "tenantcall.http_local_hosts": "127.0.0.1"}


def perform(play):
    """Sets up a server and a calendar, plays, and sums up."""
    with Workspace() as work:
        tempfile.tempdir = str(work.dir)  # all goes when that goes
        say("building and installing into a temporary directory")
        install = Install.given() or Install.build(work)
        say("starting a private server that preloads tenantcall, and a calendar beside it")
        cluster = Cluster(work, install, conf=SETTINGS).start()
        cluster.sql(f"CREATE DATABASE {DATABASE}")
        with CalcomStandIn(tls=False) as calcom:
            stage, begun = Stage(cluster, calcom), time.monotonic()
            try:
                play(stage)
            finally:
                stage.close()
            stage.check("the calendar itself had no fault", calcom.errors, [])
    mark = f"{GREEN}✓{PLAIN}" if stage.broken == 0 else f"{RED}✗{PLAIN}"
    say(f"\n{mark} {stage.held} checks held, {stage.broken} did not "
        f"({time.monotonic() - begun:.0f} s)")
    return 0 if stage.broken == 0 and stage.held > 0 else 1


def run(play):
    """Plays a demo as a program."""
    main_guard(lambda: perform(play))
