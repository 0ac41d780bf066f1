/*
 * calcom_apply.c
 *		What a calendar tells of its bookings, applied to the appointments of a company.
 *
 *		created			our own order's echo --> confirmed; else made elsewhere --> new row, and a
 *seat rescheduled		old row rescheduled, new row with the new uid; or the echo of our own move
 *		cancelled		row cancelled, seat given up
 *		no-show			noted
 *		all else		kept raw
 *
 * Nothing here orders anything from the calendar, so there is no loop.
 *
 * Each message is stored once (calendar_events), a second delivery changes nothing.  Messages may
 * come in any order: one that speaks of a booking that is not known yet leaves a row that is over
 * already, and a later message of its making finds that.
 *
 * Locks: rows of calendar_events, appointments (the older booking first), slot_holds.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "act.h"
#include "appointments.h"
#include "calcom_elsewhere.h"
#include "calcom_ingest.h"
#include "codec_core.h"
#include "key.h"
#include "lifecycle.h"
#include "time_core.h"
#include "unix_time.h"

static TcStatement store_event = {
	.sql = "INSERT INTO @.calendar_events AS e (company_id, event_key, trigger, uid, created_at, "
		   "received_at, body, outcome) VALUES ($1, $2, $3, $4, $5, $6, $7, 'applied') "
		   "ON CONFLICT (company_id, event_key) DO UPDATE SET deliveries = e.deliveries + 1 "
		   "RETURNING deliveries, appointment_id",
	.nparams = 7,
	.types = {INT8OID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID},
};
static TcStatement note_outcome = {
	.sql = "UPDATE @.calendar_events SET appointment_id = $3, outcome = $4 "
		   "WHERE company_id = $1 AND event_key = $2",
	.nparams = 4,
	.types = {INT8OID, TEXTOID, INT8OID, TEXTOID},
};
static TcStatement forget_event = {
	.sql = "DELETE FROM @.calendar_events WHERE company_id = $1 AND event_key = $2",
	.nparams = 2,
	.types = {INT8OID, TEXTOID},
};
static TcStatement find_order = {
	.sql = "SELECT appointment_id FROM @.outbox WHERE company_id = $1 AND idempotency_key = $2",
	.nparams = 2,
	.types = {INT8OID, TEXTOID},
};
static TcStatement find_move = {
	.sql = "SELECT appointment_id FROM @.appointments WHERE company_id = $1 "
		   "AND rescheduled_from = $2 AND uid IS NULL AND starts_at = $3 "
		   "AND status IN ('pending', 'unknown', 'cancelling') ORDER BY appointment_id LIMIT 1",
	.nparams = 3,
	.types = {INT8OID, INT8OID, TIMESTAMPTZOID},
};
static TcStatement note_origin = {
	.sql = "UPDATE @.appointments SET rescheduled_from = $3 WHERE company_id = $1 "
		   "AND appointment_id = $2 AND rescheduled_from IS NULL",
	.nparams = 3,
	.types = {INT8OID, INT8OID, INT8OID},
};
static TcStatement read_no_show = {
	.sql = "SELECT jsonb_path_exists($1::jsonb, '$.payload.attendees[*].noShow ? (@ == true)')",
	.nparams = 1,
	.types = {TEXTOID},
};

/* What is being applied. */
typedef struct Apply
{
	const TcTold *told;
	const TcCalcomWebhook *webhook;
	int64 company_id;
	TcToldResult *result;
	TimestampTz told_at; /* 0: the calendar did not say */
} Apply;

/* What is the same in all deliveries of a message. */
static char *
event_key(const TcTold *told)
{
	const TcCalcomWebhook *webhook = &told->webhook;
	uint8 digest[TC_HMAC_LEN];
	char hex[2 * TC_HMAC_LEN + 1] = {0};

	if (webhook->uid[0] != '\0' && webhook->created_at != TC_TIME_NONE)
		return psprintf("%s/%s/" INT64_FORMAT, webhook->uid, webhook->trigger_name,
						(int64) webhook->created_at);
	tc_sha256(TC_BYTES(told->body, told->len), TC_NO_BYTES, digest);
	tc_hex_encode(digest, sizeof(digest), hex);
	return psprintf("sha256:%s", hex);
}

