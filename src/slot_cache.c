/*
 * slot_cache.c
 *		What calendars answered: for those who ask.
 *
 *		fresh answer?	--> give it
 *		stale answer?	--> give it, and have it asked again
 *		failed lately?	--> say so, at once
 *		else			--> join the fetch that is under way, or begin one; wait for its end
 *
 * Single flight: one question is with the worker at most once, whoever asks and however many.  It
 * is the worker that asks the calendar and publishes the answer (slot_publish.c), so a caller that
 * is cancelled, or dies, takes nothing away from the others; callers never ask the calendar
 * themselves.  An answer counts only while the generation of its calendar stands still
 * (slot_generation.h); one that was overtaken by a booking is neither kept nor given to anybody.
 *
 * The transaction's snapshot plays no part: also under REPEATABLE READ the answer is that of now.
 *
 * Locks: tc_slot_lock, never while waiting.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "clock.h"
#include "compat.h"
#include "http.h"
#include "slot_generation.h"
#include "slot_table.h"

static int ttl = 300; /* settings, in s */
static int empty_ttl = 60;
static int stale_ttl = 300;

/*
 * Who takes something raises its generation; those who change rows by hand, or commit what was
 * prepared before, do not, and have to wait as long.
 */
#define TAKEN_KEPT USECS_PER_SEC

/* One caller's question while it is being answered. */
typedef struct Asking
{
	const TcSlotQuestion *question;
	TcSlotAnswer *answer;
	int64 max_age;
	int64 began; /* µs of tc_clock_us() */
	TimestampTz deadline;
	bool waited;
	uint64 joined; /* number of the fetch that was waited for */
	uint32 stat;   /* where it is counted; TC_SLOT_STATS: not known */
} Asking;

/* While preloaded, sets up the table; defines the settings. */
void
tc_slot_cache_init(void)
{
	tc_slot_table_init();
	if (!process_shared_preload_libraries_in_progress)
		return;
	DefineCustomIntVariable("tenantcall.slot_ttl", "How long free slots count as fresh.", NULL,
							&ttl, 300, 0, 86400, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("tenantcall.slot_empty_ttl",
							"How long the answer that there are no free slots counts as fresh.",
							NULL, &empty_ttl, 60, 0, 86400, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL,
							NULL);
	DefineCustomIntVariable("tenantcall.slot_stale_ttl",
							"How long free slots are given to callers beyond that, while the "
							"calendar is asked again.",
							NULL, &stale_ttl, 300, 0, 86400, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL,
							NULL);
}

/* How long an answer is fresh, in µs. */
static int64
fresh_for(const TcSlotEntry *entry)
{
	return (int64) (entry->count == 0 ? empty_ttl : ttl) * USECS_PER_SEC;
}

/* Is there an answer about the calendar as it is, and not too old for this caller? */
static bool
usable(const Asking *asking, const TcSlotEntry *entry, int64 age)
{
	if (!entry->known || entry->generation != tc_slot_generation(entry->question.company_id,
																 entry->question.credential,
																 entry->question.event_type_id))
		return false;
	/* what came while the caller waited is as new as can be */
	return asking->max_age == TC_SLOT_ANY_AGE || age <= asking->max_age ||
		   entry->answered_at >= asking->began;
}

/*
 * Gives the entry's answer, and what is known to be taken of it.  What this transaction has taken
 * itself is in nobody else's list.  Either lock.
 */
static void
give(const TcSlotEntry *entry, TcSlotSource source, int64 age, TcSlotAnswer *answer)
{
	answer->source = source;
	answer->count = entry->count;
	answer->age = age;
	tc_slot_load(entry, answer->starts);
	if (entry->ntaken < 0 || entry->answered_at + age - entry->taken_at >= TAKEN_KEPT ||
		entry->taken_generation != tc_slot_taken_generation(entry->question.company_id,
															entry->question.credential,
															entry->question.event_type_id) ||
		tc_slot_change_pending())
		return;
	answer->ntaken = entry->ntaken;
	memcpy(answer->taken, entry->taken, sizeof(TcSlotTaken) * entry->ntaken);
}

/* Gives a failure. */
static void
give_failure(const char *reason, int64 retry_after, TcSlotAnswer *answer)
{
	answer->source = TC_SLOTS_FAILED;
	answer->count = 0;
	answer->retry_after = retry_after;
	strlcpy(answer->reason, reason, sizeof(answer->reason));
}

/*
 * Answers from the entry, if that can be done without waiting.  *refresh: the calendar is to be
 * asked nevertheless.  Shared lock.
 */
static bool
answer_now(const Asking *asking, TcSlotEntry *entry, bool *refresh)
{
	int64 now = tc_clock_us();
	int64 age = now - entry->answered_at;
	bool ended = asking->waited && entry->fetch_no > asking->joined;
	bool waited_for = asking->waited && entry->answered_at >= asking->began;

	*refresh = false;
	if (usable(asking, entry, age))
	{
		if (age <= fresh_for(entry) || waited_for) /* the latter though nothing may be kept */
		{
			give(entry, asking->waited ? TC_SLOTS_FETCHED : TC_SLOTS_HIT, age, asking->answer);
			return true;
		}
		/* also when the calendar could not be asked */
		if (age <= fresh_for(entry) + (int64) stale_ttl * USECS_PER_SEC)
		{
			give(entry, TC_SLOTS_STALE, age, asking->answer);
			*refresh = entry->failed_until <= now;
			return true;
		}
	}
	if (entry->failed && (entry->failed_until > now || ended))
	{
		give_failure(entry->reason, entry->retry_after, asking->answer);
		return true;
	}
	return false;
}

/* Answers from the table, if that can be done without waiting. */
static bool
look_up(Asking *asking, bool *refresh)
{
	TcSlotEntry *entry;
	bool done = false;

	*refresh = false;
	LWLockAcquire(tc_slot_lock, LW_SHARED);
	entry = tc_slot_find(asking->question);
	if (entry != NULL)
	{
		asking->stat = entry->stat;
		done = answer_now(asking, entry, refresh);
		pg_atomic_write_u32(&entry->used, 1);
		if (done && !asking->waited && asking->answer->source != TC_SLOTS_FAILED)
			tc_slot_count(entry->stat, *refresh || asking->answer->source == TC_SLOTS_STALE
										   ? TC_SLOT_STALE_HITS
										   : TC_SLOT_HITS);
	}
	LWLockRelease(tc_slot_lock);
	return done;
}

/*
 * Begins a fetch, or joins the one under way; NULL: there is no room.  The entry stays until the
 * fetch ends.
 */
static TcSlotEntry *
begin_or_join(Asking *asking, bool live)
{
	TcSlotEntry *entry;
	bool wake = false;

	LWLockAcquire(tc_slot_lock, LW_EXCLUSIVE);
	entry = tc_slot_find_or_make(asking->question);
	if (entry == NULL)
		tc_slot_count(tc_slot_stat_of(asking->question), TC_SLOT_REFUSALS);
	else
	{
		wake = entry->fetching == TC_FETCH_NONE || (live && !entry->live);
		asking->stat = entry->stat;
		if (entry->fetching == TC_FETCH_NONE)
		{
			entry->live = live;
			entry->attempts = 0;
			entry->wanted_until = asking->deadline;
			tc_slot_enqueue(entry);
			if (!asking->waited)
				tc_slot_count(entry->stat, TC_SLOT_MISSES);
		}
		else if (!asking->waited && live)
			tc_slot_count(entry->stat, TC_SLOT_WAITS);
		entry->live = entry->live || live;
		entry->wanted_until = Max(entry->wanted_until, asking->deadline);
		asking->joined = entry->fetch_no;
	}
	LWLockRelease(tc_slot_lock);
	if (wake)
		tc_http_wake();
	return entry;
}

/* Has the fetch ended that is waited for? */
static bool
has_ended(const Asking *asking, const TcSlotEntry *entry)
{
	bool ended;

	LWLockAcquire(tc_slot_lock, LW_SHARED);
	ended = entry->fetch_no != asking->joined;
	LWLockRelease(tc_slot_lock);
	return ended;
}

/* Waits until the fetch has ended; false: the caller's time is over. */
static bool
wait_for(const Asking *asking, TcSlotEntry *entry)
{
	bool ended;

	ConditionVariablePrepareToSleep(&entry->done);
	while (!(ended = has_ended(asking, entry)))
	{
		long left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), asking->deadline);

		if (left <= 0)
			break;
		(void) ConditionVariableTimedSleep(&entry->done, left, tc_wait_event("TenantcallSlots"));
	}
	ConditionVariableCancelSleep();
	return ended;
}

