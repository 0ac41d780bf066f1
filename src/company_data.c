/*
 * company_data.c
 *		All that is stored of one company: exported, deleted.
 *
 *		catalog --> tables with a company_id, parents after children --> rows, in batches
 *
 * The tables are those of the schema of the tenants, found in the catalog, so that tables that come
 * with a later version are in; and the narrow tables of schema tenantcall, but shipped rows.
 * Tables of users are theirs to export and to empty: a foreign key of one to the company refuses
 * the deletion and names the table.
 *
 * Memory: rows pass through cursors in batches; what is exported goes into a tuplestore, which
 * spills to disk.  Each batch's foreign keys are checked at its end.
 *
 * Locks: the row of companies FOR UPDATE, which keeps new calls and decisions out, since their
 * foreign keys need it; all calls, which keeps events and function calls out; then the rows that
 * are deleted.  Whoever takes in events locks a call first and may need the company then, so calls
 * are never waited for while the company is locked: if one is taken, both are let go again
 * (a subtransaction), and tried anew a little later.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "act.h"
#include "args.h"
#include "companies.h"
#include "compat.h"
#include "errors.h"
#include "guard.h"
#include "node.h"
#include "telephony.h"
#include "trail.h"

PG_FUNCTION_INFO_V1(tc_export_company);
PG_FUNCTION_INFO_V1(tc_delete_company);

#define BATCH 10000
#define LOCK_PATIENCE 10000 /* ms */
#define EXPORT_BATCH 100

/*
 * Tables below the schema of the tenants: leaves ($2) or roots of partitioning, children first.
 * A table's depth is the length of the longest chain of foreign keys that ends in it.
 */
static TcStatement list_tables = {
	.sql = "WITH RECURSIVE tables AS (SELECT c.oid FROM pg_class AS c JOIN pg_attribute AS a "
		   "ON a.attrelid = c.oid AND a.attname = 'company_id' AND NOT a.attisdropped "
		   "WHERE c.relnamespace = $1 AND CASE WHEN $2 THEN c.relkind = 'r' "
		   "ELSE c.relkind IN ('r', 'p') AND NOT c.relispartition END), "
		   "depths (rel, depth) AS (SELECT t.oid, 0 FROM tables AS t "
		   "UNION SELECT k.confrelid, d.depth + 1 FROM depths AS d JOIN pg_constraint AS k "
		   "ON k.conrelid = d.rel AND k.contype = 'f' AND k.confrelid <> k.conrelid "
		   "JOIN tables AS t ON t.oid = k.confrelid WHERE d.depth < 50) "
		   "SELECT d.rel::regclass::text, "
		   "coalesce(pg_partition_root(d.rel), d.rel)::regclass::text, d.rel "
		   "FROM depths AS d WHERE d.rel <> $3 GROUP BY d.rel ORDER BY max(d.depth), d.rel",
	.nparams = 3,
	.types = {OIDOID, BOOLOID, OIDOID},
};
/* The quarantine first: whose its bodies are, call_bindings says. */
static TcStatement list_narrow = {
	.sql = "SELECT c.oid::regclass::text, c.oid::regclass::text, c.oid "
		   "FROM pg_class AS c JOIN pg_attribute AS a "
		   "ON a.attrelid = c.oid AND a.attname IN ('company_id', 'verified_for') "
		   "AND NOT a.attisdropped WHERE c.relnamespace = 'tenantcall'::regnamespace "
		   "AND c.relkind = 'r' AND c.relname NOT LIKE '%\\_defaults' "
		   "ORDER BY c.relname <> 'quarantine', c.relname",
};
static TcStatement lock_company = {
	.sql = "SELECT status FROM @.companies WHERE company_id = $1 FOR UPDATE",
	.nparams = 1,
	.types = {INT8OID},
};
/* Those that others have locked are passed over: are there none such? */
static TcStatement lock_calls = {
	.sql = "SELECT (SELECT count(*) FROM @.calls WHERE company_id = $1) = (SELECT count(*) FROM "
		   "(SELECT 1 FROM @.calls WHERE company_id = $1 FOR UPDATE SKIP LOCKED) AS l)",
	.nparams = 1,
	.types = {INT8OID},
};
/* Policies are never deleted, since buckets go by their versions. */
static TcStatement drop_policies = {
	.sql = "SELECT tenantcall.drop_rate_policy(p.policy, p.company_id) "
		   "FROM tenantcall.rate_policies AS p WHERE p.company_id = $1 AND NOT p.removed",
	.nparams = 1,
	.types = {INT8OID},
};
static TcStatement read_company = {
	.sql = "SELECT status FROM @.companies WHERE company_id = $1",
	.nparams = 1,
	.types = {INT8OID},
};
static TcStatement delete_row = {
	.sql = "DELETE FROM @.companies WHERE company_id = $1",
	.nparams = 1,
	.types = {INT8OID},
};

