/*
 * slot_stat.h
 *		Statistics of the slot cache, by company and credential.
 */
#ifndef TC_SLOT_STAT_H
#define TC_SLOT_STAT_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* Callers who waited up to 125 us, twice as long, ..., 8.192 s, and longer. */
#define TC_SLOT_WAIT_BUCKETS 18
#define TC_SLOT_WAIT_FIRST 125 /* us */

/* Statistics of one company and credential; see view stat_cache. */
typedef struct TcSlotStat
{
	Oid database;
	int64 company_id; /* 0: companies that found no room of their own */
	char credential[NAMEDATALEN];
	uint64 hits;
	uint64 stale;
	uint64 misses;	  /* began a fetch */
	uint64 waits;	  /* joined one that was under way */
	uint64 fetched;	  /* answers of the calendar */
	uint64 discarded; /* answers that a change overtook */
	uint64 failed;
	uint64 refused; /* not even asked: no room, or no worker */
	uint64 timed_out;
	int entries; /* kept now */
	uint64 waited[TC_SLOT_WAIT_BUCKETS];
	uint64 waited_us;			/* all of them together */
	TimestampTz last_failed_at; /* 0: never */
} TcSlotStat;

/* Copies the statistics of this database; returns their number, palloc'd. */
extern int tc_slot_cache_stats(TcSlotStat **stats);
extern void tc_slot_cache_reset_stats(void);

#endif /* TC_SLOT_STAT_H */
