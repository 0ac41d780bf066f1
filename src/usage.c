/*
 * usage.c
 *		What each company used on each day.
 *
 * Company after company, each under its own tenant (act.h); days are those of the company's time
 * zone.  A call counts on the day on which it began, with all of its minutes and cost.
 *
 * Days that are rolled up (usage_rollup.c) are read from usage_daily, but those with a mark: their
 * calls have changed since, and are counted anew.  Later days are counted from what there is.
 *
 * No state, no locks that stay.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/date.h"

#include "act.h"
#include "companies.h"
#include "node.h"
#include "usage.h"

PG_FUNCTION_INFO_V1(tc_company_usage);

/* $2 and $3 are first and last day. */
static TcStatement select_usage = {
	.sql =
		"WITH k AS MATERIALIZED (SELECT o.time_zone, coalesce((SELECT s.closed_until "
		"FROM @.usage_state AS s WHERE s.company_id = $1), '-infinity') AS closed "
		"FROM @.companies AS o WHERE o.company_id = $1), "
		"changed AS MATERIALIZED (SELECT DISTINCT (m.began AT TIME ZONE k.time_zone)::date AS day "
		"FROM @.usage_marks AS m, k WHERE m.company_id = $1) "
		"SELECT $1, day, coalesce(v.calls, 0), coalesce(v.minutes, 0), "
		"coalesce(v.function_calls, 0), coalesce(v.refusals, 0), coalesce(v.cost_cents, 0), "
		"coalesce(b.bookings, 0) FROM ("
		"SELECT u.day, sum(u.calls)::bigint AS calls, round(sum(u.seconds) / 60, 2) AS minutes, "
		"sum(u.function_calls)::bigint AS function_calls, sum(u.refusals)::bigint AS refusals, "
		"sum(u.cost_cents) AS cost_cents FROM ("
		/* rolled up; of changed days all but what is of calls */
		"SELECT d.day, CASE WHEN g.day IS NULL THEN d.calls ELSE 0 END, "
		"CASE WHEN g.day IS NULL THEN d.seconds ELSE 0 END, d.function_calls, d.refusals, "
		"CASE WHEN g.day IS NULL THEN d.cost_cents ELSE 0 END FROM k CROSS JOIN @.usage_daily "
		"AS d LEFT JOIN changed AS g USING (day) "
		"WHERE d.company_id = $1 AND d.day BETWEEN $2 AND $3 AND d.day < k.closed "
		"UNION ALL SELECT l.* FROM k CROSS JOIN changed AS g CROSS JOIN LATERAL (" USAGE_CALLS(
			USAGE_MIDNIGHT("g.day"),
			USAGE_MIDNIGHT(
				"g.day + 1")) ") AS l "
							  "WHERE g.day BETWEEN $2 AND $3 AND g.day < k.closed "
							  "UNION ALL SELECT l.* FROM k CROSS JOIN LATERAL (" USAGE_CALLS(
								  USAGE_MIDNIGHT("greatest($2, k.closed)"),
								  USAGE_MIDNIGHT(
									  "$3 + 1")) " UNION ALL " USAGE_OTHERS(USAGE_MIDNIGHT("greatest($2, k.closed)"),
																			USAGE_MIDNIGHT(
																				"$3 + 1")) ") AS l) AS u (day, calls, seconds, function_calls, refusals, cost_cents) "
																						   "GROUP BY u.day HAVING sum(u.calls) + sum(u.function_calls) + sum(u.refusals) > 0) AS v "
																						   /* appointments
																							  stay,
																							  so
																							  that
																							  these
																							  need
																							  no
																							  roll-up
																							*/
																						   "FULL JOIN (SELECT (a.confirmed_at AT TIME ZONE k.time_zone)::date AS day, "
																						   "count(*) AS bookings FROM k CROSS JOIN @.appointments AS a WHERE a.company_id = $1 "
																						   "AND NOT a.elsewhere AND a.confirmed_at >= " USAGE_MIDNIGHT(
																							   "$2") " "
																									 "AND a.confirmed_at < " USAGE_MIDNIGHT(
																										 "$3 + 1") " GROUP BY 1) AS b USING (day) "
																												   "ORDER BY day",
	.nparams = 3,
	.types = {INT8OID, DATEOID, DATEOID},
};

/* A day argument. */
static DateADT
day_argument(FunctionCallInfo fcinfo, int arg, const char *name)
{
	if (PG_ARGISNULL(arg))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("argument \"%s\" must not be NULL", name)));
	if (DATE_NOT_FINITE(PG_GETARG_DATEADT(arg)))
		ereport(ERROR, (errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
						errmsg("argument \"%s\" must be finite", name)));
	return PG_GETARG_DATEADT(arg);
}

/* company_usage(from_day date, to_day date) -> rows */
Datum
tc_company_usage(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *info = (ReturnSetInfo *) fcinfo->resultinfo;
	DateADT from = day_argument(fcinfo, 0, "from_day");
	DateADT to = day_argument(fcinfo, 1, "to_day");
	TcContext *companies;
	int count;

	if (tc_node_forward_statistics(fcinfo))
		return (Datum) 0;
	InitMaterializedSRF(fcinfo, 0);
	companies = tc_companies(&count);
	for (int i = 0; i < count; i++)
	{
		TcParams params = {0};
		uint64 rows;
		TcAct act;

		CHECK_FOR_INTERRUPTS();
		tc_act_begin(&act, TC_AS_OWNER, &companies[i]);
		tc_param_int8(&params, companies[i].company_id);
		tc_param_datum(&params, DateADTGetDatum(from), false);
		tc_param_datum(&params, DateADTGetDatum(to), false);
		rows = tc_execute(&select_usage, &params);
		for (uint64 row = 0; row < rows; row++)
			tuplestore_puttuple(info->setResult, SPI_tuptable->vals[row]);
		tc_act_end(&act);
	}
	return (Datum) 0;
}
