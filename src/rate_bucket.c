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

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "errors.h"
#include "rate_args.h"
#include "rate_bucket.h"
#include "rate_clock.h"
#include "rate_evict.h"
#include "rate_lock.h"
#include "rate_shared.h"
#include "rate_turn.h"
#include "ready.h"

/*
 * The instant of the policy's change on the buckets' clock.  If it was changed elsewhere (on the
 * primary, or before the machine was started), it is as well as the wall clock knows it.
 */
static int64
changed_at(const TcRateLimit *limit, int64 now)
{
	TimestampTz wall = GetCurrentTimestamp();
	int64 ago;

	if (limit->changed_clock >= 0)
		return Min(limit->changed_clock, now);
	if (limit->changed_at >= wall)
		return now;
	ago = wall - limit->changed_at;
	return ago >= now / 1000 ? 0 : now - ago * 1000;
}

/* The arithmetic that an entry goes by: the limit's own, unless one of them is outdated. */
static inline const TcRateMath *
math_of(const TcRateEntry *entry, const TcRateLimit *limit)
{
	return likely(entry->stamp == limit->stamp) ? &limit->math : &tc_rate_record(entry)->math;
}

/* Does the entry fit the policy's version and the present time? */
static inline bool
fits(const TcRateEntry *entry, const TcRateLimit *limit, int64 now)
{
	return (likely(entry->stamp == limit->stamp) ||
			tc_rate_record(entry)->version >= limit->version) &&
		   now - entry->base < math_of(entry, limit)->horizon;
}

/* The same for others. */
bool
tc_rate_fits(const TcRateEntry *entry, const TcRateLimit *limit, int64 now)
{
	return fits(entry, limit, now);
}

/*
 * Brings an entry up to the policy's version and its base up to now; a new one becomes a full
 * bucket.  Exclusive lock.
 */
void
tc_rate_refresh(TcRateEntry *entry, const TcRateLimit *limit, int64 now)
{
	TcRateState state = tc_rate_state(entry);
	const TcRateMath *math = &tc_rate_record(entry)->math;
	int64 version = tc_rate_record(entry)->version;

	if (version < limit->version)
	{
		bool resumes = entry->paused && limit->pause == 0;
		TcRateChange change = resumes ? TC_RATE_RESET : limit->change;

		if (version == 0)
			state = (TcRateState){now, 0};
		else
		{
			tc_rate_convert(math, &limit->math, change, changed_at(limit, now), now, &state);
			tc_rate_turn_convert(entry, limit, change, state.base);
		}
		tc_rate_set_math(entry, limit->version, &limit->math);
		tc_rate_passes(TC_RATE_PLACE_CHANGE);
		entry->shadow = limit->shadow;
		entry->paused = entry->paused && !resumes;
	}
	if (tc_rate_needs_rebase(math, state, now))
		tc_rate_rebase(math, &state, now);
	entry->base = state.base;
	pg_atomic_write_u64(&entry->s, (uint64) state.s);
}

/* Refuses a request that does not say what the policy counts by. */
static const char *
required(const char *value, const char *argument)
{
	if (value == NULL || value[0] == '\0')
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("argument \"%s\" must not be NULL or empty", argument),
						errdetail("The rate policy counts by it.")));
	return value;
}

/* A keyed hash of up to three parts of a name; not 0. */
static uint64
detail_of(const char *first, const char *second, const uint8 *third)
{
	uint64 parts[3] = {0};
	const uint8 *key = tc_rate_table_here.shared->detail_key;

	if (first != NULL)
		parts[0] = tc_siphash64(key, first, strlen(first));
	if (second != NULL)
		parts[1] = tc_siphash64(key, second, strlen(second));
	if (third != NULL)
		parts[2] = tc_siphash64(key, third, TC_UUID_LEN);
	return tc_siphash64(key, parts, sizeof(parts)) | 1;
}

/* What finer levels count by, besides the company. */
static void
finer_subject(const TcRateLimit *limit, const TcRateWho *who, TcRateSubject *subject)
{
	const char *function;

	tc_require_ready();
	switch (limit->level)
	{
		case TC_RATE_BRANCH:
			if (!(subject->level & TC_RATE_BY_UUID))
				subject->subject[1] = (uint64) who->tenant->branch_id;
			else if (!tc_uuid_is_nil(who->tenant->branch_uuid))
				subject->detail = detail_of(NULL, NULL, who->tenant->branch_uuid);
			break;
		case TC_RATE_NUMBER:
			subject->detail = detail_of(required(who->number, "number"), NULL, NULL);
			break;
		case TC_RATE_CALL:
			subject->detail = detail_of(required(who->call, "call"), NULL, NULL);
			break;
		default:
			function = required(who->function, "function");
			subject->detail = detail_of(required(who->call, "call"), function, NULL);
			break;
	}
}

