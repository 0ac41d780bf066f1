/*
 * company_stats.c
 *		What each company's tables say of its last 24 hours, for view stat_companies.
 *
 * Company after company, each under its own tenant (act.h), by indexes that begin with the company
 * and a time: the cost is that of a day's calls, whatever else there is.
 *
 * Administrators and members of pg_monitor see all companies, others the one that they have
 * entered.  No state, no locks that stay.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"

#include "act.h"
#include "companies.h"
#include "context.h"
#include "node.h"
#include "stuck.h"
#include "telephony.h"

PG_FUNCTION_INFO_V1(tc_company_stats);
PG_FUNCTION_INFO_V1(tc_company_hours);

static TcStatement select_day = {
	.sql =
		"WITH d AS MATERIALIZED (SELECT c.status, count(*) AS n, count(*) FILTER (WHERE "
		"c.status = ANY ($2) AND c.ended_at IS NULL AND c.analyzed_at IS NULL) AS live, "
		"max(c.created_at) AS last FROM @.calls AS c WHERE c.company_id = $1 "
		"AND c.created_at > now() - interval '24 hours' GROUP BY c.status), "
		"r AS MATERIALIZED (SELECT f.kind, f.outcome, f.reason, sum(f.refused)::bigint AS n, "
		"max(f.last_at) AS last FROM @.refusals AS f WHERE f.company_id = $1 "
		"AND f.quarter > now() - interval '24 hours' GROUP BY 1, 2, 3) "
		"SELECT o.company_id, o.name, o.status, o.status_reason, o.status_at, o.credential, "
		"coalesce((SELECT sum(n) FROM d), 0)::bigint, "
		"coalesce((SELECT sum(live) FROM d), 0)::bigint, "
		"coalesce((SELECT jsonb_object_agg(d.status, n) FROM d), '{}'), "
		"(SELECT max(last) FROM d), coalesce((SELECT sum(n) FROM r), 0)::bigint, "
		"coalesce((SELECT jsonb_object_agg(s.outcome, s.n) FROM (SELECT r.outcome, sum(r.n) AS n "
		"FROM r GROUP BY 1) AS s), '{}'), "
		"(SELECT concat_ws(' ', r.kind, r.outcome, nullif(r.reason, '')) FROM r ORDER BY r.n DESC, "
		"r.last DESC LIMIT 1), (SELECT max(last) FROM r), "
		/* quarters without a gap before the latest */
		"(SELECT min(q.quarter) FROM (SELECT l.quarter, l.quarter + row_number() OVER "
		"(ORDER BY l.quarter DESC) * interval '15 minutes' AS run FROM (SELECT DISTINCT f.quarter "
		"FROM @.refusals AS f WHERE f.company_id = $1 AND f.outcome = 'limited' "
		"AND f.quarter > now() - interval '24 hours') AS l) AS q "
		"WHERE q.run = (SELECT max(f.quarter) + interval '15 minutes' FROM @.refusals AS f "
		"WHERE f.company_id = $1 AND f.outcome = 'limited')), "
		"(SELECT string_agg(DISTINCT c.disconnection_reason, ', ') FROM @.calls AS c "
		"WHERE c.company_id = $1 AND c.created_at > now() - interval '24 hours' "
		"AND NOT EXISTS (SELECT FROM tenantcall.disconnection_reasons AS m "
		"WHERE m.reason = c.disconnection_reason) "
		"AND NOT EXISTS (SELECT FROM tenantcall.disconnection_reason_defaults AS m "
		"WHERE m.reason = c.disconnection_reason)) "
		"FROM @.companies AS o WHERE o.company_id = $1",
	.nparams = 2,
	.types = {INT8OID, TEXTARRAYOID},
};

static TcStatement select_hours = {
	.sql =
		"SELECT $1, h.hour, sum(h.calls)::bigint, sum(h.refused)::bigint FROM ("
		"SELECT date_trunc('hour', c.created_at), 1, 0 FROM @.calls AS c WHERE c.company_id = $1 "
		"AND c.created_at >= $2 UNION ALL "
		"SELECT date_trunc('hour', f.quarter), 0, f.refused FROM @.refusals AS f "
		"WHERE f.company_id = $1 AND f.quarter >= $2) AS h (hour, calls, refused) GROUP BY h.hour",
	.nparams = 2,
	.types = {INT8OID, TIMESTAMPTZOID},
};

/* Puts out what a statement says of one company. */
static void
put_company(ReturnSetInfo *info, TcStatement *statement, const TcContext *company, Datum argument)
{
	TcParams params = {0};
	uint64 count;
	TcAct act;

	tc_param_int8(&params, company->company_id);
	tc_param_datum(&params, argument, false);
	tc_act_begin(&act, TC_AS_OWNER, company);
	count = tc_execute(statement, &params);
	for (uint64 i = 0; i < count; i++)
		tuplestore_puttuple(info->setResult, SPI_tuptable->vals[i]);
	tc_act_end(&act);
}

/* Puts out what a statement says of each company that may be seen. */
static void
put_companies(ReturnSetInfo *info, TcStatement *statement, Datum argument)
{
	TcContext *companies;
	int count;

	companies = tc_companies_seen("companies", &count);
	for (int i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		put_company(info, statement, &companies[i], argument);
	}
}

/* Is there something to be seen? */
static bool
may_see(void)
{
	return tc_telephony() != NULL && (tc_context_current() != NULL || tc_sees_all());
}

/* company_stats() -> rows; none where create_tables() has not run, or nothing may be seen */
Datum
tc_company_stats(PG_FUNCTION_ARGS)
{
	if (tc_node_forward_statistics(fcinfo))
		return (Datum) 0;
	InitMaterializedSRF(fcinfo, 0);
	if (may_see())
		put_companies((ReturnSetInfo *) fcinfo->resultinfo, &select_day, tc_open_states());
	return (Datum) 0;
}

/* company_hours(since) -> rows: calls and refusals by hour */
Datum
tc_company_hours(PG_FUNCTION_ARGS)
{
	InitMaterializedSRF(fcinfo, 0);
	if (may_see())
		put_companies((ReturnSetInfo *) fcinfo->resultinfo, &select_hours, PG_GETARG_DATUM(0));
	return (Datum) 0;
}
