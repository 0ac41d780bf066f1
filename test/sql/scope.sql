-- scope_table(): what it makes, what it refuses, and that it changes nothing twice
SET client_min_messages = warning;
CREATE ROLE regress_tc_scope_owner;
CREATE ROLE regress_tc_scope_other;
CREATE SCHEMA tc_scope AUTHORIZATION regress_tc_scope_owner;
GRANT USAGE ON SCHEMA tc_scope TO regress_tc_scope_other;
GRANT EXECUTE ON FUNCTION tenantcall.scope_table, tenantcall.scope_plan
    TO regress_tc_scope_owner, regress_tc_scope_other;
SET search_path = tc_scope;
-- sqlstate, message, detail and hint of a statement that fails
CREATE FUNCTION tc_scope.refusal(statement text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    detail text; hint text;
BEGIN
    EXECUTE statement;
    RETURN NEXT 'NO ERROR';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN NEXT sqlstate || ': ' || sqlerrm;
    IF detail <> '' THEN RETURN NEXT '  ' || detail; END IF;
    IF hint <> '' THEN RETURN NEXT '  ' || hint; END IF;
END
$$;
GRANT EXECUTE ON FUNCTION tc_scope.refusal TO PUBLIC;

-- The three types.
SET ROLE regress_tc_scope_owner;
CREATE TABLE by_bigint (id int PRIMARY KEY, company_id bigint, note text);
CREATE TABLE by_int (company_id int, id int, note text, PRIMARY KEY (company_id, id));
CREATE TABLE by_uuid (id int PRIMARY KEY, company uuid NOT NULL DEFAULT '00000000-0000-0000-0000-00000000000a', note text);
SELECT tenantcall.scope_table('by_bigint');
SELECT tenantcall.scope_table('by_int');
SELECT tenantcall.scope_table('by_uuid', 'company');
\d by_bigint
\d by_int
\d by_uuid
RESET ROLE;
SELECT relation, company_column, column_type, row_security, forced, policies, triggers
FROM tenantcall.scoped_tables WHERE relation::text ~ '^by_' ORDER BY 1;

-- A second run changes nothing.
CREATE VIEW made AS
SELECT 'class' AS what, c.oid, c.xmin::text AS version FROM pg_class c WHERE c.relnamespace = 'tc_scope'::regnamespace
UNION ALL SELECT 'attribute', a.attrelid, a.xmin::text FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid AND c.relnamespace = 'tc_scope'::regnamespace
UNION ALL SELECT 'policy', p.oid, p.xmin::text FROM pg_policy p
UNION ALL SELECT 'trigger', t.oid, t.xmin::text FROM pg_trigger t
UNION ALL SELECT 'registry', r.rel, r.xmin::text FROM tenantcall.scope_registry r;
CREATE TEMP TABLE before AS SELECT * FROM made;
SET ROLE regress_tc_scope_owner;
SELECT tenantcall.scope_table('by_bigint');
SELECT tenantcall.scope_table('by_uuid', 'company');
RESET ROLE;
SELECT count(*) AS changed FROM (TABLE made EXCEPT TABLE before) AS x;
-- It takes no lock that keeps readers or writers waiting.
BEGIN;
SELECT tenantcall.scope_table('by_bigint');
SELECT mode FROM pg_locks WHERE pid = pg_backend_pid() AND relation = 'by_bigint'::regclass ORDER BY 1;
COMMIT;

-- What was weakened is restored: by name is not enough.
DROP POLICY tenantcall_tenant ON by_bigint;
CREATE POLICY tenantcall_tenant ON by_bigint USING (true);
ALTER POLICY tenantcall_tenant_restrictive ON by_bigint WITH CHECK (true);
ALTER TABLE by_bigint DISABLE TRIGGER tenantcall_guard, ENABLE TRIGGER tenantcall_freeze;
DROP TRIGGER tenantcall_truncate ON by_bigint;
ALTER TABLE by_bigint ALTER COLUMN company_id DROP NOT NULL, NO FORCE ROW LEVEL SECURITY;
DROP INDEX by_bigint_company_id_idx;
SELECT tenantcall.scope_table('by_bigint');
\d by_bigint
-- A policy for fewer roles or commands is not ours either.
DROP POLICY tenantcall_tenant_restrictive ON by_int;
CREATE POLICY tenantcall_tenant_restrictive ON by_int AS RESTRICTIVE FOR SELECT TO regress_tc_scope_other
    USING (company_id = tenantcall.current_company_id());
DROP TRIGGER tenantcall_freeze ON by_int;
CREATE TRIGGER tenantcall_freeze BEFORE UPDATE ON by_int FOR EACH ROW WHEN (false) EXECUTE FUNCTION tenantcall.scope_freeze_trigger();
ALTER TABLE by_int ENABLE ALWAYS TRIGGER tenantcall_freeze;
SELECT tenantcall.scope_table('by_int');
\d by_int

-- Partitions: present ones of every level, future ones, attached ones, and children.
SET ROLE regress_tc_scope_owner;
CREATE TABLE parted (company_id bigint NOT NULL, id int, at date) PARTITION BY RANGE (at);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM ('2024-01-01') TO ('2025-01-01') PARTITION BY LIST (id);
CREATE TABLE parted_1_a PARTITION OF parted_1 DEFAULT;
SELECT tenantcall.scope_table('parted');
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE parted_1_b PARTITION OF parted_1 FOR VALUES IN (7);
CREATE TABLE parted_3 (at date, gone int, id int, company_id bigint);
ALTER TABLE parted_3 DROP COLUMN gone, ALTER COLUMN company_id SET NOT NULL;
ALTER TABLE parted ATTACH PARTITION parted_3 FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE parted_4 (company_id bigint NOT NULL, id int, at date) PARTITION BY HASH (id);
CREATE TABLE parted_4_a PARTITION OF parted_4 FOR VALUES WITH (MODULUS 1, REMAINDER 0);
ALTER TABLE parted ATTACH PARTITION parted_4 FOR VALUES FROM ('2027-01-01') TO ('2028-01-01');
CREATE TABLE parted_5 (LIKE parted INCLUDING ALL);
SELECT tenantcall.scope_table('parted_5');
ALTER TABLE parted ATTACH PARTITION parted_5 FOR VALUES FROM ('2028-01-01') TO ('2029-01-01');
CREATE TABLE parent (company_id int, id int);
CREATE TABLE child_1 () INHERITS (parent);
SELECT tenantcall.scope_table('parent');
CREATE TABLE child_2 (more int) INHERITS (parent);
CREATE TABLE child_3 (company_id int NOT NULL, id int);
ALTER TABLE child_3 INHERIT parent;
RESET ROLE;
CREATE SCHEMA tc_scope_more AUTHORIZATION regress_tc_scope_owner
    CREATE TABLE parted_6 PARTITION OF tc_scope.parted FOR VALUES FROM ('2029-01-01') TO ('2030-01-01');
SELECT relation, company_column, row_security AND forced AS forced, array_length(policies, 1) AS policies, triggers
FROM tenantcall.scoped_tables WHERE relation::text ~ '^(tc_scope_more.)?(parted|parent|child)' ORDER BY relation::text;
-- An owner other than the parent's, and a failed attachment leaves nothing.
SET ROLE regress_tc_scope_owner;
CREATE TABLE holed (company_id bigint, id int, at date);
INSERT INTO holed VALUES (NULL, 1, '2031-01-01');
ALTER TABLE parent ALTER COLUMN company_id DROP NOT NULL;
CREATE TABLE child_4 (company_id int, id int);
INSERT INTO child_4 VALUES (NULL, 1), (1, 2);
SELECT * FROM refusal('ALTER TABLE child_4 INHERIT parent');
SELECT tenantcall.scope_table('parent');
RESET ROLE;
SELECT count(*) FROM tenantcall.scope_registry WHERE rel IN ('child_4'::regclass, 'holed'::regclass);

-- Other DDL passes, also what runs outside of a transaction block.
SET ROLE regress_tc_scope_owner;
CREATE TABLE plain (id int, note text);
CREATE INDEX plain_note ON plain (note);
DROP INDEX CONCURRENTLY plain_note;
REINDEX TABLE CONCURRENTLY by_int;
CREATE TABLE loose (LIKE parted);
ALTER TABLE parted ATTACH PARTITION loose FOR VALUES FROM ('2040-01-01') TO ('2041-01-01');
ALTER TABLE parted DETACH PARTITION loose CONCURRENTLY;
CREATE TYPE row_type AS (company_id bigint, id int);
CREATE TABLE typed_table OF row_type;
SELECT tenantcall.scope_table('typed_table');
DROP TYPE row_type CASCADE;
SELECT * FROM refusal('ALTER TABLE by_int ALTER COLUMN company_id TYPE bigint');
BEGIN;
DROP TABLE by_int;
ROLLBACK;
RESET ROLE;
SELECT relation FROM tenantcall.scoped_tables WHERE relation::text IN ('by_int', 'loose', 'typed_table') ORDER BY relation::text;

-- Renamed columns are followed, dropped tables forgotten.
ALTER TABLE parted RENAME COLUMN company_id TO firm;
ALTER TABLE by_int RENAME COLUMN note TO remark;
ALTER TABLE by_int RENAME TO by_integer;
DROP TABLE parted_2;
SELECT relation, company_column FROM tenantcall.scoped_tables WHERE relation::text ~ '^(by|parted)' ORDER BY relation::text;
SELECT count(*) FROM tenantcall.scope_registry r WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = r.rel);
SET ROLE regress_tc_scope_owner;
SELECT tenantcall.scope_table('parted', 'firm');
RESET ROLE;

