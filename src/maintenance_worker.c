/*
 * maintenance_worker.c
 *		The HTTP worker's own timer: essential maintenance where pg_cron does not do it.
 *
 *		HTTP worker --every maintenance_interval--> process "tenantcall maintenance" --> run
 *
 * The worker serves callers on the line and does none of it itself: it starts a process, which
 * runs what is due, one short transaction after the other, and ends.  What anybody has run lately,
 * pg_cron as a rule, is not due.  DROP DATABASE and its like end the process with the worker
 * (http_database.c); while the extension is being dropped it goes no further (ready.c).  On a
 * standby there is no HTTP worker.
 *
 * Locks: those of a run.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "http.h"
#include "http_database.h"
#include "maintenance.h"
#include "ready.h"
#include "telephony.h"

PGDLLEXPORT void tc_maintenance_worker_main(Datum arg);

static int interval = 300; /* setting, in s; 0: off */

static TimestampTz next_start = 0; /* in the HTTP worker */
static BackgroundWorkerHandle *started = NULL;

/* --- in the HTTP worker ---------------------------------------------------------------------- */

/* Is the process that was started last still there? */
static bool
under_way(void)
{
	BgwHandleStatus status;
	pid_t pid;

	if (started == NULL)
		return false;
	status = GetBackgroundWorkerPid(started, &pid);
	return status == BGWH_STARTED || status == BGWH_NOT_YET_STARTED;
}

/* Starts the process. */
static void
start_process(void)
{
	BackgroundWorker worker = {
		.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
		.bgw_start_time = BgWorkerStart_RecoveryFinished,
		.bgw_restart_time = BGW_NEVER_RESTART,
		.bgw_name = "tenantcall maintenance",
		.bgw_type = "tenantcall maintenance",
		.bgw_library_name = "tenantcall",
		.bgw_function_name = "tc_maintenance_worker_main",
		.bgw_main_arg = ObjectIdGetDatum(MyDatabaseId),
	};
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);

	if (started != NULL)
		pfree(started);
	started = NULL;
	if (!RegisterDynamicBackgroundWorker(&worker, &started))
		ereport(WARNING, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
						  errmsg("could not start a process for maintenance"),
						  errhint("Increase max_worker_processes.")));
	MemoryContextSwitchTo(caller);
}

/* TcHttpSource.poll: starts the process when it is time. */
static void
poll(void)
{
	TimestampTz now = GetCurrentTimestamp();
	int64 span = interval * USECS_PER_SEC;

	if (interval == 0)
		next_start = 0;
	else if (next_start == 0 || next_start > now + span) /* or the clock, or the setting, changed */
		next_start = now + span;
	else if (next_start <= now)
	{
		next_start = now + span;
		if (!under_way())
			start_process();
	}
}

/* TcHttpSource.next */
static TimestampTz
next_poll(void)
{
	return interval == 0 ? 0 : next_start;
}

/* Defines the setting, and registers the source. */
void
tc_maintenance_worker_init(void)
{
	static const TcHttpSource source = {.name = "maintenance",
										.poll = poll,
										.next = next_poll,
										.wants_extension = true,
										.everywhere = true};

	DefineCustomIntVariable("tenantcall.maintenance_interval",
							"Time after which the HTTP worker has essential maintenance done.",
							"What was run meanwhile is left out.  0: never.", &interval, 300, 0,
							86400, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	tc_http_add_source(&source);
}

/* --- in the process -------------------------------------------------------------------------- */

/* Begins a transaction that keeps the extension in place; false: it is going, or gone. */
static bool
begin(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	return tc_hold_extension();
}

/* Ends it. */
static void
end(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
	(void) pgstat_report_stat(false);
}

/* TcMaintenanceRun.commit */
static bool
commit(void)
{
	MemoryContext caller = CurrentMemoryContext;
	bool ok;

	end();
	ok = begin();
	MemoryContextSwitchTo(caller);
	return ok;
}

/* The background worker: everything that is due, once. */
void
tc_maintenance_worker_main(Datum arg)
{
	TcMaintenanceRun run = {.commit = commit, .by = "tenantcall worker", .interval = interval};
	MemoryContext memory;
	bool ok;

	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(arg), InvalidOid, 0);
	if (!tc_http_database_help())
		proc_exit(0);
	memory =
		AllocSetContextCreate(TopMemoryContext, "tenantcall maintenance", ALLOCSET_DEFAULT_SIZES);
	pgstat_report_activity(STATE_RUNNING, "maintenance");
	ok = begin() && tc_telephony() != NULL;
	for (int i = 0; ok && i < tc_maintenance_njobs(); i++)
	{
		MemoryContextReset(memory);
		MemoryContextSwitchTo(memory);
		ok = tc_maintenance_run(&run, i);
	}
	end();
	proc_exit(0);
}
