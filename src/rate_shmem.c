/*
 * rate_shmem.c
 *		The buckets of all databases, in static shared memory.
 *
 * A hash table of fixed size.  Chains start in heads[]; entries come from one array, handed out in
 * order until it is used up and from a free list afterwards.  An entry never moves, and its state
 * is one atomic word, s.
 *
 *		hash(key) --> heads[hash & mask] --> entry --> entry --> (none)
 *		                 |
 *		                 +-- protected by locks[hash % N_PARTITIONS]
 *
 * Locks, one per partition, never two at a time and never across anything that waits:
 *	shared		to follow a chain; to read base, version, limit; to change s by compare-and-swap;
 *				to count.  Buckets in use go on even while another backend is stopped here.
 *	exclusive	to link or unlink an entry and to change base, version and limit, which happens
 *				when a bucket is new, when a policy has changed, and once in hours (rebase).
 * The free list is a stack linked by index, changed by compare-and-swap; the upper half of its
 * head counts changes, so that a head seen twice is the same stack.
 *
 * A full bucket says nothing that no bucket does not say.  When there is no room, a bounded number
 * of entries is looked at and full ones make way.  If none does, the request is refused: whoever
 * makes keys up can then neither reset somebody's bucket nor pass unlimited.
 *
 * A bucket is converted upwards only, to a newer version of its policy.  A backend that still has
 * the older version goes by what the bucket says.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/guc.h"

#include "rate_stat.h"
#include "rate_table.h"

#define N_PARTITIONS 128
#define TRANCHE "tenantcall_rate"
#define NO_ENTRY 0				   /* entries are numbered from 1 */
#define MAX_CHAINS 16			   /* looked at to make room in a partition */
#define MAX_PROBES_IN_PARTITION 16 /* entries looked at there */
#define MAX_PROBES 512			   /* entries looked at in all */
#define CHAINS_AT_ONCE 64		   /* read under one hold of a lock */

typedef struct RateShared
{
	uint32 max_entries;
	uint32 mask;				 /* number of chains - 1 */
	pg_atomic_uint32 handed_out; /* entries[0 .. handed_out - 1] have been in use */
	pg_atomic_uint64 free_list;	 /* change count << 32 | entry */
	pg_atomic_uint32 hand;		 /* where to make room next */
	pg_atomic_uint64 used;
	pg_atomic_uint64 evicted;
	pg_atomic_uint64 evicted_allowed;
	pg_atomic_uint64 evicted_denied;
	pg_atomic_uint64 evicted_would_deny;
	pg_atomic_uint64 refused;
} RateShared;

static int max_buckets = 65536; /* setting */

static RateShared *shared = NULL;
static uint32 *heads = NULL;
static TcRateEntry *entries = NULL;
static LWLockPadded *locks = NULL;

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

/* Number of chains: a power of two, one entry per chain on average when full. */
static uint32
chain_count(void)
{
	uint32 n = N_PARTITIONS;

	while (n < (uint32) max_buckets)
		n *= 2;
	return n;
}

/* Size of the table. */
static Size
table_size(void)
{
	Size size = MAXALIGN(sizeof(RateShared));

	size = add_size(size, mul_size(chain_count(), sizeof(uint32)));
	size = add_size(size, PG_CACHE_LINE_SIZE);
	return add_size(size, mul_size(max_buckets, sizeof(TcRateEntry)));
}

/* shmem_request_hook: asks for memory and locks. */
static void
rate_shmem_request(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	RequestAddinShmemSpace(table_size());
	RequestNamedLWLockTranche(TRANCHE, N_PARTITIONS);
}

/* An empty table.  Entries are set up when they are handed out: their memory is untouched. */
static void
initialize_table(void)
{
	memset(shared, 0, sizeof(*shared));
	shared->max_entries = max_buckets;
	shared->mask = chain_count() - 1;
	pg_atomic_init_u32(&shared->handed_out, 0);
	pg_atomic_init_u64(&shared->free_list, NO_ENTRY);
	pg_atomic_init_u32(&shared->hand, 0);
	pg_atomic_init_u64(&shared->used, 0);
	pg_atomic_init_u64(&shared->evicted, 0);
	pg_atomic_init_u64(&shared->evicted_allowed, 0);
	pg_atomic_init_u64(&shared->evicted_denied, 0);
	pg_atomic_init_u64(&shared->evicted_would_deny, 0);
	pg_atomic_init_u64(&shared->refused, 0);
	memset(heads, 0, sizeof(uint32) * chain_count());
}

/* shmem_startup_hook: finds the table, or creates it. */
static void
rate_shmem_startup(void)
{
	bool found;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("tenantcall rate buckets", table_size(), &found);
	heads = (uint32 *) ((char *) shared + MAXALIGN(sizeof(RateShared)));
	entries = (TcRateEntry *) CACHELINEALIGN(heads + chain_count());
	locks = GetNamedLWLockTranche(TRANCHE);
	if (!found)
		initialize_table();
	LWLockRelease(AddinShmemInitLock);
}

