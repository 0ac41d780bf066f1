-- context: enter, enter_uuid, enter_phone, and what current_...() give, as roles that own nothing
SET client_min_messages = warning;
\set SHOW_CONTEXT never
CREATE ROLE regress_tc_context_gateway;
CREATE ROLE regress_tc_context_app;
SELECT tenantcall.grant_gateway('regress_tc_context_gateway');
SELECT tenantcall.grant_app('regress_tc_context_app');
\set one_uuid c0000000-0000-4000-8000-000000000001
SELECT tenantcall.create_company('context one', 'DE', 'Europe/Berlin', :'one_uuid') AS one,
       tenantcall.create_company('context two', 'DE', 'Europe/Berlin') AS two \gset
BEGIN;
SELECT tenantcall.enter(:one);
INSERT INTO telephony.branches (name, external_id) VALUES ('b', 'c0000000-0000-4000-8000-0000000000b1')
RETURNING branch_id AS branch, external_id AS branch_uuid \gset
COMMIT;
SELECT tenantcall.assign_number('+49309990001', :one, :branch) AS number_id \gset
-- ids differ from run to run: show them by name
CREATE FUNCTION context_now(OUT company text, OUT branch text, OUT company_uuid text, OUT branch_uuid text)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
SELECT CASE tenantcall.current_company_id() WHEN current_setting('regress.one')::bigint THEN 'one'
                                            WHEN current_setting('regress.two')::bigint THEN 'two' END,
       CASE tenantcall.current_branch_id() WHEN current_setting('regress.branch')::bigint THEN 'b' END,
       right(tenantcall.current_company_uuid()::text, 4), right(tenantcall.current_branch_uuid()::text, 4)
$$;
SELECT set_config('regress.one', :'one', false), set_config('regress.two', :'two', false),
       set_config('regress.branch', :'branch', false) \gset ignored_
SET ROLE regress_tc_context_gateway;

-- nothing entered
SELECT * FROM context_now();
SHOW tenantcall.company_id;
SELECT count(*) FROM telephony.branches;

-- each way in
BEGIN;
SELECT tenantcall.enter(:one);
SELECT company, branch, company_uuid, branch_uuid FROM context_now();
SELECT current_setting('tenantcall.company_id') = :'one' AS shown, count(*) FROM telephony.branches;
COMMIT;
SELECT * FROM context_now();
SELECT current_setting('tenantcall.company_id') = '' AS empty_again;
BEGIN;
SELECT tenantcall.enter(:one, :branch);
SELECT * FROM context_now();
ROLLBACK;
SELECT * FROM context_now();
BEGIN;
SELECT tenantcall.enter_uuid(:'one_uuid');
SELECT * FROM context_now();
COMMIT;
BEGIN;
SELECT tenantcall.enter_uuid(:'one_uuid', :'branch_uuid');
SELECT * FROM context_now();
COMMIT;
BEGIN;
SELECT company_id = :one AS company, branch_id = :branch AS branch, phone_number_id = :number_id AS number,
       company_status FROM tenantcall.enter_phone('+49309990001');
SELECT * FROM context_now();
COMMIT AND CHAIN;
SELECT * FROM context_now();
COMMIT;

-- a transaction block is needed
SELECT tenantcall.enter(:one);
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.enter_phone('+49309990001');
\echo :LAST_ERROR_SQLSTATE
DO $$ BEGIN PERFORM tenantcall.enter(current_setting('regress.one')::bigint); END $$;
\echo :LAST_ERROR_SQLSTATE

-- bad input
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT tenantcall.enter(NULL);
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.enter(0);
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.enter(-5);
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.enter(9223372036854775807);
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.enter(9223372036854775806, 0);
\echo :LAST_ERROR_SQLSTATE
\set VERBOSITY terse
SELECT tenantcall.enter(:two, :branch);
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.enter_uuid(NULL);
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.enter_uuid('00000000-0000-0000-0000-000000000000');
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.enter_uuid('c0000000-0000-4000-8000-00000000dead');
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.enter_uuid(:'one_uuid', 'c0000000-0000-4000-8000-00000000dead');
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.enter_phone(NULL);
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.enter_phone('');
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.enter_phone('030 1234');
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.enter_phone('+49309990002');
\echo :LAST_ERROR_SQLSTATE
\set VERBOSITY default
-- none of these has entered anything, and the right one still can
SELECT * FROM context_now();
SELECT tenantcall.enter(:one);
SELECT company FROM context_now();

-- set once: the same again is fine, another company or branch is not
SELECT tenantcall.enter(:one);
SELECT tenantcall.enter(:two);
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.enter(:one, :branch);
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.enter_phone('+49309990001');
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.enter_uuid(:'one_uuid');
SELECT company, branch FROM context_now();
COMMIT;

