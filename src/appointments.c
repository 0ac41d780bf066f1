/*
 * appointments.c
 *		Appointments: their rows, and how they move.
 *
 *		booking.c (orders), outbox_record.c (what the calendar answered), calcom_ingest.c (what it
 *		told) --> tc_appointment_move() --> row, hold, slot cache, sleepers
 *
 * The lifecycle's trigger judges each move and keeps the audit trail.
 *
 * Locks: rows of appointments, in the order of their ids, then rows of slot_holds.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "act.h"
#include "appointments.h"
#include "booking_wait.h"
#include "holds.h"
#include "lifecycle.h"
#include "slot_generation.h"
#include "stat.h"

#define COLUMNS                                                                                    \
	"SELECT appointment_id, branch_id, service_id, hold_id, call_id, customer_id, "                \
	"rescheduled_from, credential, calcom_event_type_id, starts_at, ends_at, told_at, time_zone, " \
	"status, uid, customer, elsewhere, reason FROM @.appointments WHERE company_id = $1 "

static TcStatement lock_id = {
	.sql = COLUMNS "AND appointment_id = $2 FOR UPDATE",
	.nparams = 2,
	.types = {INT8OID, INT8OID},
};
static TcStatement lock_uid = {
	.sql = COLUMNS "AND uid = $2 FOR UPDATE",
	.nparams = 2,
	.types = {INT8OID, TEXTOID},
};
static TcStatement find_hold = {
	.sql = COLUMNS "AND hold_id = $2",
	.nparams = 2,
	.types = {INT8OID, INT8OID},
};
static TcStatement find_successor = {
	.sql = "SELECT appointment_id FROM @.appointments WHERE company_id = $1 "
		   "AND rescheduled_from = $2 AND status NOT IN ('refused', 'cancelled') "
		   "ORDER BY appointment_id DESC LIMIT 1",
	.nparams = 2,
	.types = {INT8OID, INT8OID},
};
static TcStatement insert_row = {
	.sql = "INSERT INTO @.appointments (company_id, branch_id, service_id, hold_id, call_id, "
		   "customer_id, rescheduled_from, credential, calcom_event_type_id, starts_at, ends_at, "
		   "told_at, time_zone, status, uid, customer, elsewhere, reason, confirmed_at, "
		   "cancelled_at) VALUES ($1, $2, $3, $4, $5, coalesce($6, (SELECT c.customer_id "
		   "FROM @.calls AS c WHERE c.company_id = $1 AND c.call_id = $5), "
		   "(SELECT min(k.customer_id) FROM @.customers AS k WHERE k.company_id = $1 "
		   "AND k.phone = $16 ->> 'phone')), $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, "
		   "$18, CASE WHEN $14 = 'confirmed' THEN clock_timestamp() END, "
		   "CASE WHEN $14 = 'cancelled' THEN clock_timestamp() END) RETURNING appointment_id",
	.nparams = 18,
	.types = {INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, TEXTOID, INT8OID,
			  TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID, TEXTOID, TEXTOID, JSONBOID,
			  BOOLOID, TEXTOID},
};
static TcStatement move_row = {
	.sql = "UPDATE @.appointments SET status = coalesce($3, status), uid = coalesce($4, uid), "
		   "reason = CASE WHEN $3 IS NULL THEN coalesce($5, reason) ELSE $5 END, "
		   "confirmed_at = CASE WHEN coalesce($3, status) = 'confirmed' "
		   "THEN coalesce(confirmed_at, clock_timestamp()) ELSE confirmed_at END, "
		   "cancelled_at = CASE WHEN $3 = 'cancelled' THEN clock_timestamp() ELSE cancelled_at END "
		   "WHERE company_id = $1 AND appointment_id = $2",
	.nparams = 5,
	.types = {INT8OID, INT8OID, TEXTOID, TEXTOID, TEXTOID},
};
static TcStatement rename_row = {
	.sql = "UPDATE @.appointments SET uid = $3 WHERE company_id = $1 AND appointment_id = $2",
	.nparams = 3,
	.types = {INT8OID, INT8OID, TEXTOID},
};
static TcStatement find_origin = {
	.sql = "SELECT rescheduled_from FROM @.appointments "
		   "WHERE company_id = $1 AND appointment_id = $2",
	.nparams = 2,
	.types = {INT8OID, INT8OID},
};
static TcStatement note_told = {
	.sql = "UPDATE @.appointments SET told_at = greatest(told_at, $3), "
		   "no_show = coalesce($4, no_show) WHERE company_id = $1 AND appointment_id = $2",
	.nparams = 4,
	.types = {INT8OID, INT8OID, TIMESTAMPTZOID, BOOLOID},
};
static TcStatement shift_row = {
	.sql = "UPDATE @.appointments SET starts_at = $3, ends_at = $4, hold_id = $5 "
		   "WHERE company_id = $1 AND appointment_id = $2",
	.nparams = 5,
	.types = {INT8OID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID},
};

/* Is it over? */
bool
tc_appointment_over(const char *status)
{
	return strcmp(status, "refused") == 0 || strcmp(status, "cancelled") == 0 ||
		   strcmp(status, "rescheduled") == 0;
}

