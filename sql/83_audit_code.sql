-- 83_audit_code.sql: check_isolation() of views, rules, functions and event triggers

CREATE FUNCTION tenantcall.audit_bypasses(role oid) RETURNS boolean
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT r.rolsuper OR r.rolbypassrls FROM pg_roles AS r WHERE r.oid = role
$$;
COMMENT ON FUNCTION tenantcall.audit_bypasses(oid) IS 'internal: is the role superuser, or does it have BYPASSRLS?';
REVOKE ALL ON FUNCTION tenantcall.audit_bypasses(oid) FROM PUBLIC;

-- Scoped tables and, through any number of views, what reads them.
CREATE FUNCTION tenantcall.audit_readers() RETURNS TABLE (rewrite oid, relation oid, reads oid, is_rule boolean)
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    WITH RECURSIVE edges AS (
        SELECT DISTINCT w.oid AS rewrite, w.ev_class AS relation, d.refobjid AS reads, w.rulename <> '_RETURN' AS is_rule
        FROM pg_rewrite AS w
        JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
                               AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> w.ev_class
        WHERE w.oid >= 16384
    ), found AS (
        SELECT e.* FROM edges AS e JOIN tenantcall.audit_tables AS t ON t.rel = e.reads
        UNION
        SELECT e.* FROM found AS f JOIN edges AS e ON e.reads = f.relation AND NOT f.is_rule
    )
    SELECT * FROM found
$$;
COMMENT ON FUNCTION tenantcall.audit_readers() IS 'internal: views and rules that reach scoped tables';
REVOKE ALL ON FUNCTION tenantcall.audit_readers() FROM PUBLIC;

-- A view is judged by the scoped tables it names itself: those below another view are read with
-- the rights that that view says.  A materialized view is judged by all it reaches.
CREATE FUNCTION tenantcall.audit_views() RETURNS SETOF tenantcall.isolation_finding
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    WITH readers AS (
        SELECT f.rewrite, f.relation, f.is_rule, c.relkind, c.relowner,
               format('%s.%I', c.relnamespace::regnamespace, c.relname) AS name,
               string_agg(f.reads::regclass::text, ', ' ORDER BY f.reads::regclass::text) AS reads,
               bool_or(t.rel IS NOT NULL) AS is_direct,
               EXISTS (SELECT FROM pg_options_to_table(c.reloptions) AS o
                       WHERE o.option_name = 'security_invoker' AND o.option_value::boolean) AS is_invoker,
               (SELECT string_agg(DISTINCT tenantcall.audit_role_name(a.grantee), ', ')
                FROM aclexplode(c.relacl) AS a WHERE a.grantee <> c.relowner) AS grantees
        FROM tenantcall.audit_readers() AS f
        JOIN pg_class AS c ON c.oid = f.relation
        LEFT JOIN tenantcall.audit_tables AS t ON t.rel = f.reads
        GROUP BY f.rewrite, f.relation, f.is_rule, c.oid
    )
    SELECT CASE WHEN tenantcall.audit_bypasses(v.relowner) THEN 'error' ELSE 'warning' END,
           'view_not_invoker', v.name,
           format('It reads %s as %I, %s.', v.reads, pg_get_userbyid(v.relowner),
                  CASE WHEN tenantcall.audit_bypasses(v.relowner) THEN 'whom row security does not bind'
                       ELSE 'whose rights its readers borrow' END),
           format('ALTER VIEW %s SET (security_invoker = true)', v.name)
    FROM readers AS v
    WHERE v.relkind = 'v' AND NOT v.is_rule AND v.is_direct AND NOT v.is_invoker
    UNION ALL
    SELECT CASE WHEN v.grantees IS NULL THEN 'info' ELSE 'error' END, 'materialized_view', v.name,
           format('It keeps what it read of %s, without row security, %s.', v.reads,
                  coalesce('for ' || v.grantees, 'for its owner alone')),
           CASE WHEN v.grantees IS NULL THEN format('DROP MATERIALIZED VIEW %s', v.name)
                ELSE format('REVOKE ALL ON %s FROM %s', v.name, v.grantees) END
    FROM readers AS v
    WHERE v.relkind = 'm'
    UNION ALL
    SELECT 'error', 'rule', format('%s.%I', c.relnamespace::regnamespace, c.relname),
           format('Rule %I acts on scoped tables as %I, the owner of its table.', w.rulename, pg_get_userbyid(c.relowner)),
           format('DROP RULE %I ON %s.%I', w.rulename, c.relnamespace::regnamespace, c.relname)
    FROM pg_rewrite AS w JOIN pg_class AS c ON c.oid = w.ev_class
    WHERE w.rulename <> '_RETURN'
      AND (w.oid IN (SELECT r.rewrite FROM readers AS r WHERE r.is_rule)
           OR w.ev_class IN (SELECT t.rel FROM tenantcall.audit_tables AS t))
