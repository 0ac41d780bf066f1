-- SET LOCAL tenantcall.token: a token as a setting
SET client_min_messages = warning;
CREATE ROLE regress_tc_tset_app LOGIN;
CREATE ROLE regress_tc_tset_other LOGIN;
GRANT EXECUTE ON FUNCTION tenantcall.enter_token, tenantcall.enter TO regress_tc_tset_app;
SELECT tenantcall.create_company('Setting A', 'DE', 'Europe/Berlin') AS a, tenantcall.create_company('Setting B', 'DE', 'Europe/Berlin') AS b \gset
SELECT tenantcall.sign_token(:a, NULL, '1 hour') AS token_a, tenantcall.sign_token(:b, NULL, '1 hour') AS token_b,
       tenantcall.sign_token(:a, NULL, '1 hour', 'regress_tc_tset_app') AS token_role,
       tenantcall.sign_token(:a, NULL, '1 hour', 'regress_tc_tset_other') AS token_other \gset
CREATE SCHEMA tset;
CREATE TABLE tset.visits (company_id bigint, label text);
INSERT INTO tset.visits SELECT CASE WHEN g % 2 = 0 THEN :a ELSE :b END, CASE WHEN g % 2 = 0 THEN 'A' ELSE 'B' END FROM generate_series(1, 2000) g;
SELECT tenantcall.scope_table('tset.visits') \g /dev/null
CREATE VIEW tset.seen WITH (security_invoker) AS SELECT coalesce(string_agg(DISTINCT label, ','), '-') AS seen, count(*) AS rows FROM tset.visits;
CREATE FUNCTION tset.sees() RETURNS text LANGUAGE sql AS $$ SELECT seen FROM tset.seen $$;
-- sqlstate, message, detail and hint of a statement that fails
CREATE FUNCTION tset.refusal(statement text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    detail text; hint text;
BEGIN
    EXECUTE statement;
    RETURN NEXT 'NO ERROR';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN NEXT sqlstate || ': ' || sqlerrm;
    RETURN NEXT '  ' || detail;
    RETURN NEXT '  ' || hint;
END
$$;
GRANT USAGE ON SCHEMA tset TO PUBLIC;
GRANT ALL ON tset.visits, tset.seen TO PUBLIC;
SET SESSION AUTHORIZATION regress_tc_tset_app;

-- It enters; nothing keeps the token or shows it.
BEGIN;
SET LOCAL tenantcall.token = :'token_a';
SELECT * FROM tset.seen;
SELECT tenantcall.current_company_id() = :a AS entered, current_setting('tenantcall.company_id') = :'a' AS displayed;
SHOW tenantcall.token;
SELECT current_setting('tenantcall.token'), set_config('tenantcall.token', :'token_a', true);
SELECT count(*) FROM pg_settings WHERE :'token_a' IN (setting, boot_val, reset_val) OR name = 'tenantcall.token' AND concat(setting, boot_val, reset_val) <> '';
COMMIT;
SELECT * FROM tset.seen;

-- Outside of a transaction block it is refused, whatever it says; a plain SET ends with its transaction.
SET tenantcall.token = :'token_a';
SET tenantcall.token = 'nonsense';
SELECT set_config('tenantcall.token', :'token_a', false);
BEGIN;
SET tenantcall.token = :'token_a';
SELECT * FROM tset.seen;
COMMIT AND CHAIN;
SELECT * FROM tset.seen;
COMMIT;
SELECT * FROM tset.seen;
SELECT tenantcall.current_company_id();
SELECT set_config(name, 'on', false) IS NOT NULL AS forced FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query');
SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
-- ... nor do parallel workers revive what it left
SELECT * FROM tset.seen;
BEGIN;
SET LOCAL tenantcall.token = :'token_b';
SELECT * FROM tset.seen;
ROLLBACK;
SELECT * FROM tset.seen;
SELECT set_config(name, 'off', false) IS NOT NULL AS forced FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query');
RESET tenantcall.token;

-- Set once, with enter() as well.
BEGIN;
SET LOCAL tenantcall.token = :'token_a';
SET LOCAL tenantcall.token = :'token_a';
SELECT tenantcall.enter_token(:'token_a');
SET LOCAL tenantcall.token = :'token_a';
SELECT tset.sees();
SELECT * FROM tset.refusal(format('SET LOCAL tenantcall.token = %L', :'token_b'));
SELECT * FROM tset.refusal(format('SELECT tenantcall.enter_token(%L)', :'token_b'));
SELECT * FROM tset.refusal(format('SELECT tenantcall.enter(%s)', :b));
SELECT tset.sees();
-- RESET clears, never switches
RESET tenantcall.token;
SELECT tset.sees();
RESET ALL;
SELECT tset.sees();
SELECT * FROM tset.refusal(format('SET LOCAL tenantcall.token = %L', :'token_b'));
SET LOCAL tenantcall.token = :'token_a';
SELECT tset.sees();
SET LOCAL tenantcall.token = '';
SELECT tset.sees();
ROLLBACK;
BEGIN;
SELECT tenantcall.enter(:a);
SELECT * FROM tset.refusal(format('SET LOCAL tenantcall.token = %L', :'token_b'));
SET LOCAL tenantcall.token = :'token_a';
SELECT tset.sees();
ROLLBACK;

-- Savepoints undo the setting, never the seal.
BEGIN;
SAVEPOINT s;
SET LOCAL tenantcall.token = :'token_a';
SELECT tset.sees();
ROLLBACK TO s;
SELECT tset.sees();
SELECT * FROM tset.refusal(format('SET LOCAL tenantcall.token = %L', :'token_b'));
SET LOCAL tenantcall.token = :'token_a';
SAVEPOINT t;
RESET tenantcall.token;
SELECT tset.sees();
ROLLBACK TO t;
SELECT tset.sees();
ROLLBACK;

-- Functions with a SET clause: of their own they can only clear, and what they enclose comes back.
BEGIN;
SET LOCAL tenantcall.token = :'token_a';
SELECT * FROM tset.refusal(format('CREATE FUNCTION pg_temp.f() RETURNS text LANGUAGE sql SET tenantcall.token = %L AS $f$ SELECT seen FROM tset.seen $f$', :'token_b'));
CREATE FUNCTION pg_temp.f() RETURNS text LANGUAGE sql SET tenantcall.token FROM CURRENT AS $f$ SELECT seen FROM tset.seen $f$;
SELECT pg_temp.f(), tset.sees();
SELECT * FROM tset.refusal(format('ALTER FUNCTION pg_temp.f() SET tenantcall.token = %L', :'token_a'));
ROLLBACK;

-- No other way brings one.
SELECT * FROM tset.refusal(format('ALTER ROLE regress_tc_tset_app SET tenantcall.token = %L', :'token_a'));
RESET SESSION AUTHORIZATION;
SELECT * FROM tset.refusal(format('ALTER DATABASE %I SET tenantcall.token = %L', current_database(), :'token_a'));
ALTER SYSTEM SET tenantcall.token = 'x';
SET SESSION AUTHORIZATION regress_tc_tset_app;

-- Every fault is the same; a token for this role is good, one for another role is not.
CREATE FUNCTION pg_temp.broken(token text) RETURNS text LANGUAGE sql AS $$ SELECT overlay(token placing CASE WHEN substr(token, length(token) - 5, 1) = 'A' THEN 'B' ELSE 'A' END from length(token) - 5 for 1) $$;
BEGIN;
SELECT * FROM tset.refusal('SET LOCAL tenantcall.token = ''nonsense''');
SELECT DISTINCT r FROM unnest(ARRAY['1:0:00000000000000000000000000000000:00000000000000000000000000000000', ' ', :'token_other',
    pg_temp.broken(:'token_a'), :'token_a' || '.', 'x' || :'token_a', repeat('x', 9000)]) AS t, tset.refusal(format('SET LOCAL tenantcall.token = %L', t)) AS r;
SET LOCAL tenantcall.token = :'token_role';
SELECT tset.sees();
ROLLBACK;

RESET SESSION AUTHORIZATION;
DROP SCHEMA tset CASCADE;
DROP OWNED BY regress_tc_tset_app, regress_tc_tset_other;
DROP ROLE regress_tc_tset_app, regress_tc_tset_other;