-- savepoints take the context back, never the seal
BEGIN;
SAVEPOINT s;
SELECT tenantcall.enter(:one);
ROLLBACK TO s;
SELECT company FROM context_now();
SELECT tenantcall.enter(:two);
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.enter(:one);
SAVEPOINT t;
SELECT 1 / 0;
ROLLBACK TO t;
RELEASE s;
SELECT company FROM context_now();
COMMIT;

-- blocks with handlers
BEGIN;
DO $$
BEGIN
    BEGIN
        PERFORM tenantcall.enter(current_setting('regress.one')::bigint);
        RAISE EXCEPTION 'undone';
    EXCEPTION WHEN raise_exception THEN
        RAISE WARNING 'handler: company %', (context_now()).company;
    END;
    BEGIN
        PERFORM tenantcall.enter(current_setting('regress.two')::bigint);
    EXCEPTION WHEN OTHERS THEN
        RAISE WARNING '%: %', SQLSTATE, SQLERRM;
    END;
    PERFORM tenantcall.enter(current_setting('regress.one')::bigint);
END
$$;
SELECT company FROM context_now();
COMMIT;
\set ON_ERROR_ROLLBACK off

-- nobody sets or resets it by hand; RESET ALL may clear it, which is no way to another company
BEGIN;
SELECT tenantcall.enter(:one);
SAVEPOINT s;
SET LOCAL tenantcall.company_id = '1:0:00000000000000000000000000000000:00000000000000000000000000000000';
\echo :LAST_ERROR_SQLSTATE
ROLLBACK TO s;
SELECT set_config('tenantcall.company_id', '7', true);
ROLLBACK TO s;
UPDATE pg_settings SET setting = '7' WHERE name = 'tenantcall.company_id';
ROLLBACK TO s;
SELECT company FROM context_now();
RESET tenantcall.company_id;
ROLLBACK TO s;
RESET ALL;
SELECT tenantcall.current_company_id();
SAVEPOINT s;
SELECT tenantcall.enter(:two);
\echo :LAST_ERROR_SQLSTATE
ROLLBACK TO s;
SELECT tenantcall.enter(:one);
SELECT current_setting('tenantcall.company_id') = :'one' AS entered_again;
COMMIT;
SELECT set_config('regress.one', :'one', false), set_config('regress.two', :'two', false),
       set_config('regress.branch', :'branch', false) \gset ignored_

-- reads without a context: empty, or an error
SET tenantcall.missing_context = error;
SELECT tenantcall.current_company_id();
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.current_branch_uuid();
SELECT count(*) FROM telephony.branches;
\echo :LAST_ERROR_SQLSTATE
BEGIN;
SELECT tenantcall.enter(:one);
SELECT count(*) FROM telephony.branches;
COMMIT;
SET tenantcall.missing_context = maybe;
RESET tenantcall.missing_context;

-- parallel workers see it
RESET ROLE;
CREATE TABLE context_many AS SELECT :one::bigint AS company_id FROM generate_series(1, 10000);
GRANT SELECT ON context_many TO regress_tc_context_gateway;
ANALYZE context_many;
SET ROLE regress_tc_context_gateway;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
EXPLAIN (COSTS OFF) SELECT count(*) FROM context_many WHERE company_id = tenantcall.current_company_id();
SELECT count(*) FROM context_many WHERE company_id = tenantcall.current_company_id();
BEGIN;
SELECT tenantcall.enter(:one);
SELECT count(*) FROM context_many WHERE company_id = tenantcall.current_company_id();
COMMIT;

-- a suspended company can be entered and read
RESET ROLE;
SELECT tenantcall.set_company_status(:one, 'suspended', 'test');
SET ROLE regress_tc_context_gateway;
BEGIN;
SELECT company_status FROM tenantcall.enter_phone('+49309990001');
SELECT company, branch FROM context_now();
SELECT count(*) FROM telephony.branches;
COMMIT;

-- app roles enter by token only; test mode is for superusers
SET ROLE regress_tc_context_app;
BEGIN;
SELECT tenantcall.enter(:one);
ROLLBACK;
SELECT tenantcall.enter_phone('+49309990001');
SELECT * FROM tenantcall.resolve_phone('+49309990001');
SET tenantcall.test_mode = on;
RESET ROLE;
BEGIN;
SET LOCAL tenantcall.test_mode = on;
SELECT tenantcall.enter(:one);
SELECT tenantcall.enter(:two);
SELECT company FROM context_now();
COMMIT;
BEGIN;
SELECT tenantcall.enter(:one);
PREPARE TRANSACTION 'context';
SELECT * FROM context_now();
ROLLBACK PREPARED 'context';

DROP TABLE context_many;
DROP FUNCTION context_now();
DROP OWNED BY regress_tc_context_gateway, regress_tc_context_app;
DROP ROLE regress_tc_context_gateway, regress_tc_context_app;
