/*
 * covered.h
 *		One row by its key, out of an index that holds all that is asked for.
 */
#ifndef TC_COVERED_H
#define TC_COVERED_H

#include "postgres.h"

#include "access/skey.h"

#define TC_COVERED_COLUMNS 4

/* What is asked for, and by what; a static object for each question. */
typedef struct TcCovered
{
	const char *key;	   /* column; no two rows that count have the same */
	Oid key_type;		   /* INT8OID or TEXTOID */
	const char *when_null; /* rows count in which this column is NULL; NULL: all rows do */
	const char *columns[TC_COVERED_COLUMNS];
	int ncolumns;
	/* worked out at first use, and again when the table has changed */
	Oid relid;			 /* InvalidOid: not yet */
	Oid index;			 /* InvalidOid: no index holds all of it */
	ScanKeyData scankey; /* on the index's first column */
	AttrNumber in_index[TC_COVERED_COLUMNS];
} TcCovered;

/* Takes the columns of the row; what is by reference is to be copied. */
typedef void (*TcCoveredVisitor)(const Datum *values, const bool *nulls, void *arg);

/*
 * Reads the row as of now, below row security, as tc_read_rows() does; false if there is none.
 * Where no such index is, or a page may hold what not everybody sees, the row itself is read.
 */
extern bool tc_read_covered(TcCovered *covered, Oid relid, Datum key, TcCoveredVisitor visit,
							void *arg);

#endif /* TC_COVERED_H */
