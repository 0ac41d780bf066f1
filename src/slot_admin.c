/*
 * slot_admin.c
 *		The slot cache from SQL: statistics, and invalidation by hand.
 *
 * Applications may keep caches of their own under keys that slot_cache_key() and
 * alternatives_cache_key() make.  invalidate_slots() returns the keys of all entries that a change
 * of a calendar touches, of all tenants who offer its event type, and has our own cache ask again
 * at commit.
 *
 * Locks: AccessShareLock on the tenants' tables.
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/value.h"
#include "parser/parse_func.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "act.h"
#include "args.h"
#include "context.h"
#include "directory.h"
#include "errors.h"
#include "node.h"
#include "rate_args.h"
#include "ready.h"
#include "slot_generation.h"
#include "slot_stat.h"
#include "stat.h"
#include "telephony.h"

PG_FUNCTION_INFO_V1(tc_slot_stats);
PG_FUNCTION_INFO_V1(tc_reset_slot_stats);
PG_FUNCTION_INFO_V1(tc_invalidate_slots);

#define MAX_WINDOW_DAYS 31
#define KEY_HOURS 4 /* the longest window of alternatives: two hours before and after */

/*
 * Where the event type is offered, and the days that are touched, by the clocks of the branch and
 * of UTC: which of the two a key is made of is the application's affair.
 */
static TcStatement touched = {
	.sql =
		"SELECT DISTINCT coalesce(b.credential, c.credential), b.branch_id, "
		"coalesce(o.calcom_team_id, s.calcom_team_id), "
		"least(($3 AT TIME ZONE z.zone)::date, ($3 AT TIME ZONE 'UTC')::date), "
		"greatest((z.last AT TIME ZONE z.zone)::date, (z.last AT TIME ZONE 'UTC')::date) "
		"FROM @.companies AS c JOIN @.services AS s ON s.company_id = c.company_id "
		"LEFT JOIN @.branches AS b ON b.company_id = c.company_id "
		"LEFT JOIN @.branch_services AS o ON o.company_id = c.company_id "
		"AND o.branch_id = b.branch_id AND o.service_id = s.service_id "
		"CROSS JOIN LATERAL (SELECT coalesce(b.time_zone, c.time_zone), "
		"greatest($3, $4 - interval '1 microsecond')) AS z (zone, last) "
		"WHERE c.company_id = $1 AND coalesce(o.calcom_event_type_id, s.calcom_event_type_id) = $2 "
		"AND coalesce(b.credential, c.credential) IS NOT NULL",
	.nparams = 4,
	.types = {INT8OID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID},
};

/* What is being invalidated. */
typedef struct Change
{
	int64 event_type_id;
	TimestampTz from;
	TimestampTz to;
	Oid day_key;	/* slot_cache_key() */
	Oid window_key; /* alternatives_cache_key() */
	ReturnSetInfo *info;
} Change;

/* One place that is touched. */
typedef struct Place
{
	int64 company_id;
	int64 branch_id;
	int64 team_id;
	DateADT first_day;
	DateADT last_day;
} Place;

/* May the current user see, and change, what concerns all companies? */
static bool
sees_all(void)
{
	return has_privs_of_role(GetUserId(), ROLE_PG_MONITOR) ||
		   tc_may_call("reset_slot_stats", 0, NULL);
}