/* Stores the message; false if it was there already. */
static bool
store(const Apply *apply, const char *key)
{
	TcParams params = {0};
	bool isnull;

	tc_param_int8(&params, apply->company_id);
	tc_param_text(&params, key);
	tc_param_text(&params, apply->webhook->trigger_name);
	tc_param_text(&params, apply->webhook->uid[0] != '\0' ? apply->webhook->uid : NULL);
	tc_param_datum(&params, TimestampTzGetDatum(apply->told_at), apply->told_at == 0);
	tc_param_datum(&params, TimestampTzGetDatum(apply->told->received_at), false);
	tc_param_datum(&params, tc_told_body(apply->told), false);
	tc_execute(&store_event, &params);
	apply->result->appointment_id = tc_result_int8(2);
	return DatumGetInt32(tc_result_datum(1, &isnull)) == 1;
}

/* Sets the outcome, and whose it is. */
static void
conclude(const Apply *apply, const TcAppointment *row, const char *outcome, const char *reason)
{
	TcToldResult *result = apply->result;

	result->outcome = outcome;
	result->reason = reason;
	if (row == NULL)
		return;
	result->appointment_id = row->appointment_id;
	result->branch_id = row->branch_id;
	result->status = row->status;
}

/* The row that the webhook speaks of: by uid, else by our own mark; locked. */
static bool
find_row(const Apply *apply, TcAppointment *row)
{
	const TcCalcomWebhook *webhook = apply->webhook;
	TcParams params = {0};

	if (webhook->uid[0] != '\0' && tc_appointment_lock_uid(apply->company_id, webhook->uid, row))
		return true;
	if (webhook->mark[0] == '\0')
		return false;
	tc_param_int8(&params, apply->company_id);
	tc_param_text(&params, webhook->mark);
	return tc_execute(&find_order, &params) > 0 &&
		   tc_appointment_lock(apply->company_id, tc_result_int8(1), row) &&
		   (row->uid == NULL || strcmp(row->uid, webhook->uid) == 0); /* learnt while we waited */
}

/* A row for a booking that is over, for whatever may still come of it; or a reason why not. */
static void
insert_over(const Apply *apply, const char *uid, const char *status)
{
	TcAppointment row;

	if (!tc_elsewhere_fill(apply->told, &row, apply->company_id))
	{
		conclude(apply, NULL, "quarantined", "booking_unknown");
		return;
	}
	tc_elsewhere_insert(&row, uid, status);
	conclude(apply, &row, "applied", NULL);
}

/* Is the webhook newer than what the row knows? */
static bool
is_news(const Apply *apply, const TcAppointment *row)
{
	return apply->told_at != 0 && apply->told_at > row->told_at;
}

/* A booking that we know was made, or stands. */
static void
apply_known(const Apply *apply, TcAppointment *row)
{
	TimestampTz starts_at = tc_told_time(apply->webhook->start);
	TimestampTz ends_at = tc_told_time(apply->webhook->end);
	bool waits = strcmp(row->status, "pending") == 0 || strcmp(row->status, "unknown") == 0;
	bool moved = starts_at != 0 && ends_at > starts_at && starts_at != row->starts_at &&
				 is_news(apply, row) && !tc_appointment_over(row->status);

	if (strcmp(row->status, "refused") == 0)
	{
		conclude(apply, row, "conflict", "was_refused");
		return;
	}
	if (waits || row->uid == NULL)
		tc_appointment_move(row, waits ? "confirmed" : NULL, apply->webhook->uid, NULL);
	if (moved)
		tc_appointment_shift(row, starts_at, ends_at);
	tc_appointment_told(row, apply->told_at, -1);
	conclude(apply, row, moved ? "applied" : "merged", moved ? "moved" : NULL);
}