/* While preloaded, defines the setting and asks for shared memory. */
void
tc_rate_shmem_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	DefineCustomIntVariable("tenantcall.rate_max_buckets",
							"Number of rate limit buckets that shared memory has room for.",
							"A bucket is one policy of one company that is not full; each takes "
							"about 200 bytes.",
							&max_buckets, 65536, 1, 16 * 1024 * 1024, PGC_POSTMASTER, 0, NULL, NULL,
							NULL);
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = rate_shmem_request;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = rate_shmem_startup;
}

/* The lock of a hash's partition. */
LWLock *
tc_rate_lock(uint32 hash)
{
	return &locks[hash % N_PARTITIONS].lock;
}

/* The entry of a number from 1. */
static inline TcRateEntry *
entry_of(uint32 number)
{
	return &entries[number - 1];
}

/*
 * Has the processor fetch the chain's head and first entry.  No lock: what is read may be old, and
 * is used for nothing else.
 */
void
tc_rate_prefetch(uint32 hash)
{
	uint32 number = *(volatile uint32 *) &heads[hash & shared->mask];

	if (number != NO_ENTRY)
	{
		__builtin_prefetch(entry_of(number));
		__builtin_prefetch((char *) entry_of(number) + 64);
	}
}

/* The key's entry, or NULL.  The partition must be locked. */
TcRateEntry *
tc_rate_find(const TcRateKey *key, uint32 hash)
{
	uint32 number = heads[hash & shared->mask];

	while (number != NO_ENTRY)
	{
		TcRateEntry *entry = entry_of(number);

		if (memcmp(&entry->key, key, sizeof(TcRateKey)) == 0)
			return entry;
		number = entry->next;
	}
	return NULL;
}

/* Takes an unused entry; NO_ENTRY if there is none. */
static uint32
pop_free(void)
{
	uint64 head = pg_atomic_read_u64(&shared->free_list);
	uint32 fresh;

	while ((uint32) head != NO_ENTRY)
	{
		uint64 next = (((head >> 32) + 1) << 32) | entry_of((uint32) head)->next;

		if (pg_atomic_compare_exchange_u64(&shared->free_list, &head, next))
			return (uint32) head;
	}
	if (pg_atomic_read_u32(&shared->handed_out) >= shared->max_entries)
		return NO_ENTRY;
	fresh = pg_atomic_fetch_add_u32(&shared->handed_out, 1);
	if (fresh < shared->max_entries)
		return fresh + 1;
	pg_atomic_fetch_sub_u32(&shared->handed_out, 1);
	return NO_ENTRY;
}

/* Gives an entry, already unlinked, to the free list. */
static void
push_free(uint32 number)
{
	uint64 head = pg_atomic_read_u64(&shared->free_list);
	uint64 next;

	do
	{
		entry_of(number)->next = (uint32) head;
		next = (((head >> 32) + 1) << 32) | number;
	} while (!pg_atomic_compare_exchange_u64(&shared->free_list, &head, next));
}

/* Keeps an evicted entry's counts, for the table as a whole. */
static void
count_evicted(TcRateEntry *entry)
{
	pg_atomic_fetch_add_u64(&shared->evicted, 1);
	pg_atomic_fetch_add_u64(&shared->evicted_allowed, pg_atomic_read_u64(&entry->allowed));
	pg_atomic_fetch_add_u64(&shared->evicted_denied, pg_atomic_read_u64(&entry->denied));
	pg_atomic_fetch_add_u64(&shared->evicted_would_deny, pg_atomic_read_u64(&entry->would_deny));
	pg_atomic_fetch_sub_u64(&shared->used, 1);
}

/* Unlinks the full entries of a chain, looking at *probes at most.  Exclusive lock. */
static int
reclaim_chain(uint32 chain, int64 now, int *probes)
{
	uint32 *link = &heads[chain];
	int freed = 0;

	while (*link != NO_ENTRY && *probes > 0)
	{
		uint32 number = *link;
		TcRateEntry *entry = entry_of(number);

		(*probes)--;
		if (!tc_rate_is_full(&entry->math, tc_rate_state(entry), now))
		{
			link = &entry->next;
			continue;
		}
		*link = entry->next;
		count_evicted(entry);
		push_free(number);
		freed++;
	}
	return freed;
}

/* Makes room in one partition: a look at some of its chains.  Returns entries freed. */
static int
reclaim_partition(uint32 hash, int *probes)
{
	uint32 chains = (shared->mask + 1) / N_PARTITIONS;
	uint32 start = pg_atomic_fetch_add_u32(&shared->hand, MAX_CHAINS);
	int64 now = tc_rate_now();
	int left = Min(*probes, MAX_PROBES_IN_PARTITION);
	int before = left;
	int freed = 0;
	uint32 i;

	LWLockAcquire(tc_rate_lock(hash), LW_EXCLUSIVE);
	for (i = 0; i < Min(chains, MAX_CHAINS) && left > 0; i++)
		freed +=
			reclaim_chain(hash % N_PARTITIONS + N_PARTITIONS * ((start + i) % chains), now, &left);
	LWLockRelease(tc_rate_lock(hash));
	*probes -= before - left;
	return freed;
}

