-- 84_audit_roles.sql: check_isolation() of roles, and of what they may do beyond our grants

-- What a role of ours is, or can become, and may not.
CREATE FUNCTION tenantcall.audit_roles() RETURNS SETOF tenantcall.isolation_finding
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    WITH attributes AS (
        SELECT r.oid, a.attribute
        FROM pg_roles AS r,
             unnest(ARRAY[r.rolsuper, r.rolbypassrls, r.rolcreaterole, r.rolreplication],
                    ARRAY['SUPERUSER', 'BYPASSRLS', 'CREATEROLE', 'REPLICATION']) AS a (has, attribute)
        WHERE a.has
    ), reach AS (
        SELECT m.role, m.role_oid, m.kinds, m.member, quote_ident(pg_get_userbyid(m.member)) AS member_name
        FROM tenantcall.audit_reach() AS m WHERE m.member <> 0
    )
    SELECT 'error', 'role_attribute', m.role, format('It has %s.', a.attribute), format('ALTER ROLE %I NO%s', m.role, a.attribute)
    FROM reach AS m JOIN attributes AS a ON a.oid = m.role_oid
    WHERE m.member = m.role_oid
    UNION ALL
    SELECT 'error', 'role_membership', m.role, format('It can become %s, which %s.', m.member_name, w.why),
           (SELECT string_agg(format('REVOKE %I FROM %I', pg_get_userbyid(g.roleid), m.role), '; ')
            FROM pg_auth_members AS g -- the first step on each way there
            WHERE g.member = m.role_oid AND pg_has_role(g.roleid, m.member, 'MEMBER'))
    FROM reach AS m
    CROSS JOIN LATERAL (
        SELECT string_agg(DISTINCT 'has ' || a.attribute, ' and ') FROM attributes AS a WHERE a.oid = m.member
        UNION ALL
        SELECT 'reaches around row security'
        WHERE m.member_name IN ('pg_read_all_data', 'pg_write_all_data', 'pg_read_server_files', 'pg_write_server_files',
                                'pg_execute_server_program', 'pg_maintain', 'pg_create_subscription')
           OR m.member_name IN ('pg_monitor', 'pg_read_all_stats', 'pg_stat_scan_tables', 'pg_signal_backend')
              AND NOT 'admin' = ANY (m.kinds)
        UNION ALL
        SELECT 'owns the tables of the tenants' WHERE m.member_name = 'tenantcall_owner') AS w (why)
    WHERE m.member <> m.role_oid AND w.why IS NOT NULL
    UNION ALL
    SELECT 'error', 'role_owns', m.role,
           format('It is, or can become, the owner %s of %s, and could take its row security away.', m.member_name, t.name),
           format('ALTER TABLE %s OWNER TO %I', t.name, coalesce(to_regrole('tenantcall_owner')::text, session_user))
    FROM reach AS m JOIN tenantcall.audit_tables AS t ON t.relowner = m.member
    WHERE m.member_name <> 'tenantcall_owner'
    UNION ALL
    SELECT 'warning', 'role_gone', k.role, format('It was given the rights of kind %s, and does not exist.', k.kind),
           format('DELETE FROM tenantcall.role_kinds WHERE role = %L AND kind = %L', k.role, k.kind)
    FROM tenantcall.role_kinds AS k WHERE NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = k.role)
$$;
COMMENT ON FUNCTION tenantcall.audit_roles() IS 'internal: part of check_isolation()';
REVOKE ALL ON FUNCTION tenantcall.audit_roles() FROM PUBLIC;

