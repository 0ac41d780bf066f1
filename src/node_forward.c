/*
 * node_forward.c
 *		Calls of our SQL functions that go to the node where the company is at home.
 *
 *		function on any node --arguments as text--> tenantcall.call_at_home() on the home node,
 *		by Citus, as the same role, in the same transaction --result as text--> function's result
 *
 * call_at_home() is the one function that distribute() makes Citus distribute.  A ticket goes along
 * (node_ticket.c), with the context that was entered.  The lock of node.c is held here as well, so
 * that the shards stay where Citus sends the call.
 *
 * The calls of the voice platform are bound to companies on the coordinator, in one table: so it
 * alone takes them in, whatever the number of nodes.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_proc.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

#include "compat.h"
#include "context.h"
#include "errors.h"
#include "node.h"
#include "node_peer.h"
#include "node_ticket.h"

/* Appends the arguments as an array of texts. */
static void
append_arguments(StringInfo sql, FunctionCallInfo fcinfo)
{
	Oid *types;
	int nargs;

	(void) get_func_signature(fcinfo->flinfo->fn_oid, &types, &nargs);
	appendStringInfoString(sql, "ARRAY[");
	for (int i = 0; i < nargs; i++)
	{
		Oid output;
		bool varlena;

		appendStringInfoString(sql, i > 0 ? ", " : "");
		getTypeOutputInfo(types[i], &output, &varlena);
		appendStringInfoString(sql, PG_ARGISNULL(i)
										? "NULL"
										: quote_literal_cstr(
											  OidOutputFunctionCall(output, PG_GETARG_DATUM(i))));
	}
	appendStringInfoString(sql, "]::pg_catalog.text[]");
}

/* The statement that Citus sends on. */
static char *
forwarded_statement(FunctionCallInfo fcinfo, int64 company_id, const char *call)
{
	const TcContext *context = tc_context_current();
	char *function = format_procedure_qualified(fcinfo->flinfo->fn_oid);
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT r FROM tenantcall.call_at_home(" INT64_FORMAT ", ", company_id);
	appendStringInfo(&sql, "%s, ",
					 quote_literal_cstr(tc_ticket_make(context, company_id, function, call)));
	appendStringInfo(&sql, "%s, ", quote_literal_cstr(function));
	append_arguments(&sql, fcinfo);
	appendStringInfo(&sql, ", %s) AS r", call == NULL ? "NULL" : quote_literal_cstr(call));
	return sql.data;
}

/* The result of its text form, in the caller's memory. */
static Datum
parse_result(FunctionCallInfo fcinfo, char *text)
{
	TupleDesc desc = NULL;
	Oid type;
	Oid input;
	Oid param;
	int32 typmod = -1;

	if (get_call_result_type(fcinfo, &type, &desc) == TYPEFUNC_COMPOSITE && type == RECORDOID)
	{
		desc = BlessTupleDesc(desc);
		typmod = desc->tdtypmod;
	}
	getTypeInputInfo(type, &input, &param);
	return OidInputFunctionCall(input, text, param, typmod);
}

/* The same for functions that materialize a set. */
bool
tc_node_forward_set(FunctionCallInfo fcinfo, int64 company_id)
{
	ReturnSetInfo *info = (ReturnSetInfo *) fcinfo->resultinfo;
	Oid input;
	Oid type_of_row;

	if (likely(!tc_node_distributed()) || tc_node_hold(company_id))
		return false;
	InitMaterializedSRF(fcinfo, MAT_SRF_BLESS);
	getTypeInputInfo(info->setDesc->tdtypeid, &input, &type_of_row);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute(forwarded_statement(fcinfo, company_id, NULL), false, 0) != SPI_OK_SELECT)
		elog(ERROR, "a forwarded call returned no rows");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		char *text = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
		Datum row = OidInputFunctionCall(input, text, type_of_row, info->setDesc->tdtypmod);
		HeapTupleHeader header = DatumGetHeapTupleHeader(row);
		HeapTupleData tuple = {.t_len = HeapTupleHeaderGetDatumLength(header), .t_data = header};

		tuplestore_puttuple(info->setResult, &tuple);
	}
	SPI_finish();
	return true;
}

