/*
 * rate_all.c
 *		Asking several buckets at one instant, all or nothing.
 *
 *		bring each bucket up to date (one lock at a time)
 *		lock their partitions exclusively (rate_lock.c: all, or none and again)
 *		look again (outdated: start over), decide for each at one `now`
 *		write all, or none; unlock; if buckets are missing that are to be charged, make them first
 *
 * No deadlock: nobody waits while he holds one of these locks.
 * Nobody sees a state in which some of the buckets have paid and others not, so that no request is
 * refused because of another one that was refused itself.
 *
 * A policy may have a pause: when any of its bandwidths refuses, the buckets that have one admit
 * nothing until they are full, which is that much later at the earliest.  `paused` and `s` say it
 * together: a paused bucket is full exactly when its pause is over, so that it is not evicted
 * before, and need not be remembered after.
 *
 * Limits in shadow mode neither refuse nor, when they would have, are charged, and say nothing
 *else.
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
#include "rate_evict.h"
#include "rate_lock.h"
#include "rate_shared.h"
#include "ready.h"

#define MAX_ATTEMPTS 100 /* to have all buckets there at once */

/* What came of an attempt. */
typedef enum AllOutcome
{
	ALL_AGAIN, /* a bucket was outdated */
	ALL_MAKE,  /* the same, once those are made that do not exist yet */
	ALL_DONE
} AllOutcome;

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

/* Brings the item's bucket up to date, and makes it if wanted; TC_TAKE_OK, or why that failed. */
static TcTakeReason
prepare_item(TcRateItem *item, bool make)
{
	int64 now = tc_rate_now();
	TcTakeReason why = TC_TAKE_OK;
	TcRateEntry *entry;
	bool fits;

	if (!tc_rate_lock_try(item->hash, LW_SHARED, now) && !tc_rate_lock_wait(item->hash, LW_SHARED))
		return TC_TAKE_UNAVAILABLE;
	entry = tc_rate_find(&item->key, item->hash);
	fits = entry == NULL ? !make : tc_rate_fits(entry, &item->limit, now);
	LWLockRelease(tc_rate_lock(item->hash));
	if (fits)
		return TC_TAKE_OK;
	entry = tc_rate_enter(&item->key, item->hash, now, &why);
	if (entry == NULL)
		return why;
	tc_rate_refresh(entry, &item->limit, tc_rate_now());
	LWLockRelease(tc_rate_lock(item->hash));
	return TC_TAKE_OK;
}

/* The partitions of all items. */
static void
partitions_of(const TcRateItems *items, bool wanted[TC_RATE_PARTITIONS])
{
	memset(wanted, 0, sizeof(bool) * TC_RATE_PARTITIONS);
	for (int i = 0; i < items->n; i++)
		wanted[items->item[i].hash % TC_RATE_PARTITIONS] = true;
}

/* Finds all buckets again; false if one is outdated.  All locks. */
static bool
find_all(TcRateItems *items, int64 now)
{
	for (int i = 0; i < items->n; i++)
	{
		TcRateItem *item = &items->item[i];

		item->entry = tc_rate_find(&item->key, item->hash);
		if (item->entry != NULL && !tc_rate_fits(item->entry, &item->limit, now))
			return false;
	}
	return true;
}

/* What the item's bucket holds, also one that does not exist; and by which arithmetic. */
static TcRateState
item_state(const TcRateItem *item, const TcRateAsk *ask, int64 now, TcRateMath *math)
{
	tc_rate_low(item->entry != NULL ? &tc_rate_record(item->entry)->math : &item->limit.math,
				ask->low ? item->limit.reserve : 0, math);
	return item->entry != NULL ? tc_rate_state(item->entry) : (TcRateState){now, 0};
}

/* Is the item's limit, as it holds now, in shadow mode? */
static inline bool
in_shadow(const TcRateItem *item)
{
	return item->entry != NULL ? item->entry->shadow : item->limit.shadow;
}

/* Does the item's bucket admit nothing, because of a refusal of before?  All locks. */
static inline bool
is_paused(const TcRateItem *item, int64 now)
{
	return item->entry != NULL && item->entry->paused &&
		   !tc_rate_is_full(&tc_rate_record(item->entry)->math, tc_rate_state(item->entry), now);
}

/* Decides for one bucket, writing nothing; false if it is refused.  All locks. */
static bool
decide(TcRateItem *item, const TcRateAsk *ask, int64 now)
{
	TcRateMath math;
	TcRateState state = item_state(item, ask, now, &math);

	item->refused =
		is_paused(item, now) || !tc_rate_admit(&math, state, now, item->cost, &item->next);
	return !item->refused || in_shadow(item);
}

