/*
 * rate_wait.c
 *		Waiting for one's turn at a bucket: first come, first served.
 *
 * Who waits has spent its tokens in advance and knows its turn (rate_turn.c), until which it
 *sleeps. A wait that ends early, by an error or the backend's end, gives its place back.
 *
 * When the policy changes, the first one who comes to the bucket converts it, and all turns with
 * it; those who wait look for a change themselves each time they wake up, at least once a second.
 * With mode reset, or when the policy is disabled or becomes a shadow, they go at once.
 *
 * Locks: none while asleep.
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
#include "rate_turn.h"
#include "rate_wait.h"

#define MAX_SLEEP_MS 1000 /* then look whether the client is still there */

/* Cleanup of a wait that ended early, also when the backend is told to exit. */
static void
end_wait_early(int code, Datum arg)
{
	(void) tc_rate_give_back((const TcRateTicket *) DatumGetPointer(arg), tc_rate_turn());
	tc_rate_turn_end();
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
	if (entry != NULL && tc_rate_record(entry)->version < limit->version)
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
	while (!follow_policy(ticket, policy, who) && (left = tc_rate_turn() - tc_rate_now()) > 0)
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
	tc_rate_turn_end();
}
