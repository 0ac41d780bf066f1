/*
 * reasons.c
 *		Disconnection reasons that nobody has given a meaning.
 *
 * The vendor adds reasons.  A call that ends for one that is not in disconnection_reasons or its
 * defaults ends in a state by the vendor's word of its status; here operators see which they were.
 *
 * No state, no locks that stay.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"

#include "act.h"
#include "companies.h"
#include "node.h"

PG_FUNCTION_INFO_V1(tc_unmapped_reasons);

static TcStatement select_unmapped = {
	.sql = "SELECT $1, c.disconnection_reason, count(*), max(coalesce(c.ended_at, c.created_at)) "
		   "FROM @.calls AS c WHERE c.company_id = $1 AND c.disconnection_reason IS NOT NULL "
		   "AND NOT EXISTS (SELECT FROM tenantcall.disconnection_reasons AS r "
		   "WHERE r.reason = c.disconnection_reason) "
		   "AND NOT EXISTS (SELECT FROM tenantcall.disconnection_reason_defaults AS d "
		   "WHERE d.reason = c.disconnection_reason) "
		   "GROUP BY c.disconnection_reason ORDER BY c.disconnection_reason",
	.nparams = 1,
	.types = {INT8OID},
};

/* unmapped_reasons() -> rows */
Datum
tc_unmapped_reasons(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *info = (ReturnSetInfo *) fcinfo->resultinfo;
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
		tc_param_int8(&params, companies[i].company_id);
		tc_act_begin(&act, TC_AS_OWNER, &companies[i]);
		rows = tc_execute(&select_unmapped, &params);
		for (uint64 row = 0; row < rows; row++)
			tuplestore_puttuple(info->setResult, SPI_tuptable->vals[row]);
		tc_act_end(&act);
	}
	return (Datum) 0;
}
