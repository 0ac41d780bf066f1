"""Random statements from sqlsmith, run as an application role in one company's context.

Company A has one row in each table, company B hundreds, all of which carry marks.  No statement of
A's may bring a mark to light, in a row or in an error's text, nor the number of B's rows, nor more
rows than A's own can make; none may change B's rows, and the server lives.  (Numbers are not looked
at where catalogs take part, which have numbers of their own.)

sqlsmith connects in autocommit mode and cannot enter a company, so it only writes the statements;
they are run here, each under a savepoint that is rolled back.  TC_SQLSMITH says how many (10,000).
"""
import os
import re
import shutil
import subprocess

import psycopg
import pytest

import pgserver

COUNT = int(os.environ.get("TC_SQLSMITH", "10000"))
BATCH = 500
PER_TRANSACTION = 50
B = 987654321
MARK = re.compile(rf"BETA|{B}")
B_ROWS = 397  # in each table; a count of them, or of all, would show as it is
COUNTS = {B_ROWS, B_ROWS + 1}
OWN_ROWS = 64  # more than A's one row of each table can make, without catalogs

# {c}: the company; {label}: in its texts; {n}: how many rows
ROWS = """
INSERT INTO telephony.companies (company_id, name) VALUES ({c}, '{label}');
INSERT INTO telephony.branches (company_id, name) SELECT {c}, '{label}' FROM generate_series(1, {n});
INSERT INTO telephony.phone_numbers (company_id, branch_id, number)
    SELECT {c}, branch_id, '+49{c_part}' || branch_id FROM telephony.branches WHERE company_id = {c};
INSERT INTO telephony.agents (provider_agent_id, company_id) SELECT '{label}' || g, {c} FROM generate_series(1, {n}) AS g;
INSERT INTO telephony.services (company_id, name) SELECT {c}, '{label}' FROM generate_series(1, {n});
INSERT INTO telephony.customers (company_id, name, email) SELECT {c}, '{label}', '{label}' FROM generate_series(1, {n});
INSERT INTO telephony.opening_hours (company_id, branch_id, weekday, opens, closes)
    SELECT {c}, branch_id, 1, '08:00', '17:00' FROM telephony.branches WHERE company_id = {c};
INSERT INTO telephony.branch_services (company_id, branch_id, service_id)
    SELECT {c}, b.branch_id, s.service_id FROM (SELECT branch_id, row_number() OVER () AS n FROM telephony.branches WHERE company_id = {c}) AS b
    JOIN (SELECT service_id, row_number() OVER () AS n FROM telephony.services WHERE company_id = {c}) AS s USING (n);
INSERT INTO telephony.calls (company_id, provider_call_id, status, direction, summary, transcript)
    SELECT {c}, '{label}' || g, 'inbound', 'inbound', '{label}', '{label}' FROM generate_series(1, {n}) AS g;
INSERT INTO telephony.call_events (company_id, call_id, call_at, event, received_at, last_received_at, body)
    SELECT {c}, call_id, created_at, '{label}', now(), now(), '{label}' FROM telephony.calls WHERE company_id = {c};
INSERT INTO telephony.tenant_decisions (company_id, kind, outcome, reason, by_role)
    SELECT {c}, 'enter', 'entered', '{label}', '{label}' FROM generate_series(1, {n});
INSERT INTO telephony.function_calls (company_id, idempotency_key, name, lease_until)
    SELECT {c}, '{label}' || g, '{label}', now() FROM generate_series(1, {n}) AS g;
"""
PRINT = """
SELECT string_agg(md5(query_to_xml(format('SELECT * FROM %s AS t WHERE company_id = {b} ORDER BY t::text', c.oid::regclass),
                                   false, false, '')::text), ',' ORDER BY c.relname)
FROM pg_class AS c WHERE c.relnamespace = 'telephony'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
"""


