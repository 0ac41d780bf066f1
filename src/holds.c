/*
 * holds.c
 *		Slots that are held for a caller, or booked.
 *
 *		hold_slot() --> held --> booked (book(), or made elsewhere)
 *		                  \-> released (by hand, by the end of the call), expired
 *
 * A slot has as many seats as its service has capacity, and each seat is one row: the exclusion
 * constraint of slot_holds lets no two overlap, whoever writes them.  Back to back is no overlap.
 * Before a row is written the seat's advisory lock is tried: who does not get it loses at once, and
 * need not wait for a transaction that may take its time.  Slots that overlap without beginning
 * together meet at the constraint, where one waits for the other, but only for a while.
 *
 * Holds that have expired and are in the way make room in the same transaction.
 *
 * Locks: the row of calls (so that a hold and the end of its call, or the same hold twice, come
 * one after the other), then the seat's advisory lock, then rows of slot_holds.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "act.h"
#include "args.h"
#include "calendar.h"
#include "companies.h"
#include "context.h"
#include "directory.h"
#include "errors.h"
#include "holds.h"
#include "key.h"
#include "lease.h"
#include "node.h"
#include "slot_generation.h"
#include "telephony.h"

PG_FUNCTION_INFO_V1(tc_hold_slot);
PG_FUNCTION_INFO_V1(tc_release_hold);
PG_FUNCTION_INFO_V1(tc_expire_holds);

#define LONGEST_WAIT "1s" /* for another transaction, at the constraint */

static int hold_ttl = 300; /* setting, in s */

#define IN_THE_WAY                                                                                 \
	"h.company_id = $1 AND h.credential = $2 AND h.calcom_event_type_id = $3 "                     \
	"AND tstzrange(h.starts_at, h.ends_at, '[)') && tstzrange($4, $5, '[)') "

static TcStatement lock_call = {
	.sql = "SELECT status FROM @.calls WHERE company_id = $1 AND call_id = $2 FOR NO KEY UPDATE",
	.nparams = 2,
	.types = {INT8OID, INT8OID},
};
static TcStatement find_same = {
	.sql = "SELECT h.hold_id FROM @.slot_holds AS h WHERE h.company_id = $1 AND h.call_id = $2 "
		   "AND h.service_id = $3 AND h.starts_at = $4 AND (h.state = 'booked' "
		   "OR h.state = 'held' AND h.expires_at > clock_timestamp()) ORDER BY h.hold_id LIMIT 1",
	.nparams = 4,
	.types = {INT8OID, INT8OID, INT8OID, TIMESTAMPTZOID},
};
static TcStatement expire_in_the_way = {
	.sql =
		"WITH gone AS (SELECT h.hold_id FROM @.slot_holds AS h WHERE " IN_THE_WAY
		"AND h.state = 'held' AND h.expires_at <= clock_timestamp() "
		"ORDER BY h.hold_id FOR UPDATE SKIP LOCKED) "
		"UPDATE @.slot_holds AS h SET state = 'expired', released_at = clock_timestamp() FROM gone "
		"WHERE h.company_id = $1 AND h.hold_id = gone.hold_id",
	.nparams = 5,
	.types = {INT8OID, TEXTOID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID},
};
static TcStatement free_seats = {
	.sql = "WITH taken AS MATERIALIZED (SELECT h.seat FROM @.slot_holds AS h WHERE " IN_THE_WAY
		   "AND h.state IN ('held', 'booked')) "
		   "SELECT s.seat FROM generate_series(1, $6) AS s (seat) "
		   "WHERE (SELECT count(DISTINCT t.seat) FROM taken AS t) < $6 "
		   "AND s.seat NOT IN (SELECT t.seat FROM taken AS t) "
		   "ORDER BY s.seat",
	.nparams = 6,
	.types = {INT8OID, TEXTOID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID},
};
static TcStatement insert_hold = {
	.sql = "INSERT INTO @.slot_holds (company_id, credential, calcom_event_type_id, starts_at, "
		   "ends_at, seat, branch_id, service_id, call_id, state, expires_at) VALUES ($1, $2, $3, "
		   "$4, $5, $6, $7, $8, $9, 'held', clock_timestamp() + make_interval(secs => $10)) "
		   "ON CONFLICT DO NOTHING RETURNING hold_id",
	.nparams = 10,
	.types = {INT8OID, TEXTOID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID, INT8OID, INT8OID,
			  INT8OID, FLOAT8OID},
};
static TcStatement release_one = {
	.sql = "UPDATE @.slot_holds SET state = 'released', released_at = clock_timestamp(), "
		   "reason = $3 WHERE company_id = $1 AND hold_id = $2 AND state = 'held' "
		   "RETURNING credential, calcom_event_type_id",
	.nparams = 3,
	.types = {INT8OID, INT8OID, TEXTOID},
};
static TcStatement find_state = {
	.sql = "SELECT state FROM @.slot_holds WHERE company_id = $1 AND hold_id = $2",
	.nparams = 2,
	.types = {INT8OID, INT8OID},
};
static TcStatement expire_some = {
	.sql =
		"WITH gone AS (SELECT h.hold_id FROM @.slot_holds AS h WHERE h.company_id = $1 "
		"AND h.state = 'held' AND h.expires_at <= now() "
		"ORDER BY h.expires_at LIMIT $2 FOR UPDATE SKIP LOCKED) "
		"UPDATE @.slot_holds AS h SET state = 'expired', released_at = clock_timestamp() FROM gone "
		"WHERE h.company_id = $1 AND h.hold_id = gone.hold_id",
	.nparams = 2,
	.types = {INT8OID, INT8OID},
};

