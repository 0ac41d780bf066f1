-- directory: companies, numbers and agents, kept by an admin role that owns nothing
SET client_min_messages = warning;
\set SHOW_CONTEXT never
CREATE ROLE regress_tc_directory_admin;
CREATE ROLE regress_tc_directory_gateway;
CREATE ROLE regress_tc_directory_app;
SELECT tenantcall.grant_admin('regress_tc_directory_admin'), tenantcall.grant_gateway('regress_tc_directory_gateway'),
       tenantcall.grant_app('regress_tc_directory_app');
CREATE FUNCTION directory_try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    detail text;
    hint text;
BEGIN
    EXECUTE statement;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(' | ', sqlstate || ' ' || sqlerrm, nullif(detail, ''), nullif(hint, ''));
END
$$;
SET ROLE regress_tc_directory_admin;

-- companies
SELECT tenantcall.create_company('directory one', 'DE', 'Europe/Berlin', 'd0000000-0000-4000-8000-000000000001') AS one,
       tenantcall.create_company('directory two', NULL, 'America/New_York') AS two \gset
SELECT tenantcall.create_company(NULL, 'DE', 'UTC');
SELECT tenantcall.create_company('', 'DE', 'UTC');
SELECT tenantcall.create_company('x', 'de', 'UTC');
SELECT tenantcall.create_company('x', 'DEU', 'UTC');
SELECT tenantcall.create_company('x', '', 'UTC');
SELECT tenantcall.create_company('x', 'DE', NULL);
SELECT tenantcall.create_company('x', 'DE', '');
SELECT tenantcall.create_company('x', 'DE', 'Mars/Phobos');
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.create_company('x', 'DE', '../../etc/passwd');
SELECT tenantcall.create_company('x', 'DE', 'UTC', '00000000-0000-0000-0000-000000000000');
\set VERBOSITY terse
SELECT tenantcall.create_company('x', 'DE', 'UTC', 'd0000000-0000-4000-8000-000000000001');
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.create_company(repeat('x', 201), 'DE', 'UTC');
\echo :LAST_ERROR_SQLSTATE
\set VERBOSITY default

-- status
SELECT tenantcall.set_company_status(:one, 'closed', 'x');
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.set_company_status(:one, NULL, 'x');
SELECT tenantcall.set_company_status(NULL, 'active', 'x');
SELECT tenantcall.set_company_status(9223372036854775807, 'active', 'x');
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.set_company_status(:two, 'suspended', 'unpaid');
BEGIN;
SELECT tenantcall.enter(:two);
SELECT name, status, status_reason, phone_region, time_zone FROM telephony.companies;
COMMIT;
SELECT tenantcall.set_company_status(:two, 'active');

-- time zones are names of the IANA data base, names have an end
SELECT zone, CASE WHEN pg_input IS NULL THEN 'taken' ELSE pg_input END AS answer FROM unnest(ARRAY['Europe/Berlin', 'Etc/GMT+5', 'UTC',
    'UTC+3', 'Foo5', 'Foo/Bar5', '<+03>-3', 'europe/berlin', 'CEST', 'Mars/Olympus', '+02:00', '']) AS zone,
    LATERAL (SELECT directory_try(format('SELECT tenantcall.create_company(%L, %L, %L)', 'zone', 'DE', zone)) AS pg_input) AS t;
SELECT directory_try(format('SELECT tenantcall.create_company(%L, %L, %L)', repeat('ü', n), 'DE', 'UTC')) FROM generate_series(200, 201) AS n;
SELECT directory_try(format('SELECT tenantcall.assign_agent(%L, %s)', repeat('a', 201), :one));
SELECT directory_try(format('SELECT tenantcall.set_webhook_key(%L, %L, %L)', 'retell', repeat('a', 201), 'x'));
SELECT directory_try(format('SELECT tenantcall.set_credential(%L, %L, %L)', repeat('a', 201), 'x', 'https://x'));
BEGIN;
SELECT tenantcall.enter(:two);
SELECT directory_try(format('INSERT INTO telephony.branches (name, time_zone) VALUES (%L, %L)', 'zone', zone)) FROM unnest('{America/New_York,UTC-3,NULL}'::text[]) AS zone;
SELECT directory_try($q$UPDATE telephony.branches SET time_zone = 'Bar-2' WHERE name = 'zone'$q$);
SELECT directory_try($q$UPDATE telephony.branches SET name = 'zoned' WHERE name = 'zone'$q$);
ROLLBACK;
RESET ROLE;
SELECT directory_try(format('UPDATE telephony.companies SET time_zone = %L WHERE company_id = %s', 'UTC+3', :two));
DROP FUNCTION directory_try(text);
SET ROLE regress_tc_directory_admin;

