/*
 * company_data.c
 *		All that is stored of one company: exported, deleted.
 *
 *		catalog --> tables with a company_id, parents after children --> rows, in batches
 *
 * The tables are those of the schema of the tenants, found in the catalog, so that tables that come
 * with a later version are in; and the narrow tables of schema tenantcall that are listed here.
 * Tables of users are theirs to export and to empty: a foreign key of one to the company refuses
 * the deletion and names the table.
 *
 * Memory: rows pass through cursors in batches; what is exported goes into a tuplestore, which
 * spills to disk.  Each batch's foreign keys are checked at its end.
 *
 * Locks: the row of companies FOR UPDATE, which keeps new calls and decisions out, since their
 * foreign keys need it; then the rows that are deleted.  An event that is being merged into a call
 * meanwhile may end in a deadlock, of which PostgreSQL undoes one side.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "act.h"
#include "args.h"
#include "companies.h"
#include "errors.h"
#include "telephony.h"

PG_FUNCTION_INFO_V1(tc_export_company);
PG_FUNCTION_INFO_V1(tc_delete_company);

#define BATCH 10000
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
		   "coalesce(pg_partition_root(d.rel), d.rel)::regclass::text "
		   "FROM depths AS d WHERE d.rel <> $3 GROUP BY d.rel ORDER BY max(d.depth), d.rel",
	.nparams = 3,
	.types = {OIDOID, BOOLOID, OIDOID},
};
static TcStatement lock_company = {
	.sql = "SELECT status FROM @.companies WHERE company_id = $1 FOR UPDATE",
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
static TcStatement delete_row = {
	.sql = "DELETE FROM @.companies WHERE company_id = $1",
	.nparams = 1,
	.types = {INT8OID},
};

/* A table, and how many of its rows were deleted. */
typedef struct CompanyTable
{
	char *name;
	char *root; /* of its partitioning, or itself */
	const char *column;
	uint64 rows;
} CompanyTable;

/* The tables of schema tenantcall that hold something of companies; secrets stay secret. */
static const CompanyTable narrow_tables[] = {
	{"tenantcall.call_bindings", "tenantcall.call_bindings", "company_id", 0},
	{"tenantcall.outbox_due", "tenantcall.outbox_due", "company_id", 0},
	{"tenantcall.quarantine", "tenantcall.quarantine", "verified_for", 0},
	{"tenantcall.secrets", "tenantcall.secrets", "company_id", 0},
	{"tenantcall.concurrency_policies", "tenantcall.concurrency_policies", "company_id", 0},
	{"tenantcall.rate_policies", "tenantcall.rate_policies", "company_id", 0},
};

#define RATE_POLICIES (lengthof(narrow_tables) - 1) /* not deleted, but dropped */

/* Lists the tables but companies, children first.  Called while acting as the owner. */
static CompanyTable *
find_tables(bool leaves, int *count, MemoryContext memory)
{
	const TcTelephony *place = tc_telephony_required();
	TcParams params = {0};
	MemoryContext caller;
	CompanyTable *tables;

	tc_param_datum(&params, ObjectIdGetDatum(place->schema), false);
	tc_param_datum(&params, BoolGetDatum(leaves), false);
	tc_param_datum(&params, ObjectIdGetDatum(place->companies), false);
	*count = (int) tc_execute(&list_tables, &params);
	caller = MemoryContextSwitchTo(memory);
	tables = palloc0(Max(*count, 1) * sizeof(CompanyTable));
	for (int i = 0; i < *count; i++)
	{
		HeapTuple row = SPI_tuptable->vals[i];

		tables[i].name = pstrdup(SPI_getvalue(row, SPI_tuptable->tupdesc, 1));
		tables[i].root = pstrdup(SPI_getvalue(row, SPI_tuptable->tupdesc, 2));
		tables[i].column = "company_id";
	}
	MemoryContextSwitchTo(caller);
	return tables;
}

/* Opens a cursor on the company's rows of a table, as of now. */
static Portal
open_rows(const char *columns, const CompanyTable *table, int64 company_id)
{
	Oid type = INT8OID;
	Datum value = Int64GetDatum(company_id);

	return SPI_cursor_open_with_args(NULL,
									 psprintf("SELECT %s FROM %s AS t WHERE t.%s = $1", columns,
											  table->name, table->column),
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
	CompanyTable companies = {.column = "company_id"};
	CompanyTable *tables;
	int count;
	TcAct act;

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
	for (size_t i = 0; i < lengthof(narrow_tables); i++)
		export_table(fcinfo, &narrow_tables[i], company.company_id);
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
	if (SPI_execute_with_args(psprintf("DELETE FROM %s WHERE ctid = ANY ($1)", table->name), 1,
							  &type, &value, NULL, false, 0) != SPI_OK_DELETE)
		elog(ERROR, "could not delete from %s", table->name);
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

/* Locks the company; raises unless it is suspended. */
static void
lock_suspended(int64 company_id)
{
	TcParams params = {0};
	char *status;

	tc_param_int8(&params, company_id);
	if (tc_execute(&lock_company, &params) == 0)
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
	lock_suspended(company->company_id);
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
static void
delete_narrow(int64 company_id, CompanyTable narrow[lengthof(narrow_tables)])
{
	TcParams params = {0};
	TcAct act;

	memcpy(narrow, narrow_tables, sizeof(narrow_tables));
	tc_act_begin(&act, TC_AS_SYSTEM, NULL);
	for (size_t i = 0; i < RATE_POLICIES; i++)
		(void) delete_rows(&narrow[i], company_id);
	tc_param_int8(&params, company_id);
	narrow[RATE_POLICIES].rows = tc_execute(&drop_policies, &params);
	tc_act_end(&act);
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
	CompanyTable narrow[lengthof(narrow_tables)];
	CompanyTable *tables;
	int count;

	InitMaterializedSRF(fcinfo, 0);
	tables = delete_tenant(&company, &count);
	delete_narrow(company.company_id, narrow);
	put_counts(fcinfo, tables, count);
	put_counts(fcinfo, narrow, lengthof(narrow));
	ereport(LOG, (errmsg("tenantcall: administrator \"%s\" deleted company " INT64_FORMAT,
						 GetUserNameFromId(GetOuterUserId(), false), (int64) company.company_id)));
	return (Datum) 0;
}