/* Writes what was decided.  All locks: s is not being changed by others. */
static void
settle_item(TcRateItem *item, const TcRateAsk *ask, bool allowed)
{
	TcRateEntry *entry = item->entry;
	TcRateAsk of_item = *ask;

	if (item->refused && entry != NULL)
		tc_rate_count_refusal(entry);
	if (item->refused || !allowed)
		return;
	pg_atomic_write_u64(&entry->s, (uint64) item->next);
	entry->paused = false;
	pg_atomic_fetch_add_u64(&entry->allowed, 1);
	of_item.cost = item->cost;
	if (ask->tickets != NULL)
		tc_rate_issue(entry, item->next, pg_atomic_read_u64(&tc_rate_record(entry)->tickets),
					  &of_item);
	tc_rate_passes(TC_RATE_PLACE_ALL);
}

/* Has any bandwidth of the item's policy refused?  Not what could never be admitted. */
static bool
policy_refused(const TcRateItems *items, const TcRateItem *item)
{
	for (int i = 0; i < items->n; i++)
	{
		const TcRateItem *other = &items->item[i];

		if (other->refused && !in_shadow(other) && other->cost <= other->limit.math.burst &&
			strcmp(other->policy, item->policy) == 0)
			return true;
	}
	return false;
}

/*
 * A refusal pauses those buckets of its policy that are to be: they are not full before the time is
 * over, and admit nothing before they are.  Refusals meanwhile do not make it longer.  All locks.
 */
static void
pause_buckets(TcRateItems *items, int64 now)
{
	for (int i = 0; i < items->n; i++)
	{
		TcRateItem *item = &items->item[i];
		TcRateEntry *entry = item->entry;
		const TcRateMath *math;
		TcRateState state;

		if (item->limit.pause == 0 || entry == NULL || entry->shadow || is_paused(item, now) ||
			!policy_refused(items, item))
			continue;
		math = &tc_rate_record(entry)->math;
		state = tc_rate_state(entry);
		tc_rate_rebase(math, &state, now);
		entry->base = state.base;
		state.s = Max(tc_rate_pause(math, state, now, item->limit.pause), state.s);
		pg_atomic_write_u64(&entry->s, (uint64) state.s);
		entry->paused = true;
	}
}

/* Why one bucket refused, or would have. */
static TcTakeReason
reason_of(const TcRateItem *item, const TcRateMath *math, bool paused)
{
	if (!item->refused && !paused)
		return TC_TAKE_OK;
	if (in_shadow(item))
		return TC_TAKE_WOULD_DENY;
	if (item->cost > math->burst)
		return TC_TAKE_COST_EXCEEDS_BURST;
	return paused ? TC_TAKE_PAUSED : TC_TAKE_LIMITED;
}

