-- What isolates where a scoped table's own protection was taken away
SET client_min_messages = warning;
CREATE ROLE regress_tc_hook_owner;
CREATE ROLE regress_tc_hook_app;
CREATE SCHEMA hook AUTHORIZATION regress_tc_hook_owner;
GRANT USAGE ON SCHEMA hook TO regress_tc_hook_app;
GRANT EXECUTE ON FUNCTION tenantcall.scope_table TO regress_tc_hook_owner;
GRANT EXECUTE ON FUNCTION tenantcall.enter TO regress_tc_hook_app, regress_tc_hook_owner;
SELECT tenantcall.create_company('Hook A', 'DE', 'Europe/Berlin') AS a, tenantcall.create_company('Hook B', 'DE', 'Europe/Berlin') AS b \gset

SET ROLE regress_tc_hook_owner;
CREATE TABLE hook.t (id int PRIMARY KEY, company_id bigint NOT NULL, label text);
INSERT INTO hook.t SELECT g, CASE WHEN g % 2 = 1 THEN :a ELSE :b END, CASE WHEN g % 2 = 1 THEN 'A' ELSE 'B' END FROM generate_series(1, 10) g;
GRANT ALL ON hook.t TO regress_tc_hook_app;
CREATE VIEW hook.seen AS SELECT coalesce(string_agg(DISTINCT label, ', ' ORDER BY label), 'nothing') AS seen FROM hook.t;
GRANT SELECT ON hook.seen TO regress_tc_hook_app;

-- A registration that is rolled back is none, in this backend too.
BEGIN;
SELECT tenantcall.scope_table('hook.t') \g /dev/null
SELECT * FROM hook.seen;
SAVEPOINT s;
ALTER TABLE hook.t DISABLE ROW LEVEL SECURITY;
SELECT * FROM hook.seen;
ROLLBACK;
SELECT * FROM hook.seen;
SELECT tenantcall.scope_table('hook.t') \g /dev/null
SELECT * FROM hook.seen;
RESET ROLE;
SELECT id, label FROM hook.t ORDER BY id LIMIT 2;

-- Foreign keys are checked also where row security is to come yet, as when pg_restore runs jobs side by side.
BEGIN;
SELECT tenantcall.enter(:a) \g /dev/null
ALTER TABLE telephony.companies DISABLE ROW LEVEL SECURITY;
INSERT INTO telephony.branches (name) VALUES ('Hook') RETURNING name;
ROLLBACK;

-- The condition is checked once, although policy, twin and hook each bring it.
SET ROLE regress_tc_hook_app;
SET enable_bitmapscan = off; SET enable_indexscan = off;
EXPLAIN (COSTS OFF) SELECT * FROM hook.t;
RESET enable_bitmapscan; RESET enable_indexscan;

-- The owner adds a policy that lets all rows pass, and drops the twin; then all of ours.
SET ROLE regress_tc_hook_owner;
CREATE POLICY all_of_it ON hook.t USING (true) WITH CHECK (true);
DROP POLICY tenantcall_tenant_restrictive ON hook.t;
BEGIN; SELECT tenantcall.enter(:a) \g /dev/null
SELECT * FROM hook.seen;
COMMIT;
DROP POLICY tenantcall_tenant ON hook.t;
SELECT * FROM hook.seen;
SET ROLE regress_tc_hook_app;
BEGIN; SELECT tenantcall.enter(:a) \g /dev/null
SELECT string_agg(DISTINCT label, ', ') FROM hook.t;
UPDATE hook.t SET label = 'A' RETURNING id;
INSERT INTO hook.t (id, label) VALUES (11, 'A');
SAVEPOINT s;
\set attempt 'INSERT INTO hook.t VALUES (12, :b, ''B'')'
:attempt;
ROLLBACK TO s;
ROLLBACK;
SET ROLE regress_tc_hook_owner;
DROP POLICY all_of_it ON hook.t;
BEGIN; SELECT tenantcall.enter(:a) \g /dev/null
SELECT * FROM hook.seen;
COMMIT;

-- Row security switched off, or not forced: an error for everybody it would bind.
SELECT tenantcall.scope_table('hook.t') \g /dev/null
ALTER TABLE hook.t DISABLE ROW LEVEL SECURITY;
SELECT * FROM hook.t;
SET ROLE regress_tc_hook_app;
SELECT * FROM hook.t;
SELECT * FROM hook.seen;
INSERT INTO hook.t VALUES (13, 1, 'X');
COPY hook.t TO STDOUT;
PREPARE p AS SELECT 1 FROM hook.t;
EXECUTE p;
SET ROLE regress_tc_hook_owner;
SELECT tenantcall.scope_table('hook.t') \g /dev/null
ALTER TABLE hook.t NO FORCE ROW LEVEL SECURITY;
SELECT * FROM hook.seen;
SET ROLE regress_tc_hook_app;
SELECT count(*) FROM hook.t;
RESET ROLE;
SELECT string_agg(DISTINCT label, ', ' ORDER BY label) AS superuser FROM hook.t;
-- whoever drops the column is not rid of us
SET ROLE regress_tc_hook_owner;
SELECT tenantcall.scope_table('hook.t') \g /dev/null
BEGIN;
ALTER TABLE hook.t DROP COLUMN company_id CASCADE;
SELECT count(*) FROM hook.t;
ROLLBACK;

-- Foreign keys between scoped tables work, checked and cascaded without the caller's tenant.
CREATE TABLE hook.note (id int, company_id bigint NOT NULL, t_id int REFERENCES hook.t ON DELETE CASCADE);
SELECT tenantcall.scope_table('hook.note') \g /dev/null
GRANT ALL ON hook.note TO regress_tc_hook_app;
SET ROLE regress_tc_hook_app;
BEGIN; SELECT tenantcall.enter(:a) \g /dev/null
INSERT INTO hook.note (id, t_id) VALUES (1, 1), (2, 3);
COMMIT;
BEGIN; SELECT tenantcall.enter(:a) \g /dev/null
DELETE FROM hook.t WHERE id = 1;
SELECT id, t_id FROM hook.note;
COMMIT;

-- A table dropped and made again is another one.
RESET ROLE;
DROP TABLE hook.note;
CREATE TABLE hook.note (id int, company_id bigint);
INSERT INTO hook.note VALUES (1, 1), (2, 2);
GRANT SELECT ON hook.note TO regress_tc_hook_app;
SET ROLE regress_tc_hook_app;
SELECT count(*) FROM hook.note;
RESET ROLE;
SELECT tenantcall.unscope_table('hook.t') \g /dev/null
SET ROLE regress_tc_hook_app;
SELECT string_agg(DISTINCT label, ', ' ORDER BY label) AS unscoped FROM hook.t;

RESET ROLE;
DROP SCHEMA hook CASCADE;
DROP OWNED BY regress_tc_hook_owner, regress_tc_hook_app;
DROP ROLE regress_tc_hook_owner, regress_tc_hook_app;
