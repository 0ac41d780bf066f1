/*
 * rate_read.c
 *		Reading the table of buckets, for statistics.
 *
 * Buckets are copied a few slots at a time under a shared lock.
 */
#include "postgres.h"

#include "storage/lwlock.h"
#include "storage/proc.h"

#include "rate_lock.h"
#include "rate_shared.h"
#include "rate_stat.h"

/* Copies what others may be changing meanwhile. */
static void
copy_entry(TcRateEntry *entry, TcRateBucket *bucket)
{
	TcRateRecord *record = tc_rate_record(entry);

	bucket->key = tc_rate_key_of(entry);
	bucket->version = record->version;
	bucket->shadow = entry->shadow;
	bucket->paused = entry->paused;
	bucket->math = record->math;
	bucket->state = tc_rate_state(entry);
	bucket->allowed = pg_atomic_read_u64(&entry->allowed);
	bucket->denied = pg_atomic_read_u64(&record->denied);
	bucket->would_deny = pg_atomic_read_u64(&record->would_deny);
	bucket->last_denied_at = pg_atomic_read_u64(&record->last_denied_at);
	bucket->waited = pg_atomic_read_u64(&record->waited);
	bucket->refunded = pg_atomic_read_u64(&record->refunded);
	bucket->forgiven = pg_atomic_read_u64(&record->forgiven);
}

/*
 * Copies the next of a database's buckets, of a few slots under one hold of a shared lock.
 * *position starts at 0; returns their number, or -1 at the end.
 */
int
tc_rate_read(uint64 *position, Oid database, TcRateBucket buckets[TC_RATE_READ_AT_ONCE])
{
	uint32 slots = tc_rate_table_here.per_partition;
	uint32 partition = *position / slots;
	uint32 number = *position % slots;
	uint32 stop = Min(number + TC_RATE_READ_AT_ONCE, slots);
	int n = 0;

	if (partition >= TC_RATE_PARTITIONS)
		return -1;
	*position += stop - number;
	/* left out is what somebody who is stopped, or was killed, has locked; the postmaster never
	 * waits */
	if (!LWLockConditionalAcquire(tc_rate_lock(partition), LW_SHARED) &&
		(MyProc == NULL || !tc_rate_lock_wait(partition, LW_SHARED)))
	{
		*position = (uint64) (partition + 1) * slots;
		return 0;
	}
	tc_rate_passes(TC_RATE_PLACE_READ);
	for (; number < stop; number++)
	{
		TcRateEntry *entry = tc_rate_slot(partition, number);

		if (tc_rate_in_use(entry) && (entry->database == database || database == InvalidOid))
			copy_entry(entry, &buckets[n++]);
	}
	LWLockRelease(tc_rate_lock(partition));
	return n;
}

/* Sets the counts of an entry to 0.  Any lock. */
static void
reset_entry(TcRateEntry *entry)
{
	TcRateRecord *record = tc_rate_record(entry);

	pg_atomic_write_u64(&entry->allowed, 0);
	pg_atomic_write_u64(&record->denied, 0);
	pg_atomic_write_u64(&record->would_deny, 0);
	pg_atomic_write_u64(&record->last_denied_at, 0);
	pg_atomic_write_u64(&record->waited, 0);
	pg_atomic_write_u64(&record->refunded, 0);
	pg_atomic_write_u64(&record->forgiven, 0);
}

/* Sets the counts of a database's buckets in some slots to 0. */
static void
reset_slots(uint32 partition, uint32 number, uint32 stop, Oid database)
{
	tc_rate_lock_or_raise(partition, LW_SHARED);
	for (; number < stop; number++)
	{
		TcRateEntry *entry = tc_rate_slot(partition, number);

		if (entry->database == database)
			reset_entry(entry);
	}
	LWLockRelease(tc_rate_lock(partition));
}

/* Sets the counts of a database's buckets to 0; what the buckets hold stays. */
void
tc_rate_reset_counts(Oid database)
{
	uint32 slots = tc_rate_table_here.per_partition;

	for (uint32 partition = 0; partition < TC_RATE_PARTITIONS; partition++)
	{
		for (uint32 number = 0; number < slots; number += TC_RATE_READ_AT_ONCE)
			reset_slots(partition, number, Min(number + TC_RATE_READ_AT_ONCE, slots), database);
	}
}

/* Counts of the whole table. */
void
tc_rate_table_stat(TcRateTableStat *stat)
{
	TcRateShared *shared = tc_rate_table_here.shared;

	stat->max_buckets = shared->max_entries;
	stat->used = pg_atomic_read_u64(&shared->used);
	stat->evicted = pg_atomic_read_u64(&shared->evicted);
	stat->evicted_allowed = pg_atomic_read_u64(&shared->evicted_allowed);
	stat->evicted_denied = pg_atomic_read_u64(&shared->evicted_denied);
	stat->evicted_would_deny = pg_atomic_read_u64(&shared->evicted_would_deny);
	stat->refused = pg_atomic_read_u64(&shared->refused);
	stat->passed = pg_atomic_read_u64(&shared->passed);
	stat->forced = pg_atomic_read_u64(&shared->forced);
	stat->forgiven = pg_atomic_read_u64(&shared->forgiven);
	stat->unavailable = pg_atomic_read_u64(&shared->unavailable);
}
