-- rate_client: a client who obeys is never refused again; headers of the IETF draft; pauses; contexts by UUID
SET client_min_messages = warning;
CREATE FUNCTION pg_temp.state_of(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    RETURN sqlstate || ' ' || sqlerrm;
END
$$;

-- who waits as long as Retry-After, RateLimit or X-RateLimit-Reset says is admitted, for policies and costs of all kinds; who waits for as
-- long as retry_after says is, too, and a microsecond less may be too early
CREATE FUNCTION pg_temp.obey(policy_number int, turns int) RETURNS TABLE (waits int, refused_again int, early int) LANGUAGE plpgsql AS $$
DECLARE
    clock bigint := tenantcall.rate_test_clock(0) + 1000000000;
    tokens bigint := (ARRAY[1, 7, 100, 333, 1000003, 300000000, 1, 86399])[policy_number];
    per interval := (ARRAY['30 days', '1 s', '1 minute', '00:00:07.000001', '1 hour', '1 s', '0.01 s', '1 day'])[policy_number];
    burst bigint := (ARRAY[3, 1, 100, 50, 2000000, 300000000, 5, 86399])[policy_number];
    cost bigint;
    answer tenantcall.take_result;
    headers jsonb;
    wait bigint;
BEGIN
    waits := 0;
    refused_again := 0;
    early := 0;
    PERFORM tenantcall.set_rate_policy('rate_obey', tokens, per, burst, change_mode => 'reset');
    PERFORM tenantcall.rate_test_clock(clock);
    FOR turn IN 1 .. turns LOOP
        cost := 1 + floor(random() * burst)::bigint;
        answer := tenantcall.take('rate_obey', cost);
        CONTINUE WHEN answer.allowed;
        waits := waits + 1;
        headers := tenantcall.rate_headers(answer, 'rate_obey', per);
        wait := CASE turn % 4
            WHEN 0 THEN (headers ->> 'Retry-After')::bigint * 1000000000
            WHEN 1 THEN (headers ->> 'X-RateLimit-Reset')::bigint * 1000000000
            WHEN 2 THEN substring(headers ->> 'RateLimit' FROM 't=(\d+)')::bigint * 1000000000
            ELSE extract(epoch FROM answer.retry_after) * 1000000000 END;
        IF turn % 4 = 3 AND wait > 1000 THEN
            PERFORM tenantcall.rate_test_clock(clock + wait - 1000);
            early := early + (tenantcall.peek('rate_obey', cost)).allowed::int;
        END IF;
        clock := clock + wait;
        PERFORM tenantcall.rate_test_clock(clock);
        refused_again := refused_again + (NOT (tenantcall.take('rate_obey', cost)).allowed)::int;
    END LOOP;
    PERFORM tenantcall.rate_test_clock(0);
    RETURN NEXT;
END
$$;
SELECT tenantcall.create_company('client', 'DE', 'Europe/Berlin') AS c \gset
BEGIN;
SELECT tenantcall.enter(:c);
SELECT policy, waits > 100 AS waited, refused_again, early FROM generate_series(1, 8) AS policy, pg_temp.obey(policy, 400);
ROLLBACK;

-- names are structured fields' strings, numbers have at most 15 digits, seconds are rounded up
SELECT key, value FROM jsonb_each_text(tenantcall.rate_headers(ROW(false, 100, 0, '0.5 s', '59.5 s', 'limited', NULL)::tenantcall.take_result, 'export', '1 minute'));
SELECT n, h ->> 'RateLimit-Policy' AS policy, h ->> 'RateLimit' AS now FROM unnest(ARRAY['a "b" \c', 'Größe', E'x\ny', '', NULL]) AS n,
    tenantcall.rate_headers(ROW(true, 576460752303423487, 576460752303423486, '0', '0.6 s', NULL, NULL)::tenantcall.take_result, n, '0.1 s') AS h;
SELECT tenantcall.rate_headers(ROW(true, 100, 99, '0', '0.6 s', NULL, NULL)::tenantcall.take_result, 'x') ->> 'RateLimit-Policy' AS without_window;
SELECT pg_temp.state_of('SELECT tenantcall.rate_headers(ROW(true, 1, 1, NULL, NULL, NULL, NULL)::tenantcall.take_result, ''x'', ' || w || ')')
FROM unnest(ARRAY['''-1 s''', '''1 month''', 'NULL']) AS w;

-- a pause of a policy with one bandwidth: nothing until it is over, then all; refusals meanwhile do not make it longer, refunds not shorter
SELECT tenantcall.rate_test_clock(tenantcall.rate_test_clock(0)) AS t \gset
SELECT tenantcall.set_rate_policy('rate_pause', 5, '10 s', pause => '1 minute');
SELECT ticket AS t1 FROM tenantcall.take_for(:c, 'rate_pause', 3) \gset
SELECT allowed, remaining, reason FROM tenantcall.take_for(:c, 'rate_pause', 2);
SELECT allowed, remaining, retry_after, reset_after, reason FROM tenantcall.take_for(:c, 'rate_pause');
SELECT tenantcall.refund(:'t1');
SELECT tenantcall.rate_test_clock(:t + 59999999999) > 0 AS almost;
SELECT allowed, remaining, retry_after, reason FROM tenantcall.take_for(:c, 'rate_pause');
SELECT level, denied, remaining FROM tenantcall.stat_rate_limits WHERE company_id = :c AND policy = 'rate_pause';
SELECT tenantcall.rate_test_clock(:t + 60000000000) > 0 AS over;
SELECT allowed, remaining, reason FROM tenantcall.take_for(:c, 'rate_pause', 5);
-- what can never be admitted does not pause either
SELECT tenantcall.rate_test_clock(:t + 120000000000) > 0 AS later;
SELECT allowed, reason FROM tenantcall.take_for(:c, 'rate_pause', 6);
SELECT allowed, reason FROM tenantcall.take_for(:c, 'rate_pause');
SELECT allowed, reason FROM tenantcall.take_for(:c, 'rate_pause', 5);
SELECT tenantcall.reset_bucket('rate_pause', :c);
SELECT allowed, remaining, reason FROM tenantcall.take_for(:c, 'rate_pause', 5);
-- looking does not pause; a change of the policy keeps a pause, taking the pause away ends it
BEGIN;
SELECT tenantcall.enter(:c);
SELECT allowed, reason, retry_after FROM tenantcall.peek('rate_pause');
SELECT pg_temp.state_of($$ SELECT tenantcall.take('rate_pause', 1, '1 s') $$);
COMMIT;
SELECT allowed, reason, retry_after FROM tenantcall.take_for(:c, 'rate_pause');
SELECT tenantcall.set_rate_policy('rate_pause', 50, '10 s', pause => '1 minute');
SELECT allowed, reason, retry_after FROM tenantcall.take_for(:c, 'rate_pause');
SELECT tenantcall.set_rate_policy('rate_pause', 50, '10 s');
SELECT allowed, remaining FROM tenantcall.take_for(:c, 'rate_pause');
SELECT s, pg_temp.state_of('SELECT tenantcall.set_rate_policy(''rate_bad'', ' || s || ')') FROM unnest(ARRAY[
    '1, ''1 s'', pause => NULL', '1, ''1 s'', pause => ''-1 s''', '1, ''1 s'', pause => ''1 month''', '300000000, ''1 us'', pause => ''366 days''']) AS s;
SELECT tenantcall.rate_test_clock(0) > 0 AS thawed;

-- without a tenant one sees no buckets; another one's are not seen either
CREATE ROLE regress_tc_rate_client;
SELECT tenantcall.grant_app('regress_tc_rate_client');
GRANT EXECUTE ON FUNCTION tenantcall.enter(bigint, bigint) TO regress_tc_rate_client;
SET ROLE regress_tc_rate_client;
SELECT count(*) FROM tenantcall.stat_rate_limits;
BEGIN;
SELECT tenantcall.enter(:c);
SELECT DISTINCT policy FROM tenantcall.stat_rate_limits;
COMMIT;
RESET ROLE;

-- a context entered by UUIDs: with a directory it is the company's own, limits set for it and its branch included
SELECT tenantcall.set_rate_policy('rate_uuid', 10, '300 days', level => 'branch');
SELECT tenantcall.create_company('by uuid', 'DE', 'Europe/Berlin', '11111111-0000-4000-8000-000000000001') AS u \gset
BEGIN;
SELECT tenantcall.enter(:u);
INSERT INTO telephony.branches (name, external_id) VALUES ('b1', '22222222-0000-4000-8000-000000000001'), ('b2', '22222222-0000-4000-8000-000000000002');
SELECT branch_id AS b1 FROM telephony.branches WHERE name = 'b1' \gset
COMMIT;
SELECT tenantcall.set_rate_policy('rate_uuid', 20, '300 days', company_id => :u);
SELECT tenantcall.set_rate_policy('rate_uuid', 30, '300 days', company_id => :u, branch_id => :b1);
BEGIN;
SELECT tenantcall.enter_uuid('11111111-0000-4000-8000-000000000001', '22222222-0000-4000-8000-000000000001');
SELECT quota, remaining FROM tenantcall.take('rate_uuid');
COMMIT;
BEGIN;
SELECT tenantcall.enter_uuid('11111111-0000-4000-8000-000000000001', '22222222-0000-4000-8000-000000000002');
SELECT quota, remaining FROM tenantcall.take('rate_uuid');
COMMIT;
BEGIN;
SELECT tenantcall.enter(:u, :b1);
SELECT quota, remaining FROM tenantcall.take('rate_uuid');
COMMIT;
SELECT tenantcall.drop_rate_policy('rate_uuid', :u, branch_id => :b1);
SELECT tenantcall.drop_rate_policy('rate_uuid', :u);
SELECT count(tenantcall.drop_rate_policy(p)) FROM unnest(ARRAY['rate_pause', 'rate_uuid']) AS p;

-- tests only, superusers only
GRANT EXECUTE ON FUNCTION tenantcall.rate_test_stop(text) TO regress_tc_rate_client;
SET ROLE regress_tc_rate_client;
SELECT pg_temp.state_of($$ SELECT tenantcall.rate_test_stop('all') $$);
RESET ROLE;
SELECT pg_temp.state_of($$ SELECT tenantcall.rate_test_stop('nowhere') $$);
SELECT pg_temp.state_of($$ SELECT tenantcall.rate_test_stop(NULL) $$);
SELECT tenantcall.rate_test_stop('all'), tenantcall.rate_test_stop('none');
DROP OWNED BY regress_tc_rate_client;
DROP ROLE regress_tc_rate_client;
