/*
 * act.c
 *		Acting for a tenant, or for the extension itself, from C.
 *
 * This is the only way by which work crosses companies.  It takes an identity (the NOLOGIN owner
 * of the tenants' tables, bound by row security like everybody; or the extension's owner for the
 * narrow tables of schema tenantcall), a tenant, and pinned settings; it gives them back at the
 * end.  PostgreSQL itself undoes all three when an error or a subtransaction abort gets in
 * between: the identity is restored by AbortTransaction and AbortSubTransaction, the settings,
 * which hold the tenant (context.c), with their nest level.
 *
 * Deferred constraints: users may add some to the tenants' tables.  The caller's pending ones on
 * these tables are settled before we begin, under the caller's own identity; ours are settled
 * before we end, so that none of our work is checked later under somebody else's tenant.
 *
 * No locks of its own.  Statements are prepared once per process and kept.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_namespace.h"
#include "commands/trigger.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/syscache.h"

#include "act.h"
#include "compat.h"
#include "context.h"
#include "node.h"
#include "ready.h"
#include "statement.h"
#include "telephony.h"

static List *deferrable = NIL; /* names of deferrable constraints on the tenants' tables */
static List *deferred = NIL;   /* those of them that are deferred from the beginning */
static bool deferrable_known = false;
static MemoryContext deferrable_context = NULL;

/* Syscache callback: some constraint changed. */
static void
constraint_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	deferrable_known = false;
}

/* Lists the deferrable constraints on the tenants' tables; normally there are none. */
static void
find_deferrable(Oid schema)
{
	static bool registered = false;
	Relation rel;
	SysScanDesc scan;
	HeapTuple tuple;
	MemoryContext caller;

	if (!registered)
		CacheRegisterSyscacheCallback(CONSTROID, constraint_changed, (Datum) 0);
	registered = true;
	if (deferrable_context == NULL)
		deferrable_context =
			AllocSetContextCreate(TopMemoryContext, "tenantcall constraints", ALLOCSET_SMALL_SIZES);
	MemoryContextReset(deferrable_context);
	deferrable = NIL;
	deferred = NIL;
	rel = table_open(ConstraintRelationId, AccessShareLock);
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_constraint form = (Form_pg_constraint) GETSTRUCT(tuple);
		RangeVar *name;

		if (!form->condeferrable || form->connamespace != schema)
			continue;
		caller = MemoryContextSwitchTo(deferrable_context);
		name = makeRangeVar(get_namespace_name(schema), pstrdup(NameStr(form->conname)), -1);
		deferrable = lappend(deferrable, name);
		if (form->condeferred)
			deferred = lappend(deferred, name);
		MemoryContextSwitchTo(caller);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

/* SET CONSTRAINTS ... IMMEDIATE or DEFERRED */
static void
set_constraints(List *constraints, bool to_deferred)
{
	ConstraintsSetStmt stmt = {.type = T_ConstraintsSetStmt};

	stmt.constraints = constraints;
	stmt.deferred = to_deferred;
	AfterTriggerSetState(&stmt);
}

/*
 * Checks now what is pending on the tenants' tables.  Afterwards each constraint is as it was
 * declared, whatever SET CONSTRAINTS had said of it.
 */
static void
settle_deferred(void)
{
	const TcTelephony *place = tc_telephony();

	if (place == NULL)
		return;
	if (!deferrable_known)
	{
		deferrable_known = true; /* a change during the scan resets it */
		PG_TRY();
		{
			find_deferrable(place->schema);
		}
		PG_CATCH();
		{
			deferrable_known = false;
			PG_RE_THROW();
		}
		PG_END_TRY();
	}
	if (likely(deferrable == NIL))
		return;
	set_constraints(deferrable, false);
	if (deferred != NIL)
		set_constraints(deferred, true);
}

/* Role that owns schema tenantcall, that is, the extension. */
static Oid
system_identity(void)
{
	HeapTuple tuple = SearchSysCache1(NAMESPACENAME, CStringGetDatum("tenantcall"));
	Oid owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "schema tenantcall does not exist");
	owner = ((Form_pg_namespace) GETSTRUCT(tuple))->nspowner;
	ReleaseSysCache(tuple);
	return owner;
}

/* Pins a setting for the current nest level. */
static void
pin_setting(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
							 false);
}

