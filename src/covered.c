/*
 * covered.c
 *		One row by its key, out of an index that holds all that is asked for.
 *
 *		key --B-tree--> entry --visibility map: seen by all--> columns of the entry
 *		                   \--------------- else: row, is it visible? ----/
 *
 * Among millions of rows the time of a look-up is that of the memory that no processor's cache
 * holds.  An index that has the columns as well (INCLUDE) saves the row's page, which is most of
 * it that is left besides the index's leaf.
 *
 * It is what the executor's index-only scan does, without the executor, and with a snapshot of this
 * moment (see telephony_read.c).  Where the index is missing or has been changed, the row is read
 * by whatever index there is.
 *
 * AccessShareLock on table and index, until the end of the transaction as in any query: it costs as
 * much to give it back as to look a row up, and who asks once will ask again.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/visibilitymap.h"
#include "catalog/pg_am.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "nodes/primnodes.h"
#include "storage/bufmgr.h"
#include "storage/predicate.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "covered.h"
#include "inval.h"
#include "telephony.h"

/* There are as many static objects as questions. */
#define MAX_COVERED 8

static TcCovered *known[MAX_COVERED];
static int nknown = 0;
static uint64 changes = 0; /* counts the messages of the relation cache */

/* Relation cache callback. */
static void
relation_changed(Oid relid)
{
	changes++;
	for (int i = 0; i < nknown; i++)
	{
		if (relid == InvalidOid || known[i]->relid == relid)
			known[i]->relid = InvalidOid;
	}
}

/* Has the object forget what it knows when its table changes; once for each. */
static void
watch(TcCovered *covered)
{
	for (int i = 0; i < nknown; i++)
	{
		if (known[i] == covered)
			return;
	}
	if (nknown == 0)
		tc_on_relation_change(relation_changed);
	if (nknown == MAX_COVERED)
		elog(ERROR, "no room for another covered look-up");
	known[nknown++] = covered;
}

/* Does the index have just those rows in which the column is NULL (or all, without a column)? */
static bool
has_rows(Relation index, AttrNumber when_null)
{
	List *predicate = RelationGetIndexPredicate(index);
	NullTest *test;

	if (predicate == NIL || when_null == InvalidAttrNumber)
		return predicate == NIL && when_null == InvalidAttrNumber;
	test = linitial(predicate);
	return list_length(predicate) == 1 && IsA(test, NullTest) && test->nulltesttype == IS_NULL &&
		   IsA(test->arg, Var) && castNode(Var, test->arg)->varattno == when_null;
}

/* Where the columns are in the index; false if one is not. */
static bool
has_columns(Relation index, TcCovered *covered, Oid relid)
{
	Form_pg_index form = index->rd_index;

	for (int i = 0; i < covered->ncolumns; i++)
	{
		AttrNumber attno = get_attnum(relid, covered->columns[i]);
		int at = 0;

		while (at < form->indnatts && form->indkey.values[at] != attno)
			at++;
		if (attno == InvalidAttrNumber || at == form->indnatts)
			return false;
		covered->in_index[i] = at + 1;
	}
	return true;
}

/* Does the index cover it? */
static bool
serves(Relation index, TcCovered *covered, Oid relid)
{
	Form_pg_index form = index->rd_index;
	AttrNumber when_null =
		covered->when_null == NULL ? InvalidAttrNumber : get_attnum(relid, covered->when_null);

	return index->rd_rel->relam == BTREE_AM_OID && form->indisvalid && form->indisunique &&
		   form->indimmediate && form->indnkeyatts == 1 &&
		   form->indkey.values[0] == get_attnum(relid, covered->key) &&
		   has_rows(index, when_null) && has_columns(index, covered, relid);
}

/* Finds the index; what is found is kept unless the table changed meanwhile. */
static void
prepare(TcCovered *covered, Relation rel)
{
	Oid relid = RelationGetRelid(rel);
	uint64 before;
	List *indexes;
	ListCell *cell;

	watch(covered);
	before = changes;
	covered->index = InvalidOid;
	indexes = RelationGetIndexList(rel);
	foreach(cell, indexes)
	{
		Relation index = index_open(lfirst_oid(cell), AccessShareLock);

		if (!OidIsValid(covered->index) && serves(index, covered, relid))
		{
			covered->index = RelationGetRelid(index);
			ScanKeyEntryInitialize(&covered->scankey, 0, 1, BTEqualStrategyNumber, InvalidOid,
								   index->rd_indcollation[0],
								   covered->key_type == INT8OID ? F_INT8EQ : F_TEXTEQ, (Datum) 0);
		}
		index_close(index, AccessShareLock);
	}
	list_free(indexes);
	covered->relid = before == changes ? relid : InvalidOid;
}

