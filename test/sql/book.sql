-- book: holds become appointments, and orders to the calendar; nothing is sent here (no worker)
\set VERBOSITY terse
SET client_min_messages = warning;
SET timezone = 'UTC';
CREATE ROLE regress_tc_book_app;
CREATE ROLE regress_tc_book_admin;
SELECT tenantcall.grant_app('regress_tc_book_app'), tenantcall.grant_admin('regress_tc_book_admin');
-- what the app may not do by itself: this role enters without a token
GRANT EXECUTE ON FUNCTION tenantcall.enter(bigint, bigint) TO regress_tc_book_app;
SET ROLE regress_tc_book_admin;
SELECT tenantcall.create_company('regress book a', 'DE', 'Europe/Berlin') AS a,
       tenantcall.create_company('regress book b', NULL, 'Europe/Vienna') AS b \gset
SELECT tenantcall.set_credential('regress_book_account', 'secret', 'https://calendar.example');
SELECT tenantcall.assign_credential(:a, 'regress_book_account'), tenantcall.assign_credential(:b, 'regress_book_account');
BEGIN;
SELECT tenantcall.enter(:a);
INSERT INTO telephony.branches (branch_id, name) VALUES (8201, 'A1');
INSERT INTO telephony.services (service_id, name, calcom_event_type_id) VALUES (8201, 'one', 8821), (8202, 'another', 8822);
INSERT INTO telephony.customers (customer_id, name, phone) VALUES (8201, 'Anna', '+4930123456');
COMMIT;
BEGIN;
SELECT tenantcall.enter(:b);
INSERT INTO telephony.branches (branch_id, name) VALUES (8211, 'B1');
INSERT INTO telephony.services (service_id, name, calcom_event_type_id) VALUES (8211, 'of b', 8821);
COMMIT;
RESET ROLE;
BEGIN;
SELECT tenantcall.enter(:a);
INSERT INTO telephony.calls (provider_call_id, status) VALUES ('book-1', 'inbound') RETURNING call_id AS call \gset
COMMIT;

-- What a customer comes to, or the SQLSTATE and the message.  Each is tried on a hold of its own.
CREATE FUNCTION pg_temp.try(company bigint, branch bigint, service bigint, customer jsonb) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    appointment bigint;
BEGIN
    PERFORM tenantcall.enter(company, branch);
    appointment := tenantcall.book(tenantcall.hold_slot(service, '2050-02-01 10:00', NULL), customer);
    RETURN (SELECT concat_ws(' ', a.status, a.customer, a.customer_id, a.time_zone) FROM telephony.appointments AS a
            WHERE a.appointment_id = appointment);
END
$$;
CREATE FUNCTION pg_temp.try_and_undo(company bigint, branch bigint, service bigint, customer jsonb) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    result text;
BEGIN
    BEGIN
        result := pg_temp.try(company, branch, service, customer);
        RAISE EXCEPTION USING ERRCODE = 'ZZ000', MESSAGE = result;
    EXCEPTION WHEN others THEN
        RETURN CASE WHEN SQLSTATE = 'ZZ000' THEN SQLERRM ELSE SQLSTATE || ' | ' || SQLERRM END;
    END;
END
$$;
SELECT pg_my_temp_schema()::regnamespace AS temp_schema \gset
GRANT USAGE ON SCHEMA :temp_schema TO regress_tc_book_app;
SET ROLE regress_tc_book_app;

