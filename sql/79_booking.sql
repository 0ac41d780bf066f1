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

CREATE FUNCTION tenantcall.pause_outbox() RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_pause_outbox';
COMMENT ON FUNCTION tenantcall.pause_outbox() IS 'sends no more orders to calendars, until resume_outbox(); what is under way comes to its end';
REVOKE ALL ON FUNCTION tenantcall.pause_outbox() FROM PUBLIC;

CREATE FUNCTION tenantcall.resume_outbox() RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_resume_outbox';
COMMENT ON FUNCTION tenantcall.resume_outbox() IS 'sends orders to calendars again';
REVOKE ALL ON FUNCTION tenantcall.resume_outbox() FROM PUBLIC;

CREATE FUNCTION tenantcall.replay_outbox(company_id bigint DEFAULT NULL, max_rows integer DEFAULT 1000) RETURNS bigint
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_replay_outbox';
COMMENT ON FUNCTION tenantcall.replay_outbox(bigint, integer) IS 'gives orders that were given up another chance, of one company or of all; returns how many';
REVOKE ALL ON FUNCTION tenantcall.replay_outbox(bigint, integer) FROM PUBLIC;

CREATE FUNCTION tenantcall.outbox_counts()
    RETURNS TABLE (company_id bigint, credential text, queued bigint, sending bigint, unknown bigint, waiting bigint,
                   dead bigint, oldest_age interval, next_due timestamptz, paused boolean)
    LANGUAGE C STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_outbox_counts';
COMMENT ON FUNCTION tenantcall.outbox_counts() IS 'orders to calendars that are not finished, by company and credential; of the entered company, else of all';
REVOKE ALL ON FUNCTION tenantcall.outbox_counts() FROM PUBLIC;

CREATE VIEW tenantcall.stat_outbox AS SELECT * FROM tenantcall.outbox_counts();
COMMENT ON VIEW tenantcall.stat_outbox IS 'orders to calendars that are not finished, by company and credential; of the entered company, else of all';
COMMENT ON COLUMN tenantcall.stat_outbox.unknown IS 'sent, and whether the calendar acted is being found out';
COMMENT ON COLUMN tenantcall.stat_outbox.waiting IS 'for an earlier order of the same appointment';
COMMENT ON COLUMN tenantcall.stat_outbox.dead IS 'given up: see table outbox for the error, and tenantcall.replay_outbox()';
COMMENT ON COLUMN tenantcall.stat_outbox.oldest_age IS 'since the oldest that is not given up was ordered';
REVOKE ALL ON tenantcall.stat_outbox FROM PUBLIC;

CREATE FUNCTION tenantcall.ingest_calcom(body text, signature text, received_at timestamptz DEFAULT now())
    RETURNS TABLE (outcome text, reason text, company_id bigint, branch_id bigint, appointment_id bigint, status text)
    LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1 AS 'MODULE_PATHNAME', 'tc_ingest_calcom';
COMMENT ON FUNCTION tenantcall.ingest_calcom(text, text, timestamptz) IS 'takes in a webhook of the calendar: applied, duplicate, merged, conflict, quarantined or rejected';
REVOKE ALL ON FUNCTION tenantcall.ingest_calcom(text, text, timestamptz) FROM PUBLIC;

CREATE FUNCTION tenantcall.ingest_calcom(body bytea, signature text, received_at timestamptz DEFAULT now())
    RETURNS TABLE (outcome text, reason text, company_id bigint, branch_id bigint, appointment_id bigint, status text)
    LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1 AS 'MODULE_PATHNAME', 'tc_ingest_calcom';
COMMENT ON FUNCTION tenantcall.ingest_calcom(bytea, text, timestamptz) IS 'takes in a webhook of the calendar: applied, duplicate, merged, conflict, quarantined or rejected';
REVOKE ALL ON FUNCTION tenantcall.ingest_calcom(bytea, text, timestamptz) FROM PUBLIC;
