"""No function, operator or table is found by a search path that a stranger can fill."""
import pytest

# Better matches than pg_catalog's own, for whoever looks here first; each tells who called it.
HOSTILE = """
    CREATE SCHEMA evil;
    CREATE TABLE evil.caught (who name DEFAULT current_user, what text);
    GRANT USAGE ON SCHEMA evil TO PUBLIC;
    GRANT INSERT ON evil.caught TO PUBLIC;
    DO $do$
    DECLARE
        pair text;
        name text;
    BEGIN
        FOREACH pair IN ARRAY ARRAY['text', 'name', 'bigint', 'integer', 'oid', 'uuid', 'boolean', 'jsonb', 'bytea',
                                    '"char"', 'timestamptz', 'interval', 'text[]', 'double precision', 'regclass']
        LOOP
            EXECUTE pg_catalog.format(
                'CREATE FUNCTION evil.compare(%1$s, %1$s) RETURNS boolean LANGUAGE plpgsql AS '
                '$$ BEGIN INSERT INTO evil.caught (what) VALUES (%1$L); RETURN true; END $$', pair);
            FOREACH name IN ARRAY ARRAY['=', '<>', '<', '>', '<=', '>='] LOOP
                EXECUTE pg_catalog.format('CREATE OPERATOR evil.%s (LEFTARG = %s, RIGHTARG = %2$s, FUNCTION = evil.compare)',
                                          name, pair);
            END LOOP;
        END LOOP;
        FOREACH name IN ARRAY ARRAY['lower(text)', 'upper(text)', 'length(text)', 'quote_ident(text)', 'to_jsonb(text)',
                                    'btrim(text)', 'octet_length(bytea)', 'format(text)', 'md5(text)', 'now()',
                                    'clock_timestamp()', 'statement_timestamp()', 'transaction_timestamp()',
                                    'current_setting(text)', 'has_table_privilege(oid, text)', 'pg_has_role(oid, text)',
                                    'pg_notify(text, text)', 'obj_description(oid, name)', 'pg_get_expr(text, oid)',
                                    'version()', 'context()', 'company_id()'] LOOP
            EXECUTE pg_catalog.format(
                'CREATE FUNCTION evil.%s RETURNS text LANGUAGE plpgsql AS '
                '$$ BEGIN INSERT INTO evil.caught (what) VALUES (%L); RETURN ''evil''; END $$', name, name);
        END LOOP;
        FOREACH name IN ARRAY ARRAY['installation', 'companies', 'calls', 'branches', 'secrets', 'quarantine', 'scope_registry',
                                    'role_kinds', 'pg_class', 'pg_proc', 'pg_roles', 'pg_attribute', 'pg_settings'] LOOP
            EXECUTE pg_catalog.format('CREATE TABLE evil.%I (company_id bigint, oid oid, rolname name)', name);
        END LOOP;
        CREATE TYPE evil.phone AS ENUM ('evil');
        CREATE DOMAIN evil.bigint AS text;
        CREATE DOMAIN evil.uuid AS text;
    END
    $do$;
"""
PATH = "evil, public, pg_catalog"

# Everything that is kept as a parsed expression, and the functions with their settings.
DEFINITIONS = """
    SET search_path = '';
    SELECT 'view', c.oid::regclass::text, pg_catalog.pg_get_viewdef(c.oid)
    FROM pg_catalog.pg_class AS c WHERE c.relkind IN ('v', 'm') AND c.relnamespace::regnamespace::text IN ('tenantcall', 'telephony')
    UNION ALL
    SELECT 'constraint', n.conname::text || n.conrelid::regclass || n.contypid::regtype, pg_catalog.pg_get_constraintdef(n.oid)
    FROM pg_catalog.pg_constraint AS n WHERE n.connamespace::regnamespace::text IN ('tenantcall', 'telephony')
    UNION ALL
    SELECT 'default', d.adrelid::regclass::text || d.adnum, pg_catalog.pg_get_expr(d.adbin, d.adrelid)
    FROM pg_catalog.pg_attrdef AS d JOIN pg_catalog.pg_class AS c ON c.oid = d.adrelid
    WHERE c.relnamespace::regnamespace::text IN ('tenantcall', 'telephony')
    UNION ALL
    SELECT 'column', a.attrelid::regclass::text || a.attname, a.atttypid::regtype::text
    FROM pg_catalog.pg_attribute AS a JOIN pg_catalog.pg_class AS c ON c.oid = a.attrelid
    WHERE c.relnamespace::regnamespace::text IN ('tenantcall', 'telephony') AND a.attnum > 0
    UNION ALL
    SELECT 'index', i.indexrelid::regclass::text, pg_catalog.pg_get_indexdef(i.indexrelid)
    FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
    WHERE c.relnamespace::regnamespace::text IN ('tenantcall', 'telephony')
    UNION ALL
    SELECT 'policy', p.polname::text || p.polrelid::regclass,
           pg_catalog.concat(pg_catalog.pg_get_expr(p.polqual, p.polrelid), pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid))
    FROM pg_catalog.pg_policy AS p
    UNION ALL
    SELECT 'trigger', t.tgname::text || t.tgrelid::regclass, pg_catalog.pg_get_triggerdef(t.oid)
    FROM pg_catalog.pg_trigger AS t WHERE NOT t.tgisinternal
    UNION ALL
    SELECT 'function', f.oid::regprocedure::text, pg_catalog.pg_get_functiondef(f.oid)
    FROM pg_catalog.pg_proc AS f
    WHERE f.pronamespace::regnamespace::text IN ('tenantcall', 'telephony') AND f.prokind IN ('f', 'p')
    ORDER BY 1, 2, 3
"""
TABLES = "SELECT tenantcall.create_tables()"


