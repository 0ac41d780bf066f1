-- 87_health_calls.sql: health() of calendars, bookings, companies, calls and upkeep

-- Calendar accounts that are left alone, or whose requests run out.
CREATE FUNCTION tenantcall.health_calendars() RETURNS SETOF tenantcall.health_finding
    LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT 'error',
           format('calendar account %s is down: %s; %s of %s requests were not answered, %s were not sent', h.credential,
                  CASE h.breaker WHEN 'half_open' THEN 'it is being tried again' ELSE 'it is left alone' END
                      || coalesce(', last error ' || h.last_error, ''),
                  h.errors + h.timeouts, h.requests, h.refused_breaker),
           h.breaker_since,
           format('SELECT * FROM tenantcall.check_credential(%1$L) -- and when it works again: SELECT tenantcall.set_breaker(%1$L, ''closed'')', h.credential)
    FROM tenantcall.stat_http AS h WHERE h.breaker <> 'closed'
    UNION ALL
    SELECT 'warning',
           format('calendar account %s has no requests left for %s (limit %s): %s were not sent, %s were answered with 429',
                  h.credential, date_trunc('seconds', h.quota_wait) + interval '1 second', h.quota_limit, h.refused_quota, h.rate_limited),
           coalesce(h.last_error_at, now()),
           'Ask the calendar for a higher limit, or have answers kept for longer: ALTER SYSTEM SET tenantcall.slot_ttl = 600'
    FROM tenantcall.stat_http AS h WHERE h.breaker = 'closed' AND h.quota_remaining = 0
      AND h.last_error IN ('quota', 'rate_limited') AND h.last_error_at > now() - interval '5 minutes'
    UNION ALL
    SELECT 'warning', format('requests to calendar account %s wait (%s)', h.credential, h.queued_live + h.queued_write + h.queued_refresh),
           now() - h.oldest_wait, format('SELECT * FROM tenantcall.check_credential(%L)', h.credential)
    FROM tenantcall.stat_http AS h WHERE h.breaker = 'closed' AND h.oldest_wait > interval '1 minute'
$$;
COMMENT ON FUNCTION tenantcall.health_calendars() IS 'internal: part of health()';
REVOKE ALL ON FUNCTION tenantcall.health_calendars() FROM PUBLIC;

CREATE FUNCTION tenantcall.health_worker() RETURNS SETOF tenantcall.health_finding
    LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT 'error', format('the HTTP worker of this database does not run: %s bookings wait', w.waiting), w.since,
           'The server log says why it ended; it is started again by itself after some seconds.'
    FROM (SELECT count(*) AS waiting, min(d.created_at) AS since FROM tenantcall.outbox_due AS d WHERE d.state <> 'dead') AS w
    WHERE tenantcall.worker_state() = 'missing'
    UNION ALL
    SELECT 'error', format('%s bookings wait, and no HTTP worker is to run in this database', w.waiting), w.since,
           format('ALTER SYSTEM SET tenantcall.worker_databases = %L -- then restart the server',
                  concat_ws(', ', nullif(current_setting('tenantcall.worker_databases'), ''), quote_ident(current_database())))
    FROM (SELECT count(*) AS waiting, min(d.created_at) AS since FROM tenantcall.outbox_due AS d WHERE d.state <> 'dead') AS w
    WHERE w.waiting > 0 AND tenantcall.worker_state() = 'unwanted'
$$;
COMMENT ON FUNCTION tenantcall.health_worker() IS 'internal: part of health()';
REVOKE ALL ON FUNCTION tenantcall.health_worker() FROM PUBLIC;

-- Orders to calendars that were given up, or wait for longer than they should.
CREATE FUNCTION tenantcall.health_outbox() RETURNS SETOF tenantcall.health_finding
    LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT f.severity, format(f.what, d.n, d.company_id, d.credential), d.since, format(f.remedy, d.company_id, d.credential)
    FROM (SELECT CASE o.state WHEN 'dead' THEN 'dead' WHEN 'reconcile' THEN 'unknown' ELSE 'old' END AS kind,
                 o.company_id, o.credential, count(*) AS n, min(o.created_at) AS since
          FROM tenantcall.outbox_due AS o
          WHERE o.state = 'dead' OR o.created_at < now() - CASE o.state WHEN 'reconcile' THEN interval '15 minutes' ELSE interval '5 minutes' END
          GROUP BY 1, 2, 3 ORDER BY n DESC LIMIT 20) AS d
    JOIN (VALUES ('dead', 'error', '%s bookings of company %s were given up (calendar account %s)', 'SELECT tenantcall.replay_outbox(company_id => %s)'),
                 ('unknown', 'warning', 'whether the calendar took %s bookings of company %s is still not known (calendar account %s)',
                  'SELECT * FROM tenantcall.check_credential(%2$L)'),
                 ('old', 'error', '%s bookings of company %s wait for the calendar (calendar account %s)',
                  'SELECT * FROM tenantcall.check_credential(%2$L)')) AS f (kind, severity, what, remedy) USING (kind)
    WHERE f.kind = 'dead' OR NOT EXISTS (SELECT FROM tenantcall.outbox_pause)
