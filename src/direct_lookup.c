/*
 * direct_lookup.c
 *		How rows of a table that is written directly are found: by their key, and those that its
 *		foreign keys name.
 *
 * Both are unique B-tree indexes over exactly the columns in question, whose scan keys are made
 *once and filled with values for each row (direct.c).
 *
 * Process-local; locks on the tables and indexes that are looked at, until the end of the
 * transaction.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_am.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "executor/tuptable.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "direct_state.h"

/* An index that needs nothing but the columns' values? */
bool
tc_direct_plain_index(Relation index)
{
	return index->rd_rel->relam == BTREE_AM_OID && index->rd_index->indisvalid &&
		   index->rd_index->indisready && index->rd_index->indimmediate &&
		   RelationGetIndexExpressions(index) == NIL && RelationGetIndexPredicate(index) == NIL;
}

/* Fills the keys of a look-up by an index; false unless it is unique over exactly these columns. */
static bool
prepare_lookup(TcLookup *lookup, Relation index, const AttrNumber *columns, int ncolumns)
{
	Form_pg_index form = index->rd_index;

	if (!tc_direct_plain_index(index) || !form->indisunique || form->indnkeyatts != ncolumns ||
		ncolumns > TC_MAX_KEYS)
		return false;
	for (int i = 0; i < ncolumns; i++)
	{
		Oid equals = get_opfamily_member(index->rd_opfamily[i], index->rd_opcintype[i],
										 index->rd_opcintype[i], BTEqualStrategyNumber);
		int from = 0;

		while (from < ncolumns && columns[from] != form->indkey.values[i])
			from++;
		if (from == ncolumns || !OidIsValid(equals))
			return false;
		lookup->source[i] = from;
		ScanKeyEntryInitialize(&lookup->keys[i], 0, i + 1, BTEqualStrategyNumber, InvalidOid,
							   index->rd_indcollation[i], get_opcode(equals), (Datum) 0);
	}
	lookup->nkeys = ncolumns;
	lookup->index = RelationGetRelid(index);
	return true;
}

/* Is the constraint of the simple kind: NULL in a column means that nothing is named? */
static bool
is_simple_match(Oid constraint)
{
	HeapTuple tuple = SearchSysCache1(CONSTROID, ObjectIdGetDatum(constraint));
	bool simple;

	if (!HeapTupleIsValid(tuple))
		return false;
	simple = ((Form_pg_constraint) GETSTRUCT(tuple))->confmatchtype == FKCONSTR_MATCH_SIMPLE;
	ReleaseSysCache(tuple);
	return simple;
}

/* A slot of one's own: it holds on to no descriptor of the relation cache. */
TupleTableSlot *
tc_direct_make_slot(Relation rel, const TupleTableSlotOps *ops)
{
	return MakeSingleTupleTableSlot(CreateTupleDescCopyConstr(RelationGetDescr(rel)), ops);
}

/* Has the caller locked the row that the foreign key names?  Other keys may have been added. */
static bool
parent_is_locked(const TcDirect *table, Relation rel, Relation named, const ForeignKeyCacheInfo *fk)
{
	const TcColumns *columns = table->columns;

	if (columns->parent == NULL || RelationGetNamespace(named) != RelationGetNamespace(rel) ||
		strcmp(RelationGetRelationName(named), columns->parent) != 0)
		return false;
	/* the columns of the same name, all of them in the key */
	for (int i = 0; i < fk->nkeys; i++)
	{
		const char *name =
			NameStr(TupleDescAttr(RelationGetDescr(rel), fk->conkey[i] - 1)->attname);
		bool in_key = false;

		for (int k = 0; k < columns->keys; k++)
			in_key |= table->attnums[k] == fk->conkey[i];
		if (!in_key ||
			strcmp(NameStr(TupleDescAttr(RelationGetDescr(named), fk->confkey[i] - 1)->attname),
				   name) != 0)
			return false;
	}
	return true;
}

/* Prepares to find the row that a foreign key names; false if this is no plain foreign key. */
static bool
prepare_parent(TcDirect *table, Relation rel, const ForeignKeyCacheInfo *fk, Oid indexid)
{
	TcParent *parent = &table->parents[table->nparents];
	Relation named = table_open(fk->confrelid, RowShareLock);
	Relation index = index_open(indexid, AccessShareLock);
	bool fit = named->rd_rel->relkind == RELKIND_RELATION && is_simple_match(fk->conoid) &&
			   prepare_lookup(&parent->lookup, index, fk->confkey, fk->nkeys);

	for (int i = 0; i < fk->nkeys && fit; i++)
	{
		int from = parent->lookup.source[i];

		fit = TupleDescAttr(RelationGetDescr(rel), fk->conkey[from] - 1)->atttypid ==
			  index->rd_opcintype[i];
		parent->lookup.source[i] = fk->conkey[from];
	}
	parent->relid = fk->confrelid;
	parent->constraint = fk->conoid;
	parent->locked = parent_is_locked(table, rel, named, fk);
	parent->slot = tc_direct_make_slot(named, table_slot_callbacks(named));
	table->nparents++;
	index_close(index, NoLock);
	table_close(named, NoLock);
	return fit;
}

/* Prepares the foreign key of a trigger; false if that cannot be. */
bool
tc_direct_prepare_foreign_key(TcDirect *table, Relation rel, const Trigger *trigger)
{
	ListCell *cell;

	if (!TRIGGER_FOR_INSERT(trigger->tgtype))
		return true; /* there is one for inserts as well */
	foreach(cell, RelationGetFKeyList(rel))
	{
		const ForeignKeyCacheInfo *fk = lfirst(cell);

		if (fk->conoid == trigger->tgconstraint)
			return table->nparents < TC_MAX_PARENTS &&
				   prepare_parent(table, rel, fk, trigger->tgconstrindid);
	}
	return false;
}

/* Finds the columns by name, and an index by which a row is found; false if one is missing. */
bool
tc_direct_prepare_columns(TcDirect *table, Relation rel)
{
	const TcColumns *columns = table->columns;
	ListCell *cell;

	for (int i = 0; i < columns->count; i++)
	{
		AttrNumber attnum = get_attnum(RelationGetRelid(rel), columns->list[i].name);
		Form_pg_attribute attr;

		if (attnum == InvalidAttrNumber)
			return false;
		/* a column with a modifier, such as numeric(10, 2), rounds or refuses */
		attr = TupleDescAttr(RelationGetDescr(rel), attnum - 1);
		if (attr->atttypid != columns->list[i].type || attr->atttypmod >= 0)
			return false;
		table->attnums[i] = attnum;
	}
	if (columns->keys == 0 || rel->rd_rel->relkind != RELKIND_RELATION)
		return true;
	foreach(cell, RelationGetIndexList(rel))
	{
		Relation index = index_open(lfirst_oid(cell), AccessShareLock);
		bool serves = prepare_lookup(&table->key, index, table->attnums, columns->keys);

		index_close(index, NoLock);
		if (serves)
			return true;
	}
	return false;
}
