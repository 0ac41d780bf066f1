-- 40_rate.sql: rate limits

-- Policies: as shipped, and as set here.  The two tables have the same columns, which
-- rate_policy.c reads by their numbers.
CREATE SEQUENCE tenantcall.rate_policy_version MINVALUE 1000;
COMMENT ON SEQUENCE tenantcall.rate_policy_version IS 'rises with each change of a rate policy';
REVOKE ALL ON SEQUENCE tenantcall.rate_policy_version FROM PUBLIC;

CREATE SEQUENCE tenantcall.rate_policy_id AS integer MINVALUE 1000;
COMMENT ON SEQUENCE tenantcall.rate_policy_id IS 'numbers rate policies that are not shipped';
REVOKE ALL ON SEQUENCE tenantcall.rate_policy_id FROM PUBLIC;

CREATE TABLE tenantcall.rate_policy_defaults (
    policy text COLLATE "C" NOT NULL,
    company_id bigint CHECK (company_id IS NULL),
    branch_id bigint CHECK (branch_id IS NULL),
    number text COLLATE "C" CHECK (number IS NULL),
    bandwidth text COLLATE "C" NOT NULL,
    level text COLLATE "C" NOT NULL CHECK (level IN ('global', 'company', 'branch', 'number', 'call', 'function')),
    policy_id integer NOT NULL,
    tokens bigint NOT NULL,
    period_ns bigint NOT NULL,
    burst bigint NOT NULL,
    reserve bigint NOT NULL,
    pause_ns bigint NOT NULL,
    shadow boolean NOT NULL,
    enabled boolean NOT NULL,
    change_mode text COLLATE "C" NOT NULL CHECK (change_mode IN ('proportional', 'reset')),
    version bigint NOT NULL,
    changed_at timestamptz NOT NULL,
    changed_boot bigint NOT NULL,
    changed_clock bigint NOT NULL,
    removed boolean NOT NULL,
    CONSTRAINT rate_policy_defaults_key UNIQUE NULLS NOT DISTINCT (policy, company_id, branch_id, number, bandwidth)
);
COMMENT ON TABLE tenantcall.rate_policy_defaults IS 'rate policies as shipped';
REVOKE ALL ON tenantcall.rate_policy_defaults FROM PUBLIC;

CREATE TABLE tenantcall.rate_policies (
    policy text COLLATE "C" NOT NULL CHECK (octet_length(policy) BETWEEN 1 AND 63),
    company_id bigint CHECK (company_id > 0),
    branch_id bigint CHECK (branch_id IS NULL OR branch_id > 0 AND company_id IS NOT NULL),
    number text COLLATE "C" CHECK (number IS NULL OR octet_length(number) BETWEEN 1 AND 23 AND company_id IS NOT NULL),
    bandwidth text COLLATE "C" NOT NULL CHECK (octet_length(bandwidth) BETWEEN 1 AND 63),
    level text COLLATE "C" NOT NULL CHECK (level IN ('global', 'company', 'branch', 'number', 'call', 'function')),
    policy_id integer NOT NULL,
    tokens bigint NOT NULL,
    period_ns bigint NOT NULL,
    burst bigint NOT NULL,
    reserve bigint NOT NULL,
    pause_ns bigint NOT NULL,
    shadow boolean NOT NULL,
    enabled boolean NOT NULL,
    change_mode text COLLATE "C" NOT NULL CHECK (change_mode IN ('proportional', 'reset')),
    version bigint NOT NULL,
    changed_at timestamptz NOT NULL,
    changed_boot bigint NOT NULL,
    changed_clock bigint NOT NULL,
    removed boolean NOT NULL,
    CONSTRAINT rate_policies_key UNIQUE NULLS NOT DISTINCT (policy, company_id, branch_id, number, bandwidth)
);
COMMENT ON TABLE tenantcall.rate_policies IS 'rate policies set with set_rate_policy(): a row without company_id holds for all companies that have none of their own';
COMMENT ON COLUMN tenantcall.rate_policies.bandwidth IS 'a policy admits what all of its bandwidths admit';
COMMENT ON COLUMN tenantcall.rate_policies.level IS 'whose bucket: of all companies, a company, branch, number, call, function within a call';
COMMENT ON COLUMN tenantcall.rate_policies.reserve IS 'tokens that low priority may not use';
COMMENT ON COLUMN tenantcall.rate_policies.pause_ns IS 'after a refusal by any bandwidth of the policy, the bucket admits nothing for so long, and until it is full';
COMMENT ON COLUMN tenantcall.rate_policies.changed_clock IS 'changed_at by the buckets'' clock, good within one boot of the machine (changed_boot): a step of the wall clock does not matter';
COMMENT ON COLUMN tenantcall.rate_policies.version IS 'rises with each change; buckets are converted upwards only';
COMMENT ON COLUMN tenantcall.rate_policies.removed IS 'dropped: what holds otherwise holds again, as of this version';
REVOKE ALL ON tenantcall.rate_policies FROM PUBLIC;