@pytest.fixture
def filled(make_cluster):
    """A server of its own, with an application role, and both companies' rows."""
    server = make_cluster()
    server.create_database("smith")
    server.sql("CREATE ROLE smith LOGIN")
    with server.connect(dbname="smith", autocommit=True) as conn:
        conn.execute("SELECT tenantcall.grant_app('smith')")
        a = conn.execute("SELECT tenantcall.create_company('ALPHA', 'DE', 'UTC')").fetchone()[0]
        one = "\n".join(ROWS.split("\n")[2:])
        conn.execute(one.format(c=a, label="ALPHA", n=1, c_part="301000"))
        conn.execute(ROWS.format(c=B, label="BETA", n=B_ROWS, c_part="302000"))
        conn.execute("ANALYZE")
        server.token = conn.execute("SELECT tenantcall.sign_token(%s, NULL, '1 day')", (a,)).fetchone()[0]
        server.before = conn.execute(PRINT.format(b=B)).fetchone()[0]
    return server


def statements(server, seed, catalogs):
    """Random statements."""
    argv = ["sqlsmith", f"--target=host={server.socket_dir} port={server.port} dbname=smith user=smith",
            f"--seed={seed}", f"--max-queries={BATCH}", "--dry-run"]
    done = subprocess.run(argv + ([] if catalogs else ["--exclude-catalog"]), capture_output=True,
                          text=True, env=pgserver.environment(), check=False, timeout=60)
    found = [s for s in re.split(r";\s*\n", done.stdout) if s.strip()]
    assert len(found) >= BATCH * 0.9, done.stderr[-500:]
    return found


def told(conn, sql):
    """What a statement brings to light: text and number of rows, and whether it ran."""
    try:
        cur = conn.execute(sql, prepare=False)
        rows = cur.fetchmany(2000) if cur.description is not None else []
        counted = any(type(value) is int and value in COUNTS for row in rows for value in row)
        return ("counted: " if counted else "") + str(rows), len(rows), True
    except psycopg.OperationalError as error:
        if conn.closed:
            raise AssertionError(f"the server did not survive: {sql}") from error
        return str(error), 0, False
    except (psycopg.Error, ValueError, OverflowError) as error:
        return str(error), 0, False


class Watch:
    """Runs statements as company A and keeps what should not have come to light."""

    def __init__(self, server):
        self.server = server
        self.ran = self.with_rows = 0
        self.leaks = []

    def batch(self, seed, catalogs):
        """The statements of one seed."""
        pending = statements(self.server, seed, catalogs)
        with self.server.connect(role="smith", dbname="smith", autocommit=True) as conn:
            notices = []
            conn.add_notice_handler(lambda d: notices.append(f"{d.message_primary} {d.message_detail}"))
            conn.execute("SET statement_timeout = '300ms'")
            while pending:
                conn.execute("BEGIN")
                conn.execute("SELECT tenantcall.enter_token(%s)", (self.server.token,))
                for sql in pending[:PER_TRANSACTION]:
                    conn.execute("SAVEPOINT s")
                    self.look(sql, told(conn, sql), notices, catalogs)
                    conn.execute("ROLLBACK TO s")
                conn.execute("ROLLBACK")
                del pending[:PER_TRANSACTION]

    def look(self, sql, answer, notices, catalogs):
        """What one statement told.  (An error may show the statement, which has no marks.)"""
        text, rows, fine = answer
        self.ran += fine
        self.with_rows += rows > 0
        if MARK.search(text) or MARK.search("".join(notices)) or \
                not catalogs and (rows > OWN_ROWS or text.startswith("counted: ")):
            self.leaks.append(f"{rows} rows: {sql}\n\n{text[:2000]}")


@pytest.mark.limit(max(150, COUNT // 50))
@pytest.mark.skipif(shutil.which("sqlsmith") is None, reason="sqlsmith is not installed")
def test_random_statements(filled):
    """Nothing of B is told, or touched."""
    watch = Watch(filled)
    for seed in range(1, COUNT // BATCH + 1):
        watch.batch(seed, catalogs=seed % 4 == 0)
    print(f"{COUNT} statements, {watch.ran} ran without error, {watch.with_rows} returned rows")
    assert watch.leaks == []
    assert watch.ran > COUNT // 8 and watch.with_rows > COUNT // 250, "too few ran to prove anything"
    assert filled.sql(PRINT.format(b=B), dbname="smith") == filled.before
    assert "terminated by signal" not in filled.log()
    # the same eyes do see marks where row security does not bind
    filled.sql("ALTER ROLE smith BYPASSRLS")
    unbound = Watch(filled)
    unbound.batch(1, catalogs=False)
    assert unbound.leaks != []
