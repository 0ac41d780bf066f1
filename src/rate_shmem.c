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
 *		                 +-- protected by locks[hash % TC_RATE_PARTITIONS]
 *
 * Locks, one per partition, never two at a time (but for rate_all.c), never across anything that
 * waits, and waited for within bounds (rate_lock.c):
 *	shared		to follow a chain; to read base, version, limit; to change s by compare-and-swap;
 *				to count.  Buckets in use go on even while another backend is stopped here.
 *	exclusive	to link or unlink an entry and to change base, version and limit, which happens
 *				when a bucket is new, when a policy has changed, and once in hours (rebase).
 * rate_evict.c makes room, rate_save.c carries buckets over a restart.
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

#include "rate_lock.h"
#include "rate_shared.h"

#define TRANCHE "tenantcall_rate"
#define SHARE 8 /* of the table, 1/SHARE may be one company's own making */

TcRateTable tc_rate_table_here;

static TcRateShared *shared = NULL; /* the same as tc_rate_table_here.shared, and so on */
static uint32 *heads = NULL;
static LWLockPadded *locks = NULL;

static const struct config_enum_entry full_options[] = {
	{"deny", TC_RATE_FULL_DENY, false},
	{"allow", TC_RATE_FULL_ALLOW, false},
	{"evict", TC_RATE_FULL_EVICT, false},
	{NULL, 0, false},
};

static int max_buckets = 65536; /* setting */

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

/* Number of chains: a power of two, one entry per chain on average when full. */
static uint32
chain_count(void)
{
	uint32 n = TC_RATE_PARTITIONS;

	while (n < (uint32) max_buckets)
		n *= 2;
	return n;
}

/* Size of the table. */
static Size
table_size(void)
{
	Size size = MAXALIGN(sizeof(TcRateShared));

	size = add_size(size, mul_size(chain_count(), sizeof(uint32)));
	size = add_size(size, tc_rate_waiters_size());
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
	RequestNamedLWLockTranche(TRANCHE, TC_RATE_PARTITIONS);
}

/*
 * An empty table: all counts are 0.  Entries are set up when they are handed out, so that their
 * memory is untouched.  Without good random numbers nothing here may start.
 */
static void
initialize_table(void)
{
	memset(shared, 0, sizeof(*shared));
	shared->max_entries = max_buckets;
	shared->mask = chain_count() - 1;
	memset(heads, 0, sizeof(uint32) * chain_count());
	memset(tc_rate_table_here.waiters, 0, tc_rate_waiters_size());
	if (!pg_strong_random(shared->detail_key, sizeof(shared->detail_key)) ||
		!pg_strong_random(shared->ticket_key, sizeof(shared->ticket_key)))
		ereport(FATAL, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not get random numbers")));
	tc_rate_load();
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
	heads = (uint32 *) ((char *) shared + MAXALIGN(sizeof(TcRateShared)));
	tc_rate_table_here.shared = shared;
	tc_rate_table_here.heads = heads;
	tc_rate_table_here.waiters = (struct TcRateWaiter *) MAXALIGN(heads + chain_count());
	tc_rate_table_here.entries = (TcRateEntry *) CACHELINEALIGN(
		(char *) tc_rate_table_here.waiters + tc_rate_waiters_size());
	locks = GetNamedLWLockTranche(TRANCHE);
	if (!found)
		initialize_table();
	LWLockRelease(AddinShmemInitLock);
	if (!IsUnderPostmaster)
		on_shmem_exit(tc_rate_save_at_exit, (Datum) 0);
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
							"256 bytes.",
							&max_buckets, 65536, 1, 16 * 1024 * 1024, PGC_POSTMASTER, 0, NULL, NULL,
							NULL);
	DefineCustomEnumVariable(
		"tenantcall.rate_full", "What happens to a request whose bucket has no room.",
		"deny refuses it, allow lets it pass uncounted, evict makes the bucket "
		"nearest to being full make way.",
		&tc_rate_full, TC_RATE_FULL_DENY, full_options, PGC_SIGHUP, 0, NULL, NULL, NULL);
	tc_rate_lock_init();
	tc_rate_save_init();
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = rate_shmem_request;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = rate_shmem_startup;
}

/* The lock of a hash's partition. */
LWLock *
tc_rate_lock(uint32 hash)
{
	return &locks[hash % TC_RATE_PARTITIONS].lock;
}

/*
 * Has the processor fetch the chain's head and first entry.  No lock: what is read may be old, and
 * is used for nothing else.
 */