/* An unused entry, if need be one that a full bucket makes way for.  No lock may be held. */
static uint32
obtain_entry(uint32 hash)
{
	uint32 number = pop_free();
	int probes = MAX_PROBES;
	int i;

	for (i = 0; number == NO_ENTRY && i < N_PARTITIONS && probes > 0; i++)
	{
		if (reclaim_partition(hash + i, &probes) > 0)
			number = pop_free();
	}
	return number;
}

/* Sets a new entry up as a full bucket. */
static void
initialize_entry(TcRateEntry *entry, const TcRateKey *key, const TcRateLimit *limit, int64 now)
{
	entry->key = *key;
	entry->shadow = limit->shadow;
	entry->version = limit->version;
	entry->base = now;
	entry->math = limit->math;
	pg_atomic_init_u64(&entry->s, 0);
	pg_atomic_init_u64(&entry->allowed, 0);
	pg_atomic_init_u64(&entry->denied, 0);
	pg_atomic_init_u64(&entry->would_deny, 0);
	pg_atomic_init_u64(&entry->last_denied_at, 0);
}

/*
 * Finds the key's entry, or makes one, and returns it with its partition locked exclusively.
 * Returns NULL, with nothing locked, when there is no room.
 */
TcRateEntry *
tc_rate_enter(const TcRateKey *key, uint32 hash, const TcRateLimit *limit, int64 now)
{
	LWLock *lock = tc_rate_lock(hash);
	TcRateEntry *entry;
	uint32 number;
	uint32 *head = &heads[hash & shared->mask];

	LWLockAcquire(lock, LW_EXCLUSIVE);
	entry = tc_rate_find(key, hash);
	if (entry != NULL)
		return entry;
	LWLockRelease(lock);

	number = obtain_entry(hash);
	LWLockAcquire(lock, LW_EXCLUSIVE);
	entry = tc_rate_find(key, hash);
	if (entry != NULL)
	{
		if (number != NO_ENTRY)
			push_free(number);
		return entry;
	}
	if (number == NO_ENTRY)
	{
		LWLockRelease(lock);
		pg_atomic_fetch_add_u64(&shared->refused, 1);
		return NULL;
	}
	entry = entry_of(number);
	initialize_entry(entry, key, limit, now);
	entry->next = *head;
	*head = number;
	pg_atomic_fetch_add_u64(&shared->used, 1);
	return entry;
}

/* Copies what others may be changing meanwhile. */
static void
copy_entry(TcRateEntry *entry, TcRateBucket *bucket)
{
	bucket->key = entry->key;
	bucket->shadow = entry->shadow;
	bucket->math = entry->math;
	bucket->state = tc_rate_state(entry);
	bucket->allowed = pg_atomic_read_u64(&entry->allowed);
	bucket->denied = pg_atomic_read_u64(&entry->denied);
	bucket->would_deny = pg_atomic_read_u64(&entry->would_deny);
	bucket->last_denied_at = pg_atomic_read_u64(&entry->last_denied_at);
}

/* Copies a database's entries of one chain as far as there is room; returns how many. */
static int
read_chain(uint32 chain, Oid database, TcRateBucket *buckets, int room)
{
	uint32 number;
	int n = 0;

	for (number = heads[chain]; number != NO_ENTRY && n < room; number = entry_of(number)->next)
	{
		if (entry_of(number)->key.database == database)
			copy_entry(entry_of(number), &buckets[n++]);
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
	uint32 chains = (shared->mask + 1) / N_PARTITIONS;
	uint32 partition = *position / chains;
	uint32 chain = *position % chains;
	uint32 stop = Min(chain + CHAINS_AT_ONCE, chains);
	int n = 0;

	if (partition >= N_PARTITIONS)
		return -1;
	*position += stop - chain;
	LWLockAcquire(tc_rate_lock(partition), LW_SHARED);
	for (; chain < stop; chain++)
		n += read_chain(partition + chain * N_PARTITIONS, database, &buckets[n],
						TC_RATE_READ_AT_ONCE - n);
	LWLockRelease(tc_rate_lock(partition));
	return n;
}

/* Counts of the whole table. */
void
tc_rate_table_stat(TcRateTableStat *stat)
{
	stat->max_buckets = shared->max_entries;
	stat->used = pg_atomic_read_u64(&shared->used);
	stat->evicted = pg_atomic_read_u64(&shared->evicted);
	stat->evicted_allowed = pg_atomic_read_u64(&shared->evicted_allowed);
	stat->evicted_denied = pg_atomic_read_u64(&shared->evicted_denied);
	stat->evicted_would_deny = pg_atomic_read_u64(&shared->evicted_would_deny);
	stat->refused = pg_atomic_read_u64(&shared->refused);
}
