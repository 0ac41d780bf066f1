-- 76_company_data.sql: all that is stored of one company

CREATE FUNCTION tenantcall.export_company(company_id bigint) RETURNS TABLE (relation text, data jsonb)
    LANGUAGE C STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_export_company';
COMMENT ON FUNCTION tenantcall.export_company(bigint) IS 'every row of a company, parents before children; secrets without their ciphertext';
REVOKE ALL ON FUNCTION tenantcall.export_company(bigint) FROM PUBLIC;

CREATE FUNCTION tenantcall.delete_company(company_id bigint) RETURNS TABLE (relation text, rows_deleted bigint)
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_delete_company';
COMMENT ON FUNCTION tenantcall.delete_company(bigint) IS 'deletes a suspended company with every row of it, and says how many there were';
REVOKE ALL ON FUNCTION tenantcall.delete_company(bigint) FROM PUBLIC;
