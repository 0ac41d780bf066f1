-- function_call: function calls: run once, answered again, limited by company
SET client_min_messages = warning;
\set SHOW_CONTEXT never
CREATE ROLE regress_tc_function_call_gateway;
CREATE ROLE regress_tc_function_call_app;
SELECT tenantcall.grant_gateway('regress_tc_function_call_gateway'), tenantcall.grant_app('regress_tc_function_call_app');
SELECT tenantcall.set_webhook_key('retell', 'function_call', 'function_call secret');
SELECT tenantcall.create_company('function_call one', 'DE', 'Europe/Berlin') AS one,
       tenantcall.create_company('function_call two', 'DE', 'Europe/Berlin') AS two \gset
BEGIN;
SELECT tenantcall.enter(:one);
INSERT INTO telephony.branches (name) VALUES ('one a') RETURNING branch_id AS one_a \gset
INSERT INTO telephony.customers (name, phone) VALUES ('Ada', '+4915100000001');
COMMIT;
BEGIN;
SELECT tenantcall.enter(:two);
INSERT INTO telephony.branches (name) VALUES ('two a') RETURNING branch_id AS two_a \gset
COMMIT;
SELECT tenantcall.assign_number('+49307770004', :one, :one_a) IS NOT NULL AS assigned,
       tenantcall.assign_number('+49307770014', :two, :two_a) IS NOT NULL AS assigned;
-- companies by name, and signed bodies, for the roles of this test
SELECT set_config('regress.one', :'one', false), set_config('regress.two', :'two', false) \gset ignored_
CREATE FUNCTION function_call_company(id bigint) RETURNS text LANGUAGE sql AS $$
SELECT CASE id WHEN current_setting('regress.one')::bigint THEN 'one' WHEN current_setting('regress.two')::bigint THEN 'two' WHEN current_setting('regress.three', true)::bigint THEN 'three' END
$$;
CREATE FUNCTION function_call_sign(body text, secret text DEFAULT 'function_call secret') RETURNS text LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$ SELECT tenantcall.retell_signature(body, secret) $$;

CREATE FUNCTION function_call_body(call_id text, tool text, number text, args jsonb DEFAULT '{"day": "2026-12-01"}') RETURNS text LANGUAGE sql STABLE AS $$
SELECT jsonb_build_object('name', 'check_availability', 'args', args, 'call', jsonb_strip_nulls(jsonb_build_object('call_id', call_id,
    'direction', 'inbound', 'from_number', '+4915100000001', 'to_number', number, 'agent_id', 'function_call agent',
    'transcript_with_tool_calls', jsonb_build_array(
        jsonb_build_object('role', 'tool_call_invocation', 'tool_call_id', 'earlier', 'name', 'check_availability'),
        jsonb_build_object('role', 'tool_call_invocation', 'tool_call_id', tool, 'name', 'check_availability'),
        jsonb_build_object('role', 'tool_call_invocation', 'tool_call_id', 'x', 'name', 'another')))))::text
$$;
SET ROLE regress_tc_function_call_gateway;
PREPARE ask(text, text, text) AS
    SELECT outcome, reason, function_call_company(company_id) AS company, branch_id IS NOT NULL AS branch, name, args, idempotency_key, answer,
           retry_after IS NOT NULL AS retry, headers IS NOT NULL AS headers
    FROM tenantcall.accept_function_call(function_call_body($1, $2, $3), function_call_sign(function_call_body($1, $2, $3)));

