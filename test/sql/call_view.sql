-- call_context(), advance_call(), call_timeline()
SET client_min_messages = warning;
CREATE ROLE regress_tc_view_gateway;
CREATE ROLE regress_tc_view_app;
SELECT tenantcall.grant_gateway('regress_tc_view_gateway'), tenantcall.grant_app('regress_tc_view_app');
SELECT tenantcall.create_company('View', 'DE', 'Europe/Berlin') AS c1 \gset
SELECT tenantcall.create_company('View too', 'DE', 'UTC') AS c2 \gset
BEGIN;
SELECT tenantcall.enter(:c1);
INSERT INTO telephony.branches (name, time_zone) VALUES ('Mitte', 'Europe/Vienna') RETURNING branch_id AS b1 \gset
INSERT INTO telephony.customers (name, phone) VALUES ('Anna', '+4915111111111'), ('Bert', '+4915111111112'), ('Anna again', '+4915111111111');
INSERT INTO telephony.services (name, calcom_event_type_id, is_default, priority) VALUES
    ('Haircut', 11, false, 1), ('Wash', 12, true, 5), ('No event type', NULL, false, 0), ('Elsewhere', 14, false, 0);
INSERT INTO telephony.branches (name) VALUES ('Nord') RETURNING branch_id AS b2 \gset
INSERT INTO telephony.branch_services (branch_id, service_id, is_default)
SELECT :b2, service_id, true FROM telephony.services WHERE name = 'Elsewhere';
COMMIT;
BEGIN;
SELECT tenantcall.enter(:c2);
INSERT INTO telephony.branches (name) VALUES ('Only') RETURNING branch_id AS b3 \gset
COMMIT;
SELECT tenantcall.assign_number('+4930700001', :c1, :b1), tenantcall.assign_number('+4930700002', :c2, :b3),
       tenantcall.assign_number('+4930700003', :c1, :b2) \g /dev/null
UPDATE telephony.phone_numbers SET assigned_at = '2026-01-01' WHERE number LIKE '+493070000%';
SELECT tenantcall.set_webhook_key('retell', 'view', 'view_secret');

-- delivers an event as the platform would
CREATE FUNCTION pg_temp.deliver(event text, call text, from_number text, to_number text, rest jsonb DEFAULT '{}',
                               seconds integer DEFAULT 0) RETURNS text
    LANGUAGE plpgsql AS $$
DECLARE
    body text := jsonb_build_object('event', event, 'call', jsonb_build_object('call_id', call, 'call_type', 'phone_call',
        'direction', 'inbound', 'from_number', from_number, 'to_number', to_number, 'start_timestamp', 1767700000000) || rest)::text;
    stamp text := '1767700000000';
    signature text := format('v=%s,d=%s', stamp, encode(public.hmac(body || stamp, 'view_secret', 'sha256'), 'hex'));
BEGIN
    RETURN (SELECT outcome || coalesce(' ' || reason, '') FROM tenantcall.ingest_retell(body, signature, to_timestamp(1767700000 + seconds)));
END
$$;
SELECT pg_temp.deliver('call_started', 'view_1', '+4915111111111', '+4930700001'),
       pg_temp.deliver('call_started', 'view_2', 'anonymous', '+4930700002'),
       pg_temp.deliver('call_started', 'view_3', '+4915111111112', '+4930700003');

-- a gateway asks without entering
\x on
SET ROLE regress_tc_view_gateway;
SELECT company, company_status, branch, time_zone, number, direction, status, started_at IS NOT NULL AS started,
       caller, caller_reason, customer, service
FROM tenantcall.call_context('view_1');
SELECT company, branch, time_zone, number, caller, caller_reason, customer, service FROM tenantcall.call_context('view_2');
SELECT branch, caller, customer, service FROM tenantcall.call_context('view_3');
SELECT tenantcall.current_company_id();
\x off
-- the service is that of select_service()
BEGIN;
SELECT tenantcall.enter(:c1);
SELECT call, c.service_id = s.service_id AS same FROM unnest(ARRAY['view_1', 'view_3']) AS call,
    tenantcall.call_context(call) AS c, tenantcall.select_service(NULL, c.branch_id) AS s;
COMMIT;
-- what a caller or an agent makes up
SELECT tenantcall.call_context('current');
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.call_context(NULL);
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.call_context('');
SELECT tenantcall.call_timeline('current');
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.advance_call('current', 'completed');
\echo :LAST_ERROR_SQLSTATE

