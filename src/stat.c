/*
 * stat.c
 *		What was asked, entered, delivered and refused, counted in shared memory.
 *
 *		tc_stat_shared | entry[]: one for each (database, company) | tag[]: a hash of whose it is
 *
 * An entry is found by probing linearly, in the tags: entries are so large that each is in other
 * memory, and where companies are many most of them find neither their own nor room.
 *
 * Counting writes no rows, and counts what was rolled back as well.  Entries are never taken back:
 * so a reader needs no lock, and a process may keep a pointer to the one it used last.  A company
 * that finds no room is counted with its database, for which there is room apart.
 *
 * Counters are atomic.  The lock is taken to make an entry: company, database and tag are written
 *in this order, with barriers between, for readers come by the database or by the tag.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "stat.h"
#include "stat_shmem.h"

#define TRANCHE "tenantcall_stat"
#define MAX_PROBES 64
#define NO_TAG 0 /* of an entry that is free */

TcStatShared *tc_stat_shared = NULL;

static int max_entries = 4096; /* setting */
static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

static const char *const context_names[][2] = {
	[TC_STAT_ENTER_ID] = {"enter", "id"},
	[TC_STAT_ENTER_UUID] = {"enter", "uuid"},
	[TC_STAT_ENTER_PHONE] = {"enter", "phone"},
	[TC_STAT_ENTER_TOKEN] = {"enter", "token"},
	[TC_STAT_ENTER_SETTING] = {"enter", "setting"},
	[TC_STAT_REFUSED_OTHER_TENANT] = {"refused", "other_tenant"},
	[TC_STAT_REFUSED_NO_BLOCK] = {"refused", "no_transaction_block"},
	[TC_STAT_REFUSED_UNKNOWN] = {"refused", "unknown"},
	[TC_STAT_MISSING_READ] = {"missing", "read"},
	[TC_STAT_MISSING_WRITE] = {"missing", "write"},
	[TC_STAT_DIRECTORY_HIT] = {"directory", "hit"},
	[TC_STAT_DIRECTORY_MISS] = {"directory", "miss"},
	[TC_STAT_TOKEN + TC_TOKEN_SHAPE - 1] = {"token", "malformed"},
	[TC_STAT_TOKEN + TC_TOKEN_HEADER - 1] = {"token", "header"},
	[TC_STAT_TOKEN + TC_TOKEN_KEY - 1] = {"token", "unknown_key"},
	[TC_STAT_TOKEN + TC_TOKEN_FORGED - 1] = {"token", "forged"},
	[TC_STAT_TOKEN + TC_TOKEN_CLAIMS - 1] = {"token", "claims"},
	[TC_STAT_TOKEN + TC_TOKEN_AUDIENCE - 1] = {"token", "other_database"},
	[TC_STAT_TOKEN + TC_TOKEN_ROLE - 1] = {"token", "other_role"},
	[TC_STAT_TOKEN + TC_TOKEN_EXPIRED - 1] = {"token", "expired"},
	[TC_STAT_TOKEN + TC_TOKEN_NOT_YET - 1] = {"token", "not_yet"},
	[TC_STAT_TOKEN + TC_TOKEN_TENANT - 1] = {"token", "unknown_tenant"},
};
StaticAssertDecl(lengthof(context_names) == TC_STAT_DELIVERY, "every count has a name");

static const char *const kinds[TC_STAT_KINDS] = {"event", "inbound", "function_call", "calendar"};
static const char *const outcomes[TC_STAT_OUTCOMES] = {"applied",  "duplicate",	  "merged",
													   "conflict", "quarantined", "rejected",
													   "accepted", "unknown",	  "suspended",
													   "limited",  "run",		  "replay",
													   "busy",	   "ignored",	  "other"};
static const char *const events[TC_STAT_EVENTS] = {"call_started",	   "call_ended",
												   "call_analyzed",	   "transcript_updated",
												   "transfer_started", "other"};
static const char *const bookings[TC_STAT_BOOKINGS] = {"confirmed",	  "refused", "cancelled",
													   "rescheduled", "unknown", "pending",
													   "other"};

