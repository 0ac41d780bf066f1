-- stuck calls, and usage by company and day
SET client_min_messages = warning;
CREATE ROLE regress_tc_upkeep_admin;
CREATE ROLE regress_tc_upkeep_app;
SELECT tenantcall.grant_admin('regress_tc_upkeep_admin'), tenantcall.grant_app('regress_tc_upkeep_app');
SELECT tenantcall.create_company('Upkeep', 'DE', 'Europe/Berlin') AS c1 \gset
SELECT tenantcall.create_company('Upkeep too', 'US', 'America/New_York') AS c2 \gset
BEGIN;
SELECT tenantcall.enter(:c1);
INSERT INTO telephony.calls (provider_call_id, status, created_at) VALUES
    ('upkeep_ringing', 'inbound', now() - interval '5 hours'), ('upkeep_young', 'inbound', now() - interval '1 hour'),
    ('upkeep_talking', 'inbound', now() - interval '4 hours'), ('upkeep_working', 'inbound', now() - interval '4 hours'),
    ('upkeep_silent', 'inbound', now() - interval '3 hours'), ('upkeep_over', 'inbound', now() - interval '5 hours'),
    ('upkeep_told', 'inbound', now() - interval '5 hours');
UPDATE telephony.calls SET status = 'ongoing' WHERE provider_call_id IN ('upkeep_talking', 'upkeep_working', 'upkeep_silent');
UPDATE telephony.calls SET status = 'completed' WHERE provider_call_id = 'upkeep_over';
UPDATE telephony.calls SET ended_at = now() - interval '4 hours' WHERE provider_call_id = 'upkeep_told';
INSERT INTO telephony.call_events (call_id, call_at, event, received_at, last_received_at, body)
SELECT call_id, created_at, 'transcript_updated', now() - interval '4 hours', now() - interval '10 minutes', '{}'
FROM telephony.calls WHERE provider_call_id = 'upkeep_talking';
INSERT INTO telephony.function_calls (idempotency_key, call_id, name, lease_until, accepted_at)
SELECT 'upkeep', call_id, 'f', now(), now() - interval '20 minutes' FROM telephony.calls WHERE provider_call_id = 'upkeep_working';
COMMIT;
BEGIN;
SELECT tenantcall.enter(:c2);
INSERT INTO telephony.calls (provider_call_id, status, created_at) VALUES ('upkeep_other', 'outbound', now() - interval '3 hours');
COMMIT;

-- of the entered company, oldest first
BEGIN;
SELECT tenantcall.enter(:c1);
SELECT provider_call_id, status, date_trunc('hour', now() - last_sign) AS silent FROM tenantcall.stuck_calls();
SELECT provider_call_id FROM tenantcall.stuck_calls('4 hours');
SELECT provider_call_id FROM tenantcall.stuck_calls('5 minutes');
COMMIT;
-- of all, as an administrator
SET ROLE regress_tc_upkeep_admin;
SELECT company_id = :c2 AS second, provider_call_id FROM tenantcall.stuck_calls() WHERE company_id IN (:c1, :c2);
SET tenantcall.calls_stuck_after = '1 h';
RESET ROLE;
SET tenantcall.calls_stuck_after = '220 min';
SET ROLE regress_tc_upkeep_admin;
SELECT company_id = :c2 AS second, provider_call_id FROM tenantcall.stuck_calls() WHERE company_id IN (:c1, :c2);
SELECT count(*) = (SELECT count(*) FROM tenantcall.stuck_calls()) AS same FROM tenantcall.stuck_calls(NULL);
RESET ROLE;
RESET tenantcall.calls_stuck_after;
SET ROLE regress_tc_upkeep_admin;
SELECT tenantcall.stuck_calls('-1 hour');
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.close_stuck_calls('2 hours', 0);
SELECT tenantcall.close_stuck_calls('2 hours', NULL);
BEGIN;
SELECT tenantcall.enter(:c1);
SELECT provider_call_id, status FROM tenantcall.close_stuck_calls('2 hours', 1);
SELECT provider_call_id, status FROM tenantcall.close_stuck_calls();
SELECT provider_call_id, status FROM tenantcall.close_stuck_calls();
COMMIT;
SELECT provider_call_id FROM tenantcall.close_stuck_calls() WHERE company_id IN (:c1, :c2);
RESET ROLE;
SELECT provider_call_id, status FROM telephony.calls WHERE provider_call_id LIKE 'upkeep%' ORDER BY call_id;
SELECT c.provider_call_id, t.from_state, t.to_state, t.reason, t.by_role
FROM telephony.call_transitions AS t JOIN telephony.calls AS c ON c.company_id = t.company_id AND c.call_id::text = t.key
WHERE t.to_state = 'abandoned' AND t.company_id IN (:c1, :c2) ORDER BY t.transition_id;
-- an end that is told later after all corrects it
BEGIN;
SELECT tenantcall.enter(:c1);
UPDATE telephony.calls SET status = 'completed' WHERE provider_call_id = 'upkeep_silent' RETURNING status;
COMMIT;

