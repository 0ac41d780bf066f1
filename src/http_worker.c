/*
 * http_worker.c
 *		The background worker that speaks HTTP, one in a database.
 *
 *		sources --submit--> queues --dispatch--> libcurl --end--> queues --done()--> sources
 *
 * It waits for its latch (work has come) and for libcurl's sockets (an epoll fd) at once, with no
 * transaction and no snapshot.  Sources work in short transactions of their own; their errors are
 * logged, and the worker goes on.  A source that fails is asked less often for a while.
 *
 * On SIGTERM what a source is running is cancelled, every job under way is told that its outcome
 * will not be known, and the worker ends within EXIT_MS.  The launcher starts it again.
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "elected.h"
#include "http.h"
#include "http_database.h"
#include "http_settings.h"
#include "http_shmem.h"
#include "http_source.h"
#include "http_worker.h"
#include "node.h"

#define NS_PER_MS INT64CONST(1000000)
#define EXIT_MS 1500
#define REST_MAX_MS 60000
#define WISH_US 10000		 /* at least between two polls that only sources wish for */
#define LOCK_TIMEOUT "250ms" /* a source that waits for a lock holds up everything else */

PGDLLEXPORT void tc_http_worker_main(Datum arg);

/* How a source that failed rests. */
typedef struct Rest
{
	int failures; /* in a row */
	int64 until;
} Rest;

static volatile sig_atomic_t in_source = false;
static MemoryContext loop_context = NULL;
static bool extension_exists = false;
static bool extension_known = false; /* is the above so? */
static Rest rests[TC_HTTP_MAX_SOURCES];

/* SIGTERM: ends the loop; a statement that runs is cancelled. */
static void
end_worker(SIGNAL_ARGS)
{
	int save_errno = errno;

	ShutdownRequestPending = true;
	if (in_source)
	{
		InterruptPending = true;
		QueryCancelPending = true;
	}
	SetLatch(MyLatch);
	errno = save_errno;
}

/* Runs code that may raise. */
bool
tc_http_protected(void (*run)(void *arg), void *arg)
{
	bool outer = in_source;
	volatile bool ok = true;

	in_source = true;
	PG_TRY();
	{
		run(arg);
		if (IsTransactionState())
			elog(ERROR, "a transaction was left open");
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		EmitErrorReport();
		FlushErrorState();
		AbortOutOfAnyTransaction();
		LWLockReleaseAll();
		RESUME_INTERRUPTS();
		ok = false;
	}
	PG_END_TRY();
	in_source = outer;
	QueryCancelPending = false;
	MemoryContextSwitchTo(loop_context);
	return ok;
}

/* Syscache callback: a schema came or went, and perhaps the extension with it. */
static void
schema_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	extension_known = false;
}

/* tc_http_protected() callback: does this database have the extension? */
static void
look_for_extension(void *arg)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	if (!extension_known)
	{
		extension_known = true;
		extension_exists = OidIsValid(get_extension_oid("tenantcall", true));
	}
	CommitTransactionCommand();
}

/* tc_http_protected() callback: sets the sources up. */
static void
start_sources(void *arg)
{
	for (int i = 0; i < tc_http_source_count(); i++)
	{
		if (tc_http_source(i)->start != NULL)
			tc_http_source(i)->start();
	}
}

/* Names the source in whatever it raises. */
static void
source_context(void *arg)
{
	errcontext("work of \"%s\" in the HTTP worker", ((const TcHttpSource *) arg)->name);
}

/* tc_http_protected() callback: one source looks for work. */
static void
poll_source(void *arg)
{
	const TcHttpSource *source = arg;
	ErrorContextCallback callback = {error_context_stack, source_context, arg};

	error_context_stack = &callback;
	source->poll();
	error_context_stack = callback.previous;
}

/* tc_http_protected() callback: is this node the one that speaks to calendars? */
static void
look_for_election(void *arg)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	tc_elected_look();
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/* Does the source have work here? */
static bool
is_served(const TcHttpSource *source)
{
	return (extension_exists || !source->wants_extension) &&
		   (source->everywhere || tc_elected_speaks());
}

/* A source looks for work, unless it has just failed: then it rests, each time twice as long. */
static void
poll_one(int number)
{
	const TcHttpSource *source = tc_http_source(number);
	Rest *rest = &rests[number];

	if (rest->until > tc_http_now() || !is_served(source))
		return;
	rest->until = 0;
	if (tc_http_protected(poll_source, unconstify(TcHttpSource *, source)))
		rest->failures = 0;
	else
	{
		rest->failures = Min(rest->failures + 1, 10);
		rest->until = tc_http_now() + Min(100 << rest->failures, REST_MAX_MS) * NS_PER_MS;
	}
}

