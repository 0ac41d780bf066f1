/*
 * lifecycle_audit.h
 *		The audit trail of a table with a lifecycle.
 */
#ifndef TC_LIFECYCLE_AUDIT_H
#define TC_LIFECYCLE_AUDIT_H

#include "postgres.h"

#include "executor/tuptable.h"
#include "utils/rel.h"

typedef struct TcAudit TcAudit;

/*
 * Prepares to write the moves of rel's rows into the audit table of that qualified name.  Raises
 * if either is not fit for it.  Allocated in the current memory context.
 */
extern TcAudit *tc_audit_prepare(Relation rel, const char *audit_name);

/* Writes one move; from_state is NULL for a row that begins. */
extern void tc_audit_write(const TcAudit *audit, TupleTableSlot *moved, const char *from_state,
						   const char *to_state);

#endif /* TC_LIFECYCLE_AUDIT_H */
