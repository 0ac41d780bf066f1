"""Scoping seen from outside: connections, two-phase commit, dumps, standbys, servers without us."""
import psycopg
import pytest

from pgserver import Failure

TABLES = """
CREATE TABLE visits (id int PRIMARY KEY, company_id bigint NOT NULL, label text);
CREATE TABLE parted (id int, company_id bigint NOT NULL, label text) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (100);
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (100) TO (200);
INSERT INTO visits SELECT g, CASE WHEN g % 2 = 1 THEN {a} ELSE {b} END, CASE WHEN g % 2 = 1 THEN 'A' ELSE 'B' END
FROM generate_series(1, 10) AS g;
INSERT INTO parted SELECT id * 19, company_id, label FROM visits;
SELECT tenantcall.scope_table('visits'), tenantcall.scope_table('parted');
GRANT ALL ON visits, parted, parted_1, parted_2 TO "{app}";
GRANT EXECUTE ON FUNCTION tenantcall.enter TO "{app}";
"""
LETTERS = "SELECT coalesce(string_agg(DISTINCT label, ',' ORDER BY label), '-') FROM {}"
PROTECTION = """
SELECT relation, company_column, column_type, row_security, forced, policies, triggers
FROM tenantcall.scoped_tables ORDER BY relation::text
"""


def company(db, name):
    """A new company."""
    return int(db.sql(f"SELECT tenantcall.create_company('{name}', 'DE', 'Europe/Berlin')"))


@pytest.fixture
def scoped(db, role):
    """A database with two companies' rows in scoped tables, and an app role."""
    db.app = role("scope_app")
    db.a, db.b = company(db, "A"), company(db, "B")
    db.sql(TABLES.format(a=db.a, b=db.b, app=db.app))
    return db


def letters(conn, table="visits"):
    """Whose rows a connection sees."""
    return conn.execute(LETTERS.format(table)).fetchone()[0]


def enter(conn, number):
    """Enters a company."""
    conn.execute("SELECT tenantcall.enter(%s)", (number,))


def test_pooled_connection_forgets(scoped):
    """One connection serves many tenants in turn; none ever sees another's rows, or keeps its own."""
    with scoped.connect(role=scoped.app) as conn:
        for turn in range(20):
            enter(conn, (scoped.a, scoped.b)[turn % 2])
            assert letters(conn) == "AB"[turn % 2]
            assert letters(conn, "parted") == "AB"[turn % 2]
            if turn % 3 == 0:
                conn.rollback()
            else:
                conn.commit()
            assert letters(conn) == "-"
            conn.rollback()


def test_failed_transaction_forgets(scoped):
    """An error ends the context with its transaction."""
    with scoped.connect(role=scoped.app) as conn:
        enter(conn, scoped.a)
        with pytest.raises(psycopg.errors.DivisionByZero):
            conn.execute("SELECT 1 / 0")
        conn.rollback()
        assert letters(conn) == "-"


def test_prepared_statements_of_the_driver(scoped):
    """Server-side prepared statements are executed for whoever is in context."""
    with scoped.connect(role=scoped.app, prepare_threshold=0) as conn:
        for turn in range(12):
            enter(conn, (scoped.a, scoped.b)[turn % 2])
            assert letters(conn) == "AB"[turn % 2]
            assert letters(conn, "parted") == "AB"[turn % 2]
            conn.commit()


def test_autocommit_has_no_context(scoped):
    """Outside of a transaction block a tenant cannot be entered, and nothing is seen."""
    with scoped.connect(role=scoped.app, autocommit=True) as conn:
        with pytest.raises(psycopg.errors.NoActiveSqlTransaction):
            enter(conn, scoped.a)
        assert letters(conn) == "-"


def test_connection_options(scoped):
    """PGOPTIONS and settings of role and database bring no context."""
    with pytest.raises(psycopg.OperationalError, match="tenant"):
        scoped.connect(role=scoped.app, options=f"-c tenantcall.company_id={scoped.b}:0:0:0")
    for target in (f'ROLE "{scoped.app}"', f'DATABASE "{scoped.name}"'):
        with pytest.raises(Failure, match="cannot be set directly"):
            scoped.sql(f"ALTER {target} SET tenantcall.company_id = '{scoped.b}'")
    with pytest.raises(Failure, match="cannot be set directly|cannot be changed"):
        scoped.sql(f"ALTER SYSTEM SET tenantcall.company_id = '{scoped.b}'")