$$;
COMMENT ON FUNCTION tenantcall.health_outbox() IS 'internal: part of health()';
REVOKE ALL ON FUNCTION tenantcall.health_outbox() FROM PUBLIC;

-- Paused, and perhaps forgotten.
CREATE FUNCTION tenantcall.health_pause() RETURNS SETOF tenantcall.health_finding
    LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT CASE WHEN p.paused_at < now() - interval '1 hour' THEN 'error' ELSE 'warning' END,
           format('the outbox is paused by %s%s: %s bookings wait', p.paused_by,
                  CASE WHEN p.paused_at < now() - interval '1 hour' THEN ' for more than an hour' ELSE '' END,
                  (SELECT count(*) FROM tenantcall.outbox_due AS d WHERE d.state <> 'dead')),
           p.paused_at, 'SELECT tenantcall.resume_outbox()'
    FROM tenantcall.outbox_pause AS p
$$;
COMMENT ON FUNCTION tenantcall.health_pause() IS 'internal: part of health()';
REVOKE ALL ON FUNCTION tenantcall.health_pause() FROM PUBLIC;

CREATE FUNCTION tenantcall.health_stuck() RETURNS SETOF tenantcall.health_finding
    LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT 'warning', format('%s calls of %s companies (company %s) have no end, and gave no sign of life for %s', count(*),
                             count(DISTINCT s.company_id), min(s.company_id), current_setting('tenantcall.calls_stuck_after')),
           min(s.last_sign), 'SELECT * FROM tenantcall.close_stuck_calls()'
    FROM tenantcall.stuck_calls() AS s HAVING count(*) > 0
$$;
COMMENT ON FUNCTION tenantcall.health_stuck() IS 'internal: part of health()';
REVOKE ALL ON FUNCTION tenantcall.health_stuck() FROM PUBLIC;

-- Calls at once.
CREATE FUNCTION tenantcall.health_leases() RETURNS SETOF tenantcall.health_finding
    LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    WITH l AS MATERIALIZED (SELECT s.* FROM tenantcall.call_lease_stats() AS s)
    SELECT 'warning', format('all calls at once of company %s%s are in use (%s)', l.company_id, ', branch ' || l.branch_id, l.in_use), l.oldest,
           format('SELECT tenantcall.set_concurrency_policy(%s, %s, %s, company_id => %s%s)', 2 * l.max_calls, l.reserved_inbound, l.burst,
                  l.company_id, ', branch_id => ' || l.branch_id)
    FROM l WHERE l.enabled AND l.max_calls > 0 AND l.in_use >= l.max_calls
    UNION ALL
    SELECT 'info', format('%s leases of calls have expired and are still there', sum(l.expired)), min(l.oldest),
           'SELECT tenantcall.expire_call_leases()'
    FROM l WHERE l.branch_id IS NULL HAVING sum(l.expired) >= 100
$$;
COMMENT ON FUNCTION tenantcall.health_leases() IS 'internal: part of health()';
REVOKE ALL ON FUNCTION tenantcall.health_leases() FROM PUBLIC;

