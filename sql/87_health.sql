-- 87_health.sql: health(), what is wrong, since when, and what to do: the server, keys, buckets and locks
--
-- Each function health_...() is one matter.  They run as the extension's owner, within health(),
-- and are bounded: by the number of companies, credentials and policies, and by indexes on a day.
--
-- Severity: error, calls or bookings are lost or will be; warning, somebody is refused or waits, or
-- one more mistake would make it an error; info, to be known.  Without error and warning there is
-- one row "ok", so that nobody takes a check that did not run for good news.
--
-- A finding goes away with its cause: what is over by itself is shown for some minutes.

CREATE TYPE tenantcall.health_finding AS
(
    severity text,
    what text,
    since timestamptz,
    remedy text
);
COMMENT ON TYPE tenantcall.health_finding IS 'what health() has found';

CREATE FUNCTION tenantcall.health()
    RETURNS TABLE (severity text, what text, since timestamptz, remedy text)
    LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE ROWS 10 AS 'MODULE_PATHNAME', 'tc_health';
COMMENT ON FUNCTION tenantcall.health() IS 'what is wrong, since when, and what to do; one row ok if nothing is';
REVOKE ALL ON FUNCTION tenantcall.health() FROM PUBLIC;

-- A check that fails is a finding as well.
CREATE FUNCTION tenantcall.health_findings() RETURNS SETOF tenantcall.health_finding
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO' AS $$
DECLARE
    checks text[] := ARRAY['key_file', 'keys', 'signatures', 'settings', 'snapshot', 'companies', 'bucket_table', 'calendars',
                           'locks', 'scoped'];
    of_tables text[] := ARRAY['worker', 'outbox', 'pause', 'stuck', 'leases', 'quarantine', 'partitions', 'maintenance',
                              'cluster'];
    check_name text;
    found tenantcall.health_finding;
    bad boolean := false;
BEGIN
    IF pg_is_in_recovery() THEN
        found := ('info', 'this server is a standby: calls, bookings and upkeep are looked at on its primary', NULL, NULL);
        RETURN NEXT found;
    ELSIF EXISTS (SELECT FROM tenantcall.installation) THEN
        checks := checks || of_tables;
    END IF;
    FOREACH check_name IN ARRAY checks LOOP
        BEGIN
            FOR found IN EXECUTE format('SELECT (f).* FROM tenantcall.health_%s() AS f', check_name) LOOP
                bad := bad OR found.severity IN ('error', 'warning');
                RETURN NEXT found;
            END LOOP;
        EXCEPTION WHEN OTHERS THEN
            bad := true;
            found := ('warning', format('check %s could not be made: %s', check_name, SQLERRM), now(), 'See the server log.');
            RETURN NEXT found;
        END;
    END LOOP;
    -- whoever has entered a company sees no other
    IF current_setting('tenantcall.company_id', true) <> '' THEN
        bad := true;
        found := ('warning', 'only the company that this transaction has entered was looked at', NULL,
                  'Call tenantcall.health() in a transaction of its own.');
        RETURN NEXT found;
    END IF;
    IF NOT bad THEN
        found := ('ok', format('nothing is wrong, as far as %s checks can tell', cardinality(checks)), NULL, NULL);
        RETURN NEXT found;
    END IF;
END
$$;
COMMENT ON FUNCTION tenantcall.health_findings() IS 'internal: part of health()';
REVOKE ALL ON FUNCTION tenantcall.health_findings() FROM PUBLIC;

CREATE FUNCTION tenantcall.health_key_file() RETURNS SETOF tenantcall.health_finding
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
DECLARE
    detail text;
    hint text;
BEGIN
    PERFORM tenantcall.key_in_file('-');
EXCEPTION WHEN config_file_error THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    -- levels without tokens and secrets need no key file
    RETURN NEXT (CASE WHEN current_setting('tenantcall.key_file') = '' AND NOT EXISTS (SELECT FROM tenantcall.secrets)
                      THEN 'info' ELSE 'error' END,
                 format('%s: %s', SQLERRM, detail), CASE WHEN current_setting('tenantcall.key_file') <> '' THEN pg_conf_load_time() END,
                 hint)::tenantcall.health_finding;
END
$$;
COMMENT ON FUNCTION tenantcall.health_key_file() IS 'internal: part of health()';
REVOKE ALL ON FUNCTION tenantcall.health_key_file() FROM PUBLIC;

