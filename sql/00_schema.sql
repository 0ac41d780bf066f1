-- 00_schema.sql: the schema, and what the extension says of itself

CREATE SCHEMA tenantcall;
COMMENT ON SCHEMA tenantcall IS 'functions, types, views and configuration of the extension tenantcall';
GRANT USAGE ON SCHEMA tenantcall TO PUBLIC;

CREATE FUNCTION tenantcall.version() RETURNS text
    LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tc_version';
COMMENT ON FUNCTION tenantcall.version() IS 'version of the loaded library';
