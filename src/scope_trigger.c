/*
 * scope_trigger.c
 *		The triggers of a scoped table: the company of a row is frozen, writes need a tenant.
 *
 * All are ENABLE ALWAYS.  They bother nobody whom row security does not bind: superusers, roles
 * with BYPASSRLS, referential actions, a restore.  Only the freeze holds for everybody.
 *
 * No state, no locks.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/rel.h"
#include "utils/rls.h"

#include "context.h"
#include "errors.h"
#include "scope.h"
#include "stat.h"

#define COMPANY_COLUMN "company_id"

PG_FUNCTION_INFO_V1(tc_scope_freeze_trigger);
PG_FUNCTION_INFO_V1(tc_scope_guard_trigger);
PG_FUNCTION_INFO_V1(tc_scope_truncate_trigger);
PG_FUNCTION_INFO_V1(tc_scope_row_trigger);

/* The relation a trigger function was called for; raises if it was called otherwise. */
static Relation
trigger_relation(FunctionCallInfo fcinfo)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("function was not called by the trigger manager")));
	return ((TriggerData *) fcinfo->context)->tg_relation;
}

/* Does row security bind the current user on this table? */
static bool
is_bound(Relation rel)
{
	return check_enable_rls(RelationGetRelid(rel), InvalidOid, true) == RLS_ENABLED;
}

/* Row trigger of an UPDATE, called only when the company would change. */
Datum
tc_scope_freeze_trigger(PG_FUNCTION_ARGS)
{
	Relation rel = trigger_relation(fcinfo);

	ereport(ERROR, (errcode(ERRCODE_TC_WRONG_TENANT),
					errmsg("the company of a row of table \"%s\" cannot be changed",
						   RelationGetRelationName(rel)),
					errdetail("A row belongs to one company for as long as it exists."),
					errhint("Insert a new row as the other company, and delete this one.")));
	PG_RETURN_POINTER(NULL);
}

/* Refuses to write without a tenant. */
Datum
tc_scope_guard_trigger(PG_FUNCTION_ARGS)
{
	Relation rel = trigger_relation(fcinfo);
	const TcContext *context = tc_context_current();
	const TcScoped *scoped = tc_scope_lookup(RelationGetRelid(rel));
	bool by_uuid = scoped != NULL && scoped->type == UUIDOID;

	if (context != NULL &&
		(by_uuid ? !tc_uuid_is_nil(context->company_uuid) : context->company_id != 0))
		PG_RETURN_POINTER(NULL);
	if (!is_bound(rel))
		PG_RETURN_POINTER(NULL);
	tc_stat_count(0, TC_STAT_MISSING_WRITE);
	if (context == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_TC_WRONG_TENANT),
				 errmsg("no tenant has been entered in this transaction"),
				 errdetail("Table \"%s\" is scoped by company.", RelationGetRelationName(rel)),
				 errhint("Call tenantcall.enter_token(), or tenantcall.enter() as a gateway, in "
						 "the same transaction first.")));
	ereport(ERROR, (errcode(ERRCODE_TC_WRONG_TENANT),
					errmsg("the tenant entered has no %s", by_uuid ? "UUID" : "number"),
					errdetail("Table \"%s\" is scoped by the company's %s.",
							  RelationGetRelationName(rel), by_uuid ? "UUID" : "number"),
					errhint("Call tenantcall.%s() instead.", by_uuid ? "enter_uuid" : "enter")));
	PG_RETURN_POINTER(NULL);
}

/* Refuses TRUNCATE, which row security does not filter. */
Datum
tc_scope_truncate_trigger(PG_FUNCTION_ARGS)
{
	Relation rel = trigger_relation(fcinfo);

	if (is_bound(rel))
		ereport(ERROR, (errcode(ERRCODE_TC_WRONG_TENANT),
						errmsg("table \"%s\" cannot be truncated", RelationGetRelationName(rel)),
						errdetail("TRUNCATE would remove the rows of every company."),
						errhint("Use DELETE, which removes the rows of the company entered.")));
	PG_RETURN_POINTER(NULL);
}

/*
 * Row trigger of an INSERT into a table that Citus distributes: holds the row to the company in
 * context.  Row security alone does not: rows that Citus copies into a shard of its own node, as
 * for COPY and some INSERT ... SELECT, never meet a policy.
 */
Datum
tc_scope_row_trigger(PG_FUNCTION_ARGS)
{
	Relation rel = trigger_relation(fcinfo);
	TriggerData *data = (TriggerData *) fcinfo->context;
	const TcContext *context = tc_context_current();
	int column = SPI_fnumber(RelationGetDescr(rel), COMPANY_COLUMN);
	bool isnull = true;
	Datum company = (Datum) 0;

	if (column > 0)
		company = SPI_getbinval(data->tg_trigtuple, RelationGetDescr(rel), column, &isnull);
	if (!isnull && context != NULL && context->company_id != 0 &&
		DatumGetInt64(company) == context->company_id)
		return PointerGetDatum(data->tg_trigtuple);
	if (is_bound(rel))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("new row violates row-level security policy for table \"%s\"",
							   RelationGetRelationName(rel))));
	return PointerGetDatum(data->tg_trigtuple);
}