-- Refusals.
SET ROLE regress_tc_scope_owner;
CREATE TABLE nulls (id int, company_id bigint);
INSERT INTO nulls SELECT g, nullif(g % 3, 0) FROM generate_series(1, 10) AS g;
CREATE TABLE typed (id int, company_id text, company numeric, tiny smallint);
CREATE DOMAIN firm_id AS bigint;
CREATE TABLE domained (company_id firm_id);
CREATE TABLE generated (id bigint, company_id bigint GENERATED ALWAYS AS (id + 1) STORED);
CREATE TABLE lone (company_id bigint, id int) PARTITION BY RANGE (id);
CREATE TABLE lone_1 PARTITION OF lone FOR VALUES FROM (0) TO (10);
CREATE TABLE hollow (company_id bigint, id int) PARTITION BY RANGE (id);
CREATE TABLE hollow_1 PARTITION OF hollow FOR VALUES FROM (0) TO (10);
CREATE TABLE hollow_2 PARTITION OF hollow FOR VALUES FROM (10) TO (20);
INSERT INTO hollow VALUES (NULL, 1), (NULL, 11), (1, 2);
CREATE TABLE family (company_id bigint);
CREATE TABLE family_1 () INHERITS (family);
CREATE VIEW seen AS SELECT 1::bigint AS company_id;
CREATE MATERIALIZED VIEW stored AS SELECT 1::bigint AS company_id;
CREATE SEQUENCE counted;
CREATE INDEX named ON typed (id);
CREATE TYPE composed AS (company_id bigint);
CREATE TEMP TABLE passing (company_id bigint);
RESET ROLE;
CREATE FOREIGN DATA WRAPPER regress_tc_scope_fdw;
CREATE SERVER regress_tc_scope_server FOREIGN DATA WRAPPER regress_tc_scope_fdw;
CREATE FOREIGN TABLE far (company_id bigint) SERVER regress_tc_scope_server;
ALTER FOREIGN TABLE far OWNER TO regress_tc_scope_owner;
SET ROLE regress_tc_scope_owner;
SELECT * FROM refusal('SELECT tenantcall.scope_table(''nulls'')');
SELECT * FROM refusal('SELECT tenantcall.scope_table(''hollow'')');
SELECT * FROM refusal('SELECT tenantcall.scope_table(''typed'')');
SELECT * FROM refusal('SELECT tenantcall.scope_table(''typed'', ''company'')');
SELECT * FROM refusal('SELECT tenantcall.scope_table(''typed'', ''tiny'')');
SELECT * FROM refusal('SELECT tenantcall.scope_table(''typed'', ''no such'')');
SELECT * FROM refusal('SELECT tenantcall.scope_table(''typed'', ''ctid'')');
SELECT * FROM refusal('SELECT tenantcall.scope_table(''domained'')');
SELECT * FROM refusal('SELECT tenantcall.scope_table(''generated'')');
SELECT * FROM refusal('SELECT tenantcall.scope_table(''lone_1'')');
SELECT * FROM refusal('SELECT tenantcall.scope_table(''family_1'')');
SELECT * FROM refusal('SELECT tenantcall.scope_table(''seen'')');
SELECT * FROM refusal('SELECT tenantcall.scope_table(''stored'')');
SELECT * FROM refusal('SELECT tenantcall.scope_table(''counted'')');
SELECT * FROM refusal('SELECT tenantcall.scope_table(''named'')');
SELECT * FROM refusal('SELECT tenantcall.scope_table(''composed'')');
SELECT * FROM refusal('SELECT tenantcall.scope_table(''passing'')');
SELECT * FROM refusal('SELECT tenantcall.scope_table(''far'')');
SELECT * FROM refusal('SELECT tenantcall.scope_table(NULL)');
SELECT * FROM refusal('SELECT tenantcall.scope_table(''typed'', NULL)');
SELECT * FROM refusal('SELECT tenantcall.scope_table(0)');
SELECT * FROM refusal('SELECT tenantcall.scope_table(''by_bigint'', ''id'')');
RESET ROLE;
SELECT * FROM refusal('SELECT tenantcall.scope_table(''pg_catalog.pg_class'', ''oid'')');
SELECT * FROM refusal('SELECT tenantcall.scope_table(''tenantcall.scope_registry'', ''rel'')');
SELECT * FROM refusal('SELECT tenantcall.scope_table(''information_schema.sql_features'', ''feature_id'')');
SELECT * FROM refusal('CREATE FOREIGN TABLE tc_scope.parted_far PARTITION OF tc_scope.parted FOR VALUES FROM (''2030-01-01'') TO (''2031-01-01'') SERVER regress_tc_scope_server');

