-- services: which service a caller gets, and the keys of slot caches, as a role that owns nothing
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE ROLE regress_tc_services_app;
CREATE ROLE regress_tc_services_admin;
SELECT tenantcall.grant_app('regress_tc_services_app'), tenantcall.grant_admin('regress_tc_services_admin');
-- what the app may not do by itself: this role enters without a token
GRANT EXECUTE ON FUNCTION tenantcall.enter(bigint, bigint) TO regress_tc_services_app;

-- two companies with services of the same names and event types; ids are ours, to be told apart
SET ROLE regress_tc_services_admin;
SELECT tenantcall.create_company('regress services a', 'DE', 'Europe/Berlin') AS a,
       tenantcall.create_company('regress services b', 'DE', 'Europe/Berlin') AS b,
       tenantcall.create_company('regress services none', 'DE', 'Europe/Berlin') AS c \gset
BEGIN;
SELECT tenantcall.enter(:b);
INSERT INTO telephony.branches (branch_id, name) VALUES (7101, 'B1');
INSERT INTO telephony.services (service_id, name, calcom_event_type_id, calcom_team_id, is_default, priority) VALUES
    (7001, 'Haircut', 900, 90, true, 1), (7002, 'Only at B', 901, 90, true, 0);
INSERT INTO telephony.branch_services (branch_id, service_id, calcom_event_type_id, is_default, priority)
VALUES (7101, 7001, 999, true, 0);
COMMIT;
BEGIN;
SELECT tenantcall.enter(:a);
INSERT INTO telephony.branches (branch_id, name) VALUES (7111, 'A1'), (7112, 'A2'), (7113, 'A3');
INSERT INTO telephony.services (service_id, name, calcom_event_type_id, calcom_team_id, priority) VALUES
    (7011, 'Haircut', 101, 11, 50), (7012, 'Haircut and beard', 102, NULL, 20), (7013, 'Beard', 103, 13, 20),
    (7014, 'Äußerst 100%_schön', 104, 14, 60), (7015, 'Without event type', NULL, NULL, 1);
COMMIT;
RESET ROLE;

-- What is chosen, or the SQLSTATE and the message.
CREATE FUNCTION pg_temp.choose(company bigint, entered_branch bigint, name text, branch bigint) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    s tenantcall.service_choice;
BEGIN
    IF company IS NOT NULL THEN
        PERFORM tenantcall.enter(company, entered_branch);
    END IF;
    s := tenantcall.select_service(name, branch);
    RETURN concat_ws(' ', s.service_id, coalesce(s.branch_id::text, '-'), s.calcom_event_type_id,
                     coalesce(s.calcom_team_id::text, '-'), s.reason);
EXCEPTION WHEN others THEN
    RETURN concat_ws(' ', SQLSTATE, regexp_replace(SQLERRM, 'company [0-9]+', 'company N'));
END
$$;
SELECT pg_my_temp_schema()::regnamespace AS temp_schema \gset
GRANT USAGE ON SCHEMA :temp_schema TO regress_tc_services_app;
SET ROLE regress_tc_services_app;

-- nothing without a tenant, and the tenant is not to be had from an argument
SELECT pg_temp.choose(NULL, NULL, NULL, NULL);
SELECT pg_temp.choose(NULL, NULL, 'Haircut', 7111);

