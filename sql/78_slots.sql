-- 78_slots.sql: free slots of calendars

CREATE TYPE tenantcall.slot AS
(
    starts_at timestamptz,
    ends_at timestamptz,
    local_start timestamp,
    time_zone text
);
COMMENT ON TYPE tenantcall.slot IS 'a free slot: from when to when, and what clocks show at its start in a time zone';

CREATE FUNCTION tenantcall.available_slots(service_id bigint, from_time timestamptz, to_time timestamptz,
                                           time_zone text DEFAULT NULL, max_wait interval DEFAULT '3 s',
                                           max_age interval DEFAULT NULL)
    RETURNS SETOF tenantcall.slot
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE ROWS 50 AS 'MODULE_PATHNAME', 'tc_available_slots';
COMMENT ON FUNCTION tenantcall.available_slots(bigint, timestamptz, timestamptz, text, interval, interval)
    IS 'free slots of a service in the entered branch, in order; no rows: the calendar says none';
REVOKE ALL ON FUNCTION tenantcall.available_slots(bigint, timestamptz, timestamptz, text, interval, interval) FROM PUBLIC;

CREATE FUNCTION tenantcall.invalidate_slots(event_type_id bigint, from_time timestamptz, to_time timestamptz)
    RETURNS SETOF text
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_invalidate_slots';
COMMENT ON FUNCTION tenantcall.invalidate_slots(bigint, timestamptz, timestamptz)
    IS 'forgets cached slots of an event type; returns the keys under which an application caches them, of all tenants (an app role: its own)';
REVOKE ALL ON FUNCTION tenantcall.invalidate_slots(bigint, timestamptz, timestamptz) FROM PUBLIC;

CREATE FUNCTION tenantcall.slot_stats(OUT company_id bigint, OUT credential text, OUT hits bigint, OUT stale bigint,
        OUT misses bigint, OUT waits bigint, OUT fetched bigint, OUT discarded bigint, OUT failed bigint,
        OUT refused bigint, OUT timed_out bigint, OUT entries bigint, OUT latency_buckets bigint[], OUT latency_sum interval,
        OUT last_failed_at timestamptz) RETURNS SETOF record
    LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'tc_slot_stats';
COMMENT ON FUNCTION tenantcall.slot_stats() IS 'use of the slot cache: of all companies for administrators and pg_monitor, of the entered company for others';
REVOKE ALL ON FUNCTION tenantcall.slot_stats() FROM PUBLIC;

CREATE VIEW tenantcall.stat_cache AS
    SELECT company_id, credential, hits, stale, misses, waits, fetched, discarded, failed, refused, timed_out, entries, latency_buckets,
           latency_sum, last_failed_at, (SELECT tenantcall.stats_reset('cache')) AS stats_reset
    FROM tenantcall.slot_stats();
COMMENT ON VIEW tenantcall.stat_cache IS 'use of the slot cache, by company and credential';
COMMENT ON COLUMN tenantcall.stat_cache.latency_buckets IS 'callers who waited up to 0.125 ms, 0.25 ms, and so on, doubling, up to 8.192 s, and longer';
REVOKE ALL ON tenantcall.stat_cache FROM PUBLIC;

CREATE FUNCTION tenantcall.reset_slot_stats() RETURNS void
    LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'tc_reset_slot_stats';
COMMENT ON FUNCTION tenantcall.reset_slot_stats() IS 'sets the counts of view stat_cache to 0; cached slots stay';
REVOKE ALL ON FUNCTION tenantcall.reset_slot_stats() FROM PUBLIC;