-- Only the owner scopes; nobody but a superuser takes out; nobody reaches the registry.
SET ROLE regress_tc_scope_other;
SELECT * FROM refusal('SELECT tenantcall.scope_table(''tc_scope.nulls'')');
SET ROLE regress_tc_scope_owner;
SELECT * FROM refusal('SELECT tenantcall.unscope_table(''by_bigint'')');
SELECT * FROM refusal('SELECT * FROM tenantcall.scope_registry');
SELECT * FROM refusal('DELETE FROM tenantcall.scope_registry');
SELECT * FROM refusal('TRUNCATE tenantcall.scope_registry');
SELECT * FROM refusal('SELECT * FROM tenantcall.scoped_tables');
SELECT * FROM refusal('DROP EVENT TRIGGER tenantcall_scope_ddl_end');
RESET ROLE;
GRANT EXECUTE ON FUNCTION tenantcall.unscope_table TO regress_tc_scope_owner;
SET ROLE regress_tc_scope_owner;
SELECT * FROM refusal('SELECT tenantcall.unscope_table(''by_bigint'')');
RESET ROLE;
REVOKE EXECUTE ON FUNCTION tenantcall.unscope_table FROM regress_tc_scope_owner;
SELECT proname FROM pg_proc
WHERE pronamespace = 'tenantcall'::regnamespace AND proname ~ 'scope' AND has_function_privilege('public', oid, 'EXECUTE');