INSERT INTO tenantcall.rate_policy_defaults (policy, bandwidth, level, policy_id, tokens, period_ns, burst, reserve,
        pause_ns, shadow, enabled, change_mode, version, changed_at, changed_boot, changed_clock, removed)
SELECT policy, bandwidth, level, policy_id, tokens, period_ns, tokens, 0, pause_ns, shadow, true, 'proportional', 1,
       '2026-01-01 00:00+00', 0, 0, false
FROM (VALUES
    ('function_call', 'default', 'company', 1, 100, 60000000000, 0, false),
    ('webhook', 'default', 'company', 2, 6000, 60000000000, 0, true),
    ('inbound_call', 'default', 'company', 3, 600, 60000000000, 0, true),
    -- one call gone wild: 20 functions a minute, 50 a day (no call is longer), 10 of one function;
    -- whichever refuses, the call pauses for 300 s; in shadow mode until somebody wants it
    ('call_guard', 'per_minute', 'call', 4, 20, 60000000000, 300000000000, true),
    ('call_guard', 'per_call', 'call', 5, 50, 86400000000000, 0, true),
    ('call_guard', 'per_function', 'function', 6, 10, 86400000000000, 0, true)
) AS p (policy, bandwidth, level, policy_id, tokens, period_ns, pause_ns, shadow);

SELECT pg_catalog.pg_extension_config_dump('tenantcall.rate_policies', '');
SELECT pg_catalog.pg_extension_config_dump('tenantcall.rate_policy_version', '');
SELECT pg_catalog.pg_extension_config_dump('tenantcall.rate_policy_id', '');

CREATE FUNCTION tenantcall.rate_policy_changed() RETURNS trigger
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_rate_policy_changed';
COMMENT ON FUNCTION tenantcall.rate_policy_changed() IS 'tells every backend of a changed rate policy, at commit';
REVOKE ALL ON FUNCTION tenantcall.rate_policy_changed() FROM PUBLIC;

CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE ON tenantcall.rate_policies
    FOR EACH ROW EXECUTE FUNCTION tenantcall.rate_policy_changed();
CREATE TRIGGER kept BEFORE TRUNCATE ON tenantcall.rate_policies
    FOR EACH STATEMENT EXECUTE FUNCTION tenantcall.rate_policy_changed();
ALTER TABLE tenantcall.rate_policies ENABLE ALWAYS TRIGGER changed;
ALTER TABLE tenantcall.rate_policies ENABLE ALWAYS TRIGGER kept;
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE ON tenantcall.rate_policy_defaults
    FOR EACH ROW EXECUTE FUNCTION tenantcall.rate_policy_changed();
ALTER TABLE tenantcall.rate_policy_defaults ENABLE ALWAYS TRIGGER changed;

CREATE FUNCTION tenantcall.set_rate_policy(policy text, tokens bigint, per interval, burst bigint DEFAULT NULL,
        company_id bigint DEFAULT NULL, shadow boolean DEFAULT false, enabled boolean DEFAULT true,
        change_mode text DEFAULT 'proportional', bandwidth text DEFAULT 'default', branch_id bigint DEFAULT NULL,
        number text DEFAULT NULL, level text DEFAULT NULL, reserve bigint DEFAULT 0, pause interval DEFAULT '0') RETURNS void
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_set_rate_policy';
COMMENT ON FUNCTION tenantcall.set_rate_policy(text, bigint, interval, bigint, bigint, boolean, boolean, text, text, bigint, text, text, bigint, interval)
    IS 'defines or changes a rate policy for all companies, or for a company, branch or number; acts at commit';
