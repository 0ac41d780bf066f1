/*
 * http_launcher.c
 *		Starts an HTTP worker in each database of tenantcall.worker_databases.
 *
 * A process of its own, connected to no database: it waits for databases that do not exist yet,
 * starts workers again that have ended, and stays away from databases that are being dropped.  It
 * begins when the server takes writes, so a standby has workers once it is promoted.
 *
 * DROP DATABASE and its like fail while somebody is connected: a hook ends the worker first.
 *
 * No locks but those of the catalog and of http_database.c.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/varlena.h"

#include "compat.h"
#include "http_database.h"
#include "http_launcher.h"
#include "http_settings.h"
#include "http_shmem.h"

#define LOOK_MS 1000	/* how often it looks */
#define RESTART_MS 5000 /* at least between two starts in one database */
#define NS_PER_MS INT64CONST(1000000)

PGDLLEXPORT void tc_http_launcher_main(Datum arg);

/* What has been started. */
typedef struct Started
{
	Oid database;
	BackgroundWorkerHandle *handle;
	int64 at;
} Started;

static Started started[TC_HTTP_MAX_WORKERS];
static ProcessUtility_hook_type prev_utility = NULL;

/* Has a worker been started that has not ended? */
static bool
under_way(const Started *note)
{
	pid_t pid;
	BgwHandleStatus status;

	if (note->handle == NULL)
		return false;
	status = GetBackgroundWorkerPid(note->handle, &pid);
	return status == BGWH_STARTED || status == BGWH_NOT_YET_STARTED;
}

/* The note of a database, or one that is not needed; NULL: no room. */
static Started *
find_started(Oid database)
{
	Started *room = NULL;

	for (int i = 0; i < TC_HTTP_MAX_WORKERS; i++)
	{
		if (started[i].database == database)
			return &started[i];
		if (room == NULL && !under_way(&started[i]))
			room = &started[i];
	}
	return room;
}

/* Starts a worker in a database, unless one runs or has just been started. */
static void
start_worker(Oid database, const char *name)
{
	BackgroundWorker worker = {
		.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
		.bgw_start_time = BgWorkerStart_RecoveryFinished,
		.bgw_restart_time = BGW_NEVER_RESTART, /* that is what we are here for */
		.bgw_type = "tenantcall http worker",
		.bgw_library_name = "tenantcall",
		.bgw_function_name = "tc_http_worker_main",
		.bgw_main_arg = ObjectIdGetDatum(database),
		.bgw_notify_pid = MyProcPid,
	};
	Started *note = find_started(database);
	int64 now = tc_http_now();

	if (note == NULL || under_way(note) || tc_http_database_taken(database) ||
		(note->database == database && now - note->at < RESTART_MS * NS_PER_MS))
		return;
	snprintf(worker.bgw_name, BGW_MAXLEN, "tenantcall http worker (%s)", name);
	if (note->handle != NULL)
		pfree(note->handle);
	note->handle = NULL;
	note->database = database;
	note->at = now;
	if (!RegisterDynamicBackgroundWorker(&worker, &note->handle))
		ereport(WARNING, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
						  errmsg("could not start an HTTP worker in database \"%s\"", name),
						  errhint("Increase max_worker_processes.")));
}

/* The databases of the setting. */
static List *
wanted_databases(void)
{
	List *names = NIL;

	if (tc_http_settings.databases == NULL)
		return NIL;
	if (!SplitGUCList(pstrdup(tc_http_settings.databases), ',', &names))
	{
		ereport(LOG, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					  errmsg("tenantcall.worker_databases is not a list of names")));
		return NIL;
	}
	return names;
}

/* A database that is to have a worker. */
typedef struct Wanted
{
	Oid database;
	NameData name;
} Wanted;

/* Is the name in the list? */
static bool
is_listed(List *names, const char *name)
{
	ListCell *cell;

	foreach(cell, names)
	{
		if (strcmp(lfirst(cell), name) == 0)
			return true;
	}
	return false;
}

