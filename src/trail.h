/*
 * trail.h
 *		The audit trail is append-only, but for the library's own upkeep.
 */
#ifndef TC_TRAIL_H
#define TC_TRAIL_H

#include "postgres.h"

/*
 * Between the two, rows of the trail may be changed and deleted, in this very subtransaction.  An
 * error closes as well.
 */
extern void tc_trail_open(void);
extern void tc_trail_close(void);

#endif /* TC_TRAIL_H */
