/*
 * slot_stat.c
 *		Statistics of the slot cache, by company and credential.
 *
 * A table of fixed size in the shared memory of slot_table.c, probed linearly; whoever finds no
 * room is counted in the last place, under company 0.  tc_slot_lock: exclusive to take a place,
 * none to count.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

#include "slot_stat.h"
#include "slot_table.h"

#define MAX_PROBES 64

/* Is it the place of this company and credential? */
static bool
is_place_of(const TcSlotCounters *counters, const TcSlotQuestion *question)
{
	return counters->database == question->database &&
		   counters->company_id == question->company_id &&
		   strncmp(counters->credential, question->credential, NAMEDATALEN) == 0;
}

/* The counters of a company and credential. */
uint32
tc_slot_stat_of(const TcSlotQuestion *question)
{
	uint32 hash = hash_bytes((const unsigned char *) question->credential, NAMEDATALEN);

	hash = hash_combine(hash, hash_bytes_uint32((uint32) question->company_id));
	hash = hash_combine(hash, hash_bytes_uint32(question->database));
	for (uint32 i = 0; i < MAX_PROBES; i++)
	{
		uint32 at = (hash + i) % (TC_SLOT_STATS - 1);
		TcSlotCounters *counters = &tc_slot_shared->stat[at];

		if (is_place_of(counters, question))
			return at;
		if (counters->database != InvalidOid)
			continue;
		counters->database = question->database;
		counters->company_id = question->company_id;
		memcpy(counters->credential, question->credential, NAMEDATALEN);
		counters->entries = 0;
		return at;
	}
	tc_slot_shared->stat[TC_SLOT_STATS - 1].database = question->database;
	return TC_SLOT_STATS - 1;
}

/* Counts one. */
void
tc_slot_count(uint32 stat, TcSlotCount what)
{
	TcSlotCounters *counters = &tc_slot_shared->stat[stat];

	pg_atomic_fetch_add_u64(&counters->count[what], 1);
	if (what == TC_SLOT_FAILURES || what == TC_SLOT_REFUSALS || what == TC_SLOT_TIMEOUTS)
		pg_atomic_write_u64(&counters->last_failed_at, (uint64) GetCurrentTimestamp());
}

/* Counts a caller by how long the answer took. */
void
tc_slot_count_wait(uint32 stat, int64 us)
{
	TcSlotCounters *counters = &tc_slot_shared->stat[stat];
	int bucket = 0;

	while (bucket < TC_SLOT_WAIT_BUCKETS - 1 && us > (int64) TC_SLOT_WAIT_FIRST << bucket)
		bucket++;
	pg_atomic_fetch_add_u64(&counters->waited[bucket], 1);
	pg_atomic_fetch_add_u64(&counters->waited_us, us);
}

/* Copies the statistics of this database. */
int
tc_slot_cache_stats(TcSlotStat **stats)
{
	int count = 0;

	*stats = palloc0(sizeof(TcSlotStat) * TC_SLOT_STATS);
	LWLockAcquire(tc_slot_lock, LW_SHARED);
	for (int i = 0; i < TC_SLOT_STATS; i++)
	{
		TcSlotCounters *from = &tc_slot_shared->stat[i];
		TcSlotStat *to = &(*stats)[count];

		if (from->database != MyDatabaseId)
			continue;
		to->database = from->database;
		to->company_id = from->company_id;
		memcpy(to->credential, from->credential, NAMEDATALEN);
		to->entries = from->entries;
		to->hits = pg_atomic_read_u64(&from->count[TC_SLOT_HITS]);
		to->stale = pg_atomic_read_u64(&from->count[TC_SLOT_STALE_HITS]);
		to->misses = pg_atomic_read_u64(&from->count[TC_SLOT_MISSES]);
		to->waits = pg_atomic_read_u64(&from->count[TC_SLOT_WAITS]);
		to->fetched = pg_atomic_read_u64(&from->count[TC_SLOT_FETCHES]);
		to->discarded = pg_atomic_read_u64(&from->count[TC_SLOT_DISCARDED]);
		to->failed = pg_atomic_read_u64(&from->count[TC_SLOT_FAILURES]);
		to->refused = pg_atomic_read_u64(&from->count[TC_SLOT_REFUSALS]);
		to->timed_out = pg_atomic_read_u64(&from->count[TC_SLOT_TIMEOUTS]);
		for (int k = 0; k < TC_SLOT_WAIT_BUCKETS; k++)
			to->waited[k] = pg_atomic_read_u64(&from->waited[k]);
		to->waited_us = pg_atomic_read_u64(&from->waited_us);
		to->last_failed_at = (int64) pg_atomic_read_u64(&from->last_failed_at);
		count++;
	}
	LWLockRelease(tc_slot_lock);
	return count;
}

/* Sets the counts of this database to 0; the places stay. */
void
tc_slot_cache_reset_stats(void)
{
	LWLockAcquire(tc_slot_lock, LW_EXCLUSIVE);
	for (int i = 0; i < TC_SLOT_STATS; i++)
	{
		if (tc_slot_shared->stat[i].database != MyDatabaseId)
			continue;
		for (int k = 0; k < TC_SLOT_N_COUNTS; k++)
			pg_atomic_write_u64(&tc_slot_shared->stat[i].count[k], 0);
		for (int k = 0; k < TC_SLOT_WAIT_BUCKETS; k++)
			pg_atomic_write_u64(&tc_slot_shared->stat[i].waited[k], 0);
		pg_atomic_write_u64(&tc_slot_shared->stat[i].waited_us, 0);
		pg_atomic_write_u64(&tc_slot_shared->stat[i].last_failed_at, 0);
	}
	LWLockRelease(tc_slot_lock);
}
