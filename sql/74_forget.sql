-- 74_forget.sql: erasing what is known of one caller

CREATE FUNCTION tenantcall.caller_calls(number text, company_id bigint DEFAULT NULL) RETURNS text[]
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_caller_calls';
COMMENT ON FUNCTION tenantcall.caller_calls(text, bigint) IS 'internal: the provider''s ids of a caller''s calls, which are locked; for forget_caller() on a cluster';
REVOKE ALL ON FUNCTION tenantcall.caller_calls(text, bigint) FROM PUBLIC;

CREATE FUNCTION tenantcall.forget_caller(number text, company_id bigint DEFAULT NULL)
    RETURNS TABLE (calls bigint, events bigint, function_calls bigint, decisions bigint, appointments bigint, customers bigint, quarantined bigint)
    LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1 AS 'MODULE_PATHNAME', 'tc_forget_caller';
COMMENT ON FUNCTION tenantcall.forget_caller(text, bigint) IS 'erases the personal data of a caller of one company (by default the entered one), and returns how many rows held some; counts, times and states stay';
REVOKE ALL ON FUNCTION tenantcall.forget_caller(text, bigint) FROM PUBLIC;