-- Owners of scoped tables, and roles that bypass row security.
CREATE FUNCTION tenantcall.audit_other_roles() RETURNS SETOF tenantcall.isolation_finding
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT 'error', 'owner_role', r.rolname, format('It has %s.', a.attribute), format('ALTER ROLE %I NO%s', r.rolname, a.attribute)
    FROM pg_roles AS r,
         unnest(ARRAY[r.rolcanlogin, r.rolsuper, r.rolbypassrls, r.rolcreaterole, r.rolreplication],
                ARRAY['LOGIN', 'SUPERUSER', 'BYPASSRLS', 'CREATEROLE', 'REPLICATION']) AS a (has, attribute)
    WHERE r.rolname = 'tenantcall_owner' AND a.has
    UNION ALL
    SELECT 'error', 'owner_role', 'tenantcall_owner', format('Role %I is a member of it.', pg_get_userbyid(m.member)),
           format('REVOKE tenantcall_owner FROM %I', pg_get_userbyid(m.member))
    FROM pg_auth_members AS m WHERE m.roleid = to_regrole('tenantcall_owner')
    UNION ALL
    SELECT 'error', 'owner_role', 'tenantcall_owner', format('It is a member of %I.', pg_get_userbyid(m.roleid)),
           format('REVOKE %I FROM tenantcall_owner', pg_get_userbyid(m.roleid))
    FROM pg_auth_members AS m WHERE m.member = to_regrole('tenantcall_owner')
    UNION ALL
    SELECT 'error', 'owner_role', 'tenantcall_owner', 'It does not exist.', 'CREATE ROLE tenantcall_owner NOLOGIN'
    WHERE tenantcall.tables_schema() IS NOT NULL AND to_regrole('tenantcall_owner') IS NULL
    UNION ALL
    SELECT 'warning', 'owner_can_login', r.rolname,
           format('It owns %s, and who logs in as it, or becomes it, can take their row security away.',
                  string_agg(t.name, ', ' ORDER BY t.name)),
           string_agg(format('ALTER TABLE %s OWNER TO %I', t.name, coalesce(to_regrole('tenantcall_owner')::text, session_user)),
                      '; ' ORDER BY t.name)
    FROM tenantcall.audit_tables AS t JOIN pg_roles AS r ON r.oid = t.relowner
    WHERE NOT r.rolsuper AND r.rolname <> 'tenantcall_owner'
      AND (r.rolcanlogin OR EXISTS (SELECT FROM pg_auth_members AS m WHERE m.roleid = r.oid))
    GROUP BY r.rolname
    UNION ALL
    SELECT 'info', 'bypassing_role', r.rolname, 'It has BYPASSRLS: it sees the rows of all companies.',
           format('ALTER ROLE %I NOBYPASSRLS', r.rolname)
    FROM pg_roles AS r
    WHERE r.rolbypassrls AND NOT r.rolsuper AND r.rolname <> 'tenantcall_owner'
      AND r.rolname NOT IN (SELECT k.role FROM tenantcall.role_kinds AS k)
$$;
COMMENT ON FUNCTION tenantcall.audit_other_roles() IS 'internal: part of check_isolation()';
REVOKE ALL ON FUNCTION tenantcall.audit_other_roles() FROM PUBLIC;

-- A role with rights of ours that no grant_*() has noted is neither confined nor audited.  One that
-- bypasses row security is reported as such, and what a noted role is a member of belongs to it.
CREATE FUNCTION tenantcall.audit_unnoted_roles() RETURNS SETOF tenantcall.isolation_finding
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    WITH granted AS (
        SELECT a.grantee, t.name
        FROM tenantcall.audit_tables AS t, aclexplode(t.relacl) AS a WHERE a.grantee NOT IN (0, t.relowner)
        UNION
        SELECT a.grantee, tenantcall.audit_function_name(p.oid)
        FROM pg_proc AS p, aclexplode(p.proacl) AS a
        WHERE p.pronamespace = 'tenantcall'::regnamespace AND a.grantee NOT IN (0, p.proowner)
          AND NOT EXISTS (SELECT FROM tenantcall.role_functions AS f
                          WHERE f.function = p.proname
                            AND (f.kind = 'owner' OR f.kind = 'monitor' AND a.grantee = 'pg_monitor'::regrole))
    )
    SELECT 'warning', 'role_unnoted', r.rolname,
           format('It has rights on %s%s, and was not given them by grant_app(), grant_gateway() or grant_admin(): '
                  'it is not confined as those are.', min(g.name),
                  CASE WHEN count(*) > 1 THEN format(' and %s others', count(*) - 1) ELSE '' END),
           format('SELECT tenantcall.grant_app(%L)', r.rolname)
    FROM granted AS g JOIN pg_roles AS r ON r.oid = g.grantee
    WHERE NOT r.rolsuper AND NOT r.rolbypassrls AND r.rolname <> 'tenantcall_owner'
      AND r.oid NOT IN (SELECT m.member FROM tenantcall.audit_reach() AS m)
    GROUP BY r.rolname
