-- the audit trail: append-only, refusals in it, partitions made and dropped
SET client_min_messages = warning;
\set SHOW_CONTEXT never
\set VERBOSITY terse
CREATE ROLE regress_tc_trail_app;
CREATE ROLE regress_tc_trail_gateway;
CREATE ROLE regress_tc_trail_admin;
SELECT tenantcall.grant_app('regress_tc_trail_app'), tenantcall.grant_gateway('regress_tc_trail_gateway'),
       tenantcall.grant_admin('regress_tc_trail_admin');
SELECT tenantcall.create_company('Trail', 'DE', 'Asia/Kathmandu') AS c1, tenantcall.create_company('Trail too', 'DE', 'UTC') AS c2 \gset
BEGIN;
SELECT tenantcall.enter(:c1) \g /dev/null
INSERT INTO telephony.branches (name) VALUES ('b') RETURNING branch_id AS b1 \gset
INSERT INTO telephony.customers (name) VALUES ('Anna');
COMMIT;
BEGIN;
SELECT tenantcall.enter(:c2) \g /dev/null
INSERT INTO telephony.branches (name) VALUES ('b') RETURNING branch_id AS b2 \gset
COMMIT;
SELECT tenantcall.assign_number('+4930810001', :c1, :b1), tenantcall.assign_number('+4930810002', :c2, :b2) \g /dev/null
SELECT tenantcall.set_webhook_key('retell', 'trail', 'trail secret'), tenantcall.set_webhook_key('retell', 'trail own', 'own secret', :c2);
UPDATE telephony.phone_numbers SET assigned_at = '2020-01-01' WHERE number LIKE '+493081000%';
CREATE FUNCTION trail_body(event text, call text, number text, at timestamptz DEFAULT now()) RETURNS text LANGUAGE sql STABLE AS $$
SELECT jsonb_build_object('event', event, 'name', 'f', 'args', '{}'::jsonb, 'call_inbound', jsonb_build_object('from_number', '+4915100000009', 'to_number', number), 'call',
    jsonb_build_object('call_id', call, 'call_type', 'phone_call', 'direction', 'inbound', 'from_number', '+4915100000009', 'to_number', number,
    'call_status', 'ended', 'start_timestamp', (extract(epoch FROM at) * 1000)::bigint, 'end_timestamp', (extract(epoch FROM at) * 1000)::bigint + 60000,
    'disconnection_reason', 'user_hangup', 'transcript_with_tool_calls', jsonb_build_array(jsonb_build_object('name', 'f', 'tool_call_id', event))))::text
$$;
CREATE FUNCTION trail_sign(body text, secret text DEFAULT 'trail secret', at timestamptz DEFAULT now()) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp AS $$
SELECT format('v=%s,d=%s', stamp, encode(hmac(body || stamp, secret, 'sha256'), 'hex')) FROM (SELECT (extract(epoch FROM at) * 1000)::bigint::text) AS s (stamp)
$$;

-- every refusal that is returned is in the books: counted, the first ones in full, with who and which event
SET ROLE regress_tc_trail_gateway;
SELECT outcome, reason, status FROM trail_body('call_started', 'trail 1', '+4930810001') AS b, tenantcall.ingest_retell(b, trail_sign(b));
SELECT outcome, reason FROM trail_body('call_ended', 'trail 1', '+4930810002') AS b, tenantcall.ingest_retell(b, trail_sign(b));
SELECT outcome, reason FROM trail_body('call_ended', 'trail 1', '+4930810001') AS b, tenantcall.ingest_retell(b, trail_sign(b, 'forged'));
SELECT outcome, reason FROM trail_body('call_ended', 'trail 1', '+4930810001') AS b, tenantcall.ingest_retell(b, trail_sign(b, at => now() - interval '1 hour'));
SELECT outcome, reason FROM trail_body('call_ended', 'trail 1', '+4930810002') AS b, tenantcall.ingest_retell(b, trail_sign(b, 'own secret'));
SELECT outcome FROM trail_body('call_inbound', NULL, '+4930810001') AS b, tenantcall.answer_inbound_call(b, NULL);
SELECT outcome FROM trail_body('call_inbound', NULL, '+4930810009') AS b, tenantcall.answer_inbound_call(b, trail_sign(b));
RESET ROLE;
SELECT tenantcall.reset_bucket('function_call', NULL) \g /dev/null
SET ROLE regress_tc_trail_gateway;
SELECT outcome, reason FROM trail_body('1', 'trail 9', '+4930810009') AS b, tenantcall.accept_function_call(b, trail_sign(b));
SELECT outcome, reason FROM trail_body('1', 'trail 9', '+4930810009') AS b, tenantcall.accept_function_call(b, trail_sign(b, 'forged'));
RESET ROLE;
SELECT tenantcall.set_company_status(:c2, 'suspended', 'test') \g /dev/null
SET ROLE regress_tc_trail_gateway;
SELECT outcome FROM trail_body('call_inbound', NULL, '+4930810002') AS b, tenantcall.answer_inbound_call(b, trail_sign(b));
SELECT outcome, count(*) FROM generate_series(1, 250) AS n, trail_body(n::text, 'trail 2', '+4930810002') AS b,
    tenantcall.accept_function_call(b, trail_sign(b)) GROUP BY 1;
