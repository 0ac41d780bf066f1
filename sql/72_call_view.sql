-- 72_call_view.sql: one call as an application asks for it

CREATE TYPE tenantcall.call_context AS
(
    company_id bigint,
    company text,
    company_status text,
    branch_id bigint,
    branch text,
    time_zone text,
    phone_number_id bigint,
    number text,
    call_id bigint,
    provider_call_id text,
    direction text,
    status text,
    started_at timestamptz,
    ended_at timestamptz,
    agent text,
    caller text,
    caller_reason text,
    customer_id bigint,
    customer text,
    service_id bigint,
    service text
);
COMMENT ON TYPE tenantcall.call_context IS 'what an application needs to know of a call: company, branch, number, caller, customer, service, status';
COMMENT ON COLUMN tenantcall.call_context.number IS 'number of the company that the call came in on, or went out from';
COMMENT ON COLUMN tenantcall.call_context.caller IS 'number of the other party; NULL with a caller_reason';
COMMENT ON COLUMN tenantcall.call_context.caller_reason IS 'why there is no number: missing, withheld, unavailable or not_a_number';
COMMENT ON COLUMN tenantcall.call_context.customer IS 'the customer of the call, else the first one with the other party''s number';
COMMENT ON COLUMN tenantcall.call_context.service IS 'what is booked unless the caller names another: default of the branch, of the company, by priority';

CREATE FUNCTION tenantcall.call_context(provider_call_id text) RETURNS tenantcall.call_context
    LANGUAGE C STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_call_context';
COMMENT ON FUNCTION tenantcall.call_context(text) IS 'the context of a call, read once per command';
REVOKE ALL ON FUNCTION tenantcall.call_context(text) FROM PUBLIC;

CREATE FUNCTION tenantcall.advance_call(provider_call_id text, state text, reason text DEFAULT NULL) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_advance_call';
COMMENT ON FUNCTION tenantcall.advance_call(text, text, text) IS 'moves a call to a state that its lifecycle allows, with a reason for the audit trail';
REVOKE ALL ON FUNCTION tenantcall.advance_call(text, text, text) FROM PUBLIC;

CREATE FUNCTION tenantcall.call_timeline(provider_call_id text)
    RETURNS TABLE (at timestamptz, kind text, what text, detail jsonb)
    LANGUAGE C STABLE PARALLEL UNSAFE ROWS 20 AS 'MODULE_PATHNAME', 'tc_call_timeline';
COMMENT ON FUNCTION tenantcall.call_timeline(text) IS 'what happened to a call, in time order: events, decisions, moves, function calls and their answers, holds and bookings';
REVOKE ALL ON FUNCTION tenantcall.call_timeline(text) FROM PUBLIC;
