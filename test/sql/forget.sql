-- forget_caller(): one caller of one company
SET client_min_messages = warning;
CREATE ROLE regress_tc_forget_admin;
CREATE ROLE regress_tc_forget_app;
SELECT tenantcall.grant_admin('regress_tc_forget_admin'), tenantcall.grant_app('regress_tc_forget_app');
SELECT tenantcall.create_company('Forget', 'DE', 'UTC') AS c1 \gset
SELECT tenantcall.create_company('Forget not', 'DE', 'UTC') AS c2 \gset
BEGIN;
SELECT tenantcall.enter(:c1);
INSERT INTO telephony.branches (name) VALUES ('b') RETURNING branch_id AS b1 \gset
INSERT INTO telephony.customers (name, phone, email) VALUES ('Anna', '+4915122222221', 'anna@example.com'), ('Bert', '+4915122222222', NULL);
COMMIT;
BEGIN;
SELECT tenantcall.enter(:c2);
INSERT INTO telephony.branches (name) VALUES ('b') RETURNING branch_id AS b2 \gset
INSERT INTO telephony.customers (name, phone) VALUES ('Anna', '+4915122222221');
COMMIT;
SELECT tenantcall.assign_number('+4930800001', :c1, :b1), tenantcall.assign_number('+4930800002', :c2, :b2) \g /dev/null
UPDATE telephony.phone_numbers SET assigned_at = '2026-01-01' WHERE number LIKE '+493080000%';
SELECT tenantcall.set_webhook_key('retell', 'forget', 'forget_secret');
CREATE FUNCTION pg_temp.deliver(event text, call text, from_number text, to_number text, rest jsonb DEFAULT '{}') RETURNS text
    LANGUAGE plpgsql AS $$
DECLARE
    body text := jsonb_build_object('event', event, 'name', 'book', 'args', '{"name": "Anna Secret"}'::jsonb, 'call',
        jsonb_build_object('call_id', call, 'call_type', 'phone_call', 'call_status', 'ended', 'direction', 'inbound',
        'from_number', from_number, 'to_number', to_number, 'start_timestamp', 1767700000000, 'end_timestamp', 1767700060000,
        'disconnection_reason', 'user_hangup', 'transcript', 'Anna Secret speaks', 'recording_url', 'https://example.com/secret',
        'call_cost', '{"combined_cost": 12.5}'::jsonb,
        'call_analysis', '{"call_summary": "Anna Secret books", "user_sentiment": "Positive"}'::jsonb) || rest)::text;
    signature text := format('v=%s,d=%s', 1767700000000, encode(public.hmac(body || 1767700000000, 'forget_secret', 'sha256'), 'hex'));
BEGIN
    IF event IS NULL THEN
        RETURN (SELECT outcome FROM tenantcall.accept_function_call(body, signature, received_at => to_timestamp(1767700000)));
    END IF;
    RETURN (SELECT outcome FROM tenantcall.ingest_retell(body, signature, to_timestamp(1767700000)));
END
$$;
SELECT event, pg_temp.deliver(event, 'forget_1', '+4915122222221', '+4930800001') AS anna,
       pg_temp.deliver(event, 'forget_2', '+4915122222222', '+4930800001') AS bert,
       pg_temp.deliver(event, 'forget_3', '+4915122222221', '+4930800002') AS anna_elsewhere
FROM unnest(ARRAY['call_started', 'call_ended', 'call_analyzed', NULL]) AS event;
-- not assigned: quarantined, and replayed later
SELECT pg_temp.deliver('call_ended', 'forget_4', '+4915122222221', '+4930800003');
SELECT tenantcall.assign_number('+4930800003', :c1, :b1) \g /dev/null
SELECT outcome FROM tenantcall.replay_quarantined('+4930800003', '2026-01-01');

-- rows that hold something of Anna
CREATE FUNCTION pg_temp.traces(wanted bigint) RETURNS TABLE (relation text, traces bigint) LANGUAGE plpgsql AS $$
DECLARE
    rel regclass;