/* Defines the setting. */
void
tc_holds_init(void)
{
	DefineCustomIntVariable("tenantcall.hold_ttl", "How long a slot is held for a caller.",
							"A hold that is neither booked nor released by then makes way.",
							&hold_ttl, 300, 1, 86400, PGC_SUSET, GUC_UNIT_S, NULL, NULL, NULL);
}

/* The tenant that was entered. */
const TcContext *
tc_entered_tenant(void)
{
	const TcContext *tenant = tc_context_current();

	(void) tc_telephony_required();
	if (tenant == NULL)
		ereport(ERROR, (errcode(ERRCODE_TC_WRONG_TENANT),
						errmsg("no tenant has been entered in this transaction"),
						errhint("Call tenantcall.enter_token() or tenantcall.enter() first, in the "
								"same transaction.")));
	return tenant;
}

/* Raises when the tenant is suspended. */
void
tc_require_active(const TcContext *tenant, const char *what)
{
	TcCompany company;

	if (tc_directory_company(tenant->company_id, &company) && !company.suspended)
		return;
	ereport(ERROR, (errcode(ERRCODE_TC_CONFLICT),
					errmsg("company " INT64_FORMAT " is suspended", (int64) tenant->company_id),
					errdetail("A suspended company cannot %s.", what),
					errhint("An administrator calls tenantcall.set_company_status().")));
}

/* Raises: somebody else has the slot. */
static void
refuse_taken(const TcHold *order, const char *detail)
{
	ereport(ERROR, (errcode(ERRCODE_TC_CONFLICT),
					errmsg("the slot at %s is taken", timestamptz_to_str(order->starts_at)),
					errdetail("%s", detail),
					errhint("Offer another one: tenantcall.alternative_slots().")));
}

/* Raises unless the slot may still be had. */
static void
check_time(const TcCalendar *calendar, TimestampTz starts_at)
{
	TimestampTz now = GetCurrentTimestamp();

	if (TIMESTAMP_NOT_FINITE(starts_at))
		ereport(ERROR, (errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
						errmsg("argument \"starts_at\" must be finite")));
	if (starts_at <= now)
		ereport(ERROR, (errcode(ERRCODE_TC_CONFLICT), errmsg("the slot is in the past"),
						errdetail("It begins at %s.", timestamptz_to_str(starts_at)),
						errhint("Offer one of those that tenantcall.available_slots() returns.")));
	if (starts_at < tc_calendar_earliest(calendar, now))
		ereport(ERROR, (errcode(ERRCODE_TC_CONFLICT), errmsg("the slot is too soon"),
						errdetail("Service " INT64_FORMAT " must be booked further ahead: see its "
								  "min_notice.",
								  calendar->service_id),
						errhint("Offer one of those that tenantcall.available_slots() returns.")));
}

/* Locks the call; raises unless it is one of the company and under way. */
static void
lock_call_under_way(int64 company_id, int64 call_id)
{
	TcParams params = {0};
	char *status;

	tc_param_int8(&params, company_id);
	tc_param_int8(&params, call_id);
	if (tc_execute(&lock_call, &params) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_TC_UNKNOWN),
				 errmsg("company " INT64_FORMAT " has no call " INT64_FORMAT, company_id, call_id),
				 errhint("Pass the call_id that accept_function_call() or ingest_retell() "
						 "returned.")));
	status = tc_result_text(1);
	if (!tc_lease_state_live(status))
		ereport(ERROR,
				(errcode(ERRCODE_TC_CONFLICT), errmsg("call " INT64_FORMAT " is over", call_id),
				 errdetail("It is %s; what it held was released.", status),
				 errhint("Hold slots for calls that are under way.")));
}