SELECT c AS customer, pg_temp.try_and_undo(:a, 8201, 8201, c::jsonb) FROM (VALUES
    ('{"name": "Anna", "phone": "030 / 12 34 56"}'), ('{"name": " Anna ", "phone": "+4930123456", "email": "anna@example.com", "time_zone": "America/New_York", "language": "de"}'),
    ('{"name": "Ben", "email": "ben@example.com"}'), ('{"name": "Ben", "email": "ben@example"}'), ('{"name": "Ben", "email": "b en@example.com"}'),
    ('{"name": "Ben"}'), ('{"phone": "+4930123456"}'), ('{"name": "  ", "phone": "+4930123456"}'), ('{"name": "Ben", "phone": "anonymous"}'),
    ('{"name": 7, "phone": "+4930123456"}'), ('{"name": "Ben", "phone": "+4930123456", "timezone": "UTC"}'),
    ('{"name": "Ben", "phone": "+4930123456", "time_zone": "Mars/Olympus"}'), ('{"name": "Ben", "phone": "+4930123456", "language": "german"}'),
    ('{"name": "a\nb", "phone": "+4930123456"}'), ('[]'), ('"Ben"')) AS v (c);
SELECT pg_temp.try_and_undo(:a, 8201, 8201, jsonb_build_object('name', repeat('x', 201), 'phone', '+4930123456'));
-- without a region only numbers in international form
SELECT pg_temp.try_and_undo(:b, 8211, 8211, '{"name": "Ben", "phone": "030 123456"}');
SELECT pg_temp.try_and_undo(:b, 8211, 8211, '{"name": "Ben", "phone": "+4930123456"}');

-- held, booked, and booked again
BEGIN;
SELECT tenantcall.enter(:a, 8201);
SELECT tenantcall.hold_slot(8201, '2050-02-01 10:00', :call) AS hold \gset
SELECT tenantcall.book(:hold, '{"name": "Anna", "phone": "030 123456"}') AS one \gset
SELECT tenantcall.book(:hold, '{"name": "Somebody else"}') = :one AS same;
-- in the same transaction there is nothing to wait for
SELECT * FROM tenantcall.booking_result(:one, '60 s');
COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT tenantcall.enter(:a);
SELECT * FROM tenantcall.booking_result(:one, '0');
SELECT a.status, a.uid, a.customer_id, a.time_zone, a.elsewhere, h.state, h.expires_at, o.kind, o.state, o.attempt,
       o.request - 'metadata' AS request, o.request #>> '{metadata,tenantcall}' = o.idempotency_key AS marked, o.request #>> '{metadata,call_id}' AS call
FROM telephony.appointments AS a JOIN telephony.slot_holds AS h USING (hold_id) JOIN telephony.outbox AS o USING (appointment_id)
WHERE a.appointment_id = :one \gx
SELECT credential, queued, sending, unknown, dead, oldest_age > '0' AS age, paused FROM tenantcall.stat_outbox;
COMMIT;
-- without a company no booking, and never another company's
\set VERBOSITY sqlstate
SELECT * FROM tenantcall.booking_result(:one, '0');
BEGIN;
SELECT tenantcall.enter(:b);
SELECT count(*) FROM tenantcall.stat_outbox;
SAVEPOINT s;
SELECT * FROM tenantcall.booking_result(:one, '0');
ROLLBACK TO s;
SELECT tenantcall.book(:hold, '{"name": "Anna", "phone": "030 123456"}');
ROLLBACK TO s;
SELECT tenantcall.cancel_booking(:one, 'mine?');
ROLLBACK TO s;
SELECT tenantcall.reschedule_booking(:one, :hold);
ROLLBACK;
-- arguments
BEGIN;
SELECT tenantcall.enter(:a);
SAVEPOINT s;
SELECT * FROM tenantcall.booking_result(:one, NULL);
ROLLBACK TO s;
SELECT * FROM tenantcall.booking_result(:one, '61 s');
ROLLBACK TO s;
SELECT * FROM tenantcall.booking_result(:one, '-1 s');
ROLLBACK TO s;
SELECT tenantcall.book(:hold, NULL);
ROLLBACK TO s;
SELECT tenantcall.release_hold(:hold);
ROLLBACK TO s;
SELECT tenantcall.cancel_booking(:one, repeat('x', 501));
ROLLBACK TO s;
-- what is not confirmed cannot be moved
SELECT tenantcall.reschedule_booking(:one, :hold);
ROLLBACK;
\set VERBOSITY terse

