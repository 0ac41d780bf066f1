/*
 * node.h
 *		Which node of a Citus cluster a company is at home on, and its shards there.
 */
#ifndef TC_NODE_H
#define TC_NODE_H

#include "postgres.h"

#include "fmgr.h"

#include "context_core.h"

/* Where a table of ours is on this node, for one company. */
typedef enum TcNodePart
{
	TC_PART_WHOLE,	   /* an ordinary table */
	TC_PART_REFERENCE, /* a copy of all of it; written through the table that Citus knows */
	TC_PART_SHARD,	   /* the rows of the company, among others */
	TC_PART_ELSEWHERE  /* another node has them */
} TcNodePart;

extern void tc_node_init(void);
extern bool tc_node_citus;			   /* is the library of Citus loaded? */
extern bool tc_node_distributed(void); /* has distribute() run in this database? */

/* The part of a table that is on this node, for the company (in context); *part is its kind. */
extern Oid tc_node_part(Oid relid, TcNodePart *part);
extern Oid tc_node_part_of(Oid relid, int64 company_id, TcNodePart *part);

/* The same for tables whose copy is on every node; an ordinary table is its own. */
extern Oid tc_node_copy(Oid relid);
extern Oid tc_node_index(Oid relid, Oid index); /* that of a copy */

/* The table that a shard belongs to; any other relation is its own.  Is it the tenants'? */
extern Oid tc_node_whole(Oid relid);
extern bool tc_node_of_tenants(Oid relid);
extern void tc_node_each_table(void (*visit)(Oid rel, Oid whole, void *arg), void *arg);

/*
 * Is the company at home on this node: as far as is known now; until the end of the transaction,
 * for which its shards are kept where they are; and raises unless it is.
 */
extern bool tc_node_here(int64 company_id);
extern bool tc_node_hold(int64 company_id);
extern void tc_node_require_home(int64 company_id);

/* Adds a listener to moves of shards. */
extern void tc_node_on_change(void (*callback)(void));

/* Has the function called, as the same role, where the company is at home; false: that is here. */
extern bool tc_node_forward(FunctionCallInfo fcinfo, int64 company_id, const char *call,
							Datum *result);

/* The same for a company that may be none, 0; for paths that are hot where there is no Citus. */
static inline bool
tc_node_elsewhere(FunctionCallInfo fcinfo, int64 company_id, Datum *result)
{
	return unlikely(tc_node_citus) && company_id != 0 &&
		   tc_node_forward(fcinfo, company_id, NULL, result);
}

/* The same for functions that materialize a set. */
extern bool tc_node_forward_set(FunctionCallInfo fcinfo, int64 company_id);
extern bool tc_node_forward_statistics(FunctionCallInfo fcinfo); /* of the company entered */

/* Is this node the coordinator?  Raises unless it is, or has sent us the call. */
extern bool tc_node_is_coordinator(void);
extern void tc_node_require_front(void);

/* Enters the tenant on the company's node, which records that. */
extern void tc_node_enter_there(const TcContext *context);

/* Carries the context that was entered to nodes that this transaction will work on. */
extern void tc_node_spread(const TcContext *context);

#endif /* TC_NODE_H */
