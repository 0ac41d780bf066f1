/*
 * usage_rollup.c
 *		Usage of former days, added up once and kept.
 *
 *		calls --trigger--> usage_marks \
 *		calls, function_calls, refusals ---roll_up_usage()--> usage_daily, usage_state
 *
 * A day is closed two days after its end, company after company and in order.  What is told late
 * is of calls only: the trigger marks calls that began more than a day ago whenever their figures
 * change, and the next run counts the calls of their days anew.  Function calls and refusals are
 * counted as they happen, so that theirs stay, also when the rows themselves have expired.  Between
 * "more than a day ago" and "two days after its end" lies a day: so long could a transaction that
 * needed no mark take without being missed.
 *
 * Exactness: marks are deleted first, and days counted by later statements, so a change is seen by
 * the count, or its mark is left for the next run.  Marks are never updated: a row of its own for
 * each change is what makes that so, and lets nobody wait.  All figures are integers or numeric.
 *
 * Locks: the company's row of usage_state, so that one run at a time works for a company.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "replication/logicalworker.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "act.h"
#include "companies.h"
#include "telephony.h"
#include "usage.h"

PG_FUNCTION_INFO_V1(tc_roll_up_usage);
PG_FUNCTION_INFO_V1(tc_usage_mark_trigger);

#define K                                                                                          \
	"WITH k AS MATERIALIZED (SELECT o.time_zone FROM @.companies AS o WHERE o.company_id = $1) "

/* Begins with the first day on which there was anything. */
static TcStatement make_state = {
	.sql = K
	"INSERT INTO @.usage_state (company_id, closed_until) SELECT $1, "
	"(least((SELECT min(" USAGE_BEGAN ") FROM @.calls AS c WHERE c.company_id = $1), "
	"(SELECT min(f.accepted_at) FROM @.function_calls AS f WHERE f.company_id = $1), "
	"(SELECT min(x.quarter) FROM @.refusals AS x WHERE x.company_id = $1), now() - " USAGE_LIVE
	") AT TIME ZONE k.time_zone)::date FROM k "
	"WHERE NOT EXISTS (SELECT FROM @.usage_state AS s WHERE s.company_id = $1) "
	"ON CONFLICT (company_id) DO NOTHING",
	.nparams = 1,
	.types = {INT8OID},
};
/* From which day to which; at most $2 days. */
static TcStatement lock_state = {
	.sql = "SELECT s.closed_until, greatest(s.closed_until, least(((now() - " USAGE_LIVE
		   ") AT TIME ZONE k.time_zone)::date::timestamp, "
		   "s.closed_until::timestamp + make_interval(days => $2))::date) "
		   "FROM @.usage_state AS s JOIN @.companies AS k USING (company_id) "
		   "WHERE s.company_id = $1 FOR UPDATE OF s",
	.nparams = 2,
	.types = {INT8OID, INT4OID},
};
/* Takes marks of days before $2; which of them had been closed, before $3. */
static TcStatement take_marks = {
	.sql = K
	", taken AS (DELETE FROM @.usage_marks AS m WHERE m.company_id = $1 AND m.ctid = ANY (ARRAY("
	"SELECT o.ctid FROM @.usage_marks AS o, k WHERE o.company_id = $1 "
	"AND o.began < " USAGE_MIDNIGHT(
		"$2") " LIMIT 100000)) RETURNING m.began) "
			  "SELECT array_agg(DISTINCT d.day) FROM (SELECT (t.began AT TIME ZONE k.time_zone)::date AS day "
			  "FROM taken AS t, k) AS d WHERE d.day < $3",
	.nparams = 3,
	.types = {INT8OID, DATEOID, DATEOID},
};
/* Counts the calls of closed days ($2) anew. */
static TcStatement recount_days = {
	.sql = K
	"INSERT INTO @.usage_daily AS u (company_id, day, calls, seconds, function_calls, refusals, "
	"cost_cents) SELECT $1, d.day, coalesce(l.calls, 0), coalesce(l.seconds, 0), 0, 0, "
	"coalesce(l.cost_cents, 0) FROM k CROSS JOIN unnest($2) AS d (day) LEFT JOIN LATERAL (" USAGE_CALLS(
		USAGE_MIDNIGHT("d.day"),
		USAGE_MIDNIGHT(
			"d.day + 1")) ") AS l ON true "
						  "ON CONFLICT (company_id, day) DO UPDATE SET calls = excluded.calls, "
						  "seconds = excluded.seconds, cost_cents = excluded.cost_cents",
	.nparams = 2,
	.types = {INT8OID, DATEARRAYOID},
};
/* Closes the days from $2 until before $3. */
static TcStatement close_days = {
	.sql = K
	"INSERT INTO @.usage_daily (company_id, day, calls, seconds, function_calls, refusals, "
	"cost_cents) SELECT $1, l.day, sum(l.calls), sum(l.seconds), sum(l.function_calls), "
	"sum(l.refusals), sum(l.cost_cents) FROM k CROSS JOIN LATERAL (" USAGE_CALLS(
		USAGE_MIDNIGHT("$2"),
		USAGE_MIDNIGHT(
			"$3")) " UNION ALL " USAGE_OTHERS(USAGE_MIDNIGHT("$2"),
											  USAGE_MIDNIGHT(
												  "$3")) ") AS l GROUP BY l.day "
														 "ON CONFLICT (company_id, day) DO UPDATE SET calls = excluded.calls, "
														 "seconds = excluded.seconds, function_calls = excluded.function_calls, "
														 "refusals = excluded.refusals, cost_cents = excluded.cost_cents",
	.nparams = 3,
	.types = {INT8OID, DATEOID, DATEOID},
};
static TcStatement advance_state = {
	.sql = "UPDATE @.usage_state SET closed_until = $2 WHERE company_id = $1",
	.nparams = 2,
	.types = {INT8OID, DATEOID},
};
static TcStatement insert_mark = {
	.sql = "INSERT INTO @.usage_marks (company_id, began) VALUES ($1, $2)",
	.nparams = 2,
	.types = {INT8OID, TIMESTAMPTZOID},
};

