/*
 * telephony_read.c
 *		Reading the tenants' tables across companies.
 *
 * The directory (companies, branches, phone numbers, agents) must be read before a tenant is
 * known.  Its tables force row security on everybody, their owner included, so the library reads
 * them as PostgreSQL reads its own catalogs: directly, with a snapshot of this moment.  A snapshot
 * of the transaction would be wrong here: a REPEATABLE READ transaction would fill a cache that
 * outlives it with rows that are already history.
 *
 * How a table is read by some columns (which index, which attributes, which comparisons) is worked
 * out once per process and kept until the relation cache says that the table has changed.
 *
 * AccessShareLock on table and index.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_am.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "inval.h"
#include "telephony.h"

/* More ways than this are not kept; there are about a dozen in the library. */
#define MAX_WAYS 32

/* How to read a table by some columns. */
typedef struct Way
{
	Oid relid; /* InvalidOid: free */
	int nmatches;
	const char *columns[TC_MAX_MATCHES];
	Oid index;						  /* InvalidOid: the whole table is read */
	ScanKeyData keys[TC_MAX_MATCHES]; /* on the index's columns, or the table's */
} Way;

static Way ways[MAX_WAYS];
static uint64 changes = 0; /* counts the messages of the relation cache */

/* Relation cache callback. */
static void
relation_changed(Oid relid)
{
	changes++;
	for (int i = 0; i < MAX_WAYS; i++)
	{
		if (relid == InvalidOid || ways[i].relid == relid)
			ways[i].relid = InvalidOid;
	}
}

/* How the i-th condition compares. */
static StrategyNumber
strategy_of(const TcMatch *matches, int i)
{
	if (matches[i].type != TIMESTAMPTZOID)
		return BTEqualStrategyNumber;
	return i > 0 && strcmp(matches[i - 1].column, matches[i].column) == 0
			   ? BTLessEqualStrategyNumber
			   : BTGreaterEqualStrategyNumber;
}

/* The function that does. */
static RegProcedure
comparison_of(Oid type, StrategyNumber strategy)
{
	switch (type)
	{
		case INT8OID:
			return F_INT8EQ;
		case TEXTOID:
			return F_TEXTEQ;
		case UUIDOID:
			return F_UUID_EQ;
		case TIMESTAMPTZOID:
			return strategy == BTLessEqualStrategyNumber ? F_TIMESTAMPTZ_LE : F_TIMESTAMPTZ_GE;
		default:
			elog(ERROR, "no comparison for type %u", type);
	}
	return InvalidOid; /* keep the compiler quiet */
}

/* How many columns the keys are on. */
static int
count_columns(const ScanKeyData *keys, int nkeys)
{
	int count = 0;

	for (int k = 0; k < nkeys; k++)
		count += k == 0 || keys[k].sk_attno != keys[k - 1].sk_attno;
	return count;
}

/* Is every match one of the index's first columns, and is each of these matched? */
static bool
index_serves(Relation index, const ScanKeyData *keys, int nkeys)
{
	Form_pg_index form = index->rd_index;
	int ncolumns = count_columns(keys, nkeys);

	if (!form->indisvalid || form->indnkeyatts < ncolumns)
		return false;
	if (RelationGetIndexPredicate(index) != NIL)
		return false;
	for (int i = 0; i < ncolumns; i++)
	{
		bool found = false;

		for (int k = 0; k < nkeys; k++)
			found = found || form->indkey.values[i] == keys[k].sk_attno;
		if (!found)
			return false;
	}
	return true;
}

/* Makes keys on the table's columns into keys on the index's. */
static void
map_keys(Relation index, ScanKeyData *keys, int nkeys)
{
	for (int k = 0; k < nkeys; k++)
	{
		int i = 0;

		while (index->rd_index->indkey.values[i] != keys[k].sk_attno)
			i++;
		keys[k].sk_attno = i + 1;
		keys[k].sk_collation = index->rd_indcollation[i];
	}
}

/* Takes the first index that serves the keys, if there is one. */
static void
choose_index(Relation rel, Way *way)
{
	List *indexes = RelationGetIndexList(rel);
	ListCell *cell;

	foreach(cell, indexes)
	{
		Relation index = index_open(lfirst_oid(cell), AccessShareLock);

		if (index->rd_rel->relam == BTREE_AM_OID && index_serves(index, way->keys, way->nmatches))
		{
			way->index = RelationGetRelid(index);
			map_keys(index, way->keys, way->nmatches);
		}
		index_close(index, AccessShareLock);
		if (OidIsValid(way->index))
			break;
	}
	list_free(indexes);
}

/* Turns matches into scan keys on the table's columns. */
static void
fill_keys(Relation rel, const TcMatch *matches, Way *way)
{
	for (int i = 0; i < way->nmatches; i++)
	{
		AttrNumber attno = get_attnum(RelationGetRelid(rel), matches[i].column);
		StrategyNumber strategy = strategy_of(matches, i);

		if (attno == InvalidAttrNumber)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("column \"%s\" of table \"%s\" is missing", matches[i].column,
							RelationGetRelationName(rel)),
					 errhint("The tables of create_tables() may be added to, not taken from.")));
		way->columns[i] = matches[i].column;
		ScanKeyEntryInitialize(&way->keys[i], 0, attno, strategy, InvalidOid,
							   TupleDescAttr(RelationGetDescr(rel), attno - 1)->attcollation,
							   comparison_of(matches[i].type, strategy), (Datum) 0);
	}
}

