-- Isolation under attack: a naive table (policy on a setting) beside a scoped one.
-- Rows carry a letter for their company; what an attack shows is the letters it got.
SET client_min_messages = warning;
CREATE ROLE regress_tc_isolation_owner;
CREATE ROLE regress_tc_isolation_app;
CREATE SCHEMA naive AUTHORIZATION regress_tc_isolation_owner;
CREATE SCHEMA ours AUTHORIZATION regress_tc_isolation_owner;
GRANT USAGE ON SCHEMA naive, ours TO regress_tc_isolation_app;
GRANT EXECUTE ON FUNCTION tenantcall.scope_table TO regress_tc_isolation_owner;
-- More than an app role has: this one may enter any company, but only one in a transaction.
GRANT EXECUTE ON FUNCTION tenantcall.enter, tenantcall.enter_uuid TO regress_tc_isolation_app, regress_tc_isolation_owner;
SELECT tenantcall.create_company('Isolation A', 'DE', 'Europe/Berlin', 'aaaaaaaa-0000-4000-8000-00000000000a') AS a,
       tenantcall.create_company('Isolation B', 'DE', 'Europe/Berlin', 'bbbbbbbb-0000-4000-8000-00000000000b') AS b \gset

SET ROLE regress_tc_isolation_owner;
CREATE TABLE naive.visits (id int PRIMARY KEY, company_id bigint NOT NULL, label text, room int);
CREATE TABLE ours.visits (LIKE naive.visits INCLUDING ALL);
CREATE TABLE ours.visits_int (id int PRIMARY KEY, company_id int, label text);
CREATE TABLE ours.visits_uuid (id int PRIMARY KEY, company uuid, label text);
CREATE TABLE ours.visits_parted (id int, company_id bigint, label text) PARTITION BY HASH (id);
CREATE TABLE ours.visits_parted_0 PARTITION OF ours.visits_parted FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE ours.visits_parted_1 PARTITION OF ours.visits_parted FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO naive.visits SELECT g, CASE WHEN g % 2 = 1 THEN :a ELSE :b END, CASE WHEN g % 2 = 1 THEN 'A' ELSE 'B' END, g % 50
FROM generate_series(1, 1000) AS g;
INSERT INTO ours.visits SELECT * FROM naive.visits;
INSERT INTO ours.visits_int SELECT id, company_id, label FROM naive.visits;
INSERT INTO ours.visits_parted SELECT id, company_id, label FROM naive.visits;
INSERT INTO ours.visits_uuid SELECT id, CASE label WHEN 'A' THEN 'aaaaaaaa-0000-4000-8000-00000000000a'::uuid ELSE 'bbbbbbbb-0000-4000-8000-00000000000b' END, label
FROM naive.visits;
ALTER TABLE naive.visits ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON naive.visits USING (company_id = nullif(current_setting('app.company', true), '')::bigint);
CREATE INDEX ON naive.visits (company_id);
SELECT tenantcall.scope_table('ours.visits'), tenantcall.scope_table('ours.visits_int'),
       tenantcall.scope_table('ours.visits_uuid', 'company'), tenantcall.scope_table('ours.visits_parted');
CREATE FUNCTION ours.seen(rel regclass) RETURNS text LANGUAGE plpgsql AS $$
DECLARE letters text;
BEGIN
    EXECUTE format('SELECT string_agg(DISTINCT label || '' '' || n, '', '' ORDER BY label || '' '' || n) '
                   'FROM (SELECT label, count(*) AS n FROM %s GROUP BY label) AS x', rel) INTO letters;
    RETURN coalesce(letters, 'nothing');