REVOKE ALL ON FUNCTION tenantcall.set_rate_policy(text, bigint, interval, bigint, bigint, boolean, boolean, text, text, bigint, text, text, bigint, interval) FROM PUBLIC;

CREATE FUNCTION tenantcall.drop_rate_policy(policy text, company_id bigint DEFAULT NULL, bandwidth text DEFAULT 'default',
        branch_id bigint DEFAULT NULL, number text DEFAULT NULL) RETURNS void
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_drop_rate_policy';
COMMENT ON FUNCTION tenantcall.drop_rate_policy(text, bigint, text, bigint, text)
    IS 'drops what set_rate_policy() has set: the policy as shipped, or as set more generally, holds again';
REVOKE ALL ON FUNCTION tenantcall.drop_rate_policy(text, bigint, text, bigint, text) FROM PUBLIC;

-- Spending and looking.

CREATE TYPE tenantcall.take_result AS (
    allowed boolean,
    quota bigint,
    remaining bigint,
    retry_after interval,
    reset_after interval,
    reason text,
    ticket bytea
);
COMMENT ON TYPE tenantcall.take_result IS 'answer of a rate limit';
COMMENT ON COLUMN tenantcall.take_result.quota IS 'tokens of a full bucket; NULL if the policy is disabled';
COMMENT ON COLUMN tenantcall.take_result.remaining IS 'whole tokens left';
COMMENT ON COLUMN tenantcall.take_result.retry_after IS 'when the same request will be admitted if nobody else comes; 0 if it was; NULL if never';
COMMENT ON COLUMN tenantcall.take_result.reset_after IS 'when the bucket will be full';
COMMENT ON COLUMN tenantcall.take_result.reason IS 'NULL, limited, would_deny (shadow mode: allowed), cost_exceeds_burst, table_full, unavailable (its part of the table is locked by a process that is stopped), paused, disabled (allowed)';
COMMENT ON COLUMN tenantcall.take_result.ticket IS 'what refund() takes; NULL if nothing was spent';

CREATE TYPE tenantcall.take_all_result AS (
    allowed boolean,
    quota bigint,
    remaining bigint,
    retry_after interval,
    reset_after interval,
    reason text,
    ticket bytea,
    violated text[]
);
COMMENT ON TYPE tenantcall.take_all_result IS 'answer of several rate limits together: the numbers are those of the tightest';
COMMENT ON COLUMN tenantcall.take_all_result.violated IS 'policies, or policy.bandwidth, that refused, or would have (shadow mode)';

CREATE FUNCTION tenantcall.allow(policy text, cost bigint DEFAULT 1) RETURNS boolean
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'tc_allow';
COMMENT ON FUNCTION tenantcall.allow(text, bigint) IS 'spends tokens of the entered company; false if there are too few';
REVOKE ALL ON FUNCTION tenantcall.allow(text, bigint) FROM PUBLIC;

CREATE FUNCTION tenantcall.allow_for(company_id bigint, policy text, cost bigint DEFAULT 1) RETURNS boolean
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'tc_allow_for';
COMMENT ON FUNCTION tenantcall.allow_for(bigint, text, bigint) IS 'spends tokens of a company, or (NULL) of the bucket that all unknown callers share; false if there are too few';
REVOKE ALL ON FUNCTION tenantcall.allow_for(bigint, text, bigint) FROM PUBLIC;

CREATE FUNCTION tenantcall.take(policy text, cost bigint DEFAULT 1, max_wait interval DEFAULT '0', number text DEFAULT NULL, call text DEFAULT NULL,
        function text DEFAULT NULL, low_priority boolean DEFAULT false, refund_on_abort boolean DEFAULT false) RETURNS tenantcall.take_result
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'tc_take';
COMMENT ON FUNCTION tenantcall.take(text, bigint, interval, text, text, text, boolean, boolean) IS 'spends tokens of the entered company, waiting for its turn up to max_wait, and tells what is left';
REVOKE ALL ON FUNCTION tenantcall.take(text, bigint, interval, text, text, text, boolean, boolean) FROM PUBLIC;

