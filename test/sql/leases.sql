-- leases: how many calls at once
SET client_min_messages = warning;
\set SHOW_CONTEXT never
CREATE ROLE regress_tc_leases_gateway;
CREATE ROLE regress_tc_leases_app;
CREATE ROLE regress_tc_leases_admin;
SELECT tenantcall.grant_gateway('regress_tc_leases_gateway'), tenantcall.grant_app('regress_tc_leases_app'), tenantcall.grant_admin('regress_tc_leases_admin');
SELECT tenantcall.set_webhook_key('retell', 'leases', 'leases secret');
SELECT tenantcall.create_company('leases one', 'DE', 'Europe/Berlin') AS one,
       tenantcall.create_company('leases two', 'DE', 'Europe/Berlin') AS two \gset
BEGIN;
SELECT tenantcall.enter(:one);
INSERT INTO telephony.branches (name) VALUES ('one a') RETURNING branch_id AS one_a \gset
INSERT INTO telephony.branches (name) VALUES ('one b') RETURNING branch_id AS one_b \gset
COMMIT;
BEGIN;
SELECT tenantcall.enter(:two);
INSERT INTO telephony.branches (name) VALUES ('two a') RETURNING branch_id AS two_a \gset
COMMIT;
SELECT tenantcall.assign_number('+49307660001', :one, :one_a) IS NOT NULL AND tenantcall.assign_number('+49307660002', :one, :one_b) IS NOT NULL
       AND tenantcall.assign_number('+49307660011', :two, :two_a) IS NOT NULL AS assigned;
UPDATE telephony.phone_numbers SET assigned_at = assigned_at - interval '1 hour' WHERE company_id IN (:one, :two);
SELECT set_config('regress.one', :'one', false), set_config('regress.two', :'two', false) \gset ignored_

-- a phone rings; an event is delivered
CREATE FUNCTION lease_ring(caller int, number text DEFAULT '+49307660001') RETURNS TABLE (outcome text, token text) LANGUAGE plpgsql AS $$
DECLARE
    body text := json_build_object('event', 'call_inbound', 'call_inbound', json_build_object('from_number', '+491510000' || caller, 'to_number', number));
BEGIN
    RETURN QUERY SELECT a.outcome, a.answer #>> '{call_inbound,metadata,tenantcall}'
    FROM tenantcall.answer_inbound_call(body, tenantcall.retell_signature(body, 'leases secret', clock_timestamp()), clock_timestamp()) AS a;
END
$$;
CREATE FUNCTION lease_event(event text, call text, token text DEFAULT NULL, changes jsonb DEFAULT '{}', at timestamptz DEFAULT clock_timestamp())
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    body text := jsonb_build_object('event', event, 'call', jsonb_strip_nulls(jsonb_build_object('call_id', call, 'call_type', 'phone_call',
        'direction', 'inbound', 'from_number', '+4915100001000', 'to_number', '+49307660001', 'start_timestamp', floor(extract(epoch FROM at) * 1000),
        'disconnection_reason', CASE event WHEN 'call_ended' THEN 'user_hangup' END,
        'metadata', CASE WHEN token IS NOT NULL THEN jsonb_build_object('tenantcall', token) END) || changes));
BEGIN
    RETURN (SELECT concat_ws(' ', i.outcome, i.status, i.reason)
            FROM tenantcall.ingest_retell(body, tenantcall.retell_signature(body, 'leases secret', at), at) AS i);
END
$$;
CREATE VIEW lease_rows AS
    SELECT CASE company_id WHEN current_setting('regress.one')::bigint THEN 'one' ELSE 'two' END AS company,
           CASE WHEN holder ~ '^[0-9a-f]{64}$' THEN 'inbound request' ELSE holder END AS holder, direction, provider_call_id
    FROM telephony.call_leases
    WHERE company_id IN (current_setting('regress.one')::bigint, current_setting('regress.two')::bigint) ORDER BY 1, acquired_at, 2;