def test_two_phase_commit(scoped):
    """A prepared transaction keeps its writes and leaves no context behind."""
    with scoped.connect(role=scoped.app) as conn:
        enter(conn, scoped.a)
        conn.execute("INSERT INTO visits (id, label) VALUES (11, 'A')")
        conn.execute("PREPARE TRANSACTION 'scope_test'")
        assert letters(conn) == "-"
        enter(conn, scoped.b)
        assert letters(conn) == "B"
        conn.rollback()
    scoped.sql("COMMIT PREPARED 'scope_test'")
    assert scoped.sql("SELECT company_id FROM visits WHERE id = 11") == str(scoped.a)


def test_with_hold_cursor_shows_its_own_tenant_only(scoped):
    """What a holdable cursor keeps is what its own tenant saw, fixed at commit."""
    with scoped.connect(role=scoped.app) as conn:
        enter(conn, scoped.a)
        conn.execute("DECLARE kept CURSOR WITH HOLD FOR SELECT DISTINCT label FROM visits")
        conn.commit()
        enter(conn, scoped.b)
        assert conn.execute("FETCH ALL FROM kept").fetchall() == [("A",)]
        assert letters(conn) == "B"


@pytest.mark.parametrize("style", ["plain", "custom"])
def test_dump_and_restore(scoped, tmp_path, style):
    """Registry, policies, triggers and a policy added by hand are back after a restore."""
    scoped.sql("CREATE POLICY by_hand ON visits AS RESTRICTIVE USING (id > 0)")
    before = scoped.sql(PROTECTION)
    file = tmp_path / "dump"
    scoped.cluster.client_program("pg_dump", "-F", style, "-f", file, scoped.name)
    back = f"{scoped.name}_back"
    scoped.cluster.sql(f'CREATE DATABASE "{back}"')
    try:
        if style == "plain":
            scoped.cluster.client_program("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", file, back)
        else:
            scoped.cluster.client_program("pg_restore", "--exit-on-error", "-j", "2", "-d", back, file)
        assert scoped.cluster.sql(PROTECTION, dbname=back) == before
        with scoped.cluster.connect(role=scoped.app, dbname=back) as conn:
            assert letters(conn) == "-"
            enter(conn, scoped.a)
            assert letters(conn) == "A"
            assert letters(conn, "parted") == "A"
        # registered again: new partitions are scoped, and a second run changes nothing
        scoped.cluster.sql("CREATE TABLE parted_3 PARTITION OF parted FOR VALUES FROM (200) TO (300); "
                           "SELECT tenantcall.scope_table('visits'), tenantcall.scope_table('parted')",
                           dbname=back)
        assert scoped.cluster.sql("SELECT count(*) FROM tenantcall.scoped_tables "
                                  "WHERE relation = 'parted_3'::regclass", dbname=back) == "1"
    finally:
        scoped.cluster.drop_database(back)


def test_extension_dropped_and_made_again(db):
    """Tables survive DROP EXTENSION CASCADE; the backend's caches follow it."""
    with db.connect(autocommit=True) as conn:
        conn.execute("CREATE SCHEMA mine; CREATE TABLE mine.t (company_id bigint, id int)")
        conn.execute("SELECT tenantcall.scope_table('mine.t')")
        conn.execute("DROP EXTENSION tenantcall CASCADE")
        conn.execute("ALTER TABLE mine.t DISABLE ROW LEVEL SECURITY")
        assert conn.execute("SELECT count(*) FROM mine.t").fetchone() == (0,)
        conn.execute("CREATE EXTENSION tenantcall")
        conn.execute("SELECT tenantcall.scope_table('mine.t')")
        assert conn.execute("SELECT row_security FROM tenantcall.scoped_tables "
                            "WHERE relation = 'mine.t'::regclass").fetchone() == (True,)