/* BOOKING_CREATED, BOOKING_REQUESTED */
static void
apply_created(const Apply *apply)
{
	TcAppointment row;

	if (apply->webhook->uid[0] == '\0')
		conclude(apply, NULL, "quarantined", "no_uid");
	else if (find_row(apply, &row))
		apply_known(apply, &row);
	else if (!tc_elsewhere_fill(apply->told, &row, apply->company_id))
		conclude(apply, NULL, "quarantined", "event_type_unknown");
	else
	{
		tc_elsewhere_fill_customer(apply->told, &row);
		tc_elsewhere_insert(&row, apply->webhook->uid, "confirmed");
		conclude(apply, &row, "applied", NULL);
	}
}

/* Our own move, if one of this booking to that time is under way. */
static bool
find_own_move(const Apply *apply, const TcAppointment *old, TcAppointment *row)
{
	TimestampTz starts_at = tc_told_time(apply->webhook->start);
	TcParams params = {0};

	tc_param_int8(&params, apply->company_id);
	tc_param_int8(&params, old->appointment_id);
	tc_param_datum(&params, TimestampTzGetDatum(starts_at), starts_at == 0);
	return tc_execute(&find_move, &params) > 0 &&
		   tc_appointment_lock(apply->company_id, tc_result_int8(1), row);
}

/* A booking of ours was moved in the calendar: the old row gives way to a new one. */
static void
replace(const Apply *apply, TcAppointment *old)
{
	TcAppointment row = *old;

	if (!tc_appointment_over(old->status))
		tc_appointment_move(old, "rescheduled", NULL, "moved in the calendar");
	row.starts_at = tc_told_time(apply->webhook->start);
	row.ends_at = tc_told_time(apply->webhook->end);
	if (row.starts_at == 0)
		row.starts_at = old->starts_at;
	if (row.ends_at <= row.starts_at)
		row.ends_at = row.starts_at + (old->ends_at - old->starts_at);
	row.rescheduled_from = old->appointment_id;
	row.told_at = apply->told_at;
	row.elsewhere = true;
	tc_elsewhere_insert(&row, apply->webhook->uid, "confirmed");
	conclude(apply, &row, "applied", NULL);
}

/* The row of a booking that we do not know and that was replaced; false if it is not ours. */
static bool
insert_replaced(const Apply *apply, TcAppointment *old)
{
	const TcCalcomWebhook *webhook = apply->webhook;

	if (!tc_elsewhere_fill(apply->told, old, apply->company_id))
		return false;
	if (webhook->reschedule_start != TC_TIME_NONE && webhook->reschedule_end != TC_TIME_NONE &&
		webhook->reschedule_end > webhook->reschedule_start)
	{
		old->starts_at = tc_told_time(webhook->reschedule_start);
		old->ends_at = tc_told_time(webhook->reschedule_end);
	}
	tc_elsewhere_fill_customer(apply->told, old);
	tc_elsewhere_insert(old, webhook->reschedule_uid, "rescheduled");
	return true;
}

/* Both bookings are known, or were made known now: notes that one has replaced the other. */
static void
link_replaced(const Apply *apply, TcAppointment *old, TcAppointment *row)
{
	TcParams params = {0};

	if (!tc_appointment_over(old->status))
		tc_appointment_move(old, "rescheduled", NULL, NULL);
	tc_param_int8(&params, apply->company_id);
	tc_param_int8(&params, row->appointment_id);
	tc_param_int8(&params, old->appointment_id);
	tc_execute(&note_origin, &params);
	apply_known(apply, row);
}

/* BOOKING_RESCHEDULED */
static void
apply_rescheduled(const Apply *apply)
{
	const TcCalcomWebhook *webhook = apply->webhook;
	TcAppointment old;
	TcAppointment row;

	if (webhook->uid[0] == '\0')
	{
		conclude(apply, NULL, "quarantined", "no_uid");
		return;
	}
	if (webhook->reschedule_uid[0] == '\0' || strcmp(webhook->uid, webhook->reschedule_uid) == 0)
	{
		apply_created(apply); /* the same booking at another time */
		return;
	}
	if (!tc_appointment_lock_uid(apply->company_id, webhook->reschedule_uid, &old) &&
		!insert_replaced(apply, &old))
		conclude(apply, NULL, "quarantined", "event_type_unknown");
	else if (tc_appointment_lock_uid(apply->company_id, webhook->uid, &row) ||
			 find_own_move(apply, &old, &row))
		link_replaced(apply, &old, &row);
	else
		replace(apply, &old);
}

