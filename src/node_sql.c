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
#include "utils/lsyscache.h"

#include "compat.h"
#include "node.h"
#include "telephony.h"

PG_FUNCTION_INFO_V1(tc_tables_schema);
PG_FUNCTION_INFO_V1(tc_cluster_tables);

/* tables_schema() -> name: that of the tenants' tables; NULL without such */
Datum
tc_tables_schema(PG_FUNCTION_ARGS)
{
	const TcTelephony *tables = tc_telephony();
	char *name = tables == NULL ? NULL : get_namespace_name(tables->schema);
	Name result;

	if (name == NULL)
		PG_RETURN_NULL();
	result = palloc(sizeof(NameData));
	namestrcpy(result, name);
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
