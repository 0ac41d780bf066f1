/*
 * slot_table.h
 *		The table behind slot_cache.h: for its own files only.
 */
#ifndef TC_SLOT_TABLE_H
#define TC_SLOT_TABLE_H

#include "postgres.h"

#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"

#include "slot_cache.h"

#define TC_SLOT_NONE UINT32_MAX /* no entry, no page */
#define TC_SLOT_GROUPS 1024		/* companies share a group by hash */

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

typedef struct TcSlotGroup
{
	uint32 oldest, newest;
	int count;
} TcSlotGroup;

/* Counters of one company and credential. */
typedef enum TcSlotCount
{
	TC_SLOT_HITS,
	TC_SLOT_STALE_HITS,
	TC_SLOT_MISSES,
	TC_SLOT_WAITS,
	TC_SLOT_FETCHES,
	TC_SLOT_DISCARDED,
	TC_SLOT_FAILURES,
	TC_SLOT_REFUSALS,
	TC_SLOT_TIMEOUTS,
	TC_SLOT_N_COUNTS
} TcSlotCount;

typedef struct TcSlotCounters
{
	Oid database; /* InvalidOid: not in use */
	int64 company_id;
	char credential[NAMEDATALEN];
	int entries;
	pg_atomic_uint64 count[TC_SLOT_N_COUNTS];
} TcSlotCounters;

#define TC_SLOT_STATS 4096 /* the last one is for those that found no room */

typedef struct TcSlotShared
{
	int max_entries;
	int max_pages;
	uint32 mask; /* of chains */
	uint32 free_entry;
	uint32 free_page;
	int free_pages;
	uint32 hand; /* of the clock */
	uint32 queue_first, queue_last;
	TcSlotGroup group[TC_SLOT_GROUPS];
	TcSlotCounters stat[TC_SLOT_STATS];
} TcSlotShared;

extern TcSlotShared *tc_slot_shared;
extern TcSlotEntry *tc_slot_entries;
extern TcSlotPage *tc_slot_pages;
extern LWLock *tc_slot_lock;

extern void tc_slot_table_init(void);

/* The entry of a question, or NULL.  Either lock. */
extern TcSlotEntry *tc_slot_find(const TcSlotQuestion *question);

/* The entry, made if need be; NULL: the company has its share of the table in use.  Exclusive. */
extern TcSlotEntry *tc_slot_find_or_make(const TcSlotQuestion *question);

/* Replaces the answer's starts; false: no room.  Exclusive. */
extern bool tc_slot_store(TcSlotEntry *entry, const TimestampTz *starts, int count);

/* Copies them, palloc'd by the caller.  Either lock. */
extern void tc_slot_load(const TcSlotEntry *entry, TimestampTz *starts);

/* The queue to the worker.  Exclusive. */
extern void tc_slot_enqueue(TcSlotEntry *entry);
extern TcSlotEntry *tc_slot_dequeue(Oid database);

/* The counters of a company and credential, made if need be (exclusive), and counting (any). */
extern uint32 tc_slot_stat_of(const TcSlotQuestion *question);
extern void tc_slot_count(uint32 stat, TcSlotCount what);

static inline uint32
tc_slot_number(const TcSlotEntry *entry)
{
	return (uint32) (entry - tc_slot_entries);
}

#endif /* TC_SLOT_TABLE_H */