/*
 * Has the function called where the company is at home, in the same transaction; false if that is
 * here.  The context goes along, and so does the binding of a call, unless NULL, to the company.
 */
bool
tc_node_forward(FunctionCallInfo fcinfo, int64 company_id, const char *call, Datum *result)
{
	ReturnSetInfo *info = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext caller = CurrentMemoryContext;
	char *text = NULL;

	if (likely(!tc_node_distributed()) || tc_node_hold(company_id))
		return false;
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute(forwarded_statement(fcinfo, company_id, call), false, 0) != SPI_OK_SELECT)
		elog(ERROR, "a forwarded call returned no rows");
	if (SPI_processed > 0)
		text = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	if (text != NULL)
		text = MemoryContextStrdup(caller, text);
	SPI_finish();
	fcinfo->isnull = text == NULL;
	if (info != NULL && IsA(info, ReturnSetInfo) && fcinfo->flinfo->fn_retset)
		info->isDone = text == NULL ? ExprEndResult : ExprSingleResult;
	*result = text == NULL ? (Datum) 0 : parse_result(fcinfo, text);
	return true;
}

/* Carries the context that was entered to nodes that this transaction will work on. */
void
tc_node_spread(const TcContext *context)
{
	char *sql;

	if (likely(!tc_node_distributed()) || tc_node_internal())
		return;
	(void) set_config_option("citus.propagate_set_commands", "local", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_LOCAL, true, 0, false);
	sql = psprintf("SET LOCAL tenantcall.token = %s",
				   quote_literal_cstr(tc_ticket_make(context, 0, NULL, NULL)));
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	tc_ticket_own = true;
	PG_TRY();
	{
		if (SPI_execute(sql, false, 0) != SPI_OK_UTILITY)
			elog(ERROR, "could not set tenantcall.token");
	}
	PG_FINALLY();
	{
		tc_ticket_own = false;
	}
	PG_END_TRY();
	SPI_finish();
}

/* Enters the tenant on the company's node, so that the entry is recorded there. */
void
tc_node_enter_there(const TcContext *context)
{
	char *branch = context->branch_id == 0
					   ? pstrdup("NULL")
					   : psprintf("'" INT64_FORMAT "'", (int64) context->branch_id);
	char *sql = psprintf("SELECT 1 FROM tenantcall.call_at_home(" INT64_FORMAT
						 ", NULL, 'tenantcall.enter(bigint,bigint)', "
						 "ARRAY['" INT64_FORMAT "', %s]::pg_catalog.text[])",
						 (int64) context->company_id, (int64) context->company_id, branch);

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute(sql, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "a forwarded call returned no rows");
	SPI_finish();
}

/* Has statistics of the company that was entered told where it is at home. */
bool
tc_node_forward_statistics(FunctionCallInfo fcinfo)
{
	const TcContext *context = tc_context_current();

	return unlikely(tc_node_citus) && context != NULL && context->company_id != 0 &&
		   tc_node_forward_set(fcinfo, context->company_id);
}

/* Raises unless the company is at home on this node. */
void
tc_node_require_home(int64 company_id)
{
	if (!tc_node_distributed())
		return;
	if (IsolationUsesXactSnapshot())
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("on Citus, companies are worked for in READ COMMITTED only"),
						errdetail("An older snapshot may show shards that have moved away since."),
						errhint("BEGIN ISOLATION LEVEL READ COMMITTED.")));
	if (!tc_node_hold(company_id))
		ereport(ERROR, (errcode(ERRCODE_TC_UNAVAILABLE),
						errmsg("company " INT64_FORMAT " is not at home on this node", company_id),
						errdetail("Its shards are on another node of the cluster."),
						errhint("tenantcall.company_node() names the node; or use "
								"tenantcall.call_at_home() on any node.")));
}

/* Raises unless this is the coordinator, or it has sent us the call. */
void
tc_node_require_front(void)
{
	if (likely(!tc_node_distributed()) || tc_node_is_coordinator() || tc_ticket_admits())
		return;
	ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					errmsg("what platforms and calendars send is taken in on the coordinator"),
					errdetail("It alone knows whose each message is."),
					errhint("Connect to the coordinator of the cluster.")));
}
