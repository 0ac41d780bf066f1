-- 71_leases.sql: how many calls a company may have at once, and which call an inbound request became

-- A row for branch_id 0 holds for the company, one for company_id 0 for all that have none of
-- their own.
CREATE TABLE tenantcall.concurrency_policy_defaults
(
    company_id bigint NOT NULL DEFAULT 0 CHECK (company_id = 0),
    branch_id bigint NOT NULL DEFAULT 0 CHECK (branch_id = 0),
    max_calls integer NOT NULL,
    reserved_inbound integer NOT NULL,
    burst integer NOT NULL,
    unbound_ttl interval NOT NULL,
    bound_ttl interval NOT NULL,
    enabled boolean NOT NULL,
    PRIMARY KEY (company_id, branch_id)
);
COMMENT ON TABLE tenantcall.concurrency_policy_defaults IS 'how many calls at once, as shipped';
REVOKE ALL ON tenantcall.concurrency_policy_defaults FROM PUBLIC;
-- 20 calls are what the platform gives a workspace for nothing; its burst is min(3 * 20, 20 + 300)
-- in all (docs.retellai.com, "concurrency").
INSERT INTO tenantcall.concurrency_policy_defaults VALUES (0, 0, 20, 0, 40, '2 minutes', '2 hours', true);

CREATE TABLE tenantcall.concurrency_policies
(
    company_id bigint NOT NULL DEFAULT 0 CHECK (company_id >= 0),
    branch_id bigint NOT NULL DEFAULT 0 CHECK (branch_id = 0 OR branch_id > 0 AND company_id > 0),
    max_calls integer NOT NULL CHECK (max_calls BETWEEN 0 AND 1000000),
    reserved_inbound integer NOT NULL CHECK (reserved_inbound BETWEEN 0 AND max_calls),
    burst integer NOT NULL CHECK (burst BETWEEN 0 AND 1000000),
    unbound_ttl interval CHECK (unbound_ttl BETWEEN '1 second' AND '7 days'),
    bound_ttl interval CHECK (bound_ttl BETWEEN '1 second' AND '7 days'),
    enabled boolean NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (company_id, branch_id),
    CHECK (branch_id = 0 OR unbound_ttl IS NULL AND bound_ttl IS NULL)
);
COMMENT ON TABLE tenantcall.concurrency_policies IS 'how many calls at once: what set_concurrency_policy() has set for all companies (company_id 0), a company (branch_id 0), or a branch';
COMMENT ON COLUMN tenantcall.concurrency_policies.reserved_inbound IS 'of max_calls: never used by outbound calls';
COMMENT ON COLUMN tenantcall.concurrency_policies.burst IS 'beyond max_calls: for inbound calls alone';
COMMENT ON COLUMN tenantcall.concurrency_policies.unbound_ttl IS 'how long a lease is held for a call that has not come; NULL: as set more generally';
COMMENT ON COLUMN tenantcall.concurrency_policies.bound_ttl IS 'how long a lease outlives the last sign of its call; NULL: as set more generally';
REVOKE ALL ON tenantcall.concurrency_policies FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('tenantcall.concurrency_policies', '');

CREATE FUNCTION tenantcall.set_concurrency_policy(max_calls integer, reserved_inbound integer DEFAULT 0, burst integer DEFAULT 0,
        company_id bigint DEFAULT NULL, branch_id bigint DEFAULT NULL, unbound_ttl interval DEFAULT NULL,
        bound_ttl interval DEFAULT NULL, enabled boolean DEFAULT true) RETURNS void
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_set_concurrency_policy';
COMMENT ON FUNCTION tenantcall.set_concurrency_policy(integer, integer, integer, bigint, bigint, interval, interval, boolean)
    IS 'sets how many calls at once all companies, a company, or a branch may have';
REVOKE ALL ON FUNCTION tenantcall.set_concurrency_policy(integer, integer, integer, bigint, bigint, interval, interval, boolean) FROM PUBLIC;

CREATE FUNCTION tenantcall.drop_concurrency_policy(company_id bigint DEFAULT NULL, branch_id bigint DEFAULT NULL) RETURNS void
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_drop_concurrency_policy';
COMMENT ON FUNCTION tenantcall.drop_concurrency_policy(bigint, bigint) IS 'drops what set_concurrency_policy() has set: what is set more generally, or shipped, holds again';
REVOKE ALL ON FUNCTION tenantcall.drop_concurrency_policy(bigint, bigint) FROM PUBLIC;

CREATE FUNCTION tenantcall.acquire_call_lease(company_id bigint, holder text, direction text DEFAULT 'outbound', branch_id bigint DEFAULT NULL)
    RETURNS TABLE (outcome text, reason text, in_use bigint, max_calls bigint, expires_at timestamptz)
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE ROWS 1 AS 'MODULE_PATHNAME', 'tc_acquire_call_lease';
COMMENT ON FUNCTION tenantcall.acquire_call_lease(bigint, text, text, bigint) IS 'may one more call begin?  acquired, held (by this holder already) or refused';
REVOKE ALL ON FUNCTION tenantcall.acquire_call_lease(bigint, text, text, bigint) FROM PUBLIC;

