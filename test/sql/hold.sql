-- hold: slots are held for one caller, as a role that owns nothing
\set VERBOSITY terse
SET client_min_messages = warning;
SET timezone = 'UTC';
CREATE ROLE regress_tc_hold_app;
CREATE ROLE regress_tc_hold_admin;
SELECT tenantcall.grant_app('regress_tc_hold_app'), tenantcall.grant_admin('regress_tc_hold_admin');
-- what the app may not do by itself: this role enters without a token
GRANT EXECUTE ON FUNCTION tenantcall.enter(bigint, bigint) TO regress_tc_hold_app;

SET ROLE regress_tc_hold_admin;
SELECT tenantcall.create_company('regress hold a', 'DE', 'Europe/Berlin') AS a,
       tenantcall.create_company('regress hold b', 'DE', 'Europe/Berlin') AS b \gset
BEGIN;
SELECT tenantcall.enter(:a);
INSERT INTO telephony.branches (branch_id, name) VALUES (8101, 'A1'), (8102, 'A2');
INSERT INTO telephony.services (service_id, name, duration, calcom_event_type_id, capacity, min_notice) VALUES
    (8001, 'one seat', '30 min', 8801, 1, '0'), (8002, 'three seats', '1 hour', 8802, 3, '0'),
    (8003, 'far ahead', '30 min', 8803, 1, '300 years'), (8004, 'not in the calendar', '30 min', NULL, 1, '0');
INSERT INTO telephony.services (service_id, name, calcom_event_type_id, is_active) VALUES (8005, 'inactive', 8805, false);
COMMIT;
BEGIN;
SELECT tenantcall.enter(:b);
INSERT INTO telephony.branches (branch_id, name) VALUES (8111, 'B1');
INSERT INTO telephony.services (service_id, name, calcom_event_type_id) VALUES (8011, 'of b', 8801);
COMMIT;
SELECT tenantcall.set_credential('regress_hold_account', 'secret', 'https://calendar.example');
SELECT tenantcall.assign_credential(:a, 'regress_hold_account');
SELECT tenantcall.assign_credential(:b, 'regress_hold_account');
RESET ROLE;
-- calls: two of a, one that is over, one of b
BEGIN;
SELECT tenantcall.enter(:a);
INSERT INTO telephony.calls (provider_call_id, status) VALUES ('hold-1', 'inbound'), ('hold-2', 'inbound'), ('hold-3', 'inbound');
UPDATE telephony.calls SET status = 'ongoing' WHERE provider_call_id IN ('hold-2', 'hold-3');
UPDATE telephony.calls SET status = 'completed' WHERE provider_call_id = 'hold-3';
SELECT max(call_id) FILTER (WHERE provider_call_id = 'hold-1') AS call1, max(call_id) FILTER (WHERE provider_call_id = 'hold-2') AS call2,
       max(call_id) FILTER (WHERE provider_call_id = 'hold-3') AS call3 FROM telephony.calls \gset
COMMIT;
BEGIN;
SELECT tenantcall.enter(:b);
INSERT INTO telephony.calls (provider_call_id, status) VALUES ('hold-4', 'inbound') RETURNING call_id AS call4 \gset
COMMIT;

-- What a hold comes to: its seat, or the SQLSTATE and the message.
CREATE FUNCTION pg_temp.hold(company bigint, branch bigint, service bigint, at timestamptz, call bigint) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    hold bigint;
    hint text;
BEGIN
    IF company IS NOT NULL THEN
        PERFORM tenantcall.enter(company, branch);
    END IF;
    hold := tenantcall.hold_slot(service, at, call);
    RETURN (SELECT format('%s seat %s %s', h.state, h.seat, to_char(h.starts_at, 'HH24:MI')) FROM telephony.slot_holds AS h WHERE h.hold_id = hold);
EXCEPTION WHEN others THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN regexp_replace(concat_ws(' | ', SQLSTATE, SQLERRM, hint), '(company|call) [0-9]+', '\1 N', 'g');
END
$$;
SELECT pg_my_temp_schema()::regnamespace AS temp_schema \gset
GRANT USAGE ON SCHEMA :temp_schema TO regress_tc_hold_app;
SET ROLE regress_tc_hold_app;

