"""soak_line: a connection that comes back, and says what became of a statement.

    line.rows("booking", query, params, may=("PT409",))    rows as dicts
    line.inside(firm, branch, "looking", [(query, params), ...], may=...)    in one transaction

Lost: the connection broke, so nobody knows whether the statement was run.  Refused: it was not, with
an SQLSTATE; one that the caller does not expect (may) is a finding.
"""
import base64
import hashlib
import hmac
import json
import time

import psycopg
from psycopg.rows import dict_row

GONE = ("57P01", "57P02", "57P03")  # the server is going, or has just come
PATIENCE = 120
TIMEOUT = "90s"  # a statement that takes longer hangs
OPTIONS = f"-c statement_timeout={TIMEOUT} -c search_path=pg_catalog"


class Lost(Exception):
    """Nobody knows what became of it."""


class Refused(Exception):
    """It was not done."""

    def __init__(self, sqlstate):
        super().__init__(sqlstate)
        self.sqlstate = sqlstate


class Stopped(Exception):
    """The load is to end."""


def encode(part):
    """A part of a token."""
    return base64.urlsafe_b64encode(part).rstrip(b"=")


class Signer:
    """Signs tokens as any JWT library would."""

    def __init__(self, key_file, database):
        self.kid, secret = key_file.read_text().split("\n")[0].split()
        self.secret, self.database = secret.encode(), database

    def token(self, company, branch):
        """A token good for a minute."""
        claims = {"company_id": company, "aud": self.database, "exp": int(time.time()) + 60}
        if branch is not None:
            claims["branch_id"] = branch
        text = b".".join(encode(json.dumps(part).encode()) for part in (
            {"alg": "HS256", "typ": "JWT", "kid": self.kid}, claims))
        return (text + b"." + encode(hmac.new(self.secret, text, hashlib.sha256).digest())).decode()


class Line:
    """A connection of a role."""

    def __init__(self, town, role):
        self.town, self.role, self.journal = town, role, town.journal
        self.connection = None

    def open(self):
        """The connection; opens one if there is none, however long the server takes to come back."""
        deadline = time.monotonic() + PATIENCE
        while self.connection is None:
            try:
                self.connection = self.town.cluster.connect(
                    role=self.role, dbname=self.town.database, autocommit=True, options=OPTIONS,
                    row_factory=dict_row)
            except psycopg.OperationalError as error:
                if self.town.stopping.is_set():
                    raise Stopped from None
                if time.monotonic() > deadline:
                    self.journal.violation("server", f"no connection within {PATIENCE} s: {error}")
                    deadline = time.monotonic() + PATIENCE
                time.sleep(0.1)
        return self.connection

    def close(self):
        """Closes it."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def attempt(self, what, work, may, firm=None):
        """Runs work(connection); a company that is being deleted may be gone."""
        connection = self.open()
        self.journal.count(what)
        try:
            return work(connection)
        except psycopg.Error as error:
            state = error.sqlstate
            if connection.closed or state in GONE or (state or "08").startswith("08"):
                self.close()
                self.journal.count("lost answers")
                raise Lost from None
            if state == "40P01":
                self.journal.count("deadlocks")
            elif state not in may and not (state in ("PT404", "PT401") and firm and firm.gone):
                self.journal.violation("error", f"{what}: {state} {error.diag.message_primary}; "
                                                f"{error.diag.message_detail}")
            raise Refused(state) from None

    def rows(self, what, query, params=(), may=()):
        """The rows of a statement in autocommit mode."""
        return self.attempt(what, lambda connection: fetch(connection, query, params), may)

    def inside(self, firm, branch, what, statements, may=()):
        """The rows of statements in one transaction within a company; an app enters by token."""
        if self.role == "app":
            enter = "SELECT tenantcall.enter_token(%s)", [self.town.signer.token(firm.id, branch)]
        else:
            enter = "SELECT tenantcall.enter(%s, %s)", [firm.id, branch]

        def work(connection):
            with connection.transaction():
                connection.execute(*enter)
                return [fetch(connection, query, params) for query, params in statements]

        return self.attempt(what, work, may, firm)


def fetch(connection, query, params):
    """The rows of a statement."""
    cursor = connection.execute(query, params)
    return cursor.fetchall() if cursor.description else []
