-- 81_audit_tables.sql: check_isolation() of the scoped tables, their relatives and privileges

CREATE FUNCTION tenantcall.audit_registry() RETURNS SETOF tenantcall.isolation_finding
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT 'error', 'nothing_scoped', current_database()::text,
           'No table is scoped, so nothing of this database is isolated, and nothing was examined.',
           'SELECT tenantcall.scope_table(''schema.table'')'
    WHERE NOT EXISTS (SELECT FROM tenantcall.audit_tables AS t WHERE t.relkind IS NOT NULL)
      AND NOT EXISTS (SELECT FROM tenantcall.cluster_tables())
    UNION ALL
    SELECT 'error', 'registry_stale', t.rel::oid::text, 'The registered table does not exist.',
           format('DELETE FROM tenantcall.scope_registry WHERE rel = %s::oid', t.rel::oid)
    FROM tenantcall.audit_tables AS t WHERE t.relkind IS NULL
    UNION ALL
    SELECT 'error', 'registry_stale', t.name,
           CASE WHEN t.attnum IS NULL THEN format('The table has no column %I, by which it is registered.', t.company_column)
                ELSE format('Column %I has type %s, and is registered as %s.', t.company_column,
                            format_type(t.atttypid, NULL), t.column_type) END,
           CASE WHEN t.attnum IS NOT NULL THEN t.scope_again
                WHEN meant.column IS NULL THEN format('SELECT tenantcall.unscope_table(%L)', t.name)
                ELSE format('UPDATE tenantcall.scope_registry SET company_column = %L WHERE rel = %L::regclass',
                            meant.column, t.name) END
    FROM tenantcall.audit_tables AS t
    LEFT JOIN LATERAL (SELECT min(a.attname) AS column -- the one that our policies name
                       FROM pg_policy AS p
                       JOIN pg_depend AS d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid
                                              AND d.refclassid = 'pg_class'::regclass AND d.refobjid = p.polrelid
                       JOIN pg_attribute AS a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid AND a.attnum > 0
                       WHERE p.polrelid = t.rel AND p.polname = 'tenantcall_tenant') AS meant ON true
    WHERE t.relkind IS NOT NULL AND (t.attnum IS NULL OR t.atttypid <> t.column_type)
$$;
COMMENT ON FUNCTION tenantcall.audit_registry() IS 'internal: part of check_isolation()';
REVOKE ALL ON FUNCTION tenantcall.audit_registry() FROM PUBLIC;

-- The search path is the one above, so an expression is printed without schema exactly if it uses
-- the operator of pg_catalog and our function; the dependency makes sure of the latter.
CREATE FUNCTION tenantcall.audit_row_security() RETURNS SETOF tenantcall.isolation_finding
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT 'error', 'row_security_off', t.name,
           'Row security is disabled; our library refuses the table until it is enabled again.',
           t.scope_again
    FROM tenantcall.audit_tables AS t JOIN pg_class AS c ON c.oid = t.rel WHERE NOT c.relrowsecurity
    UNION ALL
    SELECT 'error', 'row_security_not_forced', t.name,
           format('Its owner %I is not bound by row security.', pg_get_userbyid(t.relowner)), t.scope_again
    FROM tenantcall.audit_tables AS t JOIN pg_class AS c ON c.oid = t.rel WHERE NOT c.relforcerowsecurity
    UNION ALL
    SELECT 'error', CASE WHEN p.oid IS NULL THEN 'policy_missing' ELSE 'policy_changed' END, t.name,
           CASE WHEN p.oid IS NULL THEN format('Policy %s does not exist.', w.polname)
                ELSE format('Policy %s is not %s for all commands and roles, or does not say %s.', w.polname,
                            CASE WHEN w.permissive THEN 'permissive' ELSE 'restrictive' END, e.expr) END,
           t.scope_again
    FROM tenantcall.audit_tables AS t
    CROSS JOIN (VALUES ('tenantcall_tenant', true), ('tenantcall_tenant_restrictive', false)) AS w (polname, permissive)
    CROSS JOIN LATERAL (SELECT CASE t.column_type WHEN 'uuid'::regtype THEN 'current_company_uuid'
                                                  ELSE 'current_company_id' END) AS f (function)
    CROSS JOIN LATERAL (SELECT format('(%I = %s())', t.company_column, f.function)) AS e (expr)
    LEFT JOIN pg_policy AS p ON p.polrelid = t.rel AND p.polname = w.polname
    WHERE t.attnum IS NOT NULL
      AND (p.oid IS NULL
           OR (p.polpermissive, p.polcmd, p.polroles) IS DISTINCT FROM (w.permissive, '*'::"char", '{0}'::oid[])
           OR pg_get_expr(p.polqual, p.polrelid) IS DISTINCT FROM e.expr
           OR pg_get_expr(p.polwithcheck, p.polrelid) IS DISTINCT FROM e.expr
           OR NOT EXISTS (SELECT FROM pg_depend AS d
                          WHERE d.classid = 'pg_policy'::regclass AND d.objid = p.oid
                            AND d.refclassid = 'pg_proc'::regclass
                            AND d.refobjid = to_regprocedure(format('tenantcall.%s()', f.function))))
    UNION ALL
    SELECT 'warning', 'policy_foreign', t.name,
           format('Policy %I is permissive; it would open the table if our restrictive policy were gone.', p.polname),
           format('DROP POLICY %I ON %s', p.polname, t.name)
    FROM tenantcall.audit_tables AS t JOIN pg_policy AS p ON p.polrelid = t.rel
    WHERE p.polpermissive AND p.polname <> 'tenantcall_tenant'