$$;
COMMENT ON FUNCTION tenantcall.audit_unnoted_roles() IS 'internal: part of check_isolation()';
REVOKE ALL ON FUNCTION tenantcall.audit_unnoted_roles() FROM PUBLIC;

CREATE FUNCTION tenantcall.audit_role_functions() RETURNS SETOF tenantcall.isolation_finding
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT 'error', 'role_functions', m.role,
           format('It may execute %s, through %s, which its kind (%s) does not have.', tenantcall.audit_function_name(p.oid),
                  tenantcall.audit_role_name(a.grantee), array_to_string(m.kinds, ', ')),
           format('REVOKE EXECUTE ON ROUTINE %s FROM %s', tenantcall.audit_function_name(p.oid), tenantcall.audit_role_name(a.grantee))
    FROM pg_proc AS p
    CROSS JOIN LATERAL aclexplode(p.proacl) AS a
    JOIN tenantcall.audit_reach() AS m ON m.member = a.grantee
    WHERE p.pronamespace = 'tenantcall'::regnamespace AND a.grantee NOT IN (0, p.proowner)
      AND NOT EXISTS (SELECT FROM tenantcall.role_functions AS f
                      WHERE f.function = p.proname AND (f.kind = 'app' OR f.kind = ANY (m.kinds)))
$$;
COMMENT ON FUNCTION tenantcall.audit_role_functions() IS 'internal: part of check_isolation()';
REVOKE ALL ON FUNCTION tenantcall.audit_role_functions() FROM PUBLIC;

-- Objects that they could make.  PUBLIC's TEMP cannot be taken from one role, so it is reported
-- once, of the database, where there are roles of ours; without them nobody is held to anything.
CREATE FUNCTION tenantcall.audit_creation() RETURNS SETOF tenantcall.isolation_finding
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT 'error', 'create_privilege', n.nspname,
           format('%s may create objects in the schema, through %s.', string_agg(DISTINCT m.role, ', '),
                  tenantcall.audit_role_name(a.grantee)),
           CASE a.grantee WHEN n.nspowner
                THEN format('ALTER SCHEMA %I OWNER TO %I', n.nspname, coalesce(to_regrole('tenantcall_owner')::text, session_user))
                ELSE format('REVOKE CREATE ON SCHEMA %I FROM %s', n.nspname, tenantcall.audit_role_name(a.grantee)) END
    FROM pg_namespace AS n
    CROSS JOIN LATERAL aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) AS a
    JOIN tenantcall.audit_reach() AS m ON m.member = a.grantee
    WHERE a.privilege_type = 'CREATE' AND n.nspname NOT LIKE 'pg\_temp\_%' AND n.nspname NOT LIKE 'pg\_toast%'
    GROUP BY n.oid, a.grantee
    UNION ALL
    SELECT 'error', 'create_privilege', n.nspname,
           format('%s may create objects in the schema.', tenantcall.audit_role_name(a.grantee)),
           format('REVOKE CREATE ON SCHEMA %I FROM %s', n.nspname, tenantcall.audit_role_name(a.grantee))
    FROM pg_namespace AS n CROSS JOIN LATERAL aclexplode(n.nspacl) AS a
    WHERE a.privilege_type = 'CREATE' AND a.grantee <> n.nspowner
      AND (n.nspname = 'tenantcall' OR n.nspname = tenantcall.tables_schema())
      AND a.grantee NOT IN (SELECT m.member FROM tenantcall.audit_reach() AS m)
    UNION ALL
    SELECT CASE a.privilege_type WHEN 'CREATE' THEN 'error' ELSE 'warning' END,
           CASE a.privilege_type WHEN 'CREATE' THEN 'create_privilege' ELSE 'temp_privilege' END, d.datname,
           format('%s may create %s, through %s.', string_agg(DISTINCT m.role, ', '),
                  CASE a.privilege_type WHEN 'CREATE' THEN 'schemas and extensions'
                       ELSE 'temporary tables, which stand before others in its search path and outlive a transaction' END,
                  tenantcall.audit_role_name(a.grantee)),
           CASE a.grantee WHEN d.datdba THEN format('ALTER DATABASE %I OWNER TO %I', d.datname, session_user)
                ELSE format('REVOKE %s ON DATABASE %I FROM %s', a.privilege_type, d.datname,
                            tenantcall.audit_role_name(a.grantee)) END
    FROM pg_database AS d
    CROSS JOIN LATERAL aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) AS a
    JOIN tenantcall.audit_reach() AS m ON m.member = a.grantee
    WHERE d.datname = current_database() AND a.privilege_type IN ('CREATE', 'TEMPORARY')
    GROUP BY d.oid, d.datname, d.datdba, a.grantee, a.privilege_type