/* Whose bucket the limit means. */
void
tc_rate_subject(const TcRateLimit *limit, const TcRateWho *who, TcRateSubject *subject)
{
	const TcContext *tenant = who->tenant;

	subject->level = limit->level;
	subject->subject[0] = (uint64) tenant->company_id;
	subject->subject[1] = 0;
	subject->detail = 0;
	if (unlikely(limit->level == TC_RATE_GLOBAL))
	{
		subject->subject[0] = 0;
		return;
	}
	if (unlikely(tenant->company_id == 0))
	{
		if (!tc_uuid_is_nil(tenant->company_uuid))
		{
			subject->level |= TC_RATE_BY_UUID;
			memcpy(subject->subject, tenant->company_uuid, sizeof(subject->subject));
		}
		else if (limit->level == TC_RATE_COMPANY)
			subject->level = TC_RATE_UNKNOWN;
	}
	if (unlikely(limit->level != TC_RATE_COMPANY))
		finer_subject(limit, who, subject);
}

/* Spends by compare-and-swap; false if refused.  Any lock. */
static inline bool
spend(TcRateEntry *entry, const TcRateMath *math, const TcRateAsk *ask, int64 now, int64 *delay)
{
	TcRateState state = tc_rate_state(entry);
	uint64 seen =
		unlikely(ask->tickets != NULL) ? pg_atomic_read_u64(&tc_rate_record(entry)->tickets) : 0;
	int64 next;

	for (;;)
	{
		bool ok;

		*delay = ask->max_wait;
		if (likely(ask->max_wait == 0))
			ok = tc_rate_admit(math, state, now, ask->cost, &next);
		else
			ok = tc_rate_reserve(math, state, now, ask->cost, delay, &next);
		if (!ok || ask->peek)
			return ok;
		if (pg_atomic_compare_exchange_u64(&entry->s, (uint64 *) &state.s, (uint64) next))
			break;
	}
	if (ask->tickets != NULL)
		tc_rate_issue(entry, next, seen, ask);
	return true;
}

/* Counts a refusal. */
void
tc_rate_count_refusal(TcRateEntry *entry)
{
	TcRateRecord *record = tc_rate_record(entry);

	pg_atomic_fetch_add_u64(entry->shadow ? &record->would_deny : &record->denied, 1);
	pg_atomic_write_u64(&record->last_denied_at, (uint64) GetCurrentTimestamp());
}

/* Fills in what the caller learns of the bucket's state. */
void
tc_rate_describe(const TcRateMath *math, TcRateState state, int64 now, const TcRateAsk *ask,
				 TcTakeResult *result)
{
	TcRateView view;

	tc_rate_view(math, state, now, ask->cost, &view);
	result->quota = math->burst;
	result->remaining = view.remaining;
	result->reset_after = view.reset_after;
	result->retry_after = result->reason == TC_TAKE_OK && !ask->peek ? 0 : view.retry_after;
}

/* Notes that it was refused, or would have been. */
static void
refuse(TcRateEntry *entry, const TcRateMath *math, const TcRateAsk *ask, TcTakeResult *result)
{
	result->allowed = entry->shadow;
	result->reason = entry->shadow			   ? TC_TAKE_WOULD_DENY
					 : ask->cost > math->burst ? TC_TAKE_COST_EXCEEDS_BURST
											   : TC_TAKE_LIMITED;
	if (!ask->peek)
		tc_rate_count_refusal(entry);
}

/* Asks an entry that fits.  Any lock; to wait, the exclusive one. */
static inline void
ask_entry(TcRateEntry *entry, const TcRateLimit *limit, const TcRateAsk *ask, int64 now,
		  TcTakeResult *result)
{
	const TcRateMath *math = math_of(entry, limit);
	int64 burst = math->burst;
	TcRateMath low;

	if (unlikely(ask->low && limit->reserve > 0))
	{
		tc_rate_low(math, limit->reserve, &low);
		math = &low;
	}
	result->allowed = spend(entry, math, ask, now, &result->waited);
	result->reason = TC_TAKE_OK;
	if (unlikely(!result->allowed))
		refuse(entry, math, ask, result);
	else if (!ask->peek)
	{
		pg_atomic_fetch_add_u64(&entry->allowed, 1);
		if (unlikely(result->waited > 0))
		{
			tc_rate_passes(TC_RATE_PLACE_RESERVE);
			pg_atomic_fetch_add_u64(&tc_rate_record(entry)->waited, 1);
			tc_rate_turn_begin(tc_rate_record(entry)->born, now + result->waited);
		}
	}
	if (!ask->brief)
	{
		tc_rate_describe(math, tc_rate_state(entry), now, ask, result);
		result->quota = burst;
	}
}