-- runs once; while it runs it is busy; then its answer is given again
EXECUTE ask('function_call 1', 't1', '+49307770004');
EXECUTE ask('function_call 1', 't1', '+49307770004');
SELECT tenantcall.finish_function_call(:one, 'function_call 1/t1', '{"slots": [1, 2]}');
EXECUTE ask('function_call 1', 't1', '+49307770004');
-- the same answer may be recorded again, another one not; nor one for what was not asked
SELECT tenantcall.finish_function_call(:one, 'function_call 1/t1', '{"slots": [1, 2]}');
SELECT tenantcall.finish_function_call(:one, 'function_call 1/t1', '{"slots": []}');
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.finish_function_call(:one, 'function_call 1/t1', NULL);
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.finish_function_call(:two, 'function_call 1/t1', '{}');
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.finish_function_call(:one, '', '{}');
SELECT tenantcall.finish_function_call(NULL, 'x', '{}');
SELECT tenantcall.finish_function_call(0, 'x', '{}');
SELECT tenantcall.finish_function_call(9223372036854775807, 'x', '{}');
\echo :LAST_ERROR_SQLSTATE
-- another tool call of the call, and one of another company with the same names
EXECUTE ask('function_call 1', 't2', '+49307770004');
EXECUTE ask('function_call 2', 't1', '+49307770014');
-- answers may be nothing at all
SELECT tenantcall.finish_function_call(:two, 'function_call 2/t1', NULL);
EXECUTE ask('function_call 2', 't1', '+49307770014');

-- forged, nobody's, nonsense
SELECT outcome, reason, company_id, args FROM tenantcall.accept_function_call(function_call_body('function_call 1', 't1', '+49307770004'), function_call_sign(function_call_body('function_call 1', 't1', '+49307770004'), 'x'));
SELECT outcome, reason FROM tenantcall.accept_function_call(NULL::text, 'x');
EXECUTE ask('function_call 9', 't1', '+49307779999');
SELECT outcome, reason FROM tenantcall.accept_function_call('[1]', function_call_sign('[1]'));

-- arguments alone: agent and call beside the body select
RESET ROLE;
SELECT tenantcall.assign_agent('function_call agent', :two, :two_a);
SET ROLE regress_tc_function_call_gateway;
PREPARE root(text, text, text) AS
    SELECT outcome, reason, function_call_company(company_id) AS company, name, args, idempotency_key LIKE 'delivery:%' AS by_delivery
    FROM tenantcall.accept_function_call($1, function_call_sign($1), $2, $3);
EXECUTE root('{"day": "monday"}', NULL, NULL);
EXECUTE root('{"day": "monday"}', 'nobody', NULL);
EXECUTE root('{"day": "monday"}', 'function_call agent', NULL);
EXECUTE root('{"day": "tuesday"}', NULL, 'function_call unbound');
-- what is beside a body that tells call and agent itself must agree with it
SELECT function_call_body('function_call 1', 't7', '+49307770004') AS full_body \gset
EXECUTE root(:'full_body', NULL, 'function_call 2');
EXECUTE root(:'full_body', 'another agent', 'function_call 1');
EXECUTE root('{"name": "Ada", "call": {"call_id": "function_call 1", "to_number": "+49307770004", "call_type": "phone_call"}}', NULL, 'function_call 2');
EXECUTE root(:'full_body', 'function_call agent', 'function_call 1');
-- the very same delivery is busy, the question asked anew runs
BEGIN;
SELECT function_call_sign('{"day": "friday"}') AS signature \gset
SELECT outcome FROM tenantcall.accept_function_call('{"day": "friday"}'::text, :'signature', 'function_call agent');
SELECT outcome FROM tenantcall.accept_function_call('{"day": "friday"}'::text, :'signature', 'function_call agent');
COMMIT;

-- an unfinished one can be run again after its lease
RESET ROLE;
UPDATE telephony.function_calls SET lease_until = now() - interval '1 second' WHERE company_id = :one AND idempotency_key = 'function_call 1/t2';
SET ROLE regress_tc_function_call_gateway;
EXECUTE ask('function_call 1', 't2', '+49307770004');
EXECUTE ask('function_call 1', 't2', '+49307770004');

-- suspended
RESET ROLE;
SELECT tenantcall.set_company_status(:two, 'suspended', 'unpaid');
SET ROLE regress_tc_function_call_gateway;
EXECUTE ask('function_call 2', 't5', '+49307770014');
RESET ROLE;
SELECT tenantcall.set_company_status(:two, 'active');

