/*
 * scope_ddl.c
 *		What scoping makes of a table, step by step.
 *
 * Each step looks at the relcache entry first and runs a statement only if something is missing or
 * different, so that scoping again changes nothing.  Trees are compared, not names: a policy of
 * our name that says something else is replaced.
 *
 * tc_scope_declare() runs as the table's owner in a security-restricted operation, like REINDEX:
 * PostgreSQL evaluates expressions of the table's author there (CHECK constraints when it looks
 * for a proof of NOT NULL).  tc_scope_enforce() runs as the extension's owner, because nobody else
 * may execute the trigger functions or write the registry; no expression is evaluated in it.
 *
 * Locks: the caller holds a lock on the table that keeps others from scoping it.  The statements
 * take their own: ACCESS EXCLUSIVE for NOT NULL, default, row security, policies; SHARE for the
 * index; SHARE ROW EXCLUSIVE for triggers.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_am.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_policy.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "rewrite/rowsecurity.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "owner_guard.h"
#include "scope.h"

/* A trigger of ours. */
typedef struct TcTrigger
{
	const char *name;
	const char *function;
	const char *event; /* as in CREATE TRIGGER */
	int16 type;		   /* as in pg_trigger.tgtype */
	bool freezes;	   /* fires for rows, when the company would change */
} TcTrigger;

static const TcTrigger triggers[] = {
	{"tenantcall_freeze", "scope_freeze_trigger", "BEFORE UPDATE",
	 TRIGGER_TYPE_ROW | TRIGGER_TYPE_BEFORE | TRIGGER_TYPE_UPDATE, true},
	{"tenantcall_guard", "scope_guard_trigger", "BEFORE INSERT OR UPDATE OR DELETE",
	 TRIGGER_TYPE_BEFORE | TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE | TRIGGER_TYPE_DELETE, false},
	{"tenantcall_truncate", "scope_truncate_trigger", "BEFORE TRUNCATE",
	 TRIGGER_TYPE_BEFORE | TRIGGER_TYPE_TRUNCATE, false},
};

/* Runs one statement of ours; SPI is connected. */
void
tc_scope_run(const char *format, ...)
{
	StringInfoData sql;
	volatile int result = 0;

	initStringInfo(&sql);
	for (;;)
	{
		va_list args;
		int needed;

		va_start(args, format);
		needed = appendStringInfoVA(&sql, format, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&sql, needed);
	}
	tc_owner_guard_own_statement = true;
	PG_TRY();
	{
		result = SPI_execute(sql.data, false, 0);
	}
	PG_FINALLY();
	{
		tc_owner_guard_own_statement = false;
	}
	PG_END_TRY();
	if (result < 0)
		elog(ERROR, "\"%s\" failed: %s", sql.data, SPI_result_code_string(result));
	pfree(sql.data);
}

/* Is there a validated CHECK (column IS NOT NULL)?  Then SET NOT NULL does not scan. */
static bool
has_not_null_check(Relation rel, AttrNumber attnum, Oid type)
{
	TupleConstr *constr = RelationGetDescr(rel)->constr;
	Node *wanted = tc_scope_not_null_expr(attnum, type);

	for (int i = 0; constr != NULL && i < constr->num_check; i++)
	{
		if (constr->check[i].ccvalid && equal(stringToNode(constr->check[i].ccbin), wanted))
			return true;
	}
	return false;
}

/* Counts a table's rows without a company, below row security and without the planner. */
static int64
count_nulls(Relation rel, AttrNumber attnum)
{
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	int64 count = 0;

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		if (slot_attisnull(slot, attnum))
			count++;
	}
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	return count;
}

/* The same of the table and all that inherits from it, skipping what is known to have none. */
static int64
count_nulls_below(const TcScopeTarget *target)
{
	int64 count = 0;
	ListCell *cell;

	foreach(cell, find_all_inheritors(target->relid, NoLock, NULL))
	{
		Relation rel = table_open(lfirst_oid(cell), NoLock);
		AttrNumber attnum = get_attnum(RelationGetRelid(rel), target->column);

		if (rel->rd_rel->relkind == RELKIND_RELATION && !tc_column_not_null(rel, attnum) &&
			!has_not_null_check(rel, attnum, target->type))
			count += count_nulls(rel, attnum);
		table_close(rel, NoLock);
	}
	return count;
}