RESET ROLE;
SELECT tenantcall.set_company_status(:c2, 'active') \g /dev/null
SELECT tenantcall.set_rate_policy('function_call', 100, '30 days', company_id => :c2) \g /dev/null
SET ROLE regress_tc_trail_gateway;
SELECT outcome, count(*) FROM generate_series(1, 350) AS n, trail_body(n::text, 'trail 3.' || n, '+4930810002') AS b,
    tenantcall.accept_function_call(b, trail_sign(b)) GROUP BY 1;
RESET ROLE;
SELECT CASE company_id WHEN :c1 THEN 1 WHEN :c2 THEN 2 END AS company, kind, outcome, reason, sum(refused) AS refused, by_role
FROM telephony.refusals WHERE company_id IN (:c1, :c2) GROUP BY 1, 2, 3, 4, 6 ORDER BY 1, 2, 3;
SELECT CASE company_id WHEN :c1 THEN 1 WHEN :c2 THEN 2 END AS company, kind, outcome, reason, source, event, split_part(provider_call_id, '.', 1) AS call, by_role, count(*) BETWEEN 1 AND 200 AS bounded, max(from_number)
FROM telephony.tenant_decisions WHERE company_id IN (:c1, :c2) AND kind <> 'enter' GROUP BY 1, 2, 3, 4, 5, 6, 7, 8 HAVING event = ANY ('{f,call_started,call_ended,call_inbound}') ORDER BY 1, min(decision_id);
SELECT kind, outcome, reason, by_role, sum(refused) FROM tenantcall.unplaced_refusals WHERE by_role = 'regress_tc_trail_gateway' GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3;
-- many in a transaction, and what savepoints undo is not counted
SET ROLE regress_tc_trail_gateway;
BEGIN;
SELECT count(*) FROM generate_series(1, 1000) AS n, tenantcall.ingest_retell('x'::text, 'many ' || n);
SAVEPOINT a;
SELECT count(*) FROM generate_series(1, 10) AS n, tenantcall.ingest_retell('x'::text, 'undone ' || n);
SELECT count(*) FROM generate_series(1, 10) AS n, tenantcall.ingest_retell(NULL::text, 'undone ' || n);
ROLLBACK TO a;
SAVEPOINT b;
SELECT count(*) FROM generate_series(1, 10) AS n, tenantcall.ingest_retell(NULL::text, 'kept ' || n);
RELEASE b;
SELECT count(*) FROM generate_series(1, 5) AS n, tenantcall.ingest_retell(NULL::text, 'kept ' || n);
COMMIT;
BEGIN;
SELECT count(*) FROM generate_series(1, 10) AS n, tenantcall.ingest_retell(NULL::text, 'undone ' || n);
ROLLBACK;
RESET ROLE;
SELECT outcome, reason, sum(refused) FROM tenantcall.unplaced_refusals WHERE by_role = 'regress_tc_trail_gateway' AND reason IN ('malformed_signature', 'no_body') GROUP BY 1, 2 ORDER BY 2;
-- a transaction that becomes read-only before it ends
SET ROLE regress_tc_trail_gateway;
BEGIN;
SELECT count(*) FROM generate_series(1, 3) AS n, tenantcall.ingest_retell('x'::text, repeat('x', n));
SET TRANSACTION READ ONLY;
COMMIT;
RESET ROLE;
SELECT outcome, reason, sum(refused) FROM tenantcall.unplaced_refusals WHERE by_role = 'regress_tc_trail_gateway' AND reason = 'malformed_signature' GROUP BY 1, 2;
-- usage counts them
BEGIN;
SELECT tenantcall.enter(:c2) \g /dev/null
SELECT sum(refusals) = (SELECT sum(refused) FROM telephony.refusals WHERE company_id = :c2) AS counted FROM tenantcall.company_usage(current_date - 1, current_date + 1);
COMMIT;