$$;
COMMENT ON FUNCTION tenantcall.audit_views() IS 'internal: part of check_isolation()';
REVOKE ALL ON FUNCTION tenantcall.audit_views() FROM PUBLIC;

-- What a function reads is known of SQL-standard bodies only; of others the text is searched for
-- names, which neither sees a name put together at run time, nor which schema is meant.
CREATE FUNCTION tenantcall.audit_definers() RETURNS SETOF tenantcall.isolation_finding
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    WITH reached AS (
        SELECT t.rel::oid AS oid, t.relname FROM tenantcall.audit_tables AS t WHERE t.relkind IS NOT NULL
        UNION
        SELECT c.oid, c.relname FROM tenantcall.audit_readers() AS f JOIN pg_class AS c ON c.oid = f.relation
    ), definers AS (
        SELECT p.oid, p.proowner, p.prosrc, p.prokind, tenantcall.audit_function_name(p.oid) AS name,
               tenantcall.audit_bypasses(p.proowner) AS bypasses,
               EXISTS (SELECT FROM unnest(p.proconfig) AS s (setting)
                       WHERE s.setting ~ '^search_path=(.*,\s*)?"?pg_temp"?\s*$') AS is_pinned
        FROM pg_proc AS p
        WHERE p.prosecdef AND p.pronamespace <> 'pg_catalog'::regnamespace
          AND (p.prorettype IN ('trigger'::regtype, 'event_trigger'::regtype)
               OR EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a
                          WHERE a.grantee <> p.proowner))
    ), mentions AS (
        SELECT d.*, m.names
        FROM definers AS d
        LEFT JOIN LATERAL (
            SELECT string_agg(DISTINCT r.relname, ', ' ORDER BY r.relname) AS names
            FROM reached AS r
            WHERE d.prosrc ~* ('(^|\W)' || regexp_replace(r.relname, '(\W)', '\\\1', 'g') || '(\W|$)')
               OR EXISTS (SELECT FROM pg_depend AS x WHERE x.classid = 'pg_proc'::regclass AND x.objid = d.oid
                          AND x.refclassid = 'pg_class'::regclass AND x.refobjid = r.oid)) AS m ON true
    )
    SELECT CASE WHEN m.names IS NULL THEN 'info' ELSE 'error' END, 'definer_function', m.name,
           format('It acts as %I, whom row security does not bind, and %s.', pg_get_userbyid(m.proowner),
                  coalesce('names ' || m.names, 'may build the names of scoped tables when it runs')),
           format('ALTER ROUTINE %s SECURITY INVOKER', m.name)
    FROM mentions AS m WHERE m.bypasses
    UNION ALL
    SELECT 'error', 'definer_search_path', m.name,
           format('It acts as %I, and its caller decides what the names in it mean.', pg_get_userbyid(m.proowner)),
           format('ALTER ROUTINE %s SET search_path = pg_catalog, pg_temp', m.name)
    FROM mentions AS m
    WHERE NOT m.is_pinned
      AND (m.bypasses OR m.proowner IN (SELECT t.relowner FROM tenantcall.audit_tables AS t))
    UNION ALL
    SELECT 'error', 'leakproof_function', tenantcall.audit_function_name(p.oid),
           'It is said to be leakproof, so it is given other companies'' rows before the policies decide.',
           format('ALTER FUNCTION %s NOT LEAKPROOF', tenantcall.audit_function_name(p.oid))
    FROM pg_proc AS p
    WHERE p.proleakproof AND p.pronamespace NOT IN ('pg_catalog'::regnamespace, 'tenantcall'::regnamespace)
$$;
COMMENT ON FUNCTION tenantcall.audit_definers() IS 'internal: part of check_isolation()';
REVOKE ALL ON FUNCTION tenantcall.audit_definers() FROM PUBLIC;