/* Counts a caller whose time was over. */
static void
count_timeout(const TcSlotEntry *entry)
{
	LWLockAcquire(tc_slot_lock, LW_SHARED);
	tc_slot_count(entry->stat, TC_SLOT_TIMEOUTS);
	LWLockRelease(tc_slot_lock);
}

/* Answers from memory, or has the worker ask and waits.  *refresh as in answer_now(). */
static void
find_answer(Asking *asking, bool *refresh)
{
	TcSlotAnswer *answer = asking->answer;
	TcSlotEntry *entry;

	while (!look_up(asking, refresh))
	{
		if (!tc_http_worker_expected())
		{
			give_failure("no_worker", -1, answer);
			return;
		}
		entry = begin_or_join(asking, true);
		if (entry == NULL)
		{
			give_failure("queue_full", -1, answer);
			return;
		}
		asking->waited = true;
		if (!wait_for(asking, entry))
		{
			count_timeout(entry);
			give_failure("timeout", -1, answer);
			return;
		}
	}
}

/* Answers from memory, or has the worker ask and waits. */
void
tc_slot_cache_get(const TcSlotQuestion *question, int64 max_wait, int64 max_age,
				  TcSlotAnswer *answer)
{
	Asking asking = {.question = question,
					 .answer = answer,
					 .max_age = max_age,
					 .stat = TC_SLOT_STATS};
	bool refresh = false;

	memset(answer, 0, offsetof(TcSlotAnswer, taken));
	answer->retry_after = answer->ntaken = -1;
	answer->starts = palloc(sizeof(TimestampTz) * TC_SLOT_MAX_STARTS);
	asking.began = tc_clock_us();
	asking.deadline = GetCurrentTimestamp() + max_wait;
	find_answer(&asking, &refresh);
	if (asking.stat < TC_SLOT_STATS)
		tc_slot_count_wait(asking.stat, tc_clock_us() - asking.began);
	if (refresh && tc_http_worker_expected())
		(void) begin_or_join(&asking, false);
}

/* Keeps beside the answer what is taken of it; what has changed since has raised the generation. */
void
tc_slot_cache_keep_taken(const TcSlotQuestion *question, const TcSlotAnswer *answer, int64 as_of)
{
	TcSlotEntry *entry;

	LWLockAcquire(tc_slot_lock, LW_EXCLUSIVE);
	entry = tc_slot_find(question);
	if (entry != NULL && entry->known)
	{
		memcpy(entry->taken, answer->taken, sizeof(TcSlotTaken) * answer->ntaken);
		entry->ntaken = answer->ntaken;
		entry->taken_at = as_of;
		entry->taken_generation = answer->taken_generation;
	}
	LWLockRelease(tc_slot_lock);
}
