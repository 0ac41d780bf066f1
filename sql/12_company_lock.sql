-- 12_company_lock.sql: advisory locks in a key space of each company's own

CREATE FUNCTION tenantcall.company_lock(key text) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_company_lock';
COMMENT ON FUNCTION tenantcall.company_lock(text) IS 'waits for a lock of the company in context, held until the end of the transaction';
REVOKE ALL ON FUNCTION tenantcall.company_lock(text) FROM PUBLIC;

CREATE FUNCTION tenantcall.try_company_lock(key text) RETURNS boolean
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_try_company_lock';
COMMENT ON FUNCTION tenantcall.try_company_lock(text) IS 'takes a lock of the company in context if it is free, until the end of the transaction';
REVOKE ALL ON FUNCTION tenantcall.try_company_lock(text) FROM PUBLIC;
