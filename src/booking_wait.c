/*
 * booking_wait.c
 *		Waiting for what becomes of an appointment.
 *
 *		booking_result()	begin --> look --> sleep --> look ... --> end
 *		worker, webhook		commit --> broadcast
 *
 * Condition variables in shared memory, of a fixed number: appointments that share one by chance
 * wake each other's sleepers, who look and sleep again.  The broadcast comes after the commit is
 * visible (XactCallback).  Nobody depends on it: who sleeps looks again every second.
 *
 * No locks but the condition variables' own.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/condition_variable.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/wait_event.h"

#include "booking_wait.h"
#include "compat.h"

#define N_ROOMS 128 /* a power of two */
#define MAX_SLEEP_MS 1000

typedef struct Rooms
{
	ConditionVariable room[N_ROOMS];
} Rooms;

static Rooms *shared = NULL;
static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

static uint64 pending[N_ROOMS / 64]; /* set of rooms to wake at commit */
static bool has_pending = false;
static int waiting_in; /* room that was entered last */

/* shmem_request_hook */
static void
wait_shmem_request(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	RequestAddinShmemSpace(sizeof(Rooms));
}

/* shmem_startup_hook */
static void
wait_shmem_startup(void)
{
	bool found;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("tenantcall booking waits", sizeof(Rooms), &found);
	if (!found)
	{
		for (int i = 0; i < N_ROOMS; i++)
			ConditionVariableInit(&shared->room[i]);
	}
	LWLockRelease(AddinShmemInitLock);
}

/* While preloaded, asks for shared memory. */
void
tc_booking_wait_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = wait_shmem_request;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = wait_shmem_startup;
}

/* The room of an appointment. */
static int
room_of(int64 company_id, int64 appointment_id)
{
	int64 key[3] = {(int64) MyDatabaseId, company_id, appointment_id};

	return (int) (hash_bytes((const unsigned char *) key, sizeof(key)) & (N_ROOMS - 1));
}

/* XactCallback: wakes whom the transaction concerns. */
static void
transaction_ends(XactEvent event, void *arg)
{
	if (!has_pending)
		return;
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PREPARE:
			for (int i = 0; i < N_ROOMS; i++)
			{
				if (pending[i / 64] & (UINT64CONST(1) << (i % 64)))
					ConditionVariableBroadcast(&shared->room[i]);
			}
			break;
		case XACT_EVENT_ABORT:
			break;
		default:
			return;
	}
	memset(pending, 0, sizeof(pending));
	has_pending = false;
}

/* Wakes those who wait for the appointment, at commit. */
void
tc_booking_changed_at_commit(int64 company_id, int64 appointment_id)
{
	static bool registered = false;
	int room = room_of(company_id, appointment_id);

	if (!registered)
		RegisterXactCallback(transaction_ends, NULL);
	registered = true;
	pending[room / 64] |= UINT64CONST(1) << (room % 64);
	has_pending = true;
}

/* Enters the room. */
void
tc_booking_wait_begin(int64 company_id, int64 appointment_id)
{
	waiting_in = room_of(company_id, appointment_id);
	ConditionVariablePrepareToSleep(&shared->room[waiting_in]);
}

/* Sleeps until something changed, or the time is over. */
void
tc_booking_wait_sleep(long timeout_ms)
{
	(void) ConditionVariableTimedSleep(&shared->room[waiting_in], Min(timeout_ms, MAX_SLEEP_MS),
									   tc_wait_event("TenantcallBookingResult"));
}

/* Leaves it. */
void
tc_booking_wait_end(void)
{
	ConditionVariableCancelSleep();
}
