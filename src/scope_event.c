/*
 * scope_event.c
 *		Event triggers: new partitions and children are scoped, dropped tables forgotten.
 *
 * Both are ENABLE ALWAYS and run for much DDL that is none of their business, so they look at the
 * parse tree and at this backend's copy of the registry first, and return.  They do nothing while
 * the extension is being made or removed, and nothing in pg_upgrade; in a restore the registry is
 * still empty when tables are made.
 *
 * Locks: those of tc_scope_relation() on new children; ROW EXCLUSIVE on the registry.
 */
#include "postgres.h"

#include "catalog/pg_inherits.h"
#include "commands/event_trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"

#include "scope.h"

PG_FUNCTION_INFO_V1(tc_scope_ddl_end);
PG_FUNCTION_INFO_V1(tc_scope_sql_drop);

/* May the event trigger act at all? */
static EventTriggerData *
event_data(FunctionCallInfo fcinfo)
{
	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("function was not called by the event trigger manager")));
	if (IsBinaryUpgrade || !tc_scope_any())
		return NULL;
	return (EventTriggerData *) fcinfo->context;
}

/* Does the statement make a table that inherits from another? */
static bool
creates_child(const Node *node)
{
	ListCell *cell;

	if (IsA(node, CreateStmt) || IsA(node, CreateForeignTableStmt))
		return ((const CreateStmt *) node)->inhRelations != NIL;
	if (IsA(node, CreateSchemaStmt))
	{
		foreach(cell, ((const CreateSchemaStmt *) node)->schemaElts)
		{
			if (creates_child(lfirst(cell)))
				return true;
		}
	}
	return false;
}

/* Does the statement make an existing table inherit from another? */
static bool
attaches_child(const Node *node)
{
	ListCell *cell;

	if (!IsA(node, AlterTableStmt))
		return false;
	foreach(cell, ((const AlterTableStmt *) node)->cmds)
	{
		AlterTableType subtype = lfirst_node(AlterTableCmd, cell)->subtype;

		if (subtype == AT_AttachPartition || subtype == AT_AddInherit)
			return true;
	}
	return false;
}

/* Does the statement rename a column of a table? */
static bool
renames_column(const Node *node)
{
	return IsA(node, RenameStmt) && ((const RenameStmt *) node)->renameType == OBJECT_COLUMN &&
		   ((const RenameStmt *) node)->relationType == OBJECT_TABLE;
}

/* The tables that the present command made or altered. */
static List *
touched_tables(void)
{
	MemoryContext caller = CurrentMemoryContext;
	List *tables = NIL;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	tc_scope_run("SELECT objid FROM pg_catalog.pg_event_trigger_ddl_commands() "
				 "WHERE object_type OPERATOR(pg_catalog.=) ANY "
				 "('{table,table column,foreign table}'::pg_catalog.text[])");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool isnull;
		Oid relid = DatumGetObjectId(
			SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
		MemoryContext ours = MemoryContextSwitchTo(caller);

		tables = list_append_unique_oid(tables, relid);
		MemoryContextSwitchTo(ours);
	}
	SPI_finish();
	return tables;
}

/* Scopes the table if a parent of it is scoped and it is not. */
static void
scope_child(Oid relid)
{
	char *column;

	if (tc_scope_lookup(relid) != NULL)
		return;
	column = tc_scope_parent_column(relid);
	if (column != NULL)
		tc_scope_relation(relid, column);
}

/* Scopes the table, and its direct children, where a parent is scoped: either may be new. */
static void
scope_children(Oid relid)
{
	ListCell *cell;

	scope_child(relid);
	if (tc_scope_lookup(relid) == NULL)
		return;
	foreach(cell, find_inheritance_children(relid, NoLock))
		scope_child(lfirst_oid(cell));
}

/* Lets the registry follow a renamed company column of the table and its heirs. */
static void
follow_rename(Oid relid, const RenameStmt *stmt)
{
	ListCell *cell;

	foreach(cell, find_all_inheritors(relid, NoLock, NULL))
	{
		const TcScoped *scoped = tc_scope_lookup(lfirst_oid(cell));

		if (scoped != NULL && strcmp(NameStr(scoped->column), stmt->subname) == 0)
			tc_scope_rename(lfirst_oid(cell), stmt->newname);
	}
}

/* Event trigger, ddl_command_end */
Datum
tc_scope_ddl_end(PG_FUNCTION_ARGS)
{
	EventTriggerData *data = event_data(fcinfo);
	bool renames;
	ListCell *cell;

	if (data == NULL)
		PG_RETURN_NULL();
	renames = renames_column(data->parsetree);
	if (!renames && !creates_child(data->parsetree) && !attaches_child(data->parsetree))
		PG_RETURN_NULL();
	foreach(cell, touched_tables())
	{
		if (renames)
			follow_rename(lfirst_oid(cell), (const RenameStmt *) data->parsetree);
		else
			scope_children(lfirst_oid(cell));
	}
	PG_RETURN_NULL();
}

/* Event trigger, sql_drop */
Datum
tc_scope_sql_drop(PG_FUNCTION_ARGS)
{
	if (event_data(fcinfo) != NULL)
		tc_scope_forget_dropped();
	PG_RETURN_NULL();
}