/* --- rolling up ------------------------------------------------------------------------------ */

/* Executes for a company and up to two more values. */
static uint64
execute_for(TcStatement *statement, int64 company_id, Datum first, Datum second)
{
	Datum values[2] = {first, second};
	TcParams params = {0};

	tc_param_int8(&params, company_id);
	for (int i = 0; i < statement->nparams - 1 && i < (int) lengthof(values); i++)
		tc_param_datum(&params, values[i], false);
	return tc_execute(statement, &params);
}

/* Counts closed days anew whose calls have changed; how many. */
static int
recount(int64 company_id, Datum from, Datum to)
{
	bool isnull;
	Datum days;

	execute_for(&take_marks, company_id, to, from);
	days = tc_result_datum(1, &isnull);
	if (isnull)
		return 0;
	days = PointerGetDatum(PG_DETOAST_DATUM_COPY(days));
	execute_for(&recount_days, company_id, days, (Datum) 0);
	return ArrayGetNItems(ARR_NDIM(DatumGetArrayTypeP(days)), ARR_DIMS(DatumGetArrayTypeP(days)));
}

/* Rolls up one company, at most max_days new days; how many days were counted, and anew. */
static int
roll_up(const TcContext *company, int max_days, int *recounted)
{
	int64 id = company->company_id;
	Datum from, to;
	bool isnull;
	int days;
	TcAct act;

	tc_act_begin(&act, TC_AS_OWNER, company);
	execute_for(&make_state, id, (Datum) 0, (Datum) 0);
	if (execute_for(&lock_state, id, Int32GetDatum(max_days), (Datum) 0) == 0)
	{
		tc_act_end(&act); /* deleted meanwhile */
		return 0;
	}
	from = tc_result_datum(1, &isnull);
	to = tc_result_datum(2, &isnull);
	days = DatumGetDateADT(to) - DatumGetDateADT(from);
	*recounted = recount(id, from, to);
	if (days > 0)
	{
		execute_for(&close_days, id, from, to);
		execute_for(&advance_state, id, to, (Datum) 0);
	}
	tc_act_end(&act);
	return days;
}