END
$$;
CREATE FUNCTION ours.is_parallel(query text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE line text;
BEGIN
    FOR line IN EXECUTE 'EXPLAIN ' || query LOOP
        IF line ~ 'Gather' THEN RETURN true; END IF;
    END LOOP;
    RETURN false;
END
$$;
GRANT ALL ON ALL TABLES IN SCHEMA naive, ours TO regress_tc_isolation_app;
RESET ROLE;

-- Both companies' rows are there.
SELECT ours.seen('naive.visits') AS naive, ours.seen('ours.visits') AS bigint, ours.seen('ours.visits_int') AS int,
       ours.seen('ours.visits_uuid') AS uuid, ours.seen('ours.visits_parted') AS parted;

-- Without a tenant: nothing to read, or an error if so wished; an error on every write.
SET ROLE regress_tc_isolation_app;
SELECT ours.seen('ours.visits') AS bigint, ours.seen('ours.visits_int') AS int, ours.seen('ours.visits_uuid') AS uuid,
       ours.seen('ours.visits_parted') AS parted, ours.seen('ours.visits_parted_0') AS leaf;
SET tenantcall.missing_context = error;
SELECT count(*) FROM ours.visits;
\echo :LAST_ERROR_SQLSTATE
RESET tenantcall.missing_context;
INSERT INTO ours.visits VALUES (2001, :a, 'A');
\echo :LAST_ERROR_SQLSTATE
UPDATE ours.visits SET room = 1;
\echo :LAST_ERROR_SQLSTATE
DELETE FROM ours.visits_parted;
\echo :LAST_ERROR_SQLSTATE
DELETE FROM ours.visits_parted_1;
\echo :LAST_ERROR_SQLSTATE
INSERT INTO ours.visits_uuid VALUES (2001, 'aaaaaaaa-0000-4000-8000-00000000000a') ON CONFLICT DO NOTHING;
\echo :LAST_ERROR_SQLSTATE
MERGE INTO ours.visits AS v USING (SELECT 1 AS id) AS s ON v.id = s.id WHEN MATCHED THEN DELETE;
\echo :LAST_ERROR_SQLSTATE
TRUNCATE ours.visits;
\echo :LAST_ERROR_SQLSTATE
COPY ours.visits TO STDOUT;
\copy ours.visits FROM '/dev/null'

-- With a tenant: its rows only, by every plan.
BEGIN;
SELECT tenantcall.enter(:a);
SELECT ours.seen('ours.visits') AS bigint, ours.seen('ours.visits_int') AS int, ours.seen('ours.visits_uuid') AS uuid,
       ours.seen('ours.visits_parted') AS parted, ours.seen('ours.visits_parted_0') AS leaf;
SET LOCAL enable_seqscan = off;
SELECT ours.seen('ours.visits') AS index_scan;
SELECT id, label FROM ours.visits WHERE id IN (1, 2, 3, 4) ORDER BY id;
SET LOCAL enable_seqscan = on;
SELECT v.label, w.label, count(*) FROM ours.visits v JOIN ours.visits w ON v.room / 2 = w.room / 2 GROUP BY 1, 2;
SELECT v.label, p.label FROM ours.visits_int v FULL JOIN ours.visits_parted p USING (id) GROUP BY 1, 2;
SELECT max(id), min(id), count(DISTINCT label) FROM ours.visits;
SELECT id FROM ours.visits WHERE id = 2 FOR UPDATE;
-- writes: own rows, own company by default, no others
INSERT INTO ours.visits (id, label) VALUES (2001, 'A') RETURNING company_id = :a AS own;
INSERT INTO ours.visits_int (id, label) VALUES (2001, 'A') RETURNING company_id = :a AS own;
INSERT INTO ours.visits_parted (id, label) VALUES (2001, 'A') RETURNING company_id = :a AS own;
INSERT INTO ours.visits_uuid (id, label) VALUES (2001, 'A') RETURNING company;
UPDATE ours.visits SET room = 99 WHERE id = 2;
DELETE FROM ours.visits WHERE id = 2;
WITH gone AS (DELETE FROM ours.visits RETURNING label) SELECT label, count(*) FROM gone GROUP BY 1;
ROLLBACK;
\set attempt 'INSERT INTO ours.visits VALUES (2002, :b, ''B'')'
BEGIN; SELECT tenantcall.enter(:a) \g /dev/null
:attempt;
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
\set attempt 'UPDATE ours.visits SET company_id = :b WHERE id = 1'
BEGIN; SELECT tenantcall.enter(:a) \g /dev/null
:attempt;
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
\set attempt 'UPDATE ours.visits_parted SET company_id = :b WHERE id = 1'
BEGIN; SELECT tenantcall.enter(:a) \g /dev/null
:attempt;
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
\set attempt 'INSERT INTO ours.visits VALUES (2, :a, ''A'') ON CONFLICT (id) DO UPDATE SET label = ''A'''
BEGIN; SELECT tenantcall.enter(:a) \g /dev/null
:attempt;
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
\set attempt 'TRUNCATE ours.visits_parted'
BEGIN; SELECT tenantcall.enter(:a) \g /dev/null
:attempt;
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
-- a superuser is not bothered, but a row keeps its company
RESET ROLE;
UPDATE ours.visits SET company_id = :b WHERE id = 1;
SET session_replication_role = replica;
UPDATE ours.visits SET company_id = :b WHERE id = 1;
RESET session_replication_role;
UPDATE ours.visits SET room = 7, company_id = company_id WHERE id = 1;
SET ROLE regress_tc_isolation_app;

-- Attack: a second tenant in the same transaction.
BEGIN;
SET LOCAL app.company = :a;
SELECT ours.seen('naive.visits') AS first;
SET LOCAL app.company = :b;
SELECT ours.seen('naive.visits') AS second;
COMMIT;
BEGIN;
SELECT tenantcall.enter(:a);
SELECT ours.seen('ours.visits') AS first;
SAVEPOINT s;
SELECT tenantcall.enter(:b);
\echo :LAST_ERROR_SQLSTATE
ROLLBACK TO s;
SELECT ours.seen('ours.visits') AS second;
COMMIT;
-- ... after rolling back to before the first
BEGIN;
SAVEPOINT s;
SELECT tenantcall.enter(:a);
SELECT ours.seen('ours.visits') AS first;
ROLLBACK TO s;
SELECT ours.seen('ours.visits') AS back;
SELECT tenantcall.enter(:b);
\echo :LAST_ERROR_SQLSTATE
COMMIT;
-- ... in an exception block
BEGIN;
SELECT tenantcall.enter(:a) \g /dev/null
SELECT set_config('regress.other', :'b', true) \g /dev/null
DO $$
BEGIN
    BEGIN
        PERFORM tenantcall.enter(current_setting('regress.other')::bigint);
    EXCEPTION WHEN SQLSTATE 'PT403' THEN
        RAISE WARNING '%: %, sees %', sqlstate, sqlerrm, ours.seen('ours.visits');
    END;
    RAISE WARNING 'then sees %', ours.seen('ours.visits');
END
$$;
COMMIT;

-- Attack: an open cursor while the tenant changes.
BEGIN;
SET LOCAL app.company = :a;
DECLARE c CURSOR FOR SELECT label FROM naive.visits ORDER BY id;
FETCH 1 FROM c;
SET LOCAL app.company = :b;
FETCH 1 FROM c;
SELECT ours.seen('naive.visits');
COMMIT;
BEGIN;
SELECT tenantcall.enter(:a) \g /dev/null
DECLARE c CURSOR FOR SELECT label FROM ours.visits ORDER BY id;
FETCH 1 FROM c;
SAVEPOINT s;
RESET tenantcall.company_id;
ROLLBACK TO s;
SELECT tenantcall.enter(:b);
ROLLBACK TO s;
FETCH 1 FROM c;
COMMIT;

-- Attack: set the context by hand.
SET app.company = :b;
SELECT ours.seen('naive.visits') AS naive;
SET tenantcall.company_id = :b;
\echo :LAST_ERROR_SQLSTATE
SET SESSION tenantcall.company_id = :b;
SELECT set_config('tenantcall.company_id', :'b', false);
BEGIN;
SET LOCAL tenantcall.company_id = :b;
ROLLBACK;
BEGIN;
SELECT tenantcall.enter(:a) \g /dev/null
SAVEPOINT s;
SELECT set_config('tenantcall.company_id', :'b', true);
ROLLBACK TO s;
UPDATE pg_settings SET setting = :'b' WHERE name = 'tenantcall.company_id';
ROLLBACK;
CREATE FUNCTION pg_temp.other() RETURNS text LANGUAGE sql SET tenantcall.company_id = '2' AS $$ SELECT 'x' $$;
ALTER ROLE CURRENT_USER SET tenantcall.company_id = '2';
BEGIN;
SELECT tenantcall.enter(:a) \g /dev/null
SHOW tenantcall.company_id \g /dev/null
RESET ALL;
SELECT ours.seen('ours.visits') AS after_reset_all;
COMMIT;
DISCARD ALL;
SET ROLE regress_tc_isolation_app;
SELECT ours.seen('ours.visits') AS after_discard_all;
-- even when a superuser pins it to the role or the function
RESET ROLE;
ALTER ROLE regress_tc_isolation_app SET tenantcall.company_id = '2';
CREATE FUNCTION ours.pinned() RETURNS text LANGUAGE sql SET tenantcall.company_id = '2' AS $$ SELECT ours.seen('ours.visits') $$;
SET tenantcall.company_id = '2';

-- Attack: plans that outlive a tenant.
\c -
SET client_min_messages = warning;
SET ROLE regress_tc_isolation_app;
SET plan_cache_mode = force_generic_plan;
PREPARE letters AS SELECT string_agg(DISTINCT label, ', ') FROM ours.visits;
PREPARE letters_by_id(int) AS SELECT label FROM ours.visits WHERE id = $1;
PREPARE letters_parted AS SELECT string_agg(DISTINCT label, ', ') FROM ours.visits_parted;
EXECUTE letters;
BEGIN; SELECT tenantcall.enter(:a) \g /dev/null
EXECUTE letters; EXECUTE letters_by_id(1); EXECUTE letters_by_id(2); EXECUTE letters_parted;
COMMIT;
BEGIN; SELECT tenantcall.enter(:b) \g /dev/null
EXECUTE letters; EXECUTE letters_by_id(1); EXECUTE letters_by_id(2); EXECUTE letters_parted;
COMMIT;
EXECUTE letters;
RESET plan_cache_mode;
-- ... a plan made by somebody whom row security does not bind
RESET ROLE;
PREPARE all_letters AS SELECT string_agg(DISTINCT label, ', ' ORDER BY label) FROM ours.visits;
EXECUTE all_letters;
SET ROLE regress_tc_isolation_app;
EXECUTE all_letters;

-- Attack: parallel workers.
SELECT set_config(name, CASE WHEN name LIKE 'min%' OR name LIKE 'parallel%' THEN '0' WHEN name LIKE 'max%' THEN '4' ELSE 'on' END, false)
FROM pg_settings
WHERE name IN ('force_parallel_mode', 'debug_parallel_query', 'min_parallel_table_scan_size', 'min_parallel_index_scan_size',
               'parallel_setup_cost', 'parallel_tuple_cost', 'max_parallel_workers_per_gather') \g /dev/null
BEGIN; SELECT tenantcall.enter(:a) \g /dev/null
SET LOCAL enable_bitmapscan = off;
SELECT ours.is_parallel('SELECT label, count(*) FROM ours.visits GROUP BY label');
SELECT label, count(*) FROM ours.visits GROUP BY label;
SELECT label, count(*) FROM ours.visits_parted GROUP BY label;
SELECT label, count(*) FROM ours.visits_uuid GROUP BY label;
SET LOCAL enable_seqscan = off;
SELECT label, count(*) FROM ours.visits_int WHERE id < 900 GROUP BY label;
COMMIT;
SELECT label, count(*) FROM ours.visits GROUP BY label;
RESET ALL;
SET client_min_messages = warning;

-- Attack: functions of others.  The table's owner is bound; a superuser's function is trusted.
RESET ROLE;
CREATE FUNCTION ours.by_owner(rel regclass) RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT ours.seen(rel) $$;
ALTER FUNCTION ours.by_owner OWNER TO regress_tc_isolation_owner;
SET ROLE regress_tc_isolation_app;
SELECT ours.by_owner('naive.visits') AS naive, ours.by_owner('ours.visits') AS ours;
BEGIN; SELECT tenantcall.enter(:a) \g /dev/null
SELECT ours.by_owner('naive.visits') AS naive, ours.by_owner('ours.visits') AS ours;
COMMIT;
SET ROLE regress_tc_isolation_owner;
SELECT ours.seen('naive.visits') AS naive, ours.seen('ours.visits') AS ours;
SET row_security = off;
SELECT count(*) FROM ours.visits;
RESET row_security;
-- ... a function that leaks its argument is evaluated after the policy
CREATE FUNCTION ours.leak(text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$
BEGIN
    IF $1 = 'B' THEN RAISE WARNING 'leaked %', $1; END IF;
    RETURN true;
END
$$;
SET ROLE regress_tc_isolation_app;
BEGIN; SELECT tenantcall.enter(:a) \g /dev/null
SELECT label, count(*) FROM ours.visits WHERE ours.leak(label) GROUP BY 1;
SELECT count(*) FROM ours.visits WHERE 1 / (CASE label WHEN 'B' THEN 0 ELSE 1 END) = 1;
COMMIT;

-- Deferred triggers and constraints run in the context of their transaction.
RESET ROLE;
CREATE TABLE ours.later (id int, company_id bigint DEFAULT tenantcall.current_company_id());
CREATE FUNCTION ours.at_commit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE WARNING 'at commit sees %', ours.seen('ours.visits'); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON ours.later DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION ours.at_commit();
GRANT ALL ON ours.later TO regress_tc_isolation_app;
SET ROLE regress_tc_isolation_app;
BEGIN; SELECT tenantcall.enter(:a) \g /dev/null
INSERT INTO ours.later VALUES (1);
COMMIT;

-- The context ends with its transaction, also in a chain and in procedures.
BEGIN; SELECT tenantcall.enter(:a) \g /dev/null
COMMIT AND CHAIN;
SELECT ours.seen('ours.visits') AS chained;
SELECT tenantcall.enter(:b) \g /dev/null
SELECT ours.seen('ours.visits') AS chained;
ROLLBACK AND CHAIN;
SELECT ours.seen('ours.visits') AS chained;
COMMIT;
RESET ROLE;
CREATE PROCEDURE ours.loop() LANGUAGE plpgsql AS $$
BEGIN
    RAISE WARNING 'sees %', ours.seen('ours.visits');
    COMMIT;
    RAISE WARNING 'sees %', ours.seen('ours.visits');
END
$$;
SET ROLE regress_tc_isolation_app;
CALL ours.loop();

RESET ROLE;
DROP SCHEMA naive, ours CASCADE;
DROP OWNED BY regress_tc_isolation_owner, regress_tc_isolation_app;
DROP ROLE regress_tc_isolation_owner, regress_tc_isolation_app;