/* All sources look for work. */
static void
poll_sources(void)
{
	if (!tc_http_protected(look_for_extension, NULL))
		extension_exists = false;
	if (unlikely(tc_node_citus))
		(void) tc_http_protected(look_for_election, NULL);
	for (int i = 0; i < tc_http_source_count() && !ShutdownRequestPending; i++)
		poll_one(i);
}

/* When sources are to be polled at the latest, in ms from now. */
static long
until_poll(TimestampTz last)
{
	int64 longest = tc_http_settings.poll_interval * INT64CONST(1000);
	TimestampTz now = GetCurrentTimestamp();
	int64 wait = longest - (now - last) / 1000;
	long look = tc_elected_wish();

	if (look >= 0)
		wait = Min(wait, look - (now - last) / 1000);

	for (int i = 0; i < tc_http_source_count(); i++)
	{
		const TcHttpSource *source = tc_http_source(i);
		TimestampTz wish = source->next != NULL ? source->next() : 0;

		if (!is_served(source))
			continue;
		if (rests[i].until != 0)
			wait = Min(wait, (rests[i].until - tc_http_now()) / NS_PER_MS + 1);
		else if (wish != 0)
			wait = Min(wait, (Max(wish, last + WISH_US) - now + 999) / 1000);
	}
	return wait > longest ? 0 : Max(0, wait); /* more: the clock was set back */
}

/* What pg_stat_activity shows: numbers only. */
static void
show_activity(void)
{
	static int shown = -1;
	char text[64];
	int under_way;
	bool busy = tc_http_busy(&under_way);
	int now = busy ? (under_way > 0 ? 2 : 1) : tc_elected_speaks() ? 0 : 3;

	if (now == shown)
		return;
	shown = now;
	snprintf(text, sizeof(text), "%s",
			 now == 2	? "requests under way"
			 : now == 1 ? "requests wait"
			 : now == 3 ? "another node is elected to speak to calendars"
						: "nothing to do");
	pgstat_report_activity(busy ? STATE_RUNNING : STATE_IDLE, text);
}

/* What the worker waits for.  Made once: a set for each wait would cost six system calls. */
static WaitEventSet *
make_wait_set(void)
{
	WaitEventSet *set = tc_create_wait_event_set(3);

	AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	if (tc_http_engine != NULL)
		AddWaitEventToSet(set, WL_SOCKET_READABLE, tc_http_lib->fd(tc_http_engine), NULL, NULL);
	return set;
}

/* Waits until there is something to do; true if the latch was set. */
static bool
wait_for_work(WaitEventSet *set, long ms)
{
	WaitEvent occurred[3];
	bool woken = false;
	int n;

	if (tc_http_engine != NULL)
	{
		long timer = tc_http_lib->timeout(tc_http_engine);

		if (timer >= 0)
			ms = Min(ms, timer);
	}
	n = WaitEventSetWait(set, ms, occurred, lengthof(occurred), tc_wait_event("TenantcallHttp"));
	for (int i = 0; i < n; i++)
		woken = woken || (occurred[i].events & WL_LATCH_SET) != 0;
	if (woken)
		ResetLatch(MyLatch);
	return woken;
}

/* One turn: looks for work if it is time, and goes on with what is under way. */
static bool
take_turn(WaitEventSet *set, bool woken)
{
	static TimestampTz polled = 0;
	long wait;

	MemoryContextReset(loop_context);
	if (woken || until_poll(polled) == 0)
	{
		polled = GetCurrentTimestamp();
		poll_sources();
	}
	if (tc_http_engine != NULL)
		tc_http_lib->run(tc_http_engine);
	(void) tc_http_deliver();
	wait = until_poll(polled);
	tc_http_dispatch(&wait);
	show_activity();
	(void) pgstat_report_stat(false);
	return wait_for_work(set, tc_http_refusals() ? 0 : wait);
}

/* Connects, and enters itself. */
static void
start_worker(Oid database)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, end_worker);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	if (!tc_http_database_enter())
		proc_exit(0);
	SetConfigOption("lock_timeout", LOCK_TIMEOUT, PGC_SUSET, PGC_S_OVERRIDE);
	tc_http_unpin_entries();
	loop_context =
		AllocSetContextCreate(TopMemoryContext, "tenantcall http worker", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(loop_context);
	CacheRegisterSyscacheCallback(NAMESPACEOID, schema_changed, (Datum) 0);
	tc_http_queue_init();
	tc_http_send_init();
	(void) tc_http_protected(start_sources, NULL);
}

/* The background worker. */
void
tc_http_worker_main(Datum arg)
{
	WaitEventSet *set;
	bool woken = true;

	start_worker(DatumGetObjectId(arg));
	set = make_wait_set();
	while (!ShutdownRequestPending)
	{
		QueryCancelPending = false; /* nothing of ours runs */
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		woken = take_turn(set, woken);
	}
	tc_http_shut_down(tc_http_now() + EXIT_MS * NS_PER_MS);
	tc_http_unpin_entries();
	proc_exit(1);
}