-- policies: arguments
SET ROLE regress_tc_leases_admin;
SELECT tenantcall.set_concurrency_policy(NULL);
SELECT tenantcall.set_concurrency_policy(-1);
SELECT tenantcall.set_concurrency_policy(10, 11);
SELECT tenantcall.set_concurrency_policy(10, NULL);
SELECT tenantcall.set_concurrency_policy(10, burst => -1);
SELECT tenantcall.set_concurrency_policy(10, branch_id => 1);
SELECT tenantcall.set_concurrency_policy(10, company_id => 999999999);
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.set_concurrency_policy(10, company_id => :one, branch_id => :two_a);
SELECT tenantcall.set_concurrency_policy(10, unbound_ttl => '0');
SELECT tenantcall.set_concurrency_policy(10, bound_ttl => '1 month');
SELECT tenantcall.set_concurrency_policy(10, bound_ttl => '8 days');
SELECT tenantcall.set_concurrency_policy(10, company_id => :one, branch_id => :one_a, bound_ttl => '1 hour');
SELECT tenantcall.set_concurrency_policy(10, enabled => NULL);
SELECT tenantcall.drop_concurrency_policy(:one);
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.drop_concurrency_policy(branch_id => 1);

-- at most 3 calls, 1 of them kept for inbound ones, which may be 1 more
SELECT tenantcall.set_concurrency_policy(3, 1, 1, company_id => :one);
SET ROLE regress_tc_leases_gateway;
SELECT outcome, reason, in_use, max_calls, expires_at > now() + '115 s' AND expires_at < now() + '125 s' AS expires FROM tenantcall.acquire_call_lease(:one, 'dial 1');
SELECT outcome, reason, in_use, max_calls FROM tenantcall.acquire_call_lease(:one, 'dial 1');
SELECT outcome, reason, in_use, max_calls FROM tenantcall.acquire_call_lease(:one, 'dial 2');
SELECT outcome, reason, in_use, max_calls, expires_at FROM tenantcall.acquire_call_lease(:one, 'dial 3');
RESET ROLE;
SELECT outcome, token IS NOT NULL AS token FROM lease_ring(1001);
SET ROLE regress_tc_leases_gateway;
SELECT outcome, reason, in_use, max_calls FROM tenantcall.acquire_call_lease(:one, 'dial 3');
SELECT outcome, reason, in_use, max_calls FROM tenantcall.acquire_call_lease(:one, 'web 1', 'inbound');
SELECT outcome, reason, in_use, max_calls FROM tenantcall.acquire_call_lease(:one, 'web 2', 'inbound');
RESET ROLE;
SELECT outcome, token IS NOT NULL AS token FROM lease_ring(1002);
SELECT * FROM lease_rows;
-- the other company has its own
SELECT outcome FROM lease_ring(1001, '+49307660011');

-- given back, by holder; twice does nothing
SET ROLE regress_tc_leases_gateway;
SELECT tenantcall.release_call_lease(:one, 'dial 1'), tenantcall.release_call_lease(:one, 'dial 1');
SELECT outcome, reason, in_use FROM tenantcall.acquire_call_lease(:one, 'dial 3');
SELECT tenantcall.release_call_lease(:one, 'web 1');
SELECT outcome, reason, in_use FROM tenantcall.acquire_call_lease(:one, 'dial 3');
SELECT tenantcall.release_call_lease(:two, 'dial 3') AS of_another_company;

-- bound to a call, whose events keep it, and whose end gives it back
SELECT tenantcall.bind_call_lease(:one, 'dial 3', 'lease_c3'), tenantcall.bind_call_lease(:one, 'dial 3', 'lease_c3') AS again,
       tenantcall.bind_call_lease(:one, 'dial 9', 'lease_c9') AS nobody;
SELECT outcome FROM tenantcall.acquire_call_lease(:one, 'dial 3');
SELECT outcome FROM tenantcall.acquire_call_lease(:one, 'lease_c3');
SELECT tenantcall.bind_call_lease(:two, 'x', 'lease_c3');
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
\set outbound '{"direction": "outbound", "from_number": "+49307660001", "to_number": "+4915100001000"}'
SELECT lease_event('call_started', 'lease_c3', changes => :'outbound');
SELECT * FROM lease_rows WHERE company = 'one';
SELECT lease_event('call_ended', 'lease_c3', changes => :'outbound');
SELECT * FROM lease_rows WHERE company = 'one';
-- too late to bind, and to acquire for, a call that is over
SET ROLE regress_tc_leases_gateway;
SELECT outcome, reason, expires_at FROM tenantcall.acquire_call_lease(:one, 'lease_c3');
SELECT outcome FROM tenantcall.acquire_call_lease(:one, 'dial 4');
SELECT tenantcall.bind_call_lease(:one, 'dial 4', 'lease_c3');
-- a call's event came before the binding: one lease is enough
SELECT outcome FROM tenantcall.acquire_call_lease(:one, 'dial 5');
RESET ROLE;
SELECT lease_event('call_started', 'lease_c5', changes => :'outbound');
SELECT * FROM lease_rows WHERE company = 'one';
SET ROLE regress_tc_leases_gateway;
SELECT tenantcall.bind_call_lease(:one, 'dial 5', 'lease_c5');
-- acquired by the call's own id: the event binds it
SELECT tenantcall.release_call_lease(:one, 'lease_c5');
SELECT outcome FROM tenantcall.acquire_call_lease(:one, 'lease_c6');
RESET ROLE;
SELECT lease_event('call_started', 'lease_c6', changes => :'outbound');
SELECT * FROM lease_rows WHERE company = 'one';
SELECT tenantcall.advance_call('lease_c6', 'transferred');
SELECT tenantcall.advance_call('lease_c5', 'ongoing');
SELECT * FROM lease_rows WHERE company = 'one';

