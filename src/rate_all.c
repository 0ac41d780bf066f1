/*
 * rate_all.c
 *		Asking several buckets at one instant, all or nothing.
 *
 *		find or make each bucket (one lock at a time)
 *		lock their partitions exclusively, in ascending order
 *		look again (gone meanwhile: start over), decide for each at one `now`
 *		write all, or none; unlock
 *
 * No deadlock: everybody else holds one of these locks at most, and waits for nothing meanwhile.
 * Nobody sees a state in which some of the buckets have paid and others not, so that no request is
 * refused because of another one that was refused itself.
 *
 * Limits in shadow mode neither refuse nor, when they would have, are charged.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "args.h"
#include "rate_all.h"
#include "rate_args.h"
#include "rate_clock.h"
#include "rate_shared.h"
#include "ready.h"

#define MAX_ATTEMPTS 100 /* to have all buckets there at once */

/* Adds a bucket, or its cost to the same one. */
static void
add_item(TcRateItems *items, const char *policy, int64 cost, const TcRateLimit *limit,
		 const TcRateWho *who)
{
	TcRateItem *item = &items->item[items->n];
	TcRateSubject subject;

	if (items->n >= TC_RATE_MAX_ITEMS)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("more than %d rate limits asked at once", TC_RATE_MAX_ITEMS)));
	memset(item, 0, sizeof(*item));
	item->policy = policy;
	item->limit = *limit;
	item->cost = cost;
	tc_rate_subject(limit, who, &subject);
	tc_rate_key(&item->key, limit, &subject);
	item->hash = tc_rate_hash(&item->key);
	for (int i = 0; i < items->n; i++)
	{
		TcRateItem *other = &items->item[i];

		if (memcmp(&other->key, &item->key, sizeof(TcRateKey)) != 0)
			continue;
		other->cost = cost > PG_INT64_MAX - other->cost ? PG_INT64_MAX : other->cost + cost;
		return;
	}
	items->n++;
}

/* Adds a policy's bandwidths that are enabled. */
static void
add_limits(TcRateItems *items, const char *policy, int64 cost, const TcRateLimit *limit,
		   const TcRateWho *who)
{
	int n = limit->more + 1;

	for (int i = 0; i < n; i++)
	{
		if (limit[i].enabled)
			add_item(items, policy, cost, &limit[i], who);
	}
}

/* Adds a policy by its name. */
void
tc_rate_all_add(TcRateItems *items, const char *policy, int64 cost, const TcRateWho *who)
{
	add_limits(items, policy, cost, tc_rate_limit(policy, strlen(policy), who), who);
}

/* Makes the bucket if need be and brings it up to date; false if there is no room. */
static bool
prepare_item(TcRateItem *item, bool make)
{
	LWLock *lock = tc_rate_lock(item->hash);
	int64 now = tc_rate_now();
	TcRateEntry *entry;
	bool fits;

	LWLockAcquire(lock, LW_SHARED);
	entry = tc_rate_find(&item->key, item->hash);
	fits = entry == NULL ? !make : tc_rate_fits(entry, &item->limit, now);
	LWLockRelease(lock);
	if (fits)
		return true;
	entry = tc_rate_enter(&item->key, item->hash, now);
	if (entry == NULL)
		return false;
	tc_rate_refresh(entry, &item->limit, now);
	LWLockRelease(lock);
	return true;
}

/* Locks or unlocks the partitions of all items, in ascending order. */
static void
lock_all(const TcRateItems *items, bool lock)
{
	bool wanted[TC_RATE_PARTITIONS] = {false};

	for (int i = 0; i < items->n; i++)
		wanted[items->item[i].hash % TC_RATE_PARTITIONS] = true;
	for (uint32 partition = 0; partition < TC_RATE_PARTITIONS; partition++)
	{
		if (wanted[partition] && lock)
			LWLockAcquire(tc_rate_lock(partition), LW_EXCLUSIVE);
		else if (wanted[partition])
			LWLockRelease(tc_rate_lock(partition));
	}
}

/* Finds all buckets again; false if one has gone or is outdated.  All locks. */
static bool
find_all(TcRateItems *items, bool make, int64 now)
{
	for (int i = 0; i < items->n; i++)
	{
		TcRateItem *item = &items->item[i];

		item->entry = tc_rate_find(&item->key, item->hash);
		if (item->entry == NULL ? make : !tc_rate_fits(item->entry, &item->limit, now))
			return false;
	}
	return true;
}

/* What the item's bucket holds, also one that does not exist; and by which arithmetic. */
static TcRateState
item_state(const TcRateItem *item, const TcRateAsk *ask, int64 now, TcRateMath *math)
{
	tc_rate_low(item->entry != NULL ? &item->entry->math : &item->limit.math,
				ask->low ? item->limit.reserve : 0, math);
	return item->entry != NULL ? tc_rate_state(item->entry) : (TcRateState){now, 0};
}

/* Is the item's limit, as it holds now, in shadow mode? */
static inline bool
in_shadow(const TcRateItem *item)
{
	return item->entry != NULL ? item->entry->shadow : item->limit.shadow;
}

