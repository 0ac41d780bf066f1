/*
 * scope.c
 *		scope_table(): making a table's rows visible to the company in context only.
 *
 * Checks the table and all that inherits from it, then scopes each: declarations as the table's
 * owner, enforcement and registration as the extension's owner (scope_ddl.c).  Only the owner may
 * call it, and it only ever strengthens; taking a table out again is for superusers, in SQL.
 *
 * Locks: ACCESS EXCLUSIVE on a table that is not scoped yet, for as long as the transaction lasts;
 * SHARE UPDATE EXCLUSIVE, which lets readers and writers pass, on one that is, plus what a repair
 * needs.  scope_plan() does the lengthy part beforehand.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/catalog.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_namespace.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "compat.h"
#include "ready.h"
#include "scope.h"

/* What act_end() has to restore. */
typedef struct ScopeAct
{
	Oid user;
	int sec_context;
	int guc_nest;
} ScopeAct;

/* Takes an identity and a pinned search path, and connects SPI.  Errors undo it, as in act.h. */
static void
act_begin(ScopeAct *act, Oid user, int sec_flags)
{
	GetUserIdAndSecContext(&act->user, &act->sec_context);
	act->guc_nest = NewGUCNestLevel();
	SetUserIdAndSecContext(user, act->sec_context | SECURITY_LOCAL_USERID_CHANGE | sec_flags);
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
}

/* Gives them back. */
static void
act_end(ScopeAct *act)
{
	SPI_finish();
	AtEOXact_GUC(false, act->guc_nest);
	SetUserIdAndSecContext(act->user, act->sec_context);
}

/* Refuses relations that cannot be scoped, and fills in what concerns the relation. */
static void
check_relation(Oid relid, TcScopeTarget *target)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Form_pg_class form;
	const char *schema;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
						errmsg("relation with OID %u does not exist", relid)));
	form = (Form_pg_class) GETSTRUCT(tuple);
	schema = get_namespace_name(form->relnamespace);
	target->relid = relid;
	target->owner = form->relowner;
	target->relkind = form->relkind;
	target->table_sql = quote_qualified_identifier(schema, pstrdup(NameStr(form->relname)));
	if (form->relkind != RELKIND_RELATION && form->relkind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("cannot scope relation %s", target->table_sql),
						errdetail_relkind_not_supported(form->relkind),
						form->relkind == RELKIND_VIEW
							? errhint("Scope the tables below the view, and make it "
									  "security_invoker.")
							: errhint("Scope a plain or partitioned table.")));
	if (form->relpersistence == RELPERSISTENCE_TEMP)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("cannot scope temporary table %s",
							   quote_identifier(pstrdup(NameStr(form->relname)))),
						errdetail("A temporary table is seen by its session only.")));
	if (IsCatalogRelationOid(relid) || IsToastNamespace(form->relnamespace) ||
		strcmp(schema, "information_schema") == 0 || strcmp(schema, "tenantcall") == 0)
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("cannot scope system table %s", target->table_sql)));
	ReleaseSysCache(tuple);
	if (!tc_owns_relation(relid, GetUserId()))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("must be owner of table %s", target->table_sql),
						errhint("Let the table's owner or a superuser scope it.")));
}

/* Refuses columns that cannot carry the company, and fills in what concerns the column. */
static void
check_column(TcScopeTarget *target, const char *column)
{
	HeapTuple tuple = SearchSysCacheAttName(target->relid, column);
	const TcScoped *scoped = tc_scope_lookup(target->relid);
	Form_pg_attribute form;

	if (!HeapTupleIsValid(tuple) || ((Form_pg_attribute) GETSTRUCT(tuple))->attnum <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("table %s has no column %s", target->table_sql, quote_identifier(column)),
				 errhint("Name the column that holds the company as the second argument.")));
	form = (Form_pg_attribute) GETSTRUCT(tuple);
	if (!tc_scope_type_supported(form->atttypid))
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
						errmsg("column %s of table %s has type %s", quote_identifier(column),
							   target->table_sql, format_type_be(form->atttypid)),
						errdetail("A company column is integer, bigint or uuid."),
						errhint("Change the column's type, or name another column.")));
	if (form->attgenerated != '\0')
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("column %s of table %s is generated", quote_identifier(column),
							   target->table_sql),
						errhint("Name a stored column of its own for the company.")));
	if (scoped != NULL && strcmp(NameStr(scoped->column), column) != 0)
		ereport(ERROR, (errcode(ERRCODE_DUPLICATE_OBJECT),
						errmsg("table %s is scoped by another column, %s", target->table_sql,
							   quote_identifier(NameStr(scoped->column))),
						errhint("Let a superuser call tenantcall.unscope_table() first.")));
	target->attnum = form->attnum;
	target->type = form->atttypid;
	target->column = pstrdup(column);
	target->column_sql = quote_identifier(target->column);
	ReleaseSysCache(tuple);
}

