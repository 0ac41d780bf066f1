-- 30_scope.sql: scoped tables, whose rows are visible to the company in context only

-- Who is scoped.  Written by the library only, so that a table's owner cannot take it out.
CREATE TABLE tenantcall.scope_registry (
    rel            regclass    PRIMARY KEY,
    company_column name        NOT NULL,
    column_type    regtype     NOT NULL CHECK (column_type IN ('integer'::regtype, 'bigint'::regtype, 'uuid'::regtype)),
    scoped_at      timestamptz NOT NULL DEFAULT pg_catalog.now(),
    scoped_by      name        NOT NULL DEFAULT session_user
);
COMMENT ON TABLE tenantcall.scope_registry IS 'the scoped tables; no grants to anybody, see view scoped_tables';
REVOKE ALL ON TABLE tenantcall.scope_registry FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('tenantcall.scope_registry', '');

CREATE TRIGGER scope_registry_changed AFTER INSERT OR UPDATE OR DELETE ON tenantcall.scope_registry
    FOR EACH ROW EXECUTE FUNCTION tenantcall.invalidate_cache_trigger();
CREATE TRIGGER scope_registry_truncated AFTER TRUNCATE ON tenantcall.scope_registry
    FOR EACH STATEMENT EXECUTE FUNCTION tenantcall.invalidate_cache_trigger();
ALTER TABLE tenantcall.scope_registry ENABLE ALWAYS TRIGGER scope_registry_changed;
ALTER TABLE tenantcall.scope_registry ENABLE ALWAYS TRIGGER scope_registry_truncated;

CREATE FUNCTION tenantcall.scope_freeze_trigger() RETURNS trigger
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'tc_scope_freeze_trigger';
COMMENT ON FUNCTION tenantcall.scope_freeze_trigger() IS 'refuses to change the company of a row';
REVOKE ALL ON FUNCTION tenantcall.scope_freeze_trigger() FROM PUBLIC;

CREATE FUNCTION tenantcall.scope_guard_trigger() RETURNS trigger
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'tc_scope_guard_trigger';
COMMENT ON FUNCTION tenantcall.scope_guard_trigger() IS 'refuses writes without a tenant';
REVOKE ALL ON FUNCTION tenantcall.scope_guard_trigger() FROM PUBLIC;

CREATE FUNCTION tenantcall.scope_truncate_trigger() RETURNS trigger
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'tc_scope_truncate_trigger';
COMMENT ON FUNCTION tenantcall.scope_truncate_trigger() IS 'refuses TRUNCATE to whom row security binds';
REVOKE ALL ON FUNCTION tenantcall.scope_truncate_trigger() FROM PUBLIC;

-- Only the table's owner gets anything done by it, whoever may execute it.
CREATE FUNCTION tenantcall.scope_table(rel regclass, company_column name DEFAULT 'company_id') RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_scope_table';
COMMENT ON FUNCTION tenantcall.scope_table(regclass, name) IS
    'makes the rows of a table, its partitions and children visible to the company in context only';
REVOKE ALL ON FUNCTION tenantcall.scope_table(regclass, name) FROM PUBLIC;

-- Superusers only: it weakens, and the owner of a table is often the role the application logs in
-- as.  It takes the policies, triggers, default and registration away; NOT NULL and index stay.
-- Row security stays enabled and forced while there are policies of others.
CREATE FUNCTION tenantcall.unscope_table(rel regclass) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp
AS $$
DECLARE
    one record;
    item text;
