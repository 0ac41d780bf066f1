/*
 * rate_evict.c
 *		Room in the table of buckets: making an entry, and who makes way.
 *
 * A full bucket says nothing that no bucket does not say.  In the last eighth of the table, each
 * new bucket looks at a few slots of its own partition and drops the full ones.  When the table is
 * used up nevertheless, all partitions are searched, a bounded number of slots each.  If that
 * finds none, tenantcall.rate_full decides: the request is refused, or passes, or the one of a
 * sample that is nearest to being full makes way, and what it lacked is counted as forgiven.
 *
 * Buckets of callers' own making (numbers, calls, functions of calls) count against their company,
 * which gets an eighth of the table for them: whoever makes keys up harms only himself.  When its
 * part is used up, full ones are searched in all partitions first, too.
 *
 * Locks: see rate_table.c.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/lwlock.h"

#include "rate_clock.h"
#include "rate_evict.h"
#include "rate_lock.h"
#include "rate_past.h"
#include "rate_shared.h"
#include "stat.h"

#define SWEPT_SLOTS 6	  /* by each new bucket */
#define FORCED 4		  /* attempts to make a bucket make way */
#define SAMPLE 16		  /* entries, of which one makes way */
#define SLOTS_PER_HOLD 24 /* looked at under one hold of a lock */

int tc_rate_full = TC_RATE_FULL_DENY; /* setting */

/* Drops an entry and keeps its counts for the table as a whole.  Exclusive lock. */
static void
evict(TcRateEntry *entry)
{
	TcRateShared *shared = tc_rate_table_here.shared;
	TcRateRecord *record = tc_rate_record(entry);

	pg_atomic_fetch_add_u64(&shared->evicted, 1);
	pg_atomic_fetch_add_u64(&shared->evicted_allowed, pg_atomic_read_u64(&entry->allowed));
	pg_atomic_fetch_add_u64(&shared->evicted_denied, pg_atomic_read_u64(&record->denied));
	pg_atomic_fetch_add_u64(&shared->evicted_would_deny, pg_atomic_read_u64(&record->would_deny));
	tc_rate_past_add(entry);
	tc_rate_unlink(entry);
	tc_rate_passes(TC_RATE_PLACE_EVICT);
}

/* The next slots to look at in a partition: how many, and the first. */
static uint32
next_slots(uint32 at_most, uint32 *first)
{
	uint32 n = Min(at_most, tc_rate_table_here.per_partition);

	*first = pg_atomic_fetch_add_u32(&tc_rate_table_here.shared->hand, n);
	return n;
}

/* A slot of a partition, whose numbers go round. */
static inline TcRateEntry *
slot_of(uint32 partition, uint32 number)
{
	return tc_rate_slot(partition, number % tc_rate_table_here.per_partition);
}

/* Drops the full entries among the next slots; returns how many.  Exclusive lock. */
static int
sweep_slots(uint32 partition, uint32 at_most, int64 now)
{
	uint32 first;
	uint32 n = next_slots(at_most, &first);
	int freed = 0;

	for (uint32 i = 0; i < n; i++)
	{
		TcRateEntry *entry = slot_of(partition, first + i);

		if (!tc_rate_in_use(entry) ||
			!tc_rate_is_full(&tc_rate_record(entry)->math, tc_rate_state(entry), now))
			continue;
		evict(entry);
		freed++;
	}
	return freed;
}

/*
 * Drops the full entries of a few slots in the hash's partition, whose lock is held exclusively.
 * Not while there is room, since a bucket that is used again is cheaper than a new one.
 */
static void
sweep_some(uint32 hash, int64 now)
{
	TcRateShared *shared = tc_rate_table_here.shared;

	if (pg_atomic_read_u64(&shared->used) >= shared->max_entries - shared->max_entries / 8)
		(void) sweep_slots(hash % TC_RATE_PARTITIONS, SWEPT_SLOTS, now);
}

/* Drops full entries of one partition, looking at a bounded number of slots; returns how many. */
static int
sweep_partition(uint32 partition, int64 now)
{
	int freed;

	if (!tc_rate_lock_briefly(partition, LW_EXCLUSIVE))
		return 0;
	freed = sweep_slots(partition, SLOTS_PER_HOLD, now);
	LWLockRelease(tc_rate_lock(partition));
	return freed;
}

/* When the bucket of an entry will be full. */
static int64
time_to_full(TcRateEntry *entry, int64 now)
{
	TcRateView view;

	tc_rate_view(&tc_rate_record(entry)->math, tc_rate_state(entry), now, 1, &view);
	return view.reset_after;
}

/* Some slots of a partition. */
typedef struct Sample
{
	uint32 partition;
	uint32 first;
	uint32 n;
} Sample;

/*
 * The one of a sample that is full soonest; NULL if there is none.  Any lock.  *seen counts the
 * entries looked at, *best_time is when it is full.
 */
static TcRateEntry *
nearest_to_full(const Sample *sample, int64 now, int *seen, int64 *best_time)
{
	TcRateEntry *best = NULL;

	*best_time = TC_RATE_FAR;
	for (uint32 i = 0; i < sample->n; i++)
	{
		TcRateEntry *entry = slot_of(sample->partition, sample->first + i);
		int64 time;

		if (!tc_rate_in_use(entry))
			continue;
		(*seen)++;
		time = time_to_full(entry, now);
		if (best != NULL && time >= *best_time)
			continue;
		best = entry;
		*best_time = time;
	}
	return best;
}