/* A table, and how many of its rows were deleted. */
typedef struct CompanyTable
{
	char *name;
	char *root;			   /* of its partitioning, or itself */
	const char *condition; /* which rows of it, as t, are company $1's */
	uint64 rows;
} CompanyTable;

#define OF_COMPANY "t.company_id = $1"

/* What was quarantined: under the company's own key, or of one of its calls. */
#define OF_COMPANY_BODY                                                                            \
	"(t.verified_for = $1 OR EXISTS (SELECT FROM tenantcall.call_bindings AS b "                   \
	"WHERE b.provider = t.provider AND b.provider_call_id = t.provider_call_id "                   \
	"AND b.company_id = $1))"

#define RATE_POLICIES "tenantcall.rate_policies" /* not deleted, but dropped */

/* Takes the tables that were listed last, but for parts of them that Citus has made. */
static CompanyTable *
take_tables(int *count, MemoryContext memory)
{
	MemoryContext caller = MemoryContextSwitchTo(memory);
	CompanyTable *tables = palloc0(Max(SPI_processed, 1) * sizeof(CompanyTable));

	*count = 0;
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple row = SPI_tuptable->vals[i];
		bool isnull;
		Oid relid = DatumGetObjectId(SPI_getbinval(row, SPI_tuptable->tupdesc, 3, &isnull));

		if (tc_node_whole(relid) != relid)
			continue;
		tables[*count].name = pstrdup(SPI_getvalue(row, SPI_tuptable->tupdesc, 1));
		tables[*count].root = pstrdup(SPI_getvalue(row, SPI_tuptable->tupdesc, 2));
		tables[*count].condition = OF_COMPANY;
		(*count)++;
	}
	MemoryContextSwitchTo(caller);
	return tables;
}

/* Lists the tables but companies, children first.  Called while acting as the owner. */
static CompanyTable *
find_tables(bool leaves, int *count, MemoryContext memory)
{
	const TcTelephony *place = tc_telephony_required();
	TcParams params = {0};

	tc_param_datum(&params, ObjectIdGetDatum(place->schema), false);
	tc_param_datum(&params, BoolGetDatum(leaves), false);
	tc_param_datum(&params, ObjectIdGetDatum(get_relname_relid("companies", place->schema)), false);
	(void) tc_execute(&list_tables, &params);
	return take_tables(count, memory);
}

/* Lists the tables of schema tenantcall that hold something of companies.  As the system. */
static CompanyTable *
find_narrow(int *count, MemoryContext memory)
{
	CompanyTable *tables;

	(void) tc_execute(&list_narrow, NULL);
	tables = take_tables(count, memory);
	for (int i = 0; i < *count; i++)
	{
		if (strcmp(tables[i].name, "tenantcall.quarantine") == 0)
			tables[i].condition = OF_COMPANY_BODY;
	}
	return tables;
}

/* Opens a cursor on the company's rows of a table, as of now. */
static Portal
open_rows(const char *columns, const CompanyTable *table, int64 company_id)
{
	Oid type = INT8OID;
	Datum value = Int64GetDatum(company_id);

	return SPI_cursor_open_with_args(NULL,
									 psprintf("SELECT %s FROM %s AS t WHERE %s", columns,
											  table->name, table->condition),
									 1, &type, &value, NULL, false, 0);
}

/* --- export -------------------------------------------------------------------------------- */

/* Adds a table's rows to the result. */
static void
export_table(FunctionCallInfo fcinfo, const CompanyTable *table, int64 company_id)
{
	ReturnSetInfo *info = (ReturnSetInfo *) fcinfo->resultinfo;
	Portal portal =
		open_rows("to_jsonb(t) - '{ciphertext,body_digest}'::text[]", table, company_id);
	Datum values[2] = {CStringGetTextDatum(table->root), (Datum) 0};
	bool nulls[2] = {false, false};

	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		SPI_cursor_fetch(portal, true, EXPORT_BATCH);
		if (SPI_processed == 0)
			break;
		for (uint64 i = 0; i < SPI_processed; i++)
		{
			values[1] = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &nulls[1]);
			tuplestore_putvalues(info->setResult, info->setDesc, values, nulls);
		}
		SPI_freetuptable(SPI_tuptable);
	}
	SPI_cursor_close(portal);
}