-- branches are the companies' own rows
BEGIN;
SELECT tenantcall.enter(:one);
INSERT INTO telephony.branches (name) VALUES ('one a') RETURNING branch_id AS one_a \gset
INSERT INTO telephony.branches (name) VALUES ('one b') RETURNING branch_id AS one_b \gset
COMMIT;
BEGIN;
SELECT tenantcall.enter(:two);
INSERT INTO telephony.branches (name) VALUES ('two a') RETURNING branch_id AS two_a \gset
COMMIT;

-- numbers
SELECT tenantcall.assign_number('+49308880001', :one, :one_a) AS first_id \gset
SELECT tenantcall.assign_number('+49308880001', :one, :one_a) = :first_id AS again_is_the_same;
\set VERBOSITY terse
SELECT tenantcall.assign_number('+49308880001', :one, :one_b);
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.assign_number('+49308880001', :two, :two_a);
\echo :LAST_ERROR_SQLSTATE
\set VERBOSITY sqlstate
SELECT tenantcall.assign_number('+49308880002', :one, :two_a);
\set VERBOSITY terse
\echo :LAST_ERROR_SQLSTATE
\set VERBOSITY default
SELECT tenantcall.assign_number(NULL, :one, :one_a);
SELECT tenantcall.assign_number('', :one, :one_a);
SELECT tenantcall.assign_number('+49308880002', NULL, :one_a);
SELECT tenantcall.assign_number('+49308880002', :one, NULL);
SELECT tenantcall.assign_number('+49308880002', 0, 0);
SELECT tenantcall.assign_number('+49308880002', 9223372036854775807, 1);
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.assign_number('anonymous', :one, :one_a);
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.assign_number('+4930', :one, :one_a);
SELECT tenantcall.assign_number('+493088800012345678', :one, :one_a);
SELECT tenantcall.assign_number('+0308880001', :one, :one_a);
-- without a region, a number in national format means nothing
SELECT tenantcall.assign_number('030 8880002', :two, :two_a);
\echo :LAST_ERROR_SQLSTATE
-- other ways to write the same number find it
SELECT company_id = :one AS one, branch_id = :one_a AS a, company_status
FROM tenantcall.resolve_phone('+49308880001');
SELECT count(*) FROM tenantcall.resolve_phone('+49308880002');
SELECT * FROM tenantcall.resolve_phone(NULL);
SELECT * FROM tenantcall.resolve_phone('nonsense');
\echo :LAST_ERROR_SQLSTATE

-- a move releases and assigns; history stays without gap or overlap
SELECT tenantcall.move_number('+49308880001', :one, :one_a) = :first_id AS nothing_to_move;
SELECT tenantcall.move_number('+49308880001', :one, :one_b) <> :first_id AS another_row;
SELECT tenantcall.move_number('+49308880001', :two, :two_a) <> :first_id AS another_row;
SELECT company_id = :two AS two, branch_id = :two_a AS a FROM tenantcall.resolve_phone('+49308880001');
SELECT tenantcall.move_number('+49308880009', :two, :two_a);
\echo :LAST_ERROR_SQLSTATE
\set VERBOSITY sqlstate
SELECT tenantcall.move_number('+49308880001', :two, 9223372036854775807) IS NULL;
\set VERBOSITY default
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.release_number('+49308880001');
SELECT tenantcall.release_number('+49308880001');
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.release_number(NULL);
SELECT count(*) FROM tenantcall.resolve_phone('+49308880001');
SELECT tenantcall.assign_number('+49308880001', :one, :one_a) <> :first_id AS a_new_row;
RESET ROLE;
SELECT CASE company_id WHEN :one THEN 'one' ELSE 'two' END AS company, released_at IS NULL AS open,
       CASE WHEN released_at IS NOT NULL THEN assigned_at = lag(released_at) OVER w END AS contiguous, assigned_at >= lag(released_at) OVER w AS in_order
