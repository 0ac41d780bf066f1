/*
 * direct_state.c
 *		What is kept of a table that is written directly (direct.c), and which tables are fit.
 *
 * Per process and table: the executor's state for it (compiled checks and defaults, index and
 * trigger information), the columns by name, how to find a row by its key, how to find the rows
 * that its foreign keys name.  It is forgotten when the relation cache says that the table, or one
 * that it refers to, has changed.
 *
 * Fit is a table that has nothing which direct.c does not know: only B-tree indexes without
 * expressions or predicates, foreign keys that are checked at once, triggers of ours, functions
 * built into the server in its checks and defaults.
 *
 * State that an error left in use is given up: its slots may hold what the error has released.  It
 * goes when its subtransaction was aborted, else with the transaction, for whoever is using it may
 * be a caller of ours.
 *
 * Process-local; no locks.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "rewrite/rewriteHandler.h"
#include "rewrite/rowsecurity.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/partcache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "compat.h"
#include "direct_state.h"
#include "inval.h"
#include "scope.h"

/* More tables than this are not kept; ten partitions of each are in use at the very most. */
#define MAX_TABLES 64

extern Datum tc_lifecycle_trigger(PG_FUNCTION_ARGS);
extern Datum tc_scope_freeze_trigger(PG_FUNCTION_ARGS);
extern Datum tc_scope_guard_trigger(PG_FUNCTION_ARGS);
extern Datum tc_scope_truncate_trigger(PG_FUNCTION_ARGS);
extern Datum tc_usage_mark_trigger(PG_FUNCTION_ARGS);

/* The hash table's entries point to the state, which moves out of it when it is given up. */
typedef struct Entry
{
	Oid relid; /* key */
	TcDirect *table;
} Entry;

static HTAB *tables = NULL;
static uint64 changes = 0; /* counts the messages of the relation cache */

/* Relation cache callback. */
static void
relation_changed(Oid relid)
{
	HASH_SEQ_STATUS status;
	Entry *entry;

	changes++;
	hash_seq_init(&status, tables);
	while ((entry = hash_seq_search(&status)) != NULL)
	{
		TcDirect *table = entry->table;

		if (table == NULL)
			continue;
		table->stale |= relid == InvalidOid || relid == table->relid;
		for (int i = 0; i < table->nparents; i++)
			table->stale |= relid == table->parents[i].relid;
	}
}

/* Subtransaction callback: what an error left in use is nobody's any more. */
static void
end_subtransaction(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	HASH_SEQ_STATUS status;
	Entry *entry;

	if (event != SUBXACT_EVENT_ABORT_SUB)
		return;
	hash_seq_init(&status, tables);
	while ((entry = hash_seq_search(&status)) != NULL)
	{
		if (entry->table != NULL && entry->table->in_use && entry->table->used_in == mine)
			entry->table->abandoned = true;
	}
}

/* Is the function none of the server's own? */
static bool
is_foreign_function(Oid funcid, void *context)
{
	return funcid >= FirstNormalObjectId;
}

/* Does the expression call a function that is none of the server's own? */
static bool
calls_foreign_code(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (check_functions_in_node(node, is_foreign_function, context))
		return true;
	return expression_tree_walker(node, calls_foreign_code, context);
}

/* Can the table's checks be kept compiled? */
static bool
checks_fit(TupleDesc desc)
{
	int nchecks = desc->constr == NULL ? 0 : desc->constr->num_check;

	for (int i = 0; i < desc->natts; i++)
	{
		if (TupleDescAttr(desc, i)->attgenerated != '\0')
			return false;
	}
	for (int i = 0; i < nchecks; i++)
	{
		if (calls_foreign_code(stringToNode(desc->constr->check[i].ccbin), NULL))
			return false;
	}
	return true;
}

/* Are the policies on the table ours, of which our callers are sure to abide by? */
static bool
policies_are_ours(Relation rel)
{
	ListCell *cell;

	if (rel->rd_rsdesc == NULL)
		return true;
	foreach(cell, rel->rd_rsdesc->policies)
	{
		const RowSecurityPolicy *policy = lfirst(cell);

		if (strcmp(policy->policy_name, TC_POLICY) != 0 &&
			strcmp(policy->policy_name, TC_POLICY_RESTRICTIVE) != 0)
			return false;
	}
	return true;
}

/* Notes the indexes; false if one is not plain. */
static bool
prepare_indexes(TcDirect *table, Relation rel)
{
	List *indexes = RelationGetIndexList(rel);
	ResultRelInfo *target = table->target;
	ListCell *cell;
	bool fit = true;

	table->indexes = palloc0((list_length(indexes) + 1) * sizeof(Oid));
	target->ri_IndexRelationDescs = palloc0((list_length(indexes) + 1) * sizeof(Relation));
	target->ri_IndexRelationInfo = palloc0((list_length(indexes) + 1) * sizeof(IndexInfo *));
	foreach(cell, indexes)
	{
		Relation index = index_open(lfirst_oid(cell), RowExclusiveLock);

		fit = fit && tc_direct_plain_index(index);
		table->indexes[target->ri_NumIndices] = RelationGetRelid(index);
		target->ri_IndexRelationInfo[target->ri_NumIndices++] = BuildIndexInfo(index);
		index_close(index, NoLock);
	}
	return fit;
}

