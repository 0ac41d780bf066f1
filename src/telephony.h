/*
 * telephony.h
 *		Where the tenants' tables are, and reading them across companies.
 */
#ifndef TC_TELEPHONY_H
#define TC_TELEPHONY_H

#include "postgres.h"

#include "access/htup.h"
#include "access/tupdesc.h"

/* The tables of create_tables() that the library reads directly. */
typedef struct TcTelephony
{
	Oid schema;
	Oid owner;			 /* role tenantcall_owner */
	char *schema_quoted; /* ready to stand before ".table" in a statement */
	Oid companies;
	Oid branches;
	Oid phone_numbers;
	Oid agents;
	Oid call_bindings;
	Oid reasons; /* tenantcall.disconnection_reasons, and what is shipped */
	Oid reason_defaults;
} TcTelephony;

/*
 * One condition of a direct read, in the order of an index's columns: equality, but of
 * TIMESTAMPTZOID the first is "from this moment on" and a second one, of the same column, "up to
 * this moment".
 */
typedef struct TcMatch
{
	const char *column;
	Oid type; /* INT8OID, TEXTOID, UUIDOID or TIMESTAMPTZOID */
	Datum value;
} TcMatch;

/* Called for each row that matches; false ends the read. */
typedef bool (*TcRowVisitor)(HeapTuple tuple, TupleDesc desc, void *arg);

#define TC_MAX_MATCHES 4

/* The tables, or NULL where create_tables() has not run. */
extern const TcTelephony *tc_telephony(void);

/* The same, raising one clear error where create_tables() has not run. */
extern const TcTelephony *tc_telephony_required(void);

/* The part on this node of a table of the tenants, for the company in context; InvalidOid: none. */
extern Oid tc_telephony_table(const char *name);
extern Oid tc_telephony_table_of(const char *name, int64 company_id); /* raises: not here */

/* Rises with every change of the above: statements prepared before are to be made anew. */
extern uint64 tc_telephony_generation(void);

/*
 * Reads rows as of now, whatever the transaction's snapshot, below row security.  Uses the first
 * index whose leading columns are the matched ones.
 */
extern void tc_read_rows(Oid relid, const TcMatch *matches, int nmatches, TcRowVisitor visit,
						 void *arg);

/* Is there any such row as of now? */
extern bool tc_any_row(Oid relid, const TcMatch *matches, int nmatches);

/* Columns of a row by name; false for NULL. */
extern bool tc_row_datum(HeapTuple tuple, TupleDesc desc, const char *column, Datum *value);
extern int64 tc_row_int8(HeapTuple tuple, TupleDesc desc, const char *column);
extern char *tc_row_text(HeapTuple tuple, TupleDesc desc, const char *column);

#endif /* TC_TELEPHONY_H */
