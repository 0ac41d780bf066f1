/*
 * slot_table.c
 *		The table of calendar answers, in static shared memory.
 *
 *		heads[hash & mask] --> entry --> entry		found by the whole question, byte by byte
 *		entry --> page --> page						starts of its slots, four bytes each
 *		queue_first --> entry --> entry				waiting for the worker
 *		group --> oldest <--> newest				entries of a company (and those hashed beside
 *it)
 *
 * Room is limited, and nobody may use up that of the others: a company has at most 1/SHARE of the
 * entries, beyond which its own oldest one makes way.  When the table itself is full a clock hand
 * goes round and takes what was not used since it came by.  An entry that is being fetched stays.
 *
 * One lock, tc_slot_lock: shared to read, exclusive for all else.  It is never held across
 * anything that waits.  Whoever needs it exclusively has to do with a request to the calendar,
 * which takes a thousand times longer, or looks once a second what is taken here.  Counters are
 * atomic.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/guc.h"

#include "slot_table.h"

#define TRANCHE "tenantcall_slots"
#define SHARE 8
#define MIN_SHARE 16
#define PAGES_PER_ENTRY 4

TcSlotShared *tc_slot_shared = NULL;
TcSlotEntry *tc_slot_entries = NULL;
TcSlotPage *tc_slot_pages = NULL;
LWLock *tc_slot_lock = NULL;

static uint32 *heads = NULL;
static int max_entries = 4096; /* setting */

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

/* Number of chains. */
static uint32
chain_count(void)
{
	uint32 n = 64;

	while (n < (uint32) max_entries)
		n *= 2;
	return n;
}

/* Sizes of the parts, each aligned. */
static Size
table_size(void)
{
	Size size = CACHELINEALIGN(sizeof(TcSlotShared));

	size = add_size(size, CACHELINEALIGN(mul_size(chain_count(), sizeof(uint32))));
	size = add_size(size, CACHELINEALIGN(mul_size(max_entries, sizeof(TcSlotEntry))));
	return add_size(size, mul_size((Size) max_entries * PAGES_PER_ENTRY, sizeof(TcSlotPage)));
}

/* shmem_request_hook */
static void
slot_shmem_request(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	RequestAddinShmemSpace(add_size(table_size(), PG_CACHE_LINE_SIZE));
	RequestNamedLWLockTranche(TRANCHE, 1);
}

/* An empty table. */
static void
initialize_table(void)
{
	memset(tc_slot_shared, 0, sizeof(TcSlotShared));
	tc_slot_shared->max_entries = max_entries;
	tc_slot_shared->max_pages = tc_slot_shared->free_pages = max_entries * PAGES_PER_ENTRY;
	tc_slot_shared->mask = chain_count() - 1;
	tc_slot_shared->queue_first = tc_slot_shared->queue_last = TC_SLOT_NONE;
	for (int i = 0; i < TC_SLOT_GROUPS; i++)
		tc_slot_shared->group[i] = (TcSlotGroup){TC_SLOT_NONE, TC_SLOT_NONE, 0};
	for (int i = 0; i < TC_SLOT_STATS; i++)
	{
		for (int k = 0; k < TC_SLOT_N_COUNTS; k++)
			pg_atomic_init_u64(&tc_slot_shared->stat[i].count[k], 0);
		for (int k = 0; k < TC_SLOT_WAIT_BUCKETS; k++)
			pg_atomic_init_u64(&tc_slot_shared->stat[i].waited[k], 0);
		pg_atomic_init_u64(&tc_slot_shared->stat[i].waited_us, 0);
		pg_atomic_init_u64(&tc_slot_shared->stat[i].last_failed_at, 0);
	}
	memset(heads, 0xff, sizeof(uint32) * chain_count());
	for (int i = 0; i < max_entries; i++)
	{
		memset(&tc_slot_entries[i], 0, sizeof(TcSlotEntry));
		tc_slot_entries[i].next = i + 1 < max_entries ? (uint32) i + 1 : TC_SLOT_NONE;
		pg_atomic_init_u32(&tc_slot_entries[i].used, 0);
		ConditionVariableInit(&tc_slot_entries[i].done);
	}
	for (int i = 0; i < tc_slot_shared->max_pages; i++)
		tc_slot_pages[i].next = i + 1 < tc_slot_shared->max_pages ? (uint32) i + 1 : TC_SLOT_NONE;
}

/* shmem_startup_hook: finds the table, or creates it. */
static void
slot_shmem_startup(void)
{
	bool found;
	char *at;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	at = ShmemInitStruct("tenantcall slots", add_size(table_size(), PG_CACHE_LINE_SIZE), &found);
	tc_slot_shared = (TcSlotShared *) CACHELINEALIGN(at);
	heads = (uint32 *) ((char *) tc_slot_shared + CACHELINEALIGN(sizeof(TcSlotShared)));
	tc_slot_entries =
		(TcSlotEntry *) ((char *) heads + CACHELINEALIGN(chain_count() * sizeof(uint32)));
	tc_slot_pages = (TcSlotPage *) ((char *) tc_slot_entries +
									CACHELINEALIGN(max_entries * sizeof(TcSlotEntry)));
	tc_slot_lock = &GetNamedLWLockTranche(TRANCHE)->lock;
	if (!found)
		initialize_table();
	LWLockRelease(AddinShmemInitLock);
}

