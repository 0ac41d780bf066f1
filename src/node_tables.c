/*
 * node_tables.c
 *		Tables and their parts on this node of a Citus cluster, as node.c knows them.  No locks.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/index.h"
#include "utils/rel.h"
#include "utils/relcache.h"

#include "node.h"
#include "node_map.h"

/* The same for tables whose copy is on every node. */
Oid
tc_node_copy(Oid relid)
{
	TcNodePart part;
	Oid copy = OidIsValid(relid) ? tc_node_part(relid, &part) : InvalidOid;

	return OidIsValid(copy) ? copy : relid;
}

/* The index of a table; of a copy the one that is its only one. */
Oid
tc_node_index(Oid relid, Oid index)
{
	Relation rel;
	List *indexes;

	if (IndexGetRelation(index, false) == relid)
		return index;
	rel = table_open(relid, AccessShareLock);
	indexes = RelationGetIndexList(rel);
	table_close(rel, NoLock);
	if (list_length(indexes) != 1)
		elog(ERROR, "a copy has %d indexes", list_length(indexes));
	return linitial_oid(indexes);
}

/* The table that a shard belongs to. */
Oid
tc_node_whole(Oid relid)
{
	TcNodeShard *part = NULL;

	if (tc_node_distributed())
		part = hash_search(tc_node_parts, &relid, HASH_FIND, NULL);
	return part == NULL ? relid : part->whole;
}

/* Is it one of the tenants' tables, or a part of one? */
bool
tc_node_of_tenants(Oid relid)
{
	TcNodeTable *table = NULL;

	relid = tc_node_whole(relid);
	if (tc_node_distributed())
		table = hash_search(tc_node_tables, &relid, HASH_FIND, NULL);
	return table != NULL && table->tenants;
}

/* Visits the tenants' tables that Citus knows, and their parts on this node. */
void
tc_node_each_table(void (*visit)(Oid rel, Oid whole, void *arg), void *arg)
{
	HASH_SEQ_STATUS status;
	TcNodeTable *table;
	TcNodeShard *part;

	if (!tc_node_distributed())
		return;
	hash_seq_init(&status, tc_node_tables);
	while ((table = hash_seq_search(&status)) != NULL)
	{
		if (table->tenants)
			visit(table->relid, table->relid, arg);
	}
	hash_seq_init(&status, tc_node_parts);
	while ((part = hash_seq_search(&status)) != NULL)
	{
		table = hash_search(tc_node_tables, &part->whole, HASH_FIND, NULL);
		if (table != NULL && table->tenants)
			visit(part->relid, part->whole, arg);
	}
}
