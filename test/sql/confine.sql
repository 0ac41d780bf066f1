-- What application roles may not do beside what row security hides.  Each attack is run by a role
-- with the same privileges on the tables that grant_app() does not know ("loose"), where it
-- works, and then by an application role ("app"), where it is refused.
SET client_min_messages = warning;
CREATE ROLE regress_tc_confine_loose;
CREATE ROLE regress_tc_confine_app;
CREATE ROLE regress_tc_confine_gateway;
CREATE ROLE regress_tc_confine_member IN ROLE regress_tc_confine_app;
CREATE ROLE regress_tc_confine_other;
SELECT tenantcall.grant_app('regress_tc_confine_app'), tenantcall.grant_gateway('regress_tc_confine_gateway') \g /dev/null
SELECT tenantcall.create_company('Confine A', 'DE', 'Europe/Berlin') AS a, tenantcall.create_company('Confine B', 'DE', 'Europe/Berlin') AS b \gset
GRANT USAGE ON SCHEMA telephony TO regress_tc_confine_loose;
GRANT ALL ON telephony.services TO regress_tc_confine_loose;
CREATE SCHEMA confine;
CREATE TABLE confine.visits (company_id bigint, label text);
INSERT INTO confine.visits SELECT CASE WHEN g <= 7 THEN :a ELSE :b END, 'x' FROM generate_series(1, 1000) AS g;
SELECT tenantcall.scope_table('confine.visits') \g /dev/null
GRANT USAGE ON SCHEMA confine TO regress_tc_confine_loose, regress_tc_confine_app;
GRANT SELECT ON confine.visits TO regress_tc_confine_loose, regress_tc_confine_app;
GRANT EXECUTE ON FUNCTION tenantcall.enter, tenantcall.company_lock, tenantcall.try_company_lock TO regress_tc_confine_loose, regress_tc_confine_app;
BEGIN; SELECT tenantcall.enter(:b) \g /dev/null
INSERT INTO telephony.services (name) SELECT 'confine ' || g FROM generate_series(1, 7) AS g;
COMMIT;

-- A function that a DBA provides may do what its owner may: it is the current user that counts.
CREATE FUNCTION public.confine_notify() RETURNS void LANGUAGE sql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$ SELECT pg_notify('confine', 'x') $$;

-- EXPLAIN counts the rows of others that it removed.
SET ROLE regress_tc_confine_loose;
BEGIN; SELECT tenantcall.enter(:a) \g /dev/null
SET LOCAL enable_indexscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_indexonlyscan = off;
DO $$
DECLARE line text;
BEGIN
    FOR line IN EXECUTE 'EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF) SELECT label FROM confine.visits' LOOP
        IF line LIKE '%Removed%' THEN
            RAISE WARNING '%', trim(line);
        END IF;
    END LOOP;
END
$$;
COMMIT;
SET ROLE regress_tc_confine_app;
EXPLAIN SELECT 1;
EXPLAIN ANALYZE SELECT * FROM telephony.services;
PREPARE p AS SELECT * FROM telephony.services;
EXPLAIN EXECUTE p;
DEALLOCATE p;
DO $$ BEGIN EXECUTE 'EXPLAIN SELECT 1'; END $$;

-- LOCK holds up every company.
SET ROLE regress_tc_confine_loose;
BEGIN; LOCK TABLE telephony.services IN ROW EXCLUSIVE MODE; ROLLBACK;
SET ROLE regress_tc_confine_app;
BEGIN; LOCK TABLE telephony.services IN ROW EXCLUSIVE MODE; ROLLBACK;

-- Cursors that outlive their transaction.
SET ROLE regress_tc_confine_loose;
BEGIN; SELECT tenantcall.enter(:b) \g /dev/null
DECLARE c CURSOR WITH HOLD FOR SELECT name FROM telephony.services ORDER BY 1; COMMIT;
BEGIN; SELECT tenantcall.enter(:a) \g /dev/null
FETCH 1 FROM c; COMMIT;
CLOSE c;
SET ROLE regress_tc_confine_app;
BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT name FROM telephony.services; ROLLBACK;
BEGIN; DECLARE c CURSOR FOR SELECT name FROM telephony.services; FETCH 1 FROM c; ROLLBACK;

-- Messages between sessions.
SET ROLE regress_tc_confine_app;
LISTEN confine;
NOTIFY confine, 'x';
SELECT pg_notify('confine', 'x');
SELECT public.confine_notify();

-- Other sessions.
SET ROLE regress_tc_confine_loose;
SELECT count(*) > 0 AS sees FROM pg_stat_activity;
SET ROLE regress_tc_confine_app;
SELECT count(*) > 0 AS sees FROM pg_stat_activity;
SELECT query FROM pg_stat_get_activity(NULL);
SELECT pg_stat_get_backend_activity(1);
SELECT count(*) FROM pg_locks;
SELECT count(*) FROM pg_prepared_xacts;
SELECT pg_cancel_backend(0);
SELECT pg_terminate_backend(0);
SELECT n_live_tup FROM pg_stat_user_tables;

