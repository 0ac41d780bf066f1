/*
 * maintenance_record.c
 *		What is written down about the jobs of maintenance, and how they are configured.
 *
 *		maintenance_jobs_in_force --> plan		start, end --> maintenance_runs
 *
 * A run is noted when it begins, and again when it ends: one that was cut short, by a crash even,
 * is found by the next as unfinished, and counted as a failure.
 *
 * Locks: the row of maintenance_runs, under the job's own lock.
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/lmgr.h"

#include "act.h"
#include "inval.h"
#include "maintenance.h"

#define ERROR_MAX 1000 /* bytes of an error that are kept */

static TcStatement read_plan = {
	.sql = "SELECT j.enabled, j.place, j.max_rows, r.last_company, j.enabled AND j.by_worker AND "
		   "coalesce(r.started_at <= clock_timestamp() - greatest(j.every, "
		   "make_interval(secs => $2)) OR r.started_at > clock_timestamp(), true) "
		   "FROM tenantcall.maintenance_jobs_in_force AS j "
		   "LEFT JOIN tenantcall.maintenance_runs AS r USING (job) WHERE j.job = $1",
	.nparams = 2,
	.types = {TEXTOID, FLOAT8OID},
};
static TcStatement note_start = {
	.sql = "INSERT INTO tenantcall.maintenance_runs AS r (job, started_by) VALUES ($1, $2) "
		   "ON CONFLICT (job) DO UPDATE SET runs = r.runs + 1, unfinished = true, "
		   "started_at = excluded.started_at, started_by = excluded.started_by, "
		   "finished_at = NULL, duration = NULL, "
		   "consecutive_failures = r.consecutive_failures + r.unfinished::integer, "
		   "last_error = CASE WHEN r.unfinished THEN format('the run that %s began at %s was cut "
		   "short', r.started_by, r.started_at) ELSE r.last_error END, "
		   "last_error_at = CASE WHEN r.unfinished THEN excluded.started_at "
		   "ELSE r.last_error_at END",
	.nparams = 2,
	.types = {TEXTOID, TEXTOID},
};
static TcStatement note_end = {
	.sql = "UPDATE tenantcall.maintenance_runs AS r SET unfinished = false, "
		   "finished_at = clock_timestamp(), duration = clock_timestamp() - r.started_at, "
		   "row_count = $2, companies = $3, busy = $4, failed = $5, consecutive_failures = "
		   "CASE WHEN $5 > 0 THEN r.consecutive_failures + 1 ELSE 0 END, "
		   "last_error = coalesce($6, r.last_error), "
		   "last_error_at = CASE WHEN $6 IS NULL THEN r.last_error_at ELSE clock_timestamp() END, "
		   "last_company = $7 WHERE r.job = $1",
	.nparams = 7,
	.types = {TEXTOID, INT8OID, INT8OID, INT8OID, INT8OID, TEXTOID, INT8OID},
};

/* Reads how a job is configured, and whether it is due for a timer of so many seconds. */
void
tc_maintenance_read_plan(const char *job, int interval, TcMaintenancePlan *plan)
{
	TcParams params = {0};
	bool isnull;
	TcAct act;

	tc_param_text(&params, job);
	tc_param_datum(&params, Float8GetDatum((double) interval), false);
	tc_act_begin(&act, TC_AS_SYSTEM, NULL);
	if (tc_execute(&read_plan, &params) == 0)
		elog(ERROR, "job \"%s\" is not in tenantcall.maintenance_job_defaults", job);
	plan->enabled = DatumGetBool(tc_result_datum(1, &isnull));
	plan->place = DatumGetInt32(tc_result_datum(2, &isnull));
	plan->max_rows = DatumGetInt32(tc_result_datum(3, &isnull));
	plan->last_company = tc_result_int8(4);
	plan->due = DatumGetBool(tc_result_datum(5, &isnull));
	tc_act_end(&act);
}

/* Notes that a run begins. */
void
tc_maintenance_note_start(const char *job, const char *by)
{
	TcParams params = {0};
	TcAct act;

	tc_param_text(&params, job);
	tc_param_text(&params, by);
	tc_act_begin(&act, TC_AS_SYSTEM, NULL);
	tc_execute(&note_start, &params);
	tc_act_end(&act);
}

/* Notes that it has ended. */
void
tc_maintenance_note_end(const char *job, const TcMaintenanceCount *count, const char *error,
						int64 last_company)
{
	TcParams params = {0};
	TcAct act;

	tc_param_text(&params, job);
	tc_param_datum(&params, Int64GetDatum(count->rows), false);
	tc_param_datum(&params, Int64GetDatum(count->companies), false);
	tc_param_datum(&params, Int64GetDatum(count->busy), false);
	tc_param_datum(&params, Int64GetDatum(count->failed), false);
	tc_param_text(&params, error == NULL
							   ? NULL
							   : pnstrdup(error, pg_mbcliplen(error, strlen(error), ERROR_MAX)));
	tc_param_int8(&params, last_company);
	tc_act_begin(&act, TC_AS_SYSTEM, NULL);
	tc_execute(&note_end, &params);
	tc_act_end(&act);
}

/* The lock of the job in that place. */
void
tc_maintenance_locktag(LOCKTAG *tag, int place)
{
	Oid runs = tc_own_relation("maintenance_runs");

	if (!OidIsValid(runs))
		elog(ERROR, "table tenantcall.maintenance_runs does not exist");
	SET_LOCKTAG_OBJECT(*tag, MyDatabaseId, runs, (Oid) place, 0);
}
