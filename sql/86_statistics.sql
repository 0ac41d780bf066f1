-- 86_statistics.sql: views for dashboards

CREATE FUNCTION tenantcall.company_stats()
    RETURNS TABLE (company_id bigint, name text, status text, status_reason text, status_at timestamptz, credential text,
                   calls bigint, live bigint, states jsonb, last_call_at timestamptz, refused bigint, refusals jsonb,
                   main_refusal text, last_refused_at timestamptz, limited_since timestamptz, unmapped text)
    LANGUAGE C STABLE STRICT PARALLEL UNSAFE ROWS 100 AS 'MODULE_PATHNAME', 'tc_company_stats';
COMMENT ON FUNCTION tenantcall.company_stats() IS 'what each company''s tables say of its last 24 hours, for view stat_companies';
REVOKE ALL ON FUNCTION tenantcall.company_stats() FROM PUBLIC;

CREATE FUNCTION tenantcall.company_hours(since timestamptz)
    RETURNS TABLE (company_id bigint, hour timestamptz, calls bigint, refused bigint)
    LANGUAGE C STABLE STRICT PARALLEL UNSAFE ROWS 100 AS 'MODULE_PATHNAME', 'tc_company_hours';
COMMENT ON FUNCTION tenantcall.company_hours(timestamptz) IS 'internal: calls and refusals of each company by hour, for report()';
REVOKE ALL ON FUNCTION tenantcall.company_hours(timestamptz) FROM PUBLIC;

CREATE VIEW tenantcall.stat_calls AS
    SELECT company_id, area, kind, outcome, count, (SELECT tenantcall.stats_reset('calls')) AS stats_reset
    FROM tenantcall.stat_counts()
    WHERE area <> 'context';
COMMENT ON VIEW tenantcall.stat_calls IS 'what was delivered and booked, counted by company; of all companies for administrators and pg_monitor, of the entered company for others';
COMMENT ON COLUMN tenantcall.stat_calls.company_id IS 'NULL: of no company, or of companies beyond tenantcall.stat_companies';
COMMENT ON COLUMN tenantcall.stat_calls.area IS 'delivery: bodies by outcome; event: the platform''s events by name; booking: appointments by the status they came to';
COMMENT ON COLUMN tenantcall.stat_calls.kind IS 'of a delivery: inbound, event, function_call or calendar';
COMMENT ON COLUMN tenantcall.stat_calls.count IS 'also of what was rolled back';
COMMENT ON COLUMN tenantcall.stat_calls.stats_reset IS 'since when: reset_stats(), or the server''s start';
REVOKE ALL ON tenantcall.stat_calls FROM PUBLIC;

CREATE VIEW tenantcall.stat_context AS
    SELECT company_id, kind, outcome, count, (SELECT tenantcall.stats_reset('calls')) AS stats_reset
    FROM tenantcall.stat_counts()
    WHERE area = 'context';
COMMENT ON VIEW tenantcall.stat_context IS 'who entered, and what was refused, counted; of all companies for administrators and pg_monitor, of the entered company for others';
COMMENT ON COLUMN tenantcall.stat_context.company_id IS 'as in stat_calls';
COMMENT ON COLUMN tenantcall.stat_context.kind IS 'enter: by what; refused: why; token: tokens refused, why; missing: statements without a tenant; directory: look-ups of numbers';
REVOKE ALL ON tenantcall.stat_context FROM PUBLIC;

