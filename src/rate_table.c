/*
 * rate_table.c
 *		The table of buckets: where an entry stands, and how it is found.
 *
 * Slots of fixed number in static shared memory, half as many again as there may be entries.  They
 * are divided into partitions.  The hash of a key says which partition, and which slot in it is
 * the key's home; the entry stands there, or else in the next slot that is free.  Each slot also
 * holds the head of the chain of all entries that are at home in it, wherever they stand:
 *
 *		hash(key) --> home slot: [ an entry | head ] --> entry --> entry --> (none)
 *
 * So the usual look-up reads one slot, whose address follows from the hash alone, and has waited
 * for memory once: with many tenants that is what a request costs.  What a request needs that is
 * admitted by a limit this backend knows stands in that one cache line; the rest of an entry is a
 * record elsewhere.  An entry never moves, and its state is one atomic word, s.
 *
 * Locks, one per partition, never two at a time (but see rate_all.c) and never across anything
 * that waits:
 *	shared		to follow a chain; to read base, version, math; to change s by compare-and-swap;
 *				to count.  Buckets in use go on even while another backend is stopped here.
 *	exclusive	to link or unlink an entry and to change base, version and math, which happens
 *				when a bucket is new, when a policy has changed, and once in hours (rebase).
 * The shared lock is what keeps an entry from being given to another key between look-up and
 * compare-and-swap: s uses all of its 64 bits and cannot carry a mark of its own against that.  It
 * costs some 15 ns.  A backend that is killed takes the table with it: the server starts anew.
 */
#include "postgres.h"

#include "rate_clock.h"
#include "rate_shared.h"

#define NONE 0		   /* as a link; slots are numbered from 1 there */
#define SHARE 8		   /* of the table, 1/SHARE may be one company's own making */
#define SPARE_SLOTS 32 /* a partition has more than its part, in case the hash is uneven */
#define PARTITION_BITS 7

StaticAssertDecl(TC_RATE_PARTITIONS == 1 << PARTITION_BITS, "partitions are numbered otherwise");

TcRateTable tc_rate_table_here;

int64 tc_rate_frozen_clock = 0;

/* Slots of each partition, for so many entries in all. */
uint32
tc_rate_slots_for(uint32 max_entries)
{
	return max_entries / TC_RATE_PARTITIONS * 3 / 2 + SPARE_SLOTS;
}

/* The lock of a hash's partition. */
LWLock *
tc_rate_lock(uint32 hash)
{
	return &tc_rate_table_here.locks[hash % TC_RATE_PARTITIONS].lock;
}

/* A hash's home within its partition. */
static inline uint32
home_number(uint32 hash)
{
	return ((uint64) (hash >> PARTITION_BITS) * tc_rate_table_here.per_partition) >>
		   (32 - PARTITION_BITS);
}

/* A hash's home. */
static inline TcRateEntry *
home_of(uint32 hash)
{
	return tc_rate_slot(hash % TC_RATE_PARTITIONS, home_number(hash));
}

/* The entry of a link. */
static inline TcRateEntry *
linked(uint32 link)
{
	return &tc_rate_table_here.slots[link - 1];
}

/* Has the processor fetch the slots that are most likely the hash's.  No lock. */
void
tc_rate_prefetch(uint32 hash)
{
	TcRateEntry *home = home_of(hash);

	__builtin_prefetch(home, 1);
	__builtin_prefetch(home + 1, 1);
}

/* The same for what a ticket takes over. */
void
tc_rate_prefetch_record(uint32 hash)
{
	TcRateRecord *record = tc_rate_record(home_of(hash));

	__builtin_prefetch(record, 1);
	__builtin_prefetch((char *) record + TC_RATE_RECORD_HEAD - 1, 1);
}

/* The rest of an entry. */
TcRateRecord *
tc_rate_record(const TcRateEntry *entry)
{
	return &tc_rate_table_here.records[entry - tc_rate_table_here.slots];
}

/* The key of an entry that is in use.  Any lock. */
TcRateKey
tc_rate_key_of(const TcRateEntry *entry)
{
	const TcRateRecord *record = tc_rate_record(entry);

	return (TcRateKey){.database = entry->database,
					   .policy_id = entry->policy_id,
					   .level = record->level,
					   .private_version = record->private_version,
					   .subject = {entry->subject, record->subject1},
					   .detail = record->detail};
}

/* Is it the key's entry?  Only where the word `rest` may stand for several, the record tells. */
static inline bool
is_of(const TcRateEntry *entry, const TcRateKey *key, uint64 rest)
{
	const TcRateRecord *record;

	if (entry->subject != key->subject[0] || entry->rest != rest ||
		entry->policy_id != key->policy_id || entry->database != key->database)
		return false;
	if (likely((rest & TC_RATE_REST_MIXED) == 0))
		return true;
	record = tc_rate_record(entry);
	return record->level == key->level && record->private_version == key->private_version &&
		   record->subject1 == key->subject[1] && record->detail == key->detail;
}

/* The key's entry, or NULL.  The partition must be locked. */
TcRateEntry *
tc_rate_find(const TcRateKey *key, uint32 hash)
{
	TcRateEntry *home = home_of(hash);
	uint64 rest = tc_rate_key_rest(key);
	uint32 link;

	if (likely(is_of(home, key, rest)))
		return home;
	for (link = home->head; link != NONE; link = linked(link)->next)
	{
		if (is_of(linked(link), key, rest))
			return linked(link);
	}
	return NULL;
}