-- What the companies' tables say, which are read once for all of it.
CREATE FUNCTION tenantcall.health_companies() RETURNS SETOF tenantcall.health_finding
    LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    WITH c AS MATERIALIZED (SELECT s.* FROM tenantcall.company_stats() AS s)
    -- refused by a rate limit now
    SELECT 'warning',
           format('%s floods: %s refused by policy %s', CASE WHEN b.company_id IS NULL THEN 'somebody of no company'
                      ELSE format('company %s%s', b.company_id, coalesce(' (' || c.name || ')', '')) END,
                  b.denied, concat_ws('.', b.policy, nullif(b.bandwidth, 'default'))),
           coalesce(c.limited_since, b.last_denied_at),
           CASE WHEN b.company_id IS NULL THEN 'See who: SELECT * FROM tenantcall.quarantined WHERE outcome = ''unknown'' ORDER BY quarantined_at DESC'
                ELSE format('SELECT tenantcall.set_rate_policy(%L, %s, %L, company_id => %s%s, change_mode => ''reset'') -- if all of it is welcome; else '
                            'SELECT tenantcall.set_company_status(%s, ''suspended'', ''floods'')', b.policy, 2 * p.tokens, p.per, b.company_id,
                            CASE WHEN b.bandwidth <> 'default' THEN format(', bandwidth => %L', b.bandwidth) ELSE '' END, b.company_id) END
    FROM (SELECT r.company_id, r.policy, r.bandwidth, sum(r.denied) AS denied, max(r.last_denied_at) AS last_denied_at
          FROM tenantcall.stat_rate_limits AS r
          WHERE r.denied > 0 AND NOT coalesce(r.shadow, false) AND r.last_denied_at > now() - interval '5 minutes'
          GROUP BY 1, 2, 3 ORDER BY denied DESC LIMIT 20) AS b
    LEFT JOIN c USING (company_id)
    CROSS JOIN LATERAL tenantcall.health_policy(b.policy, b.bandwidth, b.company_id) AS p
    WHERE p.changed_at < b.last_denied_at AND (c.status_at < b.last_denied_at OR c.status IS DISTINCT FROM 'suspended')
    UNION ALL
    SELECT 'error', format('credential %s is not stored, and %s companies use it (company %s)', c.credential, count(*), min(c.company_id)),
           NULL, format('SELECT tenantcall.set_credential(%L, ''<key>'', ''<url>'')', c.credential)
    FROM c
    WHERE c.credential IS NOT NULL AND c.status = 'active' AND NOT pg_is_in_recovery()
      AND NOT EXISTS (SELECT FROM tenantcall.secrets AS s WHERE s.kind = 'credential' AND s.name = c.credential)
    GROUP BY c.credential
    UNION ALL
    SELECT 'info', format('company %s (%s) is suspended (%s), and is still called: %s refused in 24 hours', c.company_id, c.name,
                          coalesce(c.status_reason, 'no reason given'), c.refusals ->> 'suspended'),
           c.status_at, format('SELECT tenantcall.set_company_status(%s, ''active'', ''<reason>'') -- if it may be served again', c.company_id)
    FROM c
    WHERE c.status = 'suspended' AND c.refusals ? 'suspended' AND c.last_refused_at > now() - interval '15 minutes'
      AND NOT pg_is_in_recovery()
    UNION ALL
    SELECT 'info', format('calls ended for reasons that mean no state yet: %s (%s companies)', string_agg(DISTINCT c.unmapped, ', '), count(*)),
           NULL, format('INSERT INTO tenantcall.disconnection_reasons (reason, state) VALUES (%L, ''<state>'')', split_part(min(c.unmapped), ', ', 1))
    FROM c WHERE c.unmapped IS NOT NULL AND NOT pg_is_in_recovery() HAVING count(*) > 0
$$;
COMMENT ON FUNCTION tenantcall.health_companies() IS 'internal: part of health()';
REVOKE ALL ON FUNCTION tenantcall.health_companies() FROM PUBLIC;

-- Authentic messages that belong to nobody yet.  Those that a number has an owner for by now need
-- to be replayed only.
CREATE FUNCTION tenantcall.health_quarantine() RETURNS SETOF tenantcall.health_finding
    LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT CASE q.outcome WHEN 'quarantined' THEN 'warning' ELSE 'info' END,
           format('%s authentic messages are kept, since they could not be placed or applied (%s)%s%s', count(*), q.reason,
                  coalesce(': number ' || q.number, ''),
                  CASE WHEN n.company_id IS NOT NULL THEN format(', which belongs to company %s now', n.company_id) ELSE '' END),
           min(q.received_at),
           CASE WHEN q.outcome <> 'quarantined' THEN format('Look at them: SELECT * FROM tenantcall.quarantined WHERE reason = %L', q.reason)
                WHEN q.number IS NULL THEN 'SELECT * FROM tenantcall.replay_quarantined()'
                WHEN n.company_id IS NOT NULL THEN format('SELECT * FROM tenantcall.replay_quarantined(%L, %L)', q.number, min(q.received_at) - interval '1 day')
                ELSE format('SELECT tenantcall.assign_number(%1$L, <company_id>, <branch_id>) -- then: '
                            'SELECT * FROM tenantcall.replay_quarantined(%1$L, %2$L)', q.number, min(q.received_at) - interval '1 day') END
    FROM (SELECT k.number, k.reason, k.outcome, k.received_at FROM tenantcall.quarantine AS k
          WHERE k.replayed_at IS NULL AND (k.outcome = 'quarantined' OR k.received_at > now() - interval '1 day')
          ORDER BY k.number LIMIT 10000) AS q
    -- a join's condition would come after the call, which refuses NULL
    CROSS JOIN LATERAL (SELECT CASE WHEN q.number IS NOT NULL THEN (SELECT r.company_id FROM tenantcall.resolve_phone(q.number) AS r) END) AS n (company_id)
    GROUP BY q.outcome, q.reason, q.number, n.company_id
    ORDER BY q.outcome DESC, count(*) DESC
    LIMIT 20
