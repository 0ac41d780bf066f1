-- 00_schema.sql: the schema, and what the extension says of itself

CREATE SCHEMA tenantcall;
COMMENT ON SCHEMA tenantcall IS 'functions, types, views and configuration of the extension tenantcall';
GRANT USAGE ON SCHEMA tenantcall TO PUBLIC;

CREATE FUNCTION tenantcall.version() RETURNS text
    LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tc_version';
COMMENT ON FUNCTION tenantcall.version() IS 'version of the loaded library';

CREATE FUNCTION tenantcall.invalidate_cache_trigger() RETURNS trigger
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_invalidate_cache_trigger';
COMMENT ON FUNCTION tenantcall.invalidate_cache_trigger() IS 'internal: tells every backend that rows of a cached table changed';
REVOKE ALL ON FUNCTION tenantcall.invalidate_cache_trigger() FROM PUBLIC;
