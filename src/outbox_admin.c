/*
 * outbox_admin.c
 *		The outbox as its administrator sees it: paused, resumed, replayed, counted.
 *
 * Pausing is a row of tenantcall.outbox_pause, which the worker looks at whenever it claims orders:
 * from the commit on none is claimed, also after a restart.  The worker is woken, and takes back
 * what it has claimed and not yet begun to send.  What is under way comes to its end.
 *
 * Locks: rows of outbox_due, then outbox.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "act.h"
#include "args.h"
#include "companies.h"
#include "context.h"
#include "errors.h"
#include "http.h"
#include "node.h"
#include "outbox.h"
#include "telephony.h"

PG_FUNCTION_INFO_V1(tc_pause_outbox);
PG_FUNCTION_INFO_V1(tc_resume_outbox);
PG_FUNCTION_INFO_V1(tc_replay_outbox);
PG_FUNCTION_INFO_V1(tc_outbox_counts);

static TcStatement insert_pause = {
	.sql = "INSERT INTO @@.outbox_pause (paused_by) VALUES ($1) "
		   "ON CONFLICT (singleton) DO NOTHING",
	.nparams = 1,
	.types = {TEXTOID},
};
static TcStatement delete_pause = {
	.sql = "DELETE FROM @@.outbox_pause",
};
/* Of what may have been sent the calendar is asked first. */
static TcStatement revive_due = {
	.sql = "UPDATE @@.outbox_due AS d SET state = s.state, due_at = now(), "
		   "last_attempt = d.attempt + $4 FROM unnest($2, $3) AS s (outbox_id, state) "
		   "WHERE d.company_id = $1 AND d.outbox_id = s.outbox_id AND d.state = 'dead'",
	.nparams = 4,
	.types = {INT8OID, INT8ARRAYOID, TEXTARRAYOID, INT4OID},
};
static TcStatement revive_orders = {
	.sql = "WITH revived AS (UPDATE @.outbox AS o SET "
		   "state = CASE WHEN o.sent_at IS NULL THEN 'queued' ELSE 'reconcile' END, due_at = now() "
		   "WHERE o.company_id = $1 AND o.outbox_id IN (SELECT b.outbox_id FROM @.outbox AS b "
		   "WHERE b.company_id = $1 AND b.state = 'dead' ORDER BY b.outbox_id LIMIT $2 "
		   "FOR UPDATE SKIP LOCKED) RETURNING o.outbox_id, o.state) "
		   "SELECT array_agg(r.outbox_id), array_agg(r.state) FROM revived AS r",
	.nparams = 2,
	.types = {INT8OID, INT8OID},
};
#define COUNT_ORDERS(orders)                                                                       \
	"SELECT d.company_id, d.credential, count(*) FILTER (WHERE d.state = 'queued'), "              \
	"count(*) FILTER (WHERE d.state = 'sending'), count(*) FILTER (WHERE d.state = 'reconcile'), " \
	"count(*) FILTER (WHERE d.state = 'waiting'), count(*) FILTER (WHERE d.state = 'dead'), "      \
	"clock_timestamp() - min(d.created_at) FILTER (WHERE d.state <> 'dead'), "                     \
	"min(d.due_at) FILTER (WHERE d.state IN ('queued', 'reconcile')), "                            \
	"EXISTS (SELECT 1 FROM tenantcall.outbox_pause) FROM " orders " "                              \
	"GROUP BY d.company_id, d.credential ORDER BY d.company_id, d.credential"

static TcStatement count_orders = {
	.sql = COUNT_ORDERS("tenantcall.outbox_due AS d"),
};
static TcStatement count_own_orders = {
	.sql = COUNT_ORDERS("@@.outbox_due AS d WHERE d.company_id = $1"),
	.nparams = 1,
	.types = {INT8OID},
};