/* roll_up_usage(max_days integer) -> rows */
Datum
tc_roll_up_usage(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *info = (ReturnSetInfo *) fcinfo->resultinfo;
	TcContext *companies;
	int64 left;
	int count;

	if (PG_ARGISNULL(0) || PG_GETARG_INT32(0) <= 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"max_days\" must be positive")));
	left = PG_GETARG_INT32(0);
	InitMaterializedSRF(fcinfo, 0);
	companies = tc_companies(&count);
	for (int i = 0; i < count && left > 0; i++)
	{
		Datum values[3];
		bool nulls[3] = {false, false, false};
		int recounted = 0;
		int days;

		CHECK_FOR_INTERRUPTS();
		days = roll_up(&companies[i], (int) left, &recounted);
		left -= days + recounted;
		if (days + recounted == 0)
			continue;
		values[0] = Int64GetDatum(companies[i].company_id);
		values[1] = Int32GetDatum(days);
		values[2] = Int32GetDatum(recounted);
		tuplestore_putvalues(info->setResult, info->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* --- marking -------------------------------------------------------------------------------- */

/* What of a call usage depends on. */
enum
{
	CREATED_AT,
	STARTED_AT,
	DURATION,
	COST,
	COMPANY,
	N_FIGURES
};

typedef struct Figures
{
	AttrNumber columns[N_FIGURES];
} Figures;

/* The columns, looked up once per statement. */
static const Figures *
find_columns(FunctionCallInfo fcinfo, Relation rel)
{
	static const char *const names[] = {[CREATED_AT] = "created_at",
										[STARTED_AT] = "started_at",
										[DURATION] = "duration",
										[COST] = "cost_cents",
										[COMPANY] = "company_id"};
	Figures *figures = fcinfo->flinfo->fn_extra;

	if (figures != NULL)
		return figures;
	figures = MemoryContextAlloc(fcinfo->flinfo->fn_mcxt, sizeof(Figures));
	for (int i = 0; i < N_FIGURES; i++)
	{
		int column = SPI_fnumber(RelationGetDescr(rel), names[i]);

		if (column <= 0)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("column \"%s\" of table \"%s\" is missing", names[i],
							RelationGetRelationName(rel)),
					 errhint("The tables of create_tables() may be added to, not taken from.")));
		figures->columns[i] = column;
	}
	fcinfo->flinfo->fn_extra = figures;
	return figures;
}

/* When the call of a row began: USAGE_BEGAN. */
static TimestampTz
began(const Figures *figures, HeapTuple row, TupleDesc desc)
{
	bool isnull;
	TimestampTz created =
		DatumGetTimestampTz(heap_getattr(row, figures->columns[CREATED_AT], desc, &isnull));
	Datum started = heap_getattr(row, figures->columns[STARTED_AT], desc, &isnull);

	if (isnull)
		return created;
	return Min(DatumGetTimestampTz(started), created + USECS_PER_DAY);
}

/* Does an UPDATE leave the figures alone? */
static bool
same_figures(const Figures *figures, const TriggerData *data)
{
	TupleDesc desc = RelationGetDescr(data->tg_relation);

	for (int i = 0; i < COMPANY; i++)
	{
		Form_pg_attribute column = TupleDescAttr(desc, figures->columns[i] - 1);
		bool old_null, new_null;
		Datum old_value = heap_getattr(data->tg_trigtuple, figures->columns[i], desc, &old_null);
		Datum new_value = heap_getattr(data->tg_newtuple, figures->columns[i], desc, &new_null);

		if (old_null != new_null ||
			(!old_null && !datumIsEqual(old_value, new_value, column->attbyval, column->attlen)))
			return false;
	}
	return true;
}

/* Notes the day of a call, with the rights of the table's owner. */
static void
mark(const Figures *figures, const TriggerData *data, TimestampTz at)
{
	TcParams params = {0};
	bool isnull;
	Datum company = heap_getattr(data->tg_trigtuple, figures->columns[COMPANY],
								 RelationGetDescr(data->tg_relation), &isnull);
	Oid user;
	int sec_context;

	tc_param_datum(&params, company, isnull);
	tc_param_datum(&params, TimestampTzGetDatum(at), false);
	GetUserIdAndSecContext(&user, &sec_context);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	/* an error, or the abort of a subtransaction, gives the identity back as well */
	SetUserIdAndSecContext(data->tg_relation->rd_rel->relowner,
						   sec_context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_NOFORCE_RLS);
	tc_execute(&insert_mark, &params);
	SetUserIdAndSecContext(user, sec_context);
	SPI_finish();
}

/* Row trigger AFTER INSERT OR UPDATE of calls */
Datum
tc_usage_mark_trigger(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	TimestampTz since = GetCurrentTransactionStartTimestamp() - USAGE_MARKED_AFTER;
	bool update;
	const Figures *figures;
	TupleDesc desc;
	TimestampTz before, after;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("function was not called by the trigger manager")));
	if (IsLogicalWorker())
		PG_RETURN_POINTER(NULL); /* marks are replicated as well */
	update = TRIGGER_FIRED_BY_UPDATE(data->tg_event);
	figures = find_columns(fcinfo, data->tg_relation);
	desc = RelationGetDescr(data->tg_relation);
	before = began(figures, data->tg_trigtuple, desc);
	after = update ? began(figures, data->tg_newtuple, desc) : before;
	if (likely(before >= since && after >= since))
		PG_RETURN_POINTER(NULL);
	if (update && same_figures(figures, data))
		PG_RETURN_POINTER(NULL);
	if (before < since)
		mark(figures, data, before);
	if (after < since && after != before)
		mark(figures, data, after);
	PG_RETURN_POINTER(NULL);
}