-- Keys that were taken out of the key file too early.
CREATE FUNCTION tenantcall.health_keys() RETURNS SETOF tenantcall.health_finding
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
BEGIN
    RETURN QUERY
    SELECT CASE WHEN k.was_good THEN 'error' ELSE 'warning' END,
           CASE WHEN k.was_good
                THEN format('tokens are refused (%s): they are signed by key "%s", which was taken out of the key file too early',
                            k.refused, k.kid)
                ELSE format('tokens are refused (%s): they are signed by key "%s", which the key file does not have', k.refused, k.kid) END,
           k.first_at,
           format('Put key "%s" %s the first line of the key file, then SELECT pg_reload_conf(). Take it out when its last token has expired.',
                  k.kid, CASE WHEN k.was_good THEN 'back below' ELSE 'below' END)
    FROM tenantcall.token_keys() AS k
    WHERE k.refused > 0 AND k.last_at > now() - interval '15 minutes' AND NOT tenantcall.key_in_file(k.kid)
    UNION ALL
    SELECT 'error',
           format('%s stored secrets cannot be read (%s): they are encrypted under key "%s", which is not in the key file any more',
                  count(*), min(s.kind || ' ' || s.name) || CASE WHEN count(*) > 1 THEN ', ...' ELSE '' END, s.key_id),
           pg_conf_load_time(),
           format('Put key "%s" back below the first line of the key file, then SELECT pg_reload_conf(); or store them anew, with '
                  'tenantcall.set_credential() and tenantcall.set_webhook_key().', s.key_id)
    FROM tenantcall.secrets AS s WHERE NOT tenantcall.key_in_file(s.key_id) GROUP BY s.key_id;
EXCEPTION WHEN config_file_error THEN
    NULL; -- health_key_file() says so
END
$$;
COMMENT ON FUNCTION tenantcall.health_keys() IS 'internal: part of health()';
REVOKE ALL ON FUNCTION tenantcall.health_keys() FROM PUBLIC;

-- Bodies whose signature does not fit, since the keys were changed last.
CREATE FUNCTION tenantcall.health_signatures() RETURNS SETOF tenantcall.health_finding
    LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT 'warning', format('%s bodies were rejected: kind %s, %s', sum(u.refused), u.kind, u.reason), min(u.quarter),
           'Does the platform sign with another key by now? SELECT tenantcall.set_webhook_key(''retell'', ''<name>'', ''<secret>'')'
    FROM tenantcall.unplaced_refusals AS u
    WHERE u.quarter > now() - interval '1 hour' AND u.outcome = 'rejected' AND u.reason IN ('forged', 'no_key_fits')
      AND u.last_at > coalesce((SELECT max(s.changed_at) FROM tenantcall.secrets AS s WHERE s.kind = 'webhook'), '-infinity')
    GROUP BY u.kind, u.reason
    HAVING sum(u.refused) >= 10 AND max(u.last_at) > now() - interval '15 minutes'
$$;
COMMENT ON FUNCTION tenantcall.health_signatures() IS 'internal: part of health()';
REVOKE ALL ON FUNCTION tenantcall.health_signatures() FROM PUBLIC;

CREATE FUNCTION tenantcall.health_settings() RETURNS SETOF tenantcall.health_finding
    LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT 'error', 'test mode is on: a transaction can enter one company after another', NULL::timestamptz,
           CASE s.source WHEN 'session' THEN 'SET tenantcall.test_mode = off'
                         ELSE 'ALTER SYSTEM SET tenantcall.test_mode = off -- then SELECT pg_reload_conf()' END
    FROM pg_settings AS s WHERE s.name = 'tenantcall.test_mode' AND s.setting = 'on'
$$;
COMMENT ON FUNCTION tenantcall.health_settings() IS 'internal: part of health()';
REVOKE ALL ON FUNCTION tenantcall.health_settings() FROM PUBLIC;

-- Buckets across a restart.
CREATE FUNCTION tenantcall.health_snapshot() RETURNS SETOF tenantcall.health_finding
    LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT 'warning', 'rate limits cannot be saved: after a restart all buckets start full', n.since,
           'Is there room in the data directory? The server log says what failed; it is tried again by itself.'
    FROM tenantcall.stat_notes() AS n WHERE n.note = 'save_failed'
    UNION ALL
    SELECT 'info', format('all buckets started full: those that were saved are not taken over (%s)', rtrim(n.reason, '.')), n.since,
           'Nothing is to be done: after a copy or a restored backup it is meant to be so.'
    FROM tenantcall.stat_notes() AS n WHERE n.note = 'load_refused'
$$;
COMMENT ON FUNCTION tenantcall.health_snapshot() IS 'internal: part of health()';
REVOKE ALL ON FUNCTION tenantcall.health_snapshot() FROM PUBLIC;

