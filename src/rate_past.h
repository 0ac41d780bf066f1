/*
 * rate_past.h
 *		What buckets that have made way had counted; within the rate module.
 */
#ifndef TC_RATE_PAST_H
#define TC_RATE_PAST_H

#include "postgres.h"

#include "rate_stat.h"

/* Shared memory for a table of so many buckets; all 0 at first. */
extern Size tc_rate_past_size(uint32 max_entries);

/* Keeps the counts of an entry that makes way.  Its partition is locked exclusively. */
extern void tc_rate_past_add(TcRateEntry *entry);

/*
 * Copies the next of a database's as buckets without a policy's numbers (math.burst is 0).
 * *position starts at 0; returns their number, or -1 at the end.
 */
extern int tc_rate_past_read(uint32 *position, Oid database,
							 TcRateBucket buckets[TC_RATE_READ_AT_ONCE]);

/* Sets a database's to 0. */
extern void tc_rate_past_reset(Oid database);

#endif /* TC_RATE_PAST_H */
