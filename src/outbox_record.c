/*
 * outbox_record.c
 *		The worker writes what came of an order.
 *
 *		outcome --> outbox_due (fence: the attempt), appointment, hold, outbox --commit--> sleepers
 *
 * Fenced by the attempt's number: when the lease had expired and somebody claimed the order again,
 * what the older attempt has to say comes too late and is dropped; the newer one has asked, or will
 * ask, the calendar.
 *
 * What the calendar answered counts for the appointment only as far as it is still open: a webhook
 * may have been faster.
 *
 * Locks, in this order: rows of outbox_due, appointments (by id), slot_holds, outbox.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "act.h"
#include "appointments.h"
#include "directory.h"
#include "lifecycle.h"
#include "node.h"
#include "outbox.h"
#include "outbox_claim.h"

static TcStatement lock_due = {
	.sql = "SELECT 1 FROM @@.outbox_due WHERE company_id = $1 AND outbox_id = $2 "
		   "AND attempt = $3 FOR UPDATE SKIP LOCKED",
	.nparams = 3,
	.types = {INT8OID, INT8OID, INT4OID},
};
static TcStatement find_due = {
	.sql = "SELECT 1 FROM @@.outbox_due WHERE company_id = $1 AND outbox_id = $2 "
		   "AND attempt = $3",
	.nparams = 3,
	.types = {INT8OID, INT8OID, INT4OID},
};
static TcStatement delete_due = {
	.sql = "DELETE FROM @@.outbox_due WHERE company_id = $1 AND outbox_id = $2",
	.nparams = 2,
	.types = {INT8OID, INT8OID},
};
static TcStatement update_due = {
	.sql = "UPDATE @@.outbox_due SET state = $3, lease_until = NULL, due_at = CASE $3 "
		   "WHEN 'dead' THEN 'infinity' ELSE clock_timestamp() + make_interval(secs => $4) END "
		   "WHERE company_id = $1 AND outbox_id = $2",
	.nparams = 4,
	.types = {INT8OID, INT8OID, TEXTOID, FLOAT8OID},
};
static TcStatement finish_order = {
	.sql = "UPDATE @.outbox SET state = $3, http_status = coalesce($4, http_status), error = $5, "
		   "request = NULL, refusal = NULL, due_at = NULL, lease_until = NULL, "
		   "finished_at = clock_timestamp() WHERE company_id = $1 AND outbox_id = $2",
	.nparams = 5,
	.types = {INT8OID, INT8OID, TEXTOID, INT4OID, TEXTOID},
};
static TcStatement postpone_order = {
	.sql = "UPDATE @.outbox SET state = $3, http_status = coalesce($4, http_status), error = $5, "
		   "due_at = CASE $3 WHEN 'dead' THEN NULL "
		   "ELSE clock_timestamp() + make_interval(secs => $6) END, lease_until = NULL, "
		   "sent_at = CASE WHEN $7 THEN NULL ELSE sent_at END, "
		   "refusal = CASE WHEN $8 THEN $5 WHEN $3 = 'queued' THEN NULL ELSE refusal END "
		   "WHERE company_id = $1 AND outbox_id = $2",
	.nparams = 8,
	.types = {INT8OID, INT8OID, TEXTOID, INT4OID, TEXTOID, FLOAT8OID, BOOLOID, BOOLOID},
};
static TcStatement read_refusal = {
	.sql = "SELECT refusal FROM @.outbox WHERE company_id = $1 AND outbox_id = $2",
	.nparams = 2,
	.types = {INT8OID, INT8OID},
};
static TcStatement find_waiting = {
	.sql = "UPDATE @.outbox SET state = 'queued', due_at = clock_timestamp() "
		   "WHERE company_id = $1 AND appointment_id = $2 AND state = 'waiting' "
		   "RETURNING outbox_id",
	.nparams = 2,
	.types = {INT8OID, INT8OID},
};

/* Starts parameters that begin with the order's key. */
static void
param_order(TcParams *params, const TcFlight *flight)
{
	memset(params, 0, sizeof(*params));
	tc_param_int8(params, flight->company_id);
	tc_param_int8(params, flight->outbox_id);
}