/* What the call holds there already; 0: nothing. */
static int64
find_same_hold(int64 company_id, const TcHold *order)
{
	TcParams params = {0};

	if (order->call_id == 0)
		return 0;
	tc_param_int8(&params, company_id);
	tc_param_int8(&params, order->call_id);
	tc_param_int8(&params, order->service_id);
	tc_param_datum(&params, TimestampTzGetDatum(order->starts_at), false);
	return tc_execute(&find_same, &params) > 0 ? tc_result_int8(1) : 0;
}

/* Tries the lock of one seat of the slot; held until the end of the transaction. */
static bool
try_seat(int64 company_id, const TcHold *order, int32 seat)
{
	int64 place[] = {company_id, order->event_type_id, order->starts_at, seat};
	uint8 digest[TC_HMAC_LEN];
	uint64 key;

	tc_sha256(TC_BYTES(place, sizeof(place)),
			  TC_BYTES(order->credential, strlen(order->credential)), digest);
	memcpy(&key, digest, sizeof(key));
	return DatumGetBool(
		DirectFunctionCall1(pg_try_advisory_xact_lock_int8, Int64GetDatum((int64) pg_ntoh64(key))));
}

/* Appends what says which slot it is. */
static void
param_slot(TcParams *params, int64 company_id, const TcHold *order)
{
	tc_param_int8(params, company_id);
	tc_param_text(params, order->credential);
	tc_param_int8(params, order->event_type_id);
	tc_param_datum(params, TimestampTzGetDatum(order->starts_at), false);
	tc_param_datum(params, TimestampTzGetDatum(order->ends_at), false);
}

/* Writes a hold; 0 if the seat is taken. */
static int64
insert_seat(int64 company_id, const TcHold *order, int32 seat)
{
	TcParams params = {0};

	param_slot(&params, company_id, order);
	tc_param_datum(&params, Int32GetDatum(seat), false);
	tc_param_int8(&params, order->branch_id);
	tc_param_int8(&params, order->service_id);
	tc_param_int8(&params, order->call_id);
	tc_param_datum(&params, Float8GetDatum(hold_ttl), false);
	return tc_execute(&insert_hold, &params) > 0 ? tc_result_int8(1) : 0;
}

/* Takes the lowest seat that is free and that nobody else is just taking; 0: there is none. */
static int64
take_seat(int64 company_id, const TcHold *order, int capacity)
{
	TcParams params = {0};
	SPITupleTable *seats;
	uint64 count;
	int64 hold_id = 0;

	param_slot(&params, company_id, order);
	(void) tc_execute(&expire_in_the_way, &params);
	tc_param_datum(&params, Int32GetDatum(capacity), false);
	count = tc_execute(&free_seats, &params);
	seats = SPI_tuptable;
	for (uint64 i = 0; i < count && hold_id == 0; i++)
	{
		bool isnull;
		int32 seat = DatumGetInt32(SPI_getbinval(seats->vals[i], seats->tupdesc, 1, &isnull));

		if (try_seat(company_id, order, seat))
			hold_id = insert_seat(company_id, order, seat);
	}
	return hold_id;
}

/* Does the error say no more than that somebody else has the slot, or is about to? */
static bool
others_in_the_way(int code)
{
	return code == ERRCODE_LOCK_NOT_AVAILABLE || code == ERRCODE_T_R_DEADLOCK_DETECTED ||
		   code == ERRCODE_EXCLUSION_VIOLATION ||
		   /* taken since this transaction's snapshot, which does not show it */
		   (code == ERRCODE_T_R_SERIALIZATION_FAILURE && !IsolationIsSerializable());
}

