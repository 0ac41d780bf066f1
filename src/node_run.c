/*
 * node_run.c
 *		Commands for other nodes of a Citus cluster.
 *
 *		worker, or backend, of one node --> pg_catalog.master_run_on_worker() --> the other node
 *
 * Each runs as the owner of the extension, over a connection of its own that Citus makes, in a
 * transaction of its own, which is over when the answer is here: nothing of it depends on what
 * becomes of the caller's transaction.  No locks.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "act.h"
#include "node_groups.h"

#define CONNECT_TIMEOUT "2s"

static TcStatement run_one = {
	.sql = "SELECT n.groupid, r.success, r.result FROM pg_catalog.pg_dist_node AS n "
		   "CROSS JOIN LATERAL pg_catalog.master_run_on_worker(ARRAY[n.nodename::text], "
		   "ARRAY[n.nodeport], ARRAY[$2], false) AS r "
		   "WHERE n.groupid = $1 AND n.noderole = 'primary' AND n.isactive",
	.nparams = 2,
	.types = {INT4OID, TEXTOID},
};
/* All, or those that have shards of ours, but for this one and those that are named. */
static TcStatement run_all = {
	.sql = "WITH there AS MATERIALIZED (SELECT n.groupid, n.nodename::text AS name, n.nodeport "
		   "FROM pg_catalog.pg_dist_node AS n WHERE n.noderole = 'primary' AND n.isactive "
		   "AND n.groupid <> $3 AND n.groupid <> ALL ($2) AND ($4 OR EXISTS ("
		   "SELECT 1 FROM pg_catalog.pg_dist_placement AS p "
		   "JOIN pg_catalog.pg_dist_shard AS s USING (shardid) WHERE p.groupid = n.groupid "
		   "AND s.logicalrelid = 'tenantcall.outbox_due'::regclass))) "
		   "SELECT t.groupid, r.success, r.result FROM (SELECT array_agg(t.name) AS names, "
		   "array_agg(t.nodeport) AS ports, array_agg($1) AS commands FROM there AS t "
		   "HAVING count(*) > 0) AS a "
		   "CROSS JOIN LATERAL pg_catalog.master_run_on_worker(a.names, a.ports, a.commands, true) "
		   "AS r JOIN there AS t ON t.name = r.node_name AND t.nodeport = r.node_port",
	.nparams = 4,
	.types = {TEXTOID, INT4ARRAYOID, INT4OID, BOOLOID},
};

/* Takes the replies out of the result, into the caller's memory. */
static TcNodeReply *
take_replies(uint64 rows, MemoryContext caller)
{
	TcNodeReply *replies = MemoryContextAllocZero(caller, Max(rows, 1) * sizeof(TcNodeReply));

	for (uint64 i = 0; i < rows; i++)
	{
		HeapTuple tuple = SPI_tuptable->vals[i];
		TupleDesc desc = SPI_tuptable->tupdesc;
		char *text = SPI_getvalue(tuple, desc, 3);
		bool isnull;

		replies[i].node = DatumGetInt32(SPI_getbinval(tuple, desc, 1, &isnull));
		replies[i].ok = DatumGetBool(SPI_getbinval(tuple, desc, 2, &isnull));
		replies[i].text = MemoryContextStrdup(caller, text != NULL ? text : "");
	}
	return replies;
}

/* Acts as the owner of the extension, who does not wait long for a node that is not there. */
static void
begin(TcAct *act)
{
	tc_act_begin(act, TC_AS_SYSTEM, NULL);
	(void) set_config_option("citus.node_connection_timeout", CONNECT_TIMEOUT, PGC_SUSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

/* Executes a command on a node. */
char *
tc_node_run(int node, const char *command, char **error)
{
	MemoryContext caller = CurrentMemoryContext;
	TcParams params = {0};
	TcNodeReply *reply;
	uint64 rows;
	TcAct act;

	begin(&act);
	tc_param_datum(&params, Int32GetDatum(node), false);
	tc_param_text(&params, command);
	rows = tc_execute(&run_one, &params);
	reply = take_replies(rows, caller);
	tc_act_end(&act);
	if (rows > 0 && reply->ok)
		return reply->text;
	*error = rows > 0 ? reply->text : psprintf("the cluster has no active node of group %d", node);
	return NULL;
}

/* The same on all other nodes, or on those that have shards, but for those named. */
TcNodeReply *
tc_node_run_all(const char *command, const int *but, int nbut, int *count)
{
	MemoryContext caller = CurrentMemoryContext;
	Datum *excluded = palloc(Max(nbut, 1) * sizeof(Datum));
	TcParams params = {0};
	TcNodeReply *replies;
	TcAct act;

	for (int i = 0; i < nbut; i++)
		excluded[i] = Int32GetDatum(but[i]);
	tc_param_text(&params, command);
	tc_param_datum(&params,
				   PointerGetDatum(
					   construct_array(excluded, nbut, INT4OID, sizeof(int32), true, TYPALIGN_INT)),
				   false);
	tc_param_datum(&params, Int32GetDatum(tc_node_number()), false);
	tc_param_datum(&params, BoolGetDatum(but == NULL), false);
	begin(&act);
	*count = (int) tc_execute(&run_all, &params);
	replies = take_replies(*count, caller);
	tc_act_end(&act);
	return replies;
}
