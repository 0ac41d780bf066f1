/*
 * slot_publish.h
 *		The slot cache for the worker that asks the calendars.
 */
#ifndef TC_SLOT_PUBLISH_H
#define TC_SLOT_PUBLISH_H

#include "postgres.h"

#include "slot_cache.h"

/* A question to ask. */
typedef struct TcSlotFetch
{
	TcSlotQuestion question;
	uint32 entry;
	uint64 fetch_no;
	uint64 generation;	  /* of the calendar when the fetch was taken up */
	bool live;			  /* somebody waits */
	TimestampTz deadline; /* of those who wait */
} TcSlotFetch;

/* Takes the next question of this database; those that a dead worker had taken come again. */
extern bool tc_slot_cache_next(TcSlotFetch *fetch);
extern void tc_slot_cache_recover(void);

/*
 * The job ran out of time.  True: somebody came later who has time left, and the question is in
 * the queue again.
 */
extern bool tc_slot_cache_again(const TcSlotFetch *fetch);

/* Publishes what came of it; keep_for is how long a failure is not asked again, in µs. */
extern void tc_slot_cache_answer(const TcSlotFetch *fetch, const TimestampTz *starts, int count);
extern void tc_slot_cache_failure(const TcSlotFetch *fetch, const char *reason, int64 keep_for,
								  int64 retry_after);

#endif /* TC_SLOT_PUBLISH_H */