BEGIN
    IF current_setting('is_superuser') <> 'on' THEN
        RAISE insufficient_privilege USING
            MESSAGE = 'must be superuser to take a table out of scoping',
            HINT = 'A table''s owner can only strengthen it, with tenantcall.scope_table().';
    END IF;
    IF NOT EXISTS (SELECT FROM tenantcall.scope_registry r WHERE r.rel = unscope_table.rel) THEN
        RAISE undefined_object USING
            MESSAGE = format('table %s is not scoped', rel),
            HINT = 'View tenantcall.scoped_tables lists the scoped tables.';
    END IF;
    IF EXISTS (SELECT FROM pg_inherits i JOIN tenantcall.scope_registry r ON r.rel = i.inhparent
               WHERE i.inhrelid = unscope_table.rel) THEN
        RAISE object_not_in_prerequisite_state USING
            MESSAGE = format('table %s is part of a scoped table', rel),
            HINT = 'Unscope the parent, or detach this table first.';
    END IF;
    EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', rel);
    FOR one IN
        WITH RECURSIVE tree(oid) AS (
            SELECT unscope_table.rel::oid
            UNION SELECT i.inhrelid FROM tree t JOIN pg_inherits i ON i.inhparent = t.oid)
        SELECT r.rel, r.company_column, pg_get_expr(d.adbin, d.adrelid) AS default_expr
        FROM tree t
        JOIN tenantcall.scope_registry r ON r.rel = t.oid
        LEFT JOIN pg_attribute a ON a.attrelid = r.rel AND a.attname = r.company_column
        LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    LOOP
        DELETE FROM tenantcall.scope_registry r WHERE r.rel = one.rel;
        FOREACH item IN ARRAY ARRAY['tenantcall_freeze', 'tenantcall_guard', 'tenantcall_truncate'] LOOP
            EXECUTE format('DROP TRIGGER IF EXISTS %I ON %s', item, one.rel);
        END LOOP;
        FOREACH item IN ARRAY ARRAY['tenantcall_tenant', 'tenantcall_tenant_restrictive'] LOOP
            EXECUTE format('DROP POLICY IF EXISTS %I ON %s', item, one.rel);
        END LOOP;
        IF one.default_expr ~ '^\(?current_company_(id|uuid)\(\)\)?(::integer)?$' THEN
            EXECUTE format('ALTER TABLE ONLY %s ALTER COLUMN %I DROP DEFAULT', one.rel, one.company_column);
        END IF;
        IF NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = one.rel) THEN
            EXECUTE format('ALTER TABLE %s NO FORCE ROW LEVEL SECURITY', one.rel);
            EXECUTE format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY', one.rel);
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION tenantcall.unscope_table(regclass) IS 'takes a table, its partitions and children out of scoping (superuser)';
REVOKE ALL ON FUNCTION tenantcall.unscope_table(regclass) FROM PUBLIC;

CREATE FUNCTION tenantcall.scope_plan(rel regclass, company_column name DEFAULT 'company_id') RETURNS SETOF text
    LANGUAGE plpgsql STABLE STRICT PARALLEL RESTRICTED
    SET search_path = pg_catalog, tenantcall, pg_temp
AS $$
BEGIN
    RETURN NEXT 'todo';
END
$$;
COMMENT ON FUNCTION tenantcall.scope_plan(regclass, name) IS
    'statements that prepare a large live table for scope_table() without long locks';
REVOKE ALL ON FUNCTION tenantcall.scope_plan(regclass, name) FROM PUBLIC;

CREATE VIEW tenantcall.scoped_tables AS
SELECT r.rel AS relation,
       r.company_column,
       r.column_type,
       c.relrowsecurity AS row_security,
       c.relforcerowsecurity AS forced,
       ARRAY(SELECT p.polname FROM pg_catalog.pg_policy p WHERE p.polrelid = r.rel ORDER BY p.polname) AS policies,
       ARRAY(SELECT t.tgname FROM pg_catalog.pg_trigger t
             WHERE t.tgrelid = r.rel AND t.tgenabled = 'A' AND t.tgname LIKE 'tenantcall\_%' ORDER BY t.tgname) AS triggers,
       r.scoped_at,
       r.scoped_by
FROM tenantcall.scope_registry r
JOIN pg_catalog.pg_class c ON c.oid = r.rel;
COMMENT ON VIEW tenantcall.scoped_tables IS 'the scoped tables and what protects them';
REVOKE ALL ON TABLE tenantcall.scoped_tables FROM PUBLIC;

CREATE FUNCTION tenantcall.scope_ddl_end() RETURNS event_trigger
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'tc_scope_ddl_end';
COMMENT ON FUNCTION tenantcall.scope_ddl_end() IS 'scopes new partitions and children of scoped tables';
REVOKE ALL ON FUNCTION tenantcall.scope_ddl_end() FROM PUBLIC;

CREATE FUNCTION tenantcall.scope_sql_drop() RETURNS event_trigger
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'tc_scope_sql_drop';
COMMENT ON FUNCTION tenantcall.scope_sql_drop() IS 'forgets scoped tables that are dropped';
REVOKE ALL ON FUNCTION tenantcall.scope_sql_drop() FROM PUBLIC;

CREATE EVENT TRIGGER tenantcall_scope_ddl_end ON ddl_command_end
    WHEN TAG IN ('CREATE TABLE', 'ALTER TABLE', 'CREATE SCHEMA', 'CREATE FOREIGN TABLE', 'ALTER FOREIGN TABLE')
    EXECUTE FUNCTION tenantcall.scope_ddl_end();
COMMENT ON EVENT TRIGGER tenantcall_scope_ddl_end IS 'scopes new partitions and children of scoped tables';
ALTER EVENT TRIGGER tenantcall_scope_ddl_end ENABLE ALWAYS;

CREATE EVENT TRIGGER tenantcall_scope_sql_drop ON sql_drop
    EXECUTE FUNCTION tenantcall.scope_sql_drop();
COMMENT ON EVENT TRIGGER tenantcall_scope_sql_drop IS 'forgets scoped tables that are dropped';
ALTER EVENT TRIGGER tenantcall_scope_sql_drop ENABLE ALWAYS;