-- who may not
SELECT pg_temp.hold(NULL, NULL, 8001, '2050-01-03 10:00', :call1);
SELECT pg_temp.hold(:a, NULL, 8001, '2050-01-03 10:00', :call1);
SELECT pg_temp.hold(:a, 8101, 8011, '2050-01-03 10:00', :call1);
SELECT pg_temp.hold(:a, 8101, 9999, '2050-01-03 10:00', :call1);
SELECT pg_temp.hold(:a, 8101, 8001, '2050-01-03 10:00', :call4);
SELECT pg_temp.hold(:a, 8101, 8001, '2050-01-03 10:00', :call3);
SELECT pg_temp.hold(:a, 8101, NULL, '2050-01-03 10:00', :call1);
SELECT pg_temp.hold(:a, 8101, 8001, NULL, :call1);
SELECT pg_temp.hold(:a, 8101, 8001, 'infinity', :call1);
SELECT pg_temp.hold(:a, 8101, 8001, '2020-01-03 10:00', :call1);
SELECT pg_temp.hold(:a, 8101, 8003, '2050-01-03 10:00', :call1);
SELECT pg_temp.hold(:a, 8101, 8004, '2050-01-03 10:00', :call1);
SELECT pg_temp.hold(:a, 8101, 8005, '2050-01-03 10:00', :call1);

-- one seat: the first has it, the same call again gets the same, another one loses; back to back is free
SELECT pg_temp.hold(:a, 8101, 8001, '2050-01-03 10:00', :call1);
SELECT pg_temp.hold(:a, 8101, 8001, '2050-01-03 10:00', :call1);
SELECT pg_temp.hold(:a, 8101, 8001, '2050-01-03 10:00', :call2);
SELECT pg_temp.hold(:a, 8101, 8001, '2050-01-03 10:15', :call2);
SELECT pg_temp.hold(:a, 8101, 8001, '2050-01-03 09:45', :call2);
SELECT pg_temp.hold(:a, 8101, 8001, '2050-01-03 10:30', :call2);
SELECT pg_temp.hold(:a, 8101, 8001, '2050-01-03 09:30', :call2);
-- the other branch has the same calendar account and event type, and so the same slots
SELECT pg_temp.hold(:a, 8102, 8001, '2050-01-03 10:00', :call2);
-- the other company has slots of its own
SELECT pg_temp.hold(:b, 8111, 8011, '2050-01-03 10:00', :call4);
-- three seats
SELECT pg_temp.hold(:a, 8101, 8002, '2050-01-03 10:00', :call1);
SELECT pg_temp.hold(:a, 8101, 8002, '2050-01-03 10:00', :call2);
SELECT pg_temp.hold(:a, 8101, 8002, '2050-01-03 10:00', NULL);
SELECT pg_temp.hold(:a, 8101, 8002, '2050-01-03 10:00', NULL);
SELECT pg_temp.hold(:a, 8101, 8002, '2050-01-03 10:00', :call2);

-- an app may look at its own, and write none
BEGIN;
SELECT tenantcall.enter(:a);
SELECT calcom_event_type_id, seat, state, to_char(starts_at, 'HH24:MI') AS at, expires_at - created_at BETWEEN '299 s' AND '301 s' AS ttl
FROM telephony.slot_holds ORDER BY 1, starts_at, seat;
INSERT INTO telephony.slot_holds (service_id, credential, calcom_event_type_id, starts_at, ends_at, seat, state)
VALUES (8001, 'x', 1, now(), now() + interval '1 h', 1, 'booked');
ROLLBACK;

