/*
 * node_map.h
 *		What node.c has read of Citus's catalogs; valid while tc_node_distributed() was asked
 *before.
 */
#ifndef TC_NODE_MAP_H
#define TC_NODE_MAP_H

#include "postgres.h"

#include "utils/hsearch.h"

/* A table that Citus knows. */
typedef struct TcNodeTable
{
	Oid relid; /* key */
	bool reference;
	bool tenants; /* not one of schema tenantcall */
	int count;
	int64 *shards; /* in the order of their hash values; one of a reference table */
} TcNodeTable;

/* A shard of ours on this node, and its table. */
typedef struct TcNodeShard
{
	Oid relid; /* key */
	Oid whole;
} TcNodeShard;

extern HTAB *tc_node_tables;
extern HTAB *tc_node_parts;

#endif /* TC_NODE_MAP_H */
