/*
 * confine.c
 *		What application roles may not do, beside what row security hides.
 *
 * Row security filters rows.  It says nothing of EXPLAIN, which counts the rows it removed; of
 * locks, notifications, large objects and cursors that outlive their transaction; of other
 * sessions' query texts.  A role that was given the rights of an application (grant_app) and not
 * those of a gateway or administrator, and a member of tenantcall_owner, is refused these, with the
 * reason:
 *
 *		statements	ProcessUtility_hook		by kind of statement, before it runs
 *		functions	object_access_hook		when the executor prepares the call
 *		plans		planner_hook			when they are to be printed
 *
 * Who is confined is decided by the current user, and by the session's login as well, so that SET
 * ROLE is no way out; except in SECURITY DEFINER functions of a role that the login cannot become.
 * The answer is kept per role until role_kinds or a membership changes.  An unconfined session
 * pays one comparison per function that a plan prepares, a confined one two look-ups in arrays.
 * No locks, no shared state.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "optimizer/planner.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "confine.h"
#include "confine_core.h"
#include "inval.h"
#include "node.h"
#include "telephony.h"

#define MAX_ROLES 16 /* roles whose confinement is remembered */

/* Is this role confined? */
typedef struct RoleVerdict
{
	Oid role;
	bool confined;
} RoleVerdict;

static ProcessUtility_hook_type prev_utility = NULL;
static object_access_hook_type prev_access = NULL;
static planner_hook_type prev_planner = NULL;
static RoleVerdict verdicts[MAX_ROLES];
static int n_verdicts = 0;
static Oid role_kinds_relid = InvalidOid;
static bool deciding = false;			   /* are we finding out? */
static bool harmless[FirstNormalObjectId]; /* functions, by OID, that were found so */

/* Relation cache callback: role_kinds changed. */
static void
kinds_changed(Oid relid)
{
	if (relid == InvalidOid || relid == role_kinds_relid)
		n_verdicts = 0;
}

/* Syscache callback: roles, memberships or schemas changed. */
static void
roles_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	n_verdicts = 0;
}

/* What the search of role_kinds carries along. */
typedef struct KindSearch
{
	Oid role;
	bool app;
	bool trusted;
} KindSearch;

/* Takes a row of role_kinds. */
static bool
visit_kind(HeapTuple tuple, TupleDesc desc, void *arg)
{
	KindSearch *search = arg;
	char *kind = tc_row_text(tuple, desc, "kind");
	Datum name;
	Oid granted;

	if (kind == NULL || !tc_row_datum(tuple, desc, "role", &name))
		return true;
	granted = get_role_oid(NameStr(*DatumGetName(name)), true);
	if (!OidIsValid(granted) || !is_member_of_role_nosuper(search->role, granted))
		return true;
	if (strcmp(kind, "app") == 0)
		search->app = true;
	else
		search->trusted = true;
	return true;
}

/* Is it a member of the owner of the tenants' tables?  There should be none. */
static bool
is_owner_member(Oid role)
{
	Oid owner = get_role_oid("tenantcall_owner", true);

	return OidIsValid(owner) && role != owner && is_member_of_role_nosuper(role, owner);
}

/* Finds out whether a role is confined. */
static bool
decide(Oid role)
{
	KindSearch search = {.role = role};

	if (superuser_arg(role))
		return false;
	if (is_owner_member(role))
		return true;
	role_kinds_relid = tc_own_relation("role_kinds");
	if (!OidIsValid(role_kinds_relid))
		return false;
	tc_read_rows(role_kinds_relid, NULL, 0, visit_kind, &search);
	return search.app && !search.trusted;
}