-- cancelled before it was sent: it never reaches the calendar, and the slot is free again
BEGIN;
SELECT tenantcall.enter(:a, 8201);
SELECT tenantcall.cancel_booking(:one, 'changed his mind');
SELECT tenantcall.cancel_booking(:one, 'again');
SELECT * FROM tenantcall.booking_result(:one, '60 s');
SELECT o.state, o.error, o.request, h.state, h.reason FROM telephony.outbox AS o JOIN telephony.appointments AS a USING (appointment_id)
JOIN telephony.slot_holds AS h USING (hold_id);
SELECT count(*) FROM tenantcall.stat_outbox;
-- the hold is gone: booked again it is still the same appointment
SELECT tenantcall.book(:hold, '{"name": "Anna", "phone": "030 123456"}') = :one AS same;
SELECT tenantcall.hold_slot(8201, '2050-02-01 10:00', :call) AS hold2 \gset
COMMIT;

-- an expired hold, and a released one, cannot be booked
RESET ROLE;
BEGIN;
SELECT tenantcall.enter(:a, 8201);
UPDATE telephony.slot_holds SET expires_at = now() WHERE hold_id = :hold2;
SAVEPOINT s;
\set VERBOSITY sqlstate
SELECT tenantcall.book(:hold2, '{"name": "Anna", "phone": "030 123456"}');
ROLLBACK TO s;
SELECT tenantcall.release_hold(:hold2);
SELECT tenantcall.book(:hold2, '{"name": "Anna", "phone": "030 123456"}');
ROLLBACK;
\set VERBOSITY terse

-- moved: a second appointment, which takes the place of the first when the calendar says so
BEGIN;
SELECT tenantcall.enter(:a, 8201);
SELECT tenantcall.book(:hold2, '{"name": "Anna", "phone": "030 123456"}') AS two \gset
UPDATE telephony.appointments SET status = 'confirmed', uid = 'uid-2', confirmed_at = now() WHERE appointment_id = :two;
-- confirmed by a webhook, while the answer is still on its way: what comes next waits for that
SAVEPOINT s;
SELECT tenantcall.cancel_booking(:two);
SELECT kind, state FROM telephony.outbox WHERE appointment_id = :two ORDER BY outbox_id;
ROLLBACK TO s;
UPDATE telephony.outbox SET state = 'done', request = NULL, finished_at = now() WHERE appointment_id = :two RETURNING outbox_id AS done \gset
DELETE FROM tenantcall.outbox_due WHERE outbox_id = :done;
SELECT tenantcall.hold_slot(8201, '2050-02-02 10:00', :call) AS hold3,
       tenantcall.hold_slot(8201, '2050-02-03 10:00', :call) AS hold4,
       tenantcall.hold_slot(8202, '2050-02-02 10:00', :call) AS hold5 \gset
COMMIT;
SET ROLE regress_tc_book_app;
BEGIN;
SELECT tenantcall.enter(:a, 8201);
SELECT tenantcall.reschedule_booking(:two, :hold3) AS three \gset
SELECT tenantcall.reschedule_booking(:two, :hold3) = :three AS same;
SELECT appointment_id = :three AS new, status, uid, rescheduled_from = :two AS from_it, customer ->> 'name' AS name, starts_at FROM telephony.appointments
WHERE appointment_id IN (:two, :three) ORDER BY appointment_id;
SELECT kind, state, request FROM telephony.outbox WHERE appointment_id = :three;
\set VERBOSITY sqlstate
SAVEPOINT s;
-- it is being moved: neither again nor cancelled
SELECT tenantcall.reschedule_booking(:two, :hold4);
ROLLBACK TO s;
SELECT tenantcall.cancel_booking(:two);
ROLLBACK TO s;
-- not into another calendar
SELECT tenantcall.cancel_booking(:three);
SELECT tenantcall.reschedule_booking(:two, :hold5);
ROLLBACK TO s;
-- the move is taken back, and then the booking is to be cancelled in the calendar
SELECT tenantcall.cancel_booking(:three), tenantcall.cancel_booking(:two, 'not needed');
SELECT appointment_id = :three AS new, status, reason FROM telephony.appointments WHERE appointment_id IN (:two, :three) ORDER BY appointment_id;
SELECT kind, state, request FROM telephony.outbox WHERE appointment_id = :two ORDER BY outbox_id;
COMMIT;
\set VERBOSITY terse