/* export_company(company_id) -> rows */
Datum
tc_export_company(PG_FUNCTION_ARGS)
{
	TcContext company = tc_company_required(tc_arg_id(fcinfo, 0, "company_id"));
	CompanyTable companies = {.condition = OF_COMPANY};
	CompanyTable *tables;
	int count;
	TcAct act;

	if (tc_node_forward_set(fcinfo, company.company_id))
		return (Datum) 0;
	InitMaterializedSRF(fcinfo, 0);
	companies.name = psprintf("%s.companies", tc_telephony_required()->schema_quoted);
	companies.root = companies.name;
	tc_act_begin(&act, TC_AS_OWNER, &company);
	tables = find_tables(false, &count, CurrentMemoryContext);
	export_table(fcinfo, &companies, company.company_id);
	for (int i = count - 1; i >= 0; i--)
		export_table(fcinfo, &tables[i], company.company_id);
	tc_act_end(&act);
	tc_act_begin(&act, TC_AS_SYSTEM, NULL);
	tables = find_narrow(&count, CurrentMemoryContext);
	for (int i = 0; i < count; i++)
		export_table(fcinfo, &tables[i], company.company_id);
	tc_act_end(&act);
	return (Datum) 0;
}

/* --- deletion ------------------------------------------------------------------------------ */

/* Deletes the rows of the batch that was fetched last; how many were still there. */
static uint64
delete_batch(const CompanyTable *table)
{
	SPITupleTable *batch = SPI_tuptable;
	uint64 count = SPI_processed;
	Datum *places = palloc(count * sizeof(Datum));
	Oid type = TIDARRAYOID;
	Datum value;
	bool isnull;

	for (uint64 i = 0; i < count; i++)
		places[i] = SPI_getbinval(batch->vals[i], batch->tupdesc, 1, &isnull);
	value = PointerGetDatum(construct_array(places, (int) count, TIDOID, sizeof(ItemPointerData),
											false, TYPALIGN_SHORT));
	tc_trail_open();
	if (SPI_execute_with_args(psprintf("DELETE FROM %s WHERE ctid = ANY ($1)", table->name), 1,
							  &type, &value, NULL, false, 0) != SPI_OK_DELETE)
		elog(ERROR, "could not delete from %s", table->name);
	tc_trail_close();
	pfree(DatumGetPointer(value));
	pfree(places);
	SPI_freetuptable(batch);
	return SPI_processed;
}

/* Deletes a company's rows of a table, as far as they are there now; how many. */
static uint64
delete_rows(CompanyTable *table, int64 company_id)
{
	Portal portal = open_rows("t.ctid", table, company_id);
	uint64 deleted = 0;

	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		SPI_cursor_fetch(portal, true, BATCH);
		if (SPI_processed == 0)
			break;
		deleted += delete_batch(table);
	}
	SPI_cursor_close(portal);
	table->rows += deleted;
	return deleted;
}

/* Locks the company and its calls, or raises; under tc_guard(). */
static void
run_lock(void *arg)
{
	TcParams params = {0};
	bool isnull;

	tc_param_int8(&params, *(int64 *) arg);
	tc_execute(&lock_company, &params);
	tc_execute(&lock_calls, &params);
	if (!DatumGetBool(tc_result_datum(1, &isnull)))
		ereport(ERROR, (errcode(ERRCODE_TC_CONFLICT), errmsg("calls are being worked on")));
}

