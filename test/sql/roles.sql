-- roles: who is refused, and who may do what.  A right that widens shows as a difference here.
SET client_min_messages = warning;
\set SHOW_CONTEXT never
CREATE ROLE regress_tc_roles_app;
CREATE ROLE regress_tc_roles_gateway;
CREATE ROLE regress_tc_roles_admin;
CREATE ROLE regress_tc_roles_nobody;

-- refused, with the remedy
CREATE ROLE regress_tc_roles_super SUPERUSER;
CREATE ROLE regress_tc_roles_bypass BYPASSRLS;
CREATE ROLE regress_tc_roles_creator CREATEROLE;
CREATE ROLE regress_tc_roles_replica REPLICATION;
CREATE ROLE regress_tc_roles_member IN ROLE regress_tc_roles_bypass;
CREATE ROLE regress_tc_roles_indirect IN ROLE regress_tc_roles_member;
CREATE ROLE regress_tc_roles_reader IN ROLE pg_read_all_data;
CREATE ROLE regress_tc_roles_owner;
CREATE ROLE regress_tc_roles_heir IN ROLE regress_tc_roles_owner;
CREATE ROLE "regress_tc_roles Odd" BYPASSRLS;
CREATE TABLE roles_owned (company_id bigint, x int, PRIMARY KEY (company_id, x));
ALTER TABLE roles_owned OWNER TO regress_tc_roles_owner;
SELECT tenantcall.scope_table('roles_owned');
SELECT tenantcall.grant_app('regress_tc_roles_super');
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.grant_app('regress_tc_roles_bypass');
SELECT tenantcall.grant_gateway('regress_tc_roles_creator');
SELECT tenantcall.grant_gateway('regress_tc_roles_replica');
SELECT tenantcall.grant_gateway('regress_tc_roles_member');
SELECT tenantcall.grant_admin('regress_tc_roles_indirect');
SELECT tenantcall.grant_admin('regress_tc_roles_reader');
SELECT tenantcall.grant_admin('regress_tc_roles_owner');
SELECT tenantcall.grant_app('regress_tc_roles_heir');
SELECT tenantcall.grant_app('regress_tc_roles Odd');
SELECT tenantcall.grant_app('tenantcall_owner');
SELECT tenantcall.grant_app('pg_read_all_data');
SELECT tenantcall.grant_app(NULL);
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.grant_gateway(NULL);
SELECT tenantcall.grant_admin(NULL);
SELECT tenantcall.grant_app('regress_tc_roles_missing');
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.grant_app('');
SELECT tenantcall.grant_app('public');
-- none of them has got anything
SELECT count(*) FROM tenantcall.role_kinds WHERE role LIKE 'regress_tc_roles%';
SELECT count(*) FROM pg_class AS c, aclexplode(c.relacl) AS a
WHERE a.grantee IN (SELECT oid FROM pg_roles WHERE rolname LIKE 'regress_tc_roles%') AND relname <> 'roles_owned'
AND relnamespace IN ('tenantcall'::regnamespace, 'telephony'::regnamespace);

-- granted, and granted again
SELECT tenantcall.grant_app('regress_tc_roles_app'), tenantcall.grant_gateway('regress_tc_roles_gateway'),
       tenantcall.grant_admin('regress_tc_roles_admin');
CREATE TABLE roles_before AS
SELECT c.oid, c.relacl::text AS acl FROM pg_class AS c UNION ALL SELECT p.oid, p.proacl::text FROM pg_proc AS p;
SELECT tenantcall.grant_app('regress_tc_roles_app'), tenantcall.grant_gateway('regress_tc_roles_gateway'),
       tenantcall.grant_admin('regress_tc_roles_admin');
SELECT count(*) FROM roles_before AS b
JOIN (SELECT c.oid, c.relacl::text AS acl FROM pg_class AS c UNION ALL SELECT p.oid, p.proacl::text FROM pg_proc AS p) AS n USING (oid)
WHERE n.acl IS DISTINCT FROM b.acl;
SELECT role, kind FROM tenantcall.role_kinds WHERE role LIKE 'regress_tc_roles%' ORDER BY role, kind;

-- every function of the extension: + may execute it
\pset format unaligned
CREATE FUNCTION roles_may(role text, p pg_proc) RETURNS text LANGUAGE sql AS $$
SELECT CASE WHEN has_function_privilege(role, p.oid, 'EXECUTE') THEN '+' ELSE '' END
$$;
SELECT regexp_replace(p.oid::regprocedure::text, '^tenantcall\.', '') COLLATE "C" AS function,
       roles_may('regress_tc_roles_nobody', p) AS public, roles_may('regress_tc_roles_app', p) AS app,
       roles_may('regress_tc_roles_gateway', p) AS gateway, roles_may('regress_tc_roles_admin', p) AS admin
