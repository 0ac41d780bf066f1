-- rate limits: buckets, policies, refusals, headers
SET client_min_messages = warning;
SELECT tenantcall.create_company('rate A', 'DE', 'Europe/Berlin') AS a,
       tenantcall.create_company('rate B', 'DE', 'Europe/Berlin') AS b \gset

-- as shipped
SELECT policy, tokens, period_ns, burst, shadow, enabled FROM tenantcall.rate_policy_defaults
WHERE policy IN ('function_call', 'webhook') ORDER BY policy;

-- a policy that hardly refills: exactly its burst is admitted
SELECT tenantcall.set_rate_policy('rate_burst', 100, '30 days');
BEGIN;
SELECT tenantcall.enter(:a);
SELECT count(*) FILTER (WHERE tenantcall.allow('rate_burst')) FROM generate_series(1, 150);
SELECT tenantcall.allow('rate_burst') AS more;
ROLLBACK;

-- a rollback gives nothing back; another company is not affected
BEGIN READ ONLY;
SELECT tenantcall.enter(:a);
SELECT tenantcall.allow('rate_burst') AS after_rollback;
COMMIT;
BEGIN;
SELECT tenantcall.enter(:b);
SELECT count(*) FILTER (WHERE tenantcall.allow('rate_burst', 10)) FROM generate_series(1, 20);
COMMIT;

-- the bucket that unknown callers share, and those of companies by number
SELECT allowed, quota, remaining, retry_after, reason, ticket IS NOT NULL AS ticket FROM tenantcall.take_for(NULL, 'rate_burst', 99);
SELECT allowed, quota, remaining, reason FROM tenantcall.take_for(NULL, 'rate_burst', 2);
SELECT allowed, quota, remaining, reason FROM tenantcall.take_for(:a, 'rate_burst');
SELECT retry_after BETWEEN '7 hours' AND '7 hours 12 minutes' AS retry,
       reset_after BETWEEN '719 hours' AND '720 hours' AS reset
FROM tenantcall.take_for(:a, 'rate_burst');

-- peek spends nothing and tells when
SELECT tenantcall.set_rate_policy('rate_peek', 5, '10 days');
BEGIN;
SELECT tenantcall.enter(:a);
SELECT allowed, quota, remaining, retry_after, reset_after, reason FROM tenantcall.peek('rate_peek', 5);
SELECT allowed, remaining FROM tenantcall.take('rate_peek', 3);
SELECT allowed, remaining, reason FROM tenantcall.peek('rate_peek', 2);
SELECT allowed, remaining, reason, retry_after BETWEEN '1 day 23 hours' AND '48 hours' AS retry
FROM tenantcall.peek('rate_peek', 3);
SELECT allowed, remaining, retry_after, reason FROM tenantcall.peek('rate_peek', 6);
SELECT allowed, remaining FROM tenantcall.take('rate_peek', 2);

-- costs above the burst are never admitted
SELECT allowed, retry_after, reason FROM tenantcall.take('rate_peek', 6);
SELECT allowed, retry_after, reason FROM tenantcall.take('rate_peek', 9223372036854775807);

-- take_or_fail
\set VERBOSITY sqlstate
SAVEPOINT s;
SELECT tenantcall.take_or_fail('rate_peek');
ROLLBACK TO s;
SELECT tenantcall.take_or_fail('rate_peek', 6);
ROLLBACK TO s;
\set VERBOSITY default
SELECT allowed, remaining FROM tenantcall.take_or_fail('function_call');
COMMIT;

