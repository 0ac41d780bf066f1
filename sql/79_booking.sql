-- 79_booking.sql: holding slots, booking them, and what the calendar says of it

CREATE FUNCTION tenantcall.hold_slot(service_id bigint, starts_at timestamptz, call_id bigint) RETURNS bigint
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_hold_slot';
COMMENT ON FUNCTION tenantcall.hold_slot(bigint, timestamptz, bigint) IS 'holds a slot of the entered branch for a call (NULL: for no call), and returns its hold_id; PT409 if it is taken';
REVOKE ALL ON FUNCTION tenantcall.hold_slot(bigint, timestamptz, bigint) FROM PUBLIC;

CREATE FUNCTION tenantcall.release_hold(hold_id bigint) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_release_hold';
COMMENT ON FUNCTION tenantcall.release_hold(bigint) IS 'gives a held slot back';
REVOKE ALL ON FUNCTION tenantcall.release_hold(bigint) FROM PUBLIC;

CREATE FUNCTION tenantcall.expire_holds(max_rows integer DEFAULT 10000) RETURNS bigint
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_expire_holds';
COMMENT ON FUNCTION tenantcall.expire_holds(integer) IS 'marks holds that were held for too long as expired, at most so many; of the entered company, else of all; returns how many';
REVOKE ALL ON FUNCTION tenantcall.expire_holds(integer) FROM PUBLIC;

CREATE FUNCTION tenantcall.book(hold_id bigint, customer jsonb) RETURNS bigint
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_book';
COMMENT ON FUNCTION tenantcall.book(bigint, jsonb) IS 'makes an appointment of a hold, to be booked in the calendar after the commit; returns its appointment_id; the same hold again, the same appointment';
REVOKE ALL ON FUNCTION tenantcall.book(bigint, jsonb) FROM PUBLIC;

CREATE FUNCTION tenantcall.booking_result(appointment_id bigint, max_wait interval DEFAULT '5 s')
    RETURNS TABLE (status text, uid text, reason text)
    LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1 AS 'MODULE_PATHNAME', 'tc_booking_result';
COMMENT ON FUNCTION tenantcall.booking_result(bigint, interval) IS 'what became of an appointment; waits for the calendar''s answer, at most so long';
REVOKE ALL ON FUNCTION tenantcall.booking_result(bigint, interval) FROM PUBLIC;

CREATE FUNCTION tenantcall.cancel_booking(appointment_id bigint, reason text DEFAULT NULL) RETURNS text
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_cancel_booking';
COMMENT ON FUNCTION tenantcall.cancel_booking(bigint, text) IS 'cancels an appointment, and returns its status: cancelled, or cancelling until the calendar has answered';
REVOKE ALL ON FUNCTION tenantcall.cancel_booking(bigint, text) FROM PUBLIC;

CREATE FUNCTION tenantcall.reschedule_booking(appointment_id bigint, hold_id bigint) RETURNS bigint
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_reschedule_booking';
COMMENT ON FUNCTION tenantcall.reschedule_booking(bigint, bigint) IS 'moves a confirmed appointment to a hold, and returns the appointment_id of the new one, which takes its place once the calendar has confirmed it';
REVOKE ALL ON FUNCTION tenantcall.reschedule_booking(bigint, bigint) FROM PUBLIC;
