/*
 * rate_past.c
 *		What buckets that have made way had counted, so that statistics do not go backwards.
 *
 * A bucket that makes way leaves its counts to a sum of its policy, bandwidth, level and company:
 * all branches, numbers and calls of the company together.  There are as many sums as one for 16
 * buckets; companies for which none is left share one for each policy.
 *
 * An open hash table without locks: a slot is claimed by compare-and-swap, gets its key, and is in
 * use from then on for good.  A backend that is stopped in between leaves a slot that nobody uses.
 * Two that claim at the same time may make two sums for one key: both are shown.
 */
#include "postgres.h"

#include "rate_past.h"
#include "rate_shared.h"

#define BUCKETS_PER_SUM 16
#define LEAST_SUMS 1024
#define PROBES 16

typedef enum SlotState
{
	SLOT_FREE,
	SLOT_CLAIMED, /* its key is being written */
	SLOT_IN_USE
} SlotState;

typedef struct TcRatePast
{
	pg_atomic_uint32 state;
	TcRateKey key;
	pg_atomic_uint64 allowed;
	pg_atomic_uint64 denied;
	pg_atomic_uint64 would_deny;
	pg_atomic_uint64 last_denied_at;
	pg_atomic_uint64 waited;
	pg_atomic_uint64 refunded;
	pg_atomic_uint64 forgiven;
} TcRatePast;

/* Number of sums. */
static uint32
count_for(uint32 max_entries)
{
	return Max(max_entries / BUCKETS_PER_SUM, LEAST_SUMS);
}

/* Shared memory. */
Size
tc_rate_past_size(uint32 max_entries)
{
	return mul_size(count_for(max_entries), sizeof(TcRatePast));
}

/* The sum of a key, which is made if need be; NULL if there is no room near its place. */
static TcRatePast *
find(const TcRateKey *key)
{
	uint32 count = count_for(tc_rate_table_here.shared->max_entries);
	uint32 hash = tc_rate_hash(key);

	for (uint32 i = 0; i < PROBES; i++)
	{
		TcRatePast *past = &tc_rate_table_here.pasts[(hash + i) % count];
		uint32 expected = SLOT_FREE;

		if (pg_atomic_compare_exchange_u32(&past->state, &expected, SLOT_CLAIMED))
		{
			past->key = *key;
			pg_write_barrier();
			pg_atomic_write_u32(&past->state, SLOT_IN_USE);
			return past;
		}
		pg_read_barrier();
		if (expected == SLOT_IN_USE && memcmp(&past->key, key, sizeof(TcRateKey)) == 0)
			return past;
	}
	return NULL;
}

/* Adds a count. */
static void
add(pg_atomic_uint64 *sum, pg_atomic_uint64 *count)
{
	pg_atomic_fetch_add_u64(sum, (int64) pg_atomic_read_u64(count));
}

/* Keeps the counts of an entry. */
void
tc_rate_past_add(TcRateEntry *entry)
{
	TcRateRecord *record = tc_rate_record(entry);
	TcRateKey key = tc_rate_key_of(entry);
	TcRatePast *past;
	uint64 last;

	if (key.private_version != 0)
		return;
	key.detail = 0;
	if (!(key.level & TC_RATE_BY_UUID))
		key.subject[1] = 0;
	past = find(&key);
	if (past == NULL)
	{
		key.level &= ~TC_RATE_BY_UUID;
		key.subject[0] = key.subject[1] = 0;
		past = find(&key);
	}
	if (past == NULL)
		return; /* the table's own counts know */
	add(&past->allowed, &entry->allowed);
	add(&past->denied, &record->denied);
	add(&past->would_deny, &record->would_deny);
	add(&past->waited, &record->waited);
	add(&past->refunded, &record->refunded);
	add(&past->forgiven, &record->forgiven);
	last = pg_atomic_read_u64(&record->last_denied_at);
	if (last > pg_atomic_read_u64(&past->last_denied_at))
		pg_atomic_write_u64(&past->last_denied_at, last);
}

/* Is it in use, and a database's? */
static bool
is_of(TcRatePast *past, Oid database)
{
	if (pg_atomic_read_u32(&past->state) != SLOT_IN_USE)
		return false;
	pg_read_barrier();
	return past->key.database == database;
}

/* Copies the next ones. */
int
tc_rate_past_read(uint32 *position, Oid database, TcRateBucket buckets[TC_RATE_READ_AT_ONCE])
{
	uint32 count = count_for(tc_rate_table_here.shared->max_entries);
	int n = 0;

	if (*position >= count)
		return -1;
	for (; *position < count && n < TC_RATE_READ_AT_ONCE; (*position)++)
	{
		TcRatePast *past = &tc_rate_table_here.pasts[*position];
		TcRateBucket *bucket = &buckets[n];

		if (!is_of(past, database))
			continue;
		memset(bucket, 0, sizeof(*bucket));
		bucket->key = past->key;
		bucket->allowed = pg_atomic_read_u64(&past->allowed);
		bucket->denied = pg_atomic_read_u64(&past->denied);
		bucket->would_deny = pg_atomic_read_u64(&past->would_deny);
		bucket->last_denied_at = pg_atomic_read_u64(&past->last_denied_at);
		bucket->waited = pg_atomic_read_u64(&past->waited);
		bucket->refunded = pg_atomic_read_u64(&past->refunded);
		bucket->forgiven = pg_atomic_read_u64(&past->forgiven);
		n++;
	}
	return n;
}

/* Sets them to 0. */
void
tc_rate_past_reset(Oid database)
{
	uint32 count = count_for(tc_rate_table_here.shared->max_entries);

	for (uint32 i = 0; i < count; i++)
	{
		TcRatePast *past = &tc_rate_table_here.pasts[i];

		if (!is_of(past, database))
			continue;
		pg_atomic_write_u64(&past->allowed, 0);
		pg_atomic_write_u64(&past->denied, 0);
		pg_atomic_write_u64(&past->would_deny, 0);
		pg_atomic_write_u64(&past->last_denied_at, 0);
		pg_atomic_write_u64(&past->waited, 0);
		pg_atomic_write_u64(&past->refunded, 0);
		pg_atomic_write_u64(&past->forgiven, 0);
	}
}