void
tc_rate_prefetch(uint32 hash)
{
	uint32 number = *(volatile uint32 *) &heads[hash & shared->mask];

	if (number != TC_RATE_NO_ENTRY)
	{
		__builtin_prefetch(tc_rate_entry(number));
		__builtin_prefetch((char *) tc_rate_entry(number) + 64);
	}
}

/* The key's entry, or NULL.  The partition must be locked. */
TcRateEntry *
tc_rate_find(const TcRateKey *key, uint32 hash)
{
	uint32 number = heads[hash & shared->mask];

	while (number != TC_RATE_NO_ENTRY)
	{
		TcRateEntry *entry = tc_rate_entry(number);

		if (memcmp(&entry->key, key, sizeof(TcRateKey)) == 0)
			return entry;
		number = entry->next;
	}
	return NULL;
}

/* Sets a new entry up as a full bucket. */
static void
initialize_entry(TcRateEntry *entry, const TcRateKey *key, const TcRateLimit *limit, int64 now)
{
	memset(entry, 0, sizeof(*entry));
	entry->key = *key;
	entry->shadow = limit->shadow;
	entry->version = limit->version;
	entry->base = now;
	entry->math = limit->math;
	entry->born = pg_atomic_add_fetch_u64(&shared->born, 1);
}

/* May there be another bucket of this company's own making?  If so, it is counted. */
static bool
share_allows(const TcRateKey *key)
{
	pg_atomic_uint32 *share = tc_rate_share(key);

	if (share == NULL || pg_atomic_fetch_add_u32(share, 1) < shared->max_entries / SHARE + 1)
		return true;
	pg_atomic_fetch_sub_u32(share, 1);
	return false;
}

/* Links an unused entry in, if the key's company may have it.  Exclusive lock. */
static TcRateEntry *
link_entry(uint32 number, const TcRateKey *key, uint32 hash, const TcRateLimit *limit, int64 now)
{
	TcRateEntry *entry = tc_rate_entry(number);
	uint32 *head = &heads[hash & shared->mask];

	if (!share_allows(key))
	{
		tc_rate_push_free(number);
		return NULL;
	}
	initialize_entry(entry, key, limit, now);
	entry->next = *head;
	*head = number;
	pg_atomic_fetch_add_u64(&shared->used, 1);
	return entry;
}

/* An unused entry; while another one is searched, the partition is not locked.  Interrupts held. */
static uint32
unused_entry(uint32 hash, bool *locked)
{
	uint32 number = tc_rate_pop_free();

	if (number != TC_RATE_NO_ENTRY)
		return number;
	LWLockRelease(tc_rate_lock(hash));
	number = tc_rate_make_room(hash);
	*locked = tc_rate_lock_wait(hash, LW_EXCLUSIVE);
	return number;
}

/* Makes the key's entry; returns it, or NULL, with its partition locked if *locked still says so.
 */
static TcRateEntry *
make_entry(const TcRateKey *key, uint32 hash, const TcRateLimit *limit, int64 now, bool *locked)
{
	TcRateEntry *entry = NULL;
	uint32 number;

	HOLD_INTERRUPTS(); /* an unused entry must not get lost */
	tc_rate_sweep(hash, now);
	number = unused_entry(hash, locked);
	if (*locked)
		entry = tc_rate_find(key, hash);
	if (number != TC_RATE_NO_ENTRY && *locked && entry == NULL)
		entry = link_entry(number, key, hash, limit, now);
	else if (number != TC_RATE_NO_ENTRY)
		tc_rate_push_free(number);
	RESUME_INTERRUPTS();
	return entry;
}

/*
 * Finds the key's entry, or makes one, and returns it with its partition locked exclusively.
 * Returns NULL, with nothing locked, when there is no room or the lock cannot be had: *why.
 */
TcRateEntry *
tc_rate_enter(const TcRateKey *key, uint32 hash, const TcRateLimit *limit, int64 now,
			  TcTakeReason *why)
{
	TcRateShared *shared = tc_rate_table_here.shared;
	TcRateEntry *entry;
	bool locked = true;

	*why = TC_TAKE_UNAVAILABLE;
	if (!tc_rate_lock_wait(hash, LW_EXCLUSIVE))
		return NULL;
	entry = tc_rate_find(key, hash);
	if (entry == NULL)
		entry = make_entry(key, hash, limit, now, &locked);
	if (entry != NULL || !locked)
		return entry;
	LWLockRelease(tc_rate_lock(hash));
	pg_atomic_fetch_add_u64(tc_rate_full == TC_RATE_FULL_ALLOW ? &shared->passed : &shared->refused,
							1);
	*why = TC_TAKE_TABLE_FULL;
	return NULL;
}