$$;
COMMENT ON FUNCTION tenantcall.audit_creation() IS 'internal: part of check_isolation()';
REVOKE ALL ON FUNCTION tenantcall.audit_creation() FROM PUBLIC;

-- Ways out of the database, or around row security.
CREATE FUNCTION tenantcall.audit_server_access() RETURNS SETOF tenantcall.isolation_finding
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT 'error', 'language_trusted', l.lanname, 'Functions in it can do what the server can, and it counts as trusted.',
           format('UPDATE pg_catalog.pg_language SET lanpltrusted = false WHERE lanname = %L', l.lanname)
    FROM pg_language AS l
    WHERE l.lanpltrusted AND (l.lanname IN ('c', 'internal') OR l.lanname ~ 'u$|^plpython|^plsh')
    UNION ALL
    SELECT 'error', 'dangerous_function', tenantcall.audit_function_name(p.oid),
           format('%s may execute it, through %s.', string_agg(DISTINCT m.role, ', '), tenantcall.audit_role_name(a.grantee)),
           format('REVOKE EXECUTE ON FUNCTION %s FROM %s', tenantcall.audit_function_name(p.oid), tenantcall.audit_role_name(a.grantee))
    FROM pg_proc AS p
    CROSS JOIN LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a
    JOIN tenantcall.audit_reach() AS m ON m.member = a.grantee
    WHERE p.proname ~ ('^(pg_read_(binary_)?file|pg_ls_\w+|pg_stat_file|pg_file_\w+|pg_logdir_ls|lo_import|lo_export|'
                       'dblink\w*|pg_reload_conf|pg_rotate_logfile|pg_promote|pg_hba_file_rules|pg_show_all_file_settings|'
                       'get_raw_page|(heap|bt|brin|gin|gist|hash)_page_items\w*|heap_page_item_attrs|'
                       'pg_get_wal_(record|block)s?_\w+|pg_stat_statements_reset)$')
      AND pg_get_userbyid(a.grantee) !~ '^pg_' -- membership there is found as such
    GROUP BY p.oid, a.grantee
    UNION ALL
    SELECT 'info', 'large_objects', 'lo_*', 'PUBLIC may make large objects; they know no companies, and a role''s are all its sessions''.',
           string_agg(format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', tenantcall.audit_function_name(p.oid)), '; ' ORDER BY p.oid)
    FROM pg_proc AS p CROSS JOIN LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a
    WHERE a.grantee = 0 AND p.pronamespace = 'pg_catalog'::regnamespace
      AND p.proname IN ('lo_creat', 'lo_create', 'lo_from_bytea', 'lo_put', 'lo_open', 'lo_get', 'loread', 'lowrite')
    HAVING count(*) > 0
    UNION ALL
    SELECT 'error', 'catalog_privilege', format('pg_catalog.%s', c.relname),
           format('%s may read it, through %s: it holds values or secrets of all companies.', string_agg(DISTINCT m.role, ', '),
                  tenantcall.audit_role_name(a.grantee)),
           format('REVOKE %s ON pg_catalog.%s FROM %s', string_agg(DISTINCT a.privilege_type, ', '), c.relname,
                  tenantcall.audit_role_name(a.grantee))
    FROM pg_class AS c CROSS JOIN LATERAL aclexplode(c.relacl) AS a
    JOIN tenantcall.audit_reach() AS m ON m.member = a.grantee
    WHERE c.relnamespace = 'pg_catalog'::regnamespace
      AND (c.relname IN ('pg_statistic', 'pg_statistic_ext_data', 'pg_authid', 'pg_largeobject', 'pg_user_mapping', 'pg_shadow')
           OR c.relkind = 'r' AND a.privilege_type <> 'SELECT')
    GROUP BY c.relname, a.grantee
$$;
COMMENT ON FUNCTION tenantcall.audit_server_access() IS 'internal: part of check_isolation()';
REVOKE ALL ON FUNCTION tenantcall.audit_server_access() FROM PUBLIC;
