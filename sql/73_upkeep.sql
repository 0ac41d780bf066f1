-- 73_upkeep.sql: stuck calls, and usage

CREATE FUNCTION tenantcall.stuck_calls(older_than interval DEFAULT NULL)
    RETURNS TABLE (company_id bigint, call_id bigint, provider_call_id text, branch_id bigint, status text, last_sign timestamptz)
    LANGUAGE C STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_stuck_calls';
COMMENT ON FUNCTION tenantcall.stuck_calls(interval) IS 'calls without an end that gave no sign of life for that long (NULL: tenantcall.calls_stuck_after); of the entered company, else of all';
REVOKE ALL ON FUNCTION tenantcall.stuck_calls(interval) FROM PUBLIC;

CREATE FUNCTION tenantcall.close_stuck_calls(older_than interval DEFAULT NULL, max_rows integer DEFAULT 1000)
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

CREATE FUNCTION tenantcall.roll_up_usage(max_days integer DEFAULT 10000)
    RETURNS TABLE (company_id bigint, days_closed integer, days_recounted integer)
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_roll_up_usage';
COMMENT ON FUNCTION tenantcall.roll_up_usage(integer) IS 'adds up the usage of days that ended two days ago, and again of those whose calls changed since; at most so many days; of the entered company, else of all';
REVOKE ALL ON FUNCTION tenantcall.roll_up_usage(integer) FROM PUBLIC;

CREATE VIEW tenantcall.disconnection_reasons_in_force AS
    SELECT coalesce(r.reason, d.reason) AS reason, coalesce(r.state, d.state) AS state, r.reason IS NOT NULL AS changed
    FROM tenantcall.disconnection_reason_defaults AS d FULL JOIN tenantcall.disconnection_reasons AS r USING (reason);
COMMENT ON VIEW tenantcall.disconnection_reasons_in_force IS 'state in which a call ends for a disconnection reason, shipped or changed';
REVOKE ALL ON tenantcall.disconnection_reasons_in_force FROM PUBLIC;

CREATE FUNCTION tenantcall.unmapped_reasons()
    RETURNS TABLE (company_id bigint, reason text, calls bigint, last_at timestamptz)
    LANGUAGE C STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_unmapped_reasons';
COMMENT ON FUNCTION tenantcall.unmapped_reasons() IS 'disconnection reasons of calls that are in neither disconnection_reasons nor its defaults; of the entered company, else of all';
REVOKE ALL ON FUNCTION tenantcall.unmapped_reasons() FROM PUBLIC;
