/*
 * slot_entry.h
 *		A question, its answer and the fetch under way, in shared memory; within the slot cache.
 */
#ifndef TC_SLOT_ENTRY_H
#define TC_SLOT_ENTRY_H

#include "postgres.h"

#include "port/atomics.h"
#include "storage/condition_variable.h"

#include "slot_cache.h"

#define TC_SLOT_NONE UINT32_MAX /* no entry, no page */

/* Starts of slots, in seconds since the question's from. */
#define TC_SLOT_PAGE_STARTS 63

typedef struct TcSlotPage
{
	uint32 next;
	uint32 start[TC_SLOT_PAGE_STARTS];
} TcSlotPage;

typedef enum TcSlotFetching
{
	TC_FETCH_NONE,
	TC_FETCH_QUEUED, /* waits for the worker */
	TC_FETCH_TAKEN	 /* the worker has it */
} TcSlotFetching;

typedef struct TcSlotEntry
{
	TcSlotQuestion question;
	uint32 next; /* in its chain, or in the free list */
	uint32 hash;
	uint32 older, newer; /* in its group */
	uint32 stat;
	pg_atomic_uint32 used; /* since the clock's hand came by */

	/* the last answer */
	bool known;
	uint32 first_page;
	int count;
	uint64 generation; /* of the calendar */
	int64 answered_at; /* µs of tc_clock_us() */

	/* what is held and booked here, as of then; -1: not known */
	int ntaken;
	int64 taken_at; /* µs of tc_clock_us() */
	TcSlotTaken taken[TC_SLOT_MAX_TAKEN];

	/* the last failure */
	bool failed; /* the last fetch did */
	char reason[TC_SLOT_REASON_LEN];
	int64 failed_until;
	int64 retry_after;

	/* the fetch that is under way */
	TcSlotFetching fetching;
	bool live;
	int attempts; /* that a change overtook */
	uint32 queue_next;
	TimestampTz wanted_until;
	uint64 fetch_no; /* rises when one ends */
	ConditionVariable done;
} TcSlotEntry;

#endif /* TC_SLOT_ENTRY_H */
