-- 10_context.sql: the tenant context of the current transaction

CREATE FUNCTION tenantcall.current_company_id() RETURNS bigint
    LANGUAGE C STABLE LEAKPROOF PARALLEL SAFE COST 1 AS 'MODULE_PATHNAME', 'tc_current_company_id';
COMMENT ON FUNCTION tenantcall.current_company_id() IS 'company entered in this transaction, or NULL';

CREATE FUNCTION tenantcall.current_branch_id() RETURNS bigint
    LANGUAGE C STABLE LEAKPROOF PARALLEL SAFE COST 1 AS 'MODULE_PATHNAME', 'tc_current_branch_id';
COMMENT ON FUNCTION tenantcall.current_branch_id() IS 'branch entered in this transaction, or NULL';

CREATE FUNCTION tenantcall.current_company_uuid() RETURNS uuid
    LANGUAGE C STABLE LEAKPROOF PARALLEL SAFE COST 1 AS 'MODULE_PATHNAME', 'tc_current_company_uuid';
COMMENT ON FUNCTION tenantcall.current_company_uuid() IS 'external id of the company entered in this transaction, or NULL';

CREATE FUNCTION tenantcall.current_branch_uuid() RETURNS uuid
    LANGUAGE C STABLE LEAKPROOF PARALLEL SAFE COST 1 AS 'MODULE_PATHNAME', 'tc_current_branch_uuid';
COMMENT ON FUNCTION tenantcall.current_branch_uuid() IS 'external id of the branch entered in this transaction, or NULL';
