-- quarantine: what could not be placed is kept, and taken in again once it can be
SET client_min_messages = warning;
\set SHOW_CONTEXT never
CREATE ROLE regress_tc_quarantine_gateway;
CREATE ROLE regress_tc_quarantine_app;
SELECT tenantcall.grant_gateway('regress_tc_quarantine_gateway'), tenantcall.grant_app('regress_tc_quarantine_app');
SELECT tenantcall.set_webhook_key('retell', 'quarantine', 'quarantine secret');
SELECT tenantcall.create_company('quarantine one', 'DE', 'Europe/Berlin') AS one,
       tenantcall.create_company('quarantine two', 'DE', 'Europe/Berlin') AS two \gset
BEGIN;
SELECT tenantcall.enter(:one);
INSERT INTO telephony.branches (name) VALUES ('one a') RETURNING branch_id AS one_a \gset
INSERT INTO telephony.customers (name, phone) VALUES ('Ada', '+4915100000001');
COMMIT;
BEGIN;
SELECT tenantcall.enter(:two);
INSERT INTO telephony.branches (name) VALUES ('two a') RETURNING branch_id AS two_a \gset
COMMIT;
SELECT tenantcall.assign_number('+49307770003', :one, :one_a) IS NOT NULL AS assigned,
       tenantcall.assign_number('+49307770013', :two, :two_a) IS NOT NULL AS assigned;
-- companies by name, and signed bodies, for the roles of this test
SELECT set_config('regress.one', :'one', false), set_config('regress.two', :'two', false) \gset ignored_
CREATE FUNCTION quarantine_company(id bigint) RETURNS text LANGUAGE sql AS $$
SELECT CASE id WHEN current_setting('regress.one')::bigint THEN 'one' WHEN current_setting('regress.two')::bigint THEN 'two' END
$$;
CREATE FUNCTION quarantine_sign(body text, secret text DEFAULT 'quarantine secret') RETURNS text LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$ SELECT tenantcall.retell_signature(body, secret) $$;

CREATE FUNCTION quarantine_event(event text, call_id text, number text, more jsonb DEFAULT '{}') RETURNS text LANGUAGE sql STABLE AS $$
SELECT jsonb_build_object('event', event, 'call', jsonb_strip_nulls(jsonb_build_object('call_id', call_id,
    'call_type', 'phone_call', 'direction', 'inbound', 'from_number', '+4915100000001', 'to_number', number,
    'agent_id', 'agent x', 'call_status', 'ongoing',
    'start_timestamp', (extract(epoch FROM now()) * 1000)::bigint + 5000) || more))::text
$$;

CREATE ROLE regress_tc_quarantine_admin;
SELECT tenantcall.grant_admin('regress_tc_quarantine_admin');
CREATE FUNCTION quarantine_ago(call_id text, ago interval, event text DEFAULT 'call_started', number text DEFAULT '+49307778883') RETURNS text LANGUAGE sql STABLE AS $$
SELECT quarantine_event(event, call_id, number, jsonb_build_object('start_timestamp', (extract(epoch FROM now() - ago) * 1000)::bigint))
$$;
CREATE TABLE quarantine_inbox (n int, body text);
INSERT INTO quarantine_inbox VALUES (1, quarantine_ago('quarantine old', '2 hours')), (2, quarantine_ago('quarantine new', '-1 hour', 'call_analyzed')),
    (3, quarantine_ago('quarantine new', '-1 hour', 'call_ended')), (4, quarantine_ago('quarantine new', '-1 hour')), (5, 'nonsense'),
    (6, quarantine_ago('quarantine other', '-1 hour', number => '+49307778893'));
