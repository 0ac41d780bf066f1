/*
 * elected_sql.c
 *		The elected node of a Citus cluster from SQL.
 *
 *		elect_node() --as the extension's owner--> move_election() (SQL) --> elected_nodes
 *
 * Locks: those of Citus on the row of elected_nodes.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "act.h"
#include "args.h"
#include "elected.h"
#include "errors.h"
#include "http.h"
#include "http_database.h"
#include "node.h"
#include "ready.h"

PG_FUNCTION_INFO_V1(tc_elect_node);
PG_FUNCTION_INFO_V1(tc_elected_node);
PG_FUNCTION_INFO_V1(tc_worker_duty);
PG_FUNCTION_INFO_V1(tc_worker_has_retired);
PG_FUNCTION_INFO_V1(tc_wake_worker);

static TcStatement move_election = {
	.sql = "SELECT tenantcall.move_election($1, $2)",
	.nparams = 2,
	.types = {TEXTOID, INT4OID},
};
static TcStatement find_elected = {
	.sql = "SELECT * FROM tenantcall.find_elected()",
};

/* elect_node(node_name, node_port) -> generation */
Datum
tc_elect_node(PG_FUNCTION_ARGS)
{
	char *name = tc_arg_text(fcinfo, 0, "node_name");
	TcParams params = {0};
	int64 generation;
	TcAct act;

	if (PG_ARGISNULL(1))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("argument \"node_port\" must not be NULL")));
	tc_param_text(&params, name);
	tc_param_datum(&params, PG_GETARG_DATUM(1), false);
	tc_act_begin(&act, TC_AS_SYSTEM, NULL);
	(void) tc_execute(&move_election, &params);
	generation = tc_result_int8(1);
	tc_act_end(&act);
	tc_http_wake_at_commit();
	PG_RETURN_INT64(generation);
}

/* elected_node() -> row */
Datum
tc_elected_node(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *info = (ReturnSetInfo *) fcinfo->resultinfo;
	uint64 count;
	TcAct act;

	InitMaterializedSRF(fcinfo, 0);
	tc_act_begin(&act, TC_AS_SYSTEM, NULL);
	count = tc_execute(&find_elected, NULL);
	for (uint64 i = 0; i < count; i++)
		tuplestore_puttuple(info->setResult, SPI_tuptable->vals[i]);
	tc_act_end(&act);
	return (Datum) 0;
}

/* worker_duty() -> text */
Datum
tc_worker_duty(PG_FUNCTION_ARGS)
{
	int duty;
	int64 retired;

	tc_require_ready();
	if (!tc_http_database_duty(&duty, &retired))
		PG_RETURN_TEXT_P(cstring_to_text("no worker"));
	PG_RETURN_TEXT_P(cstring_to_text(tc_duty_name((TcDuty) duty)));
}

/* worker_has_retired(generation) -> boolean, asked by the node that won that election */
Datum
tc_worker_has_retired(PG_FUNCTION_ARGS)
{
	int64 generation = PG_GETARG_INT64(0);
	TcElected elected;
	int64 retired;
	int duty;

	tc_require_ready();
	if (!tc_elected(&elected) || elected.generation < generation)
		PG_RETURN_BOOL(false); /* a worker that starts now might not know it yet */
	PG_RETURN_BOOL(!tc_http_database_duty(&duty, &retired) || retired >= generation);
}

/* wake_worker() -> boolean: is there one? */
Datum
tc_wake_worker(PG_FUNCTION_ARGS)
{
	tc_require_ready();
	tc_http_wake();
	PG_RETURN_BOOL(tc_http_worker_alive());
}
