/*
 * direct.c
 *		Reading, locking and writing single rows without a statement.
 *
 *		row --> the partition it belongs to --> foreign keys --> heap, indexes --> AFTER triggers
 *
 * An event of a call reads one row and writes three or four.  A statement for each costs five
 * times what the row does: the plan's state is built and torn down, checks are compiled, policies
 * evaluated, foreign keys asked in statements of their own.  Here it is kept ready per table
 * (direct_state.c), and rows go through the functions by which PostgreSQL's logical replication
 * applies changes: defaults, CHECK and NOT NULL, indexes and AFTER ROW triggers are served as ever.
 *
 * What these functions leave out is either true by construction, or makes a table unfit, so that
 * the caller takes a statement (rows.c):
 * - row security: the caller acts for a company and writes that company's rows, and tables with
 *   policies other than ours are unfit;
 * - our own triggers that keep the company and ask for a context: both hold, likewise;
 * - foreign keys: the row that is named is found and locked FOR KEY SHARE here, as the statement of
 *   PostgreSQL's own check does, unless the caller holds a lock on it or made it.
 *
 * Rows are looked for as of now.  That is READ COMMITTED; higher levels take statements.
 *
 * Locks: RowExclusiveLock on the table and its indexes, RowShareLock on tables that foreign keys
 * name, until the end of the transaction; rows as said.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "direct.h"
#include "direct_state.h"

/* The value that a partitioned table is partitioned by; false unless the row has it. */
static bool
partition_value(const TcDirect *table, const TcRow *row, Datum *value)
{
	for (int i = 0; i < table->columns->written; i++)
	{
		if (table->attnums[i] != table->partitioned_by)
			continue;
		*value = row->values[i];
		return !row->nulls[i];
	}
	return false;
}

/* The partition that the row belongs to; InvalidOid: none, or not to be told here. */
static Oid
find_partition(Relation rel, const TcDirect *table, const TcRow *row)
{
	PartitionKey key = RelationGetPartitionKey(rel);
	PartitionDesc parts = RelationGetPartitionDesc(rel, true);
	PartitionBoundInfo bounds = parts->boundinfo;
	Datum value;
	bool equal;
	int part;

	if (bounds == NULL || !partition_value(table, row, &value))
		return InvalidOid;
	part = partition_range_datum_bsearch(key->partsupfunc, key->partcollation, bounds, 1, &value,
										 &equal);
	part = bounds->indexes[part + 1];
	if (part < 0)
		part = bounds->default_index;
	return part < 0 || !parts->is_leaf[part] ? InvalidOid : parts->oids[part];
}

/* Can rows be handled directly in this transaction? */
static bool
transaction_fits(void)
{
	return !IsolationUsesXactSnapshot() &&
		   SessionReplicationRole == SESSION_REPLICATION_ROLE_ORIGIN && !XactReadOnly &&
		   !IsInParallelMode();
}

/* Makes what is known of the table ready for one row. */
static void
begin_use(TcDirect *table, Relation rel)
{
	ResultRelInfo *target = table->target;

	table->in_use = true;
	table->used_in = GetCurrentSubTransactionId();
	target->ri_RelationDesc = rel;
	for (int i = 0; i < target->ri_NumIndices; i++)
		target->ri_IndexRelationDescs[i] = index_open(table->indexes[i], RowExclusiveLock);
	/* what triggers keep, they keep for one statement */
	for (int i = 0; target->ri_TrigDesc != NULL && i < target->ri_TrigDesc->numtriggers; i++)
	{
		target->ri_TrigFunctions[i].fn_extra = NULL;
		target->ri_TrigFunctions[i].fn_mcxt = GetPerTupleMemoryContext(table->estate);
	}
	table->estate->es_snapshot = GetActiveSnapshot();
	table->estate->es_output_cid = GetCurrentCommandId(true);
}

/* Opens the table, or the partition that the row belongs to. */
TcDirect *
tc_direct_open(Oid relid, const TcColumns *columns, const TcRow *row)
{
	TcDirect *table;
	Relation rel;

	if (!transaction_fits())
		return NULL;
	rel = table_open(relid, RowExclusiveLock);
	table = tc_direct_state(rel, columns);
	if (table->fit && table->partitioned_by != 0)
	{
		Oid part = find_partition(rel, table, row);

		table_close(rel, NoLock);
		if (!OidIsValid(part))
			return NULL;
		rel = table_open(part, RowExclusiveLock);
		table = tc_direct_state(rel, columns);
	}
	if (!table->fit || table->partitioned_by != 0)
	{
		table_close(rel, NoLock);
		return NULL;
	}
	begin_use(table, rel);
	return table;
}

