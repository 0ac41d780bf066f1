/*
 * rate_shmem.c
 *		Shared memory and settings of the table of buckets.
 *
 *		TcRateShared | waiters (rate_turn.c) | slots, records (rate_table.c)
 *
 * Memory and locks are requested while the library is preloaded; there is nothing to be freed.
 */
#include "postgres.h"

#include <sys/mman.h>
#include <unistd.h>

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/pg_shmem.h"
#include "storage/shmem.h"
#include "utils/guc.h"

#include "rate_evict.h"
#include "rate_lock.h"
#include "rate_past.h"
#include "rate_save.h"
#include "rate_shared.h"
#include "rate_shmem.h"
#include "rate_turn.h"

#define TRANCHE "tenantcall_rate"

static const struct config_enum_entry full_options[] = {
	{"deny", TC_RATE_FULL_DENY, false},
	{"allow", TC_RATE_FULL_ALLOW, false},
	{"evict", TC_RATE_FULL_EVICT, false},
	{NULL, 0, false},
};

static int max_buckets = 65536; /* setting */

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

/* Size of all slots, each of so many bytes. */
static Size
slots_size(Size slot)
{
	return mul_size(mul_size(tc_rate_slots_for(max_buckets), TC_RATE_PARTITIONS), slot);
}

/* Size of the table. */
static Size
table_size(void)
{
	Size size = MAXALIGN(sizeof(TcRateShared));

	size = add_size(size, MAXALIGN(tc_rate_waiters_size()));
	size = add_size(size, MAXALIGN(tc_rate_past_size(max_buckets)));
	size = add_size(size, PG_CACHE_LINE_SIZE);
	size = add_size(size, slots_size(sizeof(TcRateEntry)));
	return add_size(size, slots_size(sizeof(TcRateRecord)));
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
 * An empty table: all is 0.  That touches all of the memory now, so that no request has to wait for
 * it to be found.  Without good random numbers nothing here may start.
 */
static void
initialize_table(TcRateTable *table)
{
	memset(table->shared, 0, sizeof(*table->shared));
	memset(table->waiters, 0, tc_rate_waiters_size());
	memset(table->pasts, 0, tc_rate_past_size(max_buckets));
	memset(table->slots, 0, slots_size(sizeof(TcRateEntry)));
	memset(table->records, 0, slots_size(sizeof(TcRateRecord)));
	table->shared->max_entries = max_buckets;
	if (!pg_strong_random(table->shared->detail_key, TC_SIPHASH_KEY) ||
		!pg_strong_random(table->shared->ticket_key, TC_SIPHASH_KEY))
		ereport(FATAL, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not get random numbers")));
	tc_rate_load();
}

/*
 * Asks for huge pages, where the system gives them to those who ask: with many buckets a request
 * spends most of its time on finding the page.  Not if huge_pages is off.
 */
static void
ask_for_huge_pages(const TcRateTable *table)
{
#ifdef MADV_HUGEPAGE
	const uintptr_t page = sysconf(_SC_PAGESIZE);
	uintptr_t start = ((uintptr_t) table->slots + page - 1) & ~(page - 1);

	if (huge_pages != HUGE_PAGES_OFF)
		(void) madvise((void *) start, slots_size(sizeof(TcRateEntry)), MADV_HUGEPAGE);
#endif
}

/* shmem_startup_hook: finds the table, or creates it. */
static void
rate_shmem_startup(void)
{
	TcRateTable *table = &tc_rate_table_here;
	bool found;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	table->shared = ShmemInitStruct("tenantcall rate buckets", table_size(), &found);
	table->waiters =
		(struct TcRateWaiter *) ((char *) table->shared + MAXALIGN(sizeof(TcRateShared)));
	table->pasts =
		(struct TcRatePast *) ((char *) table->waiters + MAXALIGN(tc_rate_waiters_size()));
	table->slots = (TcRateEntry *) CACHELINEALIGN((char *) table->pasts +
												  MAXALIGN(tc_rate_past_size(max_buckets)));
	table->records = (TcRateRecord *) ((char *) table->slots + slots_size(sizeof(TcRateEntry)));
	table->per_partition = tc_rate_slots_for(max_buckets);
	table->locks = GetNamedLWLockTranche(TRANCHE);
	if (!found)
	{
		ask_for_huge_pages(table);
		initialize_table(table);
	}
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
							"408 bytes.",
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
