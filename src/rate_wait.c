/*
 * rate_wait.c
 *		Waiting for one's turn at a bucket: first come, first served.
 *
 * Who waits has spent its tokens in advance, under the partition's exclusive lock, and knows the
 * instant at which they are refilled: its turn.  Turns are in order of asking.  They stand in
 * shared memory, one slot for each backend.  When a place is given back, all later turns at that
 * bucket move up by the time its tokens take: nobody loses, and no two turns meet, which would be
 * more than the burst at one instant.
 *
 * When the policy changes, the first one who comes to the bucket converts it, and all turns with
 * it; those who wait look for a change themselves each time they wake up, at least once a second.
 * With mode reset, or when the policy is disabled or becomes a shadow, they go at once.
 *
 * Locks: a slot is begun by its backend, and moved by others, under the exclusive lock of the
 * bucket's partition; it is read, and ended, by its backend alone, without a lock.  A bucket is
 * named by its birth number, which is never used again.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/wait_event.h"

#include "compat.h"
#include "rate_clock.h"
#include "rate_lock.h"
#include "rate_shared.h"
#include "rate_wait.h"

#define MAX_SLEEP_MS 1000 /* then look whether the client is still there */

typedef struct TcRateWaiter
{
	pg_atomic_uint64 born; /* of the bucket; 0: not waiting */
	pg_atomic_uint64 turn;
} TcRateWaiter;

/* Shared memory for the slots. */
Size
tc_rate_waiters_size(void)
{
	return mul_size(MaxBackends, sizeof(TcRateWaiter));
}

/* The slot of this backend. */
static TcRateWaiter *
my_slot(void)
{
	return &tc_rate_table_here.waiters[TC_MY_PROC_NUMBER];
}

/* Notes that this backend waits for a bucket until an instant. */
void
tc_rate_wait_begin(uint64 born, int64 instant)
{
	pg_atomic_write_u64(&my_slot()->turn, (uint64) instant);
	pg_atomic_write_u64(&my_slot()->born, born);
}

/* The turn of this backend. */
int64
tc_rate_wait_turn(void)
{
	return (int64) pg_atomic_read_u64(&my_slot()->turn);
}

/* Moves the turns that come after an instant.  The bucket's exclusive lock. */
void
tc_rate_wait_move(uint64 born, int64 after, int64 by)
{
	for (int i = 0; i < MaxBackends; i++)
	{
		TcRateWaiter *slot = &tc_rate_table_here.waiters[i];
		int64 turn = (int64) pg_atomic_read_u64(&slot->turn);

		if (pg_atomic_read_u64(&slot->born) != born || turn <= after)
			continue;
		pg_atomic_write_u64(&slot->turn, by >= TC_RATE_FAR ? 0 : (uint64) (turn - by));
		SetLatch(&GetPGProcByNumber(i)->procLatch);
	}
}

/* Converts the turns with the bucket.  The bucket's exclusive lock. */
void
tc_rate_wait_convert(const TcRateEntry *entry, const TcRateLimit *to, TcRateChange change, int64 at)
{
	for (int i = 0; i < MaxBackends; i++)
	{
		TcRateWaiter *slot = &tc_rate_table_here.waiters[i];
		int64 turn = (int64) pg_atomic_read_u64(&slot->turn);
		int64 left;

		if (pg_atomic_read_u64(&slot->born) != tc_rate_record(entry)->born || turn <= at)
			continue;
		left = change == TC_RATE_RESET || to->shadow
				   ? 0
				   : tc_rate_convert_wait(&entry->math, &to->math, turn - at);
		pg_atomic_write_u64(&slot->turn,
							left < PG_INT64_MAX - at ? (uint64) (at + left) : PG_INT64_MAX);
		SetLatch(&GetPGProcByNumber(i)->procLatch);
	}
}

/* Ends this backend's wait. */
static void
end_wait(void)
{
	pg_atomic_write_u64(&my_slot()->born, 0);
}

/* Cleanup of a wait that ended early, also when the backend is told to exit. */
static void
end_wait_early(int code, Datum arg)
{
	(void) tc_rate_give_back((const TcRateTicket *) DatumGetPointer(arg), tc_rate_wait_turn());
	end_wait();
}

/* Ends the session when the client is gone. */
static void
check_client(void)
{
	if (MyProcPort == NULL || !WaitEventSetCanReportClosed() || pq_check_connection())
		return;
	ereport(FATAL, (errcode(ERRCODE_CONNECTION_FAILURE), errmsg("connection to client lost"),
					errdetail("It was waiting for a rate limit.")));
}

/* Brings the bucket up to the policy as it holds now; true if nobody has to wait any more. */
static bool
follow_policy(const TcRateTicket *ticket, const char *policy, const TcRateWho *who)
{
	const TcRateLimit *limit = tc_rate_limit(policy, strlen(policy), who);
	uint32 hash = tc_rate_hash(&ticket->key);
	TcRateEntry *entry;

	for (int more = limit->more; limit->policy_id != ticket->key.policy_id; limit++)
	{
		if (more-- == 0)
			return true; /* the bandwidth is gone */
	}
	if (!limit->enabled || limit->shadow)
		return true;
	if (limit->version <= ticket->version || !tc_rate_lock_wait(hash, LW_EXCLUSIVE))
		return false;
	entry = tc_rate_find(&ticket->key, hash);
	if (entry != NULL && entry->version < limit->version)
		tc_rate_refresh(entry, limit, tc_rate_now());
	LWLockRelease(tc_rate_lock(hash));
	return false;
}

/* Sleeps until this backend's turn. */
static void
sleep_until_turn(const TcRateTicket *ticket, const char *policy, const TcRateWho *who)
{
	uint32 wait_event = tc_wait_event("TenantcallRateLimit");
	int64 left;

	tc_rate_passes(TC_RATE_PLACE_WAIT);
	while (!follow_policy(ticket, policy, who) && (left = tc_rate_wait_turn() - tc_rate_now()) > 0)
	{
		int64 ms = Min((left + 999999) / 1000000, MAX_SLEEP_MS);

		if (WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, (long) ms,
					  wait_event) &
			WL_LATCH_SET)
			ResetLatch(MyLatch);
		else
			check_client();
		CHECK_FOR_INTERRUPTS();
	}
}

/* Waits for this backend's turn, or gives its place back. */
void
tc_rate_wait(const TcRateTicket *ticket, const char *policy, const TcRateWho *who)
{
	PG_ENSURE_ERROR_CLEANUP(end_wait_early, PointerGetDatum(ticket));
	{
		sleep_until_turn(ticket, policy, who);
	}
	PG_END_ENSURE_ERROR_CLEANUP(end_wait_early, PointerGetDatum(ticket));
	end_wait();
}
