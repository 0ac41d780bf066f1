/*
 * rate_bucket.c
 *		Asking a bucket: look up, decide, spend.
 *
 * The usual way holds the partition's lock shared, decides by rate_core.c and changes s by
 * compare-and-swap until nobody got in between.  A bucket that is new, has another version of its
 * policy, or a base long ago takes the same way under the exclusive lock, after it has been put
 * right.  A refusal writes nothing but its count.
 *
 * The clock is read before the lock is taken.  That time may be older than what another backend
 * has used meanwhile; the arithmetic then errs against the caller, never in its favour.
 */
#include "postgres.h"

#include <time.h>

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "rate_table.h"

#ifdef CLOCK_BOOTTIME
#define RATE_CLOCK CLOCK_BOOTTIME /* goes on while the machine sleeps */
#else
#define RATE_CLOCK CLOCK_MONOTONIC
#endif

/* The time that buckets go by: nanoseconds since the machine started, whatever the wall clock. */
int64
tc_rate_now(void)
{
	struct timespec now;

	clock_gettime(RATE_CLOCK, &now);
	return (int64) now.tv_sec * INT64CONST(1000000000) + now.tv_nsec;
}

/* Mixes the words of a key; the multiplier is that of MurmurHash2, 64 bit. */
static inline uint32
hash_key(const TcRateKey *key)
{
	const uint64 multiplier = UINT64CONST(0xc6a4a7935bd1e995);
	uint64 words[sizeof(TcRateKey) / sizeof(uint64)];
	uint64 hash = 0;
	size_t i;

	memcpy(words, key, sizeof(words));
	for (i = 0; i < lengthof(words); i++)
	{
		hash = (hash ^ words[i]) * multiplier;
		hash ^= hash >> 47;
	}
	return (uint32) (hash ^ (hash >> 32));
}

/* The instant of the policy's change on the buckets' clock, as well as the wall clock knows it. */
static int64
changed_at(const TcRateLimit *limit, int64 now)
{
	TimestampTz wall = GetCurrentTimestamp();
	int64 ago;

	if (limit->changed_at >= wall)
		return now;
	ago = wall - limit->changed_at;
	return ago >= now / 1000 ? 0 : now - ago * 1000;
}

/* Does the entry fit the policy's version and the present time? */
static inline bool
entry_fits(const TcRateEntry *entry, const TcRateLimit *limit, int64 now)
{
	return entry->version >= limit->version && now - entry->base < entry->math.horizon;
}

/* Brings an entry up to the policy's version and its base up to now.  Exclusive lock. */
static void
refresh_entry(TcRateEntry *entry, const TcRateLimit *limit, int64 now)
{
	TcRateState state = tc_rate_state(entry);

	if (entry->version < limit->version)
	{
		tc_rate_convert(&entry->math, &limit->math, limit->change, changed_at(limit, now), now,
						&state);
		entry->math = limit->math;
		entry->shadow = limit->shadow;
		entry->version = limit->version;
	}
	if (tc_rate_needs_rebase(&entry->math, state, now))
		tc_rate_rebase(&entry->math, &state, now);
	entry->base = state.base;
	pg_atomic_write_u64(&entry->s, (uint64) state.s);
}

/* The key of a bucket; what an uncommitted policy governs is apart from everything else. */
static inline void
make_key(TcRateKey *key, const TcRateLimit *limit, const TcRateSubject *subject)
{
	key->database = MyDatabaseId;
	key->policy_id = limit->policy_id;
	key->level = subject->level;
	key->private_version = unlikely(limit->uncommitted) ? (uint32) limit->version : 0;
	key->subject[0] = subject->subject[0];
	key->subject[1] = subject->subject[1];
	key->detail = 0;
}

/* Spends by compare-and-swap; false if refused.  Any lock. */
static inline bool
spend(TcRateEntry *entry, const TcRateAsk *ask, int64 now, int64 *delay)
{
	TcRateState state = tc_rate_state(entry);
	int64 next;

	for (;;)
	{
		bool ok;

		*delay = ask->max_wait;
		if (likely(ask->max_wait == 0))
			ok = tc_rate_admit(&entry->math, state, now, ask->cost, &next);
		else
			ok = tc_rate_reserve(&entry->math, state, now, ask->cost, delay, &next);
		if (!ok || ask->peek)
			return ok;
		if (pg_atomic_compare_exchange_u64(&entry->s, (uint64 *) &state.s, (uint64) next))
			return true;
	}
}

/* Counts a refusal. */
static void
count_refusal(TcRateEntry *entry)
{
	pg_atomic_fetch_add_u64(entry->shadow ? &entry->would_deny : &entry->denied, 1);
	pg_atomic_write_u64(&entry->last_denied_at, (uint64) GetCurrentTimestamp());
}

