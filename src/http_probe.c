/*
 * http_probe.c
 *		Requests of SQL functions that wait for the answer, by way of slots in shared memory.
 *
 *		backend: slot FREE -> ASKED --wake--> worker: TAKEN -> DONE --latch--> backend: FREE
 *
 * A backend that stops waiting (cancelled, timed out, terminated) leaves: an ASKED slot is free at
 * once, a TAKEN one when its requests have ended.  A worker that starts frees what its predecessor
 * had taken; its backends are told that the outcome is unknown.
 *
 * The slots' states change under tc_http_lock().  A slot's order is written by the backend before
 * ASKED, its sum by the worker while TAKEN.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "elected.h"
#include "errors.h"
#include "http.h"
#include "http_launcher.h"
#include "http_probe.h"
#include "http_reasons.h"
#include "http_shmem.h"

#define SLOTS 64
#define LOOK_MS 1000  /* then look whether the worker is still there */
#define GRACE_MS 5000 /* beyond the deadline, by which the worker has to answer */
#define NS_PER_US INT64CONST(1000)

typedef enum SlotState
{
	SLOT_FREE,
	SLOT_ASKED,
	SLOT_TAKEN,
	SLOT_DONE
} SlotState;

typedef struct Slot
{
	SlotState state;
	Oid database;
	int proc;	   /* whom to wake */
	bool deserted; /* nobody waits any more */
	TcHttpProbeOrder order;
	TcHttpProbeSum sum;
} Slot;

/* What the worker keeps of a slot that it has taken. */
typedef struct Work
{
	Slot *slot;
	int64 started, ended;
} Work;

static Slot *slots = NULL;
static Slot *mine = NULL; /* of this backend */

/* Size of the slots. */
Size
tc_http_probe_size(void)
{
	return mul_size(SLOTS, sizeof(Slot));
}

/* Finds the slots, or creates them; under AddinShmemInitLock. */
void
tc_http_probe_startup(void)
{
	bool found;

	slots = ShmemInitStruct("tenantcall http probes", tc_http_probe_size(), &found);
	if (!found)
		memset(slots, 0, tc_http_probe_size());
}

/* --- the backend's side --- */

/* Takes a slot. */
static Slot *
ask(const TcHttpProbeOrder *order)
{
	Slot *slot = NULL;

	LWLockAcquire(tc_http_lock(), LW_EXCLUSIVE);
	for (int i = 0; i < SLOTS && slot == NULL; i++)
	{
		if (slots[i].state == SLOT_FREE)
			slot = &slots[i];
	}
	if (slot != NULL)
	{
		memset(slot, 0, sizeof(*slot));
		slot->order = *order;
		slot->database = MyDatabaseId;
		slot->proc = TC_MY_PROC_NUMBER;
		slot->state = SLOT_ASKED;
	}
	LWLockRelease(tc_http_lock());
	return slot;
}

/* Leaves the slot, also when the backend is told to exit. */
static void
desert(int code, Datum arg)
{
	LWLockAcquire(tc_http_lock(), LW_EXCLUSIVE);
	if (mine->state == SLOT_TAKEN)
		mine->deserted = true;
	else
		mine->state = SLOT_FREE;
	LWLockRelease(tc_http_lock());
	mine = NULL;
}

/* Is it done? */
static bool
is_done(void)
{
	bool done;

	LWLockAcquire(tc_http_lock(), LW_SHARED);
	done = mine->state == SLOT_DONE;
	LWLockRelease(tc_http_lock());
	return done;
}

/* Raises: there is no worker. */
static TC_NORETURN void
report_no_worker(void)
{
	ereport(ERROR, (errcode(ERRCODE_TC_UNAVAILABLE), errmsg("no HTTP worker runs in this database"),
					errhint("Add the database to tenantcall.worker_databases and restart the "
							"server.  If it is there, see the server log.")));
}

/* Waits for the worker. */
static void
wait_for_worker(TimestampTz give_up)
{
	while (!is_done())
	{
		long left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), give_up);

		if (left == 0 && !tc_http_worker_alive())
			report_no_worker();
		if (TimestampDifferenceExceeds(give_up, GetCurrentTimestamp(), GRACE_MS))
			ereport(ERROR,
					(errcode(ERRCODE_TC_UNAVAILABLE), errmsg("the HTTP worker does not answer"),
					 errhint("See the server log, and what the worker is doing in "
							 "pg_stat_activity.")));
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 left > 0 ? Min(left, LOOK_MS) : LOOK_MS,
						 tc_wait_event("TenantcallHttpAnswer"));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* Has the worker ask; one that is about to start is waited for. */
