-- 60_directory.sql: resolving, entering, and what belongs to whom

CREATE TYPE tenantcall.resolution AS
(
    company_id bigint,
    branch_id bigint,
    phone_number_id bigint,
    company_status text
);
COMMENT ON TYPE tenantcall.resolution IS 'to whom a number belongs';

CREATE FUNCTION tenantcall.resolve_phone(number text)
    RETURNS TABLE (company_id bigint, branch_id bigint, phone_number_id bigint, company_status text)
    LANGUAGE C STABLE PARALLEL UNSAFE COST 1 ROWS 1 AS 'MODULE_PATHNAME', 'tc_resolve_phone';
COMMENT ON FUNCTION tenantcall.resolve_phone(text) IS 'to whom the number belongs now: one row, or none';
REVOKE ALL ON FUNCTION tenantcall.resolve_phone(text) FROM PUBLIC;

CREATE FUNCTION tenantcall.enter(company_id bigint, branch_id bigint DEFAULT NULL) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_enter';
COMMENT ON FUNCTION tenantcall.enter(bigint, bigint) IS 'enters a company (and branch) for the rest of the transaction; set once';
REVOKE ALL ON FUNCTION tenantcall.enter(bigint, bigint) FROM PUBLIC;

CREATE FUNCTION tenantcall.enter_uuid(company uuid, branch uuid DEFAULT NULL) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_enter_uuid';
COMMENT ON FUNCTION tenantcall.enter_uuid(uuid, uuid) IS 'enters a company (and branch) by external id for the rest of the transaction; set once';
REVOKE ALL ON FUNCTION tenantcall.enter_uuid(uuid, uuid) FROM PUBLIC;

CREATE FUNCTION tenantcall.enter_phone(number text) RETURNS tenantcall.resolution
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_enter_phone';
COMMENT ON FUNCTION tenantcall.enter_phone(text) IS 'enters the company and branch that the number belongs to, for the rest of the transaction';
REVOKE ALL ON FUNCTION tenantcall.enter_phone(text) FROM PUBLIC;

CREATE FUNCTION tenantcall.create_company(name text, phone_region text, time_zone text, external_id uuid DEFAULT NULL)
    RETURNS bigint
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_create_company';
COMMENT ON FUNCTION tenantcall.create_company(text, text, text, uuid) IS 'makes a company and returns its company_id';
REVOKE ALL ON FUNCTION tenantcall.create_company(text, text, text, uuid) FROM PUBLIC;

CREATE FUNCTION tenantcall.set_company_status(company_id bigint, status text, reason text DEFAULT NULL) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_set_company_status';
COMMENT ON FUNCTION tenantcall.set_company_status(bigint, text, text) IS 'makes a company active or suspended, with a reason';
REVOKE ALL ON FUNCTION tenantcall.set_company_status(bigint, text, text) FROM PUBLIC;

CREATE FUNCTION tenantcall.assign_number(number text, company_id bigint, branch_id bigint) RETURNS bigint
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_assign_number';
COMMENT ON FUNCTION tenantcall.assign_number(text, bigint, bigint) IS 'assigns a free number to a branch and returns its phone_number_id';
REVOKE ALL ON FUNCTION tenantcall.assign_number(text, bigint, bigint) FROM PUBLIC;

CREATE FUNCTION tenantcall.release_number(number text) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_release_number';
COMMENT ON FUNCTION tenantcall.release_number(text) IS 'ends the assignment of a number';
REVOKE ALL ON FUNCTION tenantcall.release_number(text) FROM PUBLIC;

CREATE FUNCTION tenantcall.move_number(number text, company_id bigint, branch_id bigint) RETURNS bigint
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_move_number';
COMMENT ON FUNCTION tenantcall.move_number(text, bigint, bigint) IS 'releases an assigned number and assigns it to another branch, in one step; returns the new phone_number_id';
REVOKE ALL ON FUNCTION tenantcall.move_number(text, bigint, bigint) FROM PUBLIC;

CREATE FUNCTION tenantcall.assign_agent(provider_agent_id text, company_id bigint, branch_id bigint DEFAULT NULL) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_assign_agent';
COMMENT ON FUNCTION tenantcall.assign_agent(text, bigint, bigint) IS 'assigns an agent of the voice platform to a company (and branch), for calls without numbers';
REVOKE ALL ON FUNCTION tenantcall.assign_agent(text, bigint, bigint) FROM PUBLIC;

CREATE FUNCTION tenantcall.release_agent(provider_agent_id text) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_release_agent';
COMMENT ON FUNCTION tenantcall.release_agent(text) IS 'ends the assignment of an agent';
REVOKE ALL ON FUNCTION tenantcall.release_agent(text) FROM PUBLIC;

CREATE FUNCTION tenantcall.assign_credential(company_id bigint, credential text, branch_id bigint DEFAULT NULL) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_assign_credential';
COMMENT ON FUNCTION tenantcall.assign_credential(bigint, text, bigint) IS 'names the calendar account that a company, or one of its branches, uses; NULL: none';
REVOKE ALL ON FUNCTION tenantcall.assign_credential(bigint, text, bigint) FROM PUBLIC;

-- Applications write branches, but which calendar account a branch uses is not theirs to say: the
-- name of another company's account would be all it takes to use it.
CREATE FUNCTION tenantcall.credential_guard_trigger() RETURNS trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
BEGIN
    IF current_user <> 'tenantcall_owner' AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        RAISE EXCEPTION 'the credential of a branch can be set by an administrator only'
            USING ERRCODE = 'insufficient_privilege',
                  HINT = 'Administrators call tenantcall.assign_credential().';
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION tenantcall.credential_guard_trigger() IS 'internal: keeps applications from naming another company''s calendar account';
REVOKE ALL ON FUNCTION tenantcall.credential_guard_trigger() FROM PUBLIC;

CREATE FUNCTION tenantcall.time_zone_trigger() RETURNS trigger
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'tc_time_zone_trigger';
COMMENT ON FUNCTION tenantcall.time_zone_trigger() IS 'internal: time zones are names of the IANA data base';
REVOKE ALL ON FUNCTION tenantcall.time_zone_trigger() FROM PUBLIC;

CREATE FUNCTION tenantcall.set_webhook_key(provider text, kid text, secret text, company_id bigint DEFAULT NULL) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_set_webhook_key';
COMMENT ON FUNCTION tenantcall.set_webhook_key(text, text, text, bigint) IS 'stores a live webhook key, encrypted; of one company, or (NULL) of the provider account';
REVOKE ALL ON FUNCTION tenantcall.set_webhook_key(text, text, text, bigint) FROM PUBLIC;

CREATE FUNCTION tenantcall.drop_webhook_key(provider text, kid text) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_drop_webhook_key';
COMMENT ON FUNCTION tenantcall.drop_webhook_key(text, text) IS 'ends a webhook key';
REVOKE ALL ON FUNCTION tenantcall.drop_webhook_key(text, text) FROM PUBLIC;

CREATE FUNCTION tenantcall.set_credential(name text, secret text, base_url text) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_set_credential';
COMMENT ON FUNCTION tenantcall.set_credential(text, text, text) IS 'stores the API key of a calendar account, encrypted, under the name that companies and branches refer to';
REVOKE ALL ON FUNCTION tenantcall.set_credential(text, text, text) FROM PUBLIC;