-- the trail of one call, and the usage of a day
RESET ROLE;
INSERT INTO tenantcall.call_bindings (provider, provider_call_id, company_id) VALUES ('retell', 'book-1', :a);
SELECT what, detail ->> 'from' AS from, detail ->> 'reason' AS reason, detail ->> 'event' AS event
FROM tenantcall.call_timeline('book-1') WHERE kind = 'booking' ORDER BY at;
BEGIN;
SELECT tenantcall.enter(:a);
SELECT sum(bookings) FROM tenantcall.company_usage(current_date - 1, current_date + 1);
-- erased: what the appointments know of the caller
SELECT appointments, customers FROM tenantcall.forget_caller('+4930123456');
SELECT count(*) FROM telephony.appointments WHERE company_id = :a AND (customer IS NOT NULL OR customer_id IS NOT NULL);
COMMIT;

-- paused, for admins alone
SET ROLE regress_tc_book_app;
SELECT tenantcall.pause_outbox();
SET ROLE regress_tc_book_admin;
SELECT tenantcall.pause_outbox(), tenantcall.pause_outbox();
SELECT company_id = :a AS ours, paused, queued, waiting FROM tenantcall.stat_outbox WHERE company_id IN (:a, :b);
SELECT tenantcall.resume_outbox();
SELECT paused FROM tenantcall.stat_outbox WHERE company_id IN (:a, :b);
SELECT tenantcall.replay_outbox(:a, 0);
SELECT tenantcall.replay_outbox(:a), tenantcall.replay_outbox();
RESET ROLE;
-- given up, and given another chance: what may have been sent is looked for first
BEGIN;
SELECT tenantcall.enter(:a);
UPDATE telephony.outbox SET state = 'dead', sent_at = now() WHERE appointment_id = :two AND kind = 'cancel' RETURNING outbox_id AS dead \gset
UPDATE tenantcall.outbox_due SET state = 'dead', due_at = 'infinity', attempt = 20 WHERE outbox_id = :dead;
COMMIT;
SET ROLE regress_tc_book_admin;
SELECT dead FROM tenantcall.stat_outbox WHERE company_id = :a;
SELECT tenantcall.replay_outbox(:a);
RESET ROLE;
SELECT state, last_attempt - attempt AS attempts, due_at <= now() AS due FROM tenantcall.outbox_due WHERE outbox_id = :dead;
BEGIN;
SELECT tenantcall.enter(:a);
SELECT kind, state FROM telephony.outbox WHERE outbox_id = :dead;
COMMIT;

-- all of it goes with the company
SELECT tenantcall.set_company_status(:a, 'suspended', 'test');
SET ROLE regress_tc_book_app;
BEGIN;
SELECT tenantcall.enter(:a);
\set VERBOSITY sqlstate
SELECT tenantcall.book(:hold4, '{"name": "Anna", "phone": "030 123456"}');
ROLLBACK;
RESET ROLE;
SELECT relation, count(*) FROM tenantcall.export_company(:a) WHERE relation ~ 'hold|appoint|outbox|calendar' GROUP BY 1 ORDER BY 1;
SELECT relation, rows_deleted > 0 AS some FROM tenantcall.delete_company(:a) WHERE relation ~ 'hold|appoint|outbox|calendar' ORDER BY 1;
SELECT count(*) FROM tenantcall.outbox_due WHERE company_id = :a;
SELECT tenantcall.revoke_role('regress_tc_book_app'), tenantcall.revoke_role('regress_tc_book_admin');
REVOKE ALL ON SCHEMA :temp_schema FROM regress_tc_book_app;
DROP ROLE regress_tc_book_app, regress_tc_book_admin;