/* NOT NULL, which reaches the children too.  Counts first, for an error that says how much. */
static void
ensure_not_null(const TcScopeTarget *target)
{
	Relation rel = table_open(target->relid, NoLock);
	bool done = tc_column_not_null(rel, target->attnum);
	int64 nulls;

	table_close(rel, NoLock);
	if (done)
		return;
	nulls = count_nulls_below(target);
	if (nulls > 0)
		ereport(ERROR, (errcode(ERRCODE_NOT_NULL_VIOLATION),
						errmsg("table %s holds rows without a company", target->table_sql),
						errdetail_plural("Column %s is null in " INT64_FORMAT " row.",
										 "Column %s is null in " INT64_FORMAT " rows.", nulls,
										 target->column_sql, nulls),
						errhint("Give each row its company, or delete it, then scope the table.")));
	tc_scope_run("ALTER TABLE %s ALTER COLUMN %s SET NOT NULL", target->table_sql,
				 target->column_sql);
}

/* The company in context as the default, unless there is another default. */
static void
ensure_default(const TcScopeTarget *target)
{
	Relation rel = table_open(target->relid, NoLock);
	Form_pg_attribute attr = TupleDescAttr(RelationGetDescr(rel), target->attnum - 1);
	bool done = attr->atthasdef || attr->attidentity != '\0';

	table_close(rel, NoLock);
	if (!done)
		tc_scope_run("ALTER TABLE %s ALTER COLUMN %s SET DEFAULT tenantcall.%s()%s",
					 target->table_sql, target->column_sql, tc_scope_function_name(target->type),
					 target->type == INT4OID ? "::pg_catalog.int4" : "");
}

/* Is the index a usable btree over all rows, led by the column? */
static bool
index_serves(Oid indexid, AttrNumber attnum)
{
	Relation index = index_open(indexid, AccessShareLock);
	bool serves = index->rd_rel->relam == BTREE_AM_OID && index->rd_index->indisvalid &&
				  index->rd_index->indkey.values[0] == attnum &&
				  RelationGetIndexPredicate(index) == NIL;

	index_close(index, AccessShareLock);
	return serves;
}

/* An index led by the company. */
static void
ensure_index(const TcScopeTarget *target)
{
	Relation rel = table_open(target->relid, NoLock);
	List *indexes = RelationGetIndexList(rel);
	bool done = false;
	ListCell *cell;

	foreach(cell, indexes)
		done = done || index_serves(lfirst_oid(cell), target->attnum);
	list_free(indexes);
	table_close(rel, NoLock);
	if (!done)
		tc_scope_run("CREATE INDEX ON %s (%s)", target->table_sql, target->column_sql);
}

/* Row security, also for the table's owner. */
static void
ensure_row_security(const TcScopeTarget *target)
{
	Relation rel = table_open(target->relid, NoLock);
	bool enabled = rel->rd_rel->relrowsecurity;
	bool forced = rel->rd_rel->relforcerowsecurity;

	table_close(rel, NoLock);
	if (!enabled)
		tc_scope_run("ALTER TABLE %s ENABLE ROW LEVEL SECURITY", target->table_sql);
	if (!forced)
		tc_scope_run("ALTER TABLE %s FORCE ROW LEVEL SECURITY", target->table_sql);
}

/* Is the policy for all commands and roles, and says what ours say? */
static bool
policy_is_ours(const RowSecurityPolicy *policy, bool permissive, const Expr *wanted)
{
	const Oid *roles = (const Oid *) ARR_DATA_PTR(policy->roles);

	return policy->permissive == permissive && policy->polcmd == '*' &&
		   ARR_DIMS(policy->roles)[0] == 1 && roles[0] == ACL_ID_PUBLIC &&
		   equal(policy->qual, wanted) && equal(policy->with_check_qual, wanted);
}