/* The relations that the given one inherits from directly, as partition or otherwise. */
static List *
parents_of(Oid relid)
{
	Relation rel = table_open(InheritsRelationId, AccessShareLock);
	List *parents = NIL;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&key, Anum_pg_inherits_inhrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	scan = systable_beginscan(rel, InheritsRelidSeqnoIndexId, true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		parents = lappend_oid(parents, ((Form_pg_inherits) GETSTRUCT(tuple))->inhparent);
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return parents;
}

/* Refuses a table that can be read through a parent that is not scoped. */
static void
check_parents(const TcScopeTarget *target)
{
	ListCell *cell;

	foreach(cell, parents_of(target->relid))
	{
		Oid parent = lfirst_oid(cell);
		char *name = quote_qualified_identifier(get_namespace_name(get_rel_namespace(parent)),
												get_rel_name(parent));

		if (tc_scope_lookup(parent) == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("table %s is part of %s, which is not scoped", target->table_sql, name),
					 errdetail("Its rows could be read through the parent."),
					 errhint("Scope the parent: SELECT tenantcall.scope_table(%s);",
							 quote_literal_cstr(name))));
	}
}

/* Scopes one table; its relatives are seen to by the caller. */
static void
scope_one(Oid relid, const char *column)
{
	TcScopeTarget target = {0};
	ScopeAct act;

	check_relation(relid, &target);
	check_column(&target, column);
	check_parents(&target);
	act_begin(&act, target.owner, SECURITY_RESTRICTED_OPERATION);
	tc_scope_declare(&target);
	act_end(&act);
	act_begin(&act, tc_scope_registry_owner(), 0);
	tc_scope_enforce(&target);
	act_end(&act);
}

/* Scopes a table and all that inherits from it, parents first. */
void
tc_scope_relation(Oid relid, const char *column)
{
	TcScopeTarget target = {0};
	LOCKMODE lockmode;
	ListCell *cell;

	/* whoever may not scope it must not be able to lock it either */
	check_relation(relid, &target);
	lockmode = tc_scope_lookup(relid) ? ShareUpdateExclusiveLock : AccessExclusiveLock;
	LockRelationOid(relid, lockmode);
	foreach(cell, find_all_inheritors(relid, lockmode, NULL))
		scope_one(lfirst_oid(cell), column);
}

/* The company column of a scoped parent. */
char *
tc_scope_parent_column(Oid relid)
{
	ListCell *cell;

	foreach(cell, parents_of(relid))
	{
		const TcScoped *scoped = tc_scope_lookup(lfirst_oid(cell));

		if (scoped != NULL)
			return pstrdup(NameStr(scoped->column));
	}
	return NULL;
}

/* Records the new name of a company column. */
void
tc_scope_rename(Oid relid, const char *column)
{
	ScopeAct act;

	act_begin(&act, tc_scope_registry_owner(), 0);
	tc_scope_run("UPDATE tenantcall.scope_registry SET company_column = %s WHERE rel = %u::oid",
				 quote_literal_cstr(column), relid);
	act_end(&act);
}

/* Removes from the registry what the present command dropped; for a sql_drop event trigger. */
void
tc_scope_forget_dropped(void)
{
	ScopeAct act;

	act_begin(&act, tc_scope_registry_owner(), 0);
	tc_scope_run("DELETE FROM tenantcall.scope_registry r "
				 "USING pg_event_trigger_dropped_objects() d WHERE r.rel = d.objid "
				 "AND d.objsubid = 0 AND d.classid = 'pg_class'::regclass");
	act_end(&act);
}

PG_FUNCTION_INFO_V1(tc_scope_table);

/* scope_table(rel regclass, company_column name) */
Datum
tc_scope_table(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("table and company column must not be null")));
	tc_require_ready();
	tc_scope_relation(PG_GETARG_OID(0), NameStr(*PG_GETARG_NAME(1)));
	PG_RETURN_VOID();
}

/* Sets up the module. */
void
tc_scope_init(void)
{
	if (tc_preloaded)
		tc_scope_hook_init();
}
