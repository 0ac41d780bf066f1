/*
 * http_database.c
 *		Which HTTP worker runs in which database, and waking it.
 *
 * A worker enters itself into a small table in shared memory.  Whoever has work for it sets its
 * latch: at once, or when the transaction commits.  A latch may by then belong to a later process,
 * which a needless wake does not harm.
 *
 * The table's own lock, a spinlock, is held for a few instructions.
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "storage/spin.h"

#include "compat.h"
#include "http.h"
#include "http_database.h"
#include "http_shmem.h"

#define NS_PER_MS INT64CONST(1000000)
#define CLEAR_MS 10000 /* so long a database stays without a worker */
#define WAIT_MS 5000   /* at most, for a worker to end */

typedef struct Seat
{
	Oid database; /* InvalidOid: free */
	int pid;	  /* 0: no worker */
	int proc;	  /* number of its PGPROC */
	int helper;	  /* pid of the process that does maintenance; 0: none */
	int64 clear_until;
	int duty;	   /* of the worker: TcDuty */
	int64 retired; /* election after which it has ended to speak; 0: it speaks */
} Seat;

typedef struct Seats
{
	slock_t lock;
	Seat seats[TC_HTTP_MAX_WORKERS];
} Seats;

static Seats *table = NULL;
static int wake_level = 0; /* outermost nest level that asked for a wake; 0: none */

/* Size of the table. */
Size
tc_http_database_size(void)
{
	return sizeof(Seats);
}

/* Finds the table, or creates it; under AddinShmemInitLock. */
void
tc_http_database_startup(void)
{
	bool found;

	table = ShmemInitStruct("tenantcall http workers", sizeof(Seats), &found);
	if (found)
		return;
	memset(table, 0, sizeof(Seats));
	SpinLockInit(&table->lock);
}

/* A database's seat, taking a free one if wished; NULL: none.  The table is locked. */
static Seat *
find_seat(Oid database, bool make)
{
	int64 now = tc_http_now();
	Seat *room = NULL;

	for (int i = 0; i < TC_HTTP_MAX_WORKERS; i++)
	{
		Seat *seat = &table->seats[i];

		if (seat->database == database)
			return seat;
		if (room == NULL && seat->pid == 0 && seat->helper == 0 && seat->clear_until <= now)
			room = seat;
	}
	if (!make || room == NULL)
		return NULL;
	memset(room, 0, sizeof(Seat));
	room->database = database;
	return room;
}

/* Copies a database's seat; false if it has none. */
static bool
read_seat(Oid database, Seat *copy)
{
	Seat *seat;

	SpinLockAcquire(&table->lock);
	seat = find_seat(database, false);
	if (seat != NULL)
		*copy = *seat;
	SpinLockRelease(&table->lock);
	return seat != NULL;
}

/* before_shmem_exit callback of the worker. */
static void
leave_seat(int code, Datum arg)
{
	Seat *seat;

	SpinLockAcquire(&table->lock);
	seat = find_seat(MyDatabaseId, false);
	if (seat != NULL && seat->pid == MyProcPid)
		seat->pid = 0;
	SpinLockRelease(&table->lock);
}

/* The worker enters itself. */
bool
tc_http_database_enter(void)
{
	Seat *seat;
	bool ok;

	SpinLockAcquire(&table->lock);
	seat = find_seat(MyDatabaseId, true);
	ok = seat != NULL && seat->pid == 0;
	if (ok)
	{
		seat->pid = MyProcPid;
		seat->duty = 0;
		seat->retired = 0;
		seat->proc = TC_MY_PROC_NUMBER;
	}
	SpinLockRelease(&table->lock);
	if (ok)
		before_shmem_exit(leave_seat, (Datum) 0);
	return ok;
}

/* The worker says what it does about calendars. */
void
tc_http_database_set_duty(int duty, int64 retired)
{
	Seat *seat;

	SpinLockAcquire(&table->lock);
	seat = find_seat(MyDatabaseId, false);
	if (seat != NULL && seat->pid == MyProcPid)
	{
		seat->duty = duty;
		seat->retired = retired;
	}
	SpinLockRelease(&table->lock);
}

