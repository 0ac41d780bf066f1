-- 15_key.sql: signed tokens, and signatures of webhook bodies

CREATE FUNCTION tenantcall.enter_token(token text) RETURNS void
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_enter_token';
COMMENT ON FUNCTION tenantcall.enter_token(text) IS 'enters the tenant that a signed token names, until the end of the transaction';
REVOKE ALL ON FUNCTION tenantcall.enter_token(text) FROM PUBLIC;

CREATE FUNCTION tenantcall.sign_token(company_id bigint, branch_id bigint, ttl interval, role name DEFAULT NULL) RETURNS text
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tc_sign_token';
COMMENT ON FUNCTION tenantcall.sign_token(bigint, bigint, interval, name) IS 'signs a token (JWT, HS256) that admits to one company, or one branch of it';
REVOKE ALL ON FUNCTION tenantcall.sign_token(bigint, bigint, interval, name) FROM PUBLIC;

CREATE FUNCTION tenantcall.retell_signature(body text, secret text, at timestamptz DEFAULT pg_catalog.now()) RETURNS text
    LANGUAGE C STABLE CALLED ON NULL INPUT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tc_retell_signature';
COMMENT ON FUNCTION tenantcall.retell_signature(text, text, timestamptz) IS 'signs a body as Retell AI does, for tests';
REVOKE ALL ON FUNCTION tenantcall.retell_signature(text, text, timestamptz) FROM PUBLIC;

CREATE FUNCTION tenantcall.retell_signature(body bytea, secret text, at timestamptz DEFAULT pg_catalog.now()) RETURNS text
    LANGUAGE C STABLE CALLED ON NULL INPUT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tc_retell_signature';
COMMENT ON FUNCTION tenantcall.retell_signature(bytea, text, timestamptz) IS 'signs a body as Retell AI does, for tests';
REVOKE ALL ON FUNCTION tenantcall.retell_signature(bytea, text, timestamptz) FROM PUBLIC;
