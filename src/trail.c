/*
 * trail.c
 *		The audit trail: who may change it, and how long it is kept.
 *
 * Triggers on each of its tables refuse UPDATE, DELETE and TRUNCATE to everybody: to the owner of
 * the tables, and to superusers, who would have to take the triggers away first.  The library opens
 *the trail for single statements of its own: counting deliveries and refusals, keeping the longest
 * transcript, forgetting a caller, deleting a company, and what is too old.  SQL cannot open it.
 *
 * What is open is remembered with the subtransaction that opened it.  Ids of subtransactions are
 * not used twice within a transaction, so that an error leaves nothing open.
 *
 * Partitions are made and dropped as the owner of the extension, each under a short lock_timeout
 * (66_trail.sql).  Rows of tables without partitions are deleted company after company.
 *
 * Locks: those of the statements; none that stay longer than the transaction.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "replication/logicalworker.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "act.h"
#include "companies.h"
#include "compat.h"
#include "context.h"
#include "telephony.h"
#include "trail.h"

PG_FUNCTION_INFO_V1(tc_trail_guard_trigger);
PG_FUNCTION_INFO_V1(tc_maintain_partitions);
PG_FUNCTION_INFO_V1(tc_expire_rows);
PG_FUNCTION_INFO_V1(tc_expire_unplaced_rows);

/* By whom the trail is open, if by anybody. */
static LocalTransactionId open_in = InvalidLocalTransactionId;
static SubTransactionId open_subxact = InvalidSubTransactionId;

static TcStatement change_partitions = {
	.sql = "SELECT * FROM tenantcall.change_partitions($1, $2)",
	.nparams = 2,
	.types = {INT4OID, INT4OID},
};
static TcStatement read_limits = {
	.sql = "SELECT r.relation, now() - r.keep FROM tenantcall.retentions_in_force AS r "
		   "WHERE r.keep IS NOT NULL",
};

/* Rows of one company ($1) that are older than $2, at most $3. */
#define EXPIRE(table, condition)                                                                   \
	"DELETE FROM " table " WHERE company_id = $1 AND ctid = ANY (ARRAY(SELECT e.ctid FROM " table  \
	" AS e WHERE e.company_id = $1 AND " condition " LIMIT $3))"
/* Only once they are in the figures of usage_daily. */
#define ROLLED_UP(column)                                                                          \
	column                                                                                         \
		" < (SELECT s.closed_until::timestamp AT TIME ZONE k.time_zone FROM @.usage_state AS s "   \
		"JOIN @.companies AS k USING (company_id) WHERE s.company_id = $1)"

/* What expires by rows; default partitions take in what lies outside of all others. */
typedef struct Expiry
{
	const char *relation;
	bool of_companies;
	TcStatement statement;
} Expiry;

static Expiry expiries[] = {
	{"call_events", true, {.sql = EXPIRE("@.call_events_default", "e.call_at < $2")}},
	{"call_transitions", true, {.sql = EXPIRE("@.call_transitions_default", "e.at < $2")}},
	{"tenant_decisions", true, {.sql = EXPIRE("@.tenant_decisions_default", "e.decided_at < $2")}},
	{"refusals",
	 true,
	 {.sql = EXPIRE("@.refusals_default", "e.quarter < $2 AND " ROLLED_UP("e.quarter"))}},
	{"function_calls",
	 true,
	 {.sql = EXPIRE("@.function_calls", "e.accepted_at < $2 AND e.lease_until < now() "
										"AND " ROLLED_UP("e.accepted_at"))}},
	{"quarantine",
	 false,
	 {.sql = "DELETE FROM tenantcall.quarantine WHERE $1 = 0 AND ctid = ANY (ARRAY(SELECT q.ctid "
			 "FROM tenantcall.quarantine AS q WHERE q.quarantined_at < $2 LIMIT $3))"}},
	{"unplaced_refusals",
	 false,
	 {.sql = "DELETE FROM tenantcall.unplaced_refusals WHERE $1 = 0 AND ctid = ANY (ARRAY("
			 "SELECT u.ctid FROM tenantcall.unplaced_refusals AS u WHERE u.quarter < $2 "
			 "LIMIT $3))"}},
};

/* --- append-only ---------------------------------------------------------------------------- */

/* Lets this subtransaction change the trail. */
void
tc_trail_open(void)
{
	open_in = TC_MY_LXID;
	open_subxact = GetCurrentSubTransactionId();
}

/* No longer. */
void
tc_trail_close(void)
{
	open_in = InvalidLocalTransactionId;
}

/* Row trigger BEFORE UPDATE OR DELETE, statement trigger BEFORE TRUNCATE */
Datum
tc_trail_guard_trigger(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("function was not called by the trigger manager")));
	/* what is replicated was judged where it was made */
	if (!(open_in == TC_MY_LXID && open_subxact == GetCurrentSubTransactionId()) &&
		!IsLogicalWorker())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("table \"%s\" is append-only", RelationGetRelationName(data->tg_relation)),
				 errdetail("It is part of the audit trail, which nobody changes."),
				 errhint("tenantcall.retentions says how long it is kept; "
						 "tenantcall.forget_caller() and tenantcall.delete_company() erase.")));
	if (!TRIGGER_FIRED_FOR_ROW(data->tg_event))
		PG_RETURN_POINTER(NULL);
	PG_RETURN_POINTER(TRIGGER_FIRED_BY_UPDATE(data->tg_event) ? data->tg_newtuple
															  : data->tg_trigtuple);
}