/* One policy of ours. */
static void
ensure_policy(const TcScopeTarget *target, const char *name, bool permissive)
{
	Relation rel = table_open(target->relid, NoLock);
	Expr *wanted = tc_scope_policy_expr(target->attnum, target->type);
	bool exists = false;
	bool done = false;
	ListCell *cell;

	foreach(cell, rel->rd_rsdesc == NULL ? NIL : rel->rd_rsdesc->policies)
	{
		RowSecurityPolicy *policy = lfirst(cell);

		if (strcmp(policy->policy_name, name) != 0)
			continue;
		exists = true;
		done = policy_is_ours(policy, permissive, wanted);
	}
	table_close(rel, NoLock);
	if (done)
		return;
	if (exists)
		tc_scope_run("DROP POLICY %s ON %s", name, target->table_sql);
	tc_scope_run("CREATE POLICY %s ON %s AS %s FOR ALL TO PUBLIC "
				 "USING (%s OPERATOR(pg_catalog.=) tenantcall.%s()) "
				 "WITH CHECK (%s OPERATOR(pg_catalog.=) tenantcall.%s())",
				 name, target->table_sql, permissive ? "PERMISSIVE" : "RESTRICTIVE",
				 target->column_sql, tc_scope_function_name(target->type), target->column_sql,
				 tc_scope_function_name(target->type));
}

/* Does the trigger do what ours does, whatever session_replication_role is? */
static bool
trigger_is_ours(const Trigger *trigger, const TcTrigger *wanted, const TcScopeTarget *target)
{
	if (trigger->tgfoid != tc_scope_function(wanted->function, InvalidOid) ||
		trigger->tgtype != wanted->type || trigger->tgenabled != TRIGGER_FIRES_ALWAYS ||
		trigger->tgnattr != 0)
		return false;
	if (!wanted->freezes)
		return trigger->tgqual == NULL;
	return trigger->tgqual != NULL &&
		   equal(stringToNode(trigger->tgqual), tc_scope_freeze_expr(target->attnum, target->type));
}

/* One trigger of ours. */
static void
ensure_trigger(const TcScopeTarget *target, const TcTrigger *wanted)
{
	Relation rel = table_open(target->relid, NoLock);
	TriggerDesc *desc = rel->trigdesc;
	StringInfoData when;
	bool exists = false;
	bool done = false;

	for (int i = 0; desc != NULL && i < desc->numtriggers; i++)
	{
		if (strcmp(desc->triggers[i].tgname, wanted->name) != 0)
			continue;
		exists = true;
		done = trigger_is_ours(&desc->triggers[i], wanted, target);
	}
	table_close(rel, NoLock);
	if (done)
		return;
	initStringInfo(&when);
	appendStringInfoString(&when, wanted->freezes ? "FOR EACH ROW" : "FOR EACH STATEMENT");
	if (wanted->freezes)
		appendStringInfo(&when, " WHEN (OLD.%s IS DISTINCT FROM NEW.%s)", target->column_sql,
						 target->column_sql);
	if (exists)
		tc_scope_run("DROP TRIGGER %s ON %s", wanted->name, target->table_sql);
	tc_scope_run("CREATE TRIGGER %s %s ON %s %s EXECUTE FUNCTION tenantcall.%s()", wanted->name,
				 wanted->event, target->table_sql, when.data, wanted->function);
	tc_scope_run("ALTER TABLE %s ENABLE ALWAYS TRIGGER %s", target->table_sql, wanted->name);
}

/* The table's row in the registry. */
static void
ensure_registered(const TcScopeTarget *target)
{
	const TcScoped *scoped = tc_scope_lookup(target->relid);

	if (scoped != NULL && scoped->type == target->type &&
		strcmp(NameStr(scoped->column), target->column) == 0)
		return;
	tc_scope_run("INSERT INTO tenantcall.scope_registry (rel, company_column, column_type) "
				 "VALUES (%u, %s, %u) ON CONFLICT (rel) DO UPDATE SET "
				 "company_column = excluded.company_column, column_type = excluded.column_type",
				 target->relid, quote_literal_cstr(target->column), target->type);
}

/* What the table's owner can make himself. */
void
tc_scope_declare(const TcScopeTarget *target)
{
	ensure_not_null(target);
	ensure_default(target);
	ensure_index(target);
	ensure_row_security(target);
	ensure_policy(target, TC_POLICY, true);
	ensure_policy(target, TC_POLICY_RESTRICTIVE, false);
}

/* What only the extension can make.  Rows are frozen where they are stored. */
void
tc_scope_enforce(const TcScopeTarget *target)
{
	for (int i = 0; i < (int) lengthof(triggers); i++)
	{
		if (!triggers[i].freezes || target->relkind == RELKIND_RELATION)
			ensure_trigger(target, &triggers[i]);
	}
	ensure_registered(target);
}