/* pause_outbox() -> void */
Datum
tc_pause_outbox(PG_FUNCTION_ARGS)
{
	TcParams params = {0};
	TcAct act;

	(void) tc_telephony_required();
	tc_param_text(&params, GetUserNameFromId(GetOuterUserId(), false));
	tc_act_begin(&act, TC_AS_SYSTEM, NULL);
	tc_execute(&insert_pause, &params);
	tc_act_end(&act);
	tc_http_wake_at_commit();
	PG_RETURN_VOID();
}

/* resume_outbox() -> void */
Datum
tc_resume_outbox(PG_FUNCTION_ARGS)
{
	TcAct act;

	(void) tc_telephony_required();
	tc_act_begin(&act, TC_AS_SYSTEM, NULL);
	tc_execute(&delete_pause, NULL);
	tc_act_end(&act);
	tc_http_wake_at_commit();
	PG_RETURN_VOID();
}

/* Gives a company's dead orders another chance, at most so many; how many. */
static int64
replay_company(const TcContext *company, int64 max_rows)
{
	TcParams orders = {0};
	TcParams due = {0};
	bool isnull;
	int64 count = 0;
	TcAct act;
	TcAct inner;

	tc_param_int8(&orders, company->company_id);
	tc_param_int8(&orders, max_rows);
	tc_act_begin(&act, TC_AS_OWNER, company);
	tc_execute(&revive_orders, &orders);
	tc_param_int8(&due, company->company_id);
	tc_param_datum(&due, tc_result_datum(1, &isnull), false);
	if (!isnull)
	{
		tc_param_datum(&due, tc_result_datum(2, &isnull), false);
		tc_param_datum(&due, Int32GetDatum(tc_outbox_max_attempts), false);
		tc_act_begin(&inner, TC_AS_SYSTEM, NULL);
		count = (int64) tc_execute(&revive_due, &due);
		tc_act_end(&inner);
	}
	tc_act_end(&act);
	return count;
}

/* replay_outbox(company_id, max_rows) -> how many */
Datum
tc_replay_outbox(PG_FUNCTION_ARGS)
{
	TcContext one;
	TcContext *companies = &one;
	int count = 1;
	int64 replayed = 0;
	int64 max_rows;

	if (PG_ARGISNULL(1) || PG_GETARG_INT32(1) <= 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"max_rows\" must be positive")));
	max_rows = PG_GETARG_INT32(1);
	if (PG_ARGISNULL(0))
		companies = tc_companies(&count);
	else
		one = tc_company_required(tc_arg_id(fcinfo, 0, "company_id"));
	for (int i = 0; i < count && replayed < max_rows; i++)
	{
		CHECK_FOR_INTERRUPTS();
		replayed += replay_company(&companies[i], max_rows - replayed);
	}
	tc_http_wake_at_commit();
	PG_RETURN_INT64(replayed);
}

/* outbox_counts() -> rows: of the entered company, else of all */
Datum
tc_outbox_counts(PG_FUNCTION_ARGS)
{
	static const Oid enter_types[2] = {INT8OID, INT8OID};
	ReturnSetInfo *info = (ReturnSetInfo *) fcinfo->resultinfo;
	const TcContext *entered = tc_context_current();
	TcParams params = {0};
	uint64 count;
	TcAct act;

	if (tc_node_forward_statistics(fcinfo))
		return (Datum) 0;
	InitMaterializedSRF(fcinfo, 0);
	if (tc_telephony() == NULL)
		return (Datum) 0;
	if (entered == NULL && !tc_sees_all() && !tc_may_call("enter", 2, enter_types))
		return (Datum) 0; /* like every table of the tenants: without a tenant empty */
	if (entered != NULL)
		tc_param_int8(&params, entered->company_id);
	tc_act_begin(&act, TC_AS_SYSTEM, NULL);
	count = tc_execute(entered != NULL ? &count_own_orders : &count_orders, &params);
	for (uint64 i = 0; i < count; i++)
		tuplestore_puttuple(info->setResult, SPI_tuptable->vals[i]);
	tc_act_end(&act);
	return (Datum) 0;
}
