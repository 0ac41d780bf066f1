/*
 * stuck.c
 *		Calls whose end was never told: found, reported, closed.
 *
 * A call is stuck if it may still be abandoned by its lifecycle, has no end, and gave no sign of
 * life for a while: neither an event nor a function call arrived, by the times of their receipt.
 * The platform's own clock does not count.  Closing moves such calls to "abandoned" and gives
 * their leases back; an end that arrives later still after all corrects that.
 *
 * Company after company, in one transaction, at most max_rows calls.  Locks: the rows of the calls
 * that are closed, until the end of the transaction; rows that others have locked are passed over,
 * since an event is just being merged into them.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "act.h"
#include "call_over.h"
#include "companies.h"
#include "errors.h"
#include "lifecycle.h"
#include "node.h"
#include "stuck.h"

PG_FUNCTION_INFO_V1(tc_stuck_calls);
PG_FUNCTION_INFO_V1(tc_close_stuck_calls);

#define ABANDONED "abandoned"

/* Silence after which a call is stuck, in s: setting tenantcall.calls_stuck_after. */
static int stuck_after = 7200;

#define STUCK                                                                                      \
	"SELECT c.company_id, c.call_id, c.provider_call_id, c.branch_id, c.status, l.alive "          \
	"FROM @.calls AS c CROSS JOIN LATERAL (SELECT greatest(c.created_at, "                         \
	"(SELECT max(e.last_received_at) FROM @.call_events AS e WHERE e.company_id = $1 "             \
	"AND e.call_id = c.call_id AND e.call_at = c.created_at), "                                    \
	"(SELECT max(f.accepted_at) FROM @.function_calls AS f WHERE f.company_id = $1 "               \
	"AND f.call_id = c.call_id))) AS l (alive) "                                                   \
	"WHERE c.company_id = $1 AND c.status = ANY ($2) AND c.ended_at IS NULL "                      \
	"AND c.analyzed_at IS NULL AND c.created_at < now() - $3 AND l.alive < now() - $3 "            \
	"ORDER BY c.created_at, c.call_id "

static TcStatement select_stuck = {
	.sql = STUCK,
	.nparams = 3,
	.types = {INT8OID, TEXTARRAYOID, INTERVALOID},
};
static TcStatement close_stuck = {
	.sql = "WITH stuck AS (" STUCK "LIMIT $4 FOR NO KEY UPDATE OF c SKIP LOCKED), "
		   "closed AS (UPDATE @.calls AS c SET status = '" ABANDONED "' FROM stuck AS s "
		   "WHERE c.company_id = $1 AND c.call_id = s.call_id RETURNING c.call_id), "
		   "released AS (DELETE FROM @.call_leases AS l USING stuck AS s WHERE l.company_id = $1 "
		   "AND l.provider_call_id = s.provider_call_id) "
		   "SELECT s.* FROM stuck AS s JOIN closed USING (call_id)",
	.nparams = 4,
	.types = {INT8OID, TEXTARRAYOID, INTERVALOID, INT8OID},
};

/* Defines the setting. */
void
tc_stuck_init(void)
{
	DefineCustomIntVariable("tenantcall.calls_stuck_after",
							"Silence after which a call without an end counts as stuck.", NULL,
							&stuck_after, 7200, 60, 30 * 86400, PGC_SUSET, GUC_UNIT_S, NULL, NULL,
							NULL);
}

/* The states in which a call may still be abandoned, as text[]. */
Datum
tc_open_states(void)
{
	const TcLifecycle *lifecycle = tc_lifecycle_required("call");
	int abandoned = tc_lifecycle_find(lifecycle, ABANDONED, strlen(ABANDONED));
	Datum names[TC_MAX_STATES];
	int count = 0;

	if (abandoned == TC_NO_STATE)
		ereport(ERROR, (errcode(ERRCODE_TC_UNKNOWN),
						errmsg("lifecycle \"call\" has no state \"%s\"", ABANDONED),
						errhint("Define it with tenantcall.set_lifecycle_state().")));
	for (int i = 0; i < lifecycle->n_states; i++)
		if (i != abandoned && tc_lifecycle_may_move(lifecycle, i, abandoned))
			names[count++] = CStringGetTextDatum(lifecycle->states[i].name);
	return PointerGetDatum(construct_array(names, count, TEXTOID, -1, false, TYPALIGN_INT));
}

