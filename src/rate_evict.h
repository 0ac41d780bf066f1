/*
 * rate_evict.h
 *		What happens when there is no room for a bucket; within the rate module.
 */
#ifndef TC_RATE_EVICT_H
#define TC_RATE_EVICT_H

/* What to do with a request whose bucket has no room. */
typedef enum TcRateFull
{
	TC_RATE_FULL_DENY,
	TC_RATE_FULL_ALLOW,
	TC_RATE_FULL_EVICT
} TcRateFull;

extern int tc_rate_full; /* setting */

#endif /* TC_RATE_EVICT_H */