/* The same, raising PT409 for every way in which others can be in the way. */
static int64
take_seat_or_refuse(int64 company_id, const TcHold *order, int capacity)
{
	MemoryContext caller = CurrentMemoryContext;
	volatile int64 hold_id = 0;

	if (LockTimeout == 0 || LockTimeout > 1000)
		(void) set_config_option("lock_timeout", LONGEST_WAIT, PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	PG_TRY();
	{
		hold_id = take_seat(company_id, order, capacity);
	}
	PG_CATCH();
	{
		if (!others_in_the_way(geterrcode()))
			PG_RE_THROW();
		MemoryContextSwitchTo(caller);
		FlushErrorState();
		refuse_taken(order, "Another caller is just taking it.");
	}
	PG_END_TRY();
	if (hold_id == 0)
		refuse_taken(order, capacity == 1 ? "It is held or booked." : "All seats are taken.");
	return hold_id;
}

/* hold_slot(service_id, starts_at, call_id) -> hold_id */
Datum
tc_hold_slot(PG_FUNCTION_ARGS)
{
	int64 service_id = tc_arg_id(fcinfo, 0, "service_id");
	TcHold order = {.service_id = service_id, .call_id = tc_arg_optional_id(fcinfo, 2, "call_id")};
	const TcContext *tenant = tc_entered_tenant();
	int64 company_id = tenant->company_id;
	const TcCalendar *calendar;
	int capacity;
	int64 hold_id;
	Datum result;
	TcAct act;

	if (tc_node_elsewhere(fcinfo, company_id, &result))
		return result;
	if (PG_ARGISNULL(1))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("argument \"starts_at\" must not be NULL")));
	if (tenant->branch_id == 0)
		ereport(ERROR, (errcode(ERRCODE_TC_WRONG_TENANT), errmsg("no branch has been entered"),
						errdetail("Slots are those of one branch's calendar."),
						errhint("Enter company and branch: tenantcall.enter(company_id, "
								"branch_id), or a token that names both.")));
	tc_require_active(tenant, "hold slots");
	calendar = tc_calendar_in_use(tenant, service_id);
	order.starts_at = PG_GETARG_TIMESTAMPTZ(1);
	check_time(calendar, order.starts_at);
	order.ends_at = tc_calendar_end(calendar, order.starts_at);
	order.branch_id = tenant->branch_id;
	order.credential = pstrdup(calendar->credential);
	order.event_type_id = calendar->event_type_id;
	capacity = calendar->capacity;
	tc_act_begin(&act, TC_AS_OWNER, NULL);
	if (order.call_id != 0)
		lock_call_under_way(company_id, order.call_id);
	hold_id = find_same_hold(company_id, &order);
	if (hold_id == 0)
	{
		hold_id = take_seat_or_refuse(company_id, &order, capacity);
		tc_slot_taken_at_commit(company_id, order.credential, order.event_type_id);
	}
	tc_act_end(&act);
	PG_RETURN_INT64(hold_id);
}

/* release_hold(hold_id) -> void */
Datum
tc_release_hold(PG_FUNCTION_ARGS)
{
	int64 hold_id = tc_arg_id(fcinfo, 0, "hold_id");
	int64 company_id = tc_entered_tenant()->company_id;
	TcParams params = {0};
	bool isnull;
	Datum result;
	TcAct act;

	if (tc_node_elsewhere(fcinfo, company_id, &result))
		return result;
	tc_act_begin(&act, TC_AS_OWNER, NULL);
	tc_param_int8(&params, company_id);
	tc_param_int8(&params, hold_id);
	tc_param_text(&params, "released");
	if (tc_execute(&release_one, &params) > 0)
		tc_slot_taken_at_commit(company_id, tc_result_text(1),
								DatumGetInt64(tc_result_datum(2, &isnull)));
	else
	{
		params.count = 2;
		if (tc_execute(&find_state, &params) == 0)
			ereport(ERROR, (errcode(ERRCODE_TC_UNKNOWN),
							errmsg("company " INT64_FORMAT " has no hold " INT64_FORMAT, company_id,
								   hold_id),
							errhint("Pass the hold_id that tenantcall.hold_slot() returned.")));
		if (strcmp(tc_result_text(1), "booked") == 0)
			ereport(ERROR, (errcode(ERRCODE_TC_CONFLICT),
							errmsg("hold " INT64_FORMAT " is booked", hold_id),
							errhint("Call tenantcall.cancel_booking() for its appointment.")));
	}
	tc_act_end(&act);
	PG_RETURN_VOID();
}

/* expire_holds(max_rows integer) -> bigint */
Datum
tc_expire_holds(PG_FUNCTION_ARGS)
{
	TcContext *companies;
	int64 left;
	int64 expired = 0;
	int count;

	if (PG_ARGISNULL(0) || PG_GETARG_INT32(0) <= 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"max_rows\" must be positive")));
	left = PG_GETARG_INT32(0);
	companies = tc_companies(&count);
	for (int i = 0; i < count && expired < left; i++)
	{
		TcParams params = {0};
		TcAct act;

		CHECK_FOR_INTERRUPTS();
		tc_param_int8(&params, companies[i].company_id);
		tc_param_int8(&params, left - expired);
		tc_act_begin(&act, TC_AS_OWNER, &companies[i]);
		expired += (int64) tc_execute(&expire_some, &params);
		tc_act_end(&act);
	}
	PG_RETURN_INT64(expired);
}