/* While preloaded, defines the setting and asks for shared memory. */
void
tc_slot_table_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	DefineCustomIntVariable("tenantcall.slot_cache_entries",
							"Number of calendar answers that shared memory has room for.",
							"An answer is that to one question: an event type and a range of days. "
							"Each takes about 2.2 kB.",
							&max_entries, 4096, 64, 1024 * 1024, PGC_POSTMASTER, 0, NULL, NULL,
							NULL);
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = slot_shmem_request;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = slot_shmem_startup;
}

/* Hash of a question. */
static uint32
hash_question(const TcSlotQuestion *question)
{
	return hash_bytes((const unsigned char *) question, sizeof(*question));
}

/* The group of a company. */
static TcSlotGroup *
group_of(const TcSlotQuestion *question)
{
	uint32 hash = hash_combine(hash_bytes_uint32((uint32) question->company_id),
							   hash_bytes_uint32(question->database));

	return &tc_slot_shared->group[hash % TC_SLOT_GROUPS];
}

/* Looks through a chain. */
static TcSlotEntry *
find_hashed(const TcSlotQuestion *question, uint32 hash)
{
	uint32 i = heads[hash & tc_slot_shared->mask];

	while (i != TC_SLOT_NONE)
	{
		TcSlotEntry *entry = &tc_slot_entries[i];

		if (entry->hash == hash && memcmp(&entry->question, question, sizeof(*question)) == 0)
			return entry;
		i = entry->next;
	}
	return NULL;
}

/* The entry of a question. */
TcSlotEntry *
tc_slot_find(const TcSlotQuestion *question)
{
	return find_hashed(question, hash_question(question));
}

/* Gives the pages of an answer back. */
static void
free_pages(TcSlotEntry *entry)
{
	uint32 page = entry->known ? entry->first_page : TC_SLOT_NONE;

	while (page != TC_SLOT_NONE)
	{
		uint32 next = tc_slot_pages[page].next;

		tc_slot_pages[page].next = tc_slot_shared->free_page;
		tc_slot_shared->free_page = page;
		tc_slot_shared->free_pages++;
		page = next;
	}
	entry->known = false;
	entry->first_page = TC_SLOT_NONE;
	entry->count = 0;
}

/* Puts an entry behind all others of its group. */
static void
join_group(TcSlotEntry *entry)
{
	TcSlotGroup *group = group_of(&entry->question);

	entry->older = group->newest;
	entry->newer = TC_SLOT_NONE;
	if (group->newest != TC_SLOT_NONE)
		tc_slot_entries[group->newest].newer = tc_slot_number(entry);
	else
		group->oldest = tc_slot_number(entry);
	group->newest = tc_slot_number(entry);
	group->count++;
}

/* Takes it out. */
static void
leave_group(TcSlotEntry *entry)
{
	TcSlotGroup *group = group_of(&entry->question);

	if (entry->older != TC_SLOT_NONE)
		tc_slot_entries[entry->older].newer = entry->newer;
	else
		group->oldest = entry->newer;
	if (entry->newer != TC_SLOT_NONE)
		tc_slot_entries[entry->newer].older = entry->older;
	else
		group->newest = entry->older;
	group->count--;
}

/* Makes an entry free. */
static void
drop(TcSlotEntry *entry)
{
	uint32 *link = &heads[entry->hash & tc_slot_shared->mask];

	Assert(entry->fetching == TC_FETCH_NONE);
	while (*link != tc_slot_number(entry))
		link = &tc_slot_entries[*link].next;
	*link = entry->next;
	leave_group(entry);
	free_pages(entry);
	tc_slot_shared->stat[entry->stat].entries--;
	memset(&entry->question, 0, sizeof(entry->question));
	entry->next = tc_slot_shared->free_entry;
	tc_slot_shared->free_entry = tc_slot_number(entry);
}

/* Drops the oldest entry of a group that is not being fetched; false: all of them are. */
static bool
drop_of_group(TcSlotGroup *group)
{
	for (uint32 i = group->oldest; i != TC_SLOT_NONE; i = tc_slot_entries[i].newer)
	{
		if (tc_slot_entries[i].fetching != TC_FETCH_NONE)
			continue;
		drop(&tc_slot_entries[i]);
		return true;
	}
	return false;
}

/* Drops what was not used lately; false: everything is being fetched. */
static bool
drop_by_clock(const TcSlotEntry *keep)
{
	for (int i = 0; i < 2 * tc_slot_shared->max_entries; i++)
	{
		TcSlotEntry *entry = &tc_slot_entries[tc_slot_shared->hand];

		tc_slot_shared->hand = (tc_slot_shared->hand + 1) % (uint32) tc_slot_shared->max_entries;
		if (entry == keep || entry->question.database == InvalidOid ||
			entry->fetching != TC_FETCH_NONE || pg_atomic_exchange_u32(&entry->used, 0) != 0)
			continue;
		drop(entry);
		return true;
	}
	return false;
}

