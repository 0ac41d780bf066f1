/*
 * owner_guard.c
 *		The tenants' tables are changed by superusers only, not by members of their owner.
 *
 * tenantcall_owner owns the tables, and the library works as that role for one company after the
 * other (act.c).  Row security binds it.  But the owner of a table may give it a trigger, a rule,
 * an index or constraint with an expression, or another column type, and code of these runs on the
 * rows of every company, or while the library is at work for another one.  Nobody is to be a
 * member of the role; should somebody be, DDL is refused to it altogether, before it runs: there
 * is no list of harmful statements that would be complete for all versions.
 *
 * What superusers do passes, in SECURITY DEFINER functions of the owner as well, and so do the
 * statements by which the library itself scopes a table.  No locks, no state.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/acl.h"

#include "owner_guard.h"
#include "telephony.h"

bool tc_owner_guard_own_statement = false;

static ProcessUtility_hook_type prev_utility = NULL;

/* Is the current user, without being or acting for a superuser, the tables' owner or a member? */
static bool
acts_as_owner(void)
{
	Oid user = GetUserId();
	const TcTelephony *place;

	if (superuser_arg(user) || superuser_arg(GetSessionUserId()))
		return false;
	place = tc_telephony();
	return place != NULL && is_member_of_role_nosuper(user, place->owner);
}

/* ProcessUtility_hook */
static void
guard_utility(PlannedStmt *pstmt, const char *query, bool read_only_tree,
			  ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *env,
			  DestReceiver *dest, QueryCompletion *completion)
{
	bool own = tc_owner_guard_own_statement;

	tc_owner_guard_own_statement = false;
	/* a subcommand is part of a statement that was looked at */
	if (!own && context != PROCESS_UTILITY_SUBCOMMAND &&
		GetCommandLogLevel(pstmt->utilityStmt) == LOGSTMT_DDL && IsTransactionState() &&
		acts_as_owner())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("members of role \"tenantcall_owner\" may not run schema changes"),
				 errdetail("Code attached to the tenants' tables would run for every company."),
				 errhint("Do it as a superuser, and revoke the membership.")));
	if (prev_utility)
		prev_utility(pstmt, query, read_only_tree, context, params, env, dest, completion);
	else
		standard_ProcessUtility(pstmt, query, read_only_tree, context, params, env, dest,
								completion);
}

/* Installs the hook. */
void
tc_owner_guard_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	prev_utility = ProcessUtility_hook;
	ProcessUtility_hook = guard_utility;
}
