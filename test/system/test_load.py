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
