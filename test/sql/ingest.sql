-- ingest: events of calls, from a gateway that owns nothing
SET client_min_messages = warning;
\set SHOW_CONTEXT never
CREATE ROLE regress_tc_ingest_gateway;
CREATE ROLE regress_tc_ingest_app;
SELECT tenantcall.grant_gateway('regress_tc_ingest_gateway'), tenantcall.grant_app('regress_tc_ingest_app');
SELECT tenantcall.set_webhook_key('retell', 'ingest', 'ingest secret');
SELECT tenantcall.create_company('ingest one', 'DE', 'Europe/Berlin') AS one,
       tenantcall.create_company('ingest two', 'DE', 'Europe/Berlin') AS two \gset
BEGIN;
SELECT tenantcall.enter(:one);
INSERT INTO telephony.branches (name) VALUES ('one a') RETURNING branch_id AS one_a \gset
INSERT INTO telephony.customers (name, phone) VALUES ('Ada', '+4915100000001');
COMMIT;
BEGIN;
SELECT tenantcall.enter(:two);
INSERT INTO telephony.branches (name) VALUES ('two a') RETURNING branch_id AS two_a \gset
COMMIT;
SELECT tenantcall.assign_number('+49307770002', :one, :one_a) IS NOT NULL AS assigned,
       tenantcall.assign_number('+49307770012', :two, :two_a) IS NOT NULL AS assigned;
-- companies by name, and signed bodies, for the roles of this test
SELECT set_config('regress.one', :'one', false), set_config('regress.two', :'two', false) \gset ignored_
CREATE FUNCTION ingest_company(id bigint) RETURNS text LANGUAGE sql AS $$
SELECT CASE id WHEN current_setting('regress.one')::bigint THEN 'one' WHEN current_setting('regress.two')::bigint THEN 'two' END
$$;
CREATE FUNCTION ingest_sign(body text, secret text DEFAULT 'ingest secret') RETURNS text LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$ SELECT tenantcall.retell_signature(body, secret) $$;

CREATE FUNCTION ingest_event(event text, call_id text, number text, more jsonb DEFAULT '{}') RETURNS text LANGUAGE sql STABLE AS $$
SELECT jsonb_build_object('event', event, 'call', jsonb_strip_nulls(jsonb_build_object('call_id', call_id,
    'call_type', 'phone_call', 'direction', 'inbound', 'from_number', '+4915100000001', 'to_number', number,
    'agent_id', 'agent x', 'call_status', 'ongoing',
    'start_timestamp', (extract(epoch FROM now()) * 1000)::bigint + 5000) || more))::text
$$;

\set end '{"disconnection_reason": "user_hangup", "duration_ms": 1500}'
SET ROLE regress_tc_ingest_gateway;
PREPARE take(text, text, text, jsonb) AS
    SELECT outcome, reason, ingest_company(company_id) AS company, branch_id IS NOT NULL AS branch, call_id IS NOT NULL AS call, status
    FROM tenantcall.ingest_retell(ingest_event($1, $2, $3, $4), ingest_sign(ingest_event($1, $2, $3, $4)));

-- the life of a call
EXECUTE take('call_started', 'ingest a', '+49307770002', '{}');
EXECUTE take('call_ended', 'ingest a', '+49307770002', :'end');
EXECUTE take('call_analyzed', 'ingest a', '+49307770002', '{"call_analysis": {"user_sentiment": "Positive", "call_summary": "Good."}, "call_cost": {"combined_cost": 12.5}}');
-- again, with another body
EXECUTE take('call_ended', 'ingest a', '+49307770002', '{"disconnection_reason": "user_hangup", "duration_ms": 1501}');

-- a call that lost its binding has a row all the same
RESET ROLE;
DELETE FROM tenantcall.call_bindings WHERE provider_call_id = 'ingest a';
SET ROLE regress_tc_ingest_gateway;
EXECUTE take('transcript_updated', 'ingest a', '+49307770002', '{"transcript": "User: Hello."}');