/* What to do with a trigger. */
typedef enum TriggerUse
{
	TRIGGER_FIRES,
	TRIGGER_HOLDS,	/* what it would check holds by construction, or does not concern us */
	TRIGGER_PARENT, /* a foreign key, checked by direct.c */
	TRIGGER_UNFIT
} TriggerUse;

/* Finds out what to do with a trigger of that function. */
static TriggerUse
use_of_trigger(const TcColumns *columns, const Trigger *trigger, const FmgrInfo *function)
{
	if (!TRIGGER_FOR_INSERT(trigger->tgtype) &&
		(columns->inserts_only || !TRIGGER_FOR_UPDATE(trigger->tgtype)))
		return TRIGGER_HOLDS;
	switch (RI_FKey_trigger_type(trigger->tgfoid))
	{
		case RI_TRIGGER_PK:
			return trigger->tgdeferrable ? TRIGGER_UNFIT : TRIGGER_FIRES;
		case RI_TRIGGER_FK:
			return trigger->tgdeferrable ? TRIGGER_UNFIT : TRIGGER_PARENT;
	}
	if (function->fn_addr == tc_lifecycle_trigger || function->fn_addr == tc_usage_mark_trigger)
		return TRIGGER_FIRES;
	if (function->fn_addr == tc_scope_freeze_trigger ||
		function->fn_addr == tc_scope_guard_trigger ||
		function->fn_addr == tc_scope_truncate_trigger)
		return TRIGGER_HOLDS;
	return TRIGGER_UNFIT;
}

/* Says in the summary of the triggers which kinds are left. */
static void
summarize_triggers(TriggerDesc *desc)
{
	desc->trig_insert_before_row = desc->trig_update_before_row = false;
	desc->trig_insert_before_statement = desc->trig_update_before_statement = false;
	desc->trig_insert_after_row = desc->trig_update_after_row = false;
	for (int i = 0; i < desc->numtriggers; i++)
	{
		int16 type = desc->triggers[i].tgtype;

		if (!TRIGGER_FOR_ROW(type) || !TRIGGER_FOR_AFTER(type))
			continue;
		desc->trig_insert_after_row |= TRIGGER_FOR_INSERT(type);
		desc->trig_update_after_row |= TRIGGER_FOR_UPDATE(type);
	}
}

/* Keeps the triggers that are to fire; false if there is one that we do not know. */
static bool
prepare_triggers(TcDirect *table, Relation rel)
{
	TriggerDesc *desc = table->target->ri_TrigDesc;
	int kept = 0;

	if (desc == NULL)
		return true;
	for (int i = 0; i < desc->numtriggers; i++)
	{
		Trigger *trigger = &desc->triggers[i];
		FmgrInfo function;
		TriggerUse use;

		fmgr_info(trigger->tgfoid, &function);
		use = use_of_trigger(table->columns, trigger, &function);
		if (use == TRIGGER_UNFIT ||
			(use == TRIGGER_PARENT && !tc_direct_prepare_foreign_key(table, rel, trigger)))
			return false;
		if (use != TRIGGER_FIRES)
			continue;
		desc->triggers[kept] = *trigger;
		table->target->ri_TrigFunctions[kept++] = function;
	}
	desc->numtriggers = kept;
	summarize_triggers(desc);
	return true;
}

/* Compiles the defaults; false if one calls what the server does not bring along. */
static bool
prepare_defaults(TcDirect *table, Relation rel)
{
	TupleDesc desc = RelationGetDescr(rel);

	table->defaults = palloc0(desc->natts * sizeof(ExprState *));
	for (int i = 0; i < desc->natts; i++)
	{
		bool given = TupleDescAttr(desc, i)->attisdropped;
		Node *expr;

		for (int c = 0; c < table->columns->written; c++)
			given = given || table->attnums[c] == i + 1;
		/* a domain may refuse the default, or that there is none */
		if (!given && get_typtype(TupleDescAttr(desc, i)->atttypid) == TYPTYPE_DOMAIN)
			return false;
		expr = given ? NULL : build_column_default(rel, i + 1);
		if (expr == NULL)
			continue;
		if (calls_foreign_code(expr, NULL))
			return false;
		table->defaults[i] = ExecInitExpr(expression_planner((Expr *) expr), NULL);
	}
	return true;
}

/* Notes by which column a table is partitioned; false unless it is by ranges of one column. */
static bool
prepare_partitioned(TcDirect *table, Relation rel)
{
	PartitionKey key = RelationGetPartitionKey(rel);

	if (key->strategy != PARTITION_STRATEGY_RANGE || key->partnatts != 1 || key->partattrs[0] == 0)
		return false;
	table->partitioned_by = key->partattrs[0];
	return true;
}

