/*
 * slot_count.h
 *		What the slot cache counts; within its own files.
 */
#ifndef TC_SLOT_COUNT_H
#define TC_SLOT_COUNT_H

#include "postgres.h"

#include "port/atomics.h"

#include "slot_cache.h"
#include "slot_stat.h"

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
	pg_atomic_uint64 waited[TC_SLOT_WAIT_BUCKETS];
	pg_atomic_uint64 waited_us;
	pg_atomic_uint64 last_failed_at; /* TimestampTz */
} TcSlotCounters;

#define TC_SLOT_STATS 4096 /* the last one is for those that found no room */

/* The counters of a company and credential, made if need be (exclusive), and counting (any). */
extern uint32 tc_slot_stat_of(const TcSlotQuestion *question);
extern void tc_slot_count(uint32 stat, TcSlotCount what);
extern void tc_slot_count_wait(uint32 stat, int64 us);

#endif /* TC_SLOT_COUNT_H */
