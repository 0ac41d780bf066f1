-- inbound_match: which call an inbound request became
SET client_min_messages = warning;
\set SHOW_CONTEXT never
CREATE ROLE regress_tc_match_gateway;
SELECT tenantcall.grant_gateway('regress_tc_match_gateway');
SELECT tenantcall.set_webhook_key('retell', 'match', 'match secret');
SELECT tenantcall.create_company('match one', 'DE', 'Europe/Berlin') AS one,
       tenantcall.create_company('match two', 'DE', 'Europe/Berlin') AS two \gset
SELECT set_config('regress.one', :'one', false), set_config('regress.two', :'two', false) \gset ignored_
BEGIN;
SELECT tenantcall.enter(:one);
INSERT INTO telephony.branches (name) VALUES ('one a') RETURNING branch_id AS one_a \gset
COMMIT;
BEGIN;
SELECT tenantcall.enter(:two);
INSERT INTO telephony.branches (name) VALUES ('two a') RETURNING branch_id AS two_a \gset
COMMIT;
SELECT tenantcall.assign_number('+49307550001', :one, :one_a) IS NOT NULL AND tenantcall.assign_number('+49307550011', :two, :two_a) IS NOT NULL AS assigned;
UPDATE telephony.phone_numbers SET assigned_at = assigned_at - interval '1 hour' WHERE company_id IN (:one, :two);
-- a key of company two's own, which can sign what it likes
SELECT tenantcall.set_webhook_key('retell', 'match two', 'secret of two', :two);

-- a phone rings; an event is delivered; seconds are those since the test began
SELECT set_config('regress.start', now()::text, false) AS start \gset ignored_
CREATE FUNCTION match_at(seconds numeric) RETURNS timestamptz LANGUAGE sql AS $$
SELECT current_setting('regress.start')::timestamptz + make_interval(secs => seconds::float8)
$$;
CREATE FUNCTION match_ring(seconds numeric, caller text DEFAULT '+4915100000001', number text DEFAULT '+49307550001', OUT outcome text, OUT token text)
LANGUAGE plpgsql AS $$
DECLARE
    body text := json_build_object('event', 'call_inbound', 'call_inbound', json_build_object('from_number', caller, 'to_number', number));
BEGIN
    SELECT a.outcome, a.answer #>> '{call_inbound,metadata,tenantcall}' INTO outcome, token
    FROM tenantcall.answer_inbound_call(body, tenantcall.retell_signature(body, 'match secret', match_at(seconds)), match_at(seconds)) AS a;
END
$$;
CREATE FUNCTION match_event(event text, call text, seconds numeric, metadata jsonb DEFAULT NULL, changes jsonb DEFAULT '{}', secret text DEFAULT 'match secret')
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    body text := jsonb_build_object('event', event, 'call', jsonb_strip_nulls(jsonb_build_object('call_id', call, 'call_type', 'phone_call',
        'direction', 'inbound', 'from_number', '+4915100000001', 'to_number', '+49307550001', 'start_timestamp', floor(extract(epoch FROM match_at(seconds)) * 1000),
        'disconnection_reason', CASE event WHEN 'call_ended' THEN 'user_hangup' END, 'metadata', metadata) || changes));
BEGIN
    RETURN (SELECT concat_ws(' ', i.outcome, i.status, i.reason)
            FROM tenantcall.ingest_retell(body, tenantcall.retell_signature(body, secret, match_at(seconds)), match_at(seconds)) AS i);
END
$$;
CREATE FUNCTION match_token(token text) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('tenantcall', token) $$;
CREATE VIEW match_rows AS
    SELECT CASE company_id WHEN current_setting('regress.one')::bigint THEN 'one' ELSE 'two' END AS company, round(extract(epoch FROM received_at - match_at(0)), 1) AS second,
           provider_call_id AS call, matched_by
    FROM telephony.inbound_requests
    WHERE company_id IN (current_setting('regress.one')::bigint, current_setting('regress.two')::bigint) ORDER BY company_id, received_at;
CREATE VIEW match_decisions AS
    SELECT CASE d.company_id WHEN current_setting('regress.one')::bigint THEN 'one' ELSE 'two' END AS company, d.provider_call_id AS call, d.outcome, d.source, d.reason,
           i.kind || ' ' || i.outcome AS request
    FROM telephony.tenant_decisions AS d LEFT JOIN telephony.tenant_decisions AS i ON i.company_id = d.company_id AND i.decision_id = d.inbound_decision_id
    WHERE d.kind = 'match' ORDER BY d.decision_id;
