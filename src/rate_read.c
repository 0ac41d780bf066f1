/*
 * rate_read.c
 *		Reading the table of buckets, for statistics.
 *
 * Buckets are copied a few chains at a time under a shared lock.
 */
#include "postgres.h"

#include "storage/lwlock.h"
#include "storage/proc.h"

#include "rate_lock.h"
#include "rate_shared.h"
#include "rate_stat.h"

#define CHAINS_AT_ONCE 64 /* read under one hold of a lock */

/* Copies what others may be changing meanwhile. */
static void
copy_entry(TcRateEntry *entry, TcRateBucket *bucket)
{
	bucket->key = entry->key;
	bucket->version = entry->version;
	bucket->shadow = entry->shadow;
	bucket->paused = entry->paused;
	bucket->math = entry->math;
	bucket->state = tc_rate_state(entry);
	bucket->allowed = pg_atomic_read_u64(&entry->allowed);
	bucket->denied = pg_atomic_read_u64(&entry->denied);
	bucket->would_deny = pg_atomic_read_u64(&entry->would_deny);
	bucket->last_denied_at = pg_atomic_read_u64(&entry->last_denied_at);
	bucket->waited = pg_atomic_read_u64(&entry->waited);
	bucket->refunded = pg_atomic_read_u64(&entry->refunded);
	bucket->forgiven = pg_atomic_read_u64(&entry->forgiven);
}

/* Copies a database's entries of one chain as far as there is room; returns how many. */
static int
read_chain(uint32 chain, Oid database, TcRateBucket *buckets, int room)
{
	uint32 number;
	int n = 0;

	for (number = tc_rate_table_here.heads[chain]; number != TC_RATE_NO_ENTRY && n < room;
		 number = tc_rate_entry(number)->next)
	{
		if (tc_rate_entry(number)->key.database == database || database == InvalidOid)
			copy_entry(tc_rate_entry(number), &buckets[n++]);
	}
	return n;
}

/*
 * Copies the next of a database's buckets, of a few chains under one hold of a shared lock.
 * *position starts at 0; returns their number, or -1 at the end.
 */
int
tc_rate_read(uint64 *position, Oid database, TcRateBucket buckets[TC_RATE_READ_AT_ONCE])
{
	uint32 chains = (tc_rate_table_here.shared->mask + 1) / TC_RATE_PARTITIONS;
	uint32 partition = *position / chains;
	uint32 chain = *position % chains;
	uint32 stop = Min(chain + CHAINS_AT_ONCE, chains);
	int n = 0;

	if (partition >= TC_RATE_PARTITIONS)
		return -1;
	*position += stop - chain;
	/* what somebody who is stopped, or was killed, has locked is left out; the postmaster never
	 * waits */
	if (!LWLockConditionalAcquire(tc_rate_lock(partition), LW_SHARED) &&
		(MyProc == NULL || !tc_rate_lock_wait(partition, LW_SHARED)))
	{
		*position = (uint64) (partition + 1) * chains;
		return 0;
	}
	tc_rate_passes(TC_RATE_PLACE_READ);
	for (; chain < stop; chain++)
		n += read_chain(partition + chain * TC_RATE_PARTITIONS, database, &buckets[n],
						TC_RATE_READ_AT_ONCE - n);
	LWLockRelease(tc_rate_lock(partition));
	return n;
}

/* Sets the counts of an entry to 0.  Any lock. */
static void
reset_entry(TcRateEntry *entry)
{
	pg_atomic_write_u64(&entry->allowed, 0);
	pg_atomic_write_u64(&entry->denied, 0);
	pg_atomic_write_u64(&entry->would_deny, 0);
	pg_atomic_write_u64(&entry->last_denied_at, 0);
	pg_atomic_write_u64(&entry->waited, 0);
	pg_atomic_write_u64(&entry->refunded, 0);
	pg_atomic_write_u64(&entry->forgiven, 0);
}

/* Sets the counts of a database's buckets to 0; what the buckets hold stays. */
void
tc_rate_reset_counts(Oid database)
{
	uint32 chains = tc_rate_table_here.shared->mask + 1;

	for (uint32 chain = 0; chain < chains; chain++)
	{
		uint32 number;

		tc_rate_lock_or_raise(chain, LW_SHARED);
		for (number = tc_rate_table_here.heads[chain]; number != TC_RATE_NO_ENTRY;
			 number = tc_rate_entry(number)->next)
		{
			if (tc_rate_entry(number)->key.database == database)
				reset_entry(tc_rate_entry(number));
		}
		LWLockRelease(tc_rate_lock(chain));
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