$$;
COMMENT ON FUNCTION tenantcall.audit_row_security() IS 'internal: part of check_isolation()';
REVOKE ALL ON FUNCTION tenantcall.audit_row_security() FROM PUBLIC;

-- The same for what Citus has distributed: shards, and on other nodes the tables as well.  Only the
-- coordinator's registry has them.  Citus makes restrictive policies permissive there; it is the
-- library's hook that holds (scope_hook.c).
CREATE FUNCTION tenantcall.audit_parts() RETURNS SETOF tenantcall.isolation_finding
    LANGUAGE sql STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, tenantcall, pg_temp
    SET citus.override_table_visibility = off AS $$
    WITH parts AS (
        SELECT c.oid, c.relkind, c.relrowsecurity, c.relforcerowsecurity, format('%I.%I', n.nspname, c.relname) AS name
        FROM tenantcall.cluster_tables() AS t JOIN pg_class AS c ON c.oid = t.rel JOIN pg_namespace AS n ON n.oid = c.relnamespace
    )
    SELECT 'error', 'row_security_off', p.name, 'Row security is disabled; our library refuses the table until it is enabled again.',
           format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', p.name)
    FROM parts AS p WHERE NOT p.relrowsecurity
    UNION ALL
    SELECT 'error', 'row_security_not_forced', p.name, 'Its owner is not bound by row security.',
           format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', p.name)
    FROM parts AS p WHERE NOT p.relforcerowsecurity
    UNION ALL
    SELECT 'error', CASE WHEN y.oid IS NULL THEN 'policy_missing' ELSE 'policy_changed' END, p.name,
           format('Policy %s does not exist, or is not as it must be.', w.polname),
           format('CREATE POLICY %s ON %s AS %s USING (company_id = tenantcall.current_company_id())', w.polname, p.name,
                  CASE WHEN w.permissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END)
    FROM parts AS p
    CROSS JOIN (VALUES ('tenantcall_tenant', true), ('tenantcall_tenant_restrictive', false)) AS w (polname, permissive)
    LEFT JOIN pg_policy AS y ON y.polrelid = p.oid AND y.polname = w.polname
    WHERE y.oid IS NULL
       OR (y.polcmd, y.polroles) IS DISTINCT FROM ('*'::"char", '{0}'::oid[]) -- Citus makes all permissive
       OR pg_get_expr(y.polqual, y.polrelid) IS DISTINCT FROM '(company_id = current_company_id())'
       OR pg_get_expr(y.polwithcheck, y.polrelid) IS DISTINCT FROM '(company_id = current_company_id())'
    UNION ALL
    SELECT 'warning', 'policy_foreign', p.name,
           format('Policy %I is permissive; it would open the table if our restrictive policy were gone.', y.polname),
           format('DROP POLICY %I ON %s', y.polname, p.name)
    FROM parts AS p JOIN pg_policy AS y ON y.polrelid = p.oid
    WHERE y.polpermissive AND y.polname NOT IN ('tenantcall_tenant', 'tenantcall_tenant_restrictive')
    UNION ALL
    SELECT 'error', w.check_name, p.name, format('No trigger executes %s, or it is not ENABLE ALWAYS.', w.function),
           'Move the shard to another node, which makes its triggers anew.'
    FROM parts AS p
    CROSS JOIN (VALUES ('guard_missing', 'tenantcall.scope_guard_trigger()'), ('guard_missing', 'tenantcall.scope_truncate_trigger()'),
                       ('guard_missing', 'tenantcall.scope_row_trigger()'), ('company_mutable', 'tenantcall.scope_freeze_trigger()'))
         AS w (check_name, function)
    WHERE NOT EXISTS (SELECT FROM pg_trigger AS g WHERE g.tgrelid = p.oid AND g.tgenabled = 'A'
                      AND g.tgfoid = to_regprocedure(w.function))
      AND EXISTS (SELECT FROM tenantcall.cluster_tables() AS t WHERE t.rel = p.oid AND t.whole <> t.rel)
      AND (p.relkind = 'r' OR w.check_name <> 'company_mutable')