FROM telephony.phone_numbers WHERE number = '+49308880001' WINDOW w AS (ORDER BY phone_number_id) ORDER BY phone_number_id;
SET ROLE regress_tc_directory_admin;

-- a suspended company keeps its numbers, and may be given some
SELECT tenantcall.set_company_status(:two, 'suspended', 'unpaid');
SELECT tenantcall.assign_number('+49308880003', :two, :two_a) IS NOT NULL AS assigned;
SELECT company_status FROM tenantcall.resolve_phone('+49308880003');
SELECT tenantcall.set_company_status(:two, 'active');

-- agents
SELECT tenantcall.assign_agent('directory agent', :one);
SELECT tenantcall.assign_agent('directory agent', :one, :one_b);
\set VERBOSITY terse
SELECT tenantcall.assign_agent('directory agent', :two);
\echo :LAST_ERROR_SQLSTATE
\set VERBOSITY sqlstate
SELECT tenantcall.assign_agent('directory agent 2', :two, :one_a);
\set VERBOSITY terse
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.assign_agent(repeat('x', 201), :two);
\echo :LAST_ERROR_SQLSTATE
\set VERBOSITY default
SELECT tenantcall.assign_agent(NULL, :two);
SELECT tenantcall.assign_agent('', :two);
SELECT tenantcall.assign_agent('x', NULL);
SELECT tenantcall.assign_agent('x', :two, 0);
SELECT tenantcall.release_agent('directory agent');
SELECT tenantcall.release_agent('directory agent');
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.release_agent(NULL);
SELECT tenantcall.assign_agent('directory agent', :two);

-- webhook keys and credentials
SELECT tenantcall.set_webhook_key('retell', 'directory key', 'secret', :one);
\set VERBOSITY terse
SELECT tenantcall.set_webhook_key('retell', 'directory key', 'secret', :two);
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.set_webhook_key('retell', 'directory key', 'secret');
\set VERBOSITY default
SELECT tenantcall.set_webhook_key('twilio', 'k', 'secret');
SELECT tenantcall.set_webhook_key(NULL, 'k', 'secret');
SELECT tenantcall.set_webhook_key('retell', '', 'secret');
SELECT tenantcall.set_webhook_key('retell', 'k', '');
SELECT tenantcall.set_webhook_key('retell', 'k', NULL);
SELECT tenantcall.set_webhook_key('retell', 'k', 'secret', 0);
SELECT tenantcall.set_webhook_key('retell', 'k', 'secret', 9223372036854775807);
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.drop_webhook_key('retell', 'directory key');
SELECT tenantcall.drop_webhook_key('retell', 'directory key');
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.drop_webhook_key('retell', NULL);
SELECT tenantcall.set_credential('directory cal', 'secret', 'https://api.cal.com');
SELECT tenantcall.set_credential('directory cal', 'secret', 'ftp://api.cal.com');
SELECT tenantcall.set_credential('directory cal', 'secret', 'https://user@api.cal.com');
SELECT tenantcall.set_credential('directory cal', 'secret', 'https://');
SELECT tenantcall.set_credential('directory cal', '', 'https://api.cal.com');
SELECT tenantcall.set_credential(NULL, 'secret', 'https://api.cal.com');

-- an admin reads secrets no more than anybody, and sees one company at a time
SELECT count(*) FROM tenantcall.secrets;
SELECT count(*) FROM telephony.companies;
UPDATE telephony.companies SET name = 'x';
\echo :LAST_ERROR_SQLSTATE
-- entering is recorded
BEGIN;
SELECT tenantcall.enter(:one);
SELECT count(*) FROM telephony.companies;
SELECT kind, outcome, source, by_role FROM telephony.tenant_decisions ORDER BY decision_id DESC LIMIT 1;
COMMIT;

