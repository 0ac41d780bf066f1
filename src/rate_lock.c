/*
 * rate_lock.c
 *		The locks of the table's partitions, had within a bounded time.
 *
 * A backend that is stopped (SIGSTOP, a debugger, a frozen container) keeps the lock it holds.  An
 * LWLock is waited for without end, and nobody can cancel that.  Here nobody queues: the lock is
 * tried again and again, with sleeps in between, until tenantcall.rate_lock_timeout is over.  Then
 * the request is refused as "unavailable" and counted; the partition is remembered as stuck, and
 * until somebody gets its lock the others wait for a moment only, so that they do not pile up.
 *
 *		tc_rate_lock_try()	free: one compare-and-swap, as in LWLockAcquire()
 *		tc_rate_lock_wait()	spin, then sleep 50 us, 100 us, ... 1 ms; CHECK_FOR_INTERRUPTS
 *
 * Who wants a lock exclusively says so in wanted[], an instant shortly ahead: until then, those who
 * want it shared hold back.  So a bucket under heavy use cannot starve out new buckets, and a
 * backend that is stopped while it waits is soon out of everybody's way.
 *
 * Lock rules: nothing else may be held while waiting, except by who holds interrupts off.  A set of
 * partitions is locked in ascending order, spinning only; if one is not free, all are given back
 * before the sleep.
 */
#include "postgres.h"

#include <signal.h>
#include <unistd.h>

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/s_lock.h"
#include "utils/guc.h"
#include "utils/wait_event.h"

#include "compat.h"
#include "errors.h"
#include "rate_clock.h"
#include "rate_lock.h"

#define NS_PER_MS INT64CONST(1000000)
#define SPINS 100		  /* tries before the first sleep */
#define FIRST_SLEEP_US 50 /* doubled each time */
#define LONGEST_SLEEP_US 1000
#define HOLD_BACK (2 * NS_PER_MS) /* what who waits asks of the others at a time */
#define PATIENCE (5 * NS_PER_MS)  /* of who wants it shared, until he takes it nevertheless */
#define BRIEFLY NS_PER_MS
#define STUCK_WAIT (10 * NS_PER_MS) /* for a partition that is known to be stuck */

TcRatePlace tc_rate_place = TC_RATE_PLACE_NONE;

static int lock_timeout = 1000; /* setting: ms */

/* Defines the setting. */
void
tc_rate_lock_init(void)
{
	DefineCustomIntVariable("tenantcall.rate_lock_timeout",
							"How long a request waits for another process that has a part of the "
							"table of buckets locked.",
							"Such locks are held for microseconds, unless their holder is stopped. "
							"Then the request is refused as \"unavailable\".",
							&lock_timeout, 1000, 1, 60000, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL,
							NULL);
}

/* For tests: stops this process until somebody continues or kills it. */
void
tc_rate_stop(void)
{
	tc_rate_place = TC_RATE_PLACE_NONE;
	(void) kill(MyProcPid, SIGSTOP);
}

/* Sleeps before the next try; can be cancelled. */
static void
sleep_a_bit(int round)
{
	long us = FIRST_SLEEP_US;

	for (int i = 0; i < round && us < LONGEST_SLEEP_US; i++)
		us *= 2;
	CHECK_FOR_INTERRUPTS();
	pgstat_report_wait_start(tc_wait_event("TenantcallRateLock"));
	pg_usleep(Min(us, LONGEST_SLEEP_US));
	pgstat_report_wait_end();
}

/* One try; *since is when the waiting began. */
static bool
try_once(uint32 partition, LWLockMode mode, int64 since, int64 now)
{
	pg_atomic_uint64 *wanted = &tc_rate_table_here.shared->wanted[partition];

	if (mode == LW_EXCLUSIVE)
		pg_atomic_write_u64(wanted, (uint64) (now + HOLD_BACK));
	else if ((int64) pg_atomic_read_u64(wanted) > now && now - since < PATIENCE)
		return false;
	if (!LWLockConditionalAcquire(tc_rate_lock(partition), mode))
		return false;
	if (mode == LW_EXCLUSIVE)
		pg_atomic_write_u64(wanted, 0);
	return true;
}

