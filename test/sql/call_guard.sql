-- call_guard: a call gone wild is paused, together with the company's limit: all or nothing
SET client_min_messages = warning;
SELECT tenantcall.set_webhook_key('retell', 'call_guard', 'call_guard secret');
SELECT tenantcall.create_company('call_guard one', 'DE', 'Europe/Berlin') AS one \gset
BEGIN;
SELECT tenantcall.enter(:one);
INSERT INTO telephony.branches (name) VALUES ('one a') RETURNING branch_id AS one_a \gset
COMMIT;
SELECT tenantcall.assign_number('+49307770104', :one, :one_a) IS NOT NULL AS assigned, tenantcall.assign_agent('call_guard agent', :one, :one_a);

CREATE FUNCTION call_guard_body(call_id text, function text, tool text) RETURNS text LANGUAGE sql STABLE AS $$
SELECT jsonb_build_object('name', function, 'args', '{}'::jsonb, 'call', jsonb_build_object('call_id', call_id,
    'direction', 'inbound', 'from_number', '+4915100000001', 'to_number', '+49307770104', 'transcript_with_tool_calls', jsonb_build_array(
        jsonb_build_object('role', 'tool_call_invocation', 'tool_call_id', tool, 'name', function))))::text
$$;
-- so many function calls, each with a tool call of its own, from tool number `first` on
CREATE FUNCTION call_guard_ask(call_id text, function text, first int, count int DEFAULT 1)
    RETURNS TABLE (outcome text, reason text, n bigint, retry_after interval, policy text, retry text) LANGUAGE sql AS $$
SELECT a.outcome, a.reason, count(*), max(a.retry_after), max(a.headers ->> 'RateLimit-Policy'), max(a.headers ->> 'Retry-After')
FROM generate_series(first, first + count - 1) AS g, LATERAL (SELECT call_guard_body(call_id, function, 't' || g) AS body) AS b,
    tenantcall.accept_function_call(body, tenantcall.retell_signature(body, 'call_guard secret')) AS a
GROUP BY 1, 2 ORDER BY 1 DESC
$$;
-- what the company's own limit has left
CREATE FUNCTION call_guard_left(company bigint) RETURNS bigint LANGUAGE sql AS $$
SELECT quota - remaining FROM tenantcall.rate_buckets() WHERE policy_id = 1 AND company_id = company
$$;

-- the clock of this session stands still from here
SELECT tenantcall.rate_test_clock(tenantcall.rate_test_clock(0)) AS t \gset
-- as shipped, in shadow mode: what it would have refused is counted, the company's limit alone decides and is told of
SELECT bandwidth, tokens, period_ns / 1000000000 AS seconds, pause_ns / 1000000000 AS pause, shadow FROM tenantcall.rate_policy_defaults WHERE policy = 'call_guard' ORDER BY 1;
SELECT * FROM call_guard_ask('call_guard 0', 'slots', 1, 30);
SELECT policy, bandwidth, allowed, denied, would_deny FROM tenantcall.stat_rate_limits WHERE company_id = :one ORDER BY 1, 2;
SELECT tenantcall.reset_bucket('function_call', :one);
-- in earnest
SELECT count(tenantcall.set_rate_policy('call_guard', tokens, per::interval, bandwidth => bandwidth, pause => pause::interval))
FROM (VALUES ('per_minute', 20, '1 minute', '300 s'), ('per_call', 50, '1 day', '0'), ('per_function', 10, '1 day', '0')) AS g (bandwidth, tokens, per, pause);
-- 10 of one function, then the call is paused: also for other functions, and not for other calls
SELECT * FROM call_guard_ask('call_guard 1', 'slots', 1, 10);
SELECT call_guard_left(:one) AS spent;
SELECT * FROM call_guard_ask('call_guard 1', 'slots', 11);
SELECT * FROM call_guard_ask('call_guard 1', 'book', 12);
SELECT * FROM call_guard_ask('call_guard 2', 'slots', 1);
-- refusals have spent nothing of the company's; what ran already is answered as before, for nothing
SELECT call_guard_left(:one) AS spent;
SELECT * FROM call_guard_ask('call_guard 1', 'slots', 1);
SELECT tenantcall.finish_function_call(:one, 'call_guard 1/t1', '{"slots": []}');
SELECT * FROM call_guard_ask('call_guard 1', 'slots', 1);
SELECT call_guard_left(:one) AS spent;
-- asking on does not make the pause longer; a nanosecond less than it is too early
SELECT tenantcall.rate_test_clock(:t + 299999999999) > 0 AS almost;
SELECT * FROM call_guard_ask('call_guard 1', 'book', 12);
SELECT tenantcall.rate_test_clock(:t + 300000000000) > 0 AS over;
SELECT * FROM call_guard_ask('call_guard 1', 'book', 12);
-- of the function itself there is one more after a tenth of a day: the token bucket's own time
SELECT * FROM call_guard_ask('call_guard 1', 'slots', 13);
-- 20 a minute, whatever the function
SELECT tenantcall.rate_test_clock(:t + 1000000000000) > 0 AS later;
SELECT sum(n) FILTER (WHERE outcome = 'run') AS run, max(retry) AS retry FROM generate_series(1, 3) AS f, call_guard_ask('call_guard 3', 'f' || f, f * 10, 8);
-- 50 in all, when they come slowly enough
SELECT count(*) FILTER (WHERE outcome = 'run') AS run, max(retry_after) AS retry_after, max(policy) AS policy
FROM generate_series(1, 60) AS g, LATERAL (SELECT tenantcall.rate_test_clock(:t + 2000000000000 + g * 4000000000)) AS clock (t),
    LATERAL call_guard_ask('call_guard 4', 'f' || (g % 8), g + (t * 0)::int);