/* Callers by how long they waited, as bigint[]. */
static Datum
waited_array(const TcSlotStat *stat)
{
	Datum buckets[TC_SLOT_WAIT_BUCKETS];

	for (int i = 0; i < TC_SLOT_WAIT_BUCKETS; i++)
		buckets[i] = Int64GetDatum((int64) stat->waited[i]);
	return PointerGetDatum(construct_array(buckets, TC_SLOT_WAIT_BUCKETS, INT8OID, sizeof(int64),
										   FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/* slot_stats() -> rows, for view stat_cache */
Datum
tc_slot_stats(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *info = (ReturnSetInfo *) fcinfo->resultinfo;
	const TcContext *tenant = tc_context_current();
	bool all = sees_all();
	TcSlotStat *stats;
	int count;

	InitMaterializedSRF(fcinfo, 0);
	if (!tc_preloaded)
		return (Datum) 0;
	count = tc_slot_cache_stats(&stats);
	for (int i = 0; i < count; i++)
	{
		const TcSlotStat *stat = &stats[i];
		Datum values[15] = {
			Int64GetDatum(stat->company_id),
			CStringGetTextDatum(stat->credential),
			Int64GetDatum((int64) stat->hits),
			Int64GetDatum((int64) stat->stale),
			Int64GetDatum((int64) stat->misses),
			Int64GetDatum((int64) stat->waits),
			Int64GetDatum((int64) stat->fetched),
			Int64GetDatum((int64) stat->discarded),
			Int64GetDatum((int64) stat->failed),
			Int64GetDatum((int64) stat->refused),
			Int64GetDatum((int64) stat->timed_out),
			Int64GetDatum(stat->entries),
			waited_array(stat),
			tc_rate_interval((int64) stat->waited_us * 1000),
			TimestampTzGetDatum(stat->last_failed_at),
		};
		bool nulls[15] = {stat->company_id == 0, stat->company_id == 0};

		nulls[14] = stat->last_failed_at == 0;
		if (all || (tenant != NULL && tenant->company_id == stat->company_id))
			tuplestore_putvalues(info->setResult, info->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* reset_slot_stats() -> void */
Datum
tc_reset_slot_stats(PG_FUNCTION_ARGS)
{
	tc_require_ready();
	tc_slot_cache_reset_stats();
	tc_stat_note_reset(TC_STAT_CACHE);
	PG_RETURN_VOID();
}

/* A function of ours. */
static Oid
own_function(const char *name, int nargs, const Oid *argtypes)
{
	return LookupFuncName(list_make2(makeString("tenantcall"), makeString(pstrdup(name))), nargs,
						  argtypes, false);
}

/* Puts a key into the result. */
static void
put_key(const Change *change, Datum key)
{
	bool isnull = false;

	tuplestore_putvalues(change->info->setResult, change->info->setDesc, &key, &isnull);
}

/* Puts the keys of one place: of whole days, and of windows of up to KEY_HOURS. */
static void
put_keys(const Change *change, const Place *place)
{
	int64 hour =
		change->from - (((change->from % USECS_PER_HOUR) + USECS_PER_HOUR) % USECS_PER_HOUR);

	for (DateADT day = place->first_day; place->team_id != 0 && day <= place->last_day; day++)
		put_key(change,
				OidFunctionCall3(change->day_key, Int64GetDatum(place->team_id),
								 Int64GetDatum(change->event_type_id), DateADTGetDatum(day)));
	if (place->branch_id == 0)
		return;
	for (TimestampTz first = hour - KEY_HOURS * USECS_PER_HOUR; first < change->to;
		 first += USECS_PER_HOUR)
	{
		for (int hours = 0; hours <= KEY_HOURS; hours++)
		{
			TimestampTz last = first + hours * USECS_PER_HOUR;

			if (last >= hour)
				put_key(change,
						OidFunctionCall5(change->window_key, Int64GetDatum(place->company_id),
										 Int64GetDatum(place->branch_id),
										 Int64GetDatum(change->event_type_id),
										 TimestampTzGetDatum(first), TimestampTzGetDatum(last)));
		}
	}
}

/* Finds the places of one company; marks their calendars as changed. */
static Place *
find_places(const Change *change, int64 company_id, int *count)
{
	MemoryContext caller = CurrentMemoryContext;
	TcContext tenant = {.company_id = company_id};
	TcParams params = {0};
	Place *places;
	uint64 rows;
	TcAct act;

	*count = 0;
	if (!tc_directory_fill(&tenant))
		return NULL;
	tc_act_begin(&act, TC_AS_OWNER, &tenant);
	tc_param_int8(&params, company_id);
	tc_param_int8(&params, change->event_type_id);
	tc_param_datum(&params, TimestampTzGetDatum(change->from), false);
	tc_param_datum(&params, TimestampTzGetDatum(change->to), false);
	rows = tc_execute(&touched, &params);
	places = MemoryContextAllocZero(caller, sizeof(Place) * Max(rows, 1));
	for (uint64 i = 0; i < rows; i++)
	{
		HeapTuple tuple = SPI_tuptable->vals[i];
		TupleDesc desc = SPI_tuptable->tupdesc;
		bool isnull;
		Datum value;

		tc_slot_forget_at_commit(company_id, SPI_getvalue(tuple, desc, 1), change->event_type_id);
		places[i].company_id = company_id;
		value = SPI_getbinval(tuple, desc, 2, &isnull);
		places[i].branch_id = isnull ? 0 : DatumGetInt64(value);
		value = SPI_getbinval(tuple, desc, 3, &isnull);
		places[i].team_id = isnull ? 0 : DatumGetInt64(value);
		places[i].first_day = DatumGetDateADT(SPI_getbinval(tuple, desc, 4, &isnull));
		places[i].last_day = DatumGetDateADT(SPI_getbinval(tuple, desc, 5, &isnull));
	}
	tc_act_end(&act);
	*count = (int) rows;
	return places;
}

/* Companies that have a row with the event type, each once. */
static bool
visit_owner(HeapTuple tuple, TupleDesc desc, void *arg)
{
	List **companies = arg;
	int64 company_id = tc_row_int8(tuple, desc, "company_id");
	ListCell *cell;

	foreach(cell, *companies)
	{
		if (*(int64 *) lfirst(cell) == company_id)
			return true;
	}
	*companies = lappend(*companies, memcpy(palloc(sizeof(int64)), &company_id, sizeof(int64)));
	return true;
}

/* Companies that offer the event type. */
static List *
companies_of(int64 event_type_id)
{
	static const char *const tables[] = {"services", "branch_services"};
	TcMatch key = {"calcom_event_type_id", INT8OID, Int64GetDatum(event_type_id)};
	List *companies = NIL;

	for (size_t i = 0; i < lengthof(tables); i++)
		tc_read_rows(tc_telephony_table(tables[i]), &key, 1, visit_owner, &companies);
	return companies;
}

/* The window that changed. */
static void
read_window(FunctionCallInfo fcinfo, Change *change)
{
	if (PG_ARGISNULL(1) || PG_ARGISNULL(2))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("\"from_time\" and \"to_time\" must not be NULL")));
	change->from = PG_GETARG_TIMESTAMPTZ(1);
	change->to = PG_GETARG_TIMESTAMPTZ(2);
	if (TIMESTAMP_NOT_FINITE(change->from) || TIMESTAMP_NOT_FINITE(change->to) ||
		change->from >= change->to || change->to - change->from > MAX_WINDOW_DAYS * USECS_PER_DAY)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("\"from_time\" must be before \"to_time\", by at most %d days",
							   MAX_WINDOW_DAYS)));
}

/* invalidate_slots(event_type_id, from_time, to_time) -> keys */
Datum
tc_invalidate_slots(PG_FUNCTION_ARGS)
{
	static const Oid enter_args[] = {INT8OID, INT8OID};
	static const Oid day_args[] = {INT8OID, INT8OID, DATEOID};
	static const Oid window_args[] = {INT8OID, INT8OID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	const TcContext *tenant = tc_context_current();
	Change change = {.event_type_id = tc_arg_id(fcinfo, 0, "event_type_id")};
	int64 own = tenant != NULL ? tenant->company_id : 0;
	List *companies;
	ListCell *cell;

	read_window(fcinfo, &change);
	if (own == 0 && !tc_may_call("enter", 2, enter_args))
		ereport(ERROR, (errcode(ERRCODE_TC_WRONG_TENANT), errmsg("no tenant in this transaction"),
						errdetail("Only gateways may invalidate slots of all companies at once."),
						errhint("Call tenantcall.enter_token() first, in the same transaction.")));
	if (own == 0 && tc_node_distributed())
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("slots of all companies cannot be invalidated at once on a cluster"),
						errhint("Enter each company on its node: tenantcall.company_node().")));
	change.day_key = own_function("slot_cache_key", 3, day_args);
	change.window_key = own_function("alternatives_cache_key", 5, window_args);
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	change.info = (ReturnSetInfo *) fcinfo->resultinfo;
	companies = own != 0 ? list_make1(&own) : companies_of(change.event_type_id);
	foreach(cell, companies)
	{
		int count;
		Place *places = find_places(&change, *(int64 *) lfirst(cell), &count);

		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < count; i++)
			put_keys(&change, &places[i]);
	}
	return (Datum) 0;
}
