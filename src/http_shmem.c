/*
 * http_shmem.c
 *		What the HTTP workers share with everybody, in static shared memory.
 *
 *		TcHttpShared | entries[]: one for each (database, credential, company)
 *		               and, as company -1, for each credential as a whole; searched in full, since
 *		               a worker keeps pointers to its own
 *
 * Breakers, and quotas (http_quota.c), live here so that they outlast a worker that ends.  After a
 * crash, when the server sets shared memory up anew, a quota starts without tokens.
 *
 * One lock, tc_http_lock(), for everything but the latches of workers.  A worker's entries are
 * pinned: only they are never given to somebody else.
 */
#include "postgres.h"


#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"

#include "clock.h"
#include "http_database.h"
#include "http_probe.h"
#include "http_settings.h"
#include "http_shmem.h"

#define TRANCHE "tenantcall_http"

typedef struct TcHttpShared
{
	LWLock *lock;
	int nentries;
	TcHttpEntry entries[FLEXIBLE_ARRAY_MEMBER];
} TcHttpShared;

static TcHttpShared *shared = NULL;
static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

/* Size of the entries' table. */
static Size
table_size(void)
{
	return add_size(offsetof(TcHttpShared, entries),
					mul_size(tc_http_settings.max_entries, sizeof(TcHttpEntry)));
}

/* shmem_request_hook */
static void
http_shmem_request(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	RequestAddinShmemSpace(table_size());
	RequestAddinShmemSpace(tc_http_database_size());
	RequestAddinShmemSpace(tc_http_probe_size());
	RequestAddinShmemSpace(tc_http_quota_size());
	RequestNamedLWLockTranche(TRANCHE, 1);
}

/* shmem_startup_hook */
static void
http_shmem_startup(void)
{
	bool found;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("tenantcall http", table_size(), &found);
	if (!found)
	{
		memset(shared, 0, table_size());
		shared->lock = &GetNamedLWLockTranche(TRANCHE)->lock;
		shared->nentries = tc_http_settings.max_entries;
	}
	tc_http_database_startup();
	tc_http_probe_startup();
	tc_http_quota_startup();
	LWLockRelease(AddinShmemInitLock);
}

/* While preloaded, asks for shared memory. */
void
tc_http_shmem_init(void)
{
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = http_shmem_request;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = http_shmem_startup;
}

/* The lock. */
LWLock *
tc_http_lock(void)
{
	return shared->lock;
}

/* Nanoseconds of a clock that nobody sets. */
int64
tc_http_now(void)
{
	return tc_clock_ns();
}

/* The part of the table for credentials, or that for companies, so that none crowds out the other.
 */
static void
range_for(int64 company_id, int *first, int *end)
{
	int border = shared->nentries / 4;

	*first = company_id == TC_HTTP_ALL_COMPANIES ? 0 : border;
	*end = company_id == TC_HTTP_ALL_COMPANIES ? border : shared->nentries;
}

/* An entry that may be used anew: a free one, or the first that no worker uses. */
static TcHttpEntry *
find_room(int first, int end)
{
	TcHttpEntry *room = NULL;

	for (int i = first; i < end; i++)
	{
		TcHttpEntry *entry = &shared->entries[i];

		if (!OidIsValid(entry->database))
			return entry;
		if (!entry->pinned && room == NULL)
			room = entry;
	}
	return room;
}

/* Sets an entry up. */
static void
set_up(TcHttpEntry *entry, const char *credential, int64 company_id)
{
	memset(entry, 0, sizeof(*entry));
	entry->database = MyDatabaseId;
	entry->company_id = company_id;
	strlcpy(entry->credential, credential, NAMEDATALEN);
}

/* This database's entry of a credential, or of a company's part in it. */
TcHttpEntry *
tc_http_entry(const char *credential, int64 company_id, bool make)
{
	TcHttpEntry *entry;
	int first;
	int end;

	range_for(company_id, &first, &end);
	for (int i = first; i < end; i++)
	{
		entry = &shared->entries[i];
		if (entry->database == MyDatabaseId && entry->company_id == company_id &&
			strcmp(entry->credential, credential) == 0)
			return entry;
	}
	entry = make ? find_room(first, end) : NULL;
	if (entry != NULL)
		set_up(entry, credential, company_id);
	return entry;
}

/* The next entry of this database. */
TcHttpEntry *
tc_http_next_entry(int *position)
{
	while (*position < shared->nentries)
	{
		TcHttpEntry *entry = &shared->entries[(*position)++];

		if (entry->database == MyDatabaseId)
			return entry;
	}
	return NULL;
}

/* No worker uses this database's entries any more. */
void
tc_http_unpin_entries(void)
{
	TcHttpEntry *entry;
	int position = 0;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	while ((entry = tc_http_next_entry(&position)) != NULL)
	{
		entry->pinned = false;
		entry->in_flight = 0;
		entry->oldest = 0;
		memset(entry->queued, 0, sizeof(entry->queued));
		tc_breaker_restart(&entry->breaker);
	}
	LWLockRelease(shared->lock);
}
