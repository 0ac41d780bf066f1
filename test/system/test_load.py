"""Loading: creating, dumping and restoring the extension works without preloading it."""
import psycopg
import pytest


@pytest.fixture
def plain(make_cluster):
    """A server that does not preload tenantcall."""
    server = make_cluster(template=False, shared_preload_libraries="")
    server.sql("CREATE DATABASE plain")
    return server


def test_create_without_preload(plain):
    """CREATE EXTENSION works, reads see no tenant, and nothing raises while the library loads."""
    with plain.connect(dbname="plain", autocommit=True) as conn:
        conn.execute("CREATE EXTENSION tenantcall")
        row = conn.execute(
            "SELECT tenantcall.current_company_id(), tenantcall.current_branch_id(), "
            "tenantcall.current_company_uuid(), tenantcall.current_branch_uuid()")
        assert row.fetchone() == (None, None, None, None)
    assert "ERROR" not in plain.log()
    assert "FATAL" not in plain.log()


def test_version_is_that_of_the_sql(plain):
    """The library and the SQL objects name the same version."""
    with plain.connect(dbname="plain", autocommit=True) as conn:
        conn.execute("CREATE EXTENSION tenantcall")
        assert conn.execute("SELECT tenantcall.version() = extversion FROM pg_extension "
                            "WHERE extname = 'tenantcall'").fetchone() == (True,)


def test_context_cannot_be_set(db):
    """Nobody sets the context's setting directly, not even a superuser."""
    with db.connect() as conn:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute("SET tenantcall.company_id = '1:0:0:0'")


@pytest.mark.parametrize("style", ["plain", "custom"])
def test_dump_restore_without_preload(plain, tmp_path, style):
    """A database with the extension goes through pg_dump and back without the library preloaded."""
    file = tmp_path / "dump"
    plain.sql("CREATE EXTENSION tenantcall; CREATE TABLE kept (company_id bigint "
              "DEFAULT tenantcall.current_company_id(), n int); "
              "INSERT INTO kept (n) VALUES (42)", dbname="plain")
    plain.client_program("pg_dump", "-F", style, "-f", file, "plain")
    plain.sql("CREATE DATABASE back")
    if style == "plain":
        plain.client_program("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", file, "back")
    else:
        plain.client_program("pg_restore", "--exit-on-error", "-d", "back", file)
    assert plain.sql("SELECT n, company_id IS NULL FROM kept", dbname="back") == "42|t"
    assert plain.sql("SELECT tenantcall.version() = extversion FROM pg_extension "
                     "WHERE extname = 'tenantcall'", dbname="back") == "t"


# What README.md says works where the library is installed, but not preloaded; and what does not.
WORKS = """
SELECT tenantcall.parse_phone('030 12345678', 'DE')::text || tenantcall.phone_region('+4930123450')
SELECT tenantcall.phone_national('+4930123450') || tenantcall.phone_is_valid('+4930123450')
SELECT tenantcall.caller_number('anonymous')
CREATE TABLE callers (number tenantcall.phone PRIMARY KEY)
INSERT INTO callers VALUES ('+4930123450')
CREATE TABLE jobs (job_id int PRIMARY KEY, status text)
SELECT tenantcall.track_lifecycle('jobs', 'status')
INSERT INTO jobs VALUES (1, 'inbound')
UPDATE jobs SET status = 'ongoing'
SELECT tenantcall.can_transition('call', 'inbound', 'ongoing'), tenantcall.next_states('call', 'inbound')
SELECT tenantcall.slot_cache_key(1, 2, '2026-01-01'), tenantcall.alternatives_cache_key(1, 2, 3, now(), now())
SELECT count(*) FROM tenantcall.check_isolation()
SELECT * FROM tenantcall.scope_plan('jobs', 'job_id')
""".strip().split("\n")
REFUSES = """
SELECT tenantcall.scope_table('jobs', 'job_id')
SELECT tenantcall.create_tables()
SELECT tenantcall.create_company('a', 'DE', 'UTC')
SELECT tenantcall.enter(1)
SELECT tenantcall.enter_token('x')
SELECT tenantcall.sign_token(1, NULL, '1 minute')
SELECT tenantcall.allow('function_call')
SELECT tenantcall.take_for(1, 'function_call')
SELECT tenantcall.set_rate_policy('x', 1, '1 minute')
SELECT * FROM tenantcall.resolve_phone('+4930123450')
SELECT * FROM tenantcall.ingest_retell('{}'::text, '')
SELECT * FROM tenantcall.accept_function_call('{}'::text, '')
SELECT * FROM tenantcall.answer_inbound_call('{}'::text, '')
SELECT tenantcall.set_webhook_key('retell', 'a', 'b')
""".strip().split("\n")


def test_what_works_without_preload(plain):
    """Phone numbers, lifecycles and cache keys work; all else is refused, and says what is missing."""
    with plain.connect(dbname="plain", autocommit=True) as conn:
        conn.execute("CREATE EXTENSION tenantcall")
        for statement in WORKS:
            conn.execute(statement)
        with pytest.raises(psycopg.Error) as illegal:
            conn.execute("UPDATE jobs SET status = 'analyzed'")
        assert illegal.value.sqlstate == "PT409"
        for statement in REFUSES:
            with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="shared_preload_libraries"):
                conn.execute("BEGIN")
                conn.execute(statement)
            conn.execute("ROLLBACK")


def test_preload_taken_away(make_cluster):
    """A server that no longer preloads the library shows rows of scoped tables to nobody."""
    server = make_cluster()
    server.create_database("was")
    server.sql("CREATE ROLE was_app LOGIN; SELECT tenantcall.grant_app('was_app');"
               "CREATE TABLE was (company_id bigint); INSERT INTO was VALUES (1);"
               "SELECT tenantcall.scope_table('was'); GRANT ALL ON was TO was_app", dbname="was")
    server.restart(shared_preload_libraries="")
    for before in ("SELECT 1", "SET tenantcall.company_id = '1'", "SET tenantcall.company_id = '1:0:0:0'"):
        with server.connect(role="was_app", dbname="was", autocommit=True) as conn:
            conn.execute(before)
            assert conn.execute("SELECT count(*) FROM was").fetchone() == (0,)
            for write in ("INSERT INTO was VALUES (1)", "DELETE FROM was", "UPDATE was SET company_id = 1"):
                with pytest.raises(psycopg.Error):
                    conn.execute(write)
    assert server.sql("SELECT * FROM was", dbname="was") == "1"