-- events are never refused: what the platform began is counted, with or without room
SELECT tenantcall.set_concurrency_policy(0, company_id => :one);
SELECT lease_event('call_started', 'lease_e' || n) FROM generate_series(1, 3) AS n;
SELECT outcome FROM lease_ring(1003);
-- each end gives back; so does analysis, where the end was lost; nothing is made by a late start
SELECT lease_event('call_ended', 'lease_e1'), lease_event('call_started', 'lease_e1');
SELECT lease_event('call_analyzed', 'lease_e2'), lease_event('transcript_updated', 'lease_e2');
SELECT lease_event('call_ended', 'lease_e3', changes => '{"disconnection_reason": "error_asr"}');
SELECT lease_event('call_ended', 'lease_e4', changes => '{"disconnection_reason": "dial_busy", "call_status": "not_connected"}'),
       lease_event('call_started', 'lease_e4');
SELECT lease_event('call_started', 'lease_e5');
BEGIN;
SELECT tenantcall.enter(:one);
SELECT count(*) FROM tenantcall.close_stuck_calls('1 microsecond');
COMMIT;
SELECT lease_event('transcript_updated', 'lease_e5');
SELECT * FROM lease_rows WHERE company = 'one' AND provider_call_id IS NOT NULL;

-- expiry: not counted, whatever becomes of it; a sign of life of the call brings it back
SELECT tenantcall.set_concurrency_policy(1, company_id => :one, unbound_ttl => '10 s', bound_ttl => '1 min');
DELETE FROM telephony.call_leases WHERE company_id = :one;
SET ROLE regress_tc_leases_gateway;
SELECT outcome FROM tenantcall.acquire_call_lease(:one, 'dies');
SELECT outcome, reason FROM tenantcall.acquire_call_lease(:one, 'next');
RESET ROLE;
UPDATE telephony.call_leases SET seen_at = now() - interval '11 s' WHERE company_id = :one;
SELECT in_use, unbound, expired FROM tenantcall.stat_call_leases WHERE company_id = :one;
SET ROLE regress_tc_leases_gateway;
SELECT outcome, in_use FROM tenantcall.acquire_call_lease(:one, 'next');
SELECT tenantcall.bind_call_lease(:one, 'next', 'lease_next');
RESET ROLE;
SELECT * FROM lease_rows WHERE company = 'one';
UPDATE telephony.call_leases SET seen_at = now() - interval '50 s' WHERE company_id = :one;
SELECT in_use, expired FROM tenantcall.stat_call_leases WHERE company_id = :one;
UPDATE telephony.call_leases SET seen_at = now() - interval '61 s' WHERE company_id = :one;
SELECT in_use, expired FROM tenantcall.stat_call_leases WHERE company_id = :one;
SELECT lease_event('call_started', 'lease_next', changes => :'outbound');
SELECT in_use, expired FROM tenantcall.stat_call_leases WHERE company_id = :one;
-- the same holder again, after its lease expired
UPDATE telephony.call_leases SET seen_at = now() - interval '61 s' WHERE company_id = :one;
SET ROLE regress_tc_leases_gateway;
SELECT outcome, in_use FROM tenantcall.acquire_call_lease(:one, 'next');
RESET ROLE;
-- received long ago: no sign that the call lives now
SELECT lease_event('call_started', 'lease_old', at => now() - interval '4 minutes');
SELECT in_use, expired FROM tenantcall.stat_call_leases WHERE company_id = :one;
SET ROLE regress_tc_leases_admin;
SELECT tenantcall.expire_call_leases(NULL);
SELECT leases > 0 AS some FROM tenantcall.expire_call_leases();
RESET ROLE;
SELECT in_use, expired FROM tenantcall.stat_call_leases WHERE company_id = :one;
UPDATE telephony.inbound_requests SET received_at = received_at - interval '2 days' WHERE company_id = :one;
SELECT count(*) > 1 AS some FROM telephony.inbound_requests WHERE company_id = :one;
BEGIN;
SELECT tenantcall.enter(:one);
SELECT leases, requests FROM tenantcall.expire_call_leases(1);
SELECT requests > 0 AS more FROM tenantcall.expire_call_leases();
COMMIT;
SELECT count(*) FROM telephony.inbound_requests WHERE company_id = :one;

