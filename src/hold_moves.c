/*
 * hold_moves.c
 *		What bookings, calls and the calendar do to holds.
 *
 * See holds.c.  Everything here runs while somebody acts for the company (act.h).
 *
 * Locks: rows of slot_holds.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "act.h"
#include "errors.h"
#include "holds.h"
#include "slot_generation.h"
#include "telephony.h"

static TcStatement lock_hold = {
	.sql = "SELECT branch_id, service_id, call_id, credential, calcom_event_type_id, starts_at, "
		   "ends_at, state, reason, state = 'held' AND expires_at <= clock_timestamp() "
		   "FROM @.slot_holds WHERE company_id = $1 AND hold_id = $2 FOR UPDATE",
	.nparams = 2,
	.types = {INT8OID, INT8OID},
};
static TcStatement book_hold = {
	.sql = "UPDATE @.slot_holds SET state = 'booked', expires_at = NULL "
		   "WHERE company_id = $1 AND hold_id = $2 AND state = 'held'",
	.nparams = 2,
	.types = {INT8OID, INT8OID},
};
static TcStatement release_hold = {
	.sql = "UPDATE @.slot_holds SET state = 'released', released_at = clock_timestamp(), "
		   "reason = $3 WHERE company_id = $1 AND hold_id = $2 AND state IN ('held', 'booked') "
		   "RETURNING credential, calcom_event_type_id",
	.nparams = 3,
	.types = {INT8OID, INT8OID, TEXTOID},
};
static TcStatement release_of_call = {
	.sql = "UPDATE @.slot_holds SET state = 'released', released_at = clock_timestamp(), "
		   "reason = 'call_over' WHERE company_id = $1 AND call_id = $2 AND state = 'held' "
		   "RETURNING credential, calcom_event_type_id",
	.nparams = 2,
	.types = {INT8OID, INT8OID},
};
/* Of the seats that are not taken the lowest; those beyond the capacity count on. */
static TcStatement occupy_seat = {
	.sql = "INSERT INTO @.slot_holds (company_id, credential, calcom_event_type_id, starts_at, "
		   "ends_at, seat, branch_id, service_id, call_id, state, reason) "
		   "SELECT $1, $2, $3, $4, $5, s.seat, $6, $7, $8, 'booked', $9 "
		   "FROM generate_series(1, 100000) AS s (seat) WHERE NOT EXISTS ("
		   "SELECT FROM @.slot_holds AS h WHERE h.company_id = $1 AND h.credential = $2 "
		   "AND h.calcom_event_type_id = $3 AND h.seat = s.seat AND h.state IN ('held', 'booked') "
		   "AND tstzrange(h.starts_at, h.ends_at, '[)') && tstzrange($4, $5, '[)')) "
		   "ORDER BY s.seat LIMIT 1 ON CONFLICT DO NOTHING RETURNING hold_id",
	.nparams = 9,
	.types = {INT8OID, TEXTOID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, INT8OID, INT8OID,
			  TEXTOID},
};

/* A time of the result's first row. */
static TimestampTz
result_time(int column)
{
	bool isnull;

	return DatumGetTimestampTz(tc_result_datum(column, &isnull));
}

/* Locks a hold and reads it. */
void
tc_hold_lock(int64 company_id, int64 hold_id, TcHold *hold)
{
	TcParams params = {0};
	bool isnull;

	tc_param_int8(&params, company_id);
	tc_param_int8(&params, hold_id);
	if (tc_execute(&lock_hold, &params) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_TC_UNKNOWN),
				 errmsg("company " INT64_FORMAT " has no hold " INT64_FORMAT, company_id, hold_id),
				 errhint("Pass the hold_id that tenantcall.hold_slot() returned.")));
	hold->hold_id = hold_id;
	hold->branch_id = tc_result_int8(1);
	hold->service_id = tc_result_int8(2);
	hold->call_id = tc_result_int8(3);
	hold->credential = tc_result_text(4);
	hold->event_type_id = tc_result_int8(5);
	hold->starts_at = result_time(6);
	hold->ends_at = result_time(7);
	hold->state = tc_result_text(8);
	hold->reason = tc_result_text(9);
	hold->expired = DatumGetBool(tc_result_datum(10, &isnull)) && !isnull;
}

