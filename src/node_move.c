/*
 * node_move.c
 *		Moving shards while they are written.
 *
 * Citus moves a shard without holding up its writers by logical replication, for which it makes a
 * role on the target node, for as long as the move lasts: a member of the tables' owner, and
 * superuser until its subscription is made.  PostgreSQL refuses replication into tables whose row
 * security binds that role, as forced row security does.  So where Citus takes SUPERUSER from the
 * role it gets BYPASSRLS instead: less than it had, and no more than its owner has.
 *
 * Who may run that statement may give BYPASSRLS to whom he likes: PostgreSQL asks for a superuser.
 * No locks, no state.
 */
#include "postgres.h"

#include "commands/defrem.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "tcop/utility.h"

#include "node.h"
#include "node_move.h"

static const char *const role_names[] = {"citus_shard_move_subscription_role_",
										 "citus_shard_split_subscription_role_"};

static ProcessUtility_hook_type prev_utility = NULL;

/* Is it the role of a subscription of Citus? */
static bool
is_subscriber(const RoleSpec *role)
{
	if (role == NULL || role->roletype != ROLESPEC_CSTRING)
		return false;
	for (int i = 0; i < (int) lengthof(role_names); i++)
	{
		if (strncmp(role->rolename, role_names[i], strlen(role_names[i])) == 0)
			return true;
	}
	return false;
}

/* Does the statement take SUPERUSER, and nothing else, from such a role? */
static bool
takes_superuser(const Node *statement)
{
	const AlterRoleStmt *alter = (const AlterRoleStmt *) statement;
	DefElem *option;

	if (!IsA(statement, AlterRoleStmt) || !is_subscriber(alter->role) ||
		list_length(alter->options) != 1)
		return false;
	option = linitial_node(DefElem, alter->options);
	return strcmp(option->defname, "superuser") == 0 && !defGetBoolean(option);
}

/* ProcessUtility_hook */
static void
move_utility(PlannedStmt *pstmt, const char *query, bool read_only_tree,
			 ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *env,
			 DestReceiver *dest, QueryCompletion *completion)
{
	if (takes_superuser(pstmt->utilityStmt) && superuser() && tc_node_distributed())
	{
		pstmt = copyObject(pstmt);
		((AlterRoleStmt *) pstmt->utilityStmt)->options =
			lappend(((AlterRoleStmt *) pstmt->utilityStmt)->options,
					makeDefElem("bypassrls", (Node *) makeBoolean(true), -1));
	}
	if (prev_utility)
		prev_utility(pstmt, query, read_only_tree, context, params, env, dest, completion);
	else
		standard_ProcessUtility(pstmt, query, read_only_tree, context, params, env, dest,
								completion);
}

/* Installs the hook, where there is Citus. */
void
tc_node_move_init(void)
{
	if (!tc_node_citus || !process_shared_preload_libraries_in_progress)
		return;
	prev_utility = ProcessUtility_hook;
	ProcessUtility_hook = move_utility;
}
