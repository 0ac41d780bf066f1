-- foreign keys between scoped tables
SET client_min_messages = warning;
\set SHOW_CONTEXT never
CREATE SCHEMA fk;
SET search_path = fk, pg_catalog;
CREATE TABLE branch (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, company_id bigint NOT NULL, name text);
CREATE TABLE visit (id bigint GENERATED ALWAYS AS IDENTITY, company_id bigint NOT NULL, branch_id bigint, note text NOT NULL,
                    PRIMARY KEY (company_id, id));
CREATE TABLE loose (id bigint PRIMARY KEY);
SELECT tenantcall.scope_table('branch'), tenantcall.scope_table('visit');
INSERT INTO branch (company_id, name) VALUES (1, 'one'), (2, 'two');
INSERT INTO visit (company_id, branch_id, note) VALUES (1, 1, 'own'), (1, 2, 'of another'), (2, NULL, 'none');

-- an orphan is seen, and nothing is left behind
SELECT tenantcall.scope_foreign_key('visit', '{branch_id}', 'branch');
SELECT count(*) FROM pg_constraint WHERE conrelid = 'visit'::regclass AND contype = 'f';

-- in two steps, and again
SELECT tenantcall.scope_foreign_key('visit', '{branch_id}', 'branch', validate => false);
SELECT check_name, object, remedy FROM tenantcall.check_isolation() WHERE check_name LIKE 'foreign_key%' AND object LIKE 'fk.%';
DELETE FROM visit WHERE note = 'of another';
SELECT tenantcall.scope_foreign_key('visit', '{branch_id}', 'branch');
SELECT tenantcall.scope_foreign_key('visit', '{branch_id}', 'branch');
SELECT conname, pg_get_constraintdef(oid), convalidated FROM pg_constraint
WHERE conrelid IN ('visit'::regclass, 'branch'::regclass) AND contype IN ('u', 'f') ORDER BY 1;
INSERT INTO visit (company_id, branch_id, note) VALUES (1, 2, 'of another');

-- another action
SELECT tenantcall.scope_foreign_key('visit', '{branch_id}', 'branch', 'cascade');
ALTER TABLE visit DROP CONSTRAINT visit_company_id_branch_id_fkey;
SELECT tenantcall.scope_foreign_key('visit', '{company_id,branch_id}', 'branch', 'SET NULL');
SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'visit'::regclass AND contype = 'f';
DELETE FROM branch WHERE id = 1;
SELECT company_id, branch_id FROM visit ORDER BY 1;

-- the company alone
CREATE TABLE firm (company_id bigint PRIMARY KEY);
INSERT INTO firm VALUES (1), (2);
SELECT tenantcall.scope_table('firm');
SELECT tenantcall.scope_foreign_key('visit', '{company_id}', 'firm');
SELECT tenantcall.scope_foreign_key('branch', '{company_id}', 'firm', 'set null');

-- refusals
SELECT tenantcall.scope_foreign_key('visit', '{note}', 'branch', 'set null');
SELECT tenantcall.scope_foreign_key('visit', '{branch_id}', 'branch', 'set default');
SELECT tenantcall.scope_foreign_key('visit', '{branch}', 'branch');
SELECT tenantcall.scope_foreign_key('visit', '{branch_id,note}', 'branch');
SELECT tenantcall.scope_foreign_key('visit', '{branch_id}', 'loose');
SELECT tenantcall.scope_foreign_key('loose', '{id}', 'branch');
SELECT tenantcall.scope_foreign_key('visit', '{branch_id,NULL}', 'branch');
SELECT tenantcall.scope_foreign_key('visit', NULL, 'branch');
SELECT tenantcall.scope_foreign_key('visit', '{}', 'branch');
CREATE ROLE regress_tc_fk;
GRANT EXECUTE ON FUNCTION tenantcall.scope_foreign_key TO regress_tc_fk;
SET ROLE regress_tc_fk;
SELECT tenantcall.scope_foreign_key('pg_class', '{branch_id}', 'pg_class');
RESET ROLE;

-- a partitioned child
CREATE TABLE stay (company_id bigint NOT NULL, branch_id bigint, day date NOT NULL) PARTITION BY RANGE (day);
CREATE TABLE stay_all PARTITION OF stay DEFAULT;
SELECT tenantcall.scope_table('stay');
SELECT tenantcall.scope_foreign_key('stay', '{branch_id}', 'branch');

-- validated by an owner whom row security binds, it would hold an orphan: the audit looks again
ALTER TABLE visit DROP CONSTRAINT visit_company_id_branch_id_fkey;
INSERT INTO visit (company_id, branch_id, note) VALUES (1, 77, 'orphan');
ALTER TABLE visit ADD CONSTRAINT planted FOREIGN KEY (company_id, branch_id) REFERENCES branch (company_id, id) NOT VALID;
UPDATE pg_constraint SET convalidated = true WHERE conname = 'planted';
SELECT check_name, object, remedy FROM tenantcall.check_isolation() WHERE check_name LIKE 'foreign_key%' AND object LIKE 'fk.%';

DROP SCHEMA fk CASCADE;
DROP OWNED BY regress_tc_fk;
DROP ROLE regress_tc_fk;
