-- 05_internal.sql: narrow tables that no application role may read

-- Where create_tables() put the tables of the tenants.
CREATE TABLE tenantcall.installation
(
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    schema_name name NOT NULL,
    version text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE tenantcall.installation IS 'schema and version of the tables made by create_tables()';
REVOKE ALL ON tenantcall.installation FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('tenantcall.installation', '');

-- One call belongs to one company, also when two of its events race.
CREATE TABLE tenantcall.call_bindings
(
    provider text COLLATE "C" NOT NULL,
    provider_call_id text COLLATE "C" NOT NULL,
    company_id bigint NOT NULL,
    bound_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    PRIMARY KEY (provider, provider_call_id)
);
COMMENT ON TABLE tenantcall.call_bindings IS 'which company a call of the provider belongs to; written once';
REVOKE ALL ON tenantcall.call_bindings FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('tenantcall.call_bindings', '');

-- Authentic content that could not be parsed, placed or applied: kept raw.
CREATE TABLE tenantcall.quarantine
(
    quarantine_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    provider text NOT NULL,
    kind text NOT NULL,
    event text,
    provider_call_id text COLLATE "C",
    number text COLLATE "C",
    agent text COLLATE "C",
    started_at timestamptz,
    received_at timestamptz NOT NULL,
    verified_for bigint,
    outcome text NOT NULL CHECK (outcome IN ('quarantined', 'conflict', 'unknown')),
    reason text NOT NULL,
    detail text,
    body bytea NOT NULL,
    body_digest bytea NOT NULL,
    deliveries integer NOT NULL DEFAULT 1,
    quarantined_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    replayed_at timestamptz,
    replay_outcome text,
    UNIQUE (provider, kind, body_digest)
);
CREATE INDEX quarantine_number_idx ON tenantcall.quarantine (number) WHERE replayed_at IS NULL;
COMMENT ON TABLE tenantcall.quarantine IS 'authentic content that could not be parsed, placed or applied, kept raw';
COMMENT ON COLUMN tenantcall.quarantine.verified_for IS 'company whose own key verified the body; NULL for a key of the provider account';
REVOKE ALL ON tenantcall.quarantine FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('tenantcall.quarantine', '');
SELECT pg_catalog.pg_extension_config_dump('tenantcall.quarantine_quarantine_id_seq', '');

-- Webhook keys and credentials, encrypted under the key file.
CREATE TABLE tenantcall.secrets
(
    kind text NOT NULL CHECK (kind IN ('webhook', 'credential')),
    provider text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    company_id bigint NOT NULL DEFAULT 0 CHECK (company_id >= 0), -- 0: the account of the provider
    base_url text,
    key_id text NOT NULL,
    ciphertext bytea NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    PRIMARY KEY (kind, provider, name)
);
CREATE INDEX secrets_company_idx ON tenantcall.secrets (kind, provider, company_id);
COMMENT ON TABLE tenantcall.secrets IS 'webhook keys and credentials, encrypted under tenantcall.key_file';
COMMENT ON COLUMN tenantcall.secrets.key_id IS 'key of the key file that encrypted it';
REVOKE ALL ON tenantcall.secrets FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('tenantcall.secrets', '');
CREATE TRIGGER tenantcall_invalidate AFTER INSERT OR UPDATE OR DELETE ON tenantcall.secrets
    FOR EACH ROW EXECUTE FUNCTION tenantcall.invalidate_cache_trigger();
ALTER TABLE tenantcall.secrets ENABLE ALWAYS TRIGGER tenantcall_invalidate;
CREATE TRIGGER tenantcall_invalidate AFTER INSERT OR UPDATE OR DELETE ON tenantcall.installation
    FOR EACH ROW EXECUTE FUNCTION tenantcall.invalidate_cache_trigger();
ALTER TABLE tenantcall.installation ENABLE ALWAYS TRIGGER tenantcall_invalidate;

-- Citus carries out what changes tables of ours on all nodes: one table after the other, and our
-- triggers, which stay within the company, among them.
CREATE FUNCTION tenantcall.prepare_ddl() RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
BEGIN
    IF current_setting('citus.shard_count', true) IS NOT NULL THEN
        PERFORM set_config('citus.multi_shard_modify_mode', 'sequential', true), set_config('citus.enable_unsafe_triggers', 'on', true);
    END IF;
END
$$;
COMMENT ON FUNCTION tenantcall.prepare_ddl() IS 'internal: settings of Citus for changes to tables of tenantcall';
REVOKE ALL ON FUNCTION tenantcall.prepare_ddl() FROM PUBLIC;

CREATE FUNCTION tenantcall.tables_schema() RETURNS name
    LANGUAGE C STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'tc_tables_schema';
COMMENT ON FUNCTION tenantcall.tables_schema() IS 'internal: schema of the tables made by create_tables()';
REVOKE ALL ON FUNCTION tenantcall.tables_schema() FROM PUBLIC;

CREATE FUNCTION tenantcall.cluster_tables() RETURNS TABLE (rel oid, whole oid)
    LANGUAGE C STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'tc_cluster_tables';
COMMENT ON FUNCTION tenantcall.cluster_tables() IS 'internal: tables of the tenants that Citus has distributed, and the parts of them that are on this node';
REVOKE ALL ON FUNCTION tenantcall.cluster_tables() FROM PUBLIC;

CREATE FUNCTION tenantcall.table_here(name text) RETURNS text
    LANGUAGE C STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tc_table_here';
COMMENT ON FUNCTION tenantcall.table_here(text) IS 'internal: a table of the tenants, or the part of it on this node of a Citus cluster that has the rows of the company entered';
REVOKE ALL ON FUNCTION tenantcall.table_here(text) FROM PUBLIC;
