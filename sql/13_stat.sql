-- 13_stat.sql: what is counted in shared memory

CREATE FUNCTION tenantcall.stat_counts(OUT company_id bigint, OUT area text, OUT kind text, OUT outcome text, OUT count bigint)
    RETURNS SETOF record
    LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED ROWS 1000 AS 'MODULE_PATHNAME', 'tc_stat_counts';
COMMENT ON FUNCTION tenantcall.stat_counts() IS 'counts that are not 0, for views stat_calls and stat_context';
REVOKE ALL ON FUNCTION tenantcall.stat_counts() FROM PUBLIC;

CREATE FUNCTION tenantcall.stat_last(OUT company_id bigint, OUT last_delivery_at timestamptz) RETURNS SETOF record
    LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED ROWS 1000 AS 'MODULE_PATHNAME', 'tc_stat_last';
COMMENT ON FUNCTION tenantcall.stat_last() IS 'when something was last delivered for each company, for view stat_companies';
REVOKE ALL ON FUNCTION tenantcall.stat_last() FROM PUBLIC;

CREATE FUNCTION tenantcall.reset_stats() RETURNS void
    LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'tc_reset_stats';
COMMENT ON FUNCTION tenantcall.reset_stats() IS 'sets the counts of views stat_calls and stat_context to 0, in this database';
REVOKE ALL ON FUNCTION tenantcall.reset_stats() FROM PUBLIC;

CREATE FUNCTION tenantcall.stats_reset(counts text) RETURNS timestamptz
    LANGUAGE C STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'tc_stats_reset';
COMMENT ON FUNCTION tenantcall.stats_reset(text) IS 'when counts (calls, rate, http, cache) began: at a reset, or with the server''s shared memory';
REVOKE ALL ON FUNCTION tenantcall.stats_reset(text) FROM PUBLIC;

CREATE FUNCTION tenantcall.token_keys(OUT kid text, OUT was_good boolean, OUT refused bigint, OUT first_at timestamptz, OUT last_at timestamptz)
    RETURNS SETOF record
    LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED ROWS 10 AS 'MODULE_PATHNAME', 'tc_token_keys';
COMMENT ON FUNCTION tenantcall.token_keys() IS 'internal: keys that signed tokens, and those refused because the key file does not have the key';
REVOKE ALL ON FUNCTION tenantcall.token_keys() FROM PUBLIC;

CREATE FUNCTION tenantcall.key_in_file(kid text) RETURNS boolean
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tc_key_in_file';
COMMENT ON FUNCTION tenantcall.key_in_file(text) IS 'internal: does the key file have a key of that name? Raises where the file cannot be used';
REVOKE ALL ON FUNCTION tenantcall.key_in_file(text) FROM PUBLIC;

CREATE FUNCTION tenantcall.worker_state() RETURNS text
    LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'tc_worker_state';
COMMENT ON FUNCTION tenantcall.worker_state() IS 'internal: the HTTP worker of this database: running, missing, or unwanted by tenantcall.worker_databases';
REVOKE ALL ON FUNCTION tenantcall.worker_state() FROM PUBLIC;

CREATE FUNCTION tenantcall.stat_notes(OUT note text, OUT since timestamptz, OUT last_at timestamptz, OUT reason text) RETURNS SETOF record
    LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED ROWS 3 AS 'MODULE_PATHNAME', 'tc_stat_notes';
COMMENT ON FUNCTION tenantcall.stat_notes() IS 'internal: what happened to the server: table_full, save_failed, load_refused';
REVOKE ALL ON FUNCTION tenantcall.stat_notes() FROM PUBLIC;
