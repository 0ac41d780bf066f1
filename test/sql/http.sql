-- The HTTP worker as seen from a database without one.  See test/system/test_http.py for the rest.

-- nobody would answer
SELECT * FROM tenantcall.check_credential('http_acc');
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM tenantcall.http_test_requests('http_acc');

-- arguments
SELECT * FROM tenantcall.check_credential(NULL);
SELECT * FROM tenantcall.check_credential('');
SELECT * FROM tenantcall.check_credential('http_acc', NULL);
SELECT * FROM tenantcall.check_credential('http_acc', '-1 s');
SELECT * FROM tenantcall.check_credential('http_acc', '1 month');
SELECT * FROM tenantcall.check_credential(repeat('x', 64));
SELECT * FROM tenantcall.http_test_requests('http_acc', requests => 0);
SELECT * FROM tenantcall.http_test_requests('http_acc', class => 'urgent');
SELECT * FROM tenantcall.http_test_requests('http_acc', path => repeat('x', 600));
SELECT tenantcall.set_breaker('http_acc', 'half_open');
SELECT tenantcall.set_breaker('http_acc', NULL);
SELECT tenantcall.set_breaker(NULL, 'open');

-- a breaker can be set before its account was ever used
SELECT tenantcall.set_breaker('http_acc', 'open');
SELECT credential, breaker, breaker_since <= now() AS since, requests, quota_limit, oldest_wait, latency_mean
FROM tenantcall.stat_http WHERE credential = 'http_acc';
SELECT tenantcall.set_breaker('http_acc', 'closed');
SELECT tenantcall.reset_http_stats();
SELECT credential, breaker FROM tenantcall.stat_http WHERE credential = 'http_acc';
SELECT count(*) FROM tenantcall.stat_http_companies;

-- settings are the server's
SET tenantcall.http_local_hosts = 'localhost';
ALTER SYSTEM SET tenantcall.http_local_hosts = 'http://localhost';
SELECT name, setting, unit, context FROM pg_settings
WHERE name LIKE 'tenantcall.http%' OR name = 'tenantcall.worker_databases' ORDER BY name COLLATE "C";
