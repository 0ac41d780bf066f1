/*
 * act.h
 *		Acting for a tenant, or for the extension itself, from C.
 */
#ifndef TC_ACT_H
#define TC_ACT_H

#include "postgres.h"

#include "executor/spi.h"

#include "context_core.h"

typedef enum TcIdentity
{
	TC_AS_OWNER,	/* tenantcall_owner: bound by row security, needs a tenant */
	TC_AS_SYSTEM,	/* the extension's owner: for the tables of schema tenantcall only */
	TC_AS_DIRECTORY /* for writing the directory: the former, or on Citus the latter, who can reach
					 * all copies of it */
} TcIdentity;

/* What tc_act_end() has to restore. */
typedef struct TcAct
{
	Oid user;
	int sec_context;
	int guc_nest;
} TcAct;

#define TC_MAX_PARAMS 24

/* A statement of ours, prepared at first use; "@." stands for the schema of the tables. */
typedef struct TcStatement
{
	const char *sql;
	int nparams;
	Oid types[TC_MAX_PARAMS];
	SPIPlanPtr plan;
	uint64 generation;
	uint64 executions;			   /* of this process */
	uint64 next_replan;			   /* number of executions at which it is planned anew */
	LocalTransactionId running_in; /* transaction that executes it, if any */
} TcStatement;

/* Values for a statement. */
typedef struct TcParams
{
	Datum values[TC_MAX_PARAMS];
	char nulls[TC_MAX_PARAMS];
	int count;
} TcParams;

/*
 * Between begin and end SPI is connected, the identity is the one named, row security is on, the
 * search path is pg_catalog, and the tenant, if not NULL, is in context (NULL keeps the caller's).
 * All of it is undone by end, by an error, and by the abort of the subtransaction.
 */
extern void tc_act_begin(TcAct *act, TcIdentity identity, const TcContext *tenant);
extern void tc_act_end(TcAct *act);

extern void tc_param_int8(TcParams *params, int64 value); /* 0 becomes NULL */
extern void tc_param_text(TcParams *params, const char *value);
extern void tc_param_datum(TcParams *params, Datum value, bool isnull);

/* Executes and returns the number of rows; the result is in SPI_tuptable. */
extern uint64 tc_execute(TcStatement *statement, const TcParams *params);

/* Columns of row 0 of the result; 0 or NULL for NULL.  Text is allocated in the SPI context. */
extern int64 tc_result_int8(int column);
extern char *tc_result_text(int column);
extern Datum tc_result_datum(int column, bool *isnull);

#endif /* TC_ACT_H */
