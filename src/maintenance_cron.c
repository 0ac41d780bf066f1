/*
 * maintenance_cron.c
 *		Giving the jobs of maintenance to pg_cron, and taking them back.
 *
 *		maintenance_jobs_in_force --request--> here (maintenance_sync.c), or in the database of
 *		pg_cron (maintenance_errand.c) --answer--> maintenance_schedule
 *
 * pg_cron is not required: it is found by its settings.  The jobs belong to the caller.  pg_cron
 * runs no job of anybody once the owner of one is gone, so the owner is given a right that DROP
 * ROLE stops at, and is written down with its oid, by which a renamed one is found out.
 *
 * DROP EXTENSION leaves the jobs behind, which then fail: it is warned of by a hook.
 *
 * Locks: the row of maintenance_schedule, so that schedulers come one after the other.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/syscache.h"

#include "act.h"
#include "inval.h"
#include "maintenance_cron.h"
#include "telephony.h"

PG_FUNCTION_INFO_V1(tc_cron_database);
PG_FUNCTION_INFO_V1(tc_schedule_maintenance);
PG_FUNCTION_INFO_V1(tc_unschedule_maintenance);

static TcStatement lock_schedule = {
	.sql = "LOCK TABLE tenantcall.maintenance_schedule IN SHARE ROW EXCLUSIVE MODE",
};
/* Another role's schedule, or one under a name that the caller no longer has. */
static TcStatement find_owner = {
	.sql = "SELECT s.owner::text FROM tenantcall.maintenance_schedule AS s "
		   "WHERE s.owner_oid <> $1 OR s.owner <> $2::name",
	.nparams = 2,
	.types = {OIDOID, TEXTOID},
};
static TcStatement has_schedule = {
	.sql = "SELECT FROM tenantcall.maintenance_schedule",
};
static TcStatement make_request = {
	.sql = "SELECT tenantcall.cron_request($1)::text",
	.nparams = 1,
	.types = {BOOLOID},
};
static TcStatement note_schedule = {
	.sql = "SELECT tenantcall.note_schedule($1, $2, $3::jsonb ->> 'version')",
	.nparams = 3,
	.types = {OIDOID, TEXTOID, TEXTOID},
};
static TcStatement read_answer = {
	.sql = "SELECT a.job, a.schedule, a.action FROM jsonb_to_recordset($1::jsonb -> 'jobs') AS a "
		   "(job text, schedule text, action text) "
		   "JOIN tenantcall.maintenance_job_defaults AS d USING (job) ORDER BY d.place",
	.nparams = 1,
	.types = {TEXTOID},
};

/* Name of pg_cron's database, or NULL where the server does not load pg_cron. */
const char *
tc_cron_database_name(void)
{
	/* the setting may stand in a file without a library that knows it */
	if (shared_preload_libraries_string == NULL ||
		strstr(shared_preload_libraries_string, "pg_cron") == NULL)
		return NULL;
	return GetConfigOption("cron.database_name", true, false);
}

/* cron_database() -> name */
Datum
tc_cron_database(PG_FUNCTION_ARGS)
{
	const char *name = tc_cron_database_name();

	if (name == NULL)
		PG_RETURN_NULL();
	return DirectFunctionCall1(namein, CStringGetDatum(name));
}

/* Raises without pg_cron; its database. */
static const char *
require_cron(void)
{
	const char *database = tc_cron_database_name();

	if (database == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("pg_cron is not loaded"),
				 errdetail("shared_preload_libraries does not name it."),
				 errhint("Install it, add pg_cron to shared_preload_libraries, restart the server, "
						 "and run CREATE EXTENSION pg_cron in the database that "
						 "cron.database_name names.  Without it the HTTP worker runs the "
						 "essential jobs, and CALL tenantcall.run_maintenance() all.")));
	return database;
}

/* Raises unless pg_cron can connect as the caller. */
static void
require_login(void)
{
	HeapTuple tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	bool may = HeapTupleIsValid(tuple) && ((Form_pg_authid) GETSTRUCT(tuple))->rolcanlogin;

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	if (!may)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("role \"%s\" may not log in", GetUserNameFromId(GetUserId(), false)),
						errdetail("The jobs belong to whoever schedules them, and pg_cron logs in "
								  "as their owner."),
						errhint("Call this function as a role with LOGIN.")));
}

/* Raises if the jobs are another role's, which the caller cannot see; with the table locked. */
static void
require_ours(void)
{
	TcParams params = {0};

	tc_param_datum(&params, ObjectIdGetDatum(GetUserId()), false);
	tc_param_text(&params, GetUserNameFromId(GetUserId(), false));
	if (!superuser())
	{
		TcAct act;

		tc_act_begin(&act, TC_AS_SYSTEM, NULL);
		if (tc_execute(&find_owner, &params) > 0)
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("maintenance has been scheduled by role \"%s\"", tc_result_text(1)),
					 errhint("Call this function as that role, or as a superuser.")));
		tc_act_end(&act);
	}
}

/* Is there a schedule?  Locks out other schedulers. */
static bool
lock_and_look(void)
{
	bool found;
	TcAct act;

	tc_act_begin(&act, TC_AS_SYSTEM, NULL);
	tc_execute(&lock_schedule, NULL);
	found = tc_execute(&has_schedule, NULL) > 0;
	tc_act_end(&act);
	return found;
}