/* Executes a statement on outbox_due. */
static uint64
execute_due(TcStatement *statement, const TcParams *params)
{
	uint64 count;
	TcAct act;

	tc_act_begin(&act, TC_AS_SYSTEM, NULL);
	count = tc_execute(statement, params);
	tc_act_end(&act);
	return count;
}

/*
 * Is the order still this attempt's?  Then its row is locked.  *busy: it is, but somebody else has
 * the lock, perhaps for long; the worker, which works for all companies, does not wait for it.
 */
static bool
lock_attempt(const TcFlight *flight, bool *busy)
{
	TcParams params;
	bool locked;

	param_order(&params, flight);
	tc_param_datum(&params, Int32GetDatum(flight->attempt), false);
	locked = execute_due(&lock_due, &params) > 0;
	*busy = !locked && execute_due(&find_due, &params) > 0;
	return locked;
}

/* Is the appointment still open to what the calendar answers to its order? */
static bool
is_open(const TcAppointment *row)
{
	return strcmp(row->status, "pending") == 0 || strcmp(row->status, "unknown") == 0;
}

/* Another row of ours with the same uid: a webhook made it, before it was known whose it was. */
static void
absorb_double(const TcAppointment *row, const char *uid)
{
	TcAppointment other;

	if (!tc_appointment_lock_uid(row->company_id, uid, &other) ||
		other.appointment_id == row->appointment_id)
		return;
	tc_appointment_rename(&other, NULL);
	if (!tc_appointment_over(other.status))
		tc_appointment_move(&other, "cancelled", NULL,
							psprintf("the same as appointment " INT64_FORMAT, row->appointment_id));
}

/* A booking was made. */
static void
record_booked(const TcFlight *flight, TcAppointment *old, TcAppointment *row,
			  const TcOutcome *outcome)
{
	if (outcome->uid != NULL && row->uid == NULL)
		absorb_double(row, outcome->uid);
	tc_appointment_move(row, is_open(row) ? "confirmed" : NULL,
						row->uid == NULL ? outcome->uid : NULL, NULL);
	if (flight->kind == TC_ORDER_RESCHEDULE && old->appointment_id != 0 &&
		!tc_appointment_over(old->status))
		tc_appointment_move(old, "rescheduled", NULL, NULL);
}

/* It was refused, or is gone. */
static void
record_refused(TcAppointment *row, const TcOutcome *outcome, const char *reason)
{
	const char *became = outcome->became;

	if (became == NULL)
		became = strcmp(row->status, "cancelling") == 0 ? "cancelled" : "refused";
	if (is_open(row) || strcmp(row->status, "cancelling") == 0)
		tc_appointment_move(row, became, outcome->uid, reason);
}

/* What the outcome means for the appointment. */
static void
move_appointment(const TcFlight *flight, const TcOutcome *outcome, const char *reason)
{
	TcAppointment old = {0};
	TcAppointment row;

	if (!tc_appointment_lock_with_origin(flight->company_id, flight->appointment_id, &row, &old))
		return;
	if (flight->kind == TC_ORDER_CANCEL)
	{
		bool open = strcmp(row.status, "cancelling") == 0;

		if (open && outcome->next == TC_NEXT_DONE)
			tc_appointment_move(&row, "cancelled", NULL, row.reason);
		else if (open && outcome->next == TC_NEXT_REFUSED)
			tc_appointment_move(&row, "confirmed", NULL,
								psprintf("not cancelled: %s", reason != NULL ? reason : "refused"));
	}
	else if (outcome->next == TC_NEXT_DONE)
		record_booked(flight, &old, &row, outcome);
	else if (outcome->next == TC_NEXT_REFUSED)
		record_refused(&row, outcome, reason);
	else if (outcome->next == TC_NEXT_DEAD)
		tc_appointment_move(&row, NULL, NULL,
							psprintf("given up after %d attempts: %s", flight->attempt,
									 reason != NULL ? reason : "no answer"));
	else if (is_open(&row))
		tc_appointment_move(&row, outcome->next == TC_NEXT_LOOK ? "unknown" : "pending", NULL,
							reason);
}