-- Large objects.
SELECT lo_create(0);
SELECT lo_get(1);
SELECT lo_from_bytea(0, 'x');

-- Advisory locks: PostgreSQL's are one space for all, a company's own are its own.
SELECT pg_advisory_lock(1);
SELECT pg_try_advisory_xact_lock(1);
SELECT tenantcall.company_lock('k');
SELECT tenantcall.company_lock(NULL);
BEGIN; SELECT tenantcall.enter(:a) \g /dev/null
SELECT tenantcall.company_lock(''), 1;
ROLLBACK;
BEGIN; SELECT tenantcall.enter(:a) \g /dev/null
SELECT tenantcall.try_company_lock('k');
SELECT tenantcall.company_lock('k');
RESET ROLE;
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
COMMIT;

-- Roles and their settings.
SET ROLE regress_tc_confine_app;
ALTER ROLE regress_tc_confine_app PASSWORD 'x';
ALTER ROLE CURRENT_USER SET search_path = evil;
ALTER ROLE CURRENT_USER IN DATABASE :"DBNAME" RESET ALL;
-- SET ROLE is no way out: the login counts as well
RESET ROLE;
SET SESSION AUTHORIZATION regress_tc_confine_member;
EXPLAIN SELECT 1;
SET ROLE regress_tc_confine_app;
EXPLAIN SELECT 1;
RESET SESSION AUTHORIZATION;
GRANT regress_tc_confine_other TO regress_tc_confine_app;
SET SESSION AUTHORIZATION regress_tc_confine_app;
SET ROLE regress_tc_confine_other;
EXPLAIN SELECT 1;
SELECT pg_notify('confine', 'x');
RESET ROLE;
SELECT set_config('role', 'regress_tc_confine_other', false);
LISTEN confine;
RESET SESSION AUTHORIZATION;

-- Temporary relations that would hide a scoped one.
SET ROLE regress_tc_confine_app;
CREATE TEMP TABLE services (name text);
CREATE TABLE pg_temp.services (name text);
CREATE TEMP TABLE calls AS SELECT 1 AS x;
CREATE TEMP VIEW customers AS SELECT 1 AS x;
CREATE TEMP SEQUENCE branches;
SELECT 1 AS x INTO TEMP appointments_are_no_table;
CREATE TEMP TABLE harmless (x int);
ALTER TABLE harmless RENAME TO calls;
ALTER TABLE harmless RENAME TO still_harmless;

-- Files and programs: PostgreSQL itself refuses.
\set VERBOSITY sqlstate
COPY (SELECT 1) TO PROGRAM 'cat';
COPY (SELECT 1) TO '/tmp/x';
SELECT pg_read_file('PG_VERSION');
\set VERBOSITY default

-- Sizes.
SELECT pg_relation_size('telephony.services');
SELECT pg_total_relation_size('telephony.services');

-- What an application does all day is not touched; nor are gateways, nor loose roles.
SELECT count(*), now() IS NOT NULL AS clock, pg_backend_pid() > 0 AS pid FROM telephony.services;
RESET ROLE;
SET ROLE regress_tc_confine_gateway;
EXPLAIN (COSTS OFF) SELECT 1;
RESET ROLE;

-- A role is confined from the commit of grant_app() on, and again when it is made a member.
SET ROLE regress_tc_confine_other;
EXPLAIN (COSTS OFF) SELECT 1;
RESET ROLE;
REVOKE regress_tc_confine_other FROM regress_tc_confine_app;
GRANT regress_tc_confine_app TO regress_tc_confine_other;
SET ROLE regress_tc_confine_other;
EXPLAIN (COSTS OFF) SELECT 1;
RESET ROLE;

-- So is a member of the owner, although nobody should be one; the owner itself, whom the library
-- acts as, is not.
CREATE ROLE regress_tc_confine_owned IN ROLE tenantcall_owner;
SET ROLE regress_tc_confine_owned;
EXPLAIN (COSTS OFF) SELECT 1;
SET ROLE tenantcall_owner;
EXPLAIN (COSTS OFF) SELECT 1;
RESET ROLE;
SET SESSION AUTHORIZATION regress_tc_confine_owned;
SET ROLE tenantcall_owner;
EXPLAIN (COSTS OFF) SELECT 1;
RESET SESSION AUTHORIZATION;
DROP ROLE regress_tc_confine_owned;

DELETE FROM tenantcall.role_kinds WHERE role LIKE 'regress\_tc\_confine%';
DELETE FROM telephony.services WHERE name LIKE 'confine%';
DROP FUNCTION public.confine_notify();
DROP SCHEMA confine CASCADE;
REVOKE EXECUTE ON FUNCTION tenantcall.enter, tenantcall.company_lock, tenantcall.try_company_lock FROM regress_tc_confine_loose, regress_tc_confine_app;
DROP OWNED BY regress_tc_confine_loose, regress_tc_confine_app, regress_tc_confine_gateway, regress_tc_confine_member, regress_tc_confine_other;
DROP ROLE regress_tc_confine_loose, regress_tc_confine_app, regress_tc_confine_gateway, regress_tc_confine_member, regress_tc_confine_other;