/* Looks at a bucket that does not exist, which is a full one. */
static void
peek_absent(const TcRateLimit *limit, const TcRateAsk *ask, int64 now, TcTakeResult *result)
{
	TcRateState state = {now, 0};
	TcRateMath math;
	bool too_large;

	tc_rate_low(&limit->math, ask->low ? limit->reserve : 0, &math);
	too_large = ask->cost > math.burst;
	result->allowed = !too_large || limit->shadow;
	result->reason = !too_large		 ? TC_TAKE_OK
					 : limit->shadow ? TC_TAKE_WOULD_DENY
									 : TC_TAKE_COST_EXCEEDS_BURST;
	tc_rate_describe(&math, state, now, ask, result);
	result->quota = limit->math.burst;
}

/* There is no room for the bucket: what the setting says, whatever the cost. */
void
tc_rate_no_room(const TcRateLimit *limit, TcTakeResult *result)
{
	bool pass = tc_rate_full == TC_RATE_FULL_ALLOW;

	memset(result, 0, sizeof(*result));
	result->allowed = limit->shadow || pass;
	result->reason = limit->shadow && !pass ? TC_TAKE_WOULD_DENY : TC_TAKE_TABLE_FULL;
	result->quota = limit->math.burst;
	result->retry_after = result->allowed ? 0 : INT64CONST(1000000000);
	result->reset_after = INT64CONST(1000000000);
}

/* The bucket could not be locked in time: nobody knows what it holds, so that it is refused. */
void
tc_rate_unavailable(const TcRateLimit *limit, TcTakeResult *result)
{
	memset(result, 0, sizeof(*result));
	result->allowed = limit->shadow;
	result->reason = limit->shadow ? TC_TAKE_WOULD_DENY : TC_TAKE_UNAVAILABLE;
	result->quota = limit->math.burst;
	result->retry_after = result->allowed ? 0 : INT64CONST(1000000000);
	result->reset_after = INT64CONST(1000000000);
}

/* There is no bucket to ask: what tc_rate_enter() says. */
void
tc_rate_not_entered(const TcRateLimit *limit, TcTakeReason why, TcTakeResult *result)
{
	if (why == TC_TAKE_UNAVAILABLE)
		tc_rate_unavailable(limit, result);
	else
		tc_rate_no_room(limit, result);
}

/* A disabled policy: everything passes and nothing is counted. */
void
tc_rate_disabled(TcTakeResult *result)
{
	memset(result, 0, sizeof(*result));
	result->allowed = true;
	result->reason = TC_TAKE_DISABLED;
	result->quota = result->remaining = -1;
}

/* The slow way: under the exclusive lock. */
static void
ask_exclusively(const TcRateKey *key, uint32 hash, const TcRateLimit *limit, const TcRateAsk *ask,
				TcTakeResult *result)
{
	int64 now = tc_rate_now();
	TcTakeReason why;
	TcRateEntry *entry = tc_rate_enter(key, hash, now, &why);

	if (entry == NULL)
	{
		tc_rate_not_entered(limit, why, result);
		return;
	}
	now = tc_rate_now();
	tc_rate_refresh(entry, limit, now);
	tc_rate_passes(TC_RATE_PLACE_NEW);
	ask_entry(entry, limit, ask, now, result);
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
		tc_rate_disabled(result);
		return;
	}
	tc_rate_key(&key, limit, subject);
	hash = tc_rate_hash(&key);
	tc_rate_prefetch(hash);
	if (unlikely(ask->tickets != NULL))
		tc_rate_prefetch_record(hash);
	lock = tc_rate_lock(hash);
	now = tc_rate_now();

	if (unlikely(!tc_rate_lock_try(hash, LW_SHARED, now)))
	{
		if (!tc_rate_lock_wait(hash, LW_SHARED))
		{
			tc_rate_unavailable(limit, result);
			return;
		}
		now = tc_rate_now();
	}
	entry = tc_rate_find(&key, hash);
	if (likely(entry != NULL && fits(entry, limit, now) && ask->max_wait == 0))
	{
		ask_entry(entry, limit, ask, now, result);
		LWLockRelease(lock);
		return;
	}
	LWLockRelease(lock);
	if (entry == NULL && ask->peek)
		peek_absent(limit, ask, now, result);
	else
		ask_exclusively(&key, hash, limit, ask, result);
}
