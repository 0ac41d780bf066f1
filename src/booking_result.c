/*
 * booking_result.c
 *		What became of a booking: asked while the caller is on the line.
 *
 *		booking_result()	look --> (sleep --> look) ... --> status
 *
 * The row is read as of now, below row security (telephony.h), by the entered company's key: what
 * counts is what the calendar answered a moment ago, not what this transaction's snapshot shows,
 * which in REPEATABLE READ would stay the same for ever.
 *
 * A row that this very transaction wrote last is a special case: nobody else can see it before the
 * commit, so nothing can become of it, and there is nothing to wait for.
 *
 * No locks.  While it sleeps it can be cancelled.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "appointments.h"
#include "args.h"
#include "booking_wait.h"
#include "clock.h"
#include "errors.h"
#include "holds.h"
#include "http.h"
#include "node.h"
#include "telephony.h"

PG_FUNCTION_INFO_V1(tc_booking_result);

#define LONGEST_WAIT_MS INT64CONST(60000)

/* What there is to say. */
typedef struct Result
{
	bool found;
	bool own; /* this transaction wrote it */
	char *status;
	char *uid;
	char *reason;
} Result;

/* Takes the row. */
static bool
visit_appointment(HeapTuple tuple, TupleDesc desc, void *arg)
{
	Result *result = arg;

	result->found = true;
	result->own = TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data));
	result->status = tc_row_text(tuple, desc, "status");
	result->uid = tc_row_text(tuple, desc, "uid");
	result->reason = tc_row_text(tuple, desc, "reason");
	return false;
}

/* Looks at the row as it is now. */
static void
look(int64 company_id, int64 appointment_id, Result *result)
{
	TcMatch matches[2] = {{"company_id", INT8OID, Int64GetDatum(company_id)},
						  {"appointment_id", INT8OID, Int64GetDatum(appointment_id)}};
	Oid table = tc_telephony_table("appointments");

	if (!OidIsValid(table))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
						errmsg("table \"appointments\" of tenantcall is missing")));
	memset(result, 0, sizeof(*result));
	tc_read_rows(table, matches, 2, visit_appointment, result);
	if (!result->found)
		ereport(ERROR, (errcode(ERRCODE_TC_UNKNOWN),
						errmsg("company " INT64_FORMAT " has no appointment " INT64_FORMAT,
							   company_id, appointment_id),
						errhint("Pass the appointment_id that tenantcall.book() returned.")));
}

/* Is there nothing more to wait for? */
static bool
is_final(const Result *result)
{
	return result->own || strcmp(result->status, "confirmed") == 0 ||
		   tc_appointment_over(result->status);
}

/* The longest wait in ms, from the argument. */
static int64
max_wait(FunctionCallInfo fcinfo)
{
	Interval *interval;

	if (PG_ARGISNULL(1))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("argument \"max_wait\" must not be NULL"),
						errhint("Pass 0 for an answer without waiting.")));
	interval = PG_GETARG_INTERVAL_P(1);
	if (interval->month != 0 || interval->day != 0 || interval->time < 0 ||
		interval->time > LONGEST_WAIT_MS * 1000)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"max_wait\" is out of range"),
						errdetail("It may be 0 to 60 seconds.")));
	return interval->time / 1000;
}

/* Looks until there is a result, or the time is over. */
static void
wait_for_result(int64 company_id, int64 appointment_id, int64 wait_ms, Result *result)
{
	int64 end = tc_clock_us() + wait_ms * 1000;

	tc_booking_wait_begin(company_id, appointment_id);
	for (;;)
	{
		int64 left;

		CHECK_FOR_INTERRUPTS();
		look(company_id, appointment_id, result);
		left = (end - tc_clock_us() + 999) / 1000;
		if (is_final(result) || left <= 0)
			break;
		tc_booking_wait_sleep((long) left);
	}
	tc_booking_wait_end();
}

/* Why it is not known yet. */
static const char *
why_open(const Result *result)
{
	if (result->own)
		return "not committed: the calendar is asked after the end of this transaction";
	if (result->reason != NULL)
		return result->reason;
	return tc_http_worker_alive() || tc_node_distributed()
			   ? "the calendar has not answered yet"
			   : "no worker is running for this database";
}

/* booking_result(appointment_id, max_wait interval) -> one row (status, uid, reason) */
Datum
tc_booking_result(PG_FUNCTION_ARGS)
{
	int64 appointment_id = tc_arg_id(fcinfo, 0, "appointment_id");
	int64 wait_ms = max_wait(fcinfo);
	int64 company_id = tc_entered_tenant()->company_id;
	Datum values[3];
	bool nulls[3] = {false};
	const char *reason;
	Result result;
	Datum there;

	if (tc_node_elsewhere(fcinfo, company_id, &there))
		return there;
	wait_for_result(company_id, appointment_id, wait_ms, &result);
	reason = result.reason;
	if (strcmp(result.status, "pending") == 0 || strcmp(result.status, "unknown") == 0 ||
		strcmp(result.status, "cancelling") == 0)
		reason = why_open(&result);
	values[0] = CStringGetTextDatum(result.status);
	nulls[1] = result.uid == NULL;
	values[1] = nulls[1] ? (Datum) 0 : CStringGetTextDatum(result.uid);
	nulls[2] = reason == NULL;
	values[2] = nulls[2] ? (Datum) 0 : CStringGetTextDatum(reason);
	return tc_return_row(fcinfo, values, nulls);
}
