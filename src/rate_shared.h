/*
 * rate_shared.h
 *		The inside of the table of buckets, for rate_table.c and what stands on it.
 */
#ifndef TC_RATE_SHARED_H
#define TC_RATE_SHARED_H

#include "postgres.h"

#include "rate_table.h"
#include "siphash_core.h"

#define TC_RATE_PARTITIONS 128
#define TC_RATE_SHARES 1024 /* companies are counted in so many classes */

typedef struct TcRateShared
{
	uint32 max_entries;
	pg_atomic_uint32 hand; /* where to make room next */
	pg_atomic_uint64 born; /* entries ever made */
	pg_atomic_uint64 used; /* entries, and places reserved for them; at most max_entries */
	pg_atomic_uint64 evicted;
	pg_atomic_uint64 evicted_allowed;
	pg_atomic_uint64 evicted_denied;
	pg_atomic_uint64 evicted_would_deny;
	pg_atomic_uint64 refused;	  /* for want of room */
	pg_atomic_uint64 passed;	  /* the same, allowed by tenantcall.rate_full */
	pg_atomic_uint64 forced;	  /* buckets that were not full and had to make way */
	pg_atomic_uint64 forgiven;	  /* tokens that these lacked */
	pg_atomic_uint64 unavailable; /* requests that did not get a partition's lock in time */
	uint8 detail_key[TC_SIPHASH_KEY];
	uint8 ticket_key[TC_SIPHASH_KEY];
	pg_atomic_uint32 shares[TC_RATE_SHARES]; /* buckets of callers' own making, by company */
	/* see rate_lock.c: until when those who want it shared hold back; is its holder stopped? */
	pg_atomic_uint64 wanted[TC_RATE_PARTITIONS];
	pg_atomic_uint32 stuck[TC_RATE_PARTITIONS];
} TcRateShared;

/* Where it is in this process. */
typedef struct TcRateTable
{
	TcRateShared *shared;
	LWLockPadded *locks;		  /* one for each partition */
	TcRateEntry *slots;			  /* partition after partition */
	TcRateRecord *records;		  /* of the same slots */
	uint32 per_partition;		  /* slots */
	struct TcRateWaiter *waiters; /* one for each backend */
	struct TcRatePast *pasts;	  /* see rate_past.c */
} TcRateTable;

extern TcRateTable tc_rate_table_here;

/* rate_table.c */
extern uint32 tc_rate_slots_for(uint32 max_entries);
extern bool tc_rate_share_left(const TcRateKey *key);
extern bool tc_rate_reserve_place(void);
extern void tc_rate_release_place(void);
extern TcRateEntry *tc_rate_link(const TcRateKey *key, uint32 hash);
extern void tc_rate_unlink(TcRateEntry *entry);

/* A slot of a partition. */
static inline TcRateEntry *
tc_rate_slot(uint32 partition, uint32 number)
{
	return &tc_rate_table_here.slots[(Size) partition * tc_rate_table_here.per_partition + number];
}

/* Is there an entry in the slot?  Any lock. */
static inline bool
tc_rate_in_use(const TcRateEntry *slot)
{
	return slot->database != InvalidOid;
}

#endif /* TC_RATE_SHARED_H */