-- The policy as it is in force for a company, and when it was set.
CREATE FUNCTION tenantcall.health_policy(policy text, bandwidth text, company_id bigint)
    RETURNS TABLE (tokens bigint, per interval, changed_at timestamptz)
    LANGUAGE sql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT p.tokens, p.period_ns / 1000 * interval '1 microsecond', max(p.changed_at) OVER ()
    FROM (SELECT r.* FROM tenantcall.rate_policies AS r UNION ALL SELECT d.* FROM tenantcall.rate_policy_defaults AS d) AS p
    WHERE p.policy = health_policy.policy AND p.bandwidth = health_policy.bandwidth
      AND p.branch_id IS NULL AND p.number IS NULL AND (p.company_id IS NULL OR p.company_id = health_policy.company_id)
    ORDER BY p.removed, p.company_id NULLS LAST, p.version DESC
    LIMIT 1
$$;
COMMENT ON FUNCTION tenantcall.health_policy(text, text, bigint) IS 'internal: part of health()';
REVOKE ALL ON FUNCTION tenantcall.health_policy(text, text, bigint) FROM PUBLIC;

CREATE FUNCTION tenantcall.health_bucket_table() RETURNS SETOF tenantcall.health_finding
    LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT 'error', format('the table of buckets is full (%s of %s): %s requests were refused, %s let pass', t.used, t.max_buckets,
                           t.refused, t.passed), n.since,
           format('ALTER SYSTEM SET tenantcall.rate_max_buckets = %s -- then restart the server', 2 * t.max_buckets)
    FROM tenantcall.rate_table() AS t, tenantcall.stat_notes() AS n
    WHERE n.note = 'table_full' AND n.last_at > now() - interval '15 minutes'
    UNION ALL
    SELECT 'warning', format('the table of buckets is full: %s buckets that were not full had to make way, with %s tokens', t.forced, t.forgiven),
           NULL, format('ALTER SYSTEM SET tenantcall.rate_max_buckets = %s -- then restart the server', 2 * t.max_buckets)
    FROM tenantcall.rate_table() AS t WHERE t.forced > 0
    UNION ALL
    SELECT 'warning', format('%s requests were refused because a stopped process has a part of the table of buckets locked', t.unavailable),
           NULL, 'Find it (state T in ps) and let it go: kill -CONT <pid>. The count starts anew with the server.'
    FROM tenantcall.rate_table() AS t WHERE t.unavailable > 0
$$;
COMMENT ON FUNCTION tenantcall.health_bucket_table() IS 'internal: part of health()';
REVOKE ALL ON FUNCTION tenantcall.health_bucket_table() FROM PUBLIC;

-- Sessions that keep others waiting for an advisory lock, such as company_lock() takes.
CREATE FUNCTION tenantcall.health_locks() RETURNS SETOF tenantcall.health_finding
    LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT 'warning', format('session %s (%s) keeps %s others waiting for a lock', b.pid, coalesce(a.usename, a.backend_type), b.waiting),
           b.since, format('SELECT pg_terminate_backend(%s)', b.pid)
    FROM (SELECT k.pid, count(*) AS waiting, min(w.waitstart) AS since
          FROM pg_locks AS w CROSS JOIN LATERAL unnest(pg_blocking_pids(w.pid)) AS k (pid)
          WHERE NOT w.granted AND w.locktype = 'advisory' AND w.waitstart < now() - interval '30 seconds'
            AND w.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
          GROUP BY k.pid) AS b
    LEFT JOIN pg_stat_activity AS a ON a.pid = b.pid
$$;
COMMENT ON FUNCTION tenantcall.health_locks() IS 'internal: part of health()';
REVOKE ALL ON FUNCTION tenantcall.health_locks() FROM PUBLIC;

CREATE FUNCTION tenantcall.health_scoped() RETURNS SETOF tenantcall.health_finding
    LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT 'error', format('table %s is not protected as it was', s.relation), NULL::timestamptz,
           'SELECT * FROM tenantcall.check_isolation()'
    FROM tenantcall.scoped_tables AS s WHERE NOT s.intact
    UNION ALL
    SELECT 'error', format('the lifecycle of table %s is not always kept: its trigger was changed', t.relation), NULL,
           format('SELECT tenantcall.track_lifecycle(%L, %L, %L%s)', t.relation, t.state_column, t.lifecycle, ', ' || quote_literal(t.audit))
    FROM tenantcall.tracked_tables AS t WHERE NOT t.always
$$;
COMMENT ON FUNCTION tenantcall.health_scoped() IS 'internal: part of health()';
REVOKE ALL ON FUNCTION tenantcall.health_scoped() FROM PUBLIC;