/* Ends the order, and lets the one go that waits for it. */
static void
finish_row(const TcFlight *flight, const TcOutcome *outcome, const char *reason)
{
	TcParams params;
	int64 waiting = 0;

	param_order(&params, flight);
	(void) execute_due(&delete_due, &params);
	tc_param_text(&params, outcome->next == TC_NEXT_DONE ? "done" : "refused");
	tc_param_datum(&params, Int32GetDatum(outcome->http_status), outcome->http_status == 0);
	tc_param_text(&params, reason);
	tc_execute(&finish_order, &params);
	memset(&params, 0, sizeof(params));
	tc_param_int8(&params, flight->company_id);
	tc_param_int8(&params, flight->appointment_id);
	if (tc_execute(&find_waiting, &params) > 0)
		waiting = tc_result_int8(1);
	if (waiting == 0)
		return;
	memset(&params, 0, sizeof(params));
	tc_param_int8(&params, flight->company_id);
	tc_param_int8(&params, waiting);
	tc_param_text(&params, "queued");
	tc_param_datum(&params, Float8GetDatum(0), false);
	(void) execute_due(&update_due, &params);
}

/* Keeps the order for another attempt, or as dead. */
static void
postpone_row(const TcFlight *flight, const TcOutcome *outcome)
{
	const char *state = outcome->next == TC_NEXT_SEND	? "queued"
						: outcome->next == TC_NEXT_LOOK ? "reconcile"
														: "dead";
	Datum delay = Float8GetDatum((double) outcome->delay_ms / 1000.0);
	TcParams params;

	param_order(&params, flight);
	tc_param_text(&params, state);
	tc_param_datum(&params, delay, false);
	(void) execute_due(&update_due, &params);
	param_order(&params, flight);
	tc_param_text(&params, state);
	tc_param_datum(&params, Int32GetDatum(outcome->http_status), outcome->http_status == 0);
	tc_param_text(&params, outcome->reason);
	tc_param_datum(&params, delay, false);
	tc_param_datum(&params, BoolGetDatum(outcome->not_sent && !flight->sent_before), false);
	tc_param_datum(&params, BoolGetDatum(outcome->refusal), false);
	tc_execute(&postpone_order, &params);
}

/* Why, in the calendar's words: those of a refusal that was looked into come first. */
static const char *
find_reason(const TcFlight *flight, const TcOutcome *outcome)
{
	TcParams params;
	char *refusal = NULL;

	param_order(&params, flight);
	if (outcome->next == TC_NEXT_REFUSED && tc_execute(&read_refusal, &params) > 0)
		refusal = tc_result_text(1);
	return refusal != NULL ? refusal : outcome->reason;
}

/* Writes the outcome. */
bool
tc_outbox_record(const TcFlight *flight, const TcOutcome *outcome)
{
	TcContext tenant = {.company_id = flight->company_id};
	const char *reason;
	bool busy;
	TcAct act;

	if (!tc_directory_fill(&tenant))
		return true;
	if (unlikely(tc_node_citus) && !tc_node_here(tenant.company_id))
		return tc_outbox_record_elsewhere(flight, outcome);
	tc_act_begin(&act, TC_AS_OWNER, &tenant);
	tc_lifecycle_set_event("outbox");
	if (lock_attempt(flight, &busy))
	{
		reason = find_reason(flight, outcome);
		move_appointment(flight, outcome, reason);
		if (outcome->next == TC_NEXT_DONE || outcome->next == TC_NEXT_REFUSED)
			finish_row(flight, outcome, reason);
		else
			postpone_row(flight, outcome);
	}
	else if (!busy)
		ereport(LOG, (errmsg("tenantcall: attempt %d of order " INT64_FORMAT
							 " came back after its lease had expired",
							 flight->attempt, flight->outbox_id)));
	tc_act_end(&act);
	return !busy;
}
