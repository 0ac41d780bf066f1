/*
 * rate_lock.h
 *		The locks of the table's partitions, had within a bounded time; within the rate module.
 */
#ifndef TC_RATE_LOCK_H
#define TC_RATE_LOCK_H

#include "postgres.h"

#include "storage/lwlock.h"

#include "rate_shared.h"

/* Places at which a test may have its backend stopped; see tc_rate_stop_test() in rate_reset.c. */
typedef enum TcRatePlace
{
	TC_RATE_PLACE_NONE,
	TC_RATE_PLACE_SPEND,   /* has spent, shared lock; its ticket is not yet written */
	TC_RATE_PLACE_NEW,	   /* makes a bucket, or brings one up to date: exclusive lock */
	TC_RATE_PLACE_CHANGE,  /* has converted a bucket to another policy, but not all of it written */
	TC_RATE_PLACE_ALL,	   /* take_all, all partitions locked, one bucket written */
	TC_RATE_PLACE_RESERVE, /* has spent in advance, exclusive lock; its turn is not yet noted */
	TC_RATE_PLACE_WAIT,	   /* waits for its turn, no lock */
	TC_RATE_PLACE_EVICT,   /* has unlinked a bucket: exclusive lock */
	TC_RATE_PLACE_REFUND,  /* has marked a ticket as used, and given nothing back yet */
	TC_RATE_PLACE_READ	   /* copies buckets for statistics: shared lock */
} TcRatePlace;

extern TcRatePlace tc_rate_place; /* of this backend */
extern void tc_rate_stop(void);

/* For tests: the backend stops here if it was told to. */
static inline void
tc_rate_passes(TcRatePlace place)
{
	if (unlikely(tc_rate_place == place))
		tc_rate_stop();
}

extern void tc_rate_lock_init(void);

/*
 * The usual way to lock a hash's partition: false if it is not free, or somebody has been waiting
 * for it exclusively; then tc_rate_lock_wait() is to be tried.
 */
static inline bool
tc_rate_lock_try(uint32 hash, LWLockMode mode, int64 now)
{
	uint64 wanted =
		pg_atomic_read_u64(&tc_rate_table_here.shared->wanted[hash % TC_RATE_PARTITIONS]);

	return likely((int64) wanted <= now) && LWLockConditionalAcquire(tc_rate_lock(hash), mode);
}

/*
 * Waits for the lock, tenantcall.rate_lock_timeout at most: false, and counted, if it could not be
 * had.  Can be cancelled, unless interrupts are held.
 */
extern bool tc_rate_lock_wait(uint32 hash, LWLockMode mode);

/* The same, but for a moment only and not counted: for work that may as well be left undone. */
extern bool tc_rate_lock_briefly(uint32 hash, LWLockMode mode);

/* As tc_rate_lock_wait(), or PT503. */
extern void tc_rate_lock_or_raise(uint32 hash, LWLockMode mode);

/*
 * Waits, holding nothing, until all partitions of a set are locked exclusively; all or none.
 * wanted[] has TC_RATE_PARTITIONS elements.
 */
extern bool tc_rate_lock_set(const bool *wanted);
extern void tc_rate_unlock_set(const bool *wanted);

#endif /* TC_RATE_LOCK_H */