-- branches: both must have room
DELETE FROM telephony.call_leases WHERE company_id = :one;
SELECT tenantcall.set_concurrency_policy(3, company_id => :one), tenantcall.set_concurrency_policy(2, 1, company_id => :one, branch_id => :one_a);
SET ROLE regress_tc_leases_gateway;
SELECT outcome, reason FROM tenantcall.acquire_call_lease(:one, 'a 1', branch_id => :one_a);
SELECT outcome, reason FROM tenantcall.acquire_call_lease(:one, 'a 2', branch_id => :one_a);
SELECT outcome, reason FROM tenantcall.acquire_call_lease(:one, 'b 1', branch_id => :one_b);
SELECT tenantcall.acquire_call_lease(:one, 'c 1', branch_id => :two_a);
RESET ROLE;
SELECT outcome FROM lease_ring(1004);
SET ROLE regress_tc_leases_gateway;
SELECT tenantcall.release_call_lease(:one, 'b 1');
RESET ROLE;
SELECT outcome FROM lease_ring(1005);
SELECT outcome FROM lease_ring(1005, '+49307660002');
SELECT branch_id = :one_a AS branch_a, in_use, inbound, outbound, max_calls, reserved_inbound, burst, enabled FROM tenantcall.stat_call_leases WHERE company_id = :one ORDER BY 1 NULLS FIRST;
-- switched off: no limit, still counted
SELECT tenantcall.set_concurrency_policy(0, company_id => :one, enabled => false), tenantcall.drop_concurrency_policy(:one, :one_a);
SET ROLE regress_tc_leases_gateway;
SELECT outcome, in_use, max_calls FROM tenantcall.acquire_call_lease(:one, 'off');
RESET ROLE;
-- as set for all, as shipped
SELECT tenantcall.drop_concurrency_policy(:one), tenantcall.set_concurrency_policy(7, 2, 3);
SELECT max_calls, reserved_inbound, burst FROM tenantcall.stat_call_leases WHERE company_id = :one;
SELECT tenantcall.drop_concurrency_policy();
SELECT max_calls, reserved_inbound, burst FROM tenantcall.stat_call_leases WHERE company_id = :one;
-- a suspended company begins no calls
SELECT tenantcall.set_company_status(:one, 'suspended');
SET ROLE regress_tc_leases_gateway;
SELECT outcome, reason FROM tenantcall.acquire_call_lease(:one, 'suspended');
RESET ROLE;
SELECT tenantcall.set_company_status(:one, 'active');
-- refusals are in the books
SELECT kind, outcome, reason, provider_call_id, count(*) FROM telephony.tenant_decisions
WHERE company_id = :one AND outcome IN ('limited', 'suspended') GROUP BY 1, 2, 3, 4 ORDER BY min(decision_id);

-- and who asks again and again fills them up to a bound only
SELECT tenantcall.set_concurrency_policy(0, company_id => :one);
SET ROLE regress_tc_leases_gateway;
SELECT outcome, reason, count(*) FROM generate_series(1, 150) AS n, tenantcall.acquire_call_lease(:one, 'again ' || n) GROUP BY 1, 2;
RESET ROLE;
SELECT tenantcall.drop_concurrency_policy(:one);
SELECT count(*) FILTER (WHERE provider_call_id LIKE 'again%') BETWEEN 1 AND 100 AS bounded FROM telephony.tenant_decisions WHERE company_id = :one;
SELECT reason, sum(refused) FROM telephony.refusals WHERE company_id = :one AND kind = 'lease' GROUP BY 1 ORDER BY 1;

