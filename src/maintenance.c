/*
 * maintenance.c
 *		What has to be done every few minutes: a run of a job.
 *
 *		pg_cron --CALL run_maintenance('holds')--\
 *		somebody --CALL run_maintenance()---------> run --> step (maintenance_job.c) by company
 *		HTTP worker's timer (maintenance_worker.c)/     \-> maintenance_runs (maintenance_record.c)
 *
 * Companies are gone through one after the other, each in a transaction of its own, so that no
 * lock is kept while others have their turn.  Each gets so many rows at most; after
 * maintenance_max_time the run ends, and the next goes on with the company after the last one, so
 * that a company with much to do delays the others and starves none.  Called within a transaction
 * of the caller's, it is all one.
 *
 * What maintenance commits need not be on disk at once: a crash repeats it.
 *
 * Locks: one run of a job at a time, by a lock of the session; a second one does nothing.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/lock.h"
#include "tcop/pquery.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "args.h"
#include "companies.h"
#include "maintenance.h"
#include "maintenance_cron.h"
#include "ready.h"
#include "telephony.h"

PG_FUNCTION_INFO_V1(tc_run_maintenance);

static int max_time = 30; /* setting, in s */

/* Defines the settings. */
void
tc_maintenance_init(void)
{
	DefineCustomIntVariable("tenantcall.maintenance_max_time",
							"Longest time that a run of a job of maintenance takes.",
							"The next goes on from where it ended.", &max_time, 30, 1, 3600,
							PGC_SUSET, GUC_UNIT_S, NULL, NULL, NULL);
	tc_maintenance_worker_init();
	tc_cron_init();
}

/* Commits what has been done; false: no further. */
static bool
commit(const TcMaintenanceRun *run)
{
	if (run->commit == NULL)
		return true;
	if (!run->commit())
		return false;
	(void) set_config_option("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_LOCAL, true, 0, false);
	return true;
}

/* Number of the company to begin with: the one after the last. */
static int
first_company(const TcContext *companies, int count, int64 last_company)
{
	for (int i = 0; i < count; i++)
	{
		if (companies[i].company_id > last_company)
			return i;
	}
	return 0;
}

/* What a run has come to. */
typedef struct Progress
{
	TcMaintenanceCount count;
	char *error; /* the first */
	int64 last_company;
	TimestampTz until;
} Progress;

/* A step, and what comes of it; false: no further. */
static bool
step(const TcMaintenanceRun *run, TcMaintenanceJob *job, const TcMaintenancePlan *plan,
	 const TcContext *company, Progress *progress)
{
	char *error = tc_maintenance_step(job, company, plan->max_rows, &progress->count);

	if (progress->error == NULL)
		progress->error = error;
	return commit(run);
}

/* Goes through the companies; false: no further. */
static bool
run_companies(const TcMaintenanceRun *run, TcMaintenanceJob *job, const TcMaintenancePlan *plan,
			  Progress *progress)
{
	int count;
	TcContext *companies = tc_companies(&count);
	int first = first_company(companies, count, plan->last_company);

	for (int i = 0; i < count; i++)
	{
		const TcContext *company = &companies[(first + i) % count];

		CHECK_FOR_INTERRUPTS();
		if (i > 0 && GetCurrentTimestamp() >= progress->until)
			return true;
		if (!step(run, job, plan, company, progress))
			return false;
		progress->count.companies++;
		progress->last_company = company->company_id;
	}
	progress->last_company = 0;
	return true;
}

/* Runs a job whose lock we hold; false: no further. */
static bool
run_locked(const TcMaintenanceRun *run, TcMaintenanceJob *job, const TcMaintenancePlan *plan)
{
	Progress progress = {.last_company = plan->last_company,
						 .until = GetCurrentTimestamp() + max_time * USECS_PER_SEC};

	tc_maintenance_note_start(tc_maintenance_name(job), run->by);
	if (!commit(run) || !step(run, job, plan, NULL, &progress))
		return false;
	if (tc_maintenance_by_company(job) && !run_companies(run, job, plan, &progress))
		return false;
	tc_maintenance_note_end(tc_maintenance_name(job), &progress.count, progress.error,
							progress.last_company);
	return commit(run);
}

/* Runs a job, unless somebody else does. */
bool
tc_maintenance_run(const TcMaintenanceRun *run, int number)
{
	TcMaintenanceJob *job = tc_maintenance_job(number);
	bool session = run->commit != NULL;
	volatile bool ok = true;
	TcMaintenancePlan plan;
	LOCKTAG tag;

	tc_maintenance_read_plan(tc_maintenance_name(job), Max(run->interval, 0), &plan);
	if (run->interval >= 0 ? !plan.due : !plan.enabled)
	{
		if (run->interval < 0 && run->named)
			ereport(NOTICE, (errmsg("job \"%s\" is disabled", tc_maintenance_name(job)),
							 errhint("Table tenantcall.maintenance_jobs says so.")));
		return true;
	}
	tc_maintenance_locktag(&tag, plan.place);
	if (LockAcquire(&tag, ExclusiveLock, session, true) == LOCKACQUIRE_NOT_AVAIL)
	{
		if (run->interval < 0)
			ereport(NOTICE, (errmsg("job \"%s\" is already being run", tc_maintenance_name(job))));
		return true;
	}
	PG_TRY();
	{
		ok = run_locked(run, job, &plan);
	}
	PG_FINALLY();
	{
		if (session)
			(void) LockRelease(&tag, ExclusiveLock, true);
	}
	PG_END_TRY();
	return ok;
}

/* TcMaintenanceRun.commit of the procedure */
static bool
commit_procedure(void)
{
	SPI_commit();
	EnsurePortalSnapshotExists();
	if (!tc_hold_extension())
		ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE),
						errmsg("extension \"tenantcall\" is being dropped or changed")));
	return true;
}

/* run_maintenance(job text) */
Datum
tc_run_maintenance(PG_FUNCTION_ARGS)
{
	bool atomic = fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) ||
				  castNode(CallContext, fcinfo->context)->atomic || IsSubTransaction();
	TcMaintenanceRun run = {.commit = atomic ? NULL : commit_procedure, .interval = -1};
	char *name = tc_arg_optional_text(fcinfo, 0);
	int only;

	PreventCommandDuringRecovery("tenantcall.run_maintenance()");
	(void) tc_telephony_required();
	only = name == NULL ? -1 : tc_maintenance_find(name);
	run.named = name != NULL;
	if (SPI_connect_ext(atomic ? 0 : SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	run.by = pstrdup(GetUserNameFromId(GetOuterUserId(), false));
	for (int i = 0; i < tc_maintenance_njobs(); i++)
	{
		if (only < 0 || only == i)
			(void) tc_maintenance_run(&run, i);
	}
	SPI_finish();
	PG_RETURN_VOID();
}
