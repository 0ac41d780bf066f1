/*
 * maintenance_job.c
 *		The jobs of maintenance, and single steps of them.
 *
 * A job is one or two statements: one for what belongs to no company, one for each company, which
 * is run with that company in context.  They call functions of the extension that anybody with the
 * right may call by hand; these act as the owner of the tables, bound by row security (act.h).
 *
 * A step is a subtransaction, so that what fails for one company stops no other.  It waits for a
 * lock LOCK_TIMEOUT at most: what others hold is left for the next run.
 *
 * Locks: those of the statements, until the end of the transaction.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "act.h"
#include "errors.h"
#include "maintenance.h"

#define LOCK_TIMEOUT "250ms"
#define MAX_PARTITIONS 1000 /* that one call of maintain_partitions() takes */

struct TcMaintenanceJob
{
	const char *name;
	int most;			  /* greatest max_rows */
	TcStatement unplaced; /* each returns the number of rows, and perhaps what was busy */
	TcStatement placed;
};

#define STATEMENT(text)                                                                            \
	{                                                                                              \
		.sql = (text), .nparams = 1, .types = { INT4OID }                                          \
	}

/* Names as in maintenance_job_defaults. */
static TcMaintenanceJob jobs[] = {
	{.name = "holds", .placed = STATEMENT("SELECT tenantcall.expire_holds($1)")},
	{.name = "leases",
	 .placed =
		 STATEMENT("SELECT l.leases + l.requests FROM tenantcall.expire_call_leases($1) AS l")},
	{.name = "stuck_calls",
	 .placed = STATEMENT("SELECT count(*) FROM tenantcall.close_stuck_calls(max_rows => $1)")},
	{.name = "outbox",
	 .unplaced = STATEMENT(
		 "WITH gone AS (DELETE FROM tenantcall.outbox_due AS d USING (SELECT o.company_id, "
		 "o.outbox_id FROM tenantcall.outbox_due AS o WHERE NOT EXISTS (SELECT FROM @.companies "
		 "AS c WHERE c.company_id = o.company_id) LIMIT $1 FOR UPDATE OF o SKIP LOCKED) AS o "
		 "WHERE d.company_id = o.company_id AND d.outbox_id = o.outbox_id RETURNING 1) "
		 "SELECT count(*) FROM gone"),
	 .placed = STATEMENT("SELECT tenantcall.reap_outbox($1)")},
	{.name = "partitions",
	 .most = MAX_PARTITIONS,
	 .unplaced = STATEMENT("SELECT count(*) FILTER (WHERE p.action IN ('created', 'dropped')), "
						   "count(*) FILTER (WHERE p.action = 'busy') "
						   "FROM tenantcall.maintain_partitions(max_changes => $1) AS p")},
	{.name = "retention",
	 .unplaced = STATEMENT("SELECT tenantcall.expire_unplaced_rows($1)"),
	 .placed =
		 STATEMENT("SELECT sum(e.rows_deleted)::bigint FROM tenantcall.expire_rows($1) AS e")},
	{.name = "usage",
	 .placed = STATEMENT("SELECT sum(u.days_closed + u.days_recounted)::bigint "
						 "FROM tenantcall.roll_up_usage($1) AS u")},
};

/* How many jobs there are. */
int
tc_maintenance_njobs(void)
{
	return lengthof(jobs);
}

/* One of them, in the order in which they are run. */
TcMaintenanceJob *
tc_maintenance_job(int number)
{
	return &jobs[number];
}

/* A job's name. */
const char *
tc_maintenance_name(const TcMaintenanceJob *job)
{
	return job->name;
}

/* Is anything to be done for each company? */
bool
tc_maintenance_by_company(const TcMaintenanceJob *job)
{
	return job->placed.sql != NULL;
}

/* The number of a job by its name. */
int
tc_maintenance_find(const char *name)
{
	for (size_t i = 0; i < lengthof(jobs); i++)
	{
		if (strcmp(jobs[i].name, name) == 0)
			return (int) i;
	}
	ereport(ERROR, (errcode(ERRCODE_TC_UNKNOWN), errmsg("there is no job \"%s\"", name),
					errhint("tenantcall.maintenance_status() lists the jobs.")));
	return -1;
}

/* Executes a job's statement for a company, or without one. */
static void
execute(TcMaintenanceJob *job, const TcContext *company, int max_rows, TcMaintenanceCount *count)
{
	TcStatement *statement = company == NULL ? &job->unplaced : &job->placed;
	TcParams params = {0};
	TcAct act;

	if (statement->sql == NULL)
		return;
	if (job->most != 0)
		max_rows = Min(max_rows, job->most);
	tc_param_datum(&params, Int32GetDatum(max_rows), false);
	tc_act_begin(&act, TC_AS_SYSTEM, company);
	(void) set_config_option("lock_timeout", LOCK_TIMEOUT, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	tc_execute(statement, &params);
	count->rows += tc_result_int8(1);
	if (SPI_tuptable->tupdesc->natts > 1)
		count->busy += tc_result_int8(2);
	tc_act_end(&act);
}

/* Is it somebody else's work that was in the way? */
static bool
is_busy(int sqlerrcode)
{
	return sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
		   sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED ||
		   sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE;
}

/* Must the error end the run? */
static bool
ends_run(int sqlerrcode)
{
	return sqlerrcode == ERRCODE_QUERY_CANCELED || sqlerrcode == ERRCODE_ASSERT_FAILURE ||
		   ERRCODE_TO_CATEGORY(sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION;
}

/* Logs what went wrong, counts it, and returns it. */
static char *
note_error(const TcMaintenanceJob *job, const TcContext *company, const ErrorData *error,
		   TcMaintenanceCount *count)
{
	char *text;

	if (is_busy(error->sqlerrcode))
	{
		count->busy++;
		return NULL;
	}
	count->failed++;
	text = company == NULL
			   ? psprintf("%s (SQLSTATE %s)", error->message, unpack_sql_state(error->sqlerrcode))
			   : psprintf("company " INT64_FORMAT ": %s (SQLSTATE %s)", company->company_id,
						  error->message, unpack_sql_state(error->sqlerrcode));
	ereport(LOG,
			(errcode(error->sqlerrcode), errmsg("maintenance \"%s\" failed: %s", job->name, text),
			 error->context != NULL ? errcontext("%s", error->context) : 0));
	return text;
}

/* Takes a step. */
char *
tc_maintenance_step(TcMaintenanceJob *job, const TcContext *company, int max_rows,
					TcMaintenanceCount *count)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	TcMaintenanceCount before = *count;
	char *volatile text = NULL;

	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		execute(job, company, max_rows, count);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData *error;

		if (ends_run(geterrcode()))
			PG_RE_THROW();
		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(caller);
		*count = before;
		text = note_error(job, company, error, count);
		FreeErrorData(error);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	return text;
}