$$;
COMMENT ON FUNCTION tenantcall.audit_parts() IS 'internal: part of check_isolation()';
REVOKE ALL ON FUNCTION tenantcall.audit_parts() FROM PUBLIC;

-- tgtype: ROW 1, BEFORE 2, INSERT 4, DELETE 8, UPDATE 16, TRUNCATE 32.  The WHEN clause of the
-- freezing trigger is looked at as it is printed.
CREATE FUNCTION tenantcall.audit_columns() RETURNS SETOF tenantcall.isolation_finding
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT 'error', 'company_nullable', t.name,
           format('Column %I may be null; such rows belong to nobody.', t.company_column),
           t.scope_again
    FROM tenantcall.audit_tables AS t
    WHERE t.attnum IS NOT NULL
      AND (NOT t.attnotnull
           OR EXISTS (SELECT FROM pg_constraint AS n -- from version 18
                      WHERE n.conrelid = t.rel AND n.contype = 'n' AND n.conkey = ARRAY[t.attnum]
                        AND NOT n.convalidated))
    UNION ALL
    SELECT 'error', w.check_name, t.name,
           CASE WHEN g.oid IS NULL THEN format('Trigger %s does not exist.', w.tgname)
                WHEN g.tgenabled <> 'A' THEN format('Trigger %s is disabled, or is not ENABLE ALWAYS.', w.tgname)
                ELSE format('Trigger %s is not as it must be.', w.tgname) END,
           t.scope_again
    FROM tenantcall.audit_tables AS t
    JOIN (VALUES ('tenantcall_freeze', 'company_mutable', 'tenantcall.scope_freeze_trigger()', 1 + 2 + 16),
                 ('tenantcall_guard', 'guard_missing', 'tenantcall.scope_guard_trigger()', 2 + 4 + 8 + 16),
                 ('tenantcall_truncate', 'guard_missing', 'tenantcall.scope_truncate_trigger()', 2 + 32))
         AS w (tgname, check_name, function, tgtype)
         ON w.check_name <> 'company_mutable' OR t.relkind = 'r'
    LEFT JOIN pg_trigger AS g ON g.tgrelid = t.rel AND g.tgname = w.tgname
    WHERE t.attnum IS NOT NULL
      AND (g.oid IS NULL OR g.tgenabled <> 'A' OR g.tgtype <> w.tgtype OR g.tgattr <> ''::int2vector
           OR g.tgfoid IS DISTINCT FROM to_regprocedure(w.function)
           OR CASE w.check_name
                  WHEN 'company_mutable'
                      THEN position(format(' FOR EACH ROW WHEN ((old.%1$I IS DISTINCT FROM new.%1$I)) EXECUTE FUNCTION ',
                                           t.company_column) IN pg_get_triggerdef(g.oid)) = 0
                  ELSE g.tgqual IS NOT NULL END)
    UNION ALL
    SELECT 'warning', 'index_missing', t.name,
           format('No index is led by column %I: what one company asks reads the rows of all.', t.company_column),
           t.scope_again
    FROM tenantcall.audit_tables AS t
    WHERE t.attnum IS NOT NULL
      AND NOT EXISTS (SELECT FROM pg_index AS i JOIN pg_class AS ic ON ic.oid = i.indexrelid
                      JOIN pg_am AS m ON m.oid = ic.relam AND m.amname = 'btree'
                      WHERE i.indrelid = t.rel AND i.indisvalid AND i.indpred IS NULL AND i.indkey[0] = t.attnum)