/* Is the role confined?  Remembered. */
static bool
is_confined(Oid role)
{
	bool confined;

	for (int i = 0; i < n_verdicts; i++)
	{
		if (verdicts[i].role == role)
			return verdicts[i].confined;
	}
	if (deciding || !IsTransactionState())
		return false;
	deciding = true;
	PG_TRY();
	{
		confined = decide(role);
	}
	PG_FINALLY();
	{
		deciding = false;
	}
	PG_END_TRY();
	if (n_verdicts == MAX_ROLES)
		n_verdicts = 0;
	verdicts[n_verdicts].role = role;
	verdicts[n_verdicts].confined = confined;
	n_verdicts++;
	return confined;
}

/* Is whoever is at work confined? */
static bool
confined_now(void)
{
	Oid user;
	int sec_context;

	GetUserIdAndSecContext(&user, &sec_context);
	if (is_confined(user))
		return true;
	if (GetSessionUserId() == user || !is_confined(GetSessionUserId()))
		return false;
	return (sec_context & SECURITY_LOCAL_USERID_CHANGE) == 0 ||
		   is_member_of_role_nosuper(GetSessionUserId(), user);
}

/* Refuses. */
static void
refuse(const char *what, const char *why)
{
	ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					errmsg("application roles may not use %s", what), errdetail("%s", why),
					errhint("Do it as an administrator, or in a SECURITY DEFINER function that "
							"keeps to one company.")));
}

/* What the search for a name among the scoped tables carries along. */
typedef struct NameSearch
{
	const char *name;
	bool found;
} NameSearch;

/* Takes a row of the registry. */
static bool
visit_scoped(HeapTuple tuple, TupleDesc desc, void *arg)
{
	NameSearch *search = arg;
	Datum relid;
	char *name;

	if (!tc_row_datum(tuple, desc, "rel", &relid))
		return true;
	name = get_rel_name(DatumGetObjectId(relid));
	search->found = name != NULL && strcmp(name, search->name) == 0;
	return !search->found;
}

/* Is a scoped table named so? */
static bool
names_scoped(const char *name)
{
	NameSearch search = {.name = name};

	if (unlikely(tc_node_distributed()) &&
		OidIsValid(get_relname_relid(name, tc_telephony_required()->schema)))
		return true;
	tc_read_rows(tc_own_relation("scope_registry"), NULL, 0, visit_scoped, &search);
	return search.found;
}

/* Would the new relation be temporary, and hide a scoped table? */
static bool
creation_shadows(const RangeVar *relation)
{
	if (relation->relpersistence != RELPERSISTENCE_TEMP &&
		(relation->schemaname == NULL || strncmp(relation->schemaname, "pg_temp", 7) != 0))
		return false;
	return names_scoped(relation->relname);
}

/* Would the new name of a temporary relation hide a scoped table? */
static bool
rename_shadows(const RenameStmt *rename)
{
	Oid relid =
		rename->relation == NULL ? InvalidOid : RangeVarGetRelid(rename->relation, NoLock, true);

	return OidIsValid(relid) && isTempNamespace(get_rel_namespace(relid)) &&
		   names_scoped(rename->newname);
}

/* The relation that a statement creates. */
static const RangeVar *
created_relation(const Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_CreateStmt:
			return ((const CreateStmt *) statement)->relation;
		case T_CreateTableAsStmt:
			return ((const CreateTableAsStmt *) statement)->into->rel;
		case T_ViewStmt:
			return ((const ViewStmt *) statement)->view;
		default:
			return castNode(CreateSeqStmt, statement)->sequence;
	}
}

/* Refuses a relation that would hide a scoped table. */
static void
refuse_shadow(void)
{
	refuse("temporary relations named like a scoped table",
		   "They would hide the table from whatever looks it up by name.");
}

