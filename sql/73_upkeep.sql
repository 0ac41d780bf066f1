-- 73_upkeep.sql: stuck calls, and usage

CREATE FUNCTION tenantcall.stuck_calls(older_than interval DEFAULT '2 hours')
    RETURNS TABLE (company_id bigint, call_id bigint, provider_call_id text, branch_id bigint, status text, last_sign timestamptz)
    LANGUAGE C STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_stuck_calls';
COMMENT ON FUNCTION tenantcall.stuck_calls(interval) IS 'calls without an end that gave no sign of life for that long; of the entered company, else of all';
REVOKE ALL ON FUNCTION tenantcall.stuck_calls(interval) FROM PUBLIC;

CREATE FUNCTION tenantcall.close_stuck_calls(older_than interval DEFAULT '2 hours', max_rows integer DEFAULT 1000)
    RETURNS TABLE (company_id bigint, call_id bigint, provider_call_id text, branch_id bigint, status text, last_sign timestamptz)
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_close_stuck_calls';
COMMENT ON FUNCTION tenantcall.close_stuck_calls(interval, integer) IS 'moves stuck calls to state abandoned, at most so many, and returns them as they were';
REVOKE ALL ON FUNCTION tenantcall.close_stuck_calls(interval, integer) FROM PUBLIC;

CREATE FUNCTION tenantcall.company_usage(from_day date, to_day date)
    RETURNS TABLE (company_id bigint, day date, calls bigint, minutes numeric, function_calls bigint, refusals bigint, cost_cents numeric,
                   bookings bigint)
    LANGUAGE C STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_company_usage';
COMMENT ON FUNCTION tenantcall.company_usage(date, date) IS 'usage by company and day (of the company''s time zone), first and last day included; of the entered company, else of all';
REVOKE ALL ON FUNCTION tenantcall.company_usage(date, date) FROM PUBLIC;
