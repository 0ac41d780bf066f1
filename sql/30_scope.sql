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

-- Statements to be run one by one, each in a transaction of its own (psql: \gexec).  What is done
-- already is left out, so an interrupted plan can be asked for again.  Locks: the indexes are built
-- CONCURRENTLY and before lock_timeout is set, which would end their waits; the proof of NOT NULL is validated under SHARE UPDATE EXCLUSIVE; the rest takes
-- ACCESS EXCLUSIVE for a moment and reads no rows, which lock_timeout keeps from queueing others.
CREATE FUNCTION tenantcall.scope_plan(rel regclass, company_column name DEFAULT 'company_id') RETURNS SETOF text
    LANGUAGE plpgsql STABLE STRICT PARALLEL RESTRICTED
    SET search_path = pg_catalog, tenantcall, pg_temp
AS $$
DECLARE
    short_locks  CONSTANT text := 'SET lock_timeout = ''2s''';
    is_short     boolean := false;
    has_not_null boolean;
    one          record;
BEGIN
    SELECT a.attnotnull INTO has_not_null
    FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = scope_plan.company_column AND a.attnum > 0
    WHERE c.oid = scope_plan.rel AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
      AND a.atttypid IN ('integer'::regtype, 'bigint'::regtype, 'uuid'::regtype);
    IF NOT FOUND THEN
        RAISE wrong_object_type USING
            MESSAGE = format('relation %s cannot be scoped by column %I', rel, company_column),
            DETAIL = 'A plain or partitioned table with a company column of type integer, bigint or uuid can.';
    END IF;

    FOR one IN
        WITH RECURSIVE tree(oid, parent, level) AS (
            SELECT scope_plan.rel::oid, NULL::oid, 0
            UNION
            SELECT i.inhrelid, i.inhparent, t.level + 1 FROM tree t JOIN pg_inherits i ON i.inhparent = t.oid
        ), wanted AS (
            SELECT t.oid, t.parent, t.level, c.relkind, c.relispartition, n.nspname, p.relkind AS parent_kind,
                   left(c.relname, 44) || '_company_' || substr(md5(format('%I.%I.%I', n.nspname, c.relname, company_column)), 1, 8) AS index_name,
                   EXISTS (SELECT FROM pg_index x JOIN pg_class ic ON ic.oid = x.indexrelid JOIN pg_am am ON am.oid = ic.relam
                           JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = x.indkey[0]
                           WHERE x.indrelid = c.oid AND x.indisvalid AND x.indpred IS NULL
                             AND am.amname = 'btree' AND a.attname = scope_plan.company_column) AS indexed
            FROM tree t JOIN pg_class c ON c.oid = t.oid JOIN pg_namespace n ON n.oid = c.relnamespace
            LEFT JOIN pg_class p ON p.oid = t.parent
        ), made AS (
            SELECT w.*, x.indisvalid, x.indexrelid IS NOT NULL AS present, v.index_name AS parent_index, v.nspname AS parent_schema,
                   EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = x.indexrelid) AS attached
            FROM wanted w
            LEFT JOIN pg_class ic ON ic.relname = w.index_name AND ic.relnamespace = w.nspname::regnamespace
            LEFT JOIN pg_index x ON x.indexrelid = ic.oid
            LEFT JOIN wanted v ON v.oid = w.parent AND v.relkind = 'p' AND NOT v.indexed
        )
        SELECT 1 AS step, m.level, format('DROP INDEX CONCURRENTLY %I.%I', m.nspname, m.index_name) AS statement
        FROM made m WHERE m.relkind = 'r' AND m.present AND NOT m.indisvalid
        UNION ALL
        SELECT 3, m.level, format('CREATE INDEX %I ON ONLY %s (%I)', m.index_name, m.oid::regclass, company_column)
        FROM made m WHERE m.relkind = 'p' AND NOT m.indexed AND NOT m.present
        UNION ALL
        SELECT 2, m.level, format('CREATE INDEX CONCURRENTLY %I ON %s (%I)', m.index_name, m.oid::regclass, company_column)
        FROM made m
        WHERE m.relkind = 'r' AND (NOT m.indexed OR m.parent_index IS NOT NULL AND NOT m.present)
        UNION ALL
        SELECT 4, m.level, format('ALTER INDEX %I.%I ATTACH PARTITION %I.%I', m.parent_schema, m.parent_index, m.nspname, m.index_name)
        FROM made m WHERE m.parent_index IS NOT NULL AND NOT m.attached
        ORDER BY 1, 2 DESC, 3
    LOOP
        IF one.step > 2 AND NOT is_short THEN
            RETURN NEXT short_locks;
            is_short := true;
        END IF;
        RETURN NEXT one.statement;
    END LOOP;
    IF NOT is_short THEN
        RETURN NEXT short_locks;
    END IF;

    IF NOT has_not_null THEN
        SELECT k.convalidated INTO one FROM pg_constraint k
        WHERE k.conrelid = scope_plan.rel AND k.conname = 'tenantcall_company_not_null';
        IF NOT FOUND THEN
            RETURN NEXT format('ALTER TABLE %s ADD CONSTRAINT tenantcall_company_not_null CHECK (%I IS NOT NULL) NOT VALID',
                               rel, company_column);
        END IF;
        IF one.convalidated IS NOT TRUE THEN
            RETURN NEXT format('ALTER TABLE %s VALIDATE CONSTRAINT tenantcall_company_not_null', rel);
        END IF;
        RETURN NEXT format('ALTER TABLE %s ALTER COLUMN %I SET NOT NULL', rel, company_column);
        RETURN NEXT format('ALTER TABLE %s DROP CONSTRAINT tenantcall_company_not_null', rel);
    ELSIF EXISTS (SELECT FROM pg_constraint k
                  WHERE k.conrelid = scope_plan.rel AND k.conname = 'tenantcall_company_not_null') THEN
        RETURN NEXT format('ALTER TABLE %s DROP CONSTRAINT tenantcall_company_not_null', rel);
    END IF;
    RETURN NEXT format('SELECT tenantcall.scope_table(%L, %L)', rel, company_column);
    RETURN NEXT 'RESET lock_timeout';