/* Refuses statements that row security does not cover. */
static void
check_statement(const Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_ExplainStmt:
			refuse("EXPLAIN", "A plan tells how many rows of other companies were passed over.");
			break;
		case T_LockStmt:
			refuse("LOCK TABLE", "A table's lock holds up all companies.");
			break;
		case T_ListenStmt:
		case T_NotifyStmt:
			refuse("LISTEN and NOTIFY", "Notifications reach all sessions of the database, "
										"whatever their company.");
			break;
		case T_DeclareCursorStmt:
			if ((((const DeclareCursorStmt *) statement)->options & CURSOR_OPT_HOLD) != 0)
				refuse("cursors WITH HOLD",
					   "They carry one company's rows into the next transaction.");
			break;
		case T_AlterRoleStmt:
		case T_AlterRoleSetStmt:
		case T_GrantRoleStmt:
			refuse("ALTER ROLE and GRANT of roles", "The role is shared by all companies.");
			break;
		case T_CreateStmt:
		case T_CreateTableAsStmt:
		case T_ViewStmt:
		case T_CreateSeqStmt:
			if (creation_shadows(created_relation(statement)))
				refuse_shadow();
			break;
		case T_RenameStmt:
			if (rename_shadows((const RenameStmt *) statement))
				refuse_shadow();
			break;
		default:
			break;
	}
}

/* Is it a kind of statement that is looked at? */
static bool
concerns_us(const Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_ExplainStmt:
		case T_LockStmt:
		case T_ListenStmt:
		case T_NotifyStmt:
		case T_DeclareCursorStmt:
		case T_AlterRoleStmt:
		case T_AlterRoleSetStmt:
		case T_GrantRoleStmt:
		case T_CreateStmt:
		case T_CreateTableAsStmt:
		case T_ViewStmt:
		case T_CreateSeqStmt:
		case T_RenameStmt:
			return true;
		default:
			return false;
	}
}

/* ProcessUtility_hook */
static void
confine_utility(PlannedStmt *pstmt, const char *query, bool read_only_tree,
				ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *env,
				DestReceiver *dest, QueryCompletion *completion)
{
	if (concerns_us(pstmt->utilityStmt) && IsTransactionState() && confined_now())
		check_statement(pstmt->utilityStmt);
	if (prev_utility)
		prev_utility(pstmt, query, read_only_tree, context, params, env, dest, completion);
	else
		standard_ProcessUtility(pstmt, query, read_only_tree, context, params, env, dest,
								completion);
}

/* Why the function may not be called; NULL: it may. */
static const char *
judge_function(Oid function)
{
	const char *why;

	if (function >= FirstNormalObjectId)
		return tc_confine_citus(function); /* not PostgreSQL's own */
	if (likely(harmless[function]))
		return NULL;
	if (get_func_namespace(function) != PG_CATALOG_NAMESPACE)
		return NULL;
	why = tc_confine_function(get_func_name(function));
	harmless[function] = why == NULL;
	return why;
}

/* object_access_hook: the executor is about to call a function. */
static void
confine_access(ObjectAccessType access, Oid class_id, Oid object_id, int sub_id, void *arg)
{
	const char *why;

	if (prev_access)
		prev_access(access, class_id, object_id, sub_id, arg);
	if (access != OAT_FUNCTION_EXECUTE || deciding || !confined_now())
		return;
	why = judge_function(object_id);
	if (why != NULL)
		refuse(get_func_name(object_id), why);
}

/* planner_hook: a plan sent to the client tells what EXPLAIN does. */
static PlannedStmt *
confine_plan(Query *parse, const char *query, int cursor_options, ParamListInfo params)
{
	if (unlikely(Debug_print_plan) && confined_now())
		refuse("debug_print_plan", "A plan is estimated from the rows of all companies.");
	if (prev_planner)
		return prev_planner(parse, query, cursor_options, params);
	return standard_planner(parse, query, cursor_options, params);
}

/* Installs the hooks; without preloading there is nothing to confine. */
void
tc_confine_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	tc_on_relation_change(kinds_changed);
	CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, roles_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, roles_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, roles_changed, (Datum) 0);
	prev_utility = ProcessUtility_hook;
	ProcessUtility_hook = confine_utility;
	prev_access = object_access_hook;
	object_access_hook = confine_access;
	prev_planner = planner_hook;
	planner_hook = confine_plan;
}