/* Closes it; the locks stay. */
void
tc_direct_close(TcDirect *table)
{
	ResultRelInfo *target = table->target;

	ExecClearTuple(table->slot);
	ExecClearTuple(table->found);
	ExecClearTuple(target->ri_TrigOldSlot);
	ExecClearTuple(target->ri_TrigNewSlot);
	ResetPerTupleExprContext(table->estate);
	for (int i = 0; i < target->ri_NumIndices; i++)
		index_close(target->ri_IndexRelationDescs[i], NoLock);
	table_close(target->ri_RelationDesc, NoLock);
	target->ri_RelationDesc = NULL;
	table->estate->es_snapshot = InvalidSnapshot;
	table->in_use = false;
}

/* Finds the row of the keys as of now. */
static bool
find_row(Relation rel, const TcLookup *lookup, TupleTableSlot *slot)
{
	Relation index = index_open(lookup->index, AccessShareLock);
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	IndexScanDesc scan = tc_index_beginscan(rel, index, snapshot, lookup->nkeys);
	bool found;

	index_rescan(scan, (ScanKey) lookup->keys, lookup->nkeys, NULL, 0);
	found = index_getnext_slot(scan, ForwardScanDirection, slot);
	index_endscan(scan);
	UnregisterSnapshot(snapshot);
	index_close(index, NoLock);
	return found;
}

/* Finds the row of the keys and locks it, waiting for whoever is changing it. */
static bool
find_and_lock(Relation rel, const TcLookup *lookup, LockTupleMode mode, TupleTableSlot *slot)
{
	TM_FailureData failure;
	TM_Result result;

	do
	{
		Snapshot snapshot;
		ItemPointerData tid;

		CHECK_FOR_INTERRUPTS();
		if (!find_row(rel, lookup, slot))
			return false;
		tid = slot->tts_tid;
		snapshot = RegisterSnapshot(GetLatestSnapshot());
		result = table_tuple_lock(rel, &tid, snapshot, slot, GetCurrentCommandId(false), mode,
								  LockWaitBlock, TUPLE_LOCK_FLAG_FIND_LAST_VERSION, &failure);
		UnregisterSnapshot(snapshot);
		/* a newer version may have another key: look again; also when it was deleted, or moved */
	} while (result == TM_Deleted || result == TM_Updated ||
			 (result == TM_Ok && failure.traversed));
	if (result != TM_Ok)
		elog(ERROR, "could not lock a row of \"%s\": %d", RelationGetRelationName(rel), result);
	return true;
}

/* Puts the values of the row into the keys of its lookup. */
static TcLookup *
key_of(TcDirect *table, const TcRow *row)
{
	TcLookup *lookup = &table->key;

	for (int i = 0; i < lookup->nkeys; i++)
		lookup->keys[i].sk_argument = row->values[lookup->source[i]];
	return lookup;
}

/* Is there a row of this key? */
bool
tc_direct_exists(TcDirect *table, const TcRow *row)
{
	bool found = find_row(table->target->ri_RelationDesc, key_of(table, row), table->found);

	ExecClearTuple(table->found);
	return found;
}

/* Takes the columns from the first one on out of a slot, copied. */
static void
take_columns(const TcDirect *table, TupleTableSlot *slot, int first, TcRow *row)
{
	for (int i = first; i < table->columns->count; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(slot->tts_tupleDescriptor, table->attnums[i] - 1);
		Datum value = slot_getattr(slot, table->attnums[i], &row->nulls[i]);

		row->values[i] = row->nulls[i] ? (Datum) 0 : datumCopy(value, attr->attbyval, attr->attlen);
	}
	row->tid = slot->tts_tid;
}

/* Locks the row of this key, and fills in its other columns. */
bool
tc_direct_lock(TcDirect *table, TcRow *row)
{
	if (!find_and_lock(table->target->ri_RelationDesc, key_of(table, row), LockTupleExclusive,
					   table->found))
		return false;
	take_columns(table, table->found, table->columns->keys, row);
	return true;
}

/* Raises as PostgreSQL's own check does. */
static void
refuse_orphan(Relation rel, const TcParent *parent)
{
	char *constraint = get_constraint_name(parent->constraint);

	ereport(ERROR,
			(errcode(ERRCODE_FOREIGN_KEY_VIOLATION),
			 errmsg("insert or update on table \"%s\" violates foreign key constraint \"%s\"",
					RelationGetRelationName(rel), constraint),
			 errtableconstraint(rel, constraint)));
}