/* Raises unless it can be booked. */
void
tc_hold_require_usable(const TcHold *hold)
{
	const char *state = hold->expired ? "expired" : hold->state;

	if (strcmp(state, "held") == 0)
		return;
	ereport(ERROR, (errcode(ERRCODE_TC_CONFLICT),
					errmsg("hold " INT64_FORMAT " is %s", hold->hold_id, state),
					hold->reason != NULL ? errdetail("Reason: %s.", hold->reason)
										 : errdetail("Somebody else may have the slot by now."),
					errhint("Hold the slot again: tenantcall.hold_slot().")));
}

/* Held becomes booked. */
void
tc_hold_book(int64 company_id, int64 hold_id)
{
	TcParams params = {0};

	tc_param_int8(&params, company_id);
	tc_param_int8(&params, hold_id);
	if (tc_execute(&book_hold, &params) != 1)
		elog(ERROR, "hold " INT64_FORMAT " is not held", hold_id);
}

/* Tells the slot cache which calendars the rows of the result belong to. */
static void
tell_slots(int64 company_id, uint64 count)
{
	SPITupleTable *rows = SPI_tuptable;

	for (uint64 i = 0; i < count; i++)
	{
		bool isnull;

		tc_slot_taken_at_commit(company_id, SPI_getvalue(rows->vals[i], rows->tupdesc, 1),
								DatumGetInt64(
									SPI_getbinval(rows->vals[i], rows->tupdesc, 2, &isnull)));
	}
}

/* Held or booked becomes released. */
void
tc_hold_release(int64 company_id, int64 hold_id, const char *reason)
{
	TcParams params = {0};

	if (hold_id == 0)
		return;
	tc_param_int8(&params, company_id);
	tc_param_int8(&params, hold_id);
	tc_param_text(&params, reason);
	tell_slots(company_id, tc_execute(&release_hold, &params));
}

/* Releases what a call still holds. */
void
tc_holds_release_call(int64 company_id, int64 call_id)
{
	TcMatch matches[2] = {{"company_id", INT8OID, Int64GetDatum(company_id)},
						  {"call_id", INT8OID, Int64GetDatum(call_id)}};
	TcParams params = {0};

	/* most calls hold nothing, and looking is cheaper than a statement */
	if (!tc_any_row(get_relname_relid("slot_holds", tc_telephony_required()->schema), matches, 2))
		return;
	tc_param_int8(&params, company_id);
	tc_param_int8(&params, call_id);
	tell_slots(company_id, tc_execute(&release_of_call, &params));
}

/* A slot that was booked elsewhere. */
int64
tc_hold_occupy(int64 company_id, const TcHold *order)
{
	TcParams params = {0};

	tc_param_int8(&params, company_id);
	tc_param_text(&params, order->credential);
	tc_param_int8(&params, order->event_type_id);
	tc_param_datum(&params, TimestampTzGetDatum(order->starts_at), false);
	tc_param_datum(&params, TimestampTzGetDatum(order->ends_at), false);
	tc_param_int8(&params, order->branch_id);
	tc_param_int8(&params, order->service_id);
	tc_param_int8(&params, order->call_id);
	tc_param_text(&params, order->reason);
	/* taken meanwhile by somebody who waited less: then the next one */
	for (int tries = 0; tries < 1000; tries++)
	{
		if (tc_execute(&occupy_seat, &params) > 0)
		{
			tc_slot_changed_at_commit(order->credential, order->event_type_id);
			return tc_result_int8(1);
		}
	}
	ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					errmsg("the slot is being changed by other sessions"),
					errhint("Repeat the transaction.")));
}