FROM pg_proc AS p WHERE p.pronamespace = 'tenantcall'::regnamespace AND p.prokind = 'f'
AND roles_may('regress_tc_roles_nobody', p) || roles_may('regress_tc_roles_app', p)
    || roles_may('regress_tc_roles_gateway', p) || roles_may('regress_tc_roles_admin', p) <> ''
ORDER BY 1;

-- every table, view and sequence: what each may do with it
CREATE FUNCTION roles_rights(role text, c pg_class) RETURNS text LANGUAGE sql AS $$
SELECT coalesce(string_agg(left(right_name, 1), '' ORDER BY n), '')
FROM unnest(CASE c.relkind WHEN 'S' THEN '{USAGE,SELECT,UPDATE}'::text[]
                           ELSE '{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}' END) WITH ORDINALITY AS r (right_name, n)
WHERE CASE WHEN c.relkind = 'S' THEN has_sequence_privilege(role, c.oid, right_name)
           ELSE has_table_privilege(role, c.oid, right_name) END
$$;
SELECT n.nspname AS schema, c.relname AS relation, roles_rights('regress_tc_roles_nobody', c) AS public,
       roles_rights('regress_tc_roles_app', c) AS app, roles_rights('regress_tc_roles_gateway', c) AS gateway,
       roles_rights('regress_tc_roles_admin', c) AS admin
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname IN ('tenantcall', 'telephony') AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
AND roles_rights('regress_tc_roles_nobody', c) || roles_rights('regress_tc_roles_app', c)
    || roles_rights('regress_tc_roles_gateway', c) || roles_rights('regress_tc_roles_admin', c) <> ''
ORDER BY 1, 2;
-- rights on single columns, schemas, and the right to grant on
SELECT c.relname, a.attname, x.grantee::regrole, x.privilege_type FROM pg_attribute AS a
JOIN pg_class AS c ON c.oid = a.attrelid, aclexplode(a.attacl) AS x
WHERE c.relnamespace IN ('tenantcall'::regnamespace, 'telephony'::regnamespace) ORDER BY 1, 2, 3, 4;
SELECT n.nspname, r.rolname, has_schema_privilege(r.rolname, n.oid, 'USAGE') AS usage, has_schema_privilege(r.rolname, n.oid, 'CREATE') AS create
FROM pg_namespace AS n, pg_roles AS r WHERE n.nspname IN ('tenantcall', 'telephony')
AND r.rolname IN ('regress_tc_roles_nobody', 'regress_tc_roles_app', 'regress_tc_roles_gateway', 'regress_tc_roles_admin') ORDER BY 1, 2;
SELECT count(*) FROM pg_proc AS p, aclexplode(p.proacl) AS a
WHERE p.pronamespace = 'tenantcall'::regnamespace AND a.is_grantable;
-- nobody but a superuser hands out rights, nobody is member of the owner, and the owner is bound
SET ROLE regress_tc_roles_admin;
SELECT tenantcall.grant_admin('regress_tc_roles_nobody');
SELECT tenantcall.create_tables();
SET ROLE tenantcall_owner;
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
SELECT rolcanlogin, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication,
       (SELECT count(*) FROM pg_auth_members AS m WHERE m.roleid = r.oid) AS members,
       (SELECT count(*) FROM pg_auth_members AS m WHERE m.member = r.oid) AS member_of
FROM pg_roles AS r WHERE rolname = 'tenantcall_owner';
-- what the owner owns in schema tenantcall: nothing but what acts within one company
SELECT count(*) FROM pg_class WHERE relnamespace = 'tenantcall'::regnamespace AND relowner = 'tenantcall_owner'::regrole;
SELECT p.proname FROM pg_proc AS p WHERE p.pronamespace = 'tenantcall'::regnamespace AND p.prosecdef;

SELECT tenantcall.unscope_table('roles_owned');
DROP TABLE roles_owned, roles_before;
DROP FUNCTION roles_may(text, pg_proc), roles_rights(text, pg_class);
DELETE FROM tenantcall.role_kinds WHERE role LIKE 'regress_tc_%';
DROP OWNED BY regress_tc_roles_app, regress_tc_roles_gateway, regress_tc_roles_admin;
DROP ROLE regress_tc_roles_indirect, regress_tc_roles_heir;
DROP ROLE regress_tc_roles_app, regress_tc_roles_gateway, regress_tc_roles_admin, regress_tc_roles_nobody,
    regress_tc_roles_super, regress_tc_roles_bypass, regress_tc_roles_creator, regress_tc_roles_replica,
    regress_tc_roles_member, regress_tc_roles_reader, regress_tc_roles_owner, "regress_tc_roles Odd";