-- without defaults: priority, then id; a service without event type is none, whatever its priority
SELECT pg_temp.choose(:a, NULL, NULL, NULL);
BEGIN; SELECT tenantcall.enter(:a); UPDATE telephony.services SET priority = 10 WHERE service_id = 7013; COMMIT;
SELECT pg_temp.choose(:a, NULL, NULL, NULL);
-- a default of the company beats any priority
BEGIN; SELECT tenantcall.enter(:a); UPDATE telephony.services SET is_default = true WHERE service_id = 7011; COMMIT;
SELECT pg_temp.choose(:a, NULL, NULL, NULL);
SELECT pg_temp.choose(:a, NULL, NULL, 7111);
-- the default of a branch beats it in that branch, and brings its own event type and team
BEGIN;
SELECT tenantcall.enter(:a);
INSERT INTO telephony.branch_services (branch_id, service_id, calcom_event_type_id, calcom_team_id, is_default, priority)
VALUES (7111, 7012, 202, 22, true, 90), (7111, 7013, NULL, NULL, false, 1), (7112, 7015, 215, NULL, false, NULL);
COMMIT;
SELECT pg_temp.choose(:a, NULL, NULL, 7111);
SELECT pg_temp.choose(:a, NULL, NULL, 7112);
-- the branch comes from the context, too; the argument is stronger
SELECT pg_temp.choose(:a, 7111, NULL, NULL);
SELECT pg_temp.choose(:a, 7111, NULL, 7112);
-- of several defaults of a branch: its own priority, then the id
BEGIN; SELECT tenantcall.enter(:a); UPDATE telephony.branch_services SET is_default = true WHERE service_id = 7013; COMMIT;
SELECT pg_temp.choose(:a, NULL, NULL, 7111);
BEGIN; SELECT tenantcall.enter(:a); UPDATE telephony.branch_services SET priority = 90 WHERE service_id = 7013; COMMIT;
SELECT pg_temp.choose(:a, NULL, NULL, 7111);

-- by name: exact, then the beginning, then a part, in any case of letters; no wildcards
SELECT n, pg_temp.choose(:a, NULL, n, NULL)
FROM (VALUES ('haircut'), ('  HAIRCUT  '), ('haircut a'), ('BEARD'), ('and beard'), ('ÄUßER'), ('100%_s'), ('100__'),
             ('%'), ('_'), (''), (E' \n'), ('only at b'), ('without event type'), ('hairdo')) AS v (n);
-- in a branch: 7012 is offered in 7111 only, and there with its own event type; 7015 in 7112
SELECT n, pg_temp.choose(:a, NULL, n, b)
FROM (VALUES ('haircut and beard', 7111), ('haircut and beard', 7112), ('without event type', 7111),
             ('without event type', 7112), ('haircut', 7113)) AS v (n, b);
-- taken out of a branch, and out of the company
BEGIN; SELECT tenantcall.enter(:a); UPDATE telephony.branch_services SET is_active = false WHERE service_id = 7012; COMMIT;
SELECT pg_temp.choose(:a, NULL, 'haircut and beard', 7111);
BEGIN; SELECT tenantcall.enter(:a); UPDATE telephony.services SET is_active = false WHERE service_id = 7011; COMMIT;
SELECT pg_temp.choose(:a, NULL, 'haircut', 7113), pg_temp.choose(:a, NULL, 'haircut', NULL);

-- the other company has its own, though names are the same; its branches are unknown here
SELECT pg_temp.choose(:b, NULL, 'haircut', NULL);
SELECT pg_temp.choose(:b, NULL, NULL, NULL);
SELECT pg_temp.choose(:b, NULL, NULL, 7101);
SELECT pg_temp.choose(:a, NULL, NULL, 7101);
SELECT pg_temp.choose(:a, NULL, NULL, -1);
SELECT pg_temp.choose(:c, NULL, NULL, NULL);
-- synonyms by confidence, then similarity; names as people write them; and the next candidate
BEGIN;
SELECT tenantcall.enter(:a);
INSERT INTO telephony.service_synonyms (service_id, synonym, confidence) VALUES
    (7013, 'Rasur', 0.8), (7012, 'rasur!', 0.95), (7011, 'Waschen, Schneiden', 0.9);
INSERT INTO telephony.services (service_id, name, calcom_event_type_id) VALUES (7016, 'Kopfmassage', 105);
COMMIT;
SELECT name, pg_temp.choose(:a, NULL, name, NULL)
FROM (VALUES ('RASUR'), ('waschen schneiden'), ('haircut & beard'), ('Kopf-Massage'), ('Kopfmasage'), ('Kopfmssge'), ('massage'), ('?!')) AS t (name);
BEGIN;
SELECT tenantcall.enter(:a);
SELECT service_id, reason FROM tenantcall.select_service('rasur', exclude => '{7012}');
SELECT service_id, reason FROM tenantcall.select_service('rasur', exclude => '{7012,7013}');
ROLLBACK;
-- another company's synonyms are nothing to this one
SELECT pg_temp.choose(:b, NULL, 'Rasur', NULL);
BEGIN;
SELECT tenantcall.enter(:b);
INSERT INTO telephony.service_synonyms (service_id, synonym) VALUES (7013, 'Rasur');
ROLLBACK;

