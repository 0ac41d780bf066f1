-- calcom: webhooks of the calendar are verified, placed with one company, and applied once
\set VERBOSITY terse
SET client_min_messages = warning;
SET timezone = 'UTC';
CREATE ROLE regress_tc_calcom_gateway;
CREATE ROLE regress_tc_calcom_admin;
SELECT tenantcall.grant_gateway('regress_tc_calcom_gateway'), tenantcall.grant_admin('regress_tc_calcom_admin');
SET ROLE regress_tc_calcom_admin;
SELECT tenantcall.create_company('regress calcom a', 'DE', 'Europe/Berlin') AS a,
       tenantcall.create_company('regress calcom b', 'DE', 'Europe/Berlin') AS b \gset
SELECT tenantcall.set_credential('regress_calcom_account', 'secret', 'https://calendar.example');
SELECT tenantcall.assign_credential(:a, 'regress_calcom_account'), tenantcall.assign_credential(:b, 'regress_calcom_account');
SELECT tenantcall.set_webhook_key('calcom', 'regress-account', 'key of the account'),
       tenantcall.set_webhook_key('calcom', 'regress-b', 'key of b', :b);
BEGIN;
SELECT tenantcall.enter(:a);
INSERT INTO telephony.branches (branch_id, name) VALUES (8301, 'A1'), (8302, 'A2');
INSERT INTO telephony.services (service_id, name, calcom_event_type_id) VALUES (8301, 'one', 8831), (8302, 'both', 8833), (8303, 'of a branch', 8834);
INSERT INTO telephony.branch_services (branch_id, service_id, calcom_event_type_id) VALUES (8302, 8303, 8835);
COMMIT;
BEGIN;
SELECT tenantcall.enter(:b);
INSERT INTO telephony.branches (branch_id, name) VALUES (8311, 'B1');
INSERT INTO telephony.services (service_id, name, calcom_event_type_id) VALUES (8311, 'of b', 8832), (8312, 'both', 8833);
COMMIT;
RESET ROLE;

-- A webhook as the calendar sends it: trigger, second of its making, uid, event type, day, and what else.
CREATE FUNCTION pg_temp.hook(trigger text, second int, uid text, event_type bigint, day int, more jsonb DEFAULT '{}') RETURNS text
LANGUAGE sql IMMUTABLE AS $$
SELECT jsonb_build_object('triggerEvent', trigger, 'createdAt', format('2026-01-01T00:00:%sZ', lpad(second::text, 2, '0')),
    'payload', jsonb_strip_nulls(jsonb_build_object('uid', uid, 'bookingId', 7, 'eventTypeId', event_type,
        'startTime', format('2050-06-%sT10:00:00Z', lpad(day::text, 2, '0')), 'endTime', format('2050-06-%sT10:30:00Z', lpad(day::text, 2, '0')),
        'attendees', jsonb_build_array(jsonb_build_object('name', 'Guest', 'email', 'guest@example.com', 'timeZone', 'UTC')),
        'metadata', '{}'::jsonb)) || more)::text
$$;
-- Signed with a key and taken in; the company by name.
CREATE FUNCTION pg_temp.take(body text, key text DEFAULT 'key of the account') RETURNS text LANGUAGE sql AS $$
SELECT concat_ws(' ', i.outcome, i.reason, i.status, CASE i.company_id WHEN current_setting('regress.a')::bigint THEN 'a'
                 WHEN current_setting('regress.b')::bigint THEN 'b' END, i.branch_id)
FROM tenantcall.ingest_calcom(convert_to(body, 'UTF8'),
    encode(public.hmac(convert_to(body, 'UTF8'), convert_to(key, 'UTF8'), 'sha256'), 'hex')) AS i
$$;
SELECT set_config('regress.a', :'a', false) = :'a' AS a, set_config('regress.b', :'b', false) = :'b' AS b;
SELECT pg_my_temp_schema()::regnamespace AS temp_schema \gset
GRANT USAGE ON SCHEMA :temp_schema TO regress_tc_calcom_gateway;
SET ROLE regress_tc_calcom_gateway;