/* Is the row of the entry there for us?  Its page is read only if the map does not say so. */
static bool
is_visible(IndexScanDesc scan, ItemPointer tid, Buffer *map)
{
	Relation rel = scan->heapRelation;
	TupleTableSlot *slot;
	bool visible;

	if (VM_ALL_VISIBLE(rel, ItemPointerGetBlockNumber(tid), map))
	{
		PredicateLockPage(rel, ItemPointerGetBlockNumber(tid), scan->xs_snapshot);
		return true;
	}
	slot = table_slot_create(rel, NULL);
	visible = index_fetch_heap(scan, slot);
	ExecDropSingleTupleTableSlot(slot);
	return visible;
}

/* Reads by the index that covers it. */
static bool
read_entry(const TcCovered *covered, Relation rel, Datum key, TcCoveredVisitor visit, void *arg)
{
	Relation index = index_open(covered->index, AccessShareLock);
	Snapshot snapshot = RegisterSnapshot(GetCatalogSnapshot(RelationGetRelid(rel)));
	IndexScanDesc scan = tc_index_beginscan(rel, index, snapshot, 1);
	ScanKeyData scankey = covered->scankey;
	Buffer map = InvalidBuffer;
	ItemPointer tid;

	scankey.sk_argument = key;
	scan->xs_want_itup = true;
	index_rescan(scan, &scankey, 1, NULL, 0);
	do
	{
		tid = index_getnext_tid(scan, ForwardScanDirection);
	} while (tid != NULL && !is_visible(scan, tid, &map));
	if (tid != NULL)
	{
		Datum values[TC_COVERED_COLUMNS];
		bool nulls[TC_COVERED_COLUMNS];

		for (int i = 0; i < covered->ncolumns; i++)
			values[i] =
				index_getattr(scan->xs_itup, covered->in_index[i], scan->xs_itupdesc, &nulls[i]);
		visit(values, nulls, arg);
	}
	if (BufferIsValid(map))
		ReleaseBuffer(map);
	index_endscan(scan);
	UnregisterSnapshot(snapshot);
	index_close(index, NoLock);
	return tid != NULL;
}

/* What reading the rows themselves needs. */
typedef struct RowSearch
{
	const TcCovered *covered;
	TcCoveredVisitor visit;
	void *arg;
	bool found;
} RowSearch;

/* Takes the first row that counts. */
static bool
visit_row(HeapTuple tuple, TupleDesc desc, void *arg)
{
	RowSearch *search = arg;
	const TcCovered *covered = search->covered;
	Datum values[TC_COVERED_COLUMNS];
	bool nulls[TC_COVERED_COLUMNS];

	if (covered->when_null != NULL && tc_row_datum(tuple, desc, covered->when_null, &values[0]))
		return true;
	for (int i = 0; i < covered->ncolumns; i++)
		nulls[i] = !tc_row_datum(tuple, desc, covered->columns[i], &values[i]);
	search->visit(values, nulls, search->arg);
	search->found = true;
	return false;
}

/* Reads the row as of now, below row security; false if there is none. */
bool
tc_read_covered(TcCovered *covered, Oid relid, Datum key, TcCoveredVisitor visit, void *arg)
{
	Relation rel = table_open(relid, AccessShareLock);
	TcMatch match = {covered->key, covered->key_type, key};
	RowSearch search = {covered, visit, arg, false};

	Assert(covered->ncolumns <= TC_COVERED_COLUMNS);
	if (unlikely(covered->relid != relid))
		prepare(covered, rel);
	if (likely(OidIsValid(covered->index)))
		search.found = read_entry(covered, rel, key, visit, arg);
	else
		tc_read_rows(relid, &match, 1, visit_row, &search);
	table_close(rel, NoLock);
	return search.found;
}