-- append-only for everybody
CREATE FUNCTION pg_temp.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    RETURN 'DONE';
EXCEPTION WHEN OTHERS THEN
    RETURN sqlstate || ' ' || sqlerrm;
END
$$;
CREATE TABLE trail_attempts (n int, statement text);
INSERT INTO trail_attempts SELECT row_number() OVER (ORDER BY rel, verb), format(verb, rel) FROM
    unnest(ARRAY['telephony.call_events', 'telephony.call_transitions', 'telephony.tenant_decisions', 'telephony.refusals']) AS rel,
    unnest(ARRAY['DELETE FROM %s', 'TRUNCATE %s', 'UPDATE %s SET company_id = company_id']) AS verb;
INSERT INTO trail_attempts SELECT 90 + row_number() OVER (), statement FROM unnest(ARRAY['DELETE FROM tenantcall.unplaced_refusals', 'DELETE FROM telephony.calls', 'TRUNCATE tenantcall.unplaced_refusals',
    'TRUNCATE telephony.tenant_decisions_default', 'TRUNCATE telephony.calls CASCADE']) AS statement;
GRANT SELECT ON trail_attempts TO PUBLIC;
SELECT tenantcall.sign_token(:c1, NULL, '1 hour') AS token \gset
SET ROLE regress_tc_trail_app;
BEGIN;
SELECT tenantcall.enter_token(:'token') \g /dev/null
SELECT DISTINCT pg_temp.try(statement) FROM trail_attempts ORDER BY 1;
COMMIT;
SET ROLE regress_tc_trail_gateway;
BEGIN;
SELECT tenantcall.enter(:c1) \g /dev/null
SELECT DISTINCT pg_temp.try(statement) FROM trail_attempts ORDER BY 1;
COMMIT;
SET ROLE regress_tc_trail_admin;
BEGIN;
SELECT tenantcall.enter(:c1) \g /dev/null
SELECT DISTINCT pg_temp.try(statement) FROM trail_attempts ORDER BY 1;
COMMIT;
-- also for the owner, in a function of its own, and for superusers
RESET ROLE;
GRANT USAGE ON SCHEMA public, tenantcall TO tenantcall_owner;
CREATE FUNCTION public.trail_definer(statement text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE statement;
    RETURN 'DONE';
EXCEPTION WHEN OTHERS THEN
    RETURN sqlstate || ' ' || sqlerrm;
END
$$;
ALTER FUNCTION public.trail_definer(text) OWNER TO tenantcall_owner;
BEGIN;
SELECT tenantcall.enter(:c1) \g /dev/null
SELECT statement, public.trail_definer(statement) FROM trail_attempts ORDER BY n;
COMMIT;
SELECT statement, pg_temp.try(statement) FROM trail_attempts ORDER BY n;
DROP FUNCTION public.trail_definer(text);
REVOKE USAGE ON SCHEMA public, tenantcall FROM tenantcall_owner;

-- how long what is kept
SET ROLE regress_tc_trail_admin;
SELECT relation, keep, changed FROM tenantcall.retentions_in_force ORDER BY relation;
INSERT INTO tenantcall.retentions VALUES ('calls', '1 year');
INSERT INTO tenantcall.retentions VALUES ('call_events', '1 day');
INSERT INTO tenantcall.retentions VALUES ('call_events', '30 days'), ('call_transitions', NULL);
SELECT relation, keep, changed FROM tenantcall.retentions_in_force WHERE changed ORDER BY relation;
-- nothing to do
SELECT * FROM tenantcall.maintain_partitions();
SELECT tenantcall.maintain_partitions(0);
SELECT tenantcall.maintain_partitions(3, NULL);
RESET ROLE;
-- next months, one partition at a time
SET ROLE regress_tc_trail_admin;
SELECT relation, regexp_replace(partition, '\d{4}_\d\d', 'YYYY_MM') AS partition, action FROM tenantcall.maintain_partitions(4);
SELECT relation, regexp_replace(partition, '\d{4}_\d\d', 'YYYY_MM') AS partition, action FROM tenantcall.maintain_partitions(4, 10);
SELECT * FROM tenantcall.maintain_partitions(4, 10);
RESET ROLE;
SELECT bool_and(intact) FROM tenantcall.scoped_tables WHERE relation::text LIKE 'telephony.%\_20%';
-- old ones: with a call that is not over, and without
SELECT tenantcall.make_partition('call_events', '2021-01-01'), tenantcall.make_partition('call_events', '2021-02-01'),
       tenantcall.make_partition('refusals', '2021-01-01'), tenantcall.make_partition('call_transitions', '2021-01-01');
BEGIN;
SELECT tenantcall.enter(:c1) \g /dev/null
INSERT INTO telephony.calls (provider_call_id, status, created_at) VALUES ('trail open', 'inbound', '2021-01-10 12:00+00');
SELECT outcome, status FROM trail_body('call_ended', 'trail old', '+4930810001', '2021-02-10') AS b, tenantcall.ingest_retell(b, trail_sign(b));
UPDATE telephony.calls SET created_at = '2021-02-10' WHERE provider_call_id = 'trail old';
INSERT INTO telephony.call_events (call_id, call_at, event, received_at, last_received_at, body)
SELECT call_id, created_at, 'call_ended', created_at, created_at, '{}' FROM telephony.calls WHERE provider_call_id LIKE 'trail o%';
COMMIT;
SELECT tableoid::regclass, count(*) FROM telephony.call_events WHERE company_id = :c1 AND call_at < '2022-01-01' GROUP BY 1;
UPDATE telephony.companies SET created_at = '2020-01-01' WHERE company_id = :c2;
SET ROLE regress_tc_trail_admin;
SELECT * FROM tenantcall.maintain_partitions(4, 10);
SELECT count(*) >= 0 AS rolled FROM tenantcall.roll_up_usage(1000000);
SELECT count(*) FROM tenantcall.close_stuck_calls() WHERE provider_call_id = 'trail open';
SELECT * FROM tenantcall.maintain_partitions(4, 1);
SELECT * FROM tenantcall.maintain_partitions(4, 10);
SELECT * FROM tenantcall.maintain_partitions(4, 10);
RESET ROLE;
-- the calls are there, and later events of them find their place
SELECT provider_call_id, status, events_seen FROM telephony.calls WHERE provider_call_id LIKE 'trail o%' ORDER BY 1;
SET ROLE regress_tc_trail_gateway;
SELECT outcome, reason, status FROM trail_body('call_ended', 'trail old', '+4930810001', '2021-02-10') AS b, tenantcall.ingest_retell(b, trail_sign(b));
SELECT outcome, reason, status FROM trail_body('call_analyzed', 'trail old', '+4930810001', '2021-02-10') AS b, tenantcall.ingest_retell(b, trail_sign(b));
SELECT outcome, reason, status FROM trail_body('call_started', 'trail old', '+4930810001', '2021-02-09') AS b, tenantcall.ingest_retell(b, trail_sign(b));
RESET ROLE;
SELECT provider_call_id, status, events_seen, started_at AT TIME ZONE 'UTC' AS started_at, ended_at AT TIME ZONE 'UTC' AS ended_at FROM telephony.calls WHERE provider_call_id = 'trail old';
SELECT tableoid::regclass, event FROM telephony.call_events WHERE company_id = :c1 AND call_at < '2022-01-01' ORDER BY 2;
-- what came so late is in no partition of its own, and expires by rows
SET ROLE regress_tc_trail_admin;
BEGIN;
SELECT tenantcall.enter(:c1) \g /dev/null
SELECT * FROM tenantcall.expire_rows(2);
SELECT * FROM tenantcall.expire_rows() WHERE rows_deleted > 0;
SELECT * FROM tenantcall.expire_rows() WHERE rows_deleted > 0;
COMMIT;
DELETE FROM tenantcall.retentions;
RESET ROLE;
SELECT count(*) FROM telephony.call_events WHERE company_id = :c1;
SELECT tenantcall.drop_webhook_key('retell', 'trail'), tenantcall.drop_webhook_key('retell', 'trail own');
SELECT tenantcall.release_number('+4930810001'), tenantcall.release_number('+4930810002') \g /dev/null
DELETE FROM tenantcall.quarantine WHERE body::text LIKE '%trail%' OR number LIKE '+493081000%';
DROP TABLE trail_attempts;
DROP FUNCTION trail_body(text, text, text, timestamptz), trail_sign(text, text, timestamptz);
DROP OWNED BY regress_tc_trail_app, regress_tc_trail_gateway, regress_tc_trail_admin;
DROP ROLE regress_tc_trail_app, regress_tc_trail_gateway, regress_tc_trail_admin;
