-- slots: asking for free slots, as a role that owns nothing; no calendar is asked here
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE ROLE regress_tc_slots_app;
CREATE ROLE regress_tc_slots_gateway;
CREATE ROLE regress_tc_slots_admin;
SELECT tenantcall.grant_app('regress_tc_slots_app'), tenantcall.grant_gateway('regress_tc_slots_gateway'),
       tenantcall.grant_admin('regress_tc_slots_admin');

SET ROLE regress_tc_slots_admin;
SELECT tenantcall.create_company('regress slots a', 'DE', 'Europe/Berlin') AS a,
       tenantcall.create_company('regress slots b', 'DE', 'America/New_York') AS b \gset
BEGIN;
SELECT tenantcall.enter(:a);
INSERT INTO telephony.branches (branch_id, name) VALUES (8101, 'A1'), (8102, 'A2');
INSERT INTO telephony.services (service_id, name, calcom_event_type_id, calcom_team_id, is_active) VALUES
    (8001, 'Haircut', 810001, 81, true), (8002, 'No event type', NULL, NULL, true), (8003, 'Retired', 810003, 81, false);
INSERT INTO telephony.branch_services (branch_id, service_id, calcom_event_type_id, is_active) VALUES
    (8102, 8001, 810002, true);
COMMIT;
BEGIN;
SELECT tenantcall.enter(:b);
INSERT INTO telephony.branches (branch_id, name) VALUES (8201, 'B1');
INSERT INTO telephony.services (service_id, name, calcom_event_type_id, calcom_team_id) VALUES (8011, 'Shave', 810001, 82);
COMMIT;
RESET ROLE;

-- What is answered, or the SQLSTATE, message, detail and hint.
CREATE FUNCTION pg_temp.ask(company bigint, branch bigint, call text) RETURNS SETOF text
LANGUAGE plpgsql AS $$
DECLARE
    detail text;
    hint text;
BEGIN
    IF company IS NOT NULL THEN
        PERFORM tenantcall.enter(company, branch);
    END IF;
    RETURN QUERY EXECUTE 'SELECT t::text FROM ' || call || ' AS t';
EXCEPTION WHEN others THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN NEXT regexp_replace(concat_ws(' | ', SQLSTATE, SQLERRM, nullif(detail, ''), nullif(hint, '')),
                               'company [0-9]+', 'company N');
END
$$;
SELECT pg_my_temp_schema()::regnamespace AS temp_schema \gset
GRANT USAGE ON SCHEMA :temp_schema TO regress_tc_slots_gateway, regress_tc_slots_app;
\pset tuples_only on
SET ROLE regress_tc_slots_gateway;

-- nothing without a tenant
SELECT pg_temp.ask(NULL, NULL, $$tenantcall.available_slots(8001, now(), now() + '1 day')$$);
SELECT pg_temp.ask(NULL, NULL, $$tenantcall.alternative_slots(8001, now())$$);
-- another company's service is as unknown as one that does not exist
SELECT pg_temp.ask(:a, 8101, $$tenantcall.available_slots(8011, now(), now() + '1 day')$$);
SELECT pg_temp.ask(:a, 8101, $$tenantcall.available_slots(8999, now(), now() + '1 day')$$);
-- services that cannot be booked
SELECT pg_temp.ask(:a, 8101, $$tenantcall.available_slots(8002, now(), now() + '1 day')$$);
SELECT pg_temp.ask(:a, 8101, $$tenantcall.available_slots(8003, now(), now() + '1 day')$$);
-- no calendar account yet
SELECT pg_temp.ask(:a, 8101, $$tenantcall.available_slots(8001, now(), now() + '1 day')$$);

