/*
 * direct.h
 *		Reading, locking and writing single rows without a statement.
 */
#ifndef TC_DIRECT_H
#define TC_DIRECT_H

#include "postgres.h"

#include "storage/itemptr.h"

#define TC_MAX_COLUMNS 26

typedef struct TcColumn
{
	const char *name;
	Oid type;
} TcColumn;

/*
 * Columns by which rows of a table are handled: first those of the key (the company before all),
 * then the others that are written, then those that the database fills in.
 */
typedef struct TcColumns
{
	const TcColumn *list;
	int count;
	int keys;			/* how many make the key; 0 for a table that is only inserted into */
	int written;		/* how many are written, those of the key included */
	bool inserts_only;	/* rows are not updated */
	const char *parent; /* table whose row of the key stays: the caller has locked it, just made it,
						 * or has locked a row that names it; or NULL */
	bool tenants;		/* a table of the tenants: no policies but ours may stand on it */
} TcColumns;

/* A row, by the columns of the list above. */
typedef struct TcRow
{
	Datum values[TC_MAX_COLUMNS];
	bool nulls[TC_MAX_COLUMNS];
	ItemPointerData tid; /* of a row that was locked, inserted or updated directly */
	bool absent;		 /* a moment ago there was none of this key */
} TcRow;

/* A table that is open; closed by tc_direct_close(), or by the error that got in between. */
typedef struct TcDirect TcDirect;

/*
 * Opens the table, or the partition that the row belongs to.  NULL: the table has something that
 * only the executor of statements does right, or the transaction's isolation level asks for it.
 */
extern TcDirect *tc_direct_open(Oid relid, const TcColumns *columns, const TcRow *row);
extern void tc_direct_close(TcDirect *table);

/* Is there a row of this key, as of now? */
extern bool tc_direct_exists(TcDirect *table, const TcRow *row);

/* Locks the row of this key as FOR UPDATE does, and fills in its other columns; false: none. */
extern bool tc_direct_lock(TcDirect *table, TcRow *row);

/* Inserts the row and fills in what the database did; checks constraints, fires triggers. */
extern void tc_direct_insert(TcDirect *table, TcRow *row);

/* Writes the columns of a row that is locked (the key stays); checks constraints, fires triggers.
 */
extern void tc_direct_update(TcDirect *table, TcRow *row);

#endif /* TC_DIRECT_H */