/* What a count is of. */
TcStatName
tc_stat_name(int count)
{
	TcStatName name;

	if (count >= TC_STAT_BOOKING)
		name = (TcStatName){"booking", "booking", bookings[count - TC_STAT_BOOKING]};
	else if (count >= TC_STAT_EVENT)
		name = (TcStatName){"event", "event", events[count - TC_STAT_EVENT]};
	else if (count >= TC_STAT_DELIVERY)
		name = (TcStatName){"delivery", kinds[(count - TC_STAT_DELIVERY) / TC_STAT_OUTCOMES],
							outcomes[(count - TC_STAT_DELIVERY) % TC_STAT_OUTCOMES]};
	else
		name = (TcStatName){"context", context_names[count][0], context_names[count][1]};
	return name;
}

/* Size of the whole. */
static Size
table_size(void)
{
	return add_size(offsetof(TcStatShared, entry),
					mul_size(max_entries + TC_STAT_OWN,
							 sizeof(TcStatEntry) + sizeof(pg_atomic_uint32)));
}

/* shmem_request_hook */
static void
stat_shmem_request(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	RequestAddinShmemSpace(table_size());
	RequestNamedLWLockTranche(TRANCHE, 1);
}

/* Sets an entry up that nobody uses. */
static void
initialize_entry(TcStatEntry *entry)
{
	pg_atomic_init_u32(&entry->database, InvalidOid);
	pg_atomic_init_u64(&entry->last_delivery_at, 0);
	for (int i = 0; i < TC_STAT_N_COUNTS; i++)
		pg_atomic_init_u64(&entry->count[i], 0);
}

/* shmem_startup_hook */
static void
stat_shmem_startup(void)
{
	bool found;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	tc_stat_shared = ShmemInitStruct("tenantcall stat", table_size(), &found);
	if (!found)
	{
		memset(tc_stat_shared, 0, table_size());
		tc_stat_shared->lock = &GetNamedLWLockTranche(TRANCHE)->lock;
		tc_stat_shared->since = GetCurrentTimestamp();
		tc_stat_shared->ncompanies = max_entries;
		tc_stat_shared->nentries = max_entries + TC_STAT_OWN;
		tc_stat_shared->tag = (pg_atomic_uint32 *) &tc_stat_shared->entry[tc_stat_shared->nentries];
		for (uint32 i = 0; i < tc_stat_shared->nentries; i++)
		{
			initialize_entry(&tc_stat_shared->entry[i]);
			pg_atomic_init_u32(&tc_stat_shared->tag[i], NO_TAG);
		}
	}
	LWLockRelease(AddinShmemInitLock);
}

/* While preloaded, defines the setting and asks for shared memory. */
void
tc_stat_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	DefineCustomIntVariable("tenantcall.stat_companies",
							"Number of companies that are counted one by one.",
							"In all databases together; about 0.8 kB each.  Others are counted "
							"together.",
							&max_entries, 4096, 64, 1024 * 1024, PGC_POSTMASTER, 0, NULL, NULL,
							NULL);
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = stat_shmem_request;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = stat_shmem_startup;
}

/* A company's hash in this database, which is never NO_TAG. */
static uint32
tag_of(int64 company_id)
{
	uint32 hash = hash_combine(hash_bytes_uint32((uint32) company_id),
							   hash_bytes_uint32((uint32) MyDatabaseId));

	return hash == NO_TAG ? 1 : hash;
}

/* The place of the entry, or one that is free for it; -1: neither. */
static int64
probe(int64 company_id, bool *is_free)
{
	uint32 tag = tag_of(company_id);
	uint32 first = company_id == 0 ? tc_stat_shared->ncompanies : 0;
	uint32 size = company_id == 0 ? TC_STAT_OWN : tc_stat_shared->ncompanies;

	for (uint32 i = 0; i < MAX_PROBES; i++)
	{
		uint32 place = first + (tag + i) % size;
		const TcStatEntry *entry = &tc_stat_shared->entry[place];
		uint32 seen = pg_atomic_read_u32(&tc_stat_shared->tag[place]);

		*is_free = seen == NO_TAG;
		if (*is_free)
			return place;
		if (seen != tag)
			continue;
		pg_read_barrier();
		if (pg_atomic_read_u32(unconstify(pg_atomic_uint32 *, &entry->database)) == MyDatabaseId &&
			entry->company_id == company_id)
			return place;
	}
	return -1;
}