-- The functions that isolation hangs on, as they must be; and who may execute ours.
CREATE FUNCTION tenantcall.audit_functions() RETURNS SETOF tenantcall.isolation_finding
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT 'error', 'function_changed', format('tenantcall.%s()', w.name),
           CASE WHEN p.oid IS NULL THEN 'It does not exist.'
                ELSE format('It must be %s C, of our library, neither SECURITY DEFINER nor with settings.', w.properties) END,
           format('CREATE OR REPLACE FUNCTION tenantcall.%s() RETURNS %s LANGUAGE C %s AS ''$libdir/tenantcall'', ''tc_%s''',
                  w.name, w.result, w.properties, w.name)
    FROM (VALUES ('current_company_id', 'bigint', 'STABLE LEAKPROOF PARALLEL SAFE COST 1'),
                 ('current_branch_id', 'bigint', 'STABLE LEAKPROOF PARALLEL SAFE COST 1'),
                 ('current_company_uuid', 'uuid', 'STABLE LEAKPROOF PARALLEL SAFE COST 1'),
                 ('current_branch_uuid', 'uuid', 'STABLE LEAKPROOF PARALLEL SAFE COST 1'),
                 ('scope_freeze_trigger', 'trigger', 'VOLATILE'),
                 ('scope_guard_trigger', 'trigger', 'VOLATILE'),
                 ('scope_truncate_trigger', 'trigger', 'VOLATILE'),
                 ('invalidate_cache_trigger', 'trigger', 'VOLATILE'),
                 ('scope_ddl_end', 'event_trigger', 'VOLATILE'),
                 ('scope_sql_drop', 'event_trigger', 'VOLATILE')) AS w (name, result, properties)
    LEFT JOIN pg_proc AS p ON p.oid = to_regprocedure(format('tenantcall.%s()', w.name))
    WHERE p.oid IS NULL
       OR p.prolang <> (SELECT l.oid FROM pg_language AS l WHERE l.lanname = 'c')
       OR (p.probin, p.prosrc) IS DISTINCT FROM ('$libdir/tenantcall', 'tc_' || w.name)
       OR p.prosecdef OR p.proconfig IS NOT NULL OR p.prorettype <> w.result::regtype
       OR p.provolatile <> CASE WHEN w.properties LIKE 'STABLE%' THEN 's' ELSE 'v' END
       OR p.proleakproof <> (w.properties LIKE '%LEAKPROOF%')
       OR w.properties LIKE '%PARALLEL SAFE%' AND p.proparallel <> 's'
    UNION ALL
    SELECT 'error', 'function_changed', tenantcall.audit_function_name(p.oid),
           CASE WHEN p.prosecdef THEN 'It is SECURITY DEFINER; functions of ours never are.'
                ELSE format('It is not of our library, but of %s.', p.probin) END,
           CASE WHEN p.prosecdef THEN format('ALTER FUNCTION %s SECURITY INVOKER', tenantcall.audit_function_name(p.oid))
                ELSE replace(pg_get_functiondef(p.oid), quote_literal(p.probin), quote_literal('$libdir/tenantcall')) END
    FROM pg_proc AS p
    JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
    JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND e.extname = 'tenantcall'
    WHERE p.prosecdef OR p.probin <> '$libdir/tenantcall'
    UNION ALL
    SELECT 'error', 'public_execute', tenantcall.audit_function_name(p.oid), 'PUBLIC may execute it.',
           format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', tenantcall.audit_function_name(p.oid))
    FROM pg_proc AS p
    WHERE p.pronamespace = 'tenantcall'::regnamespace
      AND p.provolatile <> 'i' -- immutable helpers are for all
      AND p.proname NOT IN ('current_company_id', 'current_branch_id', 'current_company_uuid', 'current_branch_uuid',
                            'disconnection_state', 'parse_phone', 'caller_number', 'phone_region', 'phone_national', 'phone_is_valid',
                            'phone_in', 'phone_recv', 'phone_sortsupport')
      AND EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a WHERE a.grantee = 0)
$$;
COMMENT ON FUNCTION tenantcall.audit_functions() IS 'internal: part of check_isolation()';
REVOKE ALL ON FUNCTION tenantcall.audit_functions() FROM PUBLIC;

-- Schema tenantcall stands in the search path of our functions: nothing else may stand in it.
CREATE FUNCTION tenantcall.audit_strangers() RETURNS SETOF tenantcall.isolation_finding
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT 'error', 'foreign_object', s.name, 'It is not of the extension, and could stand in for something that is.',
           format('DROP %s %s', s.kind, s.name)
    FROM (SELECT 'pg_proc'::regclass AS classid, p.oid, 'ROUTINE' AS kind, tenantcall.audit_function_name(p.oid) AS name
          FROM pg_proc AS p WHERE p.pronamespace = 'tenantcall'::regnamespace
          UNION ALL
          SELECT 'pg_class'::regclass, c.oid,
                 CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END,
                 format('tenantcall.%I', c.relname)
          FROM pg_class AS c WHERE c.relnamespace = 'tenantcall'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
          UNION ALL
          SELECT 'pg_operator'::regclass, o.oid, 'OPERATOR',
                 format('tenantcall.%s (%s, %s)', o.oprname, coalesce(nullif(o.oprleft, 0)::regtype::text, 'NONE'),
                        o.oprright::regtype)
          FROM pg_operator AS o WHERE o.oprnamespace = 'tenantcall'::regnamespace) AS s
    WHERE NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = s.classid AND d.objid = s.oid AND d.deptype = 'e')