/* Makes the executor's state of a table; false if it is not fit. */
static bool
prepare_target(TcDirect *table, Relation rel)
{
	if (!checks_fit(RelationGetDescr(rel)))
		return false;
	table->estate = CreateExecutorState();
	table->target = makeNode(ResultRelInfo);
	InitResultRelInfo(table->target, rel, 0, NULL, 0);
	table->estate->es_opened_result_relations = list_make1(table->target);
	tc_epq_init(&table->epq, table->estate);
	table->slot = tc_direct_make_slot(rel, &TTSOpsVirtual);
	table->found = tc_direct_make_slot(rel, table_slot_callbacks(rel));
	table->target->ri_TrigOldSlot = tc_direct_make_slot(rel, table_slot_callbacks(rel));
	table->target->ri_TrigNewSlot = tc_direct_make_slot(rel, table_slot_callbacks(rel));
	return prepare_triggers(table, rel) && prepare_indexes(table, rel) &&
		   prepare_defaults(table, rel);
}

/* Do all triggers of a partitioned table belong to statements and to us, or to its partitions? */
static bool
partitioned_triggers_fit(const TcColumns *columns, Relation rel)
{
	const TriggerDesc *desc = rel->trigdesc;

	for (int i = 0; desc != NULL && i < desc->numtriggers; i++)
	{
		FmgrInfo function;

		if (TRIGGER_FOR_ROW(desc->triggers[i].tgtype))
			continue;
		fmgr_info(desc->triggers[i].tgfoid, &function);
		if (use_of_trigger(columns, &desc->triggers[i], &function) != TRIGGER_HOLDS)
			return false;
	}
	return true;
}

/* Is the table fit?  Makes what is kept of it, in the current memory context. */
static bool
prepare_table(TcDirect *table, Relation rel)
{
	if (rel->rd_rules != NULL || (table->columns->tenants && !policies_are_ours(rel)) ||
		!tc_direct_prepare_columns(table, rel))
		return false;
	if (rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
		return partitioned_triggers_fit(table->columns, rel) && prepare_partitioned(table, rel);
	return rel->rd_rel->relkind == RELKIND_RELATION && prepare_target(table, rel);
}

/* Makes the state of a table. */
static TcDirect *
make_state(Relation rel, const TcColumns *columns)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "tenantcall table", ALLOCSET_SMALL_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	TcDirect *table = palloc0(sizeof(TcDirect));
	uint64 before = changes;

	table->relid = RelationGetRelid(rel);
	table->context = context;
	table->columns = columns;
	table->fit = prepare_table(table, rel);
	table->stale = changes != before; /* good for once */
	if (!table->fit)
		elog(DEBUG1, "rows of table \"%s\" are written by statements",
			 RelationGetRelationName(rel));
	MemoryContextSwitchTo(caller);
	MemoryContextSetParent(context, TopMemoryContext);
	return table;
}

/* Gives the state up: at once, or, where somebody may be using it, with the transaction. */
static void
drop_state(Entry *entry)
{
	TcDirect *table = entry->table;

	entry->table = NULL;
	if (table == NULL)
		return;
	if (table->in_use && !table->abandoned)
		MemoryContextSetParent(table->context, TopTransactionContext);
	else
		MemoryContextDelete(table->context);
}

/* Makes the hash table; empties it when it has become large. */
static void
prepare_hash(void)
{
	HASHCTL control = {.keysize = sizeof(Oid), .entrysize = sizeof(Entry)};
	HASH_SEQ_STATUS status;
	Entry *entry;

	if (tables == NULL)
	{
		tables = hash_create("tenantcall tables", 16, &control, HASH_ELEM | HASH_BLOBS);
		tc_on_relation_change(relation_changed);
		RegisterSubXactCallback(end_subtransaction, NULL);
	}
	if (hash_get_num_entries(tables) < MAX_TABLES)
		return;
	hash_seq_init(&status, tables);
	while ((entry = hash_seq_search(&status)) != NULL)
	{
		drop_state(entry);
		hash_search(tables, &entry->relid, HASH_REMOVE, NULL);
	}
}

/* What is known of the open table. */
TcDirect *
tc_direct_state(Relation rel, const TcColumns *columns)
{
	Oid relid = RelationGetRelid(rel);
	Entry *entry = tables == NULL ? NULL : hash_search(tables, &relid, HASH_FIND, NULL);
	TcDirect *table = entry == NULL ? NULL : entry->table;

	if (likely(table != NULL && !table->stale && !table->in_use && table->columns == columns))
		return table;
	prepare_hash();
	table = make_state(rel, columns);
	entry = hash_search(tables, &relid, HASH_FIND, NULL);
	if (entry == NULL)
	{
		entry = hash_search(tables, &relid, HASH_ENTER, NULL);
		entry->table = NULL;
	}
	drop_state(entry);
	entry->table = table;
	return table;
}
