-- 85_audit_settings.sql: check_isolation() of settings, library, publications and default privileges

-- How much a setting that somebody pinned weakens isolation; NULL if it does not.
CREATE FUNCTION tenantcall.audit_setting_severity(name text, value text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT CASE
        WHEN name IN ('tenantcall.company_id', 'tenantcall.token') THEN 'error'
        WHEN name IN ('tenantcall.test_mode', 'lo_compat_privileges', 'allow_system_table_mods')
            THEN CASE WHEN lower(value) NOT IN ('off', 'false', '0', 'no', 'of', 'f', 'n') THEN 'error' END
        WHEN name = 'session_replication_role' THEN CASE WHEN value <> 'origin' THEN 'error' END
        WHEN name = 'row_security' THEN CASE WHEN lower(value) NOT IN ('on', 'true', '1', 'yes') THEN 'warning' END
        WHEN name = 'search_path' OR name LIKE 'tenantcall.%' THEN 'info'
    END
$$;
COMMENT ON FUNCTION tenantcall.audit_setting_severity(text, text) IS 'internal: part of check_isolation()';
REVOKE ALL ON FUNCTION tenantcall.audit_setting_severity(text, text) FROM PUBLIC;

-- A function's own search_path is as it should be; those of roles and databases are to be known.
CREATE FUNCTION tenantcall.audit_settings() RETURNS SETOF tenantcall.isolation_finding
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    WITH pinned AS (
        SELECT concat_ws(' in ', 'role ' || quote_ident(pg_get_userbyid(nullif(s.setrole, 0))),
                         'database ' || quote_ident((SELECT d.datname FROM pg_database AS d WHERE d.oid = s.setdatabase))) AS object,
               CASE WHEN s.setrole = 0 AND s.setdatabase = 0 THEN 'ALTER ROLE ALL'
                    WHEN s.setrole = 0 THEN format('ALTER DATABASE %I', d.datname)
                    ELSE format('ALTER ROLE %I', pg_get_userbyid(s.setrole)) || coalesce(' IN DATABASE ' || quote_ident(d.datname), '')
               END AS alter_it, c.setting
        FROM pg_db_role_setting AS s LEFT JOIN pg_database AS d ON d.oid = s.setdatabase, unnest(s.setconfig) AS c (setting)
        WHERE s.setdatabase = 0 OR d.datname = current_database()
        UNION ALL
        SELECT 'function ' || tenantcall.audit_function_name(p.oid), format('ALTER ROUTINE %s', tenantcall.audit_function_name(p.oid)), c.setting
        FROM pg_proc AS p, unnest(p.proconfig) AS c (setting) WHERE c.setting NOT LIKE 'search\_path=%'
    )
    SELECT v.severity, 'setting_pinned', coalesce(nullif(p.object, ''), 'all roles'), format('It sets %s.', p.setting),
           format('%s RESET %s', p.alter_it, split_part(p.setting, '=', 1))
    FROM pinned AS p
    CROSS JOIN LATERAL tenantcall.audit_setting_severity(split_part(p.setting, '=', 1),
                                                         substr(p.setting, strpos(p.setting, '=') + 1)) AS v (severity)
    WHERE v.severity IS NOT NULL
    UNION ALL
    SELECT 'error', 'test_mode', s.name, 'A transaction can enter one company after another.',
           CASE s.source WHEN 'session' THEN 'SET tenantcall.test_mode = off'
                ELSE 'ALTER SYSTEM SET tenantcall.test_mode = off -- then SELECT pg_reload_conf()' END
    FROM pg_settings AS s
    WHERE s.name = 'tenantcall.test_mode' AND s.setting = 'on'
    UNION ALL
    SELECT 'error', 'server_setting', s.name, format('It is %s here.', s.setting),
           format('SET %s = %s', s.name, s.boot_val)
    FROM pg_settings AS s
    WHERE s.name IN ('lo_compat_privileges', 'allow_system_table_mods', 'session_replication_role', 'row_security')
      AND s.setting <> s.boot_val
    UNION ALL
    SELECT 'error', 'parameter_privilege', p.parname,
           format('%s may %s it, through %s.', string_agg(DISTINCT m.role, ', '), a.privilege_type, tenantcall.audit_role_name(a.grantee)),
           format('REVOKE %s ON PARAMETER %s FROM %s', a.privilege_type, p.parname, tenantcall.audit_role_name(a.grantee))
    FROM pg_parameter_acl AS p CROSS JOIN LATERAL aclexplode(p.paracl) AS a
    JOIN tenantcall.audit_reach() AS m ON m.member = a.grantee
    WHERE p.parname LIKE 'tenantcall.%' OR a.privilege_type = 'ALTER SYSTEM'
       OR p.parname IN ('session_replication_role', 'lo_compat_privileges', 'session_preload_libraries',
                        'dynamic_library_path', 'row_security', 'allow_in_place_tablespaces')
    GROUP BY p.parname, a.privilege_type, a.grantee
$$;
COMMENT ON FUNCTION tenantcall.audit_settings() IS 'internal: part of check_isolation()';
REVOKE ALL ON FUNCTION tenantcall.audit_settings() FROM PUBLIC;

CREATE FUNCTION tenantcall.audit_library() RETURNS SETOF tenantcall.isolation_finding
    LANGUAGE sql STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT 'error', 'not_preloaded', 'shared_preload_libraries',
           'Sessions that have not called a function of tenantcall run without its hooks.',
           'ALTER SYSTEM SET shared_preload_libraries = tenantcall -- besides what is in it; then restart the server'
    WHERE NOT tenantcall.library_preloaded()
    UNION ALL
    SELECT 'error', 'version_mismatch', 'tenantcall',
           format('The library is of version %s, the SQL objects are of version %s.', tenantcall.version(), e.extversion),
           'ALTER EXTENSION tenantcall UPDATE -- or restart the server, if it runs an older library'
    FROM pg_extension AS e
    WHERE e.extname = 'tenantcall' AND e.extversion <> tenantcall.version()
$$;
COMMENT ON FUNCTION tenantcall.audit_library() IS 'internal: part of check_isolation()';
REVOKE ALL ON FUNCTION tenantcall.audit_library() FROM PUBLIC;

CREATE FUNCTION tenantcall.audit_publications() RETURNS SETOF tenantcall.isolation_finding
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT 'warning', 'publication', p.pubname, 'It sends the rows of all tables, and of all companies.',
           format('DROP PUBLICATION %I', p.pubname)
    FROM pg_publication AS p
    WHERE p.puballtables AND EXISTS (SELECT FROM tenantcall.audit_tables)
    UNION ALL
    SELECT 'warning', 'publication', p.pubname, format('It sends the rows of all companies in %s.', t.name),
           format('ALTER PUBLICATION %I DROP TABLE %s', p.pubname, t.name)
    FROM pg_publication AS p
    JOIN pg_publication_rel AS r ON r.prpubid = p.oid
    JOIN tenantcall.audit_tables AS t ON t.rel = r.prrelid
    UNION ALL
    SELECT 'warning', 'publication', p.pubname, format('It sends the rows of all companies in schema %I.', n.nspname),
           format('ALTER PUBLICATION %I DROP TABLES IN SCHEMA %I', p.pubname, n.nspname)
    FROM pg_publication AS p
    JOIN pg_publication_namespace AS r ON r.pnpubid = p.oid
    JOIN pg_namespace AS n ON n.oid = r.pnnspid
    WHERE n.oid IN (SELECT t.relnamespace FROM tenantcall.audit_tables AS t)
$$;
COMMENT ON FUNCTION tenantcall.audit_publications() IS 'internal: part of check_isolation()';
REVOKE ALL ON FUNCTION tenantcall.audit_publications() FROM PUBLIC;

-- Only of roles that make tables where scoped ones are, or anywhere.
CREATE FUNCTION tenantcall.audit_default_privileges() RETURNS SETOF tenantcall.isolation_finding
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT 'warning', 'default_privilege', coalesce('schema ' || quote_ident(n.nspname), 'all schemas'),
           format('Tables that %I will make come with %s for %s: also copies and parts of scoped ones.',
                  pg_get_userbyid(d.defaclrole), string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type),
                  tenantcall.audit_role_name(a.grantee)),
           format('ALTER DEFAULT PRIVILEGES FOR ROLE %I%s REVOKE ALL ON TABLES FROM %s', pg_get_userbyid(d.defaclrole),
                  coalesce(' IN SCHEMA ' || quote_ident(n.nspname), ''), tenantcall.audit_role_name(a.grantee))
    FROM pg_default_acl AS d
    CROSS JOIN LATERAL aclexplode(d.defaclacl) AS a
    LEFT JOIN pg_namespace AS n ON n.oid = d.defaclnamespace
    WHERE d.defaclobjtype = 'r' AND a.grantee <> d.defaclrole
      AND (n.oid IS NULL OR n.nspname = 'tenantcall'
           OR n.oid IN (SELECT t.relnamespace FROM tenantcall.audit_tables AS t))
    GROUP BY d.oid, d.defaclrole, n.nspname, a.grantee
$$;
COMMENT ON FUNCTION tenantcall.audit_default_privileges() IS 'internal: part of check_isolation()';
REVOKE ALL ON FUNCTION tenantcall.audit_default_privileges() FROM PUBLIC;