/* A word for a version and its arithmetic: see rate_table.h. */
uint64
tc_rate_stamp(int64 version, const TcRateMath *math)
{
	const uint8 *key = tc_rate_table_here.shared->detail_key;

	struct
	{
		int64 version;
		TcRateMath math;
	} both = {version, *math};

	StaticAssertStmt(sizeof(both) == 7 * sizeof(int64), "there is padding");
	return tc_siphash64(key, &both, sizeof(both)) | 1;
}

/* Gives an entry its version and arithmetic.  Exclusive lock. */
void
tc_rate_set_math(TcRateEntry *entry, int64 version, const TcRateMath *math)
{
	TcRateRecord *record = tc_rate_record(entry);

	record->version = version;
	record->math = *math;
	entry->stamp = tc_rate_stamp(version, math);
}

/* Reserves the place of another entry; false if there is none. */
bool
tc_rate_reserve_place(void)
{
	TcRateShared *shared = tc_rate_table_here.shared;
	uint64 used = pg_atomic_read_u64(&shared->used);

	while (used < shared->max_entries)
	{
		if (pg_atomic_compare_exchange_u64(&shared->used, &used, used + 1))
			return true;
	}
	return false;
}

/* Gives a reserved place back. */
void
tc_rate_release_place(void)
{
	pg_atomic_fetch_sub_u64(&tc_rate_table_here.shared->used, 1);
}

/* Where a company's buckets of its own making are counted; NULL for other buckets. */
static pg_atomic_uint32 *
share_of(const TcRateKey *key)
{
	uint64 mixed;

	if (key->detail == 0)
		return NULL;
	mixed = (key->subject[0] ^ key->database) * UINT64CONST(0x9e3779b97f4a7c15);
	if (key->level & TC_RATE_BY_UUID)
		mixed ^= key->subject[1] * UINT64CONST(0x9e3779b97f4a7c15);
	return &tc_rate_table_here.shared->shares[(mixed >> 32) % TC_RATE_SHARES];
}

/* Has the key's company not used up its share of buckets of its own making? */
bool
tc_rate_share_left(const TcRateKey *key)
{
	pg_atomic_uint32 *share = share_of(key);

	return share == NULL ||
		   pg_atomic_read_u32(share) < tc_rate_table_here.shared->max_entries / SHARE + 1;
}

/* May there be another bucket of this company's own making?  If so, it is counted. */
static bool
share_allows(const TcRateKey *key)
{
	pg_atomic_uint32 *share = share_of(key);

	if (share == NULL ||
		pg_atomic_fetch_add_u32(share, 1) < tc_rate_table_here.shared->max_entries / SHARE + 1)
		return true;
	pg_atomic_fetch_sub_u32(share, 1);
	return false;
}

/* The free slot nearest to a hash's home, or NULL.  Exclusive lock. */
static TcRateEntry *
free_slot(uint32 hash)
{
	uint32 n = tc_rate_table_here.per_partition;
	uint32 number = home_number(hash);

	for (uint32 i = 0; i < n; i++)
	{
		TcRateEntry *slot = tc_rate_slot(hash % TC_RATE_PARTITIONS, number);

		if (!tc_rate_in_use(slot))
			return slot;
		number = number + 1 < n ? number + 1 : 0;
	}
	return NULL;
}

/*
 * Makes an entry for a key that has none, in a reserved place: all 0 but its key and birth number.
 * NULL if the key's company may have no more, or the partition, against all odds, is full.
 * Exclusive lock.
 */
TcRateEntry *
tc_rate_link(const TcRateKey *key, uint32 hash)
{
	TcRateEntry *entry = free_slot(hash);
	TcRateEntry *home = home_of(hash);
	TcRateRecord *record;
	uint32 head;

	if (entry == NULL || !share_allows(key))
		return NULL;
	record = tc_rate_record(entry);
	head = entry->head;
	memset(entry, 0, sizeof(*entry));
	memset(record, 0, sizeof(*record));
	entry->head = head;
	entry->database = key->database;
	entry->policy_id = key->policy_id;
	entry->subject = key->subject[0];
	entry->rest = tc_rate_key_rest(key);
	record->level = key->level;
	record->private_version = key->private_version;
	record->subject1 = key->subject[1];
	record->detail = key->detail;
	record->born = pg_atomic_add_fetch_u64(&tc_rate_table_here.shared->born, 1);
	entry->next = home->head;
	home->head = (uint32) (entry - tc_rate_table_here.slots) + 1;
	return entry;
}

/* Takes an entry out of its chain, frees its slot and releases its place.  Exclusive lock. */
void
tc_rate_unlink(TcRateEntry *entry)
{
	const TcRateKey key = tc_rate_key_of(entry);
	TcRateEntry *home = home_of(tc_rate_hash(&key));
	uint32 number = (uint32) (entry - tc_rate_table_here.slots) + 1;
	pg_atomic_uint32 *share = share_of(&key);

	if (home->head == number)
		home->head = entry->next;
	else
	{
		TcRateEntry *before = linked(home->head);

		while (before->next != number)
			before = linked(before->next);
		before->next = entry->next;
	}
	entry->database = InvalidOid;
	if (share != NULL)
		pg_atomic_fetch_sub_u32(share, 1);
	tc_rate_release_place();
}
