-- 80_audit.sql: check_isolation(), every way this database could leak between tenants
--
-- Each group of checks is one function over the catalogs that returns findings: 81_audit_tables,
-- 82_audit_keys, 83_audit_code, 84_audit_roles and 85_audit_settings.  They read no rows of tenants
-- (but audit_orphans() does, where the caller may see all of them), take no locks but those of
-- reading, and run with the rights of the caller, an administrator or superuser.
--
-- Severity: error, somebody could see or change another company's rows, or something that keeps
-- them from it is broken; warning, one more mistake would make it so, or something is told apart
-- (that a number is taken), or is slow; info, to be known.  Clean means neither errors nor warnings.

CREATE TYPE tenantcall.isolation_finding AS
(
    severity text,
    check_name text,
    object text,
    detail text,
    remedy text
);
COMMENT ON TYPE tenantcall.isolation_finding IS 'what check_isolation() has found';

CREATE TABLE tenantcall.isolation_checks
(
    check_name text PRIMARY KEY,
    finds text NOT NULL
);
COMMENT ON TABLE tenantcall.isolation_checks IS 'what check_isolation() looks for';
REVOKE ALL ON tenantcall.isolation_checks FROM PUBLIC;
INSERT INTO tenantcall.isolation_checks (check_name, finds) VALUES
    ('nothing_scoped', 'no table is scoped: the audit examined nothing'),
    ('registry_stale', 'a registered table is gone, or its company column is gone or has another type'),
    ('row_security_off', 'row security of a scoped table is off'),
    ('row_security_not_forced', 'row security does not bind the owner of a scoped table'),
    ('policy_missing', 'a policy of ours is missing'),
    ('policy_changed', 'a policy of ours says something else, or calls another function'),
    ('policy_foreign', 'a permissive policy that is not ours'),
    ('company_nullable', 'the company column may be null'),
    ('company_mutable', 'the trigger that freezes the company is missing, changed or not ALWAYS'),
    ('guard_missing', 'a trigger against writes without a tenant, or TRUNCATE, is missing, changed or not ALWAYS'),
    ('index_missing', 'no index is led by the company'),
    ('child_unscoped', 'a partition or child of a scoped table is not scoped'),
    ('parent_unscoped', 'a scoped table can be read through a parent that is not scoped'),
    ('table_copy', 'an unscoped copy of a scoped table, as CREATE TABLE (LIKE) makes it'),
    ('table_unscoped', 'a table has a company column and is not scoped'),
    ('owner_changed', 'an object of ours belongs to another role'),
    ('public_privilege', 'PUBLIC has privileges on a scoped table'),
    ('leaf_privilege', 'somebody has privileges on a partition or child of a scoped table'),
    ('table_privilege', 'a role of ours may TRUNCATE, REFERENCES, TRIGGER or MAINTAIN a scoped table'),
    ('internal_privilege', 'somebody has privileges on an internal table or view of tenantcall'),
    ('cache_trigger', 'a trigger that tells caches of changes is missing or not ALWAYS'),
    ('unique_without_company', 'a unique or exclusion constraint or index tells of other companies'),
    ('foreign_key_without_company', 'a foreign key can refer to the row of another company'),
    ('foreign_key_action', 'a foreign key would set the company to null or its default'),
    ('foreign_key_not_validated', 'a foreign key was not held against the rows that were there before'),
    ('foreign_key_orphans', 'rows of a scoped table refer to nothing'),
    ('foreign_key_rows_unseen', 'whether rows refer to nothing was not looked at'),
    ('view_not_invoker', 'a view reads a scoped table with the rights of its owner'),
    ('materialized_view', 'a materialized view keeps rows of scoped tables, without row security'),
    ('rule', 'a rule reads or writes a scoped table with the rights of its owner'),
    ('definer_function', 'a SECURITY DEFINER function of a role that row security does not bind'),
    ('definer_search_path', 'a powerful SECURITY DEFINER function without a search_path that ends in pg_temp'),
    ('leakproof_function', 'a function that is not PostgreSQL''s or ours is run before the policies'),
    ('function_changed', 'a function of ours that isolates was changed'),
    ('foreign_object', 'an object in schema tenantcall is not of the extension'),
    ('public_execute', 'PUBLIC may execute a function of ours that is not meant for all'),
    ('event_trigger', 'an event trigger of ours is missing, changed or not ALWAYS'),
    ('trigger_off', 'a trigger of ours that guards the trail, states or credentials is disabled or not ALWAYS'),
    ('role_attribute', 'a role of ours is superuser, or has BYPASSRLS, CREATEROLE or REPLICATION'),
    ('role_membership', 'a role of ours can become one that row security does not bind, or that reaches around it'),
    ('role_owns', 'a role of ours owns a scoped table or a schema of ours, or can become its owner'),
    ('role_functions', 'a role of ours may execute functions of ours beyond its kind'),
    ('role_gone', 'a role of ours does not exist: a new one of its name would get its rights'),
    ('role_unnoted', 'a role has rights of ours without being an app, gateway or admin: it is not confined'),
    ('owner_role', 'the role tenantcall_owner is not as it must be'),
    ('owner_can_login', 'somebody can log in as, or become, the owner of a scoped table'),
    ('bypassing_role', 'a role that is not superuser bypasses row security'),
    ('create_privilege', 'a role of ours may create objects in a schema, or schemas'),
    ('temp_privilege', 'a role of ours may create temporary tables'),
    ('language_trusted', 'a language that gives access to the server is open to all'),
    ('dangerous_function', 'a role of ours may execute a function that reaches around row security'),
    ('large_objects', 'large objects know no companies'),
    ('catalog_privilege', 'a role of ours may read a catalog that holds values or secrets'),
    ('parameter_privilege', 'a role of ours may set a parameter that weakens isolation'),
    ('setting_pinned', 'a setting of a role, database or function weakens isolation'),
    ('test_mode', 'tenantcall.test_mode is on'),
    ('server_setting', 'a setting in force here weakens isolation'),
    ('not_preloaded', 'the library is not loaded by shared_preload_libraries'),
    ('version_mismatch', 'the library and the SQL objects are of different versions'),
    ('publication', 'a publication sends rows of scoped tables to subscribers'),
    ('default_privilege', 'tables made in future come with privileges');