-- late, and out of order
EXECUTE take('call_analyzed', 'ingest b', '+49307770012', '{}');
EXECUTE take('call_ended', 'ingest b', '+49307770012', :'end');
EXECUTE take('call_started', 'ingest b', '+49307770012', '{}');
-- it never connected
EXECUTE take('call_ended', 'ingest c', '+4915100000009', '{"direction": "outbound", "from_number": "+49307770002", "call_status": "not_connected", "disconnection_reason": "dial_busy"}');
-- events that say nothing of the state
EXECUTE take('transfer_started', 'ingest a', '+49307770002', '{}');
EXECUTE take('brand_new_event', 'ingest a', '+49307770002', '{}');

-- another company's number for a call that has a company: a conflict, never a move
EXECUTE take('call_started', 'ingest a', '+49307770012', '{}');
EXECUTE take('call_analyzed', 'ingest a', '+49307770012', '{}');
-- ids of companies in the content count for nothing
EXECUTE take('call_started', 'ingest d', '+49307770002', jsonb_build_object('metadata', jsonb_build_object('company_id', :two), 'company_id', :two));
-- a number that nobody has: not the last company, not the first
EXECUTE take('call_started', 'ingest e', '+49307779999', '{}');
-- but an event of a call that is bound needs none
EXECUTE take('call_ended', 'ingest d', NULL, :'end');
EXECUTE take('call_started', 'ingest f', NULL, '{}');

-- many companies in one statement; no context, before or after
SELECT n, r.outcome, ingest_company(r.company_id) AS company, r.status, tenantcall.current_company_id()
FROM generate_series(1, 4) AS n,
     LATERAL (SELECT ingest_event('call_started', 'ingest many ' || n, CASE WHEN n % 2 = 1 THEN '+49307770002' ELSE '+49307770012' END) AS body) AS b,
     tenantcall.ingest_retell(b.body, ingest_sign(b.body)) AS r ORDER BY n;

-- each company sees its own calls, nobody those of all
SELECT count(*) FROM telephony.calls;
BEGIN;
SELECT tenantcall.enter(:one);
SELECT provider_call_id, direction, from_number, to_number, status, disconnection_reason, duration, cost_cents, sentiment, summary,
       started_at IS NOT NULL AS started, analyzed_at IS NOT NULL AS analyzed FROM telephony.calls ORDER BY call_id;
SELECT c.provider_call_id, e.event, e.deliveries FROM telephony.call_events AS e JOIN telephony.calls AS c USING (company_id, call_id)
ORDER BY c.call_id, e.event COLLATE "C";
SELECT c.provider_call_id, t.from_state, t.to_state, t.event, t.by_role FROM telephony.call_transitions AS t
JOIN telephony.calls AS c ON c.call_id::text = t.key ORDER BY t.transition_id;
SELECT outcome, source, reason, provider_call_id FROM telephony.tenant_decisions ORDER BY decision_id;
-- and writes none of it
UPDATE telephony.calls SET status = 'inbound';
ROLLBACK;
BEGIN;
SELECT tenantcall.enter(:two);
SELECT provider_call_id, status FROM telephony.calls ORDER BY call_id;
COMMIT;
DELETE FROM telephony.call_events;
INSERT INTO tenantcall.call_bindings VALUES ('retell', 'x', 1);

-- all of the vendor's reasons
RESET ROLE;
SELECT state, count(*), string_agg(reason, ' ' ORDER BY reason) FROM tenantcall.disconnection_reason_defaults GROUP BY state ORDER BY state;
SELECT reason, deliveries, provider_call_id FROM tenantcall.quarantined ORDER BY quarantine_id;
DROP FUNCTION ingest_event(text, text, text, jsonb);

RESET ROLE;
SELECT tenantcall.drop_webhook_key('retell', 'ingest');
SELECT tenantcall.release_number('+49307770002'), tenantcall.release_number('+49307770012');
DELETE FROM tenantcall.quarantine;
DROP FUNCTION ingest_company(bigint), ingest_sign(text, text);
DROP OWNED BY regress_tc_ingest_gateway, regress_tc_ingest_app;
DROP ROLE regress_tc_ingest_gateway, regress_tc_ingest_app;