def test_somebody_elses_schema_of_our_name(cluster, role):
    """In a database without the extension, a table of the registry's name is none of ours."""
    owner = role("scope_squatter")
    cluster.sql(f'CREATE DATABASE squatted OWNER "{owner}" TEMPLATE template0')
    try:
        with cluster.connect(role=owner, dbname="squatted", autocommit=True) as conn:
            conn.execute("CREATE SCHEMA tenantcall; CREATE TABLE tenantcall.scope_registry (a int, b int, c int); "
                         "INSERT INTO tenantcall.scope_registry VALUES (1, 1, 1)")
            conn.execute("CREATE TABLE t (id int); ALTER TABLE t ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; "
                         "CREATE POLICY p ON t USING (true); INSERT INTO t VALUES (1)")
            assert conn.execute("SELECT count(*) FROM t").fetchone() == (1,)
            assert conn.execute("SELECT count(*) FROM tenantcall.scope_registry").fetchone() == (1,)
    finally:
        cluster.drop_database("squatted")


def test_without_preload(make_cluster):
    """On a server that does not preload us, DDL works, and new partitions are scoped all the same."""
    server = make_cluster()
    server.sql("CREATE DATABASE d TEMPLATE tc_template")
    server.sql("CREATE ROLE app; CREATE TABLE p (id int, company_id bigint) PARTITION BY RANGE (id); "
               "SELECT tenantcall.scope_table('p')", dbname="d")
    server.restart(shared_preload_libraries="")
    with pytest.raises(Failure, match="shared_preload_libraries"):
        server.sql("CREATE TABLE q (company_id bigint); SELECT tenantcall.scope_table('q')", dbname="d")
    server.sql("CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10); GRANT ALL ON p1 TO app; "
               "CREATE TABLE gone (id int); DROP TABLE gone", dbname="d")
    assert server.sql("SELECT array_length(policies, 1), array_length(triggers, 1) "
                      "FROM tenantcall.scoped_tables WHERE relation = 'p1'::regclass", dbname="d") == "2|3"
    server.sql("INSERT INTO p VALUES (1, 1)", dbname="d")
    assert server.sql("SET ROLE app; SELECT count(*) FROM p1", dbname="d") == "0"
    with pytest.raises(Failure, match="no tenant has been entered"):
        server.sql("SET ROLE app; DELETE FROM p1", dbname="d")


def test_standby(make_cluster):
    """A standby isolates the same, also after its primary lost the policies."""
    primary = make_cluster()
    primary.sql("CREATE DATABASE d TEMPLATE tc_template")
    primary.sql("CREATE ROLE app LOGIN")
    make = "SELECT tenantcall.create_company('{}', 'DE', 'UTC')"
    a, b = (int(primary.sql(make.format(name), dbname="d")) for name in "AB")
    primary.sql(TABLES.format(a=a, b=b, app="app"), dbname="d")
    standby = primary.standby()
    try:
        primary.wait_for_replay(standby)
        with standby.connect(role="app", dbname="d") as conn:
            enter(conn, a)
            assert letters(conn) == "A"
            conn.commit()
            assert letters(conn) == "-"
            conn.commit()
            primary.sql("CREATE POLICY evil ON visits USING (true); "
                        "DROP POLICY tenantcall_tenant_restrictive ON visits", dbname="d")
            primary.wait_for_replay(standby)
            enter(conn, b)
            assert letters(conn) == "B"
            conn.commit()
            primary.sql("ALTER TABLE visits DISABLE ROW LEVEL SECURITY", dbname="d")
            primary.wait_for_replay(standby)
            with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
                letters(conn)
            conn.rollback()
            primary.sql("SELECT tenantcall.unscope_table('visits')", dbname="d")
            primary.wait_for_replay(standby)
            assert letters(conn) == "A,B"
    finally:
        standby.stop("immediate")


@pytest.mark.parametrize("damage", [
    "DROP POLICY tenantcall_tenant ON owned", "DROP POLICY tenantcall_tenant_restrictive ON owned",
    "DROP TRIGGER tenantcall_freeze ON owned", "ALTER TABLE owned ENABLE TRIGGER tenantcall_guard",
    "ALTER TABLE owned NO FORCE ROW LEVEL SECURITY", "ALTER TABLE owned DISABLE ROW LEVEL SECURITY"])
def test_view_tells_what_is_missing(db, damage):
    """scoped_tables says that a table is not intact, and scope_table() mends it."""
    intact = "SELECT intact FROM tenantcall.scoped_tables WHERE relation = 'owned'::regclass"
    db.sql("CREATE TABLE owned (company_id bigint); SELECT tenantcall.scope_table('owned')")
    assert db.sql(intact) == "t"
    db.sql(damage)
    assert db.sql(intact) == "f"
    db.sql("SELECT tenantcall.scope_table('owned')")
    assert db.sql(intact) == "t"