-- the vendor's vectors; what is not signed, or not with a live key
SELECT outcome, reason FROM tenantcall.ingest_calcom('{"x":1}'::text, NULL) UNION ALL
SELECT outcome, reason FROM tenantcall.ingest_calcom('{"x":1}'::text, '') UNION ALL
SELECT outcome, reason FROM tenantcall.ingest_calcom('{"x":1}'::text, 'no-secret-provided') UNION ALL
SELECT outcome, reason FROM tenantcall.ingest_calcom('{"x":1}'::text, 'abc') UNION ALL
SELECT outcome, reason FROM tenantcall.ingest_calcom('{"x":1}'::text, repeat('0', 64)) UNION ALL
SELECT outcome, reason FROM tenantcall.ingest_calcom(NULL::text, repeat('0', 64));
SELECT * FROM tenantcall.ingest_calcom('{}'::text, 'x', NULL);
SELECT * FROM tenantcall.ingest_calcom('{}'::text, 'x', 'infinity');
SELECT pg_temp.take('{"x":1}', 'another key');
-- signed, and not to be used
SELECT pg_temp.take(b) FROM (VALUES ('{"x":1}'), ('{'), ('[]'), ('')) AS v (b);
SELECT outcome, reason FROM tenantcall.ingest_calcom('\xff'::bytea, encode(public.hmac('\xff'::bytea, 'key of the account'::bytea, 'sha256'), 'hex'));

-- whose it is: by event type, if only one company has it; a company's key never speaks of another one
SELECT pg_temp.take(pg_temp.hook('BOOKING_CREATED', 1, 'cal-1', 8831, 1));
SELECT pg_temp.take(pg_temp.hook('BOOKING_CREATED', 1, 'cal-2', 8832, 1), 'key of b');
SELECT pg_temp.take(pg_temp.hook('BOOKING_CREATED', 1, 'cal-3', 8833, 1));
SELECT pg_temp.take(pg_temp.hook('BOOKING_CREATED', 1, 'cal-3', 8833, 1), 'key of b');
SELECT pg_temp.take(pg_temp.hook('BOOKING_CREATED', 1, 'cal-4', 9999, 1));
SELECT pg_temp.take(pg_temp.hook('BOOKING_CREATED', 1, 'cal-5', 8831, 1), 'key of b');
SELECT pg_temp.take(pg_temp.hook('BOOKING_CANCELLED', 2, 'cal-1', 8832, 1), 'key of b');
-- once known, the booking says whose it is
SELECT pg_temp.take(pg_temp.hook('BOOKING_CANCELLED', 2, 'cal-2', 8831, 1));
-- the branch, if only one has the event type
SELECT pg_temp.take(pg_temp.hook('BOOKING_REQUESTED', 1, 'cal-6', 8835, 2));
SELECT pg_temp.take(pg_temp.hook('BOOKING_CREATED', 1, 'cal-7', 8834, 2));

-- a booking made elsewhere takes its slot, and gives it up
BEGIN;
SELECT tenantcall.enter(:a, 8301);
SELECT a.uid, a.status, a.elsewhere, a.customer, h.state, h.reason FROM telephony.appointments AS a JOIN telephony.slot_holds AS h USING (hold_id)
WHERE a.uid = 'cal-1';
\set VERBOSITY sqlstate
SAVEPOINT s;
SELECT tenantcall.hold_slot(8301, '2050-06-01 10:00', NULL);
ROLLBACK TO s;
\set VERBOSITY terse
-- one that is held already by a caller: the booking stands all the same, and so does the hold
SELECT tenantcall.hold_slot(8301, '2050-06-03 10:00', NULL) > 0 AS held;
COMMIT;
SELECT pg_temp.take(pg_temp.hook('BOOKING_CREATED', 1, 'cal-8', 8831, 3));
BEGIN;
SELECT tenantcall.enter(:a, 8301);
SELECT state, seat, reason FROM telephony.slot_holds WHERE starts_at = '2050-06-03 10:00' ORDER BY seat;
COMMIT;