-- reasons for the end: all of the vendor's, those that operators add or change, and what nobody has mapped
SET ROLE regress_tc_upkeep_admin;
SELECT count(*) FROM tenantcall.disconnection_reasons_in_force;
INSERT INTO tenantcall.disconnection_reasons VALUES ('upkeep_new', 'transferred'), ('user_hangup', 'failed'), ('upkeep_wrong', 'analyzed');
INSERT INTO tenantcall.disconnection_reasons VALUES ('upkeep_new', 'transferred'), ('user_hangup', 'failed');
SELECT * FROM tenantcall.disconnection_reasons_in_force WHERE changed ORDER BY reason;
RESET ROLE;
UPDATE telephony.calls SET disconnection_reason = CASE provider_call_id WHEN 'upkeep_over' THEN 'upkeep_new' WHEN 'upkeep_told' THEN 'user_hangup' ELSE 'upkeep_unknown' END
WHERE company_id = :c1;
SET ROLE regress_tc_upkeep_admin;
SELECT reason, calls, last_at IS NOT NULL AS dated FROM tenantcall.unmapped_reasons() WHERE company_id = :c1;
DELETE FROM tenantcall.disconnection_reasons;
SELECT reason, calls FROM tenantcall.unmapped_reasons() WHERE company_id = :c1;
RESET ROLE;

-- usage: days of the company's zone, also one of 23 hours
SELECT tenantcall.create_company('Upkeep usage', 'DE', 'Europe/Berlin') AS c1 \gset
BEGIN;
SELECT tenantcall.enter(:c1);
INSERT INTO telephony.calls (provider_call_id, status, started_at, duration, cost_cents) VALUES
    ('u1', 'inbound', '2020-03-28 22:59:59+00', '90 s', 0.1), ('u2', 'inbound', '2020-03-28 23:00:00+00', '20 s', 0.2),
    ('u3', 'inbound', '2020-03-29 21:59:59+00', '10 s', 12.3456789), ('u4', 'inbound', '2020-03-29 22:00:00+00', NULL, NULL),
    ('u5', 'inbound', '2020-03-30 22:00:00+00', '1 h', 1000);
INSERT INTO telephony.function_calls (idempotency_key, name, lease_until, accepted_at) VALUES
    ('u1', 'f', now(), '2020-03-29 12:00+00'), ('u2', 'f', now(), '2020-03-30 12:00+00'), ('u3', 'f', now(), '2020-03-30 12:00+00');
INSERT INTO telephony.refusals (quarter, kind, outcome, reason, by_role, slot, refused, last_at) VALUES
    ('2020-03-29 12:00+00', 'function_call', 'limited', '', 'x', 1, 1, now()), ('2020-03-31 12:00+00', 'inbound', 'suspended', '', 'x', 1, 1, now());
