/*
 * rate_all.h
 *		Asking several buckets at one instant, all or nothing; within the rate module.
 */
#ifndef TC_RATE_ALL_H
#define TC_RATE_ALL_H

#include "postgres.h"

#include "rate_bucket.h"

/* One bucket among several. */
typedef struct TcRateItem
{
	const char *policy; /* its name */
	TcRateLimit limit;
	TcRateKey key;
	uint32 hash;
	int64 cost;
	TcRateEntry *entry;
	int64 next; /* the new s */
	bool refused;
} TcRateItem;

typedef struct TcRateItems
{
	int n;
	TcRateItem item[TC_RATE_MAX_ITEMS];
} TcRateItems;

/* Adds a policy's bandwidths; raises for more buckets than may be asked at once. */
extern void tc_rate_all_add(TcRateItems *items, const char *policy, int64 cost,
							const TcRateWho *who);
/* Asks them.  ask->cost is not used; each item says whether it refused. */
extern void tc_rate_all_ask(TcRateItems *items, const TcRateAsk *ask, TcTakeResult *result);

/* Asks one policy, whatever its bandwidths.  limit is as from tc_rate_limit(). */
extern void tc_rate_ask_policy(const TcRateLimit *limit, const char *policy, const TcRateWho *who,
							   const TcRateAsk *ask, TcTakeResult *result);

#endif /* TC_RATE_ALL_H */
