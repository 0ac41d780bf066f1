-- rate limits: tickets, refunds, reset, several limits at once, levels, reserve, call guard
SET client_min_messages = warning;
SELECT tenantcall.create_company('ticket A', 'DE', 'Europe/Berlin') AS a,
       tenantcall.create_company('ticket B', 'DE', 'Europe/Berlin') AS b \gset
CREATE FUNCTION pg_temp.state_of(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    RETURN sqlstate || ' ' || sqlerrm;
END
$$;

-- the clock of this session stands still from here: 1 token a second
SELECT tenantcall.rate_test_clock(0) AS t \gset
SELECT tenantcall.rate_test_clock(:t) = :t AS frozen;
SELECT tenantcall.set_rate_policy('tick', 10, '10 s');

-- retry_after is the first instant that admits: a nanosecond less does not
SELECT allowed, remaining FROM tenantcall.take_for(:a, 'tick', 10);
SELECT allowed, retry_after FROM tenantcall.take_for(:a, 'tick', 3);
SELECT tenantcall.rate_test_clock(:t + 3000000000 - 1) > 0 AS before;
SELECT tenantcall.allow_for(:a, 'tick', 3);
SELECT tenantcall.rate_test_clock(:t + 3000000000) > 0 AS then;
SELECT tenantcall.allow_for(:a, 'tick', 3);

-- a refund gives back, once; a second one, and a forged, foreign or malformed ticket do not
SELECT tenantcall.rate_test_clock(:t + 60000000000) > 0 AS later;
SELECT ticket AS t1 FROM tenantcall.take_for(:a, 'tick', 4) \gset
SELECT ticket AS t2 FROM tenantcall.take_for(:a, 'tick', 6) \gset
SELECT tenantcall.refund(:'t1');
SELECT remaining FROM tenantcall.take_for(:a, 'tick', 1);
SELECT tenantcall.refund(:'t1');
SELECT tenantcall.refund(:'t2');
SELECT tenantcall.refund(:'t2');
SELECT remaining FROM tenantcall.take_for(:a, 'tick', 1);
SELECT pg_temp.state_of(format('SELECT tenantcall.refund(%L::bytea)', s)) FROM unnest(ARRAY['', '\x00', :'t1' || '00',
    overlay(:'t1' placing '01' from 75 for 2), overlay(:'t1' placing '00000000' from 100 for 8), NULL]) s;
BEGIN;
SELECT tenantcall.enter(:b);
SELECT pg_temp.state_of(format('SELECT tenantcall.refund(%L)', :'t1'));
SELECT allowed AS b_allowed, ticket AS t3 FROM tenantcall.take('tick', 2) \gset
SELECT tenantcall.refund(:'t3') AS own;
COMMIT;

-- late: what has been refilled since is not given back as well
SELECT tenantcall.rate_test_clock(:t + 120000000000) > 0 AS later;
SELECT ticket AS t4 FROM tenantcall.take_for(:a, 'tick', 4) \gset
SELECT tenantcall.rate_test_clock(:t + 123000000000) > 0 AS three_refilled;
SELECT tenantcall.refund(:'t4');
SELECT remaining FROM tenantcall.take_for(:a, 'tick', 1);
SELECT ticket AS t5 FROM tenantcall.take_for(:a, 'tick', 4) \gset
SELECT tenantcall.rate_test_clock(:t + 180000000000) > 0 AS all_refilled;
SELECT tenantcall.refund(:'t5');

-- refund_on_abort: by transaction and by savepoint
BEGIN;
SELECT tenantcall.enter(:a);
SELECT remaining FROM tenantcall.take('tick', 1);
SAVEPOINT s;
SELECT remaining FROM tenantcall.take('tick', 3, refund_on_abort => true);
ROLLBACK TO s;
SELECT remaining FROM tenantcall.peek('tick');
SELECT remaining FROM tenantcall.take('tick', 2, refund_on_abort => true);
SAVEPOINT s2;
SELECT remaining FROM tenantcall.take('tick', 2, refund_on_abort => true);
RELEASE s2;
ROLLBACK;
BEGIN;
SELECT tenantcall.enter(:a);
SELECT remaining FROM tenantcall.peek('tick');
SELECT remaining FROM tenantcall.take('tick', 2, refund_on_abort => true);
COMMIT;
BEGIN;
SELECT tenantcall.enter(:a);
SELECT remaining FROM tenantcall.peek('tick');
COMMIT;

-- reset_bucket fills; tickets of before are void
SELECT ticket AS t6 FROM tenantcall.take_for(:a, 'tick', 5) \gset
SELECT tenantcall.reset_bucket('tick', :a), tenantcall.reset_bucket('tick', :a) AS again, tenantcall.reset_bucket('tick', 999999) AS none;
SELECT remaining FROM tenantcall.take_for(:a, 'tick', 1);
SELECT tenantcall.refund(:'t6');
SELECT pg_temp.state_of($$ SELECT tenantcall.reset_bucket('nowhere') $$);

-- priority: the low one may not use the last 4
SELECT tenantcall.set_rate_policy('prio', 10, '10 s', reserve => 4);
SELECT allowed, quota, remaining, reason FROM tenantcall.take_for(:a, 'prio', 5, low_priority => true);
SELECT allowed, remaining, retry_after, reason FROM tenantcall.take_for(:a, 'prio', 2, low_priority => true);
SELECT allowed, remaining FROM tenantcall.take_for(:a, 'prio', 5);
SELECT allowed, retry_after, reason FROM tenantcall.take_for(:a, 'prio', 7, low_priority => true);

-- levels
SELECT tenantcall.set_rate_policy('all', 3, '30 s', level => 'global');
SELECT tenantcall.set_rate_policy('branch', 2, '30 s', level => 'branch');
SELECT tenantcall.set_rate_policy('number', 2, '30 s', level => 'number');
SELECT n, tenantcall.allow_for(g, 'all') FROM unnest(ARRAY[:a, :b, :a, :b]) WITH ORDINALITY AS u (c, n), LATERAL (SELECT c AS g) x ORDER BY n;
SELECT allowed, remaining FROM tenantcall.take_for(:a, 'number', 2, number => '+4930123');
SELECT allowed, remaining FROM tenantcall.take_for(:a, 'number', 2, number => '+4930124');
SELECT allowed, remaining FROM tenantcall.take_for(:b, 'number', 2, number => '+4930123');
SELECT allowed, remaining FROM tenantcall.take_for(:a, 'number', 1, number => '+4930123');
SELECT pg_temp.state_of($$ SELECT tenantcall.take_for(1, 'number') $$);
SELECT tenantcall.set_rate_policy('number', 20, '30 s', company_id => :a, number => '+4930999');
SELECT quota FROM unnest(ARRAY['+4930999', '+4930998']) n, LATERAL tenantcall.take_for(:a, 'number', 1, number => n);
SELECT quota FROM tenantcall.take_for(:b, 'number', 1, number => '+4930999');
SELECT tenantcall.drop_rate_policy('number', :a, number => '+4930999');
SELECT quota FROM tenantcall.take_for(:a, 'number', 1, number => '+4930999');
SELECT tenantcall.set_rate_policy('branch', 5, '30 s', company_id => :a, branch_id => 77);
SELECT allowed, quota FROM tenantcall.take_for(:a, 'branch', 2);
SELECT s, pg_temp.state_of('SELECT tenantcall.set_rate_policy(' || s || ')') FROM unnest(ARRAY[
    '''tick'', 1, ''1 s'', company_id => 1, branch_id => 1', '''branch'', 1, ''1 s'', company_id => 1, number => ''+49''',
    '''all'', 1, ''1 s'', company_id => 1', '''tick'', 1, ''1 s'', branch_id => 1', '''tick'', 1, ''1 s'', number => ''+49''',
    '''tick'', 1, ''1 s'', level => ''global''', '''tock'', 1, ''1 s'', level => ''galaxy''', '''tock'', 1, ''1 s'', reserve => -1',
    '''tock'', 1, ''1 s'', reserve => 2', '''tock'', 1, ''1 s'', reserve => NULL', '''tock'', 1, ''1 s'', bandwidth => ''''',
    '''tock'', 1, ''1 s'', bandwidth => NULL']) s;

-- several bandwidths: the shipped guard of a call
SELECT bandwidth, level, tokens, period_ns / 1000000000 AS seconds FROM tenantcall.rate_policy_defaults WHERE policy = 'call_guard' ORDER BY 1;
SELECT count(tenantcall.set_rate_policy('call_guard', tokens, per::interval, bandwidth => bandwidth, pause => pause::interval))
FROM (VALUES ('per_minute', 20, '1 minute', '300 s'), ('per_call', 50, '1 day', '0'), ('per_function', 10, '1 day', '0')) AS g (bandwidth, tokens, per, pause);
SELECT count(*) FILTER (WHERE (tenantcall.take_for(:a, 'call_guard', 1, call => 'c1', function => 'slots')).allowed) FROM generate_series(1, 15);
SELECT allowed, quota, remaining, reason FROM tenantcall.take_for(:a, 'call_guard', 1, call => 'c1', function => 'slots');
SELECT count(*) FILTER (WHERE (tenantcall.take_for(:a, 'call_guard', 1, call => 'c1', function => 'book')).allowed) FROM generate_series(1, 15);
SELECT allowed, quota, retry_after FROM tenantcall.take_for(:a, 'call_guard', 1, call => 'c1', function => 'cancel');
SELECT allowed FROM tenantcall.take_for(:a, 'call_guard', 1, call => 'c2', function => 'slots');
SELECT allowed FROM tenantcall.take_for(:b, 'call_guard', 1, call => 'c1', function => 'slots');
SELECT pg_temp.state_of($$ SELECT tenantcall.take_for(1, 'call_guard', 1, call => 'c1') $$);
SELECT pg_temp.state_of($$ SELECT tenantcall.take_for(1, 'call_guard', 1, function => 'c1') $$);

-- all or nothing
SELECT tenantcall.set_rate_policy('one', 5, '50 s');
SELECT tenantcall.set_rate_policy('two', 3, '30 s');
BEGIN;
SELECT tenantcall.enter(:b);
SELECT allowed, quota, remaining, reason, violated FROM tenantcall.take_all(ARRAY['one', 'two'], ARRAY[2, 3]);
SELECT allowed, quota, remaining, retry_after, reason, violated FROM tenantcall.take_all(ARRAY['one', 'two']);
SELECT remaining FROM tenantcall.peek('one');
SELECT allowed, reason, retry_after, violated FROM tenantcall.take_all(ARRAY['one', 'two', 'one'], ARRAY[3, 1, 1]);
SELECT allowed, reason, retry_after, violated FROM tenantcall.take_all(ARRAY['one', 'two'], ARRAY[6, 1]);
SELECT allowed, remaining, violated, ticket AS t7 FROM tenantcall.take_all(ARRAY['one', 'one']) \gset
SELECT remaining FROM tenantcall.peek('one');
SELECT tenantcall.refund(:'t7');
SELECT remaining FROM tenantcall.peek('one');
SELECT allowed, remaining, violated FROM tenantcall.take_all(ARRAY['one', 'call_guard'], call => 'c9', function => 'f');
SELECT count(*) FILTER (WHERE (tenantcall.take_all(ARRAY['call_guard'], call => 'c9', function => 'f')).allowed) FROM generate_series(1, 12);
SELECT allowed, violated FROM tenantcall.take_all(ARRAY['one', 'call_guard'], call => 'c9', function => 'f');
SELECT s, pg_temp.state_of('SELECT tenantcall.take_all(' || s || ')') FROM unnest(ARRAY[
    'NULL', '''{}''', '''{NULL}''', '''{one}'', ''{1,2}''', '''{one}'', ''{0}''', '''{one}'', ''{NULL}''', '''{nowhere}''',
    '''{call_guard,call_guard,call_guard}'', call => ''x'', function => ''y''', '''{call_guard}''']) s;
SELECT pg_temp.state_of($$ SELECT tenantcall.take('call_guard', 1, '1 s', call => 'x', function => 'y') $$);
COMMIT;

-- statistics, own and reset; the clock is for superusers
SELECT policy, bandwidth, level, allowed, denied, waited, refunded, forgiven FROM tenantcall.stat_rate_limits
WHERE company_id = :a AND policy IN ('tick', 'prio', 'call_guard') ORDER BY 1, 2, 4, 5;
SELECT tenantcall.reset_rate_stats();
SELECT sum(allowed + denied + waited + refunded + forgiven) FROM tenantcall.stat_rate_limits WHERE company_id = :a;
SELECT remaining FROM tenantcall.take_for(:a, 'prio');
CREATE ROLE regress_tc_ticket;
GRANT EXECUTE ON FUNCTION tenantcall.rate_test_clock(bigint) TO regress_tc_ticket;
SET ROLE regress_tc_ticket;
SELECT pg_temp.state_of('SELECT tenantcall.rate_test_clock(1)');
SELECT pg_temp.state_of($$ SELECT tenantcall.refund('\x00') $$);
SELECT pg_temp.state_of($$ SELECT tenantcall.reset_bucket('tick', 1) $$);
RESET ROLE;
DROP OWNED BY regress_tc_ticket;
DROP ROLE regress_tc_ticket;
SELECT tenantcall.rate_test_clock(0) > :t AS thawed;
SELECT count(tenantcall.drop_rate_policy('call_guard', bandwidth => b)) FROM unnest(ARRAY['per_minute', 'per_call', 'per_function']) AS b;
SELECT tenantcall.drop_rate_policy('branch', :a, branch_id => 77);
SELECT count(tenantcall.drop_rate_policy(p)) FROM unnest(ARRAY['tick', 'prio', 'all', 'branch', 'number', 'one', 'two']) p;