BEGIN
    FOR rel IN SELECT r::regclass FROM unnest(ARRAY['calls', 'call_events', 'function_calls', 'tenant_decisions', 'customers']) AS t,
               concat('telephony.', t) AS r LOOP
        relation := rel;
        EXECUTE format('SELECT count(*) FROM %s AS t WHERE company_id = $1 AND t::text ~ ''Anna|15122222221|secret''', rel) INTO traces USING wanted;
        RETURN NEXT;
    END LOOP;
    RETURN QUERY SELECT 'quarantine', count(*) FROM tenantcall.quarantine
        WHERE provider_call_id LIKE 'forget%' AND convert_from(body, 'UTF8') ~ 'Anna|15122222221';
END
$$;
SELECT relation, traces, (SELECT o.traces FROM pg_temp.traces(:c2) AS o WHERE o.relation = t.relation) AS elsewhere FROM pg_temp.traces(:c1) AS t;
SELECT provider_call_id, status, started_at, ended_at, duration, cost_cents, disconnection_reason, sentiment, summary
FROM telephony.calls WHERE provider_call_id LIKE 'forget%' ORDER BY 1;

-- who may, and for what
SET ROLE regress_tc_forget_admin;
SELECT tenantcall.forget_caller('+4915122222221');
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.forget_caller(NULL, :c1);
SELECT tenantcall.forget_caller('nobody', :c1);
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.forget_caller('+4915122222221', 4000000000000);
\echo :LAST_ERROR_SQLSTATE
\set SHOW_CONTEXT never
BEGIN;
SELECT tenantcall.enter(:c2);
SELECT tenantcall.forget_caller('+4915122222221', :c1);
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
\set VERBOSITY terse
SELECT tenantcall.forget_caller('+4930800001', :c1);
\echo :LAST_ERROR_SQLSTATE
-- national format of the company's country
SELECT * FROM tenantcall.forget_caller('0151 22222221', :c1);
SELECT * FROM tenantcall.forget_caller('0151 22222221', :c1);
RESET ROLE;
SELECT relation, traces, (SELECT o.traces FROM pg_temp.traces(:c2) AS o WHERE o.relation = t.relation) AS elsewhere FROM pg_temp.traces(:c1) AS t;
SELECT provider_call_id, status, started_at, ended_at, duration, cost_cents, disconnection_reason, sentiment, summary
FROM telephony.calls WHERE provider_call_id LIKE 'forget%' ORDER BY 1;
SELECT c.provider_call_id, count(*), sum(deliveries) FROM telephony.call_events JOIN telephony.calls AS c USING (company_id, call_id)
WHERE c.provider_call_id LIKE 'forget%' GROUP BY 1 ORDER BY 1;
-- a duplicate and a late event find their place, and move nothing
SELECT pg_temp.deliver('call_ended', 'forget_1', '+4915122222221', '+4930800001');
SELECT pg_temp.deliver('call_started', 'forget_4', '+4915122222222', '+4930800003');
SELECT provider_call_id, status, duration, from_number, transcript IS NULL AS no_transcript FROM telephony.calls WHERE provider_call_id IN ('forget_1', 'forget_4') ORDER BY 1;

-- an application forgets callers of its own company
SELECT tenantcall.sign_token(:c2, NULL, '1 hour') AS token \gset
SET ROLE regress_tc_forget_app;
SELECT tenantcall.forget_caller('+4915122222221', :c2);
\echo :LAST_ERROR_SQLSTATE
BEGIN;
SELECT tenantcall.enter_token(:'token') \g /dev/null
SELECT * FROM tenantcall.forget_caller('+4915122222221');
COMMIT;
RESET ROLE;
SELECT sum(traces) FROM pg_temp.traces(:c2);
SELECT tenantcall.drop_webhook_key('retell', 'forget');
DROP OWNED BY regress_tc_forget_admin, regress_tc_forget_app;
DROP ROLE regress_tc_forget_admin, regress_tc_forget_app;