$$;
COMMENT ON FUNCTION tenantcall.audit_columns() IS 'internal: part of check_isolation()';
REVOKE ALL ON FUNCTION tenantcall.audit_columns() FROM PUBLIC;

CREATE FUNCTION tenantcall.audit_relatives() RETURNS SETOF tenantcall.isolation_finding
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    WITH RECURSIVE heirs AS (
        SELECT t.rel::oid AS oid, t.rel::oid AS parent, t.name AS parent_name, t.scope_again
        FROM tenantcall.audit_tables AS t WHERE t.relkind IS NOT NULL
        UNION
        SELECT i.inhrelid, i.inhparent, h.parent_name, h.scope_again FROM heirs AS h JOIN pg_inherits AS i ON i.inhparent = h.oid
    ), loose AS (
        SELECT c.oid, c.relkind, c.relispartition, h.parent,
               format('%s.%I', c.relnamespace::regnamespace, c.relname) AS name,
               min(h.parent_name) AS parent_name, min(h.scope_again) AS scope_again
        FROM heirs AS h JOIN pg_class AS c ON c.oid = h.oid
        WHERE NOT EXISTS (SELECT FROM tenantcall.audit_tables AS t WHERE t.rel = h.oid)
        GROUP BY c.oid, h.parent
    )
    SELECT 'error', 'child_unscoped', l.name,
           format('It is part of scoped table %s, and can be read directly.', l.parent_name),
           CASE WHEN l.relkind <> 'f' THEN l.scope_again
                WHEN l.relispartition THEN format('ALTER TABLE %s DETACH PARTITION %s', l.parent::regclass, l.name)
                ELSE format('ALTER FOREIGN TABLE %s NO INHERIT %s', l.name, l.parent::regclass) END
    FROM loose AS l
    UNION ALL
    SELECT 'error', 'parent_unscoped', t.name,
           format('Its rows can be read through table %s, which is not scoped.', i.inhparent::regclass),
           format('SELECT tenantcall.scope_table(%L, %L)', i.inhparent::regclass, t.company_column)
    FROM tenantcall.audit_tables AS t JOIN pg_inherits AS i ON i.inhrelid = t.rel
    WHERE NOT EXISTS (SELECT FROM tenantcall.audit_tables AS p WHERE p.rel = i.inhparent)
$$;
COMMENT ON FUNCTION tenantcall.audit_relatives() IS 'internal: part of check_isolation()';
REVOKE ALL ON FUNCTION tenantcall.audit_relatives() FROM PUBLIC;