/* The interval argument; of NULL, the setting. */
static Datum
older_than_argument(FunctionCallInfo fcinfo)
{
	Interval zero = {0};

	if (PG_ARGISNULL(0))
	{
		Interval *configured = palloc0(sizeof(Interval));

		configured->time = stuck_after * USECS_PER_SEC;
		return IntervalPGetDatum(configured);
	}
	if (DatumGetInt32(
			DirectFunctionCall2(interval_cmp, PG_GETARG_DATUM(0), IntervalPGetDatum(&zero))) <= 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"older_than\" must be positive"),
						errhint("Pass the time after which a silent call counts as stuck, such as "
								"2 hours.")));
	return PG_GETARG_DATUM(0);
}

/* Runs a statement for a company and adds its rows to the result; their number. */
static uint64
run_for(FunctionCallInfo fcinfo, const TcContext *company, TcStatement *statement, TcParams *params)
{
	ReturnSetInfo *info = (ReturnSetInfo *) fcinfo->resultinfo;
	SPITupleTable *rows;
	uint64 count;
	TcAct act;

	params->values[0] = Int64GetDatum(company->company_id);
	tc_act_begin(&act, TC_AS_OWNER, company);
	tc_lifecycle_set_reason("no sign of life");
	tc_lifecycle_set_event(NULL);
	count = tc_execute(statement, params);
	rows = SPI_tuptable;
	for (uint64 i = 0; i < count; i++)
	{
		bool isnull;

		tuplestore_puttuple(info->setResult, rows->vals[i]);
		if (statement == &close_stuck)
			tc_call_over(company->company_id,
						 DatumGetInt64(SPI_getbinval(rows->vals[i], rows->tupdesc, 2, &isnull)));
	}
	tc_act_end(&act);
	return count;
}

/* stuck_calls(older_than interval) -> rows */
Datum
tc_stuck_calls(PG_FUNCTION_ARGS)
{
	TcParams params = {0};
	TcContext *companies;
	int count;

	if (tc_node_forward_statistics(fcinfo))
		return (Datum) 0;
	InitMaterializedSRF(fcinfo, 0);
	tc_param_int8(&params, 1); /* the company's place */
	tc_param_datum(&params, tc_open_states(), false);
	tc_param_datum(&params, older_than_argument(fcinfo), false);
	companies = tc_companies(&count);
	for (int i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		(void) run_for(fcinfo, &companies[i], &select_stuck, &params);
	}
	return (Datum) 0;
}

/* close_stuck_calls(older_than interval, max_rows integer) -> rows */
Datum
tc_close_stuck_calls(PG_FUNCTION_ARGS)
{
	TcParams params = {0};
	TcContext *companies;
	int64 left;
	int count;

	if (PG_ARGISNULL(1) || PG_GETARG_INT32(1) <= 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"max_rows\" must be positive")));
	left = PG_GETARG_INT32(1);
	InitMaterializedSRF(fcinfo, 0);
	tc_param_int8(&params, 1); /* the company's place */
	tc_param_datum(&params, tc_open_states(), false);
	tc_param_datum(&params, older_than_argument(fcinfo), false);
	tc_param_int8(&params, left);
	companies = tc_companies(&count);
	for (int i = 0; i < count && left > 0; i++)
	{
		CHECK_FOR_INTERRUPTS();
		params.values[3] = Int64GetDatum(left);
		left -= (int64) run_for(fcinfo, &companies[i], &close_stuck, &params);
	}
	return (Datum) 0;
}