/* The request: all jobs that are enabled, or none. */
static char *
request(bool wanted)
{
	MemoryContext caller = CurrentMemoryContext;
	TcParams params = {0};
	char *text;
	TcAct act;

	tc_param_datum(&params, BoolGetDatum(wanted), false);
	tc_act_begin(&act, TC_AS_SYSTEM, NULL);
	tc_execute(&make_request, &params);
	text = MemoryContextStrdup(caller, tc_result_text(1));
	tc_act_end(&act);
	return text;
}

/* Notes the owner of the jobs, if there are to be any, and returns the answer's rows. */
static void
note_and_return(FunctionCallInfo fcinfo, bool wanted, const char *database, const char *answer)
{
	ReturnSetInfo *info = (ReturnSetInfo *) fcinfo->resultinfo;
	Oid caller = GetUserId();
	TcParams note = {0};
	TcParams read = {0};
	uint64 count;
	TcAct act;

	tc_param_datum(&note, ObjectIdGetDatum(caller), !wanted);
	tc_param_text(&note, database);
	tc_param_text(&note, answer);
	tc_param_text(&read, answer);
	InitMaterializedSRF(fcinfo, 0);
	tc_act_begin(&act, TC_AS_SYSTEM, NULL);
	tc_execute(&note_schedule, &note);
	count = tc_execute(&read_answer, &read);
	for (uint64 i = 0; i < count; i++)
		tuplestore_puttuple(info->setResult, SPI_tuptable->vals[i]);
	tc_act_end(&act);
}

/* Brings pg_cron in line. */
static void
sync_cron(FunctionCallInfo fcinfo, bool wanted)
{
	const char *database = require_cron();
	const char *mine = get_database_name(MyDatabaseId);
	char *ask;
	char *answer;

	require_ours();
	ask = request(wanted);
	answer = mine != NULL && strcmp(mine, database) == 0 ? tc_cron_sync(ask)
														 : tc_cron_sync_in(database, ask);
	note_and_return(fcinfo, wanted, database, answer);
}

/* schedule_maintenance() -> rows */
Datum
tc_schedule_maintenance(PG_FUNCTION_ARGS)
{
	PreventCommandDuringRecovery("tenantcall.schedule_maintenance()");
	(void) tc_telephony_required();
	(void) require_cron();
	require_login();
	(void) lock_and_look();
	sync_cron(fcinfo, true);
	return (Datum) 0;
}

/* unschedule_maintenance() -> rows */
Datum
tc_unschedule_maintenance(PG_FUNCTION_ARGS)
{
	PreventCommandDuringRecovery("tenantcall.unschedule_maintenance()");
	if (!lock_and_look() && tc_cron_database_name() == NULL)
	{
		InitMaterializedSRF(fcinfo, 0);
		return (Datum) 0;
	}
	sync_cron(fcinfo, false);
	return (Datum) 0;
}

/* --- DROP EXTENSION --------------------------------------------------------------------------- */

static ProcessUtility_hook_type prev_utility = NULL;

/* Does the statement drop our extension? */
static bool
drops_us(Node *statement)
{
	ListCell *cell;

	if (!IsA(statement, DropStmt) || castNode(DropStmt, statement)->removeType != OBJECT_EXTENSION)
		return false;
	foreach(cell, castNode(DropStmt, statement)->objects)
	{
		if (strcmp(strVal(lfirst(cell)), "tenantcall") == 0)
			return true;
	}
	return false;
}

/* TcRowVisitor: warns of jobs that stay behind. */
static bool
warn_of_jobs(HeapTuple tuple, TupleDesc desc, void *arg)
{
	Datum cron_database = (Datum) 0;

	(void) tc_row_datum(tuple, desc, "cron_database", &cron_database);
	ereport(WARNING,
			(errmsg("pg_cron still has the jobs of tenantcall's maintenance"),
			 errdetail("They stay in database \"%s\", and fail from now on.",
					   NameStr(*DatumGetName(cron_database))),
			 errhint("Call tenantcall.unschedule_maintenance() before DROP EXTENSION; now take "
					 "them out with cron.unschedule().")));
	return false;
}

/* ProcessUtility_hook */
static void
watch_utility(PlannedStmt *pstmt, const char *query, bool read_only, ProcessUtilityContext context,
			  ParamListInfo params, QueryEnvironment *environment, DestReceiver *dest,
			  QueryCompletion *completion)
{
	if (drops_us(pstmt->utilityStmt))
	{
		Oid schedule = tc_own_relation("maintenance_schedule");

		if (OidIsValid(schedule))
			tc_read_rows(schedule, NULL, 0, warn_of_jobs, NULL);
	}
	if (prev_utility)
		prev_utility(pstmt, query, read_only, context, params, environment, dest, completion);
	else
		standard_ProcessUtility(pstmt, query, read_only, context, params, environment, dest,
								completion);
}

/* Installs the hook. */
void
tc_cron_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	prev_utility = ProcessUtility_hook;
	ProcessUtility_hook = watch_utility;
}
