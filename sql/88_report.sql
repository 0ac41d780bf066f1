-- 88_report.sql: report(), one page of HTML that needs nothing else
--
-- Everything that comes from data goes through report_text().  The page forbids itself scripts and
-- whatever is not in it, by its own Content-Security-Policy.  It is as long as its tables may be
-- (report_top()), however many companies there are.
--
-- The functions run as the extension's owner, within report().

CREATE FUNCTION tenantcall.report() RETURNS text
    LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_report';
COMMENT ON FUNCTION tenantcall.report() IS 'health, calls, refusals, slot latency and limits as one HTML page without external resources';
REVOKE ALL ON FUNCTION tenantcall.report() FROM PUBLIC;

CREATE FUNCTION tenantcall.report_top() RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp
    AS $$ SELECT 20 $$;
COMMENT ON FUNCTION tenantcall.report_top() IS 'internal: rows of a table of report()';
REVOKE ALL ON FUNCTION tenantcall.report_top() FROM PUBLIC;

-- Text as it may stand in a page, also within an attribute.
CREATE FUNCTION tenantcall.report_text(value text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT coalesce(replace(replace(replace(replace(replace(value, '&', '&amp;'), '<', '&lt;'), '>', '&gt;'), '"', '&quot;'), '''', '&#39;'), '')
$$;
COMMENT ON FUNCTION tenantcall.report_text(text) IS 'internal: escapes text for report()';
REVOKE ALL ON FUNCTION tenantcall.report_text(text) FROM PUBLIC;

CREATE FUNCTION tenantcall.report_number(value numeric) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT CASE WHEN value IS NULL THEN '<span class="none">&ndash;</span>' WHEN value = 0 THEN '<span class="none">0</span>'
                ELSE to_char(value, 'FM999,999,999,999,990') END
$$;
COMMENT ON FUNCTION tenantcall.report_number(numeric) IS 'internal: a number in a table of report()';
REVOKE ALL ON FUNCTION tenantcall.report_number(numeric) FROM PUBLIC;

-- How long ago, in the largest unit; the exact time in a tooltip.
CREATE FUNCTION tenantcall.report_ago(at timestamptz) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT CASE WHEN at IS NULL THEN '<span class="none">&ndash;</span>' ELSE format('<time title="%s">%s</time>', to_char(at, 'YYYY-MM-DD HH24:MI:SS OF'), (
        SELECT CASE WHEN s < 60 THEN 'just now' WHEN s < 3600 THEN floor(s / 60) || ' min ago' WHEN s < 172800 THEN floor(s / 3600) || ' h ago'
                    ELSE floor(s / 86400) || ' d ago' END
        FROM extract(epoch FROM now() - at) AS s)) END
$$;
COMMENT ON FUNCTION tenantcall.report_ago(timestamptz) IS 'internal: a time in a table of report()';
REVOKE ALL ON FUNCTION tenantcall.report_ago(timestamptz) FROM PUBLIC;

-- A table: heads that begin with # are of numbers.
CREATE FUNCTION tenantcall.report_table(heads text[], body text, empty text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT CASE WHEN body IS NULL THEN format('<p class="empty">%s</p>', empty)
                ELSE format('<div class="scroll"><table><thead><tr>%s</tr></thead><tbody>%s</tbody></table></div>', (
                    SELECT string_agg(format('<th%s>%s</th>', CASE WHEN h LIKE '#%' THEN ' class="n"' END, ltrim(h, '#')), '' ORDER BY i)
                    FROM unnest(heads) WITH ORDINALITY AS u (h, i)), body) END
$$;
COMMENT ON FUNCTION tenantcall.report_table(text[], text, text) IS 'internal: a table of report()';
REVOKE ALL ON FUNCTION tenantcall.report_table(text[], text, text) FROM PUBLIC;

CREATE FUNCTION tenantcall.report_section(title text, note text, body text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT format('<section><h2>%s</h2><p class="note">%s</p>%s</section>', title, note, body)
$$;
COMMENT ON FUNCTION tenantcall.report_section(text, text, text) IS 'internal: a part of report()';
REVOKE ALL ON FUNCTION tenantcall.report_section(text, text, text) FROM PUBLIC;

-- The end of an axis: round, and a quarter of it is whole.
CREATE FUNCTION tenantcall.report_scale(top numeric) RETURNS numeric
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT coalesce(min(t), 4) FROM unnest(ARRAY[1, 2, 4, 6, 8]) AS m, generate_series(0, 18) AS e
    CROSS JOIN LATERAL (SELECT round(m * power(10::numeric, e))) AS r (t)
    WHERE t >= top AND t % 4 = 0
$$;
COMMENT ON FUNCTION tenantcall.report_scale(numeric) IS 'internal: the end of an axis in a plot of report()';
REVOKE ALL ON FUNCTION tenantcall.report_scale(numeric) FROM PUBLIC;

-- Columns side by side: one series, or two.  The plot is so many points wide, of which the first 52
-- are the axis; labels stand below every other column if there are many.
CREATE FUNCTION tenantcall.report_plot(wide integer, title text, names text[], labels text[], first bigint[],
                                       second bigint[] DEFAULT NULL)
    RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    WITH size AS (
        SELECT tenantcall.report_scale((SELECT max(v) FROM unnest(first || coalesce(second, '{}')) AS v)) AS top,
               (wide - 60.0) / cardinality(first) AS step, CASE WHEN second IS NULL THEN 1 ELSE 2 END AS series
    ), grid AS (
        SELECT string_agg(format('<line class="grid" x1="52" x2="%4$s" y1="%1$s" y2="%1$s"/><text class="tick" x="46" y="%2$s" text-anchor="end">%3$s</text>',
                                 180 - q * 40, 184 - q * 40, to_char(top * q / 4, 'FM999,999,999,990'), wide - 8), '') AS svg
        FROM size, generate_series(0, 4) AS q
    ), bars AS (
        SELECT string_agg(format('<rect class="s%s" x="%s" y="%s" width="%s" height="%s" rx="1.5"><title>%s: %s %s</title></rect>', k,
                                 round(52 + (i - 1) * step + step * 0.14 + (k - 1) * step * 0.72 / series, 1), round(180 - h, 1),
                                 round(step * 0.72 / series, 1), round(h, 1), tenantcall.report_text(labels[i]), v, names[k]), '' ORDER BY i, k) AS svg
        FROM size CROSS JOIN generate_series(1, cardinality(first)) AS i CROSS JOIN generate_series(1, series) AS k
        CROSS JOIN LATERAL (SELECT CASE k WHEN 1 THEN first[i] ELSE second[i] END) AS c (v)
        CROSS JOIN LATERAL (SELECT greatest(160.0 * v / top, 1.5)) AS t (h)
        WHERE v > 0
    ), below AS (
        SELECT string_agg(format('<text class="tick" x="%s" y="200" text-anchor="middle">%s</text>', round(52 + (i - 0.5) * step, 1),
                                 tenantcall.report_text(labels[i])), '' ORDER BY i) AS svg
        FROM size, generate_series(1, cardinality(first), CASE WHEN cardinality(first) > 12 THEN 2 ELSE 1 END) AS i
    )
    SELECT format('<figure><svg viewBox="0 0 %s 206" role="img" aria-label="%s">%s%s%s</svg><figcaption>%s</figcaption></figure>', wide, title,
                  grid.svg, coalesce(bars.svg, ''), below.svg,
                  (SELECT string_agg(format('<span class="key k%s"></span>%s', k, n), ' ' ORDER BY k) FROM unnest(names) WITH ORDINALITY AS u (n, k)))
    FROM grid, bars, below
$$;
COMMENT ON FUNCTION tenantcall.report_plot(integer, text, text[], text[], bigint[], bigint[]) IS 'internal: a plot of report()';
REVOKE ALL ON FUNCTION tenantcall.report_plot(integer, text, text[], text[], bigint[], bigint[]) FROM PUBLIC;

-- The bucket of a histogram in which that part of all lies.
CREATE FUNCTION tenantcall.report_percentile(buckets bigint[], labels text[], part numeric) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT labels[min(i)] FROM (SELECT i, sum(n) OVER (ORDER BY i) AS below, sum(n) OVER () AS total
                                FROM unnest(buckets) WITH ORDINALITY AS u (n, i)) AS b
    WHERE total > 0 AND below >= part * total
$$;
COMMENT ON FUNCTION tenantcall.report_percentile(bigint[], text[], numeric) IS 'internal: a percentile in report()';
REVOKE ALL ON FUNCTION tenantcall.report_percentile(bigint[], text[], numeric) FROM PUBLIC;
