/*
 * slot_publish.c
 *		What calendars answered: for the worker that asks them.
 *
 *		queue --> next() --> the calendar --> answer() or failure() --> all who wait
 *
 * An answer that a change of the calendar has overtaken is thrown away, and the question asked
 * again as long as somebody waits.  Locks: tc_slot_lock.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "clock.h"
#include "slot_generation.h"
#include "slot_publish.h"
#include "slot_table.h"

#define MAX_ATTEMPTS 8 /* when the calendar changes faster than it answers */

/* Takes the next question of this database. */
bool
tc_slot_cache_next(TcSlotFetch *fetch)
{
	TcSlotEntry *entry;

	LWLockAcquire(tc_slot_lock, LW_EXCLUSIVE);
	entry = tc_slot_dequeue(MyDatabaseId);
	if (entry != NULL)
	{
		fetch->question = entry->question;
		fetch->entry = tc_slot_number(entry);
		fetch->fetch_no = entry->fetch_no;
		fetch->live = entry->live;
		fetch->deadline = entry->wanted_until;
		fetch->generation =
			tc_slot_generation(entry->question.company_id, entry->question.credential,
							   entry->question.event_type_id);
	}
	LWLockRelease(tc_slot_lock);
	return entry != NULL;
}

/* Queues again what a worker that is gone had taken. */
void
tc_slot_cache_recover(void)
{
	LWLockAcquire(tc_slot_lock, LW_EXCLUSIVE);
	for (int i = 0; i < tc_slot_shared->max_entries; i++)
	{
		TcSlotEntry *entry = &tc_slot_entries[i];

		if (entry->fetching == TC_FETCH_TAKEN && entry->question.database == MyDatabaseId)
			tc_slot_enqueue(entry);
	}
	LWLockRelease(tc_slot_lock);
}

/* The entry of a fetch; NULL: it is not waited for any more. */
static TcSlotEntry *
entry_of(const TcSlotFetch *fetch)
{
	TcSlotEntry *entry = &tc_slot_entries[fetch->entry];

	return entry->fetching == TC_FETCH_TAKEN && entry->fetch_no == fetch->fetch_no ? entry : NULL;
}

/* Queues a question again whose job ran out of time, if somebody still has some. */
bool
tc_slot_cache_again(const TcSlotFetch *fetch)
{
	TcSlotEntry *entry;
	bool again;

	LWLockAcquire(tc_slot_lock, LW_EXCLUSIVE);
	entry = entry_of(fetch);
	again = entry != NULL && entry->live && entry->wanted_until > fetch->deadline &&
			entry->wanted_until > GetCurrentTimestamp() && ++entry->attempts < MAX_ATTEMPTS;
	if (again)
		tc_slot_enqueue(entry);
	LWLockRelease(tc_slot_lock);
	return again;
}

/* Ends a fetch: whoever waits looks again. */
static void
end_fetch(TcSlotEntry *entry)
{
	entry->fetching = TC_FETCH_NONE;
	entry->live = false;
	entry->fetch_no++;
	ConditionVariableBroadcast(&entry->done);
}

/* Notes a failure. */
static void
note_failure(TcSlotEntry *entry, const char *reason, int64 keep_for, int64 retry_after)
{
	entry->failed = true;
	strlcpy(entry->reason, reason, sizeof(entry->reason));
	entry->failed_until = tc_clock_us() + keep_for;
	entry->retry_after = retry_after;
	tc_slot_count(entry->stat, TC_SLOT_FAILURES);
}

/* Publishes an answer. */
void
tc_slot_cache_answer(const TcSlotFetch *fetch, const TimestampTz *starts, int count)
{
	TcSlotEntry *entry;
	bool overtaken;

	LWLockAcquire(tc_slot_lock, LW_EXCLUSIVE);
	entry = entry_of(fetch);
	if (entry != NULL)
	{
		overtaken = tc_slot_generation(fetch->question.company_id, fetch->question.credential,
									   fetch->question.event_type_id) != fetch->generation;
		tc_slot_count(entry->stat, TC_SLOT_FETCHES);
		if (overtaken)
			tc_slot_count(entry->stat, TC_SLOT_DISCARDED);
		if (overtaken && entry->live && entry->wanted_until > GetCurrentTimestamp() &&
			++entry->attempts < MAX_ATTEMPTS)
			tc_slot_enqueue(entry);
		else
		{
			entry->failed = false;
			entry->failed_until = 0;
			if (overtaken)
				note_failure(entry, "overtaken", 0, 0);
			else if (!tc_slot_store(entry, starts, count))
				note_failure(entry, "no_room", USECS_PER_SEC, -1);
			else
			{
				entry->generation = fetch->generation;
				entry->answered_at = tc_clock_us();
			}
			end_fetch(entry);
		}
	}
	LWLockRelease(tc_slot_lock);
}

/* Publishes a failure; an older answer stays, and is given while it is good. */
void
tc_slot_cache_failure(const TcSlotFetch *fetch, const char *reason, int64 keep_for,
					  int64 retry_after)
{
	TcSlotEntry *entry;

	LWLockAcquire(tc_slot_lock, LW_EXCLUSIVE);
	entry = entry_of(fetch);
	if (entry != NULL)
	{
		note_failure(entry, reason, keep_for, retry_after);
		end_fetch(entry);
	}
	LWLockRelease(tc_slot_lock);
}