$$;
COMMENT ON FUNCTION tenantcall.health_quarantine() IS 'internal: part of health()';
REVOKE ALL ON FUNCTION tenantcall.health_quarantine() FROM PUBLIC;

-- The month that comes needs a place for its rows.
CREATE FUNCTION tenantcall.health_partitions() RETURNS SETOF tenantcall.health_finding
    LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT 'warning', format('%s partitions of the audit trail are missing for this month and the next (%s)', count(*), min(m.parent)),
           NULL::timestamptz, 'SELECT * FROM tenantcall.maintain_partitions(max_changes => 1000)'
    FROM tenantcall.missing_partitions(2) AS m HAVING count(*) > 0
$$;
COMMENT ON FUNCTION tenantcall.health_partitions() IS 'internal: part of health()';
REVOKE ALL ON FUNCTION tenantcall.health_partitions() FROM PUBLIC;

-- Upkeep that fails, or that nobody does.
CREATE FUNCTION tenantcall.health_maintenance() RETURNS SETOF tenantcall.health_finding
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
DECLARE
    new_here boolean := (SELECT i.created_at > now() - interval '1 day' FROM tenantcall.installation AS i);
BEGIN
    IF to_regprocedure('tenantcall.maintenance_status()') IS NULL THEN
        RETURN;
    END IF;
    RETURN QUERY EXECUTE $q$
        SELECT CASE WHEN m.consecutive_failures > 0 THEN 'error' WHEN m.scheduled_by IS NULL AND $1 OR m.problem LIKE 'What others%' THEN 'info'
                    ELSE 'warning' END,
               format('maintenance %s: %s%s', string_agg(m.job, ', ' ORDER BY m.job), rtrim(m.problem, '.'),
                      CASE WHEN m.consecutive_failures > 0 THEN format(' (%s times: %s)', m.consecutive_failures, min(m.last_error)) ELSE '' END),
               min(CASE WHEN m.consecutive_failures > 0 THEN m.last_error_at ELSE m.last_end END),
               CASE WHEN m.consecutive_failures > 0 THEN format('CALL tenantcall.run_maintenance(%L)', min(m.job))
                    ELSE 'SELECT * FROM tenantcall.schedule_maintenance()' END
        FROM tenantcall.maintenance_status() AS m WHERE m.problem IS NOT NULL
        GROUP BY m.scheduled_by IS NULL, m.scheduled_by, m.problem, m.consecutive_failures $q$ USING new_here;
END
$$;
COMMENT ON FUNCTION tenantcall.health_maintenance() IS 'internal: part of health()';
REVOKE ALL ON FUNCTION tenantcall.health_maintenance() FROM PUBLIC;

-- The node of a Citus cluster that speaks to calendars.
CREATE FUNCTION tenantcall.health_cluster() RETURNS SETOF tenantcall.health_finding
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
DECLARE
    elected record;
    node text;
    reply record;
BEGIN
    SELECT * INTO elected FROM tenantcall.find_elected();
    IF elected.generation IS NULL THEN
        RETURN; -- a server by itself
    END IF;
    node := format('%s:%s', elected.node_name, elected.node_port);
    EXECUTE 'SELECT success, result FROM master_run_on_worker(ARRAY[$1], ARRAY[$2], ARRAY[$3], false)'
        INTO reply USING elected.node_name, elected.node_port, 'SELECT tenantcall.worker_duty()';
    IF reply.success IS NOT TRUE THEN
        RETURN NEXT ROW('error', format('node %s, which speaks to calendars, does not answer: %s', node, reply.result), NULL,
                        'SELECT tenantcall.elect_node(''<another node>'', <port>)')::tenantcall.health_finding;
    ELSIF reply.result = 'copy' THEN
        RETURN NEXT ROW('error', format('node %s is a copy of the one that was elected to speak to calendars, or was promoted: nothing is booked', node),
                        elected.since, format('SELECT tenantcall.elect_node(%L, %s)', elected.node_name, elected.node_port))::tenantcall.health_finding;
    ELSIF reply.result NOT IN ('elected', 'takes over') THEN
        RETURN NEXT ROW('error', format('the HTTP worker of node %s, which is to speak to calendars, does not run', node), NULL,
                        'The log of that node says why.')::tenantcall.health_finding;
    END IF;
END
$$;
COMMENT ON FUNCTION tenantcall.health_cluster() IS 'internal: part of health()';
REVOKE ALL ON FUNCTION tenantcall.health_cluster() FROM PUBLIC;