-- bad input, by SQLSTATE
CREATE FUNCTION pg_temp.state_of(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    RETURN sqlstate || ' ' || sqlerrm;
END
$$;
SELECT pg_temp.state_of($$ SELECT tenantcall.allow('function_call') $$);
SELECT pg_temp.state_of($$ SELECT tenantcall.peek('function_call') $$);
BEGIN;
SELECT tenantcall.enter(:a);
SELECT s, pg_temp.state_of('SELECT tenantcall.' || s) FROM unnest(ARRAY[
    'allow(NULL)', 'allow('''')', 'allow(''rate_nowhere'')', 'allow(''function_call'', NULL)',
    'allow(''function_call'', 0)', 'allow(''function_call'', -1)',
    'allow(''function_call'', (-9223372036854775808)::bigint)',
    'allow(repeat(''x'', 64))', 'take(''function_call'', 1, NULL)',
    'take(''function_call'', 1, ''-1 s'')', 'take(''function_call'', 1, ''1 month'')',
    'take_for(0, ''function_call'')', 'take_for(-5, ''function_call'')',
    'take_for(1, NULL)', 'take_for(1, ''function_call'', NULL)', 'take_or_fail(NULL)', 'peek(NULL)',
    'peek(''function_call'', 0)', 'rate_headers(NULL)',
    'rate_headers(ROW(NULL, 1, 1, NULL, NULL, NULL, NULL)::tenantcall.take_result)']) s;
COMMIT;
SELECT s, pg_temp.state_of('SELECT tenantcall.' || s) FROM unnest(ARRAY[
    'set_rate_policy(NULL, 1, ''1 s'')', 'set_rate_policy('''', 1, ''1 s'')',
    'set_rate_policy(repeat(''x'', 64), 1, ''1 s'')', 'set_rate_policy(''rate_bad'', NULL, ''1 s'')',
    'set_rate_policy(''rate_bad'', 0, ''1 s'')', 'set_rate_policy(''rate_bad'', -1, ''1 s'')',
    'set_rate_policy(''rate_bad'', 1, NULL)', 'set_rate_policy(''rate_bad'', 1, ''0'')',
    'set_rate_policy(''rate_bad'', 1, ''-1 s'')', 'set_rate_policy(''rate_bad'', 1, ''1 month'')',
    'set_rate_policy(''rate_bad'', 1, ''367 days'')',
    'set_rate_policy(''rate_bad'', 1, ''2000000000 days'')',
    'set_rate_policy(''rate_bad'', 1, ''1 s'', 0)', 'set_rate_policy(''rate_bad'', 1, ''1 s'', -1)',
    'set_rate_policy(''rate_bad'', 1, ''1 s'', 9223372036854775807)',
    'set_rate_policy(''rate_bad'', 9223372036854775807, ''1 us'', 1)',
    'set_rate_policy(''rate_bad'', 1, ''1 s'', 576460752303423488)',
    'set_rate_policy(''rate_bad'', 1, ''1 s'', company_id => 0)',
    'set_rate_policy(''rate_nowhere'', 1, ''1 s'', company_id => 7)',
    'set_rate_policy(''rate_bad'', 1, ''1 s'', shadow => NULL)',
    'set_rate_policy(''rate_bad'', 1, ''1 s'', enabled => NULL)',
    'set_rate_policy(''rate_bad'', 1, ''1 s'', change_mode => ''sideways'')',
    'drop_rate_policy(NULL)', 'drop_rate_policy(''rate_bad'')', 'drop_rate_policy(''function_call'')',
    'drop_rate_policy(''rate_burst'', 999999999)']) s;
SELECT pg_temp.state_of('DELETE FROM tenantcall.rate_policies');
SELECT pg_temp.state_of('TRUNCATE tenantcall.rate_policies');

-- the extremes that are allowed
SELECT tenantcall.set_rate_policy('rate_slow', 1, '366 days', 576460752303423487);
SELECT tenantcall.set_rate_policy('rate_fast', 300000000, '1 s');
SELECT allowed, remaining FROM tenantcall.take_for(1000001, 'rate_slow', 576460752303423487);
SELECT allowed, remaining FROM tenantcall.take_for(1000001, 'rate_fast', 300000000);

-- a change keeps the fill level, mode reset fills
SELECT tenantcall.set_rate_policy('rate_change', 100, '300 days');
SELECT allowed, remaining FROM tenantcall.take_for(1000001, 'rate_change', 50);
SELECT tenantcall.set_rate_policy('rate_change', 10, '300 days');
SELECT allowed, quota, remaining FROM tenantcall.take_for(1000001, 'rate_change', 4);
SELECT allowed, quota, remaining, reason FROM tenantcall.take_for(1000001, 'rate_change', 2);
SELECT tenantcall.set_rate_policy('rate_change', 10, '300 days', change_mode => 'reset');
SELECT allowed, quota, remaining FROM tenantcall.take_for(1000001, 'rate_change', 10);

-- one company's own policy, and back; the others keep theirs
SELECT tenantcall.set_rate_policy('rate_change', 1000, '300 days', company_id => 1000002);
SELECT quota, remaining FROM tenantcall.take_for(1000002, 'rate_change', 1000);
SELECT quota, allowed FROM tenantcall.take_for(1000001, 'rate_change');
SELECT tenantcall.drop_rate_policy('rate_change', 1000002);
SELECT quota, allowed FROM tenantcall.take_for(1000002, 'rate_change');
SELECT tenantcall.drop_rate_policy('rate_change');
SELECT pg_temp.state_of($$ SELECT tenantcall.take_for(1000001, 'rate_change') $$);

-- a shipped policy, changed and back
SELECT tenantcall.set_rate_policy('function_call', 3, '30 days');
SELECT quota, remaining FROM tenantcall.take_for(1000003, 'function_call');
SELECT tenantcall.drop_rate_policy('function_call');
SELECT quota FROM tenantcall.take_for(1000003, 'function_call');

-- a change that is rolled back: seen by its own transaction, and gone
BEGIN;
SELECT tenantcall.set_rate_policy('rate_burst', 7, '30 days', change_mode => 'reset');
SELECT quota, remaining FROM tenantcall.take_for(:a, 'rate_burst');
ROLLBACK;
SELECT quota, remaining, allowed FROM tenantcall.take_for(:a, 'rate_burst');
BEGIN;
SAVEPOINT s;
SELECT tenantcall.set_rate_policy('rate_burst', 7, '30 days', change_mode => 'reset');
SELECT quota, remaining FROM tenantcall.take_for(:a, 'rate_burst');
ROLLBACK TO s;
SELECT quota, remaining, allowed FROM tenantcall.take_for(:a, 'rate_burst');
COMMIT;

-- shadow mode counts and never refuses; a disabled policy neither
SELECT tenantcall.set_rate_policy('rate_shadow', 2, '30 days', shadow => true);
SELECT n, allowed, remaining, reason FROM generate_series(1, 4) n, LATERAL tenantcall.take_for(1000001, 'rate_shadow', n - n + 1);
SELECT allowed, reason FROM tenantcall.take_for(1000001, 'rate_shadow', 5);
SELECT tenantcall.set_rate_policy('rate_shadow', 2, '30 days', enabled => false);
SELECT allowed, quota, remaining, retry_after, reset_after, reason FROM tenantcall.take_for(1000001, 'rate_shadow');
SELECT tenantcall.rate_headers(tenantcall.take_for(1000001, 'rate_shadow'));

-- waiting: the second one comes when its token does
SELECT tenantcall.set_rate_policy('rate_wait', 10, '1 s', 1);
BEGIN;
SELECT tenantcall.enter(:a);
SELECT clock_timestamp() AS before \gset
SELECT count(*) FILTER (WHERE (tenantcall.take('rate_wait', 1, '10 s')).allowed) FROM generate_series(1, 3);
SELECT clock_timestamp() - :'before' >= '0.2 s' AS waited;
SELECT allowed, reason FROM tenantcall.take('rate_peek', 1, '1 hour');
SELECT allowed, reason FROM tenantcall.take('rate_wait', 2, '10 s');
COMMIT;

-- headers; seconds are rounded up
SELECT key, value FROM jsonb_each_text(tenantcall.rate_headers(ROW(true, 100, 99, '0', '0.6 s', NULL, NULL)::tenantcall.take_result));
SELECT key, value FROM jsonb_each_text(tenantcall.rate_headers(ROW(false, 100, 0, '0.000001 s', '59.000001 s', 'limited', NULL)::tenantcall.take_result));
SELECT key, value FROM jsonb_each_text(tenantcall.rate_headers(ROW(false, 100, 100, NULL, '0', 'cost_exceeds_burst', NULL)::tenantcall.take_result));

-- statistics: all for a superuser, the entered company's own for others
SELECT policy, level, shadow, allowed, denied, would_deny, quota, remaining, last_denied_at IS NOT NULL AS was_denied
FROM tenantcall.stat_rate_limits
WHERE policy LIKE 'rate%' AND (company_id IN (:a, :b) OR level = 'unknown')
ORDER BY policy, level, company_id;
CREATE ROLE regress_tc_rate_app;
GRANT EXECUTE ON FUNCTION tenantcall.rate_buckets(), tenantcall.rate_policy_names(), tenantcall.stats_reset(text), tenantcall.enter(bigint, bigint) TO regress_tc_rate_app;
GRANT SELECT ON tenantcall.stat_rate_limits TO regress_tc_rate_app;
SET ROLE regress_tc_rate_app;
SELECT pg_temp.state_of('SELECT * FROM tenantcall.stat_rate_limits');
SELECT pg_temp.state_of('SELECT * FROM tenantcall.rate_policies');
SELECT pg_temp.state_of($$ SELECT tenantcall.set_rate_policy('x', 1, '1 s') $$);
SELECT pg_temp.state_of($$ SELECT tenantcall.allow('function_call') $$);
BEGIN;
SELECT tenantcall.enter(:b);
SELECT policy, company_id = :b AS own, allowed, denied FROM tenantcall.stat_rate_limits;
COMMIT;
RESET ROLE;
DROP OWNED BY regress_tc_rate_app;
DROP ROLE regress_tc_rate_app;

-- put the table of policies back
SELECT tenantcall.drop_rate_policy(policy) FROM tenantcall.rate_policies WHERE policy LIKE 'rate%' AND company_id IS NULL AND NOT removed;