/* A time of the result's first row; 0 for NULL. */
static TimestampTz
result_time(int column)
{
	bool isnull;
	Datum value = tc_result_datum(column, &isnull);

	return isnull ? 0 : DatumGetTimestampTz(value);
}

/* Reads the row of the result, if there is one. */
static bool
take_row(int64 company_id, uint64 count, TcAppointment *row)
{
	bool isnull;
	Datum customer;

	memset(row, 0, sizeof(*row));
	if (count == 0)
		return false;
	row->company_id = company_id;
	row->appointment_id = tc_result_int8(1);
	row->branch_id = tc_result_int8(2);
	row->service_id = tc_result_int8(3);
	row->hold_id = tc_result_int8(4);
	row->call_id = tc_result_int8(5);
	row->customer_id = tc_result_int8(6);
	row->rescheduled_from = tc_result_int8(7);
	row->credential = tc_result_text(8);
	row->event_type_id = tc_result_int8(9);
	row->starts_at = result_time(10);
	row->ends_at = result_time(11);
	row->told_at = result_time(12);
	row->time_zone = tc_result_text(13);
	row->status = tc_result_text(14);
	row->uid = tc_result_text(15);
	customer = tc_result_datum(16, &isnull);
	row->customer = isnull ? NULL : DatumGetJsonbPCopy(customer);
	row->elsewhere = DatumGetBool(tc_result_datum(17, &isnull));
	row->reason = tc_result_text(18);
	return true;
}

/* Locks a row by id. */
bool
tc_appointment_lock(int64 company_id, int64 appointment_id, TcAppointment *row)
{
	TcParams params = {0};

	tc_param_int8(&params, company_id);
	tc_param_int8(&params, appointment_id);
	return take_row(company_id, tc_execute(&lock_id, &params), row);
}

/* Locks a row by the calendar's uid. */
bool
tc_appointment_lock_uid(int64 company_id, const char *uid, TcAppointment *row)
{
	TcParams params = {0};

	tc_param_int8(&params, company_id);
	tc_param_text(&params, uid);
	return take_row(company_id, tc_execute(&lock_uid, &params), row);
}

/* Locks a row with the one that it is to replace, the older one first. */
bool
tc_appointment_lock_with_origin(int64 company_id, int64 appointment_id, TcAppointment *row,
								TcAppointment *origin)
{
	TcParams params = {0};
	int64 origin_id = 0;

	memset(origin, 0, sizeof(*origin));
	tc_param_int8(&params, company_id);
	tc_param_int8(&params, appointment_id);
	if (tc_execute(&find_origin, &params) > 0)
		origin_id = tc_result_int8(1);
	if (origin_id != 0)
		(void) tc_appointment_lock(company_id, origin_id, origin);
	return tc_appointment_lock(company_id, appointment_id, row);
}

/* Reads the row of a hold. */
bool
tc_appointment_of_hold(int64 company_id, int64 hold_id, TcAppointment *row)
{
	TcParams params = {0};

	tc_param_int8(&params, company_id);
	tc_param_int8(&params, hold_id);
	return take_row(company_id, tc_execute(&find_hold, &params), row);
}

/* The appointment that replaces this one. */
int64
tc_appointment_successor(const TcAppointment *row)
{
	TcParams params = {0};

	tc_param_int8(&params, row->company_id);
	tc_param_int8(&params, row->appointment_id);
	return tc_execute(&find_successor, &params) > 0 ? tc_result_int8(1) : 0;
}

/* Appends a time; 0 is NULL. */
static void
param_time(TcParams *params, TimestampTz at)
{
	tc_param_datum(params, TimestampTzGetDatum(at), at == 0);
}

/* Has the calendar no part in it: an order that is yet to be sent, or was taken back before? */
static bool
is_ours_alone(const TcAppointment *row)
{
	return strcmp(row->status, "pending") == 0 || strcmp(row->status, "cancelling") == 0 ||
		   (strcmp(row->status, "cancelled") == 0 && row->uid == NULL);
}