/* What one bucket says afterwards.  All locks. */
static void
describe_item(TcRateItem *item, const TcRateAsk *ask, int64 now, bool allowed, TcTakeResult *result)
{
	TcRateAsk of_item = *ask;
	bool paused = is_paused(item, now);
	TcRateMath math;
	TcRateState state = item_state(item, ask, now, &math);

	of_item.cost = item->cost;
	memset(result, 0, sizeof(*result));
	result->reason = reason_of(item, &math, paused);
	tc_rate_describe(&math, state, now, &of_item, result);
	result->quota = item->limit.math.burst;
	result->allowed = allowed;
	result->policy = item->policy;
	result->window = tc_rate_duration(&math, math.capacity);
	if (!paused)
		return;
	result->remaining = 0;
	if (result->reason == TC_TAKE_PAUSED)
		result->retry_after = result->reset_after;
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

/*
 * Decides and writes; false, with nothing written, if buckets have to be made first.  They need not
 * for a refusal by others: who is refused makes no buckets.  All locks.
 */
static bool
settle_all(TcRateItems *items, const TcRateAsk *ask, int64 now, bool *allowed)
{
	bool missing = false;

	*allowed = true;
	for (int i = 0; i < items->n; i++)
		*allowed &= decide(&items->item[i], ask, now);
	if (ask->peek)
		return true;
	for (int i = 0; i < items->n; i++)
		missing |= items->item[i].entry == NULL && (*allowed || items->item[i].refused);
	if (missing)
		return false;
	for (int i = 0; i < items->n; i++)
		settle_item(&items->item[i], ask, *allowed);
	if (!*allowed)
		pause_buckets(items, now);
	return true;
}

/* What those say that say most; of those in shadow mode only that they would have refused. */
static void
describe_all(TcRateItems *items, const TcRateAsk *ask, int64 now, bool allowed,
			 TcTakeResult *result)
{
	bool would_deny = false;
	bool shadow = true; /* is *result that of a limit in shadow mode? */

	for (int i = 0; i < items->n; i++)
	{
		bool one_shadow = in_shadow(&items->item[i]);
		TcTakeResult one;

		describe_item(&items->item[i], ask, now, allowed, &one);
		would_deny |= one.reason == TC_TAKE_WOULD_DENY;
		if (i > 0 && (shadow == one_shadow ? !tells_more(result, &one) : one_shadow))
			continue;
		*result = one;
		shadow = one_shadow;
	}
	if (allowed && would_deny)
		result->reason = TC_TAKE_WOULD_DENY;
}

/* Notes that one of several could not be asked, and what that means for all. */
static void
cannot_ask(TcRateItem *item, TcTakeReason why, TcTakeResult *result)
{
	tc_rate_not_entered(&item->limit, why, result);
	item->refused = !result->allowed;
	result->policy = item->policy;
}

/* One of several that is not in shadow mode, if there is one. */
static TcRateItem *
item_in_earnest(TcRateItems *items)
{
	for (int i = 0; i < items->n; i++)
	{
		if (!items->item[i].limit.shadow)
			return &items->item[i];
	}
	return &items->item[0];
}

/* Leaves an item out. */
static void
leave_out(TcRateItems *items, int which)
{
	items->n--;
	memmove(&items->item[which], &items->item[which + 1], sizeof(TcRateItem) * (items->n - which));
}

/*
 * Has all buckets up to date, and there if wanted; false, with a result, if one cannot be, or none
 * is left.  Without room for one that passes nevertheless (shadow mode, tenantcall.rate_full), the
 * others decide.
 */
static bool
prepare_all(TcRateItems *items, bool make, TcTakeResult *result)
{
	int i = 0;

	while (i < items->n)
	{
		TcTakeReason why = prepare_item(&items->item[i], make);

		if (why == TC_TAKE_OK)
		{
			i++;
			continue;
		}
		cannot_ask(&items->item[i], why, result);
		if (!result->allowed)
			return false;
		leave_out(items, i);
	}
	return items->n > 0;
}

/* Locks all, looks again, decides. */
static AllOutcome
ask_locked(TcRateItems *items, const TcRateAsk *ask, TcTakeResult *result)
{
	bool wanted[TC_RATE_PARTITIONS];
	AllOutcome outcome = ALL_AGAIN;
	bool allowed;
	int64 now;

	partitions_of(items, wanted);
	if (!tc_rate_lock_set(wanted))
	{
		cannot_ask(item_in_earnest(items), TC_TAKE_UNAVAILABLE, result);
		return ALL_DONE;
	}
	now = tc_rate_now();
	if (find_all(items, now))
		outcome = settle_all(items, ask, now, &allowed) ? ALL_DONE : ALL_MAKE;
	if (outcome == ALL_DONE)
		describe_all(items, ask, now, allowed, result);
	tc_rate_unlock_set(wanted);
	return outcome;
}

/* Asks all buckets. */
void
tc_rate_all_ask(TcRateItems *items, const TcRateAsk *ask, TcTakeResult *result)
{
	AllOutcome outcome = ALL_AGAIN;

	if (items->n == 0)
	{
		tc_rate_disabled(result);
		return;
	}
	for (int attempt = 0; attempt < MAX_ATTEMPTS; attempt++)
	{
		CHECK_FOR_INTERRUPTS();
		if (!prepare_all(items, outcome == ALL_MAKE, result))
			return;
		outcome = ask_locked(items, ask, result);
		if (outcome == ALL_DONE)
			return;
	}
	cannot_ask(item_in_earnest(items), TC_TAKE_TABLE_FULL, result);
}

/* Asks one policy, whatever its bandwidths. */
void
tc_rate_ask_policy(const TcRateLimit *limit, const char *policy, const TcRateWho *who,
				   const TcRateAsk *ask, TcTakeResult *result)
{
	TcRateItems *items;
	TcRateSubject subject;

	if (likely(!limit->together))
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
						errmsg("a rate policy of several bandwidths, or with a pause, cannot be "
							   "waited for"),
						errhint("Call it without max_wait, and again after retry_after.")));
	items = palloc(sizeof(TcRateItems));
	items->n = 0;
	add_limits(items, policy, ask->cost, limit, who);
	tc_rate_all_ask(items, ask, result);
	pfree(items);
}