/* Decides for one bucket, writing nothing; false if it is refused.  All locks. */
static bool
decide(TcRateItem *item, const TcRateAsk *ask, int64 now)
{
	TcRateMath math;
	TcRateState state = item_state(item, ask, now, &math);

	item->refused = !tc_rate_admit(&math, state, now, item->cost, &item->next);
	return !item->refused || in_shadow(item);
}

/* Writes what was decided.  All locks: s is not being changed by others. */
static void
settle_item(TcRateItem *item, const TcRateAsk *ask, bool allowed)
{
	TcRateEntry *entry = item->entry;
	TcRateAsk of_item = *ask;

	if (item->refused)
		tc_rate_count_refusal(entry);
	if (item->refused || !allowed)
		return;
	pg_atomic_write_u64(&entry->s, (uint64) item->next);
	pg_atomic_fetch_add_u64(&entry->allowed, 1);
	of_item.cost = item->cost;
	if (ask->tickets != NULL)
		tc_rate_issue(entry, item->next, pg_atomic_read_u64(&entry->tickets), &of_item);
}

/* What one bucket says afterwards.  All locks. */
static void
describe_item(TcRateItem *item, const TcRateAsk *ask, int64 now, bool allowed, TcTakeResult *result)
{
	TcRateAsk of_item = *ask;
	TcRateMath math;
	TcRateState state = item_state(item, ask, now, &math);

	of_item.cost = item->cost;
	memset(result, 0, sizeof(*result));
	result->reason = !item->refused			   ? TC_TAKE_OK
					 : in_shadow(item)		   ? TC_TAKE_WOULD_DENY
					 : item->cost > math.burst ? TC_TAKE_COST_EXCEEDS_BURST
											   : TC_TAKE_LIMITED;
	tc_rate_describe(&math, state, now, &of_item, result);
	result->quota = item->limit.math.burst;
	result->allowed = allowed;
}

/* Is result b more telling than a: a refusal, the longer wait, or less left? */
static bool
tells_more(const TcTakeResult *a, const TcTakeResult *b)
{
	bool a_refused = a->reason != TC_TAKE_OK && a->reason != TC_TAKE_WOULD_DENY;
	bool b_refused = b->reason != TC_TAKE_OK && b->reason != TC_TAKE_WOULD_DENY;

	if (a_refused != b_refused)
		return b_refused;
	if (!a_refused)
		return b->remaining < a->remaining;
	if (a->retry_after == TC_RATE_NEVER || b->retry_after == TC_RATE_NEVER)
		return a->retry_after != TC_RATE_NEVER;
	return b->retry_after > a->retry_after;
}

/* Decides, writes and describes.  All locks. */
static void
ask_all(TcRateItems *items, const TcRateAsk *ask, int64 now, TcTakeResult *result)
{
	bool allowed = true;

	for (int i = 0; i < items->n; i++)
		allowed &= decide(&items->item[i], ask, now);
	for (int i = 0; i < items->n && !ask->peek; i++)
		settle_item(&items->item[i], ask, allowed);
	for (int i = 0; i < items->n; i++)
	{
		TcTakeResult one;

		describe_item(&items->item[i], ask, now, allowed, &one);
		if (i == 0 || tells_more(result, &one))
			*result = one;
	}
}

/* Has all buckets there; false, with a result, if one has no room. */
static bool
prepare_all(TcRateItems *items, bool make, TcTakeResult *result)
{
	for (int i = 0; i < items->n; i++)
	{
		TcRateItem *item = &items->item[i];

		if (prepare_item(item, make))
			continue;
		tc_rate_no_room(&item->limit, result);
		item->refused = !result->allowed;
		return false;
	}
	return true;
}

/* Asks all buckets. */
void
tc_rate_all_ask(TcRateItems *items, const TcRateAsk *ask, TcTakeResult *result)
{
	bool make = !ask->peek;
	int64 now;

	if (items->n == 0)
	{
		tc_rate_disabled(result);
		return;
	}
	for (int attempt = 0; attempt < MAX_ATTEMPTS; attempt++)
	{
		CHECK_FOR_INTERRUPTS();
		if (!prepare_all(items, make, result))
			return;
		lock_all(items, true);
		now = tc_rate_now();
		if (find_all(items, make, now))
		{
			ask_all(items, ask, now, result);
			lock_all(items, false);
			return;
		}
		lock_all(items, false);
	}
	tc_rate_no_room(&items->item[0].limit, result);
	items->item[0].refused = !result->allowed;
}

/* Asks one policy, whatever its bandwidths. */
void
tc_rate_ask_policy(const TcRateLimit *limit, const char *policy, const TcRateWho *who,
				   const TcRateAsk *ask, TcTakeResult *result)
{
	TcRateItems *items;
	TcRateSubject subject;

	if (likely(limit->more == 0))
	{
		if (unlikely(!limit->enabled))
		{
			tc_rate_disabled(result);
			return;
		}
		tc_rate_subject(limit, who, &subject);
		tc_rate_ask(limit, &subject, ask, result);
		return;
	}
	if (ask->max_wait > 0)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("a rate policy of several bandwidths cannot be waited for"),
						errhint("Call it without max_wait, and again after retry_after.")));
	items = palloc(sizeof(TcRateItems));
	items->n = 0;
	add_limits(items, policy, ask->cost, limit, who);
	tc_rate_all_ask(items, ask, result);
	pfree(items);
}