-- arguments
SELECT pg_temp.ask(:a, 8101, $$tenantcall.available_slots(NULL, now(), now() + '1 day')$$);
SELECT pg_temp.ask(:a, 8101, $$tenantcall.available_slots(0, now(), now() + '1 day')$$);
SELECT pg_temp.ask(:a, 8101, $$tenantcall.available_slots(8001, NULL, now())$$);
SELECT pg_temp.ask(:a, 8101, $$tenantcall.available_slots(8001, now(), 'infinity')$$);
SELECT pg_temp.ask(:a, 8101, $$tenantcall.available_slots(8001, now(), now())$$);
SELECT pg_temp.ask(:a, 8101, $$tenantcall.available_slots(8001, now(), now() + '62 days')$$);
SELECT pg_temp.ask(:a, 8101, $$tenantcall.available_slots(8001, now(), now() + '1 day', max_wait => NULL)$$);
SELECT pg_temp.ask(:a, 8101, $$tenantcall.available_slots(8001, now(), now() + '1 day', max_wait => '61 s')$$);
SELECT pg_temp.ask(:a, 8101, $$tenantcall.available_slots(8001, now(), now() + '1 day', max_wait => '-1 s')$$);
SELECT pg_temp.ask(:a, 8101, $$tenantcall.available_slots(8001, now(), now() + '1 day', max_age => '1 month')$$);
RESET ROLE;
SET ROLE regress_tc_slots_admin;
SELECT tenantcall.set_credential('regress-slots', 'cal_test_regress', 'https://calendar.invalid');
SELECT tenantcall.assign_credential(:a, 'regress-slots');
SELECT tenantcall.assign_credential(:b, 'regress-slots');
RESET ROLE;
SET ROLE regress_tc_slots_gateway;
SELECT pg_temp.ask(:a, 8101, $$tenantcall.available_slots(8001, now(), now() + '1 day', 'Foo5')$$);
SELECT pg_temp.ask(:a, 8101, $$tenantcall.available_slots(8001, now(), now() + '1 day', 'Europe/Nowhere')$$);
SELECT pg_temp.ask(:a, 8101, $$tenantcall.alternative_slots(8001, NULL)$$);
SELECT pg_temp.ask(:a, 8101, $$tenantcall.alternative_slots(8001, now(), 0)$$);
SELECT pg_temp.ask(:a, 8101, $$tenantcall.alternative_slots(8001, now(), 2, '[]')$$);
SELECT pg_temp.ask(:a, 8101, $$tenantcall.alternative_slots(8001, now(), 2, '{"mood": "good"}')$$);
SELECT pg_temp.ask(:a, 8101, $$tenantcall.alternative_slots(8001, now(), 2, '{"window": "tea time"}')$$);
SELECT pg_temp.ask(:a, 8101, $$tenantcall.alternative_slots(8001, now(), 2, '{"from": "25:00"}')$$);
SELECT pg_temp.ask(:a, 8101, $$tenantcall.alternative_slots(8001, now(), 2, '{"from": 9}')$$);
SELECT pg_temp.ask(:a, 8101, $$tenantcall.alternative_slots(8001, now(), 2, '{"from": "14:00", "to": "13:00"}')$$);
SELECT pg_temp.ask(:a, 8101, $$tenantcall.alternative_slots(8001, now(), 2, '{"exact": "9:5x"}')$$);
SELECT pg_temp.ask(:a, 8101, $$tenantcall.alternative_slots(8001, now(), 2, '{"exact": " 9:30"}')$$);
SELECT pg_temp.ask(:a, 8101, $$tenantcall.alternative_slots(8001, now(), 2, '{"exact": "+9:-1"}')$$);
-- a window that is over has no slots, whatever the calendar says
SELECT pg_temp.ask(:a, 8101, $$tenantcall.available_slots(8001, now() - '2 days'::interval, now() - '1 day'::interval)$$);
-- this database has no worker: not knowing is an error, never "no slots"
SELECT pg_temp.ask(:a, 8101, $$tenantcall.available_slots(8001, now(), now() + '1 day')$$);
SELECT pg_temp.ask(:a, 8101, $$tenantcall.alternative_slots(8001, now())$$);
SELECT pg_temp.ask(:a, 8101, $$tenantcall.alternative_slots(8001, now(), 2, '{"exact": "24:00"}')$$);
SELECT pg_temp.ask(:a, 8101, $$tenantcall.alternative_slots(8001, now(), 2, '{"window": "morning"}')$$);