CREATE VIEW match_leases AS
    SELECT CASE WHEN holder ~ '^[0-9a-f]{64}$' THEN 'request' ELSE holder END AS holder, provider_call_id AS call FROM telephony.call_leases
    WHERE company_id = current_setting('regress.one')::bigint ORDER BY acquired_at;

-- by the token of the answer: the lease passes from the request to the call
SELECT token FROM match_ring(0) \gset
SELECT * FROM match_leases;
SELECT match_event('call_started', 'm1', 1, match_token(:'token'));
SELECT * FROM match_leases;
SELECT match_event('call_ended', 'm1', 2, match_token(:'token')), match_event('call_analyzed', 'm1', 3, match_token(:'token'));
SELECT * FROM match_leases;
SELECT * FROM match_rows;
SELECT * FROM match_decisions;
-- and it shows in the history of the call
SELECT kind, what, detail ->> 'source' AS source FROM tenantcall.call_timeline('m1') WHERE kind = 'decision';
SELECT detail - 'by_role' - 'branch_id' AS detail FROM tenantcall.call_timeline('m1') WHERE what = 'match matched';

-- the token again on another call: a conflict, recorded once; the call itself is taken in, and counted
SELECT match_event('call_started', 'm2', 4, match_token(:'token')), match_event('transcript_updated', 'm2', 5, match_token(:'token'));
SELECT * FROM match_rows;
SELECT * FROM match_decisions WHERE call = 'm2';
SELECT * FROM match_leases;
SELECT match_event('call_ended', 'm2', 6);
-- at the other company, by itself or signed with its own key: unknown there, and the first company hears nothing of it
\set at_two '{"to_number": "+49307550011"}'
SELECT token AS open FROM match_ring(10) \gset
SELECT match_event('call_started', 'x1', 11, match_token(:'open'), :'at_two'),
       match_event('call_started', 'x2', 12, match_token(:'open'), :'at_two', 'secret of two');
SELECT match_event('call_started', 'x3', 13, match_token(:'open'), '{}', 'secret of two');
SELECT * FROM match_rows WHERE call IS NOT NULL AND company = 'two';
SELECT * FROM match_decisions WHERE call LIKE 'x%';
-- other numbers, another direction, a web call, another time
SELECT match_event('call_started', 'y1', 11, match_token(:'open'), '{"from_number": "+4915100000009"}'),
       match_event('call_started', 'y2', 11, match_token(:'open'), '{"direction": "outbound", "from_number": "+49307550001", "to_number": "+4915100000001"}'),
       match_event('call_started', 'y3', 3611, match_token(:'open')),
       match_event('call_started', 'y4', -300, match_token(:'open'));
-- what is no token of ours, and what says itself whose it is
SELECT match_event('call_started', 'z1', 11, match_token('tc1_00000000000000000000000000000000')), match_event('call_started', 'z2', 11, match_token('')),
       match_event('call_started', 'z3', 11, '{"tenantcall": {"company_id": 1}}'), match_event('call_started', 'z4', 11, match_token(repeat('x', 300))),
       match_event('call_started', 'z5', 11, match_token((SELECT correlation FROM telephony.inbound_requests WHERE company_id = :one AND provider_call_id IS NULL)));
SELECT match_event('call_started', 'z6', 500, jsonb_build_object('company_id', :two, 'tenant', :two, 'branch_id', :two_a),
                   jsonb_build_object('retell_llm_dynamic_variables', jsonb_build_object('company_id', :'two')));
SELECT call, outcome, reason FROM match_decisions WHERE call ~ '^[yz]' ORDER BY call;
SELECT DISTINCT company_id = :one AS one FROM telephony.calls WHERE provider_call_id ~ '^[yz]';
SELECT * FROM match_rows WHERE second = 10;
SELECT match_event('call_started', 'm3', 11, match_token(:'open'));
SELECT * FROM match_rows WHERE second = 10;

