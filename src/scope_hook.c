/*
 * scope_hook.c
 *		What isolates even where a scoped table's own policies do not.
 *
 * PostgreSQL asks row_security_policy_hook_restrictive for more policies of a table under row
 * security: a registered table gets the restrictive policy of scope_ddl.c from here, whatever has
 * become of its policies.  The expression is equal() to theirs, so the planner drops it where they
 * are intact.  The hook's policy carries the twin's name, so that its check of new rows is dropped
 * as well.  A registered table that has lost row security itself, or its FORCE, or its column, is
 * refused by ExecutorCheckPerms_hook to everybody whom row security would bind.
 *
 * Cost for ordinary statements: one hash probe per table named in a statement.
 *
 * Installed only when preloaded; previous hooks are called first.  No locks.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/parallel.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "rewrite/rowsecurity.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "compat.h"
#include "node.h"
#include "ready.h"
#include "scope.h"

static row_security_policy_hook_type previous_restrictive = NULL;
static ExecutorCheckPerms_hook_type previous_check_perms = NULL;

/* The restrictive policy of a scoped table. */
static RowSecurityPolicy *
make_policy(AttrNumber attnum, Oid type)
{
	RowSecurityPolicy *policy = palloc0(sizeof(RowSecurityPolicy));
	Datum everybody = ObjectIdGetDatum(ACL_ID_PUBLIC);

	policy->policy_name = TC_POLICY_RESTRICTIVE;
	policy->polcmd = '*';
	policy->roles = construct_array(&everybody, 1, OIDOID, sizeof(Oid), true, TYPALIGN_INT);
	policy->permissive = false;
	policy->qual = tc_scope_policy_expr(attnum, type);
	policy->with_check_qual = copyObject(policy->qual);
	policy->hassublinks = false;
	return policy;
}

/* Reports a scoped table that is scoped no more. */
static void
report_lost(Oid relid, const char *what)
{
	char *name = get_rel_name(relid);

	ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("scoped table \"%s\" has lost its %s", name, what),
					errdetail("It is registered as holding the rows of many companies."),
					errhint("Call tenantcall.scope_table() again, or let a superuser call "
							"tenantcall.unscope_table().")));
}

/* Hook: one more restrictive policy for scoped tables. */
static List *
add_policy(CmdType command, Relation rel)
{
	List *policies = previous_restrictive ? previous_restrictive(command, rel) : NIL;
	const TcScoped *scoped = tc_scope_in_force(RelationGetRelid(rel));
	AttrNumber attnum;

	if (scoped == NULL)
		return policies;
	attnum = get_attnum(RelationGetRelid(rel), NameStr(scoped->column));
	if (attnum <= 0 || get_atttype(RelationGetRelid(rel), attnum) != scoped->type)
		report_lost(RelationGetRelid(rel), "company column");
	return lappend(policies, make_policy(attnum, scoped->type));
}

/* Raises if row security would bind the user on this scoped table, but is not there. */
static void
check_scoped(const TcPermission *permission)
{
	Oid user = OidIsValid(permission->checkAsUser) ? permission->checkAsUser : GetUserId();
	HeapTuple tuple;
	Form_pg_class form;
	bool lost;

	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(permission->relid));
	if (!HeapTupleIsValid(tuple))
		return;
	form = (Form_pg_class) GETSTRUCT(tuple);
	lost = !form->relrowsecurity || !form->relforcerowsecurity;
	ReleaseSysCache(tuple);
	if (lost && !has_bypassrls_privilege(user))
		report_lost(permission->relid, "row security");
}

/*
 * Hook: refuses scoped tables without row security.  Checks of foreign keys see all rows of a table
 * anyhow, and pg_restore makes them in any order, also before it turns row security on again.
 */
static bool
check_permissions(TC_CHECK_PERMS_PARAMS)
{
	ListCell *cell;

	if (previous_check_perms && !previous_check_perms(TC_CHECK_PERMS_ARGS))
		return false;
	if (IsParallelWorker() || IsBinaryUpgrade || InNoForceRLSOperation() ||
		(!tc_node_citus && !tc_scope_any()))
		return true;
	foreach(cell, TC_CHECK_PERMS_LIST)
	{
		const TcPermission *permission = lfirst(cell);

		if (permission->requiredPerms != 0 && tc_scope_in_force(permission->relid) != NULL)
			check_scoped(permission);
	}
	return true;
}

/* Installs the hooks. */
void
tc_scope_hook_init(void)
{
	previous_restrictive = row_security_policy_hook_restrictive;
	row_security_policy_hook_restrictive = add_policy;
	previous_check_perms = ExecutorCheckPerms_hook;
	ExecutorCheckPerms_hook = check_permissions;
}