/* Raises if the company to act for, named or in context, is at home on another node. */
static void
require_home(const TcContext *tenant)
{
	const TcContext *company = tenant != NULL ? tenant : tc_context_current();

	if (company != NULL && company->company_id != 0)
		tc_node_require_home(company->company_id);
}

/* Takes the identity, the tenant and the settings. */
void
tc_act_begin(TcAct *act, TcIdentity identity, const TcContext *tenant)
{
	Oid user;

	tc_require_ready();
	if (identity == TC_AS_DIRECTORY)
		identity = tc_node_distributed() ? TC_AS_SYSTEM : TC_AS_OWNER;
	else if (identity == TC_AS_OWNER)
		require_home(tenant);
	settle_deferred();
	user = identity == TC_AS_OWNER ? tc_telephony_required()->owner : system_identity();
	GetUserIdAndSecContext(&act->user, &act->sec_context);
	act->guc_nest = NewGUCNestLevel();
	pin_setting("search_path", "pg_catalog, pg_temp");
	if (!row_security)
		pin_setting("row_security", "on");
	if (tenant != NULL)
		tc_context_push(tenant);
	SetUserIdAndSecContext(user, act->sec_context | SECURITY_LOCAL_USERID_CHANGE);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
}

/* Gives them back. */
void
tc_act_end(TcAct *act)
{
	SPI_finish();
	settle_deferred();
	SetUserIdAndSecContext(act->user, act->sec_context);
	AtEOXact_GUC(false, act->guc_nest);
}

/* Adds a parameter. */
void
tc_param_datum(TcParams *params, Datum value, bool isnull)
{
	Assert(params->count < TC_MAX_PARAMS);
	params->values[params->count] = value;
	params->nulls[params->count] = isnull ? 'n' : ' ';
	params->count++;
}

/* Adds a bigint; 0 becomes NULL. */
void
tc_param_int8(TcParams *params, int64 value)
{
	tc_param_datum(params, Int64GetDatum(value), value == 0);
}

/* Adds a text. */
void
tc_param_text(TcParams *params, const char *value)
{
	tc_param_datum(params, value == NULL ? (Datum) 0 : CStringGetTextDatum(value), value == NULL);
}

/*
 * Prepares the statement unless it is prepared for the present tables.
 *
 * A plan made while a table was empty may scan an index by company alone, and PostgreSQL keeps it
 * until the table is analyzed, however large the table has grown by then.  So a statement is
 * planned anew after 16, 64, 256, ... executions.
 */
static void
prepare(TcStatement *statement)
{
	char *sql;

	(void) tc_telephony();
	statement->executions++;
	if (likely(statement->plan != NULL && statement->executions < statement->next_replan &&
			   statement->generation == tc_telephony_generation()))
		return;
	statement->next_replan = Max(16, statement->executions * 4);
	if (statement->running_in == TC_MY_LXID)
		return; /* a trigger on our tables came back to us: the plan is in use */
	if (statement->plan != NULL)
		SPI_freeplan(statement->plan);
	statement->plan = NULL;
	sql = tc_statement_text(statement->sql);
	statement->plan = SPI_prepare(sql, statement->nparams, statement->types);
	if (statement->plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	SPI_keepplan(statement->plan);
	statement->generation = tc_telephony_generation();
}

/* Executes and returns the number of rows. */
uint64
tc_execute(TcStatement *statement, const TcParams *params)
{
	LocalTransactionId outer;
	int result;

	Assert(params == NULL ? statement->nparams == 0 : statement->nparams == params->count);
	statement = tc_statement_here(statement);
	prepare(statement);
	outer = statement->running_in;
	statement->running_in = TC_MY_LXID;
	result = SPI_execute_plan(statement->plan, params == NULL ? NULL : (Datum *) params->values,
							  params == NULL ? NULL : params->nulls, false, 0);
	statement->running_in = outer;
	if (result < 0)
		elog(ERROR, "SPI_execute_plan failed: %s", SPI_result_code_string(result));
	return SPI_processed;
}

/* A column of row 0 of the result. */
Datum
tc_result_datum(int column, bool *isnull)
{
	Assert(SPI_processed > 0);
	return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, isnull);
}

/* The same as bigint; 0 for NULL. */
int64
tc_result_int8(int column)
{
	bool isnull;
	Datum value = tc_result_datum(column, &isnull);

	return isnull ? 0 : DatumGetInt64(value);
}

/* The same as text; NULL for NULL. */
char *
tc_result_text(int column)
{
	return SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column);
}
