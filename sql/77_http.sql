-- 77_http.sql: the HTTP worker, which speaks to calendars

CREATE FUNCTION tenantcall.http_accounts() RETURNS TABLE (
        credential text, company_id bigint, requests bigint, answered bigint, rate_limited bigint, timeouts bigint,
        errors bigint, refused_quota bigint, refused_breaker bigint, refused_queue bigint, refused_other bigint,
        under_way bigint, queued_live bigint, queued_write bigint, queued_refresh bigint, oldest_wait interval, breaker
        text, breaker_since timestamptz, quota_limit bigint, quota_remaining bigint, quota_wait interval, last_error
        text, last_error_at timestamptz, latency_mean interval, latency_max interval, latency_buckets bigint[])
    LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'tc_http_accounts';
COMMENT ON FUNCTION tenantcall.http_accounts() IS 'calendar accounts as the HTTP worker knows them, and each company''s part in them';
REVOKE ALL ON FUNCTION tenantcall.http_accounts() FROM PUBLIC;

CREATE VIEW tenantcall.stat_http AS
    SELECT credential, requests, answered, rate_limited, timeouts, errors, refused_quota, refused_breaker, refused_queue, refused_other,
           under_way, queued_live, queued_write, queued_refresh, oldest_wait, breaker, breaker_since, quota_limit, quota_remaining,
           quota_wait, last_error, last_error_at, latency_mean, latency_max, latency_buckets,
           (SELECT tenantcall.stats_reset('http')) AS stats_reset
    FROM tenantcall.http_accounts()
    WHERE company_id IS NULL;
COMMENT ON VIEW tenantcall.stat_http IS 'each calendar account since the server''s start or reset_http_stats(): requests, refusals, queues, breaker, quota, latency';
COMMENT ON COLUMN tenantcall.stat_http.requests IS 'requests sent, or tried to';
COMMENT ON COLUMN tenantcall.stat_http.rate_limited IS 'answered with 429';
COMMENT ON COLUMN tenantcall.stat_http.errors IS 'without an answer for another reason than a timeout';
COMMENT ON COLUMN tenantcall.stat_http.refused_quota IS 'not sent, since no request was free in time';
COMMENT ON COLUMN tenantcall.stat_http.oldest_wait IS 'how long the oldest request that waits has been waiting';
COMMENT ON COLUMN tenantcall.stat_http.breaker IS 'closed: in use; open: left alone; half_open: being tried';
COMMENT ON COLUMN tenantcall.stat_http.quota_limit IS 'requests in tenantcall.http_quota_window: as configured, or as the calendar tells if that is less; of the key, under whatever names it is stored, in all databases';
COMMENT ON COLUMN tenantcall.stat_http.quota_wait IS 'until the next request may be sent';
COMMENT ON COLUMN tenantcall.stat_http.latency_buckets IS 'requests that took up to 10, 30, 100, 300 ms, 1, 3, 10 s, and longer';
REVOKE ALL ON tenantcall.stat_http FROM PUBLIC;

CREATE VIEW tenantcall.stat_http_companies AS
    SELECT credential, company_id, requests, answered, rate_limited, timeouts, errors, refused_quota, refused_breaker, refused_queue,
           refused_other, under_way, queued_live, queued_write, queued_refresh, last_error, last_error_at, latency_mean, latency_max,
           latency_buckets, (SELECT tenantcall.stats_reset('http')) AS stats_reset
    FROM tenantcall.http_accounts()
    WHERE company_id IS NOT NULL;
COMMENT ON VIEW tenantcall.stat_http_companies IS 'each company''s part in each calendar account; columns as in stat_http';
REVOKE ALL ON tenantcall.stat_http_companies FROM PUBLIC;

CREATE FUNCTION tenantcall.reset_http_stats() RETURNS void
    LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'tc_reset_http_stats';
COMMENT ON FUNCTION tenantcall.reset_http_stats() IS 'sets the counts of stat_http to 0; quotas, breakers and queues stay';
REVOKE ALL ON FUNCTION tenantcall.reset_http_stats() FROM PUBLIC;

CREATE FUNCTION tenantcall.set_breaker(credential text, state text) RETURNS void
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'tc_set_breaker';
COMMENT ON FUNCTION tenantcall.set_breaker(text, text) IS 'has a calendar account left alone (open) until it is set to closed, which also ends a pause; at once, whatever becomes of the transaction';
REVOKE ALL ON FUNCTION tenantcall.set_breaker(text, text) FROM PUBLIC;

CREATE FUNCTION tenantcall.check_credential(name text, max_wait interval DEFAULT '10 s')
        RETURNS TABLE (status integer, reason text, latency interval)
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL RESTRICTED ROWS 1 AS 'MODULE_PATHNAME', 'tc_check_credential';
COMMENT ON FUNCTION tenantcall.check_credential(text, interval) IS 'asks the calendar, through the HTTP worker, whether it takes the key of a credential';
REVOKE ALL ON FUNCTION tenantcall.check_credential(text, interval) FROM PUBLIC;

CREATE FUNCTION tenantcall.http_test_requests(credential text, requests bigint DEFAULT 1, at_once bigint DEFAULT 1,
        class text DEFAULT 'live', company_id bigint DEFAULT NULL, method text DEFAULT 'GET', path text DEFAULT '/v2/me',
        max_wait interval DEFAULT '10 s', body text DEFAULT NULL)
        RETURNS TABLE (answered bigint, refused bigint, failed bigint, status integer, reason text, sent boolean, length bigint,
                       latency_mean interval, latency_max interval, retry_after_ms bigint)
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL RESTRICTED ROWS 1 AS 'MODULE_PATHNAME', 'tc_http_test_requests';
COMMENT ON FUNCTION tenantcall.http_test_requests(text, bigint, bigint, text, bigint, text, text, interval, text) IS 'for tests, superusers only: sends requests of any kind through the HTTP worker';
REVOKE ALL ON FUNCTION tenantcall.http_test_requests(text, bigint, bigint, text, bigint, text, text, interval, text) FROM PUBLIC;