/* Fills in what the caller learns of the bucket's state. */
static void
describe(const TcRateMath *math, TcRateState state, int64 now, const TcRateAsk *ask,
		 TcTakeResult *result)
{
	TcRateView view;

	tc_rate_view(math, state, now, ask->cost, &view);
	result->quota = math->burst;
	result->remaining = view.remaining;
	result->reset_after = view.reset_after;
	result->retry_after = result->reason == TC_TAKE_OK && !ask->peek ? 0 : view.retry_after;
}

/* Asks an entry that fits.  Any lock. */
static inline void
ask_entry(TcRateEntry *entry, const TcRateAsk *ask, int64 now, TcTakeResult *result)
{
	result->allowed = spend(entry, ask, now, &result->waited);
	result->reason = TC_TAKE_OK;
	if (likely(result->allowed))
	{
		if (!ask->peek)
			pg_atomic_fetch_add_u64(&entry->allowed, 1);
	}
	else
	{
		result->reason = entry->shadow					 ? TC_TAKE_WOULD_DENY
						 : ask->cost > entry->math.burst ? TC_TAKE_COST_EXCEEDS_BURST
														 : TC_TAKE_LIMITED;
		result->allowed = entry->shadow;
		if (!ask->peek)
			count_refusal(entry);
	}
	if (!ask->brief)
		describe(&entry->math, tc_rate_state(entry), now, ask, result);
}

/* Looks at a bucket that does not exist, which is a full one. */
static void
peek_absent(const TcRateLimit *limit, const TcRateAsk *ask, int64 now, TcTakeResult *result)
{
	TcRateState state = {now, 0};
	bool too_large = ask->cost > limit->math.burst;

	result->allowed = !too_large || limit->shadow;
	result->reason = !too_large		 ? TC_TAKE_OK
					 : limit->shadow ? TC_TAKE_WOULD_DENY
									 : TC_TAKE_COST_EXCEEDS_BURST;
	describe(&limit->math, state, now, ask, result);
}

/* There is no room for the bucket: refused, whatever the cost. */
static void
refuse_without_bucket(const TcRateLimit *limit, TcTakeResult *result)
{
	result->allowed = limit->shadow;
	result->reason = limit->shadow ? TC_TAKE_WOULD_DENY : TC_TAKE_TABLE_FULL;
	result->quota = limit->math.burst;
	result->remaining = 0;
	result->retry_after = INT64CONST(1000000000);
	result->reset_after = INT64CONST(1000000000);
}

/* The slow way: under the exclusive lock. */
static void
ask_exclusively(const TcRateKey *key, uint32 hash, const TcRateLimit *limit, const TcRateAsk *ask,
				TcTakeResult *result)
{
	int64 now = tc_rate_now();
	TcRateEntry *entry = tc_rate_enter(key, hash, limit, now);

	if (entry == NULL)
	{
		refuse_without_bucket(limit, result);
		return;
	}
	refresh_entry(entry, limit, now);
	ask_entry(entry, ask, now, result);
	LWLockRelease(tc_rate_lock(hash));
}

/* Asks the subject's bucket of a policy. */
void
tc_rate_ask(const TcRateLimit *limit, const TcRateSubject *subject, const TcRateAsk *ask,
			TcTakeResult *result)
{
	TcRateKey key;
	uint32 hash;
	LWLock *lock;
	TcRateEntry *entry;
	int64 now;

	memset(result, 0, sizeof(*result));
	if (unlikely(!limit->enabled))
	{
		result->allowed = true;
		result->reason = TC_TAKE_DISABLED;
		result->quota = result->remaining = -1;
		return;
	}
	make_key(&key, limit, subject);
	hash = hash_key(&key);
	tc_rate_prefetch(hash);
	lock = tc_rate_lock(hash);
	now = tc_rate_now();

	LWLockAcquire(lock, LW_SHARED);
	entry = tc_rate_find(&key, hash);
	if (likely(entry != NULL && entry_fits(entry, limit, now)))
	{
		ask_entry(entry, ask, now, result);
		LWLockRelease(lock);
		return;
	}
	LWLockRelease(lock);
	if (entry == NULL && ask->peek)
		peek_absent(limit, ask, now, result);
	else
		ask_exclusively(&key, hash, limit, ask, result);
}

/* Gives back what was spent in advance, unless the policy has changed meanwhile. */
void
tc_rate_give_back(const TcRateLimit *limit, const TcRateSubject *subject, int64 cost)
{
	TcRateKey key;
	uint32 hash;
	TcRateEntry *entry;

	make_key(&key, limit, subject);
	hash = hash_key(&key);
	LWLockAcquire(tc_rate_lock(hash), LW_SHARED);
	entry = tc_rate_find(&key, hash);
	if (entry != NULL && entry->version == limit->version)
	{
		uint64 s = pg_atomic_read_u64(&entry->s);
		uint64 back = (uint64) (cost * entry->math.unit);

		while (!pg_atomic_compare_exchange_u64(&entry->s, &s, s > back ? s - back : 0))
			;
	}
	LWLockRelease(tc_rate_lock(hash));
}
