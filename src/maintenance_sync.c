/*
 * maintenance_sync.c
 *		Brings pg_cron's table in line with what is wanted, in the database that it lives in.
 *
 * Only pg_cron's own functions change its table.  Ours is what bears one of our names and is for
 * our database (or for the name that it had); everything else is left alone.  A job that is as it
 * should be stays as it is; one that is not is taken out and put in again, since schedule() of
 * pg_cron 1.4 leaves database and "active" of a job as they are.
 *
 * Everything is done as the caller, who becomes the jobs' owner; pg_cron lets nobody but
 * superusers see other people's jobs.  Names are qualified, and the search path is pg_catalog: the
 * database may belong to somebody else.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "maintenance_cron.h"

/* Is pg_cron there, and is schema cron its own?  Seconds came with 1.5. */
#define LOOK                                                                                       \
	"SELECT e.extversion, split_part(e.extversion, '.', 1) = '1' "                                 \
	"AND substring(e.extversion from '^[0-9]+[.]([0-9]+)')::int < 5 "                              \
	"AND EXISTS (SELECT FROM jsonb_to_recordset($1::jsonb -> 'jobs') AS k (schedule text, "        \
	"wanted boolean) WHERE k.wanted AND k.schedule ~ 'second') "                                   \
	"FROM pg_extension AS e WHERE e.extname = 'pg_cron' AND EXISTS (SELECT FROM pg_depend AS d "   \
	"JOIN pg_namespace AS n ON n.oid = d.objid WHERE d.classid = 'pg_namespace'::regclass "        \
	"AND n.nspname = 'cron' AND d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid "   \
	"AND d.deptype = 'e')"

#define FOUND                                                                                      \
	"WITH known AS MATERIALIZED (SELECT * FROM jsonb_to_recordset($1::jsonb -> 'jobs') AS k ("     \
	"job text, name text, former_name text, schedule text, command text, wanted boolean)), "       \
	"found AS MATERIALIZED (SELECT k.job, c.jobid, k.wanted AND c.jobname::text = k.name "         \
	"AND c.schedule = k.schedule AND c.command = k.command AND c.active "                          \
	"AND c.username = current_user::text AND c.database = $1::jsonb ->> 'database' AS same "       \
	"FROM known AS k JOIN cron.job AS c ON c.jobname::text IN (k.name, k.former_name) "            \
	"AND c.database IN ($1::jsonb ->> 'database', $1::jsonb ->> 'former')) "

#define JUDGE                                                                                      \
	FOUND                                                                                          \
	"SELECT coalesce(jsonb_agg(jsonb_build_object('job', k.job, 'schedule', k.schedule, "          \
	"'action', CASE WHEN NOT k.wanted THEN 'removed' WHEN f.n IS NULL THEN 'created' "             \
	"WHEN f.same AND f.n = 1 THEN 'unchanged' ELSE 'repaired' END)), '[]')::text "                 \
	"FROM known AS k LEFT JOIN (SELECT o.job, count(*) AS n, bool_and(o.same) AS same "            \
	"FROM found AS o GROUP BY o.job) AS f USING (job) WHERE k.wanted OR f.n > 0"

#define REMOVE FOUND "SELECT cron.unschedule(f.jobid) FROM found AS f WHERE NOT f.same"

/* pg_cron gives schedule_in_database() to superusers only. */
#define MISSING                                                                                    \
	"FROM known AS k WHERE k.wanted AND NOT EXISTS (SELECT FROM found AS f WHERE f.job = k.job)"
#define ADD_HERE FOUND "SELECT cron.schedule(k.name, k.schedule, k.command) " MISSING
#define ADD_ELSEWHERE                                                                              \
	FOUND                                                                                          \
	"SELECT cron.schedule_in_database(k.name, k.schedule, k.command, $1::jsonb ->> 'database') " MISSING

/* Executes a statement with the request as its parameter. */
static void
execute(const char *sql, const char *request)
{
	Oid types[1] = {TEXTOID};
	Datum values[1] = {CStringGetTextDatum(request)};
	int result = SPI_execute_with_args(sql, 1, types, values, NULL, false, 0);

	if (result < 0)
		elog(ERROR, "SPI_execute_with_args failed: %s", SPI_result_code_string(result));
}

/* A text of the first row of the result. */
static char *
result_text(int column)
{
	return SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column);
}

/* Raises unless pg_cron is there and can do what is asked of it; its version. */
static char *
look(const char *request)
{
	execute(LOOK, request);
	if (SPI_processed == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("pg_cron is not installed"),
				 errdetail("Database \"%s\", which cron.database_name names, has no extension "
						   "pg_cron.",
						   get_database_name(MyDatabaseId)),
				 errhint("As a superuser, run CREATE EXTENSION pg_cron in that database.  Without "
						 "it the HTTP worker runs the essential jobs, and CALL "
						 "tenantcall.run_maintenance() all.")));
	if (strcmp(result_text(2), "t") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("pg_cron %s has no schedules in seconds", result_text(1)),
				 errhint("Change tenantcall.maintenance_jobs, or install pg_cron 1.5 or later.")));
	return result_text(1);
}

/* Does the work, with SPI connected; the answer. */
static char *
sync_jobs(const char *request)
{
	char *version = look(request);
	char *jobs;
	Datum values[2];
	Oid types[2] = {TEXTOID, TEXTOID};

	execute(JUDGE, request);
	jobs = result_text(1);
	execute(REMOVE, request);
	execute("SELECT 1 WHERE $1::jsonb ->> 'database' = current_database()", request);
	execute(SPI_processed > 0 ? ADD_HERE : ADD_ELSEWHERE, request);
	values[0] = CStringGetTextDatum(version);
	values[1] = CStringGetTextDatum(jobs);
	if (SPI_execute_with_args("SELECT jsonb_build_object('version', $1, 'jobs', $2::jsonb)::text",
							  2, types, values, NULL, false, 0) < 0)
		elog(ERROR, "SPI_execute_with_args failed");
	return result_text(1);
}

/* Brings pg_cron's table in line with the request. */
char *
tc_cron_sync(const char *request)
{
	MemoryContext caller = CurrentMemoryContext;
	int nest = NewGUCNestLevel();
	char *answer;

	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	answer = MemoryContextStrdup(caller, sync_jobs(request));
	SPI_finish();
	AtEOXact_GUC(false, nest);
	return answer;
}