-- what a savepoint undoes
BEGIN;
SELECT outcome FROM tenantcall.acquire_call_lease(:two, 'kept');
SAVEPOINT s;
SELECT outcome FROM tenantcall.acquire_call_lease(:two, 'undone');
ROLLBACK TO s;
SELECT outcome, in_use FROM tenantcall.acquire_call_lease(:two, 'after');
COMMIT;
SELECT holder FROM lease_rows WHERE company = 'two' AND holder <> 'inbound request';
-- counted exactly whatever the isolation level
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM telephony.call_leases WHERE company_id = :two;
SELECT outcome, in_use FROM tenantcall.acquire_call_lease(:two, 'fixed');
COMMIT;

-- arguments
SET ROLE regress_tc_leases_gateway;
SELECT tenantcall.acquire_call_lease(NULL, 'x');
SELECT tenantcall.acquire_call_lease(:one, NULL);
SELECT tenantcall.acquire_call_lease(:one, '');
SELECT tenantcall.acquire_call_lease(:one, repeat('x', 201));
SELECT tenantcall.acquire_call_lease(:one, 'x', 'sideways');
SELECT tenantcall.acquire_call_lease(999999999, 'x');
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.bind_call_lease(:one, 'x', NULL);
SELECT tenantcall.release_call_lease(:one, NULL);
BEGIN;
SELECT tenantcall.enter(:two);
SELECT tenantcall.acquire_call_lease(:one, 'x');
ROLLBACK;
RESET ROLE;

-- an application sees its own, and may do nothing
SELECT tenantcall.sign_token(:two, NULL, '1 hour') AS token \gset
SET ROLE regress_tc_leases_app;
SELECT count(*) FROM tenantcall.stat_call_leases;
\echo :LAST_ERROR_SQLSTATE
SELECT count(*) FROM telephony.call_leases;
BEGIN;
SELECT tenantcall.enter_token(:'token');
SELECT company_id = :two AS own, in_use, max_calls FROM tenantcall.stat_call_leases;
SELECT holder FROM telephony.call_leases WHERE holder !~ '^[0-9a-f]{64}$' ORDER BY holder;
SELECT count(*) FROM telephony.inbound_requests WHERE company_id = :one;
SAVEPOINT s;
SELECT tenantcall.acquire_call_lease(:two, 'app');
ROLLBACK TO s;
SELECT tenantcall.release_call_lease(:two, 'kept');
ROLLBACK TO s;
SELECT tenantcall.bind_call_lease(:two, 'kept', 'lease_app');
ROLLBACK TO s;
SELECT tenantcall.set_concurrency_policy(1000, company_id => :two);
ROLLBACK TO s;
SELECT tenantcall.expire_call_leases();
ROLLBACK TO s;
DELETE FROM telephony.call_leases;
ROLLBACK TO s;
UPDATE telephony.call_leases SET seen_at = now();
ROLLBACK TO s;
INSERT INTO telephony.call_leases (holder, direction, acquired_at, seen_at) VALUES ('app', 'outbound', now(), now());
ROLLBACK TO s;
UPDATE telephony.inbound_requests SET provider_call_id = 'lease_app';
ROLLBACK TO s;
SELECT * FROM tenantcall.concurrency_policies;
ROLLBACK;
RESET ROLE;

-- deleted with the company
SELECT tenantcall.set_concurrency_policy(5, company_id => :two);
SELECT tenantcall.set_company_status(:two, 'suspended');
SELECT relation, rows_deleted FROM tenantcall.delete_company(:two) WHERE relation ~ 'lease|inbound|concurrency' ORDER BY 1;

SELECT tenantcall.drop_webhook_key('retell', 'leases');
DROP VIEW lease_rows;
DROP FUNCTION lease_ring(int, text), lease_event(text, text, text, jsonb, timestamptz);
SELECT tenantcall.release_number('+49307660001'), tenantcall.release_number('+49307660002');
DELETE FROM telephony.call_leases WHERE company_id = :one;
DELETE FROM tenantcall.quarantine;
DROP OWNED BY regress_tc_leases_gateway, regress_tc_leases_app, regress_tc_leases_admin;
DROP ROLE regress_tc_leases_gateway, regress_tc_leases_app, regress_tc_leases_admin;