-- without a token: the same numbers, the nearest in time, one to one
SELECT outcome FROM match_ring(1000, '+4915100000002');
SELECT outcome FROM match_ring(1005, '+4915100000002');
SELECT outcome FROM match_ring(1005, '+4915100000003');
\set other '{"from_number": "+4915100000002"}'
SELECT match_event('call_started', 'w2', 1006, NULL, :'other'), match_event('call_ended', 'w1', 1001, '{}', :'other'),
       match_event('call_started', 'w3', 1002, NULL, :'other');
SELECT match_event('call_started', 'w1', 1001, '{}', :'other');
SELECT * FROM match_rows WHERE second >= 1000;
SELECT * FROM match_decisions WHERE call LIKE 'w%';
SELECT * FROM match_leases WHERE call LIKE 'w%';
-- too far apart in time; another company; a withheld number is a number like another
SELECT match_event('call_started', 'v1', 1126, NULL, '{"from_number": "+4915100000003"}'), match_event('call_started', 'v2', 1005, NULL, '{"from_number": "+4915100000003", "to_number": "+49307550011"}');
SELECT outcome FROM match_ring(1300, 'anonymous');
SELECT match_event('call_started', 'v3', 1301), match_event('call_started', 'v4', 1301, NULL, '{"from_number": "anonymous"}');
SELECT * FROM match_rows WHERE second >= 1000;
SET tenantcall.calls_match_window = 0;
SELECT outcome FROM match_ring(1400);
SELECT match_event('call_started', 'v5', 1400);
RESET tenantcall.calls_match_window;
SELECT * FROM match_rows WHERE second >= 1400;

-- a guess gives way to the token, in whichever order
SELECT token FROM match_ring(2000, '+4915100000004') \gset
\set four '{"from_number": "+4915100000004"}'
SELECT match_event('call_started', 'u1', 2001, NULL, :'four'), match_event('call_started', 'u2', 2001, match_token(:'token'), :'four');
SELECT * FROM match_rows WHERE second >= 2000;
SELECT token AS second FROM match_ring(2010, '+4915100000004') \gset
SELECT match_event('call_started', 'u3', 2009, NULL, :'four');
SELECT token AS third FROM match_ring(2020, '+4915100000004') \gset
SELECT match_event('call_ended', 'u3', 2009, match_token(:'third'), :'four');
SELECT match_event('call_started', 'u4', 2011, match_token(:'second'), :'four');
SELECT match_event('call_ended', 'u4', 2011, match_token(:'third'), :'four');
SELECT * FROM match_rows WHERE second >= 2000;
SELECT * FROM match_decisions WHERE call LIKE 'u%';
-- a refused request is no call's
SELECT tenantcall.set_concurrency_policy(0, company_id => :one);
SELECT outcome FROM match_ring(3000, '+4915100000005');
SELECT match_event('call_started', 't1', 3000, NULL, '{"from_number": "+4915100000005"}');
SELECT * FROM match_rows WHERE second >= 3000;

-- nothing of the caller stays when it is forgotten, nor comes again with the rest of its calls
SELECT tenantcall.drop_concurrency_policy(:one);
SELECT token FROM match_ring(2030, '+4915100000004') \gset
SELECT match_event('call_started', 'u5', 2031, match_token(:'token'), :'four');
SELECT decisions > 0 AS decisions FROM tenantcall.forget_caller('+4915100000004', :one);
SELECT count(*) FROM telephony.inbound_requests WHERE company_id = :one AND (from_number = '+4915100000004' OR received_at = match_at(2010) AND answer IS NOT NULL);
SELECT match_event('call_ended', 'u5', 2032, match_token(:'token'), :'four');
-- nor with a token that is none of it
SELECT match_event('call_analyzed', 'u5', 2033, match_token('tc1_00000000000000000000000000000000'), :'four');
SELECT count(*) FROM telephony.tenant_decisions WHERE company_id = :one AND from_number = '+4915100000004';

SELECT tenantcall.drop_webhook_key('retell', 'match'), tenantcall.drop_webhook_key('retell', 'match two');
DROP VIEW match_rows, match_decisions, match_leases;
DROP FUNCTION match_ring(numeric, text, text), match_event(text, text, numeric, jsonb, jsonb, text), match_token(text), match_at(numeric);
SELECT tenantcall.release_number('+49307550001'), tenantcall.release_number('+49307550011');
DELETE FROM tenantcall.quarantine;
DROP OWNED BY regress_tc_match_gateway;
DROP ROLE regress_tc_match_gateway;