COMMIT;
BEGIN;
SELECT tenantcall.enter(:c2);
INSERT INTO telephony.calls (provider_call_id, status, started_at, duration, cost_cents) VALUES ('u6', 'inbound', '2020-03-30 02:00+00', '61 s', 5);
COMMIT;
SET ROLE regress_tc_upkeep_admin;
SELECT company_id = :c2 AS second, day, calls, minutes, function_calls, refusals, cost_cents
FROM tenantcall.company_usage('2020-03-28', '2020-03-30') WHERE company_id IN (:c1, :c2);
SELECT count(*) FROM tenantcall.company_usage('2020-03-30', '2020-03-28');
SELECT tenantcall.company_usage(NULL, '2020-03-28');
SELECT tenantcall.company_usage('2020-03-28', 'infinity');
RESET ROLE;
-- rolled up: the same figures, from usage_daily; at most so many days at a time, and again without effect
CREATE TEMP TABLE before AS SELECT * FROM tenantcall.company_usage('2020-01-01', '2040-12-31') WHERE company_id IN (:c1, :c2);
CREATE FUNCTION pg_temp.differences() RETURNS bigint LANGUAGE sql AS $$
WITH now AS (SELECT * FROM tenantcall.company_usage('2020-01-01', '2040-12-31') WHERE company_id IN (SELECT b.company_id FROM before AS b))
SELECT count(*) FROM ((TABLE before EXCEPT ALL TABLE now) UNION ALL (TABLE now EXCEPT ALL TABLE before)) AS d
$$;
GRANT SELECT ON before TO regress_tc_upkeep_admin;
SET ROLE regress_tc_upkeep_admin;
BEGIN;
SELECT tenantcall.enter(:c1) \g /dev/null
SELECT company_id = :c1 AS first, days_closed, days_recounted FROM tenantcall.roll_up_usage(2);
SELECT pg_temp.differences() IS NOT NULL, days_closed FROM tenantcall.roll_up_usage(1);
COMMIT;
SELECT pg_temp.differences();
SELECT count(*) > 0 AS rolled_up FROM tenantcall.roll_up_usage() WHERE company_id IN (:c1, :c2);
SELECT pg_temp.differences();
SELECT tenantcall.roll_up_usage();
SELECT tenantcall.roll_up_usage(0);
SELECT tenantcall.roll_up_usage(NULL);
RESET ROLE;
SELECT company_id = :c2 AS second, day, calls, seconds, function_calls, refusals, cost_cents FROM telephony.usage_daily
WHERE company_id IN (:c1, :c2) AND day < '2020-04-01' ORDER BY 1, 2;
SELECT count(*) FROM telephony.usage_marks WHERE company_id IN (:c1, :c2);
-- a late event corrects its day at once, and one that moves the start both days; others mark nothing
BEGIN;
SELECT tenantcall.enter(:c1) \g /dev/null
UPDATE telephony.calls SET cost_cents = 0.00000000000000000001 WHERE provider_call_id = 'u4';
UPDATE telephony.calls SET started_at = '2020-03-28 12:00+00' WHERE provider_call_id = 'u3';
UPDATE telephony.calls SET summary = 'nothing to count' WHERE provider_call_id = 'u5';
INSERT INTO telephony.calls (provider_call_id, status) VALUES ('of today', 'inbound');
SELECT began AT TIME ZONE 'UTC' AS began FROM telephony.usage_marks WHERE company_id = :c1 ORDER BY mark_id;
SELECT day, calls, minutes, function_calls, refusals, cost_cents FROM tenantcall.company_usage('2020-03-28', '2020-03-31');
SELECT days_closed, days_recounted FROM tenantcall.roll_up_usage();
SELECT day, calls, minutes, function_calls, refusals, cost_cents FROM tenantcall.company_usage('2020-03-28', '2020-03-31');
SELECT count(*) FROM telephony.usage_marks WHERE company_id = :c1;
SELECT tenantcall.roll_up_usage();
COMMIT;
-- function calls expire, their number stays
SET ROLE regress_tc_upkeep_admin;
BEGIN;
SELECT tenantcall.enter(:c1) \g /dev/null
SELECT * FROM tenantcall.expire_rows(1) WHERE relation = 'function_calls';
SELECT * FROM tenantcall.expire_rows() WHERE relation = 'function_calls';
SELECT count(*) FROM telephony.function_calls WHERE company_id = :c1;
SELECT day, calls, minutes, function_calls, refusals, cost_cents FROM tenantcall.company_usage('2020-03-28', '2020-03-31');
COMMIT;
RESET ROLE;
-- an application sees its own company's
SELECT tenantcall.sign_token(:c2, NULL, '1 hour') AS token \gset
SET ROLE regress_tc_upkeep_app;
SELECT tenantcall.company_usage('2020-03-28', '2020-03-30');
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.close_stuck_calls();
BEGIN;
SELECT tenantcall.enter_token(:'token');
SELECT company_id = :c2 AS second, day, calls, minutes, cost_cents FROM tenantcall.company_usage('2020-01-01', '2020-12-31') WHERE day < '2020-04-01';
COMMIT;
RESET ROLE;
DROP OWNED BY regress_tc_upkeep_admin, regress_tc_upkeep_app;
DROP ROLE regress_tc_upkeep_admin, regress_tc_upkeep_app;