-- Partitions are their parents' business.  A foreign table cannot be scoped, only closed.
CREATE FUNCTION tenantcall.audit_unscoped() RETURNS SETOF tenantcall.isolation_finding
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    WITH shape AS (
        SELECT a.attrelid, array_agg(a.attname || ' ' || a.atttypid ORDER BY a.attname) AS columns
        FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
        WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p')
          AND c.relnamespace <> 'pg_catalog'::regnamespace
        GROUP BY a.attrelid
    ), loose AS (
        SELECT c.oid, c.relkind, c.relacl, c.relowner, a.attname, format('%I.%I', n.nspname, c.relname) AS name
        FROM pg_class AS c
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        JOIN LATERAL (SELECT min(a.attname) AS attname FROM pg_attribute AS a
                      WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                        AND a.atttypid IN ('integer'::regtype, 'bigint'::regtype, 'uuid'::regtype)
                        AND (a.attname = 'company_id'
                             OR a.attname IN (SELECT t.company_column FROM tenantcall.audit_tables AS t)
                             OR EXISTS (SELECT FROM pg_policy AS p -- scoped once
                                        JOIN pg_depend AS d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid
                                        WHERE p.polrelid = c.oid AND p.polname LIKE 'tenantcall\_tenant%'
                                          AND d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid
                                          AND d.refobjsubid = a.attnum))) AS a
             ON a.attname IS NOT NULL
        WHERE c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't' AND NOT c.relispartition
          AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'tenantcall')
          AND NOT EXISTS (SELECT FROM tenantcall.audit_tables AS t WHERE t.rel = c.oid)
          AND NOT EXISTS (SELECT FROM tenantcall.cluster_tables() AS t WHERE t.rel = c.oid) -- of audit_parts()
          AND NOT EXISTS (SELECT FROM pg_inherits AS i JOIN tenantcall.audit_tables AS t ON t.rel = i.inhparent
                          WHERE i.inhrelid = c.oid)
          AND NOT EXISTS (SELECT FROM pg_depend AS d
                          WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
    )
    SELECT 'error', CASE WHEN o.name IS NULL THEN 'table_unscoped' ELSE 'table_copy' END, l.name,
           coalesce(format('It has the columns of scoped table %s, and is not scoped.', o.name),
                    format('It has a column %I, and is not registered as scoped.', l.attname)),
           CASE l.relkind WHEN 'f' THEN format('REVOKE ALL ON %s FROM %s', l.name, g.grantees)
                ELSE format('SELECT tenantcall.scope_table(%L, %L)', l.name, l.attname) END
    FROM loose AS l
    LEFT JOIN LATERAL (SELECT min(t.name) AS name
                       FROM shape AS mine JOIN shape AS theirs ON theirs.columns = mine.columns
                       JOIN tenantcall.audit_tables AS t ON t.rel = theirs.attrelid
                       WHERE mine.attrelid = l.oid) AS o ON true
    LEFT JOIN LATERAL (SELECT string_agg(DISTINCT tenantcall.audit_role_name(a.grantee), ', ') AS grantees
                       FROM aclexplode(l.relacl) AS a WHERE a.grantee <> l.relowner) AS g ON true
    WHERE l.relkind <> 'f' OR g.grantees IS NOT NULL
$$;
COMMENT ON FUNCTION tenantcall.audit_unscoped() IS 'internal: part of check_isolation()';
REVOKE ALL ON FUNCTION tenantcall.audit_unscoped() FROM PUBLIC;

CREATE FUNCTION tenantcall.audit_owners() RETURNS SETOF tenantcall.isolation_finding
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT 'error', 'owner_changed', t.name,
           format('It belongs to %I, not to tenantcall_owner.', pg_get_userbyid(t.relowner)),
           format('ALTER TABLE %s OWNER TO tenantcall_owner', t.name)
    FROM tenantcall.audit_tables AS t
    WHERE t.is_telephony AND t.relowner IS DISTINCT FROM to_regrole('tenantcall_owner')
      AND NOT EXISTS (SELECT FROM tenantcall.cluster_tables() AS d WHERE d.rel = t.rel) -- distribute() hands them over
    UNION ALL
    SELECT 'error', 'owner_changed', n.nspname,
           format('The schema belongs to %I, not to %s.', pg_get_userbyid(n.nspowner), w.owner),
           format('ALTER SCHEMA %I OWNER TO %s', n.nspname, w.owner)
    FROM (SELECT tenantcall.tables_schema(), 'tenantcall_owner'
          UNION ALL
          SELECT 'tenantcall', quote_ident(pg_get_userbyid(e.extowner)) FROM pg_extension AS e WHERE e.extname = 'tenantcall')
         AS w (schema_name, owner)
    JOIN pg_namespace AS n ON n.nspname = w.schema_name
    WHERE n.nspowner IS DISTINCT FROM to_regrole(w.owner)
    UNION ALL
    SELECT 'error', 'owner_changed', o.name,
           format('It belongs to %I, not to the owner of the extension.', pg_get_userbyid(o.owner)),
           format('ALTER %s %s OWNER TO %I', o.kind, o.name, pg_get_userbyid(e.extowner))
    FROM pg_extension AS e
    JOIN (SELECT 'FUNCTION', tenantcall.audit_function_name(p.oid), p.proowner FROM pg_proc AS p
          WHERE p.pronamespace = 'tenantcall'::regnamespace
          UNION ALL
          SELECT CASE c.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, 'tenantcall.' || quote_ident(c.relname), c.relowner
          FROM pg_class AS c WHERE c.relnamespace = 'tenantcall'::regnamespace AND c.relkind IN ('r', 'v'))
         AS o (kind, name, owner) ON o.owner <> e.extowner
    WHERE e.extname = 'tenantcall'
