-- 88_report_page.sql: the parts of report()

CREATE FUNCTION tenantcall.report_style() RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT '<style>
:root { color-scheme: light dark; --ink: #1b2430; --soft: #5d6b7c; --line: #dfe4ea; --page: #f5f7f9; --card: #fff;
        --blue: #2f6fde; --red: #d1433f; --amber: #b7791f; --green: #2b8a57; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e9ef; --soft: #93a1b2; --line: #2c3642; --page: #12171d; --card: #1a2129;
        --blue: #6b9bf2; --red: #f0736f; --amber: #e0a84a; --green: #5cbf8c; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 14px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 32px 24px 48px; }
header { display: flex; flex-wrap: wrap; justify-content: space-between; align-items: baseline; gap: 4px 24px; margin-bottom: 20px; }
h1 { font-size: 24px; font-weight: 650; margin: 0; letter-spacing: -0.01em; }
h2 { font-size: 16px; font-weight: 650; margin: 0; }
header p, .note { color: var(--soft); margin: 0; font-size: 13px; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 18px 20px; margin-bottom: 16px; }
.note { margin-bottom: 12px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin-bottom: 16px; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 12px 16px; }
.tile b { display: block; font-size: 26px; font-weight: 600; line-height: 1.2; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: 12px; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); gap: 0 16px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 13px; }
th { text-align: left; color: var(--soft); font-weight: 500; font-size: 12px; white-space: nowrap; }
th, td { padding: 6px 12px 6px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
tbody tr:last-child td { border-bottom: 0; }
th:last-child, td:last-child { padding-right: 0; }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.none, .empty, .more { color: var(--soft); }
.empty, .more { margin: 4px 0 0; }
time { white-space: nowrap; }
code { font: 12px/1.45 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
.badge { display: inline-block; min-width: 64px; text-align: center; border-radius: 4px; padding: 0 8px; font-size: 12px; font-weight: 600; border: 1px solid currentColor; }
.error { color: var(--red); } .warning { color: var(--amber); } .ok { color: var(--green); } .info { color: var(--soft); }
figure { margin: 0; } svg { display: block; width: 100%; height: auto; }
figcaption { color: var(--soft); font-size: 12px; margin-top: 2px; padding-left: 7%; }
.grid { stroke: var(--line); stroke-width: 1; } .tick { fill: var(--soft); font-size: 11px; font-variant-numeric: tabular-nums; }
.s1 { fill: var(--blue); } .s2 { fill: var(--red); }
.key { display: inline-block; width: 10px; height: 10px; border-radius: 2px; margin: 0 6px 0 12px; } .k1 { background: var(--blue); } .k2 { background: var(--red); }
.meter { width: 120px; height: 10px; } .track { fill: var(--line); }
section:first-of-type td:last-child { min-width: 380px; }
@media print { body { background: none; } section, .tile { break-inside: avoid; } }
</style>'
$$;
COMMENT ON FUNCTION tenantcall.report_style() IS 'internal: how report() looks';
REVOKE ALL ON FUNCTION tenantcall.report_style() FROM PUBLIC;

CREATE FUNCTION tenantcall.report_tiles() RETURNS text
    LANGUAGE sql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT format('<div class="tiles">%s</div>', string_agg(format('<div class="tile"><b>%s</b><span>%s</span></div>',
                                                            to_char(t.value, 'FM999,999,999,990'), t.name), '' ORDER BY t.i))
    FROM (SELECT count(*) AS companies, coalesce(sum(c.calls_day), 0) AS calls, coalesce(sum(c.calls_live), 0) AS live,
                 coalesce(sum(c.refused_day), 0) AS refused, coalesce(sum(c.bookings_confirmed), 0) AS booked,
                 coalesce(sum(c.outbox_waiting), 0) AS waiting FROM tenantcall.stat_companies AS c) AS s
    CROSS JOIN LATERAL (VALUES (1, s.companies, 'companies'), (2, s.calls, 'calls in 24 hours'), (3, s.live, 'calls now'),
                               (4, s.refused, 'refused in 24 hours'), (5, s.booked, 'bookings confirmed'), (6, s.waiting, 'bookings that wait'))
        AS t (i, value, name)
$$;
COMMENT ON FUNCTION tenantcall.report_tiles() IS 'internal: part of report()';
REVOKE ALL ON FUNCTION tenantcall.report_tiles() FROM PUBLIC;

CREATE FUNCTION tenantcall.report_health() RETURNS text
    LANGUAGE sql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT tenantcall.report_section('Health', 'What is wrong, since when, and what to do about it.',
        tenantcall.report_table(ARRAY['Severity', 'What', 'Since', 'Remedy'], string_agg(
            format('<tr><td><span class="badge %1$s">%1$s</span></td><td>%2$s</td><td>%3$s</td><td><code>%4$s</code></td></tr>', h.severity,
                   tenantcall.report_text(h.what), tenantcall.report_ago(h.since),
                   replace(replace(tenantcall.report_text(h.remedy), ' -- ', '<br>-- '), '; else SELECT', '; else<br>SELECT')), '' ORDER BY h.i), 'Nothing was looked at.'))
    FROM (SELECT f.*, row_number() OVER (ORDER BY array_position(ARRAY['error', 'warning', 'ok', 'info'], f.severity)) AS i
          FROM tenantcall.health_findings() AS f) AS h
    WHERE h.i <= 2 * tenantcall.report_top()
$$;
COMMENT ON FUNCTION tenantcall.report_health() IS 'internal: part of report()';
REVOKE ALL ON FUNCTION tenantcall.report_health() FROM PUBLIC;

CREATE FUNCTION tenantcall.report_calls() RETURNS text
    LANGUAGE sql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT tenantcall.report_section('Calls and refusals', format('By hour of the last 24 hours, all companies; times are %s.', tenantcall.report_text(current_setting('timezone'))),
        tenantcall.report_plot(1000, 'calls and refusals by hour', ARRAY['calls', 'refusals'], array_agg(to_char(g.hour, 'HH24') ORDER BY g.hour),
                               array_agg(g.calls ORDER BY g.hour), array_agg(g.refused ORDER BY g.hour)))
    FROM (SELECT s.hour, coalesce(sum(h.calls), 0)::bigint AS calls, coalesce(sum(h.refused), 0)::bigint AS refused
          FROM generate_series(date_trunc('hour', now()) - interval '23 hours', date_trunc('hour', now()), interval '1 hour') AS s (hour)
          LEFT JOIN tenantcall.company_hours(date_trunc('hour', now()) - interval '23 hours') AS h USING (hour)
          GROUP BY s.hour) AS g
$$;
COMMENT ON FUNCTION tenantcall.report_calls() IS 'internal: part of report()';
REVOKE ALL ON FUNCTION tenantcall.report_calls() FROM PUBLIC;

-- A histogram of two kinds of waiting.
CREATE FUNCTION tenantcall.report_latency(title text, who text, labels text[], buckets bigint[], since timestamptz) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT tenantcall.report_section(title, format('%s, by how long each took at most; since %s. %s', initcap(left(who, 1)) || substr(who, 2), tenantcall.report_ago(since),
               coalesce(format('Half within %s, 95 %% within %s.', tenantcall.report_percentile(buckets, labels, 0.5),
                               tenantcall.report_percentile(buckets, labels, 0.95)), 'None yet.')),
           tenantcall.report_plot(480, title, ARRAY[who], labels, buckets))
$$;
COMMENT ON FUNCTION tenantcall.report_latency(text, text, text[], bigint[], timestamptz) IS 'internal: part of report()';
REVOKE ALL ON FUNCTION tenantcall.report_latency(text, text, text[], bigint[], timestamptz) FROM PUBLIC;

CREATE FUNCTION tenantcall.report_latencies() RETURNS text
    LANGUAGE sql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT '<div class="pair">' || tenantcall.report_latency('Slot latency', 'callers who asked for free slots',
               ARRAY['⅛ ms', '¼', '½', '1 ms', '2', '4', '8', '16', '32', '64', '128', '256', '½ s', '1 s', '2 s', '4 s', '8 s', '> 8'],
               ARRAY(SELECT coalesce(sum(c.latency_buckets[i]), 0)::bigint FROM generate_series(1, 18) AS i
                     LEFT JOIN tenantcall.stat_cache AS c ON true GROUP BY i ORDER BY i), tenantcall.stats_reset('cache'))
        || tenantcall.report_latency('Calendar latency', 'requests to calendars', ARRAY['10 ms', '30 ms', '100 ms', '300 ms', '1 s', '3 s', '10 s', '> 10 s'],
               ARRAY(SELECT coalesce(sum(h.latency_buckets[i]), 0)::bigint FROM generate_series(1, 8) AS i
                     LEFT JOIN tenantcall.stat_http AS h ON true GROUP BY i ORDER BY i), tenantcall.stats_reset('http')) || '</div>'
$$;
COMMENT ON FUNCTION tenantcall.report_latencies() IS 'internal: part of report()';
REVOKE ALL ON FUNCTION tenantcall.report_latencies() FROM PUBLIC;

CREATE FUNCTION tenantcall.report_refusals() RETURNS text
    LANGUAGE sql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT tenantcall.report_section('What became of deliveries', format('Bodies of the voice platform and the calendar, by outcome; since %s.',
                                                                  tenantcall.report_ago(tenantcall.stats_reset('calls'))),
        tenantcall.report_table(ARRAY['Kind', 'Outcome', '#Count', '#Share', ''], string_agg(
            format('<tr><td>%s</td><td>%s</td><td class="n">%s</td><td class="n">%s %%</td><td><svg class="meter" viewBox="0 0 120 10">'
                   '<rect class="track" width="120" height="10" rx="2"/><rect class="s%s" width="%s" height="10" rx="2"/></svg></td></tr>',
                   tenantcall.report_text(d.kind), tenantcall.report_text(d.outcome), tenantcall.report_number(d.n), to_char(100 * d.share, 'FM990.0'),
                   CASE WHEN d.outcome IN ('limited', 'suspended', 'unknown', 'rejected', 'conflict', 'quarantined') THEN 2 ELSE 1 END,
                   round(greatest(120 * d.share, 1), 1)), '' ORDER BY d.kind, d.n DESC), 'Nothing was delivered yet.'))
    FROM (SELECT s.kind, s.outcome, sum(s.count) AS n, sum(s.count) / sum(sum(s.count)) OVER (PARTITION BY s.kind) AS share
          FROM tenantcall.stat_calls AS s WHERE s.area = 'delivery' GROUP BY s.kind, s.outcome) AS d
$$;
COMMENT ON FUNCTION tenantcall.report_refusals() IS 'internal: part of report()';
REVOKE ALL ON FUNCTION tenantcall.report_refusals() FROM PUBLIC;

-- Buckets of whole companies: those that refused last, then the emptiest.
CREATE FUNCTION tenantcall.report_limits() RETURNS text
    LANGUAGE sql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT tenantcall.report_section('Limits per company', format('How much of each bucket is left: those that refused last, then the emptiest; at most %s.', tenantcall.report_top()),
        tenantcall.report_table(ARRAY['Company', 'Policy', 'Left', '#Tokens', '#Admitted', '#Refused', 'Last refused'], string_agg(
            format('<tr><td>%s</td><td>%s</td><td><svg class="meter" viewBox="0 0 120 10"><title>%s %% left</title><rect class="track" width="120" height="10" rx="2"/>'
                   '<rect class="s%s" width="%s" height="10" rx="2"/></svg></td><td class="n">%s of %s</td><td class="n">%s</td><td class="n">%s</td><td>%s</td></tr>',
                   tenantcall.report_text(concat_ws(' ', b.company_id, b.name)), tenantcall.report_text(concat_ws(' ', b.policy, CASE WHEN b.shadow THEN '(shadow)' END)),
                   round(100 * b.part), CASE WHEN b.part < 0.1 THEN 2 ELSE 1 END, round(greatest(120 * b.part, 1), 1), to_char(b.remaining, 'FM999,999,999,990'),
                   to_char(b.quota, 'FM999,999,999,990'), tenantcall.report_number(b.allowed), tenantcall.report_number(b.denied + b.would_deny),
                   tenantcall.report_ago(b.last_denied_at)), '' ORDER BY b.i), 'No bucket is in use.'))
    FROM (SELECT r.*, c.name, r.remaining::numeric / nullif(r.quota, 0) AS part,
                 row_number() OVER (ORDER BY r.last_denied_at DESC NULLS LAST, r.remaining::numeric / nullif(r.quota, 0)) AS i
          FROM tenantcall.stat_rate_limits AS r LEFT JOIN tenantcall.company_stats() AS c USING (company_id)
          WHERE r.level = 'company' AND r.quota IS NOT NULL AND (NOT r.shadow OR r.would_deny > 0)) AS b
    WHERE b.i <= tenantcall.report_top()
$$;
COMMENT ON FUNCTION tenantcall.report_limits() IS 'internal: part of report()';
REVOKE ALL ON FUNCTION tenantcall.report_limits() FROM PUBLIC;

CREATE FUNCTION tenantcall.report_companies() RETURNS text
    LANGUAGE sql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT tenantcall.report_section('Companies', 'Calls and refusals of the last 24 hours; those with something amiss first, then by calls.',
        tenantcall.report_table(ARRAY['Company', '#Calls', '#Now', '#Refused', '#Booked', '#Waiting', '#Given up', '#Cache hits', 'Last delivery', 'Amiss'],
            string_agg(format('<tr><td>%s</td><td class="n">%s</td><td class="n">%s</td><td class="n">%s</td><td class="n">%s</td><td class="n">%s</td>'
                              '<td class="n">%s</td><td class="n">%s</td><td>%s</td><td class="%s">%s</td></tr>',
                              tenantcall.report_text(concat_ws(' ', c.company_id, c.name)), tenantcall.report_number(c.calls_day), tenantcall.report_number(c.calls_live),
                              tenantcall.report_number(c.refused_day), tenantcall.report_number(c.bookings_confirmed), tenantcall.report_number(c.outbox_waiting),
                              tenantcall.report_number(c.outbox_dead),
                              coalesce(round(100.0 * c.cache_hits / nullif(c.cache_hits + c.cache_misses, 0)) || ' %', '<span class="none">&ndash;</span>'),
                              tenantcall.report_ago(c.last_delivery_at), CASE WHEN c.why IS NOT NULL THEN 'warning' END,
                              coalesce(nullif(tenantcall.report_text(c.why), ''), '<span class="none">&ndash;</span>')), '' ORDER BY c.i)
                FILTER (WHERE c.i <= tenantcall.report_top()), 'There are no companies.')
        || CASE WHEN count(*) > tenantcall.report_top() THEN format('<p class="more">and %s more: see view stat_companies</p>', count(*) - tenantcall.report_top()) ELSE '' END)
    FROM (SELECT s.*, row_number() OVER (ORDER BY s.why IS NULL, s.calls_day DESC, s.company_id) AS i FROM tenantcall.stat_companies AS s) AS c
$$;
COMMENT ON FUNCTION tenantcall.report_companies() IS 'internal: part of report()';
REVOKE ALL ON FUNCTION tenantcall.report_companies() FROM PUBLIC;

CREATE FUNCTION tenantcall.report_calendars() RETURNS text
    LANGUAGE sql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT tenantcall.report_section('Calendar accounts', format('As the HTTP worker knows them; since %s.', tenantcall.report_ago(tenantcall.stats_reset('http'))),
        tenantcall.report_table(ARRAY['Account', 'Breaker', '#Requests', '#429', '#No answer', '#Not sent', '#Mean', '#Longest', '#Quota left', 'Last error'],
            string_agg(format('<tr><td>%s</td><td class="%s">%s</td><td class="n">%s</td><td class="n">%s</td><td class="n">%s</td><td class="n">%s</td>'
                              '<td class="n">%s</td><td class="n">%s</td><td class="n">%s</td><td>%s</td></tr>', tenantcall.report_text(h.credential),
                              CASE h.breaker WHEN 'closed' THEN 'ok' ELSE 'error' END, replace(h.breaker, '_', ' '), tenantcall.report_number(h.requests),
                              tenantcall.report_number(h.rate_limited), tenantcall.report_number(h.timeouts + h.errors),
                              tenantcall.report_number(h.refused_quota + h.refused_breaker + h.refused_queue + h.refused_other),
                              coalesce(to_char(1000 * extract(epoch FROM h.latency_mean), 'FM999,990') || ' ms', '&ndash;'),
                              coalesce(to_char(1000 * extract(epoch FROM h.latency_max), 'FM999,990') || ' ms', '&ndash;'),
                              coalesce(h.quota_remaining || ' of ' || h.quota_limit, '<span class="none">&ndash;</span>'),
                              CASE WHEN h.last_error IS NULL THEN '<span class="none">&ndash;</span>'
                                   ELSE tenantcall.report_text(h.last_error) || ', ' || tenantcall.report_ago(h.last_error_at) END),
                       '' ORDER BY h.i) FILTER (WHERE h.i <= tenantcall.report_top()), 'No calendar was asked yet.'))
    FROM (SELECT s.*, row_number() OVER (ORDER BY s.breaker = 'closed', s.requests DESC, s.credential) AS i FROM tenantcall.stat_http AS s) AS h
$$;
COMMENT ON FUNCTION tenantcall.report_calendars() IS 'internal: part of report()';
REVOKE ALL ON FUNCTION tenantcall.report_calendars() FROM PUBLIC;

CREATE FUNCTION tenantcall.report_page() RETURNS text
    LANGUAGE sql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT format('<!DOCTYPE html>%1$s<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
                  '<meta http-equiv="Content-Security-Policy" content="default-src ''none''; style-src ''unsafe-inline''">'
                  '<title>tenantcall: %2$s</title>%1$s%3$s</head><body><main><header><h1>%2$s</h1><p>%4$s &middot; tenantcall %5$s &middot; PostgreSQL %6$s</p></header>',
                  E'\n', tenantcall.report_text(current_database()), tenantcall.report_style(),
                  to_char(now(), 'YYYY-MM-DD HH24:MI') || ' ' || tenantcall.report_text(current_setting('timezone')), tenantcall.version(),
                  tenantcall.report_text(split_part(current_setting('server_version'), ' ', 1)))
        || tenantcall.report_tiles() || tenantcall.report_health() || tenantcall.report_calls() || tenantcall.report_latencies()
        || tenantcall.report_limits() || tenantcall.report_companies() || tenantcall.report_refusals() || tenantcall.report_calendars()
        || E'</main></body></html>\n'
$$;
COMMENT ON FUNCTION tenantcall.report_page() IS 'internal: the page of report()';
REVOKE ALL ON FUNCTION tenantcall.report_page() FROM PUBLIC;
