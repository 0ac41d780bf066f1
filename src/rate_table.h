/*
 * rate_table.h
 *		The table of buckets in shared memory; within the rate module.  See rate_shmem.c for locks.
 */
#ifndef TC_RATE_TABLE_H
#define TC_RATE_TABLE_H

#include "postgres.h"

#include "port/atomics.h"
#include "storage/lwlock.h"

#include "rate_core.h"
#include "rate_policy.h"

/* Hashed and compared as bytes: no padding. */
typedef struct TcRateKey
{
	Oid database;
	int32 policy_id;
	uint32 level;
	uint32 private_version; /* not 0: only for the transaction that made this version */
	uint64 subject[2];
	uint64 detail; /* for finer buckets within the subject, else 0 */
} TcRateKey;

StaticAssertDecl(sizeof(TcRateKey) == 40, "TcRateKey has padding");

#define TC_RATE_RING 4

/* In cache lines of 64 bytes: a look-up reads, a decision adds, a refusal adds, a refund adds. */
typedef struct TcRateEntry
{
	TcRateKey key;
	uint32 next;		/* in the chain, or in the free list (partition lock, or owner) */
	bool shadow;		/* like base, version and math: changes under the exclusive lock */
	bool paused;		/* admits nothing until it is full (exclusive lock) */
	pg_atomic_uint64 s; /* compare-and-swap under the shared lock */
	int64 base;

	int64 version;
	TcRateMath math;
	pg_atomic_uint64 allowed;

	pg_atomic_uint64 denied;
	pg_atomic_uint64 would_deny;
	pg_atomic_uint64 last_denied_at;
	pg_atomic_uint64 waited;
	pg_atomic_uint64 refunded; /* tokens */
	pg_atomic_uint64 forgiven; /* tokens */
	uint64 born;			   /* no two entries since the server's start have the same */
	pg_atomic_uint64 tickets;  /* issued */

	/* Refunds, under the exclusive lock; see rate_ticket.c. */
	uint64 window;			   /* tickets below this number are refused */
	uint64 used[2];			   /* a bit for each of the 128 tickets from there */
	int64 given_back;		   /* sub-tokens refunded so far, under this version of the policy */
	uint64 ring[TC_RATE_RING]; /* latest refunds: low half of the ticket's number << 32 | tokens */
} TcRateEntry;

StaticAssertDecl(offsetof(TcRateEntry, version) == 64 && offsetof(TcRateEntry, denied) == 128 &&
					 offsetof(TcRateEntry, window) == 192 && sizeof(TcRateEntry) == 256,
				 "TcRateEntry is laid out otherwise than meant");

extern int64 tc_rate_frozen_clock; /* rate_bucket.c: for tests, see tc_rate_now() */
extern int64 tc_rate_now(void);
extern int64 tc_rate_clock(void);
extern void tc_rate_shmem_init(void);
extern LWLock *tc_rate_lock(uint32 hash);
extern void tc_rate_prefetch(uint32 hash);
extern TcRateEntry *tc_rate_find(const TcRateKey *key, uint32 hash);
extern TcRateEntry *tc_rate_enter(const TcRateKey *key, uint32 hash, const TcRateLimit *limit,
								  int64 now, TcTakeReason *why);

/* The state of an entry, as the core wants it.  Any lock. */
static inline TcRateState
tc_rate_state(TcRateEntry *entry)
{
	return (TcRateState){entry->base, (int64) pg_atomic_read_u64(&entry->s)};
}

#endif /* TC_RATE_TABLE_H */