/* The sample, of some partitions, that has the bucket that is full soonest; when that is. */
static int64
choose_sample(uint32 hash, int64 now, Sample *best)
{
	int64 best_time = PG_INT64_MAX;
	int seen = 0;

	for (uint32 i = 0; i < TC_RATE_PARTITIONS && seen < SAMPLE; i++)
	{
		Sample sample = {.partition = (hash + i) % TC_RATE_PARTITIONS};
		int before = seen;
		int64 time;

		if (!tc_rate_lock_briefly(sample.partition, LW_SHARED))
			continue;
		sample.n = next_slots(SLOTS_PER_HOLD, &sample.first);
		(void) nearest_to_full(&sample, now, &seen, &time);
		LWLockRelease(tc_rate_lock(sample.partition));
		if (seen == before || time >= best_time)
			continue;
		*best = sample;
		best_time = time;
	}
	return best_time;
}

/* Makes the bucket that is nearest to full, of a sample, make way, if it still is. */
static void
force_out(uint32 hash, int64 now)
{
	TcRateShared *shared = tc_rate_table_here.shared;
	Sample sample = {0};
	int64 best_time = choose_sample(hash, now, &sample);
	TcRateEntry *entry;
	int seen = 0;
	int64 time;

	if (sample.n == 0 || !tc_rate_lock_briefly(sample.partition, LW_EXCLUSIVE))
		return;
	entry = nearest_to_full(&sample, now, &seen, &time);
	if (entry != NULL && time <= best_time)
	{
		TcRateView view;

		tc_rate_view(&tc_rate_record(entry)->math, tc_rate_state(entry), now, 1, &view);
		pg_atomic_fetch_add_u64(&shared->forced, 1);
		pg_atomic_fetch_add_u64(&shared->forgiven,
								tc_rate_record(entry)->math.burst - view.remaining);
		evict(entry);
	}
	LWLockRelease(tc_rate_lock(sample.partition));
}

/*
 * Reserves a place, if need be one that another bucket makes way for.  No lock may be held.  Every
 * partition is looked at once before the answer is no.
 */
static bool
make_room(uint32 hash, int64 now)
{
	bool reserved = tc_rate_reserve_place();
	bool force = tc_rate_full == TC_RATE_FULL_EVICT;

	for (uint32 i = 0; !reserved && i < TC_RATE_PARTITIONS; i++)
	{
		if (sweep_partition((hash + i) % TC_RATE_PARTITIONS, now) > 0)
			reserved = tc_rate_reserve_place();
	}
	for (uint32 i = 0; !reserved && force && i < FORCED; i++)
	{
		force_out(hash + i * SAMPLE, now);
		reserved = tc_rate_reserve_place();
	}
	return reserved;
}

/* Drops full entries until the key's company may have one more of its own making, or all are seen.
 */
static bool
make_room_in_share(const TcRateKey *key, uint32 hash, int64 now)
{
	for (uint32 i = 0; !tc_rate_share_left(key) && i < TC_RATE_PARTITIONS; i++)
		(void) sweep_partition((hash + i) % TC_RATE_PARTITIONS, now);
	return tc_rate_share_left(key);
}

/* Reserves a place; while room has to be made, the partition is not locked. */
static bool
reserve(const TcRateKey *key, uint32 hash, int64 now, bool *locked)
{
	bool reserved = tc_rate_share_left(key) && tc_rate_reserve_place();

	if (reserved)
		return true;
	LWLockRelease(tc_rate_lock(hash));
	reserved = make_room_in_share(key, hash, now) && make_room(hash, now);
	*locked = tc_rate_lock_wait(hash, LW_EXCLUSIVE);
	return reserved;
}

/* Makes the key's entry; returns it, or NULL, with its partition locked if *locked says so. */
static TcRateEntry *
make_entry(const TcRateKey *key, uint32 hash, int64 now, bool *locked)
{
	TcRateEntry *entry = NULL;
	bool linked = false;
	bool reserved;

	HOLD_INTERRUPTS(); /* a reserved place must not get lost */
	sweep_some(hash, now);
	reserved = reserve(key, hash, now, locked);
	if (*locked)
		entry = tc_rate_find(key, hash);
	if (reserved && *locked && entry == NULL)
	{
		entry = tc_rate_link(key, hash);
		linked = entry != NULL;
	}
	if (reserved && !linked)
		tc_rate_release_place();
	RESUME_INTERRUPTS();
	return entry;
}

/* Finds the key's entry or makes one: see rate_evict.h. */
TcRateEntry *
tc_rate_enter(const TcRateKey *key, uint32 hash, int64 now, TcTakeReason *why)
{
	TcRateShared *shared = tc_rate_table_here.shared;
	TcRateEntry *entry;
	bool locked = true;

	*why = TC_TAKE_UNAVAILABLE;
	if (!tc_rate_lock_wait(hash, LW_EXCLUSIVE))
		return NULL;
	entry = tc_rate_find(key, hash);
	if (entry == NULL)
		entry = make_entry(key, hash, now, &locked);
	if (entry != NULL || !locked)
		return entry;
	LWLockRelease(tc_rate_lock(hash));
	pg_atomic_fetch_add_u64(tc_rate_full == TC_RATE_FULL_ALLOW ? &shared->passed : &shared->refused,
							1);
	tc_stat_note(TC_STAT_TABLE_FULL, "");
	*why = TC_TAKE_TABLE_FULL;
	return NULL;
}