-- the company's limit: the guard is not charged, and nothing paused, by its refusals
SELECT tenantcall.rate_test_clock(:t + 4000000000000) > 0 AS later;
SELECT tenantcall.set_rate_policy('function_call', 3, '1 hour', company_id => :one);
SELECT * FROM call_guard_ask('call_guard 5', 'slots', 1, 5);
SELECT remaining FROM tenantcall.take_for(:one, 'call_guard', 1, call => 'call_guard 5', function => 'other');
SELECT tenantcall.drop_rate_policy('function_call', :one);
-- a refused call makes no buckets
SELECT count(*) AS before FROM tenantcall.rate_buckets() WHERE company_id = :one \gset
SELECT tenantcall.set_rate_policy('function_call', 3, '1 hour', company_id => :one, change_mode => 'reset');
SELECT outcome, sum(n) FROM generate_series(1, 30) AS g, call_guard_ask('call_guard made up ' || g, 'slots', 1) GROUP BY 1 ORDER BY 1;
SELECT count(*) - :before AS made FROM tenantcall.rate_buckets() WHERE company_id = :one;
SELECT tenantcall.drop_rate_policy('function_call', :one);
SELECT tenantcall.set_rate_policy('function_call', 1000, '1 minute', company_id => :one, change_mode => 'reset');

-- administrators change the guard, end a pause with it, and disable it
SELECT tenantcall.rate_test_clock(:t + 8000000000000) > 0 AS later;
SELECT outcome, reason, n FROM call_guard_ask('call_guard 6', 'slots', 1, 11);
SELECT tenantcall.set_rate_policy('call_guard', 20, '1 minute', company_id => :one, bandwidth => 'per_minute', pause => '0');
SELECT outcome, reason, n, retry_after FROM call_guard_ask('call_guard 6', 'book', 20, 11);
SELECT tenantcall.set_rate_policy('call_guard', 1, '1 s', company_id => :one, bandwidth => b, enabled => false)
FROM unnest(ARRAY['per_minute', 'per_call', 'per_function']) AS b;
SELECT * FROM call_guard_ask('call_guard 6', 'slots', 100, 100);
SELECT tenantcall.drop_rate_policy('call_guard', :one, bandwidth => b) FROM unnest(ARRAY['per_minute', 'per_call', 'per_function']) AS b;
-- a bucket is filled by hand, and a pause ended
SELECT outcome, reason, n FROM call_guard_ask('call_guard 7', 'slots', 1, 11);
SELECT tenantcall.reset_bucket('call_guard', :one, call => 'call_guard 7', function => 'slots');
SELECT outcome, reason, n FROM call_guard_ask('call_guard 7', 'slots', 11);
-- shadow: counted, nothing refused, nothing paused
SELECT tenantcall.set_rate_policy('call_guard', 10, '1 day', company_id => :one, bandwidth => 'per_function', shadow => true);
SELECT outcome, reason, n FROM call_guard_ask('call_guard 8', 'slots', 1, 15);
SELECT tenantcall.drop_rate_policy('call_guard', :one, bandwidth => 'per_function');

-- without a call id that can be relied on, the company's limit alone: one that nobody knows would be shared by many calls
SELECT a.outcome, a.reason, count(*) FROM generate_series(1, 30) AS g, LATERAL (SELECT jsonb_build_object('day', g)::text AS body) AS b,
    tenantcall.accept_function_call(body, tenantcall.retell_signature(body, 'call_guard secret'), 'call_guard agent', 'current') AS a GROUP BY 1, 2;
-- beside the body, one that is bound to the company counts
INSERT INTO tenantcall.call_bindings (provider, provider_call_id, company_id) VALUES ('retell', 'call_guard 9', :one);
SELECT a.outcome, a.reason, count(*) FROM generate_series(1, 30) AS g, LATERAL (SELECT jsonb_build_object('day', g + 100)::text AS body) AS b,
    tenantcall.accept_function_call(body, tenantcall.retell_signature(body, 'call_guard secret'), 'call_guard agent', 'call_guard 9') AS a GROUP BY 1, 2 ORDER BY 1 DESC;
-- the refusals stand in the company's books
SELECT outcome, reason, count(*) FROM telephony.tenant_decisions WHERE company_id = :one AND kind = 'function_call' AND outcome <> 'accepted' GROUP BY 1, 2 ORDER BY 1, 2;

SELECT tenantcall.rate_test_clock(0) > 0 AS thawed;
SELECT count(tenantcall.drop_rate_policy('call_guard', bandwidth => b)) FROM unnest(ARRAY['per_minute', 'per_call', 'per_function']) AS b;
SELECT tenantcall.drop_rate_policy('function_call', :one);
SELECT tenantcall.drop_webhook_key('retell', 'call_guard');
SELECT tenantcall.release_agent('call_guard agent');
SELECT tenantcall.release_number('+49307770104');
DELETE FROM tenantcall.call_bindings WHERE company_id = :one;
DROP FUNCTION call_guard_body(text, text, text), call_guard_ask(text, text, int, int), call_guard_left(bigint);