@pytest.fixture
def trapped(cluster, role):
    """A database in which everybody looks first where strangers can make objects."""
    name = "search_path_test"
    cluster.sql(f"CREATE DATABASE {name} TEMPLATE template0; ALTER DATABASE {name} SET search_path = {PATH}")
    yield name
    cluster.drop_database(name)


def test_install(cluster, db, trapped):
    """The install script and create_tables() make the same objects wherever they look first."""
    temporary = "CREATE TEMP TABLE installation (); CREATE TEMP TABLE companies (); CREATE TEMP TABLE pg_class (oid oid);"
    cluster.sql(f"{HOSTILE} {temporary} CREATE EXTENSION tenantcall; {TABLES}", dbname=trapped)
    expected, seen = db.sql(DEFINITIONS).split("\n"), cluster.sql(DEFINITIONS, dbname=trapped).split("\n")
    assert len(seen) > 500
    assert [line for line in seen if line not in set(expected)] == []
    assert seen == expected
    assert cluster.sql("SELECT what FROM evil.caught", dbname=trapped) == ""


def test_functions_pin_their_path(db):
    """Those written in SQL and PL/pgSQL, with pg_temp last; those in C run without settings."""
    wrong = db.sql("""
        SELECT f.oid::regprocedure, f.proconfig, f.prosecdef
        FROM pg_proc AS f JOIN pg_language AS l ON l.oid = f.prolang
        JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = f.oid AND d.deptype = 'e'
        WHERE f.prokind <> 'a'
          AND CASE WHEN l.lanname IN ('c', 'internal') THEN f.proconfig IS NOT NULL
                   ELSE f.prosecdef OR coalesce(f.proconfig[1], '') <> 'search_path=pg_catalog, tenantcall, pg_temp' END""")
    assert wrong == ""


def test_views_and_functions_run(cluster, trapped):
    """What takes no arguments runs, and calls nothing of the stranger's."""
    cluster.sql(f"{HOSTILE} CREATE EXTENSION tenantcall; {TABLES}", dbname=trapped)
    cluster.sql("SELECT tenantcall.create_company('c', 'DE', 'Europe/Berlin')", dbname=trapped)
    calls = cluster.sql("""
        SET search_path = pg_catalog;
        SELECT format('SELECT pg_catalog.count(*) FROM %s AS x;', c.oid::regclass) FROM pg_class AS c
        WHERE c.relkind = 'v' AND c.relnamespace = 'tenantcall'::regnamespace
        UNION ALL
        SELECT format('SELECT pg_catalog.count(*) FROM %s AS x;', f.oid::regprocedure) FROM pg_proc AS f
        WHERE f.pronamespace = 'tenantcall'::regnamespace AND f.pronargs = f.pronargdefaults AND f.prokind = 'f'
          AND f.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)""", dbname=trapped).split("\n")
    assert len(calls) > 50
    done = cluster.psql("-q", "-f", "-", dbname=trapped, stdin="\n".join(calls))
    assert cluster.sql("SELECT who, what FROM evil.caught", dbname=trapped) == "", done.stderr
    assert "evil" not in done.stderr