-- the same again, byte for byte, and told anew: nothing changes
SELECT pg_temp.take(pg_temp.hook('BOOKING_CREATED', 1, 'cal-1', 8831, 1));
SELECT pg_temp.take(pg_temp.hook('BOOKING_CREATED', 3, 'cal-1', 8831, 1));
SELECT pg_temp.take(pg_temp.hook('BOOKING_PAID', 3, 'cal-1', 8831, 1));
-- at another time, if it is newer
SELECT pg_temp.take(pg_temp.hook('BOOKING_RESCHEDULED', 2, 'cal-1', 8831, 28));
SELECT pg_temp.take(pg_temp.hook('BOOKING_RESCHEDULED', 4, 'cal-1', 8831, 4));
-- moved: a new uid, the old booking gives way
SELECT pg_temp.take(pg_temp.hook('BOOKING_RESCHEDULED', 5, 'cal-1b', 8831, 5, '{"rescheduleUid": "cal-1"}'));
SELECT pg_temp.take(pg_temp.hook('BOOKING_RESCHEDULED', 6, 'cal-1b', 8831, 5, '{"rescheduleUid": "cal-1"}'));
SELECT pg_temp.take(pg_temp.hook('BOOKING_NO_SHOW_UPDATED', 7, NULL, NULL, 5, '{"bookingUid": "cal-1b", "attendees": [{"email": "guest@example.com", "noShow": true}]}'));
SELECT pg_temp.take(pg_temp.hook('BOOKING_CANCELLED', 8, 'cal-1b', 8831, 5));
SELECT pg_temp.take(pg_temp.hook('BOOKING_CANCELLED', 9, 'cal-1b', 8831, 5));
SELECT pg_temp.take(pg_temp.hook('BOOKING_NO_SHOW_UPDATED', 7, NULL, NULL, 5, '{"bookingUid": "cal-unknown", "attendees": []}'));
SELECT pg_temp.take(pg_temp.hook('SOMETHING_NEW', 7, 'cal-1b', 8831, 5)), pg_temp.take('{"triggerEvent": "MEETING_STARTED", "uid": "cal-1b", "createdAt": "2026-01-01T00:00:00Z"}');
-- backwards: moved and cancelled before it was made
SELECT pg_temp.take(pg_temp.hook('BOOKING_CANCELLED', 3, 'cal-9b', 8831, 7));
SELECT pg_temp.take(pg_temp.hook('BOOKING_RESCHEDULED', 2, 'cal-9b', 8831, 7, '{"rescheduleUid": "cal-9", "rescheduleStartTime": "2050-06-06T10:00:00Z", "rescheduleEndTime": "2050-06-06T10:30:00Z"}'));
SELECT pg_temp.take(pg_temp.hook('BOOKING_CREATED', 1, 'cal-9', 8831, 6));
SELECT pg_temp.take(pg_temp.hook('BOOKING_RESCHEDULED', 2, 'cal-10b', 8831, 9, '{"rescheduleUid": "cal-10", "rescheduleStartTime": "2050-06-08T10:00:00Z", "rescheduleEndTime": "2050-06-08T10:30:00Z"}'));
SELECT pg_temp.take(pg_temp.hook('BOOKING_CREATED', 1, 'cal-10', 8831, 8));
BEGIN;
SELECT tenantcall.enter(:a);
SELECT a.uid, a.status, to_char(a.starts_at, 'DD') AS day, f.uid AS from, a.no_show, a.reason, h.state
FROM telephony.appointments AS a LEFT JOIN telephony.appointments AS f ON f.appointment_id = a.rescheduled_from
LEFT JOIN telephony.slot_holds AS h ON h.hold_id = a.hold_id ORDER BY a.uid COLLATE "C";
COMMIT;

-- the company's own key says whose it is, but not what it is about; an event type that the company has not is another's
SELECT t.trigger, pg_temp.take(pg_temp.hook(t.trigger, 11, t.uid, t.event_type, 12, t.more), 'key of b') AS taken
FROM (VALUES ('BOOKING_CREATED', NULL, 8832, '{}'::jsonb), ('BOOKING_CREATED', 'cal-u1', 7777, '{}'),
             ('BOOKING_CANCELLED', NULL, 8832, '{}'), ('BOOKING_CANCELLED', 'cal-u2', 7777, '{}'), ('BOOKING_REJECTED', 'cal-u3', 7777, '{}'),
             ('BOOKING_RESCHEDULED', NULL, 8832, '{}'), ('BOOKING_RESCHEDULED', 'cal-u4', 7777, '{"rescheduleUid": "cal-u0"}'),
             ('BOOKING_NO_SHOW_UPDATED', NULL, NULL, '{"bookingUid": "cal-u5"}'), ('BOOKING_PAID', 'cal-u6', 8832, '{}'),
             ('BOOKING_CREATED', 'cal-u7', 8832, '{"startTime": null}'), ('BOOKING_CANCELLED', 'cal-u8', 8832, '{"startTime": null}')) AS t (trigger, uid, event_type, more);