-- The registered tables and what the catalogs say of them; NULLs where a table or column is gone.
CREATE VIEW tenantcall.audit_tables AS
    SELECT r.rel, r.company_column, r.column_type, c.relname, c.relnamespace, c.relkind, c.relowner,
           c.relacl, a.attnum, a.atttypid, a.attnotnull,
           quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name,
           format('SELECT tenantcall.scope_table(%L, %L)', quote_ident(n.nspname) || '.' || quote_ident(c.relname),
                  r.company_column) AS scope_again,
           coalesce(n.nspname = tenantcall.tables_schema() AND c.relname IN ('companies', 'phone_numbers', 'agents'),
                    false) AS is_directory,
           coalesce(n.nspname = tenantcall.tables_schema(), false) AS is_telephony
    FROM tenantcall.scope_registry AS r
    LEFT JOIN pg_catalog.pg_class AS c ON c.oid = r.rel
    LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    LEFT JOIN pg_catalog.pg_attribute AS a ON a.attrelid = r.rel AND a.attname = r.company_column
                                              AND a.attnum > 0;
COMMENT ON VIEW tenantcall.audit_tables IS 'internal: the registered tables, for check_isolation()';
REVOKE ALL ON tenantcall.audit_tables FROM PUBLIC;

CREATE FUNCTION tenantcall.audit_role_name(role oid) RETURNS text
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT CASE role WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(role)) END
$$;
COMMENT ON FUNCTION tenantcall.audit_role_name(oid) IS 'internal: a role as GRANT and REVOKE name it';
REVOKE ALL ON FUNCTION tenantcall.audit_role_name(oid) FROM PUBLIC;

CREATE FUNCTION tenantcall.audit_function_name(function oid) RETURNS text
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT o.identity FROM pg_identify_object('pg_proc'::regclass, function, 0) AS o
$$;
COMMENT ON FUNCTION tenantcall.audit_function_name(oid) IS 'internal: a function with its schema and arguments, whatever the search path';
REVOKE ALL ON FUNCTION tenantcall.audit_function_name(oid) FROM PUBLIC;