/* Tries for so many ns. */
static bool
lock_within(uint32 partition, LWLockMode mode, int64 ns)
{
	int64 since = tc_clock_ns();

	for (int round = -SPINS;; round++)
	{
		int64 now = tc_clock_ns();

		if (try_once(partition, mode, since, now))
			return true;
		if (now - since >= ns)
			return false;
		if (round < 0)
			SPIN_DELAY();
		else
			sleep_a_bit(round);
	}
}

/* How long to wait for a partition, in ns. */
static int64
patience_with(uint32 partition)
{
	int64 ns = lock_timeout * NS_PER_MS;

	return pg_atomic_read_u32(&tc_rate_table_here.shared->stuck[partition]) ? Min(ns, STUCK_WAIT)
																			: ns;
}

/* Notes how the waiting for a partition ended. */
static bool
waited(uint32 partition, bool locked)
{
	pg_atomic_uint32 *stuck = &tc_rate_table_here.shared->stuck[partition];

	if (!locked)
		pg_atomic_fetch_add_u64(&tc_rate_table_here.shared->unavailable, 1);
	if (pg_atomic_read_u32(stuck) == (uint32) locked)
		pg_atomic_write_u32(stuck, !locked);
	return locked;
}

/* Waits as long as the setting says. */
bool
tc_rate_lock_wait(uint32 hash, LWLockMode mode)
{
	uint32 partition = hash % TC_RATE_PARTITIONS;

	return waited(partition, lock_within(partition, mode, patience_with(partition)));
}

/* Waits for a moment. */
bool
tc_rate_lock_briefly(uint32 hash, LWLockMode mode)
{
	return lock_within(hash % TC_RATE_PARTITIONS, mode, BRIEFLY);
}

/* Waits as long as the setting says, then raises. */
void
tc_rate_lock_or_raise(uint32 hash, LWLockMode mode)
{
	if (!tc_rate_lock_wait(hash, mode))
		ereport(ERROR,
				(errcode(ERRCODE_TC_UNAVAILABLE), errmsg("rate limit buckets are not available"),
				 errdetail("Another process has had them locked for longer than "
						   "tenantcall.rate_lock_timeout."),
				 errhint(
					 "Try again; if this goes on, look for a server process that is stopped.")));
}

/* Gives the partitions of a set that come before one back. */
static void
unlock_before(const bool *wanted, uint32 end)
{
	for (uint32 partition = 0; partition < end; partition++)
	{
		if (wanted[partition])
			LWLockRelease(tc_rate_lock(partition));
	}
}

/* Locks the partitions of a set, or returns the first that was not free. */
static uint32
lock_all_at_once(const bool *wanted, int64 since)
{
	for (uint32 partition = 0; partition < TC_RATE_PARTITIONS; partition++)
	{
		int tries = 0;

		if (!wanted[partition])
			continue;
		while (!try_once(partition, LW_EXCLUSIVE, since, tc_clock_ns()))
		{
			if (++tries >= SPINS)
			{
				unlock_before(wanted, partition);
				return partition;
			}
			SPIN_DELAY();
		}
	}
	return TC_RATE_PARTITIONS;
}

/* Locks all partitions of a set exclusively. */
bool
tc_rate_lock_set(const bool *wanted)
{
	int64 since = tc_clock_ns();

	for (int round = 0;; round++)
	{
		uint32 busy = lock_all_at_once(wanted, since);

		if (busy == TC_RATE_PARTITIONS)
			return true;
		if (tc_clock_ns() - since >= patience_with(busy))
			return waited(busy, false);
		sleep_a_bit(round);
	}
}

/* Unlocks them. */
void
tc_rate_unlock_set(const bool *wanted)
{
	unlock_before(wanted, TC_RATE_PARTITIONS);
}