$$;
COMMENT ON FUNCTION tenantcall.audit_owners() IS 'internal: part of check_isolation()';
REVOKE ALL ON FUNCTION tenantcall.audit_owners() FROM PUBLIC;

-- Tables and columns alike.
CREATE FUNCTION tenantcall.audit_privileges() RETURNS SETOF tenantcall.isolation_finding
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    WITH granted AS (
        SELECT t.rel, t.name, a.grantee, a.privilege_type, a.privilege_type AS privilege
        FROM tenantcall.audit_tables AS t, aclexplode(t.relacl) AS a WHERE a.grantee <> t.relowner
        UNION ALL
        SELECT t.rel, t.name, a.grantee, a.privilege_type, format('%s (%I)', a.privilege_type, c.attname)
        FROM tenantcall.audit_tables AS t JOIN pg_attribute AS c ON c.attrelid = t.rel,
             aclexplode(c.attacl) AS a WHERE a.grantee <> t.relowner
    ), held AS (
        SELECT g.rel, g.name, g.grantee, string_agg(g.privilege, ', ' ORDER BY g.privilege) AS privileges,
               string_agg(g.privilege, ', ' ORDER BY g.privilege)
                   FILTER (WHERE g.privilege_type IN ('TRUNCATE', 'REFERENCES', 'TRIGGER', 'MAINTAIN')) AS dangerous
        FROM granted AS g GROUP BY g.rel, g.name, g.grantee
    )
    SELECT 'error', 'public_privilege', h.name, format('PUBLIC has %s.', h.privileges),
           format('REVOKE %s ON %s FROM PUBLIC', h.privileges, h.name)
    FROM held AS h WHERE h.grantee = 0
    UNION ALL
    SELECT 'warning', 'leaf_privilege', h.name,
           format('%s has %s on a part of a scoped table; only the whole is meant to be used.',
                  tenantcall.audit_role_name(h.grantee), h.privileges),
           format('REVOKE %s ON %s FROM %s', h.privileges, h.name, tenantcall.audit_role_name(h.grantee))
    FROM held AS h
    WHERE h.grantee <> 0 AND EXISTS (SELECT FROM pg_inherits AS i WHERE i.inhrelid = h.rel)
      AND NOT (h.grantee = to_regrole('tenantcall_owner')
               AND EXISTS (SELECT FROM tenantcall.cluster_tables() AS d WHERE d.rel = h.rel)) -- distribute() has granted it
    UNION ALL
    SELECT 'error', 'table_privilege', h.name,
           format('%s has %s, through %s.', r.roles, h.dangerous, tenantcall.audit_role_name(h.grantee)),
           format('REVOKE %s ON %s FROM %s', h.dangerous, h.name, tenantcall.audit_role_name(h.grantee))
    FROM held AS h
    JOIN LATERAL (SELECT string_agg(m.role, ', ' ORDER BY m.role) AS roles
                  FROM tenantcall.audit_reach() AS m WHERE m.member = h.grantee) AS r ON r.roles IS NOT NULL
    WHERE h.grantee <> 0 AND h.dangerous IS NOT NULL
$$;
COMMENT ON FUNCTION tenantcall.audit_privileges() IS 'internal: part of check_isolation()';
REVOKE ALL ON FUNCTION tenantcall.audit_privileges() FROM PUBLIC;

