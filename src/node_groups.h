/*
 * node_groups.h
 *		The nodes of a Citus cluster, and the groups of shards on this one, whoever's they are.
 */
#ifndef TC_NODE_GROUPS_H
#define TC_NODE_GROUPS_H

#include "postgres.h"

/* Citus's number of this node, and of the one where the company is at home; the coordinator's is 0.
 */
extern int tc_node_number(void);
extern int tc_node_home(int64 company_id);

/* Number of the group of shards that is worked on, by the company in context or as follows; 0:
 * none.
 */
extern int tc_node_present_group(void);

/*
 * Does the work for each group of shards that is on this node, as long as it returns true: tables
 * of tenants then stand for the group's shards, though no company is in context.  On a server by
 * itself once, for the tables.  To be held, so that they stay until the end of the transaction,
 * they must be if something is written; groups that are just being moved are left out: then false.
 */
extern bool tc_node_each_group(bool (*work)(void *arg), void *arg, bool hold);

/*
 * Executes a command that returns one value on a node, by its number, as the owner of the
 * extension and in a transaction of its own there.  The value, palloc'd; NULL: *error says why not.
 */
extern char *tc_node_run(int node, const char *command, char **error);

/* The same on all other nodes at once (but NULL), or on those with shards but some; their replies.
 */
typedef struct TcNodeReply
{
	int node;
	bool ok;
	char *text; /* the value, or the error */
} TcNodeReply;

extern TcNodeReply *tc_node_run_all(const char *command, const int *but, int nbut, int *count);

#endif /* TC_NODE_GROUPS_H */