END
$$;
COMMENT ON FUNCTION tenantcall.scope_plan(regclass, name) IS
    'statements that prepare a large live table for scope_table() without long locks';
REVOKE ALL ON FUNCTION tenantcall.scope_plan(regclass, name) FROM PUBLIC;

-- The company of rows is frozen where rows are: a partitioned table has no trigger for that itself.
CREATE VIEW tenantcall.scoped_tables AS
WITH scoped AS (
    SELECT r.rel AS relation,
           r.company_column,
           r.column_type,
           c.relrowsecurity AS row_security,
           c.relforcerowsecurity AS forced,
           ARRAY(SELECT p.polname FROM pg_catalog.pg_policy p WHERE p.polrelid = r.rel ORDER BY p.polname) AS policies,
           ARRAY(SELECT t.tgname FROM pg_catalog.pg_trigger t
                 WHERE t.tgrelid = r.rel AND t.tgenabled = 'A' AND t.tgname LIKE 'tenantcall\_%' ORDER BY t.tgname) AS triggers,
           r.scoped_at,
           r.scoped_by,
           c.relkind
    FROM tenantcall.scope_registry r
    JOIN pg_catalog.pg_class c ON c.oid = r.rel
)
SELECT s.relation, s.company_column, s.column_type, s.row_security, s.forced, s.policies, s.triggers,
       s.scoped_at, s.scoped_by,
       s.row_security AND s.forced
           AND s.policies @> '{tenantcall_tenant,tenantcall_tenant_restrictive}'
           AND s.triggers @> '{tenantcall_guard,tenantcall_truncate}'
           AND (s.relkind = 'p' OR s.triggers @> '{tenantcall_freeze}') AS intact
FROM scoped s;
COMMENT ON VIEW tenantcall.scoped_tables IS 'the scoped tables and what protects them';
COMMENT ON COLUMN tenantcall.scoped_tables.intact IS 'false if something of that is missing: call scope_table() again';
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