/* The wanted databases that exist.  A plain scan: without a database, indexes cannot be opened. */
static int
find_databases(Wanted *wanted)
{
	List *names = wanted_databases();
	Relation rel;
	TableScanDesc scan;
	HeapTuple tuple;
	int n = 0;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while (n < TC_HTTP_MAX_WORKERS && (tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);

		if (!form->datallowconn || !is_listed(names, NameStr(form->datname)))
			continue;
		wanted[n].database = form->oid;
		wanted[n++].name = form->datname;
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	return n;
}

/* Starts what is missing. */
static void
start_workers(void)
{
	Wanted wanted[TC_HTTP_MAX_WORKERS];
	int n = find_databases(wanted);
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);

	for (int i = 0; i < n; i++)
		start_worker(wanted[i].database, NameStr(wanted[i].name));
	MemoryContextSwitchTo(caller);
}

/* Is this process's database one that is to have a worker? */
bool
tc_http_database_listed(void)
{
	List *names = wanted_databases();
	char *mine = names != NIL ? get_database_name(MyDatabaseId) : NULL;

	return mine != NULL && is_listed(names, mine);
}

/* The launcher. */
void
tc_http_launcher_main(Datum arg)
{
	MemoryContext loop =
		AllocSetContextCreate(TopMemoryContext, "tenantcall http launcher", ALLOCSET_DEFAULT_SIZES);

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	while (!ShutdownRequestPending)
	{
		MemoryContextSwitchTo(loop);
		MemoryContextReset(loop);
		start_workers();
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, LOOK_MS,
						 tc_wait_event("TenantcallHttpLauncher"));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
	}
	proc_exit(1);
}

/* The template that CREATE DATABASE names, or NULL. */
static const char *
template_of(const CreatedbStmt *stmt)
{
	ListCell *cell;

	foreach(cell, stmt->options)
	{
		DefElem *option = lfirst_node(DefElem, cell);

		if (strcmp(option->defname, "template") == 0 && option->arg != NULL)
			return defGetString(option);
	}
	return NULL;
}

/* The database that must be free of connections for the statement, or NULL. */
static const char *
database_of(Node *statement)
{
	if (IsA(statement, DropdbStmt))
		return castNode(DropdbStmt, statement)->dbname;
	if (IsA(statement, CreatedbStmt))
		return template_of(castNode(CreatedbStmt, statement));
	if (IsA(statement, RenameStmt) &&
		castNode(RenameStmt, statement)->renameType == OBJECT_DATABASE)
		return castNode(RenameStmt, statement)->subname;
	return NULL;
}

/* ProcessUtility_hook */
static void
clear_utility(PlannedStmt *pstmt, const char *query, bool read_only, ProcessUtilityContext context,
			  ParamListInfo params, QueryEnvironment *environment, DestReceiver *dest,
			  QueryCompletion *completion)
{
	const char *name = database_of(pstmt->utilityStmt);
	Oid database = name != NULL ? get_database_oid(name, true) : InvalidOid;

	if (OidIsValid(database) && tc_owns_database(database, GetUserId()))
		tc_http_database_clear(database);
	if (prev_utility)
		prev_utility(pstmt, query, read_only, context, params, environment, dest, completion);
	else
		standard_ProcessUtility(pstmt, query, read_only, context, params, environment, dest,
								completion);
}

/* While preloaded, and if there are databases to serve, registers the launcher. */
void
tc_http_launcher_init(void)
{
	BackgroundWorker worker = {
		.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
		.bgw_start_time = BgWorkerStart_RecoveryFinished,
		.bgw_restart_time = 5,
		.bgw_name = "tenantcall http launcher",
		.bgw_type = "tenantcall http launcher",
		.bgw_library_name = "tenantcall",
		.bgw_function_name = "tc_http_launcher_main",
	};

	/* the servers that pg_upgrade starts are for itself: nothing may be sent or written there */
	if (IsBinaryUpgrade || tc_http_settings.databases == NULL ||
		tc_http_settings.databases[0] == '\0')
		return;
	RegisterBackgroundWorker(&worker);
	prev_utility = ProcessUtility_hook;
	ProcessUtility_hook = clear_utility;
}
