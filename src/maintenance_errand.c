/*
 * maintenance_errand.c
 *		To pg_cron's table, when it is in another database.
 *
 *		backend --request, in shared memory--> process in that database, as the same role
 *		        <--answer, or error-----------
 *
 * A session cannot leave its database, but a background process can begin in any.  It connects
 * as the role that called, which needs the right to connect there, and does what that role could
 * do there by hand; its commit is its own.  The shared memory is mapped by both while it lasts.
 *
 * No locks: the backend looks at the memory only once the process has ended.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/dsm.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "maintenance_cron.h"

#define TEXT_MAX 32768 /* bytes of request and answer */
#define PART_MAX 1024  /* of each part of an error */

typedef enum Outcome
{
	NOT_DONE, /* it has not come to an end: see the server's log */
	DONE,
	FAILED
} Outcome;

typedef struct Errand
{
	char database[NAMEDATALEN];
	char role[NAMEDATALEN];
	char text[TEXT_MAX]; /* the request, then the answer */
	Outcome outcome;
	int sqlerrcode;
	char message[PART_MAX];
	char detail[PART_MAX];
	char hint[PART_MAX];
} Errand;

PGDLLEXPORT void tc_maintenance_errand_main(Datum arg);

/* --- the process ------------------------------------------------------------------------------ */

/* Copies a part of an error, which may be missing. */
static void
copy_part(char *to, const char *from)
{
	strlcpy(to, from == NULL ? "" : from, PART_MAX);
}

/* Does the errand; an error is written down. */
static void
run_errand(Errand *errand)
{
	MemoryContext memory = CurrentMemoryContext;

	PG_TRY();
	{
		char *answer;

		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		answer = tc_cron_sync(errand->text);
		if (strlcpy(errand->text, answer, TEXT_MAX) >= TEXT_MAX)
			elog(ERROR, "the answer is too long");
		PopActiveSnapshot();
		CommitTransactionCommand();
		errand->outcome = DONE;
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(memory);
		error = CopyErrorData();
		FlushErrorState();
		errand->sqlerrcode = error->sqlerrcode;
		copy_part(errand->message, error->message);
		copy_part(errand->detail, error->detail);
		copy_part(errand->hint, error->hint);
		errand->outcome = FAILED;
		AbortCurrentTransaction();
	}
	PG_END_TRY();
}

/* The background worker. */
void
tc_maintenance_errand_main(Datum arg)
{
	dsm_segment *segment;
	Errand *errand;

	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	segment = dsm_attach(DatumGetUInt32(arg));
	if (segment == NULL)
		proc_exit(0); /* nobody waits any more */
	dsm_pin_mapping(segment);
	errand = dsm_segment_address(segment);
	BackgroundWorkerInitializeConnection(errand->database, errand->role, 0);
	run_errand(errand);
	proc_exit(0);
}

/* --- who sends it ----------------------------------------------------------------------------- */

/* Raises unless the role may connect to the database. */
static void
require_connect(const char *database, const char *role)
{
	Oid oid = get_database_oid(database, true);

	if (!OidIsValid(oid))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("database \"%s\", which cron.database_name names, does not exist",
							   database),
						errhint("Create it and restart the server, or set cron.database_name.")));
	if (!tc_may_connect(oid, GetUserId()))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("role \"%s\" may not connect to database \"%s\", where pg_cron is",
							   role, database),
						errhint("GRANT CONNECT ON DATABASE %s TO %s.", database, role)));
}

/* Starts the process and waits for its end. */
static void
send(dsm_segment *segment)
{
	BackgroundWorker worker = {
		.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
		.bgw_start_time = BgWorkerStart_RecoveryFinished,
		.bgw_restart_time = BGW_NEVER_RESTART,
		.bgw_name = "tenantcall schedule",
		.bgw_type = "tenantcall schedule",
		.bgw_library_name = "tenantcall",
		.bgw_function_name = "tc_maintenance_errand_main",
		.bgw_main_arg = UInt32GetDatum(dsm_segment_handle(segment)),
		.bgw_notify_pid = MyProcPid,
	};
	BackgroundWorkerHandle *handle;

	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
		ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
						errmsg("could not start a process in the database of pg_cron"),
						errhint("Increase max_worker_processes.")));
	if (WaitForBackgroundWorkerShutdown(handle) == BGWH_POSTMASTER_DIED)
		ereport(FATAL, (errcode(ERRCODE_ADMIN_SHUTDOWN), errmsg("the postmaster is gone")));
}

/* Raises what the process raised, if it did not do the errand. */
static void
require_done(const Errand *errand)
{
	if (errand->outcome == NOT_DONE)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("the process in database \"%s\" ended before its time", errand->database),
				 errhint("The server's log says why.")));
	if (errand->outcome == FAILED)
		ereport(ERROR, (errcode(errand->sqlerrcode), errmsg("%s", errand->message),
						errand->detail[0] != '\0' ? errdetail("%s", errand->detail) : 0,
						errand->hint[0] != '\0' ? errhint("%s", errand->hint) : 0,
						errcontext("in database \"%s\", where pg_cron is", errand->database)));
}

/* Brings pg_cron's table in line with the request, in another database. */
char *
tc_cron_sync_in(const char *database, const char *request)
{
	const char *role = GetUserNameFromId(GetUserId(), false);
	dsm_segment *segment;
	Errand *errand;
	char *answer;

	require_connect(database, role);
	if (strlen(request) >= TEXT_MAX)
		elog(ERROR, "the request is too long");
	segment = dsm_create(sizeof(Errand), 0);
	errand = dsm_segment_address(segment);
	memset(errand, 0, sizeof(*errand));
	strlcpy(errand->database, database, NAMEDATALEN);
	strlcpy(errand->role, role, NAMEDATALEN);
	strlcpy(errand->text, request, TEXT_MAX);
	send(segment);
	require_done(errand);
	answer = pstrdup(errand->text);
	dsm_detach(segment);
	return answer;
}
