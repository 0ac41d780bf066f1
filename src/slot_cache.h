/*
 * slot_cache.h
 *		What calendars answered, in shared memory: asked once, whoever wants to know.
 */
#ifndef TC_SLOT_CACHE_H
#define TC_SLOT_CACHE_H

#include "postgres.h"

#include "datatype/timestamp.h"

#define TC_SLOT_ZONE_LEN 64
#define TC_SLOT_REASON_LEN 32
#define TC_SLOT_MAX_DAYS 62
#define TC_SLOT_MAX_STARTS 8192 /* of one answer */
#define TC_SLOT_MAX_TAKEN 16	/* that one answer keeps */
#define TC_SLOT_ANY_AGE (-1)

/*
 * What a calendar is asked, and the key of its answer: compared byte by byte, so clear it before
 * filling it in.  The company is part of it, and what leads to the calendar.
 */
typedef struct TcSlotQuestion
{
	Oid database;
	int32 duration; /* minutes */
	int64 company_id;
	int64 event_type_id;
	int64 team_id;
	TimestampTz from; /* whole days of UTC */
	TimestampTz to;
	char credential[NAMEDATALEN];
	char time_zone[TC_SLOT_ZONE_LEN];
} TcSlotQuestion;

typedef enum TcSlotSource
{
	TC_SLOTS_HIT,	  /* known, and fresh */
	TC_SLOTS_STALE,	  /* known, and being asked again */
	TC_SLOTS_FETCHED, /* asked for this caller or together with others */
	TC_SLOTS_FAILED	  /* not known: reason says why */
} TcSlotSource;

/* Time of a calendar that is held or booked here. */
typedef struct TcSlotTaken
{
	TimestampTz from;
	TimestampTz to;
	TimestampTz expires; /* infinity: booked */
	int32 seat;
} TcSlotTaken;

typedef struct TcSlotAnswer
{
	TcSlotSource source;
	TimestampTz *starts; /* palloc'd, in order */
	int count;
	int64 age;						 /* µs */
	char reason[TC_SLOT_REASON_LEN]; /* of a failure: short, stable, without secrets */
	int64 retry_after;				 /* ms, -1: not known */
	uint64 taken_generation;		 /* noted before the following was read */
	int ntaken;						 /* in the question's days, -1: not known */
	TcSlotTaken taken[TC_SLOT_MAX_TAKEN];
} TcSlotAnswer;

extern void tc_slot_cache_init(void);

/*
 * Answers from memory, or has the worker ask and waits up to max_wait µs, interruptibly.  An
 * answer older than max_age µs does not do.
 */
extern void tc_slot_cache_get(const TcSlotQuestion *question, int64 max_wait, int64 max_age,
							  TcSlotAnswer *answer);

/* Keeps beside an answer what is taken here in the question's days, as of tc_clock_us(). */
extern void tc_slot_cache_keep_taken(const TcSlotQuestion *question, const TcSlotAnswer *answer,
									 int64 as_of);

#endif /* TC_SLOT_CACHE_H */
