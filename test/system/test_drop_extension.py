"""DROP EXTENSION: what goes, what stays behind closed doors, and how it is taken up again."""
import psycopg
import pytest

import pgserver
from full_house import CHECKED, FullHouse
from world import KEY

TABLES = "SELECT c.oid::regclass FROM pg_class AS c WHERE c.relnamespace IN ('telephony'::regnamespace, " \
         "'own'::regnamespace) AND c.relkind = 'r'"
DUE = "SELECT company_id, outbox_id, credential FROM tenantcall.outbox_due ORDER BY 1, 2"
BINDINGS = "SELECT provider, provider_call_id, company_id FROM tenantcall.call_bindings ORDER BY 1, 2"


def counts(conn):
    """Rows of each table of the tenants."""
    return {table: conn.execute(f"SELECT count(*) FROM ONLY {table}").fetchone()[0]
            for table, in conn.execute(TABLES).fetchall()}


def test_unused(cluster):
    """Where nothing depends on it, it can be dropped, and leaves nothing."""
    cluster.sql("CREATE DATABASE drop_unused")
    try:
        cluster.sql("CREATE EXTENSION tenantcall; DROP EXTENSION tenantcall", dbname="drop_unused")
        assert cluster.sql("SELECT count(*) FROM pg_namespace WHERE nspname = 'tenantcall'", dbname="drop_unused") == "0"
    finally:
        cluster.drop_database("drop_unused")


def test_in_use(db, role):
    """Refused without CASCADE; with it the rows stay, and nobody but superusers sees them; made
    again, create_tables() takes them over, and each company goes on with its own."""
    house = FullHouse(db, role).fill()
    house.admin.execute("SELECT tenantcall.resume_outbox()")
    with db.connect(autocommit=True) as conn:
        before = counts(conn), conn.execute(DUE).fetchall(), conn.execute(BINDINGS).fetchall()
        with pytest.raises(psycopg.errors.DependentObjectsStillExist):
            conn.execute("DROP EXTENSION tenantcall")
        assert counts(conn) == before[0]
        conn.execute("DROP EXTENSION tenantcall CASCADE")
        assert counts(conn) == before[0]
    with db.connect(role=house.roles["app"], autocommit=True) as conn:
        for table in ("telephony.calls", "telephony.customers", "own.notes"):
            assert conn.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
            conn.execute("INSERT INTO own.notes (company_id, body) VALUES (1, 'x')")
        assert conn.execute("DELETE FROM telephony.customers").rowcount == 0
        assert conn.execute("UPDATE telephony.customers SET name = 'x'").rowcount == 0
    assert db.sql("SET ROLE tenantcall_owner; SELECT count(*) FROM telephony.calls") == "0"

    done = db.psql("-q", "-c", "CREATE EXTENSION tenantcall", "-c", "SELECT tenantcall.create_tables()")
    assert done.returncode == 0 and "taken over from a former installation" in done.stderr, done.stderr
    with db.connect(autocommit=True) as conn:
        assert (counts(conn), conn.execute(DUE).fetchall(), conn.execute(BINDINGS).fetchall()) == before
        assert conn.execute("SELECT DISTINCT state FROM tenantcall.outbox_due WHERE due_at < 'infinity'").fetchall() == [("reconcile",)]
        for kind, name in house.roles.items():
            conn.execute(f"SELECT tenantcall.grant_{kind}(%s)", [name])
        conn.execute("SELECT tenantcall.scope_table('own.notes'), tenantcall.scope_table('own.visits'), "
                     "tenantcall.set_webhook_key('retell', 'k1', %s), tenantcall.set_rate_policy('export', 3, '1 day')", [KEY])
        assert [row for row in conn.execute(CHECKED).fetchall() if row[0] != "info"] == []
        conn.execute("SELECT tenantcall.create_tables()")
    house.works(db)


@pytest.mark.parametrize("damage, hint", [
    ("DROP SCHEMA telephony CASCADE; CREATE SCHEMA telephony", "Name another one"),
    ("ALTER SCHEMA telephony OWNER TO postgres", "Name another one"),
    ("COMMENT ON SCHEMA telephony IS NULL", "Name another one"),
    ("CREATE TABLE telephony.mine ()", '"mine" does not belong to tenantcall_owner'),
    ("ALTER TABLE telephony.calls OWNER TO postgres", '"calls" does not belong to tenantcall_owner'),
    ("COMMENT ON SCHEMA telephony IS 'tables of tenantcall 0.1'", "Take them over with version 0.1"),
])
def test_not_taken_over(db, damage, hint):
    """A schema that is not as it was left is not taken over."""
    db.sql("SET client_min_messages = error; DROP EXTENSION tenantcall CASCADE; CREATE EXTENSION tenantcall")
    db.sql("SET client_min_messages = error; " + damage)
    with pytest.raises(pgserver.Failure, match=hint):
        db.sql("SELECT tenantcall.create_tables()")