-- keys of the application's caches: of all tenants for a gateway, of its own for whoever has entered
\pset tuples_only off
SELECT count(*), count(*) FILTER (WHERE k LIKE 'calcom:slots:81:810001:2026-12-01:2026-12-01') AS a_day,
       count(*) FILTER (WHERE k LIKE 'calcom:slots:82:810001:2026-12-01:2026-12-01') AS b_day,
       count(*) FILTER (WHERE k = tenantcall.alternatives_cache_key(:a, 8101, 810001, '2026-12-01 08:00+00', '2026-12-01 12:00+00')) AS a_window,
       count(*) FILTER (WHERE k LIKE format('cal_slots_%s_8102_%%', :a)) AS other_event_type,
       count(*) FILTER (WHERE k LIKE format('cal_slots_%s_8201_%%', :b)) AS b_windows
FROM tenantcall.invalidate_slots(810001, '2026-12-01 10:00+00', '2026-12-01 10:30+00') AS k;
BEGIN;
SELECT tenantcall.enter(:a);
SELECT count(*) FILTER (WHERE k LIKE 'calcom:slots:81:%') AS own, count(*) FILTER (WHERE k LIKE 'calcom:slots:82:%') AS other
FROM tenantcall.invalidate_slots(810001, '2026-12-01 10:00+00', '2026-12-01 10:30+00') AS k;
COMMIT;
-- a slot around midnight touches two days, by the clocks of the branch or of UTC
SELECT k FROM tenantcall.invalidate_slots(810001, '2026-12-01 23:30+00', '2026-12-02 00:00+00') AS k
WHERE k LIKE 'calcom:slots:8%' ORDER BY k;
-- every window of up to four hours that overlaps the change, and no other
WITH given AS (SELECT k FROM tenantcall.invalidate_slots(810001, '2026-12-01 10:00+00', '2026-12-01 10:30+00') AS k),
     wanted AS (SELECT tenantcall.alternatives_cache_key(:b, 8201, 810001, f, f + h * interval '1 hour') AS k
                FROM generate_series('2026-12-01 00:00+00'::timestamptz, '2026-12-02 00:00+00', '1 hour') AS f,
                     generate_series(0, 4) AS h
                WHERE f < '2026-12-01 10:30+00' AND f + h * interval '1 hour' + interval '1 hour' > '2026-12-01 10:00+00')
SELECT (SELECT count(*) FROM wanted) AS wanted,
       (SELECT count(*) FROM wanted WHERE k NOT IN (SELECT k FROM given)) AS missing,
       (SELECT count(*) FROM given WHERE k LIKE format('cal_slots_%s_8201_%%', :b) AND k NOT IN (SELECT k FROM wanted)) AS superfluous;
SELECT tenantcall.invalidate_slots(810001, '2026-12-02', '2026-12-01');
SELECT tenantcall.invalidate_slots(NULL, '2026-12-01', '2026-12-02');
RESET ROLE;
SET ROLE regress_tc_slots_app;
SELECT tenantcall.invalidate_slots(810001, '2026-12-01', '2026-12-02');
SELECT tenantcall.reset_slot_stats();
SELECT count(*) AS without_tenant FROM tenantcall.stat_cache;
RESET ROLE;

-- strategies are shipped, and a company changes its own only
SELECT strategy, position, span, days, bonus_later, bonus_earlier FROM tenantcall.slot_strategy_defaults ORDER BY position;
SET ROLE regress_tc_slots_gateway;
BEGIN;
SELECT tenantcall.enter(:a);
INSERT INTO telephony.slot_strategies (strategy, position, span, days) VALUES ('same_day', 5, '1 hour', 0);
INSERT INTO telephony.slot_strategies (strategy, position) VALUES ('tomorrow', 1);
ROLLBACK;
RESET ROLE;
DROP FUNCTION pg_temp.ask;
DELETE FROM tenantcall.role_kinds WHERE role LIKE 'regress_tc_slots%';
DROP OWNED BY regress_tc_slots_app, regress_tc_slots_gateway, regress_tc_slots_admin;
DROP ROLE regress_tc_slots_app, regress_tc_slots_gateway, regress_tc_slots_admin;