/* Locks the company and its calls, for which it waits with nothing locked. */
static void
lock_with_calls(int64 company_id)
{
	TimestampTz start = GetCurrentTimestamp();
	TcFault fault;

	while (!tc_guard(run_lock, &company_id, &fault))
	{
		if (TimestampDifferenceExceeds(start, GetCurrentTimestamp(), LOCK_PATIENCE))
			ereport(ERROR,
					(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
					 errmsg("calls of company " INT64_FORMAT " are being worked on", company_id),
					 errdetail("Other transactions have held some of them for %d seconds.",
							   LOCK_PATIENCE / 1000),
					 errhint("Let them end, then repeat.")));
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 20,
						 tc_wait_event("TenantcallDeleteCompany"));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* Raises unless the company, which is locked, is suspended. */
static void
require_suspended(int64 company_id)
{
	TcParams params = {0};
	char *status;

	tc_param_int8(&params, company_id);
	if (tc_execute(&read_company, &params) == 0)
		ereport(ERROR, (errcode(ERRCODE_TC_UNKNOWN),
						errmsg("company " INT64_FORMAT " does not exist", company_id)));
	status = tc_result_text(1);
	if (strcmp(status, "suspended") != 0)
		ereport(ERROR, (errcode(ERRCODE_TC_CONFLICT),
						errmsg("company " INT64_FORMAT " is %s", company_id, status),
						errdetail("Only a suspended company can be deleted."),
						errhint("Export it with tenantcall.export_company(), then call "
								"tenantcall.set_company_status(" INT64_FORMAT ", 'suspended').",
								company_id)));
}

/* Deletes the company's rows of the tenants' tables, and then the company. */
static CompanyTable *
delete_tenant(const TcContext *company, int *count)
{
	MemoryContext caller = CurrentMemoryContext;
	TcParams params = {0};
	CompanyTable *tables;
	uint64 deleted;
	TcAct act;

	tc_act_begin(&act, TC_AS_OWNER, company);
	require_suspended(company->company_id);
	lock_with_calls(company->company_id);
	require_suspended(company->company_id);
	tables = find_tables(true, count, caller);
	do /* again for rows that others changed meanwhile */
	{
		deleted = 0;
		for (int i = 0; i < *count; i++)
			deleted += delete_rows(&tables[i], company->company_id);
	} while (deleted > 0);
	tc_param_int8(&params, company->company_id);
	tc_execute(&delete_row, &params);
	tc_act_end(&act);
	return tables;
}

/* Deletes what the narrow tables hold of the company. */
static CompanyTable *
delete_narrow(int64 company_id, int *count)
{
	MemoryContext caller = CurrentMemoryContext;
	CompanyTable *narrow;
	TcAct act;

	tc_act_begin(&act, TC_AS_SYSTEM, NULL);
	narrow = find_narrow(count, caller);
	for (int i = 0; i < *count; i++)
	{
		TcParams params = {0};

		tc_param_int8(&params, company_id);
		if (strcmp(narrow[i].name, RATE_POLICIES) == 0)
			narrow[i].rows = tc_execute(&drop_policies, &params);
		else
			(void) delete_rows(&narrow[i], company_id);
	}
	tc_act_end(&act);
	return narrow;
}

/* Adds a row for each table: the partitions of one count together. */
static void
put_counts(FunctionCallInfo fcinfo, CompanyTable *tables, int count)
{
	ReturnSetInfo *info = (ReturnSetInfo *) fcinfo->resultinfo;

	for (int i = 0; i < count; i++)
	{
		Datum values[2];
		bool nulls[2] = {false, false};

		if (tables[i].root == NULL)
			continue;
		for (int k = i + 1; k < count; k++)
		{
			if (tables[k].root == NULL || strcmp(tables[k].root, tables[i].root) != 0)
				continue;
			tables[i].rows += tables[k].rows;
			tables[k].root = NULL;
		}
		values[0] = CStringGetTextDatum(tables[i].root);
		values[1] = Int64GetDatum((int64) tables[i].rows);
		tuplestore_putvalues(info->setResult, info->setDesc, values, nulls);
	}
}

/* delete_company(company_id) -> rows */
Datum
tc_delete_company(PG_FUNCTION_ARGS)
{
	TcContext company = tc_company_required(tc_arg_id(fcinfo, 0, "company_id"));
	CompanyTable *tables, *narrow;
	int count, narrow_count;

	if (tc_node_distributed())
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("companies cannot be deleted on a Citus cluster"),
						errdetail("Rows of one are on its node, and on all nodes."),
						errhint("Suspend it with tenantcall.set_company_status().")));
	InitMaterializedSRF(fcinfo, 0);
	tables = delete_tenant(&company, &count);
	narrow = delete_narrow(company.company_id, &narrow_count);
	put_counts(fcinfo, tables, count);
	put_counts(fcinfo, narrow, narrow_count);
	ereport(LOG, (errmsg("tenantcall: administrator \"%s\" deleted company " INT64_FORMAT,
						 GetUserNameFromId(GetOuterUserId(), false), (int64) company.company_id)));
	return (Datum) 0;
}
