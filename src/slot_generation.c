/*
 * slot_generation.c
 *		Has a calendar changed since it was asked?
 *
 *		fetch			note generation --> ask the calendar --> still the same? keep the answer
 *		booking			the calendar has confirmed it, commit --> generation + 1
 *		webhook			commit --> generation + 1
 *		hold			commit --> generation of what is taken here + 1
 *
 * Counters in shared memory, by database, credential and event type, of a fixed number: two event
 * types that share one by chance lose some cached answers, and never see a wrong one.  What the
 * calendar itself has told or done counts for all companies that share the account.  What a company
 * says or does by itself (a hold, an order, invalidation by hand) has counters of its own, so that
 * nobody can make the others' answers worthless.  One more
 * counter per cluster stands for "anything may have changed" (a credential now leads elsewhere).
 * Both only rise, so that their sum changes whenever one of them does.
 *
 * No locks: the counters are atomic.  What a transaction changed is noted in its own memory and
 * counted after its commit is visible; when the server crashes in between, the cached answers are
 * gone as well.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/memutils.h"

#include "node.h"
#include "slot_generation.h"
#include "slot_news.h"

#define ANYBODY 0			/* in place of a company: all that share the account */
#define N_EVENT_TYPES 16384 /* a power of two */
#define N_COUNTERS (2 * N_EVENT_TYPES)
#define TAKEN 1 /* the second counter of an event type */

typedef struct Generations
{
	pg_atomic_uint64 everything;
	pg_atomic_uint64 counter[N_COUNTERS];
} Generations;

static Generations *shared = NULL;
static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

/* Counters to be raised at commit, in TopTransactionContext. */
static uint32 *pending = NULL;
static int npending = 0;
static int pending_room = 0;
static bool pending_everything = false;

/* shmem_request_hook */
static void
generation_shmem_request(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	RequestAddinShmemSpace(sizeof(Generations));
}

/* shmem_startup_hook */
static void
generation_shmem_startup(void)
{
	bool found;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("tenantcall slot generations", sizeof(Generations), &found);
	if (!found)
	{
		pg_atomic_init_u64(&shared->everything, 1);
		for (int i = 0; i < N_COUNTERS; i++)
			pg_atomic_init_u64(&shared->counter[i], 0);
	}
	LWLockRelease(AddinShmemInitLock);
}

/* While preloaded, asks for shared memory. */
void
tc_slot_generation_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = generation_shmem_request;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = generation_shmem_startup;
}

/* The first of the two counters of an event type, or of a company's own view of it. */
static uint32
counter_of(int64 company_id, const char *credential, int64 event_type_id)
{
	uint32 hash = hash_bytes((const unsigned char *) credential, (int) strlen(credential));

	hash = hash_combine(hash, hash_bytes_uint32((uint32) company_id));
	hash = hash_combine(hash, hash_bytes_uint32((uint32) (company_id >> 32)));
	hash = hash_combine(hash, hash_bytes_uint32((uint32) event_type_id));
	hash = hash_combine(hash, hash_bytes_uint32((uint32) (event_type_id >> 32)));
	return hash_combine(hash, hash_bytes_uint32(MyDatabaseId)) % N_EVENT_TYPES * 2;
}

/* The generation of an event type. */
uint64
tc_slot_generation(int64 company_id, const char *credential, int64 event_type_id)
{
	uint32 all = counter_of(ANYBODY, credential, event_type_id);
	uint32 own = counter_of(company_id, credential, event_type_id);
	uint64 generation;

	pg_memory_barrier();
	generation = pg_atomic_read_u64(&shared->everything) +
				 pg_atomic_read_u64(&shared->counter[all]) +
				 pg_atomic_read_u64(&shared->counter[own]);
	pg_memory_barrier();
	return generation;
}

/* The generation of what is taken of it here; it rises with that of the calendar, too. */
uint64
tc_slot_taken_generation(int64 company_id, const char *credential, int64 event_type_id)
{
	uint64 generation = tc_slot_generation(company_id, credential, event_type_id);
	uint32 own = counter_of(company_id, credential, event_type_id);

	generation += pg_atomic_read_u64(&shared->counter[own + TAKEN]);
	pg_memory_barrier();
	return generation;
}

/* Forgets what was noted; the memory goes with the transaction. */
static void
forget_pending(void)
{
	pending = NULL;
	npending = pending_room = 0;
	pending_everything = false;
}

/* XactCallback: counts what was noted. */
static void
transaction_ends(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_PREPARE: /* committed later, by somebody else: better too early than never
								  */
			for (int i = 0; i < npending; i++)
				pg_atomic_fetch_add_u64(&shared->counter[pending[i]], 1);
			if (pending_everything)
				pg_atomic_fetch_add_u64(&shared->everything, 1);
			forget_pending();
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PARALLEL_ABORT:
			forget_pending();
			break;
		default:
			break;
	}
}

/* Notes a counter to be raised at commit. */
static void
raise_at_commit(uint32 counter)
{
	for (int i = 0; i < npending; i++)
	{
		if (pending[i] == counter)
			return;
	}
	if (npending == pending_room)
	{
		int room = pending_room == 0 ? 8 : 2 * pending_room;
		uint32 *larger = MemoryContextAlloc(TopTransactionContext, room * sizeof(uint32));

		if (npending > 0)
			memcpy(larger, pending, npending * sizeof(uint32));
		pending = larger;
		pending_room = room;
	}
	pending[npending++] = counter;
}

/* Registers the callback once per process. */
static void
register_callback(void)
{
	static bool registered = false;

	if (!registered)
		RegisterXactCallback(transaction_ends, NULL);
	registered = true;
}

/* It changes when this transaction commits; a subtransaction that rolls back does no harm. */
void
tc_slot_changed_at_commit(const char *credential, int64 event_type_id)
{
	register_callback();
	if (credential == NULL)
		pending_everything = true;
	else
		raise_at_commit(counter_of(ANYBODY, credential, event_type_id));
	if (unlikely(tc_node_citus))
		tc_slot_news_at_commit(ANYBODY, credential, event_type_id);
}

/* It has changed, as another node says; no credential: anything may have. */
void
tc_slot_raise_now(int64 company_id, const char *credential, int64 event_type_id)
{
	if (credential == NULL)
		pg_atomic_fetch_add_u64(&shared->everything, 1);
	else
		pg_atomic_fetch_add_u64(&shared->counter[counter_of(company_id, credential, event_type_id)],
								1);
}

/* The same, as far as one company has asked. */
void
tc_slot_forget_at_commit(int64 company_id, const char *credential, int64 event_type_id)
{
	register_callback();
	raise_at_commit(counter_of(company_id, credential, event_type_id));
	if (unlikely(tc_node_citus))
		tc_slot_news_at_commit(company_id, credential, event_type_id);
}

/* The same of what is taken here, which the calendar does not know. */
void
tc_slot_taken_at_commit(int64 company_id, const char *credential, int64 event_type_id)
{
	register_callback();
	raise_at_commit(counter_of(company_id, credential, event_type_id) + TAKEN);
}

/* Is there anything to be told at commit? */
bool
tc_slot_change_pending(void)
{
	return npending > 0 || pending_everything;
}
