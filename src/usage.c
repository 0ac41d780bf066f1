/*
 * usage.c
 *		What each company used on each day.
 *
 * Company after company, each under its own tenant (act.h); days are those of the company's time
 * zone.  A call counts on the day on which it began, with all of its minutes and cost.
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

PG_FUNCTION_INFO_V1(tc_company_usage);

static TcStatement select_usage = {
	.sql = "SELECT k.company_id, u.day, sum(u.calls)::bigint, "
		   "round(sum(u.seconds) / 60, 2), sum(u.function_calls)::bigint, sum(u.refusals)::bigint, "
		   "sum(u.cost), sum(u.bookings)::bigint FROM @.companies AS k CROSS JOIN LATERAL ("
		   "SELECT ($2::timestamp AT TIME ZONE k.time_zone), "
		   "(($3 + 1)::timestamp AT TIME ZONE k.time_zone)) AS r (first, past) CROSS JOIN LATERAL ("
		   "SELECT (coalesce(c.started_at, c.created_at) AT TIME ZONE k.time_zone)::date, 1, "
		   "coalesce(extract(epoch FROM c.duration), 0), 0, 0, coalesce(c.cost_cents, 0), 0 "
		   "FROM @.calls AS c WHERE c.company_id = k.company_id "
		   "AND coalesce(c.started_at, c.created_at) >= r.first "
		   "AND coalesce(c.started_at, c.created_at) < r.past "
		   "UNION ALL SELECT (f.accepted_at AT TIME ZONE k.time_zone)::date, 0, 0, 1, 0, 0, 0 "
		   "FROM @.function_calls AS f WHERE f.company_id = k.company_id "
		   "AND f.accepted_at >= r.first AND f.accepted_at < r.past "
		   "UNION ALL SELECT (d.decided_at AT TIME ZONE k.time_zone)::date, 0, 0, 0, 1, 0, 0 "
		   "FROM @.tenant_decisions AS d WHERE d.company_id = k.company_id "
		   "AND d.outcome IN ('limited', 'suspended', 'rejected', 'conflict') "
		   "AND d.kind <> 'match' "
		   "AND d.decided_at >= r.first AND d.decided_at < r.past "
		   "UNION ALL SELECT (a.confirmed_at AT TIME ZONE k.time_zone)::date, 0, 0, 0, 0, 0, 1 "
		   "FROM @.appointments AS a WHERE a.company_id = k.company_id AND NOT a.elsewhere "
		   "AND a.confirmed_at >= r.first AND a.confirmed_at < r.past"
		   ") AS u (day, calls, seconds, function_calls, refusals, cost, bookings) "
		   "WHERE k.company_id = $1 GROUP BY k.company_id, u.day ORDER BY u.day",
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
