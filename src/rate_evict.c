/*
 * rate_evict.c
 *		Room in the table of buckets: the free list, and who makes way.
 *
 * A full bucket says nothing that no bucket does not say.  In the last eighth of the table, each
 * new bucket sweeps a few chains of its own partition and drops the full ones.  When the table is
 * used up nevertheless, all partitions are searched, a bounded number of entries each.  If that
 * finds none, tenantcall.rate_full decides: the request is refused, or passes, or the one of a
 *sample that is nearest to being full makes way, and what it lacked is counted as forgiven.
 *
 * Buckets of callers' own making (numbers, calls, functions of calls) count against their company,
 * which gets an eighth of the table for them: whoever makes keys up harms only himself.
 *
 * Locks: see rate_shmem.c.  The free list is a stack linked by index, changed by compare-and-swap;
 * the upper half of its head counts changes, so that a head seen twice is the same stack.
 */
#include "postgres.h"

#include "storage/lwlock.h"

#include "rate_lock.h"
#include "rate_past.h"
#include "rate_shared.h"

#define SWEPT_CHAINS 4	   /* by each new bucket */
#define FORCED 4		   /* attempts to make a bucket make way */
#define SAMPLE 16		   /* entries, of which one makes way */
#define CHAINS_PER_HOLD 16 /* looked at under one hold of a lock */

int tc_rate_full = TC_RATE_FULL_DENY; /* setting */

/* Takes an unused entry; TC_RATE_NO_ENTRY if there is none. */
uint32
tc_rate_pop_free(void)
{
	TcRateShared *shared = tc_rate_table_here.shared;
	uint64 head = pg_atomic_read_u64(&shared->free_list);
	uint32 fresh;

	while ((uint32) head != TC_RATE_NO_ENTRY)
	{
		uint64 next = (((head >> 32) + 1) << 32) | tc_rate_entry((uint32) head)->next;

		if (pg_atomic_compare_exchange_u64(&shared->free_list, &head, next))
			return (uint32) head;
	}
	fresh = pg_atomic_read_u32(&shared->handed_out);
	while (fresh < shared->max_entries)
	{
		if (pg_atomic_compare_exchange_u32(&shared->handed_out, &fresh, fresh + 1))
			return fresh + 1;
	}
	return TC_RATE_NO_ENTRY;
}

/* Gives an entry, already unlinked, to the free list. */
void
tc_rate_push_free(uint32 number)
{
	TcRateShared *shared = tc_rate_table_here.shared;
	uint64 head = pg_atomic_read_u64(&shared->free_list);
	uint64 next;

	do
	{
		tc_rate_entry(number)->next = (uint32) head;
		next = (((head >> 32) + 1) << 32) | number;
	} while (!pg_atomic_compare_exchange_u64(&shared->free_list, &head, next));
}

/* Where a company's buckets of its own making are counted; NULL for other buckets. */
pg_atomic_uint32 *
tc_rate_share(const TcRateKey *key)
{
	uint64 mixed;

	if (key->detail == 0)
		return NULL;
	mixed = (key->subject[0] ^ key->database) * UINT64CONST(0x9e3779b97f4a7c15);
	if (key->level & TC_RATE_BY_UUID)
		mixed ^= key->subject[1] * UINT64CONST(0x9e3779b97f4a7c15);
	return &tc_rate_table_here.shared->shares[(mixed >> 32) % TC_RATE_SHARES];
}

/* Unlinks an entry and keeps its counts for the table as a whole.  Exclusive lock. */
static void
evict(uint32 *link)
{
	TcRateShared *shared = tc_rate_table_here.shared;
	uint32 number = *link;
	TcRateEntry *entry = tc_rate_entry(number);
	pg_atomic_uint32 *share = tc_rate_share(&entry->key);

	*link = entry->next;
	tc_rate_passes(TC_RATE_PLACE_EVICT);
	tc_rate_past_add(entry);
	pg_atomic_fetch_add_u64(&shared->evicted, 1);
	pg_atomic_fetch_add_u64(&shared->evicted_allowed, pg_atomic_read_u64(&entry->allowed));
	pg_atomic_fetch_add_u64(&shared->evicted_denied, pg_atomic_read_u64(&entry->denied));
	pg_atomic_fetch_add_u64(&shared->evicted_would_deny, pg_atomic_read_u64(&entry->would_deny));
	pg_atomic_fetch_sub_u64(&shared->used, 1);
	if (share != NULL)
		pg_atomic_fetch_sub_u32(share, 1);
	tc_rate_push_free(number);
}

/* Drops the full entries of a chain; returns how many.  Exclusive lock. */
static int
sweep_chain(uint32 chain, int64 now)
{
	uint32 *link = &tc_rate_table_here.heads[chain];
	int freed = 0;

	while (*link != TC_RATE_NO_ENTRY)
	{
		TcRateEntry *entry = tc_rate_entry(*link);

		if (tc_rate_is_full(&entry->math, tc_rate_state(entry), now))
		{
			evict(link);
			freed++;
		}
		else
			link = &entry->next;
	}
	return freed;
}

/* Number of chains in a partition. */
static inline uint32
chains_per_partition(void)
{
	return (tc_rate_table_here.shared->mask + 1) / TC_RATE_PARTITIONS;
}

/*
 * Drops the full entries of a few chains in the hash's partition, whose lock is held exclusively.
 * Not while there is room, since a bucket that is used again is cheaper than a new one.
 */