-- right after every change
BEGIN;
SELECT status FROM tenantcall.call_context('view_1');
SAVEPOINT s;
SELECT tenantcall.advance_call('view_1', 'transferred', 'to a person');
SELECT status FROM tenantcall.call_context('view_1');
ROLLBACK TO s;
SELECT status FROM tenantcall.call_context('view_1');
SELECT (tenantcall.call_context('view_1')).status AS before, tenantcall.advance_call('view_1', 'completed', 'hung up'),
       (tenantcall.call_context('view_1')).status AS after;
COMMIT;
DO $$
DECLARE
    before text := (tenantcall.call_context('view_3')).status;
    inside text;
BEGIN
    BEGIN
        PERFORM tenantcall.advance_call('view_3', 'completed');
        inside := (tenantcall.call_context('view_3')).status;
        RAISE EXCEPTION 'undo';
    EXCEPTION WHEN raise_exception THEN
        RAISE WARNING '% % %', before, inside, (tenantcall.call_context('view_3')).status;
    END;
END
$$;
-- against the lifecycle
SELECT tenantcall.advance_call('view_1', 'ongoing');
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.advance_call('view_1', 'nonsense');
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.advance_call('view_1', NULL);
SELECT tenantcall.advance_call('view_1', 'completed', 'again');
SELECT tenantcall.advance_call('view_2', 'completed');
RESET ROLE;
SELECT pg_temp.deliver('call_ended', 'view_1', '+4915111111111', '+4930700001', '{"disconnection_reason": "user_hangup"}', 60);
DO $$
DECLARE
    body text := '{"name": "book", "args": {"day": "Monday"}, "call": {"call_id": "view_1", "call_type": "phone_call", "direction": "inbound", '
        '"from_number": "+4915111111111", "to_number": "+4930700001", "start_timestamp": 1767700000000}}';
    accepted record;
BEGIN
    SELECT * INTO accepted FROM tenantcall.accept_function_call(body,
        format('v=%s,d=%s', 1767700061000, encode(public.hmac(body || 1767700061000, 'view_secret', 'sha256'), 'hex')),
        received_at => to_timestamp(1767700061));
    PERFORM tenantcall.finish_function_call(accepted.company_id, accepted.idempotency_key, '{"booked": true}');
END
$$;

-- the history, as its own company sees it
SET ROLE regress_tc_view_gateway;
SELECT kind, what, detail - '{last_received_at,branch_id,idempotency_key}'::text[] AS detail FROM tenantcall.call_timeline('view_1');
SELECT count(*) > 0 AND bool_and(at >= previous) AS in_time_order
FROM (SELECT at, lag(at, 1, at) OVER () AS previous FROM tenantcall.call_timeline('view_1')) AS t;
RESET ROLE;

-- an application sees calls of the company that it has entered
SELECT tenantcall.sign_token(:c1, :b1, '1 hour') AS token \gset
SET ROLE regress_tc_view_app;
SELECT tenantcall.call_context('view_1');
\echo :LAST_ERROR_SQLSTATE
BEGIN;
SELECT tenantcall.enter_token(:'token');
SELECT status, customer FROM tenantcall.call_context('view_1');
SELECT count(*) FROM tenantcall.call_timeline('view_1');
SAVEPOINT s;
SELECT tenantcall.call_context('view_2');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK TO s;
SELECT tenantcall.call_timeline('view_2');
ROLLBACK TO s;
SELECT tenantcall.advance_call('view_1', 'analyzed');
ROLLBACK;
RESET ROLE;
-- so does a gateway that has
BEGIN;
SET LOCAL ROLE regress_tc_view_gateway;
SELECT tenantcall.enter(:c2);
SELECT tenantcall.advance_call('view_1', 'analyzed');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;

-- what was kept for one is not given to another
BEGIN;
SET LOCAL ROLE regress_tc_view_gateway;
SELECT status FROM tenantcall.call_context('view_1');
SET LOCAL ROLE regress_tc_view_app;
SELECT tenantcall.call_context('view_1');
ROLLBACK;

SELECT tenantcall.drop_webhook_key('retell', 'view');
DROP OWNED BY regress_tc_view_gateway, regress_tc_view_app;
DROP ROLE regress_tc_view_gateway, regress_tc_view_app;