$$;
COMMENT ON FUNCTION tenantcall.audit_strangers() IS 'internal: part of check_isolation()';
REVOKE ALL ON FUNCTION tenantcall.audit_strangers() FROM PUBLIC;

CREATE FUNCTION tenantcall.audit_event_triggers() RETURNS SETOF tenantcall.isolation_finding
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    WITH wanted (evtname, event, function, tags) AS (
        VALUES ('tenantcall_scope_ddl_end', 'ddl_command_end', 'tenantcall.scope_ddl_end()',
                ARRAY['CREATE TABLE', 'ALTER TABLE', 'CREATE SCHEMA', 'CREATE FOREIGN TABLE', 'ALTER FOREIGN TABLE']),
               ('tenantcall_scope_sql_drop', 'sql_drop', 'tenantcall.scope_sql_drop()', NULL)
    ), compared AS (
        SELECT w.*, e.oid, e.evtenabled,
               e.oid IS NOT NULL AND e.evtevent = w.event AND e.evtfoid = to_regprocedure(w.function)
               AND (e.evttags IS NULL OR e.evttags @> w.tags) IS TRUE AS is_ours
        FROM wanted AS w LEFT JOIN pg_event_trigger AS e ON e.evtname = w.evtname
    )
    SELECT 'error', 'event_trigger', c.evtname,
           CASE WHEN c.is_ours THEN 'It is disabled, or is not ENABLE ALWAYS.'
                WHEN c.oid IS NULL THEN 'It does not exist: new partitions are not scoped, dropped tables not forgotten.'
                ELSE 'It is not as it must be.' END,
           CASE WHEN NOT c.is_ours
                THEN CASE WHEN c.oid IS NOT NULL
                          THEN format('ALTER EXTENSION tenantcall DROP EVENT TRIGGER %1$s; DROP EVENT TRIGGER %1$s; ', c.evtname)
                          ELSE '' END
                     || format('CREATE EVENT TRIGGER %s ON %s %s EXECUTE FUNCTION %s; ALTER EXTENSION tenantcall ADD EVENT TRIGGER %s; ',
                               c.evtname, c.event,
                               'WHEN TAG IN (' || (SELECT string_agg(quote_literal(tag), ', ') FROM unnest(c.tags) AS tag) || ')',
                               c.function, c.evtname)
                ELSE '' END
           || format('ALTER EVENT TRIGGER %s ENABLE ALWAYS', c.evtname)
    FROM compared AS c
    WHERE NOT c.is_ours OR c.evtenabled <> 'A'
$$;
COMMENT ON FUNCTION tenantcall.audit_event_triggers() IS 'internal: part of check_isolation()';
REVOKE ALL ON FUNCTION tenantcall.audit_event_triggers() FROM PUBLIC;

-- Triggers of ours fire whatever session_replication_role is; pg_restore --disable-triggers undoes that.  Those of
-- scoped tables, and of caches that could show another company's rows, are looked at elsewhere.
CREATE FUNCTION tenantcall.audit_triggers() RETURNS SETOF tenantcall.isolation_finding
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT CASE WHEN t.tgenabled = 'O' THEN 'warning' ELSE 'error' END, 'trigger_off',
           format('%I.%I', n.nspname, c.relname),
           format('Trigger %I is disabled, or is not ENABLE ALWAYS.', t.tgname),
           format('ALTER TABLE %I.%I ENABLE ALWAYS TRIGGER %I', n.nspname, c.relname, t.tgname)
    FROM pg_trigger AS t
    JOIN pg_class AS c ON c.oid = t.tgrelid
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_proc AS p ON p.oid = t.tgfoid
    JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
    JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND e.extname = 'tenantcall'
    WHERE t.tgenabled <> 'A'
      AND NOT (p.proname = 'time_zone_trigger' AND t.tgenabled = 'O')
      AND p.proname NOT IN ('scope_freeze_trigger', 'scope_guard_trigger', 'scope_truncate_trigger')
      AND NOT (p.proname = 'invalidate_cache_trigger' AND t.tgtype & 1 = 1 -- of rows
               AND (n.nspname = tenantcall.tables_schema()
                    OR c.relname IN ('scope_registry', 'secrets', 'installation', 'role_kinds')))
$$;
COMMENT ON FUNCTION tenantcall.audit_triggers() IS 'internal: part of check_isolation()';
REVOKE ALL ON FUNCTION tenantcall.audit_triggers() FROM PUBLIC;
