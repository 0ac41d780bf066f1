"""An existing application is scoped while it runs: docs/adoption.md, step by step.

The schema is that of a Laravel application: tables in public, bigint companies, uuid branches, and
one role that owns the tables and is what the application logs in as.
"""
import threading

import psycopg
import pytest

from pgserver import Failure

# What is there: rows of companies 1 and 2, and calls that nobody assigned to a company.
EXISTING = """
CREATE ROLE laravel LOGIN;
GRANT ALL ON SCHEMA public TO laravel;
SET ROLE laravel;
CREATE TABLE companies (id bigserial PRIMARY KEY, name varchar(255) NOT NULL, created_at timestamp(0), updated_at timestamp(0));
CREATE TABLE branches (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), company_id bigint NOT NULL REFERENCES companies (id), name varchar(255) NOT NULL);
CREATE TABLE phone_numbers (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), company_id bigint REFERENCES companies (id),
    branch_id uuid REFERENCES branches (id), number varchar(32) NOT NULL UNIQUE);
CREATE TABLE calls (id bigserial PRIMARY KEY, company_id bigint REFERENCES companies (id) ON DELETE CASCADE, branch_id uuid REFERENCES branches (id),
    phone_number_id uuid REFERENCES phone_numbers (id) ON DELETE SET NULL, retell_call_id varchar(255), from_number varchar(32), to_number varchar(32),
    status varchar(32) NOT NULL DEFAULT 'inbound', raw jsonb, created_at timestamp(0) DEFAULT now(), updated_at timestamp(0));
INSERT INTO companies (name) VALUES ('One'), ('Two');
INSERT INTO branches (company_id, name) SELECT id, 'Branch of ' || name FROM companies;
INSERT INTO phone_numbers (company_id, branch_id, number) SELECT company_id, id, '+4930' || company_id || '000000' FROM branches;
INSERT INTO calls (company_id, branch_id, to_number, from_number) SELECT CASE WHEN g % 10 = 0 THEN NULL ELSE n.company_id END, n.branch_id, n.number, '+49170' || g
    FROM generate_series(1, 20000) AS g JOIN phone_numbers AS n ON n.company_id = 1 + g % 2;
RESET ROLE;
"""
# Step 1: a login for the application that owns nothing; the owner keeps its tables.
NEW_LOGIN = """
CREATE ROLE laravel_app LOGIN;
GRANT USAGE ON SCHEMA public TO laravel_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON companies, branches, phone_numbers, calls TO laravel_app;
GRANT USAGE ON SEQUENCE calls_id_seq TO laravel_app;
SELECT tenantcall.grant_app('laravel_app');
"""
TABLES = [("companies", "id"), ("branches", "company_id"), ("phone_numbers", "company_id"), ("calls", "company_id")]
PLACES = ("SELECT string_agg(format('%s %s', c.relname, c.relfilenode), ',' ORDER BY c.relname) FROM pg_class AS c "
          "WHERE c.relname IN ('companies', 'branches', 'phone_numbers', 'calls') AND c.relnamespace = 'public'::regnamespace")
SCANS = "SELECT coalesce(sum(seq_scan), 0) FROM pg_stat_xact_user_tables WHERE schemaname = 'public'"
IN_SHORT = ("ADD CONSTRAINT", "SET NOT NULL", "DROP CONSTRAINT", "scope_table")


class Load(threading.Thread):
    """One worker of the application: a request after the other, for either company in turn."""

    def __init__(self, server, tokens):
        super().__init__(daemon=True)
        self.server, self.tokens = server, tokens
        self.requests = 0
        self.wrong = []
        self.ending = threading.Event()

    def request(self, conn, company):
        """One request, as the application makes it: with conditions of its own, too."""
        conn.execute("SELECT tenantcall.enter_token(%s)", (self.tokens[company],))
        conn.execute("INSERT INTO calls (company_id, to_number, raw) VALUES (%s, 'x', '{}')", (company,))
        # rows are locked in one order, so that the application's own workers do not deadlock
        conn.execute("UPDATE calls SET updated_at = now() WHERE company_id = %s AND id IN (SELECT id FROM calls "
                     "WHERE company_id = %s AND mod(id, 1000) = 1 ORDER BY id FOR UPDATE)", (company, company))
        rows = conn.execute("SELECT DISTINCT company_id FROM calls WHERE company_id = %s", (company,)).fetchall()
        if rows != [(company,)]:
            self.wrong.append(rows)
        conn.execute("SELECT b.name FROM branches b JOIN phone_numbers USING (company_id)")
        conn.commit()

    def run(self):
        """Requests until the end."""
        try:
            # no request waits for a lock longer than the plan may, with room for the machine
            with self.server.connect(role="laravel_app", dbname="app", options="-c lock_timeout=20s") as conn:
                while not self.ending.is_set():
                    self.request(conn, 1 + self.requests % 2)
                    self.requests += 1
        except psycopg.Error as error:
            self.wrong.append(str(error))

    def pause_for(self, server, more=10):
        """Waits until some more requests were served."""
        wanted = self.requests + more
        server.wait_until(lambda: self.requests >= wanted or self.wrong, "the application to go on")


