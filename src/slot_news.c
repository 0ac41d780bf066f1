/*
 * slot_news.c
 *		What changed about calendars on this node of a Citus cluster, for the elected one.
 *
 *		booking, webhook, invalidation --commit--> ring in shared memory --> this node's worker
 *			--> raise_slots() on the elected node: its answers from before do not count any more
 *
 * The answers of calendars are kept on the elected node alone (slot_remote.c), the generations
 * that they are measured by are raised where something happens (slot_generation.c).  What finds no
 * room in the ring becomes "anything may have changed", and so does what could not be told, and
 * what a worker before this one may have had: a server that crashes forgets its ring.
 *
 * Nothing of this is there without Citus.  The ring's lock is a spinlock, held for a copy.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "errors.h"
#include "http.h"
#include "node.h"
#include "node_groups.h"
#include "ready.h"
#include "slot_generation.h"
#include "slot_news.h"

PG_FUNCTION_INFO_V1(tc_raise_slots);

#define MAX_NEWS 64
#define MAX_PENDING 16

/* One change. */
typedef struct Change
{
	Oid database;
	int64 company_id;
	int64 event_type_id;
	char credential[NAMEDATALEN]; /* empty: anything */
} Change;

typedef struct News
{
	slock_t lock;
	uint64 lost; /* how often there was no room */
	int count;
	Change change[MAX_NEWS];
} News;

static News *shared = NULL;
static Change pending[MAX_PENDING]; /* of this transaction */
static int npending = 0;
static bool untold = true; /* in the worker: it, or the one before it, may not have told all */
static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

/* shmem_request_hook */
static void
news_shmem_request(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	RequestAddinShmemSpace(sizeof(News));
}

/* shmem_startup_hook */
static void
news_shmem_startup(void)
{
	bool found;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("tenantcall slot news", sizeof(News), &found);
	if (!found)
	{
		memset(shared, 0, sizeof(News));
		SpinLockInit(&shared->lock);
	}
	LWLockRelease(AddinShmemInitLock);
}

/* While preloaded beside Citus, asks for shared memory. */
void
tc_slot_news_init(void)
{
	if (!process_shared_preload_libraries_in_progress || !tc_node_citus)
		return;
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = news_shmem_request;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = news_shmem_startup;
}

/* Puts a change into the ring; where there is no room, every worker takes everything as changed. */
static void
put(const Change *change)
{
	SpinLockAcquire(&shared->lock);
	if (shared->count < MAX_NEWS)
		shared->change[shared->count++] = *change;
	else
		shared->lost++;
	SpinLockRelease(&shared->lock);
}

/* XactCallback */
static void
transaction_ends(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PREPARE:
			for (int i = 0; i < npending; i++)
				put(&pending[i]);
			if (npending > 0)
				tc_http_wake();
			npending = 0;
			break;
		case XACT_EVENT_ABORT:
			npending = 0;
			break;
		default:
			break;
	}
}

/* Notes a change, to be told after the commit. */
void
tc_slot_news_at_commit(int64 company_id, const char *credential, int64 event_type_id)
{
	static bool registered = false;
	Change change;

	if (shared == NULL || !tc_node_distributed())
		return;
	if (!registered)
		RegisterXactCallback(transaction_ends, NULL);
	registered = true;
	memset(&change, 0, sizeof(change));
	change.database = MyDatabaseId;
	change.company_id = company_id;
	change.event_type_id = event_type_id;
	if (credential != NULL)
		strlcpy(change.credential, credential, NAMEDATALEN);
	for (int i = 0; i < npending; i++)
	{
		if (pending[i].company_id == company_id && pending[i].event_type_id == event_type_id &&
			strcmp(pending[i].credential, change.credential) == 0)
			return;
	}
	if (npending == MAX_PENDING)
		pending[MAX_PENDING - 1].credential[0] = '\0';
	else
		pending[npending++] = change;
}

/* Takes this database's changes out of the ring. */
static int
take(Change *changes)
{
	static uint64 lost_before = 0;
	int count = 0;
	int kept = 0;

	SpinLockAcquire(&shared->lock);
	for (int i = 0; i < shared->count; i++)
	{
		if (shared->change[i].database == MyDatabaseId)
			changes[count++] = shared->change[i];
		else
			shared->change[kept++] = shared->change[i];
	}
	shared->count = kept;
	untold = untold || shared->lost != lost_before;
	lost_before = shared->lost;
	SpinLockRelease(&shared->lock);
	return count;
}

/* Tells the elected node. */
void
tc_slot_news_pass_on(int node)
{
	Change changes[MAX_NEWS];
	int count = shared == NULL ? 0 : take(changes);
	StringInfoData command;
	char *error;

	if (count == 0 && !untold)
		return;
	initStringInfo(&command);
	appendStringInfoString(&command,
						   "SELECT pg_catalog.count(tenantcall.raise_slots(c, n, e)) FROM "
						   "(VALUES ");
	if (untold)
		appendStringInfoString(&command, count > 0 ? "(0, '', 0), " : "(0, '', 0)");
	for (int i = 0; i < count; i++)
		appendStringInfo(&command, "%s(" INT64_FORMAT ", %s, " INT64_FORMAT ")", i > 0 ? ", " : "",
						 changes[i].company_id, quote_literal_cstr(changes[i].credential),
						 changes[i].event_type_id);
	appendStringInfoString(&command, ") AS v (c, n, e)");
	untold = true;
	if (tc_node_run(node, command.data, &error) == NULL)
		ereport(ERROR, (errcode(ERRCODE_CONNECTION_FAILURE),
						errmsg("the elected node cannot be told of changed calendars: %s", error)));
	untold = false;
}

/* raise_slots(company_id, credential, event_type_id) -> boolean: what changed on another node */
Datum
tc_raise_slots(PG_FUNCTION_ARGS)
{
	char *credential = text_to_cstring(PG_GETARG_TEXT_PP(1));

	tc_require_ready();
	tc_slot_raise_now(PG_GETARG_INT64(0), credential[0] == '\0' ? NULL : credential,
					  PG_GETARG_INT64(2));
	PG_RETURN_BOOL(true);
}