-- limited: the one company alone; what runs or ran already takes no token
SELECT tenantcall.create_company('function_call three', 'DE', 'Europe/Berlin') AS three \gset
BEGIN;
SELECT tenantcall.enter(:three);
INSERT INTO telephony.branches (name) VALUES ('three a') RETURNING branch_id AS three_a \gset
COMMIT;
SELECT tenantcall.assign_number('+49307770024', :three, :three_a) IS NOT NULL AS assigned;
SELECT set_config('regress.three', :'three', false) \gset ignored_
SELECT tenantcall.set_rate_policy('function_call', 2, interval '1 day', company_id => :three);
SET ROLE regress_tc_function_call_gateway;
EXECUTE ask('function_call 3', 't1', '+49307770024');
EXECUTE ask('function_call 3', 't1', '+49307770024');
EXECUTE ask('function_call 1', 't1', '+49307770004');
EXECUTE ask('function_call 3', 't2', '+49307770024');
EXECUTE ask('function_call 3', 't3', '+49307770024');
EXECUTE ask('function_call 3', 't1', '+49307770024');
SELECT tenantcall.finish_function_call(:three, 'function_call 3/t2', '{}');
EXECUTE ask('function_call 3', 't2', '+49307770024');
EXECUTE ask('function_call 4', 't1', '+49307770014');
-- no context, no lock: this was autocommit
SELECT tenantcall.current_company_id() IS NULL AS none;
RESET ROLE;
SELECT tenantcall.drop_rate_policy('function_call', company_id => :three);

SELECT function_call_company(company_id) AS company, CASE WHEN idempotency_key LIKE 'delivery:%' THEN 'delivery' ELSE idempotency_key END AS key,
       name, args, state, attempt, answer FROM telephony.function_calls WHERE company_id IN (:one, :two, :three) ORDER BY company_id, accepted_at, idempotency_key;
SELECT function_call_company(company_id) AS company, outcome, reason, provider_call_id FROM telephony.tenant_decisions
WHERE company_id IN (:one, :two, :three) AND kind = 'function_call' ORDER BY decision_id;
SELECT kind, outcome, reason, provider_call_id, agent FROM tenantcall.quarantined ORDER BY quarantine_id;

-- requests that belong to nobody share one bucket, and cannot fill the quarantine
SET ROLE regress_tc_function_call_gateway;
SELECT outcome, count(*) BETWEEN 40 AND 110 AS about_half, count(retry_after) > 0 AS with_retry_after
FROM generate_series(1, 200) AS g, LATERAL (SELECT function_call_body('nobody ' || g, 't' || g, '+49307770099') AS body) AS b,
    tenantcall.accept_function_call(body, function_call_sign(body)) GROUP BY outcome ORDER BY outcome DESC;
RESET ROLE;
SELECT count(*) BETWEEN 40 AND 110 AS kept FROM tenantcall.quarantined WHERE provider_call_id LIKE 'nobody%';

SET ROLE regress_tc_function_call_app;
SELECT * FROM tenantcall.accept_function_call('{}'::text, 'x');
SELECT tenantcall.finish_function_call(:one, 'function_call 1/t1', '{}');
RESET ROLE;
SELECT tenantcall.release_agent('function_call agent');
DROP FUNCTION function_call_body(text, text, text, jsonb);

RESET ROLE;
SELECT tenantcall.drop_webhook_key('retell', 'function_call');
SELECT tenantcall.release_number('+49307770024'), tenantcall.release_number('+49307770004'), tenantcall.release_number('+49307770014');
DELETE FROM tenantcall.quarantine;
DROP FUNCTION function_call_company(bigint), function_call_sign(text, text);
DROP OWNED BY regress_tc_function_call_gateway, regress_tc_function_call_app;
DROP ROLE regress_tc_function_call_gateway, regress_tc_function_call_app;
