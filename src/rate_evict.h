/*
 * rate_evict.h
 *		Room in the table of buckets; within the rate module.
 */
#ifndef TC_RATE_EVICT_H
#define TC_RATE_EVICT_H

#include "postgres.h"

#include "rate.h"
#include "rate_table.h"

/* What to do with a request whose bucket has no room. */
typedef enum TcRateFull
{
	TC_RATE_FULL_DENY,
	TC_RATE_FULL_ALLOW,
	TC_RATE_FULL_EVICT
} TcRateFull;

extern int tc_rate_full; /* setting */

/*
 * Finds the key's entry, or makes one (of version 0, to be filled in by the caller), and returns it
 * with its partition locked exclusively.  Returns NULL, with nothing locked, when there is no room
 * or the lock cannot be had: *why.
 */
extern TcRateEntry *tc_rate_enter(const TcRateKey *key, uint32 hash, int64 now, TcTakeReason *why);

#endif /* TC_RATE_EVICT_H */