-- one service only
BEGIN; SELECT tenantcall.enter(:c); INSERT INTO telephony.services (service_id, name, calcom_event_type_id) VALUES (7031, 'One', 1); COMMIT;
SELECT pg_temp.choose(:c, NULL, NULL, NULL);

-- keys: formats, and that session settings do not show
SELECT tenantcall.slot_cache_key(11, 101, '2026-12-01');
SELECT tenantcall.alternatives_cache_key(1, 2, 101, '2026-12-01 09:30+01', '2026-12-01 23:30-01');
SET timezone = 'America/New_York';
SET datestyle = 'German';
SELECT tenantcall.slot_cache_key(11, 101, '2026-12-01');
SELECT tenantcall.alternatives_cache_key(1, 2, 101, '2026-12-01 09:30+01', '2026-12-01 23:30-01');
RESET timezone;
RESET datestyle;
-- the hour that comes twice when clocks are set back has two keys
SELECT count(DISTINCT tenantcall.alternatives_cache_key(1, 2, 3, t, t + interval '1 hour')) AS hours
FROM generate_series('2026-10-25 00:00+02'::timestamptz, '2026-10-25 23:00+01', '1 hour') AS t;
-- no two arguments share a key
SELECT count(*) AS keys, count(DISTINCT tenantcall.slot_cache_key(t, e, d)) AS distinct_slot_keys
FROM generate_series(1, 12) AS t, generate_series(1, 112) AS e, (VALUES (date '2026-01-11'), ('2026-11-01')) AS v (d);
SELECT count(*) AS keys,
       count(DISTINCT tenantcall.alternatives_cache_key(c, b, e, '2026-12-01 09:00Z', '2026-12-01 10:00Z')) AS distinct_keys
FROM generate_series(1, 12) AS c, generate_series(1, 12) AS b, generate_series(1, 12) AS e;
-- what carries no tenant is no key
\set VERBOSITY default
SELECT tenantcall.slot_cache_key(NULL, 101, '2026-12-01');
\set VERBOSITY sqlstate
SELECT tenantcall.slot_cache_key(11, NULL, '2026-12-01');
SELECT tenantcall.slot_cache_key(11, 101, NULL);
SELECT tenantcall.slot_cache_key(0, 101, '2026-12-01');
SELECT tenantcall.slot_cache_key(11, -1, '2026-12-01');
SELECT tenantcall.slot_cache_key(11, 101, 'infinity');
SELECT tenantcall.slot_cache_key(11, 101, '0001-01-01 BC');
SELECT tenantcall.alternatives_cache_key(NULL, 2, 3, now(), now());
SELECT tenantcall.alternatives_cache_key(1, NULL, 3, now(), now());
SELECT tenantcall.alternatives_cache_key(1, 2, NULL, now(), now());
SELECT tenantcall.alternatives_cache_key(1, 2, 3, NULL, now());
SELECT tenantcall.alternatives_cache_key(1, 2, 3, now(), NULL);
SELECT tenantcall.alternatives_cache_key(1, 0, 3, now(), now());
SELECT tenantcall.alternatives_cache_key(1, 2, 3, '-infinity', now());
SELECT tenantcall.alternatives_cache_key(1, 2, 3, '0001-06-01 BC', now());
SELECT tenantcall.alternatives_cache_key(1, 2, 3, now(), now() - interval '1 hour');
\set VERBOSITY terse

-- nothing of this is for everybody
RESET ROLE;
CREATE ROLE regress_tc_services_none;
SET ROLE regress_tc_services_none;
SELECT tenantcall.select_service();
SELECT tenantcall.slot_cache_key(1, 2, '2026-12-01');
RESET ROLE;

DROP FUNCTION pg_temp.choose;
DELETE FROM tenantcall.role_kinds WHERE role LIKE 'regress_tc_services%';
DROP OWNED BY regress_tc_services_app, regress_tc_services_admin;
DROP ROLE regress_tc_services_app, regress_tc_services_admin, regress_tc_services_none;
