-- check_isolation(): what it looks for, who may ask, and one fault from end to end
-- (test/system/test_audit.py plants them all)
SET client_min_messages = warning;
\set SHOW_CONTEXT never
SELECT check_name, finds FROM tenantcall.isolation_checks ORDER BY 1;

CREATE ROLE regress_tc_audit_admin;
CREATE ROLE regress_tc_audit_app;
SELECT tenantcall.grant_admin('regress_tc_audit_admin'), tenantcall.grant_app('regress_tc_audit_app');
SET ROLE regress_tc_audit_app;
SELECT * FROM tenantcall.check_isolation();
RESET ROLE;

CREATE SCHEMA audit;
CREATE TABLE audit.visit (company_id bigint, note text);
SELECT tenantcall.scope_table('audit.visit');
SET ROLE regress_tc_audit_admin;
SELECT * FROM tenantcall.check_isolation() WHERE object LIKE 'audit.%';
RESET ROLE;
CREATE VIEW audit.visits AS SELECT * FROM audit.visit;
ALTER TABLE audit.visit DISABLE ROW LEVEL SECURITY;
ALTER TABLE audit.visit ENABLE TRIGGER tenantcall_freeze;
GRANT SELECT, TRUNCATE ON audit.visit TO regress_tc_audit_app;
SET ROLE regress_tc_audit_admin;
SELECT * FROM tenantcall.check_isolation() WHERE object LIKE 'audit.%';
RESET ROLE;
SELECT remedy FROM tenantcall.check_isolation() WHERE object LIKE 'audit.%' \gexec
SELECT * FROM tenantcall.check_isolation() WHERE object LIKE 'audit.%';

-- nothing is registered, and that is an error
BEGIN;
DELETE FROM tenantcall.scope_registry;
SELECT severity, check_name, detail FROM tenantcall.check_isolation() WHERE check_name = 'nothing_scoped';
ROLLBACK;

DROP SCHEMA audit CASCADE;
DELETE FROM tenantcall.role_kinds WHERE role LIKE 'regress_tc_audit_%';
DROP OWNED BY regress_tc_audit_admin, regress_tc_audit_app;
DROP ROLE regress_tc_audit_admin, regress_tc_audit_app;