-- The declarations run as the table's owner: his code does not run as the superuser who scopes.
SET ROLE regress_tc_scope_owner;
CREATE FUNCTION spy(int) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
    IF current_user <> 'regress_tc_scope_owner' THEN RAISE EXCEPTION 'evaluated as %', current_user; END IF;
    RETURN true;
END
$$;
CREATE TABLE trap (company_id bigint, id int, CHECK (spy(1)));
CREATE INDEX trap_idx ON trap (id) WHERE spy(2);
RESET ROLE;
SELECT tenantcall.scope_table('trap');

-- Taking a table out.
SELECT tenantcall.unscope_table('by_bigint');
\d by_bigint
CREATE POLICY mine ON by_uuid USING (true);
SELECT tenantcall.unscope_table('by_uuid');
\d by_uuid
SELECT * FROM refusal('SELECT tenantcall.unscope_table(''by_bigint'')');
SELECT * FROM refusal('SELECT tenantcall.unscope_table(''parted_1'')');
SELECT tenantcall.unscope_table('parted');
SELECT relation FROM tenantcall.scoped_tables WHERE relation::text ~ '^(by|parted)' ORDER BY 1;

-- The same online: after the plan scope_table() has only to declare.
SET ROLE regress_tc_scope_owner;
CREATE TABLE live (id int PRIMARY KEY, company_id bigint);
INSERT INTO live SELECT g, g % 3 FROM generate_series(1, 100) AS g;
CREATE TABLE live_parted (company_id int, id int) PARTITION BY LIST (id);
CREATE TABLE live_parted_1 PARTITION OF live_parted FOR VALUES IN (1) PARTITION BY LIST (company_id);
CREATE TABLE live_parted_1_a PARTITION OF live_parted_1 DEFAULT;
CREATE TABLE live_parted_2 PARTITION OF live_parted DEFAULT;
\t
SELECT tenantcall.scope_plan('live');
SELECT tenantcall.scope_plan('live_parted');
SELECT tenantcall.scope_plan('live') \gexec
SELECT tenantcall.scope_plan('live_parted') \gexec
SELECT tenantcall.scope_plan('live');
SELECT tenantcall.scope_plan('live_parted');
SELECT * FROM refusal('SELECT tenantcall.scope_plan(''seen'')');
SELECT * FROM refusal('SELECT tenantcall.scope_plan(''live'', ''nothing'')');
-- ... taken up where an interrupted build left an invalid index
CREATE TABLE halted (id int, company_id bigint NOT NULL);
SELECT (regexp_match(statement, 'CONCURRENTLY (\S+) ON'))[1] AS name FROM tenantcall.scope_plan('halted') AS statement LIMIT 1 \gset
CREATE INDEX :name ON halted (company_id);
RESET ROLE;
UPDATE pg_index SET indisvalid = false WHERE indexrelid = :'name'::regclass;
SET ROLE regress_tc_scope_owner;
SELECT tenantcall.scope_plan('halted');
\t
RESET ROLE;
\d live
SELECT i.relname, x.indisvalid FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
WHERE x.indrelid::regclass::text ~ '^live_parted' ORDER BY 1;

DROP TABLE passing, before;
DROP SCHEMA tc_scope, tc_scope_more CASCADE;
SELECT count(*) FROM tenantcall.scope_registry r WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = r.rel);
DROP SERVER regress_tc_scope_server;
DROP FOREIGN DATA WRAPPER regress_tc_scope_fdw;
DROP OWNED BY regress_tc_scope_owner, regress_tc_scope_other;
DROP ROLE regress_tc_scope_owner, regress_tc_scope_other;
