/*
 * rows.h
 *		Single rows of the tenants' tables: directly where possible, by statements elsewhere.
 */
#ifndef TC_ROWS_H
#define TC_ROWS_H

#include "postgres.h"

#include "utils/builtins.h"

#include "act.h"
#include "direct.h"

/* A table of the tenants, by the columns that are handled; one static object of each. */
typedef struct TcTable
{
	const char *name;
	TcColumns columns;
	bool other_keys; /* a row of another key's may be in the way as well: then it is not inserted */
	/* made at first use */
	TcStatement insert;
	TcStatement lock;
	TcStatement update;
} TcTable;

/*
 * Set by a caller that, when a unique violation is raised, does the same again with this unset.
 * Only then rows with a key are inserted directly: if another session inserts that key at this very
 * moment, that raises, whereas a statement waits and finds the row.
 */
extern bool tc_rows_repeatable;

/*
 * The caller acts for the company of the row (act.h).  Values that are filled in are allocated in
 * the current memory context, or that of SPI.  An insert that finds another row of the same key is
 * false.
 */
extern bool tc_row_lock(TcTable *table, TcRow *row);
extern bool tc_row_insert(TcTable *table, TcRow *row);
extern void tc_row_update(TcTable *table, TcRow *row);

/* Sets a column of a row. */
static inline void
tc_row_set(TcRow *row, int column, Datum value, bool isnull)
{
	row->values[column] = value;
	row->nulls[column] = isnull;
}

/* The same of an id; 0 is NULL. */
static inline void
tc_row_set_id(TcRow *row, int column, int64 id)
{
	tc_row_set(row, column, Int64GetDatum(id), id == 0);
}

/* The same of a text. */
static inline void
tc_row_set_text(TcRow *row, int column, const char *text)
{
	tc_row_set(row, column, text == NULL ? (Datum) 0 : CStringGetTextDatum(text), text == NULL);
}

#endif /* TC_ROWS_H */