CREATE FUNCTION tenantcall.take_or_fail(policy text, cost bigint DEFAULT 1, number text DEFAULT NULL, call text DEFAULT NULL,
        function text DEFAULT NULL, low_priority boolean DEFAULT false, refund_on_abort boolean DEFAULT false) RETURNS tenantcall.take_result
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'tc_take_or_fail';
COMMENT ON FUNCTION tenantcall.take_or_fail(text, bigint, text, text, text, boolean, boolean) IS 'spends tokens of the entered company, or raises PT429';
REVOKE ALL ON FUNCTION tenantcall.take_or_fail(text, bigint, text, text, text, boolean, boolean) FROM PUBLIC;

CREATE FUNCTION tenantcall.take_for(company_id bigint, policy text, cost bigint DEFAULT 1, number text DEFAULT NULL, call text DEFAULT NULL,
        function text DEFAULT NULL, low_priority boolean DEFAULT false, refund_on_abort boolean DEFAULT false) RETURNS tenantcall.take_result
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'tc_take_for';
COMMENT ON FUNCTION tenantcall.take_for(bigint, text, bigint, text, text, text, boolean, boolean) IS 'spends tokens of a company, or (NULL) of the bucket that all unknown callers share';
REVOKE ALL ON FUNCTION tenantcall.take_for(bigint, text, bigint, text, text, text, boolean, boolean) FROM PUBLIC;

CREATE FUNCTION tenantcall.take_all(policies text[], costs bigint[] DEFAULT NULL, number text DEFAULT NULL, call text DEFAULT NULL,
        function text DEFAULT NULL, low_priority boolean DEFAULT false, refund_on_abort boolean DEFAULT false) RETURNS tenantcall.take_all_result
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'tc_take_all';
COMMENT ON FUNCTION tenantcall.take_all(text[], bigint[], text, text, text, boolean, boolean) IS 'spends tokens of several policies at one instant, all or nothing, and names those that refuse';
REVOKE ALL ON FUNCTION tenantcall.take_all(text[], bigint[], text, text, text, boolean, boolean) FROM PUBLIC;

CREATE FUNCTION tenantcall.peek(policy text, cost bigint DEFAULT 1, number text DEFAULT NULL, call text DEFAULT NULL,
        function text DEFAULT NULL, low_priority boolean DEFAULT false) RETURNS tenantcall.take_result
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'tc_peek';
COMMENT ON FUNCTION tenantcall.peek(text, bigint, text, text, text, boolean) IS 'what take() would answer, spending nothing';
REVOKE ALL ON FUNCTION tenantcall.peek(text, bigint, text, text, text, boolean) FROM PUBLIC;

CREATE FUNCTION tenantcall.refund(ticket bytea) RETURNS boolean
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'tc_refund';
COMMENT ON FUNCTION tenantcall.refund(bytea) IS 'gives back what a ticket stands for, once: false if it is worth nothing any more';
REVOKE ALL ON FUNCTION tenantcall.refund(bytea) FROM PUBLIC;

CREATE FUNCTION tenantcall.reset_bucket(policy text, company_id bigint DEFAULT NULL, branch_id bigint DEFAULT NULL, number text DEFAULT NULL,
        call text DEFAULT NULL, function text DEFAULT NULL) RETURNS boolean
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'tc_reset_bucket';
COMMENT ON FUNCTION tenantcall.reset_bucket(text, bigint, bigint, text, text, text) IS 'fills a bucket, of all bandwidths of the policy, and lets those go who wait for it; false if it was full';
REVOKE ALL ON FUNCTION tenantcall.reset_bucket(text, bigint, bigint, text, text, text) FROM PUBLIC;

CREATE FUNCTION tenantcall.rate_test_clock(ns bigint) RETURNS bigint
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'tc_rate_test_clock';
COMMENT ON FUNCTION tenantcall.rate_test_clock(bigint) IS 'for tests, superusers only: stops the clock of this session at so many ns (0: lets it go); returns its time';
REVOKE ALL ON FUNCTION tenantcall.rate_test_clock(bigint) FROM PUBLIC;

CREATE FUNCTION tenantcall.rate_test_stop(place text) RETURNS void
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'tc_rate_test_stop';
COMMENT ON FUNCTION tenantcall.rate_test_stop(text) IS 'for tests, superusers only: has this session''s process stop itself (SIGSTOP) the next time it comes to a place';
REVOKE ALL ON FUNCTION tenantcall.rate_test_stop(text) FROM PUBLIC;