void
tc_http_probe(const TcHttpProbeOrder *order, TcHttpProbeSum *sum)
{
	tc_require_elected();
	if (!tc_http_worker_alive() && !tc_http_database_listed())
		report_no_worker();
	mine = ask(order);
	if (mine == NULL)
		ereport(ERROR, (errcode(ERRCODE_TC_LIMITED), errmsg("too many requests are waiting"),
						errhint("Repeat it later.")));
	PG_ENSURE_ERROR_CLEANUP(desert, (Datum) 0);
	{
		tc_http_wake();
		wait_for_worker(order->deadline);
	}
	PG_END_ENSURE_ERROR_CLEANUP(desert, (Datum) 0);
	*sum = mine->sum;
	desert(0, (Datum) 0);
}

/* --- the worker's side --- */

static void probe_done(TcHttpJob *job, const TcHttpResult *result);

/* All requests of a slot have ended. */
static void
finish(Slot *slot)
{
	LWLockAcquire(tc_http_lock(), LW_EXCLUSIVE);
	slot->state = slot->deserted ? SLOT_FREE : SLOT_DONE;
	if (!slot->deserted)
		SetLatch(&GetPGProcByNumber(slot->proc)->procLatch);
	LWLockRelease(tc_http_lock());
}

/* Hands one request in. */
static void
submit(TcHttpJob *job, Work *work)
{
	const TcHttpProbeOrder *order = &work->slot->order;

	memset(job, 0, sizeof(*job));
	job->class = order->class;
	job->company_id = order->company_id;
	strlcpy(job->credential, order->credential, NAMEDATALEN);
	job->method = order->method;
	job->path = order->path;
	job->body = order->body[0] != '\0' ? order->body : NULL;
	job->body_len = strlen(order->body);
	job->deadline = order->deadline;
	job->done = probe_done;
	job->arg = work;
	work->started++;
	tc_http_submit(job);
}

/* Adds a result to the sum. */
static void
add_result(TcHttpProbeSum *sum, const TcHttpJob *job, const TcHttpResult *result)
{
	int64 latency = (tc_http_now() - job->started) / NS_PER_US;

	sum->sent = sum->sent || result->sent;
	sum->retry_after_ms = result->retry_after_ms;
	if (!result->answered)
	{
		if (result->sent || job->started != 0)
			sum->failed++;
		else
			sum->refused++;
		strlcpy(sum->reason, result->reason, sizeof(sum->reason));
		return;
	}
	sum->status = result->status;
	sum->len = result->len;
	if (result->status < 400)
		sum->answered++;
	else
		sum->failed++;
	sum->latency_sum += latency;
	sum->latency_max = Max(sum->latency_max, latency);
}

/* A request has ended: the next one, or the end. */
static void
probe_done(TcHttpJob *job, const TcHttpResult *result)
{
	Work *work = job->arg;
	Slot *slot = work->slot;

	add_result(&slot->sum, job, result);
	work->ended++;
	if (work->started < slot->order.requests && !slot->deserted)
	{
		submit(job, work);
		return;
	}
	pfree(job);
	if (work->ended < work->started)
		return;
	finish(slot);
	pfree(work);
}

/* Begins with a slot. */
static void
begin(Slot *slot)
{
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);
	Work *work = palloc0(sizeof(Work));
	int64 at_once = Min(slot->order.at_once, slot->order.requests);

	work->slot = slot;
	for (int64 i = 0; i < at_once; i++)
		submit(palloc0(sizeof(TcHttpJob)), work);
	MemoryContextSwitchTo(caller);
}

/* Takes a slot of this database that was asked for; NULL: none. */
static Slot *
take_slot(void)
{
	Slot *slot = NULL;

	LWLockAcquire(tc_http_lock(), LW_EXCLUSIVE);
	for (int i = 0; i < SLOTS && slot == NULL; i++)
	{
		if (slots[i].state == SLOT_ASKED && slots[i].database == MyDatabaseId)
			slot = &slots[i];
	}
	if (slot != NULL)
		slot->state = SLOT_TAKEN;
	LWLockRelease(tc_http_lock());
	return slot;
}

/* Looks for slots that were asked for. */
static void
probe_poll(void)
{
	Slot *slot;

	while ((slot = take_slot()) != NULL)
		begin(slot);
}

/* What an earlier worker had taken will not be answered. */
static void
probe_start(void)
{
	for (int i = 0; i < SLOTS; i++)
	{
		Slot *slot = &slots[i];
		bool lost;

		LWLockAcquire(tc_http_lock(), LW_SHARED);
		lost = slot->state == SLOT_TAKEN && slot->database == MyDatabaseId;
		LWLockRelease(tc_http_lock());
		if (!lost)
			continue;
		slot->sum.sent = true;
		strlcpy(slot->sum.reason, TC_HTTP_R_SHUTDOWN, sizeof(slot->sum.reason));
		finish(slot);
	}
}

/* Registers the source. */
void
tc_http_probe_init(void)
{
	static const TcHttpSource source = {
		.name = "probes",
		.start = probe_start,
		.poll = probe_poll,
	};

	tc_http_add_source(&source);
}