@pytest.fixture
def app(make_cluster):
    """A server with the application's database, and the extension beside it."""
    server = make_cluster(template=False)
    server.sql("CREATE DATABASE app")
    server.sql(EXISTING, dbname="app")
    server.sql("CREATE EXTENSION tenantcall", dbname="app")
    return server


def run_step(owner, statement):
    """Runs one statement of a plan as scope_plan()'s user would: again when a lock was not to be had."""
    for _ in range(20):
        try:
            if any(word in statement for word in IN_SHORT):
                with owner.transaction():
                    before = owner.execute(SCANS).fetchone()
                    owner.execute(statement)
                    # under the lock that holds up everybody, no row is read
                    assert owner.execute(SCANS).fetchone() == before, statement
            else:
                owner.execute(statement)
            return
        except psycopg.errors.LockNotAvailable:
            continue
    raise AssertionError(f"never got its lock: {statement}")


def validates_beside_writers(app, owner, statement):
    """The proof of NOT NULL reads the table while a writer has it open."""
    with app.connect(role="laravel_app", dbname="app") as writer:
        writer.execute("INSERT INTO calls (company_id, to_number) VALUES (1, 'open')")
        owner.execute("SET lock_timeout = '10s'")
        owner.execute(statement)
        writer.rollback()


@pytest.mark.limit(150)
def test_scoped_while_it_runs(app):
    """From an owner that logs in and sees everything to tokens, without a rewrite or a long lock."""
    places = app.sql(PLACES, dbname="app")
    with app.connect(role="laravel", dbname="app") as conn:
        assert conn.execute("SELECT count(DISTINCT company_id) FROM calls").fetchone() == (2,)
    app.sql(NEW_LOGIN, dbname="app")
    tokens = {company: app.sql(f"SELECT tenantcall.sign_token({company}, NULL, '1 hour', 'laravel_app')", dbname="app")
              for company in (1, 2)}
    workers = [Load(app, tokens) for _ in range(3)]
    for worker in workers:
        worker.start()
    try:
        scope_all(app, workers)
        for worker in workers:
            worker.pause_for(app)
    finally:
        for worker in workers:
            worker.ending.set()
        for worker in workers:
            worker.join(30)
    assert [worker.wrong for worker in workers] == [[], [], []]
    assert app.sql(PLACES, dbname="app") == places
    check_end(app, tokens)


def scope_all(app, workers):
    """Steps 2 to 4: backfill, plan, tables one by one."""
    app.sql("GRANT EXECUTE ON FUNCTION tenantcall.scope_table, tenantcall.scope_plan TO laravel", dbname="app")
    with app.connect(role="laravel", dbname="app", autocommit=True) as owner:
        with pytest.raises(psycopg.errors.NotNullViolation):
            owner.execute("SELECT tenantcall.scope_table('calls')")
        owner.execute("UPDATE calls SET company_id = n.company_id FROM phone_numbers AS n "
                      "WHERE calls.company_id IS NULL AND n.number = calls.to_number")
        for table, column in TABLES:
            plan = [row[0] for row in owner.execute("SELECT tenantcall.scope_plan(%s, %s)", (table, column)).fetchall()]
            assert table != "calls" or any("CONCURRENTLY" in s for s in plan) and any("VALIDATE" in s for s in plan)
            for statement in plan:
                if table == "calls" and "VALIDATE" in statement:
                    validates_beside_writers(app, owner, statement)
                else:
                    run_step(owner, statement)
            workers[0].pause_for(app, 3)


def check_end(app, tokens):
    """Steps 5 and 6: the old login is closed, the keys hold the company, and nobody sees two."""
    left = "SELECT string_agg(check_name || ' ' || object, E'\n') FROM tenantcall.check_isolation() AS f WHERE f::text ~ 'calls_branch_id_fkey'"
    assert "foreign_key" in app.sql(left, dbname="app")
    app.sql("SELECT tenantcall.scope_foreign_key('calls', '{branch_id}', 'branches'); "
            "ALTER TABLE calls DROP CONSTRAINT calls_branch_id_fkey", dbname="app")
    assert "foreign_key" not in app.sql(left, dbname="app")
    app.sql("ALTER ROLE laravel NOLOGIN", dbname="app")
    with pytest.raises(psycopg.OperationalError, match="not permitted to log in"):
        app.connect(role="laravel", dbname="app")
    with pytest.raises(Failure, match="cannot be held to one company"):
        app.sql("SELECT tenantcall.grant_app('laravel')", dbname="app")
    with app.connect(role="laravel_app", dbname="app") as conn:
        for company in (1, 2):
            conn.execute("SELECT tenantcall.enter_token(%s)", (tokens[company],))
            for table, column in TABLES:
                assert conn.execute(f"SELECT DISTINCT {column} FROM {table}").fetchall() == [(company,)], table
            # the column fills itself from now on
            assert conn.execute("INSERT INTO calls (to_number) VALUES ('y') RETURNING company_id").fetchone() == (company,)
            conn.commit()
        assert conn.execute("SELECT count(*) FROM calls").fetchone() == (0,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute("SELECT tenantcall.enter(1)")
    assert app.sql("SET ROLE laravel; SELECT count(*) FROM calls", dbname="app") == "0"
    assert app.sql("SELECT count(*) FROM tenantcall.scoped_tables WHERE row_security AND forced", dbname="app") == "4"