/* --- partitions ----------------------------------------------------------------------------- */

/* An integer argument between 1 and a greatest value. */
static int32
count_argument(FunctionCallInfo fcinfo, int arg, const char *name, int32 greatest)
{
	if (PG_ARGISNULL(arg) || PG_GETARG_INT32(arg) <= 0 || PG_GETARG_INT32(arg) > greatest)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"%s\" must be between 1 and %d", name, greatest)));
	return PG_GETARG_INT32(arg);
}

/* maintain_partitions(months, max_changes) -> rows */
Datum
tc_maintain_partitions(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *info = (ReturnSetInfo *) fcinfo->resultinfo;
	TcParams params = {0};
	uint64 count;
	TcAct act;

	tc_param_datum(&params, Int32GetDatum(count_argument(fcinfo, 0, "months", 120)), false);
	tc_param_datum(&params, Int32GetDatum(count_argument(fcinfo, 1, "max_changes", 1000)), false);
	(void) tc_telephony_required();
	InitMaterializedSRF(fcinfo, 0);
	tc_act_begin(&act, TC_AS_SYSTEM, NULL);
	count = tc_execute(&change_partitions, &params);
	for (uint64 i = 0; i < count; i++)
		tuplestore_puttuple(info->setResult, SPI_tuptable->vals[i]);
	tc_act_end(&act);
	return (Datum) 0;
}

/* --- rows ----------------------------------------------------------------------------------- */

/* Reads until when rows of each table are to go; limits[] of a table that is kept stays 0. */
static void
find_limits(TimestampTz limits[lengthof(expiries)])
{
	uint64 count;
	TcAct act;

	tc_act_begin(&act, TC_AS_SYSTEM, NULL);
	count = tc_execute(&read_limits, NULL);
	for (uint64 row = 0; row < count; row++)
	{
		HeapTuple tuple = SPI_tuptable->vals[row];
		char *relation = SPI_getvalue(tuple, SPI_tuptable->tupdesc, 1);
		bool isnull;

		for (size_t i = 0; i < lengthof(expiries); i++)
			if (strcmp(relation, expiries[i].relation) == 0)
				limits[i] =
					DatumGetTimestampTz(SPI_getbinval(tuple, SPI_tuptable->tupdesc, 2, &isnull));
	}
	tc_act_end(&act);
}

/* Deletes old rows of a table, of one company or (NULL) of none; how many. */
static int64
expire(Expiry *expiry, const TcContext *company, TimestampTz limit, int64 max_rows)
{
	TcParams params = {0};
	uint64 count;
	TcAct act;

	expiry->statement.nparams = 3;
	memcpy(expiry->statement.types, (Oid[3]){INT8OID, TIMESTAMPTZOID, INT8OID}, sizeof(Oid[3]));
	tc_param_datum(&params, Int64GetDatum(company == NULL ? 0 : company->company_id), false);
	tc_param_datum(&params, TimestampTzGetDatum(limit), false);
	tc_param_datum(&params, Int64GetDatum(max_rows), false);
	tc_act_begin(&act, company == NULL ? TC_AS_SYSTEM : TC_AS_OWNER, company);
	tc_trail_open();
	count = tc_execute(&expiry->statement, &params);
	tc_trail_close();
	tc_act_end(&act);
	return (int64) count;
}

/* expire_unplaced_rows(max_rows) -> bigint */
Datum
tc_expire_unplaced_rows(PG_FUNCTION_ARGS)
{
	int64 max_rows = count_argument(fcinfo, 0, "max_rows", 1000000);
	TimestampTz limits[lengthof(expiries)] = {0};
	int64 deleted = 0;

	(void) tc_telephony_required();
	find_limits(limits);
	for (size_t i = 0; i < lengthof(expiries); i++)
		if (!expiries[i].of_companies && limits[i] != 0)
			deleted += expire(&expiries[i], NULL, limits[i], max_rows);
	PG_RETURN_INT64(deleted);
}

/* expire_rows(max_rows) -> rows: of the entered company, else of all, and what is of none */
Datum
tc_expire_rows(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *info = (ReturnSetInfo *) fcinfo->resultinfo;
	int64 max_rows = count_argument(fcinfo, 0, "max_rows", 1000000);
	TimestampTz limits[lengthof(expiries)] = {0};
	TcContext *companies;
	int count;

	InitMaterializedSRF(fcinfo, 0);
	companies = tc_companies(&count);
	find_limits(limits);
	for (size_t i = 0; i < lengthof(expiries); i++)
	{
		Expiry *expiry = &expiries[i];
		int64 deleted = 0;
		Datum values[2];
		bool nulls[2] = {false, false};

		for (int k = 0; expiry->of_companies && limits[i] != 0 && k < count; k++)
		{
			CHECK_FOR_INTERRUPTS();
			if (deleted < max_rows)
				deleted += expire(expiry, &companies[k], limits[i], max_rows - deleted);
		}
		if (!expiry->of_companies && limits[i] != 0 && tc_context_current() == NULL)
			deleted = expire(expiry, NULL, limits[i], max_rows);
		values[0] = CStringGetTextDatum(expiry->relation);
		values[1] = Int64GetDatum(deleted);
		tuplestore_putvalues(info->setResult, info->setDesc, values, nulls);
	}
	return (Datum) 0;
}