-- neither gateways nor apps keep the directory, nor read others' rows
SET ROLE regress_tc_directory_gateway;
SELECT tenantcall.create_company('x', 'DE', 'UTC');
SELECT tenantcall.set_company_status(:one, 'suspended');
SELECT tenantcall.assign_number('+49308880005', :one, :one_a);
SELECT tenantcall.release_number('+49308880001');
SELECT tenantcall.move_number('+49308880001', :two, :two_a);
SELECT tenantcall.assign_agent('x', :one);
SELECT tenantcall.release_agent('directory agent');
SELECT tenantcall.set_webhook_key('retell', 'k', 'secret');
SELECT tenantcall.drop_webhook_key('retell', 'k');
SELECT tenantcall.set_credential('directory cal', 'secret', 'https://api.cal.com');
BEGIN;
SELECT tenantcall.enter(:two);
SELECT name FROM telephony.companies;
SELECT name FROM telephony.branches;
SELECT number, released_at IS NULL AS open FROM telephony.phone_numbers ORDER BY phone_number_id;
SELECT provider_agent_id FROM telephony.agents;
SELECT count(*) FROM telephony.tenant_decisions WHERE kind = 'enter' AND by_role = current_user;
COMMIT;
SET ROLE regress_tc_directory_app;
SELECT tenantcall.create_company('x', 'DE', 'UTC');
SELECT tenantcall.resolve_phone('+49308880001');
SELECT count(*) FROM telephony.companies;
SELECT count(*) FROM telephony.phone_numbers;
INSERT INTO telephony.phone_numbers (company_id, branch_id, number) VALUES (:one, :one_a, '+49308880006');
DELETE FROM telephony.agents;

RESET ROLE;
-- a branch is remembered, and forgotten with the transaction that made it, and when it is deleted
BEGIN;
INSERT INTO telephony.branches (company_id, name) VALUES (:one, 'not for long') RETURNING branch_id AS brief \gset
SELECT tenantcall.assign_number('+49308880007', :one, :brief) IS NOT NULL AS assigned;
ROLLBACK;
\set VERBOSITY sqlstate
SELECT tenantcall.assign_number('+49308880007', :one, :brief);
INSERT INTO telephony.branches (company_id, branch_id, name) VALUES (:one, :brief, 'for longer');
SELECT tenantcall.assign_number('+49308880007', :one, :brief) IS NOT NULL AS assigned;
SELECT tenantcall.release_number('+49308880007');
DELETE FROM telephony.phone_numbers WHERE number = '+49308880007';
DELETE FROM telephony.branches WHERE branch_id = :brief;
SELECT tenantcall.assign_number('+49308880007', :one, :brief);
\set VERBOSITY default

-- look-ups read no rows, but indexes that have all they need
SELECT pg_get_indexdef(i) FROM unnest('{telephony.companies_pkey,telephony.phone_numbers_assigned_key}'::regclass[]) AS i;
-- the row counts nevertheless: its page is no longer known to be seen by all
SELECT tenantcall.assign_number('+49308880008', :one, :one_a) IS NOT NULL AS assigned;
VACUUM telephony.phone_numbers, telephony.companies;
\c -
SELECT company_id = :one AS one, branch_id = :one_a AS a, company_status FROM tenantcall.resolve_phone('+49308880008');
BEGIN;
SELECT tenantcall.release_number('+49308880008');
SELECT count(*) FROM tenantcall.resolve_phone('+49308880008');
ROLLBACK;
SELECT company_id = :one AS one FROM tenantcall.resolve_phone('+49308880008');
SELECT tenantcall.move_number('+49308880008', :two, :two_a) IS NOT NULL AS moved, tenantcall.set_company_status(:two, 'suspended');
SELECT company_id = :two AS two, company_status FROM tenantcall.resolve_phone('+49308880008');
SELECT tenantcall.set_company_status(:two, 'active');
-- and is read where there is no such index
SET client_min_messages = warning;
BEGIN;
DROP INDEX telephony.phone_numbers_assigned_key;
ALTER TABLE telephony.companies DROP CONSTRAINT companies_pkey CASCADE;
SELECT company_id = :two AS two, company_status FROM tenantcall.resolve_phone('+49308880008');
SELECT count(*) FROM tenantcall.resolve_phone('+49308880009');
ROLLBACK;
SELECT company_id = :two AS two, company_status FROM tenantcall.resolve_phone('+49308880008');
SELECT tenantcall.release_number('+49308880008');

SELECT tenantcall.release_number(n) FROM unnest('{+49308880001,+49308880003}'::text[]) AS n;
SELECT tenantcall.release_agent('directory agent');
DROP OWNED BY regress_tc_directory_admin, regress_tc_directory_gateway, regress_tc_directory_app;
DROP ROLE regress_tc_directory_admin, regress_tc_directory_gateway, regress_tc_directory_app;