/* The entry, made if there is room. */
static TcStatEntry *
find_or_make(int64 company_id)
{
	bool is_free;
	int64 place = probe(company_id, &is_free);

	if (place >= 0 && is_free)
	{
		LWLockAcquire(tc_stat_shared->lock, LW_EXCLUSIVE);
		place = probe(company_id, &is_free);
		if (place >= 0 && is_free)
		{
			TcStatEntry *entry = &tc_stat_shared->entry[place];

			entry->company_id = company_id;
			pg_write_barrier();
			pg_atomic_write_u32(&entry->database, MyDatabaseId);
			pg_write_barrier();
			pg_atomic_write_u32(&tc_stat_shared->tag[place], tag_of(company_id));
		}
		LWLockRelease(tc_stat_shared->lock);
	}
	return place < 0 ? NULL : &tc_stat_shared->entry[place];
}

/* The entry of a company, or of the database where it has none; NULL: not even that. */
static TcStatEntry *
entry_of(int64 company_id)
{
	static TcStatEntry *last = NULL;
	static int64 last_company = -1;
	TcStatEntry *entry;

	if (unlikely(tc_stat_shared == NULL || !OidIsValid(MyDatabaseId)))
		return NULL;
	if (likely(company_id == last_company))
		return last;
	entry = find_or_make(company_id);
	if (entry == NULL)
		entry = find_or_make(0);
	last_company = company_id;
	last = entry;
	return entry;
}

/* Counts one. */
void
tc_stat_count(int64 company_id, TcStatCount what)
{
	TcStatEntry *entry = entry_of(company_id);

	if (likely(entry != NULL))
		pg_atomic_fetch_add_u64(&entry->count[what], 1);
}

/* A token was refused. */
void
tc_stat_token_refused(TcTokenFault fault)
{
	tc_stat_count(0, TC_STAT_TOKEN + fault - 1);
}

/* The place of a name in a table, whose last one stands for all others. */
static int
place_of(const char *name, const char *const *names, int count)
{
	for (int i = 0; i < count; i++)
		if (strcmp(names[i], name) == 0)
			return i;
	return count - 1;
}

/* What became of a body that was delivered. */
void
tc_stat_delivery(const char *kind, const char *outcome, int64 company_id)
{
	TcStatEntry *entry = entry_of(company_id);
	int which = place_of(kind, kinds, TC_STAT_KINDS) * TC_STAT_OUTCOMES +
				place_of(outcome, outcomes, TC_STAT_OUTCOMES);

	tc_stat_count(company_id, TC_STAT_DELIVERY + which);
	if (entry != NULL)
		pg_atomic_write_u64(&entry->last_delivery_at, (uint64) GetCurrentTimestamp());
}

/* An event was applied. */
void
tc_stat_event(const char *event, int64 company_id)
{
	tc_stat_count(company_id, TC_STAT_EVENT + place_of(event, events, TC_STAT_EVENTS));
}

/* An appointment moved. */
void
tc_stat_booking(const char *status, int64 company_id)
{
	tc_stat_count(company_id, TC_STAT_BOOKING + place_of(status, bookings, TC_STAT_BOOKINGS));
}

/* This database's place for times of resets, or NULL; under the lock, exclusive to make one. */
static TcStatDatabase *
database_place(bool make)
{
	TcStatDatabase *room = NULL;

	for (int i = 0; i < TC_STAT_DATABASES; i++)
	{
		TcStatDatabase *place = &tc_stat_shared->database[i];

		if (place->database == MyDatabaseId)
			return place;
		if (place->database == InvalidOid && room == NULL)
			room = place;
	}
	if (!make || room == NULL)
		return NULL;
	room->database = MyDatabaseId;
	return room;
}

/* When the group's counts of this database began. */
TimestampTz
tc_stat_since(TcStatGroup group)
{
	TcStatDatabase *place;
	TimestampTz since;

	if (tc_stat_shared == NULL)
		return 0;
	LWLockAcquire(tc_stat_shared->lock, LW_SHARED);
	place = database_place(false);
	since = place != NULL && place->since[group] != 0 ? place->since[group] : tc_stat_shared->since;
	LWLockRelease(tc_stat_shared->lock);
	return since;
}

/* They begin anew. */
void
tc_stat_note_reset(TcStatGroup group)
{
	TcStatDatabase *place;

	if (tc_stat_shared == NULL)
		return;
	LWLockAcquire(tc_stat_shared->lock, LW_EXCLUSIVE);
	place = database_place(true);
	if (place != NULL)
		place->since[group] = GetCurrentTimestamp();
	LWLockRelease(tc_stat_shared->lock);
}