void
tc_rate_sweep(uint32 hash, int64 now)
{
	TcRateShared *shared = tc_rate_table_here.shared;
	uint32 chains = chains_per_partition();
	uint32 start;

	if (pg_atomic_read_u64(&shared->used) < shared->max_entries - shared->max_entries / 8)
		return;
	start = pg_atomic_fetch_add_u32(&shared->hand, SWEPT_CHAINS);
	for (uint32 i = 0; i < Min(chains, SWEPT_CHAINS); i++)
		(void) sweep_chain(hash % TC_RATE_PARTITIONS + TC_RATE_PARTITIONS * ((start + i) % chains),
						   now);
}

/* Drops full entries of one partition, looking at a bounded number of chains; returns how many. */
static int
sweep_partition(uint32 partition, int64 now)
{
	uint32 chains = chains_per_partition();
	uint32 n = Min(chains, CHAINS_PER_HOLD);
	uint32 start = pg_atomic_fetch_add_u32(&tc_rate_table_here.shared->hand, n);
	int freed = 0;

	if (!tc_rate_lock_briefly(partition, LW_EXCLUSIVE))
		return 0;
	for (uint32 i = 0; i < n && freed == 0; i++)
		freed += sweep_chain(partition + TC_RATE_PARTITIONS * ((start + i) % chains), now);
	LWLockRelease(tc_rate_lock(partition));
	return freed;
}

/* When the bucket of an entry will be full. */
static int64
time_to_full(TcRateEntry *entry, int64 now)
{
	TcRateView view;

	tc_rate_view(&entry->math, tc_rate_state(entry), now, 1, &view);
	return view.reset_after;
}

/*
 * The link to the one of a partition's sample that is full soonest; NULL if there is none.  Any
 * lock.  *seen counts the entries looked at, *best_time is when it is full.
 */
static uint32 *
nearest_to_full(uint32 partition, int64 now, int *seen, int64 *best_time)
{
	uint32 chains = chains_per_partition();
	uint32 start = pg_atomic_fetch_add_u32(&tc_rate_table_here.shared->hand, 1);
	uint32 *best = NULL;

	*best_time = TC_RATE_FAR;
	for (uint32 i = 0; i < Min(chains, CHAINS_PER_HOLD); i++)
	{
		uint32 chain = partition + TC_RATE_PARTITIONS * ((start + i) % chains);
		uint32 *link;

		for (link = &tc_rate_table_here.heads[chain]; *link != TC_RATE_NO_ENTRY;
			 link = &tc_rate_entry(*link)->next)
		{
			int64 time = time_to_full(tc_rate_entry(*link), now);

			(*seen)++;
			if (best != NULL && time >= *best_time)
				continue;
			best = link;
			*best_time = time;
		}
	}
	return best;
}

/* The partition, of some, whose sample has the bucket that is full soonest. */
static uint32
choose_partition(uint32 hash, int64 now)
{
	uint32 best = hash % TC_RATE_PARTITIONS;
	int64 best_time = PG_INT64_MAX;
	int seen = 0;

	for (uint32 i = 0; i < TC_RATE_PARTITIONS && seen < SAMPLE; i++)
	{
		uint32 partition = (hash + i) % TC_RATE_PARTITIONS;
		int before = seen;
		int64 time;

		if (!tc_rate_lock_briefly(partition, LW_SHARED))
			continue;
		(void) nearest_to_full(partition, now, &seen, &time);
		LWLockRelease(tc_rate_lock(partition));
		if (seen == before || time >= best_time)
			continue;
		best = partition;
		best_time = time;
	}
	return best;
}

/* Makes the bucket that is nearest to full, of a sample, make way. */
static void
force_out(uint32 hash, int64 now)
{
	TcRateShared *shared = tc_rate_table_here.shared;
	uint32 partition = choose_partition(hash, now);
	uint32 *link;
	int seen = 0;
	int64 time;

	if (!tc_rate_lock_briefly(partition, LW_EXCLUSIVE))
		return;
	link = nearest_to_full(partition, now, &seen, &time);
	if (link != NULL)
	{
		TcRateEntry *entry = tc_rate_entry(*link);
		TcRateView view;

		tc_rate_view(&entry->math, tc_rate_state(entry), now, 1, &view);
		pg_atomic_fetch_add_u64(&shared->forced, 1);
		pg_atomic_fetch_add_u64(&shared->forgiven, entry->math.burst - view.remaining);
		evict(link);
	}
	LWLockRelease(tc_rate_lock(partition));
}

/*
 * An unused entry, if need be one that another bucket makes way for.  No lock may be held.  Every
 * partition is looked at once before the answer is TC_RATE_NO_ENTRY.
 */
uint32
tc_rate_make_room(uint32 hash)
{
	uint32 number = tc_rate_pop_free();
	bool force = tc_rate_full == TC_RATE_FULL_EVICT;
	int64 now = tc_rate_now();
	uint32 i;

	for (i = 0; number == TC_RATE_NO_ENTRY && i < TC_RATE_PARTITIONS; i++)
	{
		if (sweep_partition((hash + i) % TC_RATE_PARTITIONS, now) > 0)
			number = tc_rate_pop_free();
	}
	for (i = 0; number == TC_RATE_NO_ENTRY && force && i < FORCED; i++)
	{
		force_out(hash + i * SAMPLE, now);
		number = tc_rate_pop_free();
	}
	return number;
}