/* Does the new row name another row by this foreign key than the old one did? */
static bool
names_another(const TcLookup *lookup, TupleTableSlot *old, TupleTableSlot *new)
{
	for (int i = 0; i < lookup->nkeys; i++)
	{
		int at = lookup->source[i] - 1;
		Form_pg_attribute attr = TupleDescAttr(new->tts_tupleDescriptor, at);

		if (old->tts_isnull[at] != new->tts_isnull[at] ||
			(!new->tts_isnull[at] &&
			 !datumIsEqual(old->tts_values[at], new->tts_values[at], attr->attbyval, attr->attlen)))
			return true;
	}
	return false;
}

/* Locks the row that a foreign key of the slot names; raises if it is not there. */
static void
lock_parent(TcDirect *table, TcParent *parent, TupleTableSlot *slot)
{
	TcLookup *lookup = &parent->lookup;
	Relation rel;

	for (int i = 0; i < lookup->nkeys; i++)
	{
		bool isnull;

		lookup->keys[i].sk_argument = slot_getattr(slot, lookup->source[i], &isnull);
		if (isnull)
			return;
	}
	rel = table_open(parent->relid, RowShareLock);
	if (!find_and_lock(rel, lookup, LockTupleKeyShare, parent->slot))
		refuse_orphan(table->target->ri_RelationDesc, parent);
	ExecClearTuple(parent->slot);
	table_close(rel, NoLock);
}

/* Fills the slot with the row, and with defaults where it says nothing. */
static void
fill_slot(TcDirect *table, const TcRow *row)
{
	TupleTableSlot *slot = ExecClearTuple(table->slot);
	int natts = slot->tts_tupleDescriptor->natts;
	bool given[MaxTupleAttributeNumber] = {false};

	for (int i = 0; i < table->columns->written; i++)
	{
		int at = table->attnums[i] - 1;

		slot->tts_values[at] = row->values[i];
		slot->tts_isnull[at] = row->nulls[i];
		given[at] = true;
	}
	for (int at = 0; at < natts; at++)
	{
		if (given[at])
			continue;
		slot->tts_isnull[at] = table->defaults[at] == NULL;
		if (table->defaults[at] != NULL)
			slot->tts_values[at] = ExecEvalExprSwitchContext(table->defaults[at],
															 GetPerTupleExprContext(table->estate),
															 &slot->tts_isnull[at]);
	}
	ExecStoreVirtualTuple(slot);
}

/* Inserts the row and fills in what the database did. */
void
tc_direct_insert(TcDirect *table, TcRow *row)
{
	fill_slot(table, row);
	for (int i = 0; i < table->nparents; i++)
	{
		if (!table->parents[i].locked)
			lock_parent(table, &table->parents[i], table->slot);
	}
	AfterTriggerBeginQuery();
	ExecSimpleRelationInsert(table->target, table->estate, table->slot);
	take_columns(table, table->slot, table->columns->written, row);
	AfterTriggerEndQuery(table->estate);
	CommandCounterIncrement();
}

/* Writes the columns of a row that is locked. */
void
tc_direct_update(TcDirect *table, TcRow *row)
{
	Relation rel = table->target->ri_RelationDesc;
	TupleTableSlot *found = table->found;
	TupleTableSlot *slot = ExecClearTuple(table->slot);
	int natts = slot->tts_tupleDescriptor->natts;

	if (!table_tuple_fetch_row_version(rel, &row->tid, SnapshotAny, found))
		elog(ERROR, "a locked row of \"%s\" is gone", RelationGetRelationName(rel));
	slot_getallattrs(found);
	memcpy(slot->tts_values, found->tts_values, natts * sizeof(Datum));
	memcpy(slot->tts_isnull, found->tts_isnull, natts * sizeof(bool));
	for (int i = table->columns->keys; i < table->columns->written; i++)
	{
		slot->tts_values[table->attnums[i] - 1] = row->values[i];
		slot->tts_isnull[table->attnums[i] - 1] = row->nulls[i];
	}
	ExecStoreVirtualTuple(slot);
	for (int i = 0; i < table->nparents; i++)
	{
		if (names_another(&table->parents[i].lookup, found, slot))
			lock_parent(table, &table->parents[i], slot);
	}
	AfterTriggerBeginQuery();
	ExecSimpleRelationUpdate(table->target, table->estate, &table->epq, found, slot);
	row->tid = slot->tts_tid;
	AfterTriggerEndQuery(table->estate);
	CommandCounterIncrement();
}