CREATE FUNCTION tenantcall.bind_call_lease(company_id bigint, holder text, provider_call_id text) RETURNS boolean
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_bind_call_lease';
COMMENT ON FUNCTION tenantcall.bind_call_lease(bigint, text, text) IS 'says which call the holder''s lease is for; false if there is no lease, or the call is over';
REVOKE ALL ON FUNCTION tenantcall.bind_call_lease(bigint, text, text) FROM PUBLIC;

CREATE FUNCTION tenantcall.release_call_lease(company_id bigint, holder text) RETURNS boolean
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_release_call_lease';
COMMENT ON FUNCTION tenantcall.release_call_lease(bigint, text) IS 'gives a lease back, by its holder or its call; false if there is none';
REVOKE ALL ON FUNCTION tenantcall.release_call_lease(bigint, text) FROM PUBLIC;

CREATE FUNCTION tenantcall.expire_call_leases(max_rows integer DEFAULT 1000) RETURNS TABLE (leases bigint, requests bigint)
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE ROWS 1 AS 'MODULE_PATHNAME', 'tc_expire_call_leases';
COMMENT ON FUNCTION tenantcall.expire_call_leases(integer) IS 'deletes expired leases, and inbound requests older than a day, at most so many of each; of the entered company, else of all';
REVOKE ALL ON FUNCTION tenantcall.expire_call_leases(integer) FROM PUBLIC;

CREATE FUNCTION tenantcall.call_lease_stats()
    RETURNS TABLE (company_id bigint, branch_id bigint, in_use bigint, inbound bigint, outbound bigint, unbound bigint,
                   expired bigint, max_calls bigint, reserved_inbound bigint, burst bigint, enabled boolean, oldest timestamptz)
    LANGUAGE C STABLE STRICT PARALLEL UNSAFE ROWS 100 AS 'MODULE_PATHNAME', 'tc_call_lease_stats';
COMMENT ON FUNCTION tenantcall.call_lease_stats() IS 'leases in use and their limits: of the entered company, else of all that hold some';
REVOKE ALL ON FUNCTION tenantcall.call_lease_stats() FROM PUBLIC;

CREATE VIEW tenantcall.stat_call_leases AS
    SELECT company_id, branch_id, in_use, inbound, outbound, unbound, expired, max_calls, reserved_inbound, burst, enabled, oldest
    FROM tenantcall.call_lease_stats();
COMMENT ON VIEW tenantcall.stat_call_leases IS 'calls at once and their limits, per company, and per branch that has a limit of its own';
REVOKE ALL ON tenantcall.stat_call_leases FROM PUBLIC;

-- Leases, and the inbound webhook's requests until their calls are known.
CREATE FUNCTION tenantcall.create_lease_tables(schema name) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
BEGIN
    PERFORM set_config('search_path', quote_ident(schema) || ', pg_temp', true);
    CREATE TABLE call_leases
    (
        company_id bigint NOT NULL REFERENCES companies,
        holder text COLLATE "C" NOT NULL CHECK (length(holder) BETWEEN 1 AND 200), -- whoever acquired it, or the call
        direction text NOT NULL CHECK (direction IN ('inbound', 'outbound')),
        branch_id bigint,
        provider_call_id text COLLATE "C", -- NULL: not bound to a call yet
        acquired_at timestamptz NOT NULL,
        seen_at timestamptz NOT NULL, -- last sign of life
        PRIMARY KEY (company_id, holder),
        UNIQUE (company_id, provider_call_id)
    ) WITH (fillfactor = 50);
    CREATE TABLE inbound_requests
    (
        company_id bigint NOT NULL REFERENCES companies,
        request_id bigint GENERATED ALWAYS AS IDENTITY,
        correlation text COLLATE "C" NOT NULL, -- SHA-256 of the token that was handed out
        outcome text NOT NULL CHECK (outcome IN ('accepted', 'limited', 'suspended')),
        answer jsonb, -- without the token
        from_number text COLLATE "C",
        to_number text COLLATE "C",
        received_at timestamptz NOT NULL,
        decision_id bigint NOT NULL, -- in tenant_decisions
        provider_call_id text COLLATE "C", -- the call that it became
        matched_by text CHECK (matched_by IN ('metadata', 'window')),
        PRIMARY KEY (company_id, request_id),
        UNIQUE (company_id, correlation),
        UNIQUE (company_id, provider_call_id),
        CHECK ((provider_call_id IS NULL) = (matched_by IS NULL))
    ) WITH (fillfactor = 70);
    CREATE INDEX inbound_requests_received_idx ON inbound_requests (company_id, received_at);
END
$$;
COMMENT ON FUNCTION tenantcall.create_lease_tables(name) IS 'internal: part of create_tables()';
REVOKE ALL ON FUNCTION tenantcall.create_lease_tables(name) FROM PUBLIC;
