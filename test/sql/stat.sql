-- Who sees whose statistics
SET client_min_messages = warning;
CREATE ROLE regress_tc_stat_app LOGIN;
CREATE ROLE regress_tc_stat_gateway LOGIN;
CREATE ROLE regress_tc_stat_monitor LOGIN IN ROLE pg_monitor;
SELECT tenantcall.grant_app('regress_tc_stat_app') \g /dev/null
SELECT tenantcall.grant_gateway('regress_tc_stat_gateway') \g /dev/null
SELECT tenantcall.create_company('Stat A', 'DE', 'UTC') AS a, tenantcall.create_company('Stat B', 'DE', 'UTC') AS b \gset
SELECT tenantcall.sign_token(:a, NULL, '1 hour') AS token \gset
CREATE FUNCTION stat_seen(a bigint, b bigint) RETURNS TABLE (relation text, a_seen boolean, b_seen boolean, others boolean)
LANGUAGE sql VOLATILE AS $$
SELECT s.relation, bool_or(s.company_id = a) IS TRUE, bool_or(s.company_id = b) IS TRUE, bool_or(s.company_id IS NULL OR s.company_id NOT IN (a, b)) IS TRUE
FROM (SELECT 'stat_companies', company_id FROM tenantcall.stat_companies
      UNION ALL SELECT 'stat_context', company_id FROM tenantcall.stat_context
      UNION ALL SELECT 'company_stats', company_id FROM tenantcall.company_stats()
      UNION ALL SELECT 'stat_counts', company_id FROM tenantcall.stat_counts()) AS s (relation, company_id)
GROUP BY 1 ORDER BY 1
$$;

-- Both companies have counts, which whoever watches the server sees.
SET SESSION AUTHORIZATION regress_tc_stat_gateway;
BEGIN; SELECT tenantcall.enter(:a) \g /dev/null
COMMIT;
BEGIN; SELECT tenantcall.enter(:b) \g /dev/null
COMMIT;
SET SESSION AUTHORIZATION regress_tc_stat_monitor;
SELECT relation, a_seen, b_seen FROM stat_seen(:a, :b);

-- Without a company there is nothing, for gateways, too; within one it is that one.
SET SESSION AUTHORIZATION regress_tc_stat_gateway;
SELECT * FROM stat_seen(:a, :b);
BEGIN; SELECT tenantcall.enter(:a) \g /dev/null
SELECT * FROM stat_seen(:a, :b);
COMMIT;
SET SESSION AUTHORIZATION regress_tc_stat_app;
SELECT * FROM stat_seen(:a, :b);
BEGIN; SELECT tenantcall.enter_token(:'token') \g /dev/null
SELECT * FROM stat_seen(:a, :b);
COMMIT;

-- What looks at all companies is not for applications.
SELECT function FROM unnest(ARRAY['health()', 'report()', 'maintenance_status()', 'run_maintenance(text)', 'schedule_maintenance()',
    'token_keys()', 'key_in_file(text)', 'reset_stats()', 'upgrade_tables()', 'cron_database()']) AS function
WHERE has_function_privilege(('tenantcall.' || function)::regprocedure, 'EXECUTE');
RESET SESSION AUTHORIZATION;
DROP FUNCTION stat_seen;
SELECT tenantcall.revoke_role('regress_tc_stat_app'), tenantcall.revoke_role('regress_tc_stat_gateway') \g /dev/null
DROP ROLE regress_tc_stat_app, regress_tc_stat_gateway, regress_tc_stat_monitor;