-- no time of making: the bytes tell one message from another
SELECT pg_temp.take('{"triggerEvent": "BOOKING_CREATED", "payload": {"uid": "cal-u9", "eventTypeId": 8832, "startTime": "2050-06-13T10:00:00Z", "length": 45}}', 'key of b')
FROM generate_series(1, 2);
-- moved without saying until when, or when at all: as long as before, and when it was
SELECT pg_temp.take(pg_temp.hook('BOOKING_RESCHEDULED', 12, 'cal-u9b', 8832, 14, '{"rescheduleUid": "cal-u9", "endTime": null}'), 'key of b');
SELECT pg_temp.take(pg_temp.hook('BOOKING_RESCHEDULED', 13, 'cal-u9c', 8832, 14, '{"rescheduleUid": "cal-u9b", "startTime": null, "endTime": null}'), 'key of b');
BEGIN;
SELECT tenantcall.enter(:b);
SELECT uid, status, starts_at, ends_at - starts_at AS length FROM telephony.appointments WHERE uid LIKE 'cal-u%' ORDER BY uid COLLATE "C";
COMMIT;

-- our own orders: the echo confirms what is on its way, and orders nothing
BEGIN;
SELECT tenantcall.enter(:a, 8301);
SELECT tenantcall.book(tenantcall.hold_slot(8301, '2050-06-20 10:00', NULL), '{"name": "Anna", "phone": "+4930123456"}') AS own \gset
SELECT idempotency_key AS key FROM telephony.outbox WHERE appointment_id = :own \gset
COMMIT;
SELECT pg_temp.take(pg_temp.hook('BOOKING_CREATED', 1, 'cal-20', 8831, 20, jsonb_build_object('metadata', jsonb_build_object('tenantcall', :'key'))));
BEGIN;
SELECT tenantcall.enter(:a, 8301);
SELECT * FROM tenantcall.booking_result(:own, '60 s');
SELECT tenantcall.reschedule_booking(:own, tenantcall.hold_slot(8301, '2050-06-21 10:00', NULL)) AS moved \gset
SELECT count(*) AS orders FROM telephony.outbox;
COMMIT;
SELECT pg_temp.take(pg_temp.hook('BOOKING_RESCHEDULED', 2, 'cal-21', 8831, 21, '{"rescheduleUid": "cal-20"}'));
BEGIN;
SELECT tenantcall.enter(:a, 8301);
SELECT appointment_id = :moved AS new, uid, status, elsewhere FROM telephony.appointments WHERE appointment_id IN (:own, :moved) ORDER BY appointment_id;
SELECT tenantcall.cancel_booking(:moved, 'ill');
COMMIT;
SELECT pg_temp.take(pg_temp.hook('BOOKING_CANCELLED', 3, 'cal-21', 8831, 21));
BEGIN;
SELECT tenantcall.enter(:a, 8301);
SELECT * FROM tenantcall.booking_result(:moved, '60 s');
SELECT kind, state FROM telephony.outbox ORDER BY outbox_id;
COMMIT;

-- what was quarantined is taken in when its company is known
RESET ROLE;
SELECT event, provider_call_id, outcome, reason, deliveries, verified_for = :b AS key_of_b FROM tenantcall.quarantined WHERE provider = 'calcom' ORDER BY quarantine_id;
BEGIN;
SELECT tenantcall.enter(:a);
INSERT INTO telephony.services (service_id, name, calcom_event_type_id) VALUES (8309, 'later', 9999);
COMMIT;
SELECT r.outcome, r.reason, r.company_id = :a AS a, q.provider_call_id FROM tenantcall.replay_quarantined() AS r JOIN tenantcall.quarantined AS q USING (quarantine_id)
WHERE q.provider = 'calcom' ORDER BY quarantine_id;
-- many in one statement, and one bad one among them
SET ROLE regress_tc_calcom_gateway;
SELECT i.outcome, i.reason FROM (VALUES (pg_temp.hook('BOOKING_CREATED', 1, 'cal-30', 8831, 22)), ('{'), (pg_temp.hook('BOOKING_CREATED', 1, 'cal-31', 8832, 22))) AS v (body),
    tenantcall.ingest_calcom(v.body, encode(public.hmac(v.body::bytea, 'key of the account'::bytea, 'sha256'), 'hex')) AS i;
SELECT tenantcall.current_company_id();

RESET ROLE;
DELETE FROM tenantcall.quarantine WHERE provider = 'calcom';
SELECT tenantcall.drop_webhook_key('calcom', 'regress-account'), tenantcall.drop_webhook_key('calcom', 'regress-b');
SELECT tenantcall.revoke_role('regress_tc_calcom_gateway'), tenantcall.revoke_role('regress_tc_calcom_admin');
REVOKE ALL ON SCHEMA :temp_schema FROM regress_tc_calcom_gateway;
DROP ROLE regress_tc_calcom_gateway, regress_tc_calcom_admin;