/* What it has said; false: there is no worker. */
bool
tc_http_database_duty(int *duty, int64 *retired)
{
	Seat seat;

	if (table == NULL || !read_seat(MyDatabaseId, &seat) || seat.pid == 0)
		return false;
	*duty = seat.duty;
	*retired = seat.retired;
	return true;
}

/* before_shmem_exit callback of the helper. */
static void
leave_helper(int code, Datum arg)
{
	Seat *seat;

	SpinLockAcquire(&table->lock);
	seat = find_seat(MyDatabaseId, false);
	if (seat != NULL && seat->helper == MyProcPid)
		seat->helper = 0;
	SpinLockRelease(&table->lock);
}

/* The helper enters itself. */
bool
tc_http_database_help(void)
{
	Seat *seat;
	bool ok;

	SpinLockAcquire(&table->lock);
	seat = find_seat(MyDatabaseId, true);
	ok = seat != NULL && seat->helper == 0 && seat->clear_until <= tc_http_now();
	if (ok)
		seat->helper = MyProcPid;
	SpinLockRelease(&table->lock);
	if (ok)
		before_shmem_exit(leave_helper, (Datum) 0);
	return ok;
}

/* Is there a worker, or is there to be none? */
bool
tc_http_database_taken(Oid database)
{
	Seat seat;

	return read_seat(database, &seat) && (seat.pid != 0 || seat.clear_until > tc_http_now());
}

/* Ends a database's worker and its helper, and waits for their end. */
void
tc_http_database_clear(Oid database)
{
	int64 start = tc_http_now();
	Seat *seat;
	Seat copy = {0};

	if (table == NULL)
		return;
	SpinLockAcquire(&table->lock);
	seat = find_seat(database, true);
	if (seat != NULL)
	{
		seat->clear_until = start + CLEAR_MS * NS_PER_MS;
		copy = *seat;
	}
	SpinLockRelease(&table->lock);
	if (copy.pid != 0)
		(void) kill(copy.pid, SIGTERM);
	if (copy.helper != 0)
		(void) kill(copy.helper, SIGTERM);
	while ((copy.pid != 0 || copy.helper != 0) && tc_http_now() - start < WAIT_MS * NS_PER_MS)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 20,
						 tc_wait_event("TenantcallHttpEnd"));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (!read_seat(database, &copy))
			break;
	}
}

/* Is there a worker for this database? */
bool
tc_http_worker_alive(void)
{
	Seat seat;

	return table != NULL && read_seat(MyDatabaseId, &seat) && seat.pid != 0;
}

/* Wakes this database's worker. */
void
tc_http_wake(void)
{
	Seat seat;

	if (table != NULL && read_seat(MyDatabaseId, &seat) && seat.pid != 0)
		SetLatch(&GetPGProcByNumber(seat.proc)->procLatch);
}

/* XactCallback: at commit the work is there to be seen. */
static void
end_transaction(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	if (event == XACT_EVENT_COMMIT && wake_level > 0)
		tc_http_wake();
	wake_level = 0;
}

/* SubXactCallback: a wish is its parent's after commit, and nobody's after an abort. */
static void
end_subtransaction(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	int level = GetCurrentTransactionNestLevel();

	if (wake_level < level)
		return;
	if (event == SUBXACT_EVENT_ABORT_SUB)
		wake_level = 0;
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
		wake_level = level - 1;
}

/* Wakes this database's worker when the transaction commits. */
void
tc_http_wake_at_commit(void)
{
	static bool registered = false;
	int level = GetCurrentTransactionNestLevel();

	if (!registered)
	{
		RegisterXactCallback(end_transaction, NULL);
		RegisterSubXactCallback(end_subtransaction, NULL);
		registered = true;
	}
	if (wake_level == 0 || level < wake_level)
		wake_level = level;
}
