/*
 * rate_table.h
 *		The table of buckets in shared memory; within the rate module.  See rate_table.c for locks.
 */
#ifndef TC_RATE_TABLE_H
#define TC_RATE_TABLE_H

#include "postgres.h"

#include "port/atomics.h"
#include "storage/lwlock.h"

#include "rate_core.h"
#include "rate_key.h"

#define TC_RATE_RING 4

/* What the usual request reads and writes, in one cache line of 64 bytes. */
typedef struct TcRateEntry
{
	Oid database; /* InvalidOid in a slot that is not in use; from here to rest: the key */
	int32 policy_id;
	uint64 subject;
	uint64 rest;		/* see tc_rate_key_rest() */
	uint32 head;		/* of the chain at home in this slot: no part of what stands in it */
	uint32 next : 30;	/* in the chain that this entry is in */
	uint32 shadow : 1;	/* like base, version and math: changes under the exclusive lock */
	uint32 paused : 1;	/* admits nothing until it is full (exclusive lock) */
	pg_atomic_uint64 s; /* compare-and-swap under the shared lock */
	int64 base;
	uint64 stamp; /* of version and math: a limit of the same stamp has the same */
	pg_atomic_uint64 allowed;
} TcRateEntry;

/* The rest of an entry, apart from it; first what a ticket takes over. */
typedef struct TcRateRecord
{
	uint64 born;			  /* no two entries since the server's start have the same */
	pg_atomic_uint64 tickets; /* issued */
	int64 given_back;		  /* sub-tokens refunded so far, under this version of the policy */
	int64 version;			  /* of the policy; 0: tc_rate_enter() has just made the entry */
	uint32 level;			  /* this and the next three are what the entry's rest stands for */
	uint32 private_version;
	uint64 subject1;
	uint64 detail;

	TcRateMath math; /* changes together with version and the entry's stamp */

	pg_atomic_uint64 denied;
	pg_atomic_uint64 would_deny;
	pg_atomic_uint64 last_denied_at;
	pg_atomic_uint64 waited;
	pg_atomic_uint64 refunded; /* tokens */
	pg_atomic_uint64 forgiven; /* tokens */

	/* Refunds, like given_back under the exclusive lock; see rate_ticket.c. */
	uint64 window;			   /* tickets below this number are refused */
	uint64 used[2];			   /* a bit for each of the 128 tickets from there */
	uint64 ring[TC_RATE_RING]; /* latest refunds: low half of the ticket's number << 32 | tokens */
} TcRateRecord;

#define TC_RATE_RECORD_HEAD offsetof(TcRateRecord, math) /* bytes that a ticket takes over */

StaticAssertDecl(sizeof(TcRateEntry) == 64 && sizeof(TcRateRecord) == 208,
				 "entries are laid out otherwise than meant");

extern LWLock *tc_rate_lock(uint32 hash);
extern void tc_rate_prefetch(uint32 hash);
extern void tc_rate_prefetch_record(uint32 hash);
extern TcRateRecord *tc_rate_record(const TcRateEntry *entry);
extern TcRateEntry *tc_rate_find(const TcRateKey *key, uint32 hash);
extern TcRateKey tc_rate_key_of(const TcRateEntry *entry);

/* A word for a policy's version and its arithmetic, not 0; those of others are different ones. */
extern uint64 tc_rate_stamp(int64 version, const TcRateMath *math);

/* Gives an entry the version and arithmetic of a policy.  Exclusive lock. */
extern void tc_rate_set_math(TcRateEntry *entry, int64 version, const TcRateMath *math);

/* The state of an entry, as the core wants it.  Any lock. */
static inline TcRateState
tc_rate_state(TcRateEntry *entry)
{
	return (TcRateState){entry->base, (int64) pg_atomic_read_u64(&entry->s)};
}

#endif /* TC_RATE_TABLE_H */