-- Membership counts by any path, whatever its options: who has ADMIN can change the others.
CREATE FUNCTION tenantcall.audit_reach() RETURNS TABLE (role name, role_oid oid, kinds text[], member oid)
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    WITH bound AS (
        SELECT k.role, r.oid, r.rolsuper, array_agg(k.kind ORDER BY k.kind) AS kinds
        FROM tenantcall.role_kinds AS k JOIN pg_roles AS r ON r.rolname = k.role
        GROUP BY k.role, r.oid, r.rolsuper
    )
    SELECT b.role, b.oid, b.kinds, m.oid
    FROM bound AS b
    JOIN pg_roles AS m ON m.oid = b.oid OR (NOT b.rolsuper AND pg_has_role(b.oid, m.oid, 'MEMBER'))
    UNION ALL
    SELECT b.role, b.oid, b.kinds, 0 FROM bound AS b
$$;
COMMENT ON FUNCTION tenantcall.audit_reach() IS 'internal: what each app, gateway and admin role is, can become, and has as PUBLIC (0)';
REVOKE ALL ON FUNCTION tenantcall.audit_reach() FROM PUBLIC;

CREATE FUNCTION tenantcall.library_preloaded() RETURNS boolean
    LANGUAGE C STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'tc_library_preloaded';
COMMENT ON FUNCTION tenantcall.library_preloaded() IS 'internal: was the library loaded by shared_preload_libraries?';
REVOKE ALL ON FUNCTION tenantcall.library_preloaded() FROM PUBLIC;

CREATE FUNCTION tenantcall.check_isolation()
    RETURNS TABLE (severity text, check_name text, object text, detail text, remedy text)
    LANGUAGE sql STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT f.severity, f.check_name, f.object, f.detail, f.remedy
    FROM (SELECT * FROM tenantcall.audit_registry()
          UNION ALL SELECT * FROM tenantcall.audit_row_security()
          UNION ALL SELECT * FROM tenantcall.audit_parts()
          UNION ALL SELECT * FROM tenantcall.audit_columns()
          UNION ALL SELECT * FROM tenantcall.audit_relatives()
          UNION ALL SELECT * FROM tenantcall.audit_unscoped()
          UNION ALL SELECT * FROM tenantcall.audit_owners()
          UNION ALL SELECT * FROM tenantcall.audit_privileges()
          UNION ALL SELECT * FROM tenantcall.audit_internal()
          UNION ALL SELECT * FROM tenantcall.audit_unique()
          UNION ALL SELECT * FROM tenantcall.audit_foreign_keys()
          UNION ALL SELECT * FROM tenantcall.audit_orphans()
          UNION ALL SELECT * FROM tenantcall.audit_views()
          UNION ALL SELECT * FROM tenantcall.audit_definers()
          UNION ALL SELECT * FROM tenantcall.audit_functions()
          UNION ALL SELECT * FROM tenantcall.audit_strangers()
          UNION ALL SELECT * FROM tenantcall.audit_event_triggers()
          UNION ALL SELECT * FROM tenantcall.audit_triggers()
          UNION ALL SELECT * FROM tenantcall.audit_roles()
          UNION ALL SELECT * FROM tenantcall.audit_other_roles()
          UNION ALL SELECT * FROM tenantcall.audit_unnoted_roles()
          UNION ALL SELECT * FROM tenantcall.audit_role_functions()
          UNION ALL SELECT * FROM tenantcall.audit_creation()
          UNION ALL SELECT * FROM tenantcall.audit_server_access()
          UNION ALL SELECT * FROM tenantcall.audit_settings()
          UNION ALL SELECT * FROM tenantcall.audit_library()
          UNION ALL SELECT * FROM tenantcall.audit_publications()
          UNION ALL SELECT * FROM tenantcall.audit_default_privileges()) AS f
    ORDER BY array_position(ARRAY['error', 'warning', 'info'], f.severity), f.check_name, f.object, f.detail
$$;
COMMENT ON FUNCTION tenantcall.check_isolation() IS 'every way this database could leak between tenants, why, and the statement that mends it; clean without errors and warnings';
REVOKE ALL ON FUNCTION tenantcall.check_isolation() FROM PUBLIC;
