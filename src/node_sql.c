/*
 * node_sql.c
 *		SQL functions that say what tables there are, on this node of a Citus cluster or a server by
 *		itself.  For views and audits, which must not name tables that Citus has distributed: where
 *a query does, Citus asks for the caller's rights on all that the views in it read.  No locks.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"

#include "compat.h"
#include "inval.h"
#include "node.h"
#include "telephony.h"

PG_FUNCTION_INFO_V1(tc_tables_schema);
PG_FUNCTION_INFO_V1(tc_cluster_tables);

/* Takes the row of installation. */
static bool
visit_installation(HeapTuple tuple, TupleDesc desc, void *arg)
{
	Datum name;

	if (tc_row_datum(tuple, desc, "schema_name", &name))
		namestrcpy((Name) arg, NameStr(*DatumGetName(name)));
	return false;
}

/* tables_schema() -> name: that of the tenants' tables; NULL without such */
Datum
tc_tables_schema(PG_FUNCTION_ARGS)
{
	Name result = palloc0(sizeof(NameData));

	tc_read_rows(tc_own_relation("installation"), NULL, 0, visit_installation, result);
	if (NameStr(*result)[0] == '\0')
		PG_RETURN_NULL();
	PG_RETURN_NAME(result);
}

/* Puts out a row. */
static void
put_table(Oid rel, Oid whole, void *arg)
{
	ReturnSetInfo *info = arg;
	Datum values[2] = {ObjectIdGetDatum(rel), ObjectIdGetDatum(whole)};
	bool nulls[2] = {false, false};

	tuplestore_putvalues(info->setResult, info->setDesc, values, nulls);
}

/* cluster_tables() -> (rel oid, whole oid): the tenants' tables that Citus knows, and parts of them
 */
Datum
tc_cluster_tables(PG_FUNCTION_ARGS)
{
	InitMaterializedSRF(fcinfo, 0);
	tc_node_each_table(put_table, fcinfo->resultinfo);
	return (Datum) 0;
}