CREATE FUNCTION tenantcall.rate_headers(result tenantcall.take_result) RETURNS jsonb
    LANGUAGE C IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tc_rate_headers_sql';
COMMENT ON FUNCTION tenantcall.rate_headers(tenantcall.take_result) IS 'HTTP headers that tell a client of its limit; seconds are rounded up';

CREATE FUNCTION tenantcall.rate_headers(result tenantcall.take_result, policy text, refill interval DEFAULT NULL) RETURNS jsonb
    LANGUAGE C IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tc_rate_headers_sql';
COMMENT ON FUNCTION tenantcall.rate_headers(tenantcall.take_result, text, interval) IS 'the same with the policy''s name and, as its window, the time in which a full bucket is refilled';

-- Statistics.

CREATE FUNCTION tenantcall.rate_buckets(OUT policy_id integer, OUT level text, OUT company_id bigint, OUT company_uuid uuid,
        OUT shadow boolean, OUT allowed bigint, OUT denied bigint, OUT would_deny bigint, OUT quota bigint,
        OUT remaining bigint, OUT reset_after interval, OUT last_denied_at timestamptz, OUT branch_id bigint,
        OUT waited bigint, OUT refunded bigint, OUT forgiven bigint) RETURNS SETOF record
    LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED ROWS 1000 AS 'MODULE_PATHNAME', 'tc_rate_buckets';
COMMENT ON FUNCTION tenantcall.rate_buckets() IS 'buckets of this database, and sums of those that have made way (without quota): all for administrators and pg_monitor, those of the entered company for others';
REVOKE ALL ON FUNCTION tenantcall.rate_buckets() FROM PUBLIC;

-- A function, because a view must not name tables that Citus may have distributed (node_sql.c).
CREATE FUNCTION tenantcall.rate_policy_names() RETURNS TABLE (policy_id integer, policy text, bandwidth text)
    LANGUAGE C STABLE STRICT PARALLEL RESTRICTED ROWS 20 AS 'MODULE_PATHNAME', 'tc_rate_policy_names';
COMMENT ON FUNCTION tenantcall.rate_policy_names() IS 'internal: names of the policies of all companies and the one entered, for view stat_rate_limits';
REVOKE ALL ON FUNCTION tenantcall.rate_policy_names() FROM PUBLIC;

CREATE VIEW tenantcall.stat_rate_limits AS
    SELECT b.company_id, b.company_uuid, p.policy, b.level, b.shadow, b.allowed, b.denied, b.would_deny,
           b.quota, b.remaining, b.reset_after, b.last_denied_at, p.bandwidth, b.branch_id, b.waited, b.refunded, b.forgiven,
           (SELECT tenantcall.stats_reset('rate')) AS stats_reset
    FROM tenantcall.rate_buckets() b
    LEFT JOIN (SELECT DISTINCT n.policy_id, n.policy, n.bandwidth FROM tenantcall.rate_policy_names() AS n) p USING (policy_id);
COMMENT ON VIEW tenantcall.stat_rate_limits IS 'use of rate limits, per bucket; rows without quota sum up, per company and policy, the buckets that have made way';
REVOKE ALL ON tenantcall.stat_rate_limits FROM PUBLIC;

CREATE FUNCTION tenantcall.rate_table(OUT max_buckets bigint, OUT used bigint, OUT evicted bigint, OUT evicted_allowed bigint,
        OUT evicted_denied bigint, OUT evicted_would_deny bigint, OUT refused bigint, OUT passed bigint, OUT forced bigint,
        OUT forgiven bigint, OUT unavailable bigint) RETURNS record
    LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'tc_rate_table';
COMMENT ON FUNCTION tenantcall.rate_table() IS 'the table of buckets of all databases: room, evictions of full buckets with their counts, and refusals for want of room, or because a stopped process has a part of it locked';
REVOKE ALL ON FUNCTION tenantcall.rate_table() FROM PUBLIC;

CREATE FUNCTION tenantcall.reset_rate_stats() RETURNS void
    LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'tc_reset_rate_stats';
COMMENT ON FUNCTION tenantcall.reset_rate_stats() IS 'sets the counts of all buckets of this database to 0; what the buckets hold stays';
REVOKE ALL ON FUNCTION tenantcall.reset_rate_stats() FROM PUBLIC;