CREATE VIEW tenantcall.stat_companies AS
    SELECT c.company_id, c.name, c.status, c.status_at AS status_since, c.credential, c.calls AS calls_day, c.live AS calls_live,
           c.states AS calls_by_state, c.last_call_at, c.refused AS refused_day, c.refusals AS refusals_day, c.main_refusal,
           c.last_refused_at, coalesce(l.allowed, 0) AS rate_allowed, coalesce(l.denied, 0) AS rate_denied, l.last_denied_at,
           coalesce(k.in_use, 0) AS leases_in_use, k.max_calls, coalesce(n.deliveries, 0) AS deliveries, d.last_delivery_at,
           coalesce(n.confirmed, 0) AS bookings_confirmed, coalesce(n.refused, 0) AS bookings_refused,
           coalesce(o.waiting, 0) AS outbox_waiting, coalesce(o.dead, 0) AS outbox_dead, o.oldest AS outbox_oldest,
           coalesce(s.hits, 0) AS cache_hits, coalesce(s.misses, 0) AS cache_misses, coalesce(s.failed, 0) AS cache_failed,
           nullif(concat_ws('; ',
               CASE WHEN c.status = 'suspended' THEN 'suspended: ' || coalesce(c.status_reason, 'no reason given') END,
               CASE WHEN l.last_denied_at > now() - interval '5 minutes' THEN format('limited by %s', l.policy) END,
               CASE WHEN k.in_use >= k.max_calls THEN format('all of its %s calls at once are in use', k.max_calls) END,
               CASE WHEN c.last_refused_at > now() - interval '5 minutes' THEN 'refused: ' || c.main_refusal END,
               CASE WHEN o.dead > 0 THEN format('%s bookings given up', o.dead) END,
               CASE WHEN o.oldest > interval '5 minutes' THEN format('%s bookings wait', o.waiting) END,
               CASE WHEN s.now_failing THEN 'the calendar did not answer lately' END), '') AS why,
           (SELECT tenantcall.stats_reset('calls')) AS stats_reset
    FROM tenantcall.company_stats() AS c
    LEFT JOIN (SELECT b.company_id, sum(b.allowed) FILTER (WHERE b.level = 'company')::bigint AS allowed, sum(b.denied)::bigint AS denied,
                      max(b.last_denied_at) AS last_denied_at,
                      (array_agg(b.policy ORDER BY b.last_denied_at DESC NULLS LAST))[1] AS policy
               FROM tenantcall.stat_rate_limits AS b WHERE b.company_id IS NOT NULL GROUP BY 1) AS l USING (company_id)
    LEFT JOIN (SELECT b.company_id, max(b.in_use) AS in_use, max(b.max_calls) AS max_calls
               FROM tenantcall.call_lease_stats() AS b WHERE b.branch_id IS NULL GROUP BY 1) AS k USING (company_id)
    LEFT JOIN (SELECT b.company_id, sum(b.count) FILTER (WHERE b.area = 'delivery')::bigint AS deliveries,
                      sum(b.count) FILTER (WHERE b.area = 'booking' AND b.outcome = 'confirmed')::bigint AS confirmed,
                      sum(b.count) FILTER (WHERE b.area = 'booking' AND b.outcome = 'refused')::bigint AS refused
               FROM tenantcall.stat_counts() AS b GROUP BY 1) AS n USING (company_id)
    LEFT JOIN tenantcall.stat_last() AS d USING (company_id)
    LEFT JOIN (SELECT b.company_id, sum(b.queued + b.sending + b.unknown + b.waiting)::bigint AS waiting,
                      sum(b.dead)::bigint AS dead, max(b.oldest_age) AS oldest
               FROM tenantcall.outbox_counts() AS b GROUP BY 1) AS o USING (company_id)
    LEFT JOIN (SELECT b.company_id, sum(b.hits + b.stale)::bigint AS hits, sum(b.misses + b.waits)::bigint AS misses,
                      sum(b.failed + b.refused + b.timed_out)::bigint AS failed,
                      max(b.last_failed_at) > now() - interval '5 minutes' AS now_failing
               FROM tenantcall.slot_stats() AS b GROUP BY 1) AS s USING (company_id);
COMMENT ON VIEW tenantcall.stat_companies IS 'one line for each company: calls, refusals, limits, bookings, calendar, and why something is amiss; of all companies for administrators and pg_monitor, of the entered company for others';
COMMENT ON COLUMN tenantcall.stat_companies.calls_day IS 'calls known for less than 24 hours';
COMMENT ON COLUMN tenantcall.stat_companies.calls_live IS 'of them, those that have not ended';
COMMENT ON COLUMN tenantcall.stat_companies.calls_by_state IS 'of them, by state';
COMMENT ON COLUMN tenantcall.stat_companies.refused_day IS 'refusals of the last 24 hours, in full quarters of an hour';
COMMENT ON COLUMN tenantcall.stat_companies.refusals_day IS 'of them, by outcome';
COMMENT ON COLUMN tenantcall.stat_companies.main_refusal IS 'the most frequent: kind, outcome and reason';
COMMENT ON COLUMN tenantcall.stat_companies.rate_allowed IS 'admitted by rate limits of the whole company, summed up over its policies';
COMMENT ON COLUMN tenantcall.stat_companies.rate_denied IS 'refused by rate limits since stats_reset(''rate''), or since a bucket was made';
COMMENT ON COLUMN tenantcall.stat_companies.deliveries IS 'since stats_reset, as bookings_confirmed and bookings_refused';
COMMENT ON COLUMN tenantcall.stat_companies.cache_hits IS 'since stats_reset(''cache''), as cache_misses and cache_failed';
COMMENT ON COLUMN tenantcall.stat_companies.why IS 'what is amiss now; NULL: nothing';
REVOKE ALL ON tenantcall.stat_companies FROM PUBLIC;
