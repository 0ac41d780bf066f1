/*
 * direct_state.h
 *		What is kept of a table that is written directly: between direct.c and direct_state.c.
 */
#ifndef TC_DIRECT_STATE_H
#define TC_DIRECT_STATE_H

#include "postgres.h"

#include "access/skey.h"
#include "nodes/execnodes.h"
#include "utils/rel.h"

#include "direct.h"

#define TC_MAX_KEYS 4
#define TC_MAX_PARENTS 8

/* How to find a row of a table by a unique index. */
typedef struct TcLookup
{
	Oid index; /* InvalidOid: there is none that serves */
	int nkeys;
	ScanKeyData keys[TC_MAX_KEYS];
	int source[TC_MAX_KEYS]; /* where each value comes from: offset in the row, or a column */
} TcLookup;

/* A foreign key of the table: the row that must be there. */
typedef struct TcParent
{
	Oid relid;
	Oid constraint;
	TcLookup lookup; /* source: column of the table */
	TupleTableSlot *slot;
	bool locked; /* by the caller: named by the key of a row */
} TcParent;

struct TcDirect
{
	Oid relid; /* key */
	bool fit;  /* can it be written directly? */
	bool stale;
	bool in_use;
	bool abandoned;			   /* in use, by nobody any more: an error got in between */
	SubTransactionId used_in;  /* by whom it is in use */
	bool own_policies;		   /* none on it but ours */
	AttrNumber partitioned_by; /* column of a partitioned table; 0: not partitioned */
	MemoryContext context;	   /* of all that follows */
	EState *estate;
	ResultRelInfo *target;
	Oid *indexes; /* of which target knows */
	EPQState epq;
	TupleTableSlot *slot;  /* the row that is written */
	TupleTableSlot *found; /* the row that is there */
	ExprState **defaults;  /* by column from 0; NULL: none */
	int nparents;
	TcParent parents[TC_MAX_PARENTS];
	const TcColumns *columns; /* the list that these two were made for */
	AttrNumber attnums[TC_MAX_COLUMNS];
	TcLookup key; /* source: offset in the row */
};

/*
 * What is known of the open table, made if need be; not to be used if it is not fit.  It stays
 * until the table changes.
 */
extern TcDirect *tc_direct_state(Relation rel, const TcColumns *columns);

/* direct_lookup.c: parts of what is kept; false where the table is not fit. */
extern bool tc_direct_plain_index(Relation index);
extern bool tc_direct_prepare_columns(TcDirect *table, Relation rel);
extern bool tc_direct_prepare_foreign_key(TcDirect *table, Relation rel, const Trigger *trigger);

/* A slot of one's own: it holds on to no descriptor of the relation cache. */
extern TupleTableSlot *tc_direct_make_slot(Relation rel, const TupleTableSlotOps *ops);

#endif /* TC_DIRECT_STATE_H */