-- given back: by hand, twice; not another company's; not a booked one
BEGIN;
SELECT tenantcall.enter(:a);
SELECT hold_id AS held FROM telephony.slot_holds WHERE calcom_event_type_id = 8801 AND starts_at = '2050-01-03 10:00' \gset
SELECT tenantcall.release_hold(:held);
SELECT tenantcall.release_hold(:held);
SELECT state, reason, released_at IS NOT NULL AS released FROM telephony.slot_holds WHERE hold_id = :held;
COMMIT;
SELECT pg_temp.hold(:a, 8101, 8001, '2050-01-03 10:00', :call2);
BEGIN;
SELECT tenantcall.enter(:b);
\set VERBOSITY sqlstate
SELECT tenantcall.release_hold(:held);
\set VERBOSITY terse
ROLLBACK;

-- released when its call ends, however it does
RESET ROLE;
BEGIN;
SELECT tenantcall.enter(:a);
SELECT count(*) FROM telephony.slot_holds WHERE call_id = :call1 AND state = 'held';
COMMIT;
INSERT INTO tenantcall.call_bindings (provider, provider_call_id, company_id) VALUES ('retell', 'hold-1', :a), ('retell', 'hold-2', :a);
SELECT tenantcall.advance_call('hold-1', 'completed', 'hung up');
BEGIN;
SELECT tenantcall.enter(:a);
SELECT state, reason, count(*) FROM telephony.slot_holds WHERE call_id = :call1 GROUP BY 1, 2 ORDER BY 1, 2;
SELECT count(*) FROM telephony.slot_holds WHERE call_id = :call2 AND state = 'held';
UPDATE telephony.calls SET created_at = now() - interval '1 day' WHERE call_id = :call2;
SELECT status FROM tenantcall.close_stuck_calls() WHERE call_id = :call2;
SELECT state, reason, count(*) FROM telephony.slot_holds WHERE call_id = :call2 GROUP BY 1, 2 ORDER BY 1, 2;
COMMIT;
SELECT kind, what, detail ? 'hold_id' AS of_a_hold FROM tenantcall.call_timeline('hold-1') WHERE kind = 'hold' ORDER BY at, what;

-- expired ones make way in the same transaction
SET tenantcall.hold_ttl = 1;
BEGIN;
SELECT tenantcall.enter(:a, 8101);
SELECT tenantcall.hold_slot(8001, '2050-01-04 10:00', NULL) AS old,
       tenantcall.hold_slot(8001, '2050-01-04 11:00', NULL) AS other \gset
UPDATE telephony.slot_holds SET expires_at = now() - interval '1 s' WHERE hold_id IN (:old, :other);
SELECT tenantcall.hold_slot(8001, '2050-01-04 10:00', NULL) > :old AS another;
SELECT hold_id = :old AS old, state, released_at IS NOT NULL AS released FROM telephony.slot_holds
WHERE starts_at = '2050-01-04 10:00' AND company_id = :a ORDER BY hold_id;
SELECT state FROM telephony.slot_holds WHERE hold_id = :other;
COMMIT;
RESET tenantcall.hold_ttl;
SELECT tenantcall.expire_holds(0);
SELECT tenantcall.expire_holds() >= 1 AS expired;
BEGIN;
SELECT tenantcall.enter(:a);
SELECT state FROM telephony.slot_holds WHERE hold_id = :other;
COMMIT;

-- a suspended company holds nothing; what it has stays
SELECT tenantcall.set_company_status(:b, 'suspended', 'test');
SET ROLE regress_tc_hold_app;
SELECT pg_temp.hold(:b, 8111, 8011, '2050-01-05 10:00', :call4);
RESET ROLE;

-- the constraint itself: not even the owner of the tables writes two into one seat
BEGIN;
SELECT tenantcall.enter(:a);
INSERT INTO telephony.slot_holds (service_id, credential, calcom_event_type_id, starts_at, ends_at, seat, state)
SELECT 8001, 'x', 1, '2050-01-01', '2050-01-02', 1, 'booked' FROM generate_series(1, 2);
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;

SELECT tenantcall.revoke_role('regress_tc_hold_app'), tenantcall.revoke_role('regress_tc_hold_admin');
REVOKE ALL ON SCHEMA :temp_schema FROM regress_tc_hold_app;
DROP ROLE regress_tc_hold_app, regress_tc_hold_admin;