/* BOOKING_CANCELLED, BOOKING_REJECTED */
static void
apply_cancelled(const Apply *apply)
{
	bool rejected = apply->webhook->trigger == TC_CALCOM_BOOKING_REJECTED;
	TcAppointment row;
	bool expected;

	if (apply->webhook->uid[0] == '\0')
		conclude(apply, NULL, "quarantined", "no_uid");
	else if (!find_row(apply, &row))
		insert_over(apply, apply->webhook->uid, "cancelled");
	else if (tc_appointment_over(row.status))
		conclude(apply, &row, "merged", NULL);
	else
	{
		expected = strcmp(row.status, "cancelling") == 0;
		tc_appointment_move(&row, "cancelled", row.uid == NULL ? apply->webhook->uid : NULL,
							expected   ? row.reason
							: rejected ? "rejected by the organizer"
									   : "cancelled in the calendar");
		tc_appointment_told(&row, apply->told_at, -1);
		conclude(apply, &row, expected ? "merged" : "applied", NULL);
	}
}

/* BOOKING_NO_SHOW_UPDATED */
static void
apply_no_show(const Apply *apply)
{
	TcParams params = {0};
	TcAppointment row;
	bool isnull;
	bool no_show;

	if (!find_row(apply, &row))
	{
		conclude(apply, NULL, "quarantined", "booking_unknown");
		return;
	}
	tc_param_datum(&params, tc_told_body(apply->told), false);
	tc_execute(&read_no_show, &params);
	no_show = DatumGetBool(tc_result_datum(1, &isnull)) && !isnull;
	tc_appointment_told(&row, apply->told_at, no_show ? 1 : 0);
	conclude(apply, &row, "applied", no_show ? "no_show" : "showed");
}

/* All else: nothing changes. */
static void
apply_other(const Apply *apply)
{
	TcAppointment row;

	if (find_row(apply, &row))
		conclude(apply, &row, "merged", "kept");
	else
		conclude(apply, NULL, "quarantined", "booking_unknown");
}

/* Applies what the trigger says. */
static void
apply_trigger(const Apply *apply)
{
	switch (apply->webhook->trigger)
	{
		case TC_CALCOM_BOOKING_CREATED:
		case TC_CALCOM_BOOKING_REQUESTED:
			apply_created(apply);
			break;
		case TC_CALCOM_BOOKING_RESCHEDULED:
			apply_rescheduled(apply);
			break;
		case TC_CALCOM_BOOKING_CANCELLED:
		case TC_CALCOM_BOOKING_REJECTED:
			apply_cancelled(apply);
			break;
		case TC_CALCOM_BOOKING_NO_SHOW:
			apply_no_show(apply);
			break;
		default:
			apply_other(apply);
	}
}

/* Applies a webhook to the company that is being acted for. */
void
tc_calcom_apply(const TcTold *told, int64 company_id, TcToldResult *result)
{
	Apply apply = {.told = told,
				   .webhook = &told->webhook,
				   .company_id = company_id,
				   .result = result,
				   .told_at = tc_told_time(told->webhook.created_at)};
	char *key = event_key(told);
	TcParams params = {0};
	TcAppointment row;

	tc_lifecycle_set_event(pstrdup(told->webhook.trigger_name));
	if (!store(&apply, key))
	{
		bool known = result->appointment_id != 0 &&
					 tc_appointment_lock(company_id, result->appointment_id, &row);

		conclude(&apply, known ? &row : NULL, "duplicate", NULL);
		return;
	}
	result->appointment_id = 0;
	apply_trigger(&apply);
	tc_param_int8(&params, company_id);
	tc_param_text(&params, key);
	if (strcmp(result->outcome, "quarantined") == 0)
	{
		tc_execute(&forget_event, &params); /* the quarantine keeps it, to be replayed */
		return;
	}
	tc_param_int8(&params, result->appointment_id);
	tc_param_text(&params, result->outcome);
	tc_execute(&note_outcome, &params);
}