/* Tells the slot cache, and who waits for the appointment. */
static void
tell(const TcAppointment *row)
{
	if (is_ours_alone(row))
		tc_slot_taken_at_commit(row->company_id, row->credential, row->event_type_id);
	else
		tc_slot_changed_at_commit(row->credential, row->event_type_id);
	tc_booking_changed_at_commit(row->company_id, row->appointment_id);
}

/* Inserts a row. */
void
tc_appointment_insert(TcAppointment *row, const char *reason)
{
	TcParams params = {0};

	tc_lifecycle_set_reason(reason);
	tc_param_int8(&params, row->company_id);
	tc_param_int8(&params, row->branch_id);
	tc_param_int8(&params, row->service_id);
	tc_param_int8(&params, row->hold_id);
	tc_param_int8(&params, row->call_id);
	tc_param_int8(&params, row->customer_id);
	tc_param_int8(&params, row->rescheduled_from);
	tc_param_text(&params, row->credential);
	tc_param_int8(&params, row->event_type_id);
	param_time(&params, row->starts_at);
	param_time(&params, row->ends_at);
	param_time(&params, row->told_at);
	tc_param_text(&params, row->time_zone);
	tc_param_text(&params, row->status);
	tc_param_text(&params, row->uid);
	tc_param_datum(&params, JsonbPGetDatum(row->customer), row->customer == NULL);
	tc_param_datum(&params, BoolGetDatum(row->elsewhere), false);
	tc_param_text(&params, reason);
	tc_execute(&insert_row, &params);
	row->appointment_id = tc_result_int8(1);
	tell(row);
}

/* Moves the status. */
void
tc_appointment_move(TcAppointment *row, const char *status, const char *uid, const char *reason)
{
	TcParams params = {0};

	if (status != NULL && strcmp(status, row->status) == 0)
		status = NULL;
	tc_lifecycle_set_reason(reason);
	tc_param_int8(&params, row->company_id);
	tc_param_int8(&params, row->appointment_id);
	tc_param_text(&params, status);
	tc_param_text(&params, uid);
	tc_param_text(&params, reason);
	tc_execute(&move_row, &params);
	if (status != NULL)
	{
		row->status = pstrdup(status);
		tc_stat_booking(status, row->company_id);
	}
	if (uid != NULL)
		row->uid = pstrdup(uid);
	if (tc_appointment_over(row->status))
		tc_hold_release(row->company_id, row->hold_id, row->status);
	tell(row);
}

/* Gives it another uid, or none. */
void
tc_appointment_rename(TcAppointment *row, const char *uid)
{
	TcParams params = {0};

	tc_param_int8(&params, row->company_id);
	tc_param_int8(&params, row->appointment_id);
	tc_param_text(&params, uid);
	tc_execute(&rename_row, &params);
	row->uid = uid == NULL ? NULL : pstrdup(uid);
}

/* Notes what else the calendar told. */
void
tc_appointment_told(TcAppointment *row, TimestampTz told_at, int no_show)
{
	TcParams params = {0};

	tc_param_int8(&params, row->company_id);
	tc_param_int8(&params, row->appointment_id);
	param_time(&params, told_at);
	tc_param_datum(&params, BoolGetDatum(no_show > 0), no_show < 0);
	tc_execute(&note_told, &params);
	row->told_at = Max(row->told_at, told_at);
}

/* Another time, as the calendar says. */
void
tc_appointment_shift(TcAppointment *row, TimestampTz starts_at, TimestampTz ends_at)
{
	TcHold order = {.branch_id = row->branch_id,
					.service_id = row->service_id,
					.call_id = row->call_id,
					.credential = row->credential,
					.event_type_id = row->event_type_id,
					.starts_at = starts_at,
					.ends_at = ends_at,
					.reason = "moved"};
	TcParams params = {0};

	row->starts_at = starts_at;
	row->ends_at = ends_at;
	if (!tc_appointment_over(row->status))
	{
		tc_hold_release(row->company_id, row->hold_id, "moved");
		row->hold_id = tc_hold_occupy(row->company_id, &order);
	}
	tc_param_int8(&params, row->company_id);
	tc_param_int8(&params, row->appointment_id);
	param_time(&params, starts_at);
	param_time(&params, ends_at);
	tc_param_int8(&params, row->hold_id);
	tc_execute(&shift_row, &params);
	tell(row);
}