-- What is granted on the extension's own tables and views beyond what grant_*() grants, and the
-- triggers that keep the caches of number, company and scope right.
CREATE FUNCTION tenantcall.audit_internal() RETURNS SETOF tenantcall.isolation_finding
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    WITH granted AS (
        SELECT c.relname, NULL::name AS column_name, a.grantee, a.privilege_type, a.privilege_type AS privilege
        FROM pg_class AS c, aclexplode(c.relacl) AS a
        WHERE c.relnamespace = 'tenantcall'::regnamespace AND a.grantee <> c.relowner
        UNION ALL
        SELECT c.relname, t.attname, a.grantee, a.privilege_type, format('%s (%I)', a.privilege_type, t.attname)
        FROM pg_class AS c JOIN pg_attribute AS t ON t.attrelid = c.oid, aclexplode(t.attacl) AS a
        WHERE c.relnamespace = 'tenantcall'::regnamespace AND a.grantee <> c.relowner
    )
    SELECT 'error', 'internal_privilege', format('tenantcall.%I', g.relname),
           format('%s has %s.', tenantcall.audit_role_name(g.grantee), string_agg(g.privilege, ', ' ORDER BY g.privilege)),
           format('REVOKE %s ON tenantcall.%I FROM %s', string_agg(g.privilege, ', ' ORDER BY g.privilege), g.relname,
                  tenantcall.audit_role_name(g.grantee))
    FROM granted AS g
    WHERE NOT EXISTS (
        SELECT FROM tenantcall.role_relations AS a
        WHERE a.relation = g.relname AND g.privilege_type = ANY (a.privileges)
          AND (a.column_name IS NULL OR a.column_name = g.column_name)
          AND (a.kind = 'public'
               OR a.kind = 'monitor' AND g.grantee = 'pg_monitor'::regrole
               OR EXISTS (SELECT FROM tenantcall.role_kinds AS k
                          WHERE k.role = pg_get_userbyid(g.grantee) AND g.grantee <> 0
                            AND a.kind IN ('app', k.kind))))
    GROUP BY g.relname, g.grantee
    UNION ALL
    SELECT 'error', 'cache_trigger', format('%I.%I', w.nspname, w.relname),
           CASE WHEN g.oid IS NULL THEN 'No trigger tells caches of changes: what they hold may be of another company.'
                ELSE format('Trigger %I is disabled, or is not ENABLE ALWAYS.', g.tgname) END,
           CASE WHEN g.oid IS NULL
                THEN format('CREATE TRIGGER tenantcall_invalidate AFTER INSERT OR UPDATE OR DELETE ON %1$I.%2$I FOR EACH ROW '
                            'EXECUTE FUNCTION tenantcall.invalidate_cache_trigger(); '
                            'ALTER TABLE %1$I.%2$I ENABLE ALWAYS TRIGGER tenantcall_invalidate', w.nspname, w.relname)
                ELSE format('ALTER TABLE %I.%I ENABLE ALWAYS TRIGGER %I', w.nspname, w.relname, g.tgname) END
    FROM (SELECT 'tenantcall'::name, unnest(ARRAY['scope_registry', 'secrets', 'installation', 'role_kinds'])::name
          UNION ALL
          SELECT tenantcall.tables_schema(), unnest(ARRAY['companies', 'branches', 'phone_numbers', 'agents', 'services', 'branch_services',
                                             'opening_hours', 'holidays'])::name) AS w (nspname, relname)
    JOIN pg_class AS c ON c.relname = w.relname AND c.relnamespace = to_regnamespace(quote_ident(w.nspname))
    LEFT JOIN pg_trigger AS g ON g.tgrelid = c.oid AND g.tgfoid = 'tenantcall.invalidate_cache_trigger()'::regprocedure
                                 AND g.tgtype = 1 + 4 + 8 + 16 AND g.tgqual IS NULL
    WHERE g.oid IS NULL OR g.tgenabled <> 'A'
$$;
COMMENT ON FUNCTION tenantcall.audit_internal() IS 'internal: part of check_isolation()';
REVOKE ALL ON FUNCTION tenantcall.audit_internal() FROM PUBLIC;