/* Makes room for one more entry of a company. */
static bool
make_room(const TcSlotQuestion *question)
{
	TcSlotGroup *group = group_of(question);

	if (group->count >= Max(tc_slot_shared->max_entries / SHARE, MIN_SHARE) &&
		!drop_of_group(group))
		return false;
	return tc_slot_shared->free_entry != TC_SLOT_NONE || drop_by_clock(NULL);
}

/* The entry of a question, made if need be. */
TcSlotEntry *
tc_slot_find_or_make(const TcSlotQuestion *question)
{
	uint32 hash = hash_question(question);
	TcSlotEntry *entry = find_hashed(question, hash);

	if (entry != NULL || !make_room(question))
		return entry;
	entry = &tc_slot_entries[tc_slot_shared->free_entry];
	tc_slot_shared->free_entry = entry->next;
	entry->question = *question;
	entry->hash = hash;
	entry->next = heads[hash & tc_slot_shared->mask];
	heads[hash & tc_slot_shared->mask] = tc_slot_number(entry);
	entry->known = entry->failed = entry->live = false;
	entry->first_page = TC_SLOT_NONE;
	entry->count = entry->attempts = 0;
	entry->ntaken = -1;
	entry->failed_until = 0;
	entry->fetching = TC_FETCH_NONE;
	pg_atomic_write_u32(&entry->used, 1);
	join_group(entry);
	entry->stat = tc_slot_stat_of(question);
	tc_slot_shared->stat[entry->stat].entries++;
	return entry;
}

/* Replaces the answer's starts. */
bool
tc_slot_store(TcSlotEntry *entry, const TimestampTz *starts, int count)
{
	int pages = (count + TC_SLOT_PAGE_STARTS - 1) / TC_SLOT_PAGE_STARTS;
	uint32 *link = &entry->first_page;

	free_pages(entry);
	while (tc_slot_shared->free_pages < pages)
	{
		if (!drop_by_clock(entry))
			return false;
	}
	for (int i = 0; i < pages; i++)
	{
		uint32 page = tc_slot_shared->free_page;
		int first = i * TC_SLOT_PAGE_STARTS;

		tc_slot_shared->free_page = tc_slot_pages[page].next;
		tc_slot_shared->free_pages--;
		for (int k = 0; k < TC_SLOT_PAGE_STARTS && first + k < count; k++)
			tc_slot_pages[page].start[k] =
				(uint32) ((starts[first + k] - entry->question.from) / USECS_PER_SEC);
		tc_slot_pages[page].next = TC_SLOT_NONE;
		*link = page;
		link = &tc_slot_pages[page].next;
	}
	entry->count = count;
	entry->ntaken = -1;
	entry->known = true;
	return true;
}

/* Copies the starts. */
void
tc_slot_load(const TcSlotEntry *entry, TimestampTz *starts)
{
	uint32 page = entry->first_page;

	for (int i = 0; i < entry->count; i++)
	{
		starts[i] = entry->question.from +
					(int64) tc_slot_pages[page].start[i % TC_SLOT_PAGE_STARTS] * USECS_PER_SEC;
		if (i % TC_SLOT_PAGE_STARTS == TC_SLOT_PAGE_STARTS - 1)
			page = tc_slot_pages[page].next;
	}
}

/* Puts an entry at the end of the queue. */
void
tc_slot_enqueue(TcSlotEntry *entry)
{
	entry->fetching = TC_FETCH_QUEUED;
	entry->queue_next = TC_SLOT_NONE;
	if (tc_slot_shared->queue_last != TC_SLOT_NONE)
		tc_slot_entries[tc_slot_shared->queue_last].queue_next = tc_slot_number(entry);
	else
		tc_slot_shared->queue_first = tc_slot_number(entry);
	tc_slot_shared->queue_last = tc_slot_number(entry);
}

/* Takes the first entry of a database out of the queue; NULL: none. */
TcSlotEntry *
tc_slot_dequeue(Oid database)
{
	uint32 before = TC_SLOT_NONE;

	for (uint32 i = tc_slot_shared->queue_first; i != TC_SLOT_NONE;
		 i = tc_slot_entries[i].queue_next)
	{
		TcSlotEntry *entry = &tc_slot_entries[i];

		if (entry->question.database == database)
		{
			if (before == TC_SLOT_NONE)
				tc_slot_shared->queue_first = entry->queue_next;
			else
				tc_slot_entries[before].queue_next = entry->queue_next;
			if (tc_slot_shared->queue_last == i)
				tc_slot_shared->queue_last = before;
			entry->fetching = TC_FETCH_TAKEN;
			return entry;
		}
		before = i;
	}
	return NULL;
}