/* Is it the way to read this table by these columns? */
static bool
leads_there(const Way *way, Oid relid, const TcMatch *matches, int nmatches)
{
	if (way->relid != relid || way->nmatches != nmatches)
		return false;
	for (int i = 0; i < nmatches; i++)
	{
		if (strcmp(way->columns[i], matches[i].column) != 0)
			return false;
	}
	return true;
}

/* Works out how to read the table, and keeps it unless it changed meanwhile. */
static Way
make_way(Relation rel, const TcMatch *matches, int nmatches)
{
	static bool registered = false;
	static int next = 0;
	uint64 before;
	Way way = {.relid = RelationGetRelid(rel), .nmatches = nmatches};
	MemoryContext caller =
		MemoryContextSwitchTo(TopMemoryContext); /* comparisons may keep things */

	if (!registered)
		tc_on_relation_change(relation_changed);
	registered = true;
	before = changes;
	fill_keys(rel, matches, &way);
	if (nmatches > 0)
		choose_index(rel, &way);
	MemoryContextSwitchTo(caller);
	if (before == changes)
	{
		ways[next] = way;
		next = (next + 1) % MAX_WAYS;
	}
	return way;
}

/* How to read the table by these columns. */
static Way
find_way(Relation rel, const TcMatch *matches, int nmatches)
{
	Oid relid = RelationGetRelid(rel);

	for (int i = 0; i < MAX_WAYS; i++)
	{
		if (leads_there(&ways[i], relid, matches, nmatches))
			return ways[i];
	}
	return make_way(rel, matches, nmatches);
}

/* Reads by the index. */
static void
read_by_index(Relation rel, Way *way, TcRowVisitor visit, void *arg)
{
	Relation index = index_open(way->index, AccessShareLock);
	Snapshot snapshot = RegisterSnapshot(GetCatalogSnapshot(RelationGetRelid(rel)));
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	IndexScanDesc scan = tc_index_beginscan(rel, index, snapshot, way->nmatches);

	index_rescan(scan, way->keys, way->nmatches, NULL, 0);
	while (index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		bool copied;
		HeapTuple tuple = ExecFetchSlotHeapTuple(slot, false, &copied);
		bool more = visit(tuple, RelationGetDescr(rel), arg);

		if (copied)
			heap_freetuple(tuple);
		if (!more)
			break;
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
	index_close(index, AccessShareLock);
}

/* Reads the whole table. */
static void
read_all(Relation rel, Way *way, TcRowVisitor visit, void *arg)
{
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, way->nmatches, way->keys);
	HeapTuple tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		if (!visit(tuple, RelationGetDescr(rel), arg))
			break;
	}
	systable_endscan(scan);
}

/* Reads rows as of now, below row security. */
void
tc_read_rows(Oid relid, const TcMatch *matches, int nmatches, TcRowVisitor visit, void *arg)
{
	Relation rel = table_open(relid, AccessShareLock);
	Way way = find_way(rel, matches, nmatches);

	Assert(nmatches <= TC_MAX_MATCHES);
	for (int i = 0; i < nmatches; i++)
		way.keys[i].sk_argument = matches[i].value;
	if (OidIsValid(way.index))
		read_by_index(rel, &way, visit, arg);
	else
		read_all(rel, &way, visit, arg);
	table_close(rel, AccessShareLock);
}

/* Notes that there is one. */
static bool
visit_any(HeapTuple tuple, TupleDesc desc, void *arg)
{
	*(bool *) arg = true;
	return false;
}

/* Is there any such row? */
bool
tc_any_row(Oid relid, const TcMatch *matches, int nmatches)
{
	bool found = false;

	tc_read_rows(relid, matches, nmatches, visit_any, &found);
	return found;
}

/* A column by name; false for NULL. */
bool
tc_row_datum(HeapTuple tuple, TupleDesc desc, const char *column, Datum *value)
{
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(desc, i);
		bool isnull;

		if (attr->attisdropped || namestrcmp(&attr->attname, column) != 0)
			continue;
		*value = heap_getattr(tuple, i + 1, desc, &isnull);
		return !isnull;
	}
	return false;
}

/* A bigint column; 0 for NULL. */
int64
tc_row_int8(HeapTuple tuple, TupleDesc desc, const char *column)
{
	Datum value;

	return tc_row_datum(tuple, desc, column, &value) ? DatumGetInt64(value) : 0;
}

/* A text column, allocated; NULL for NULL. */
char *
tc_row_text(HeapTuple tuple, TupleDesc desc, const char *column)
{
	Datum value;

	return tc_row_datum(tuple, desc, column, &value) ? TextDatumGetCString(value) : NULL;
}