GRANT SELECT ON quarantine_inbox TO regress_tc_quarantine_gateway;
SET ROLE regress_tc_quarantine_gateway;
SELECT n, outcome, reason FROM quarantine_inbox, tenantcall.ingest_retell(body, quarantine_sign(body)) ORDER BY n;
SELECT n, outcome, reason FROM quarantine_inbox, tenantcall.ingest_retell(body, quarantine_sign(body)) ORDER BY n;
-- forged ones are not kept
SELECT n, outcome, reason FROM quarantine_inbox, tenantcall.ingest_retell(body, quarantine_sign(body, 'x')) ORDER BY n;
SELECT count(*) FROM tenantcall.quarantine;
SELECT count(*) FROM tenantcall.quarantined;
SET ROLE regress_tc_quarantine_app;
SELECT * FROM tenantcall.replay_quarantined();
SET ROLE regress_tc_quarantine_admin;
SELECT event, provider_call_id, number, reason, deliveries, replayed_at, replay_outcome FROM tenantcall.quarantined ORDER BY quarantine_id;
SELECT count(*) FROM tenantcall.quarantine;
-- nobody has the number yet
SELECT outcome, reason FROM tenantcall.replay_quarantined('+49307778883') ORDER BY quarantine_id;
-- now somebody has: what is older than the assignment stays; the rest comes in the order of a call
SELECT tenantcall.assign_number('+49307778883', :one, :one_a) IS NOT NULL AS assigned;
SELECT outcome, reason, quarantine_company(company_id) AS company FROM tenantcall.replay_quarantined('+49307778883');
SELECT outcome, reason FROM tenantcall.replay_quarantined('+49307778883');
-- unless the operator says since when it may; also since the very beginning
SELECT outcome, reason FROM tenantcall.replay_quarantined('+49307778883', now() - interval '1 hour');
SELECT outcome, reason, quarantine_company(company_id) AS company FROM tenantcall.replay_quarantined('+49307778883', '2000-01-01 00:00:00+00');
SELECT outcome, reason FROM tenantcall.replay_quarantined('+49307778883', '-infinity');
-- all that is left
SELECT outcome, reason FROM tenantcall.replay_quarantined() ORDER BY quarantine_id;
SELECT tenantcall.assign_number('+49307778893', :two, :two_a) IS NOT NULL AS assigned;
SELECT outcome, reason, quarantine_company(company_id) AS company FROM tenantcall.replay_quarantined() ORDER BY quarantine_id;
SELECT event, provider_call_id, replayed_at IS NOT NULL AS replayed, replay_outcome FROM tenantcall.quarantined ORDER BY quarantine_id;
SELECT outcome FROM tenantcall.replay_quarantined('nonsense');
SELECT tenantcall.current_company_id() IS NULL AS none;
BEGIN;
SELECT tenantcall.enter(:one);
SELECT provider_call_id, status FROM telephony.calls ORDER BY call_id;
COMMIT;
-- a conflict is kept and settled: the call is another company's, and replaying does not ask again
SET ROLE regress_tc_quarantine_gateway;
SELECT outcome, reason FROM (SELECT quarantine_event('call_ended', 'quarantine other', '+49307770003') AS body) AS b,
    tenantcall.ingest_retell(body, quarantine_sign(body));
SELECT count(*) FROM tenantcall.replay_quarantined('+49307770003');
SET ROLE regress_tc_quarantine_admin;
SELECT outcome, reason, replayed_at FROM tenantcall.quarantined WHERE outcome = 'conflict';
BEGIN;
SELECT tenantcall.enter(:two);
SELECT count(*) FROM telephony.tenant_decisions WHERE outcome = 'conflict';
COMMIT;
RESET ROLE;
SELECT tenantcall.release_number('+49307778883'), tenantcall.release_number('+49307778893');
DROP TABLE quarantine_inbox;
DROP FUNCTION quarantine_ago(text, interval, text, text), quarantine_event(text, text, text, jsonb);
DROP OWNED BY regress_tc_quarantine_admin;
DROP ROLE regress_tc_quarantine_admin;

RESET ROLE;
SELECT tenantcall.drop_webhook_key('retell', 'quarantine');
SELECT tenantcall.release_number('+49307770003'), tenantcall.release_number('+49307770013');
DELETE FROM tenantcall.quarantine;
DROP FUNCTION quarantine_company(bigint), quarantine_sign(text, text);
DROP OWNED BY regress_tc_quarantine_gateway, regress_tc_quarantine_app;
DROP ROLE regress_tc_quarantine_gateway, regress_tc_quarantine_app;
