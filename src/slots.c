/*
 * slots.c
 *		Times at which a service can be had in a branch.
 *
 *		calendar's answer (slot_cache.h) --> in the window --> not too soon --> branch open
 *			--> not held or booked here --> slots
 *
 * The calendar does not know yet what was held or booked here a moment ago, so it is asked for
 * whole days, which many callers share, and its answer is reduced for each of them.
 *
 * Locks: AccessShareLock on slot_holds; no row locks; nothing is held while waiting.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "act.h"
#include "args.h"
#include "context.h"
#include "errors.h"
#include "slots.h"
#include "telephony.h"

PG_FUNCTION_INFO_V1(tc_available_slots);

/* Part of a calendar's time that is taken here. */
typedef struct Taken
{
	TimestampTz from;
	TimestampTz to;
	int32 seat;
} Taken;

static TcStatement select_taken = {
	.sql = "SELECT starts_at, ends_at, seat FROM @.slot_holds WHERE company_id = $1 "
		   "AND credential = $2 AND calcom_event_type_id = $3 "
		   "AND pg_catalog.tstzrange(starts_at, ends_at, '[)') "
		   "OPERATOR(pg_catalog.&&) pg_catalog.tstzrange($4, $5, '[)') "
		   "AND (state = 'booked' OR state = 'held' AND expires_at > pg_catalog.now()) "
		   "AND ($6 IS NULL OR state = 'booked' OR call_id IS DISTINCT FROM $6)",
	.nparams = 6,
	.types = {INT8OID, TEXTOID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID},
};

/* The start of the day in UTC. */
static TimestampTz
day_of(TimestampTz at)
{
	int64 past = at % USECS_PER_DAY;

	return at - (past < 0 ? past + USECS_PER_DAY : past);
}

/* Turns a wish into a question. */
static void
make_question(const TcCalendar *calendar, const TcSlotWish *wish, TcSlotQuestion *question)
{
	memset(question, 0, sizeof(*question));
	question->database = MyDatabaseId;
	question->duration = (int32) (calendar->duration / USECS_PER_MINUTE);
	question->company_id = calendar->company_id;
	question->event_type_id = calendar->event_type_id;
	question->team_id = calendar->team_id;
	question->from = day_of(wish->from);
	question->to = day_of(wish->to - 1) + USECS_PER_DAY;
	strlcpy(question->credential, calendar->credential, sizeof(question->credential));
	strlcpy(question->time_zone, calendar->time_zone_name, sizeof(question->time_zone));
}

/* Raises for an answer that is not known. */
static void
raise_unknown(const TcCalendar *calendar, const TcSlotAnswer *answer)
{
	char *retry = answer->retry_after > 0
					  ? psprintf("Ask again in %d s.", (int) ((answer->retry_after + 999) / 1000))
					  : pstrdup("Ask again in a moment; view stat_cache tells more.");

	if (strcmp(answer->reason, "no_worker") == 0)
		retry = pstrdup("Name this database in setting tenantcall.worker_databases and restart "
						"the server.");
	ereport(ERROR, (errcode(ERRCODE_TC_UNAVAILABLE),
					errmsg("the free slots of service " INT64_FORMAT " are not known",
						   calendar->service_id),
					errdetail("The calendar's answer is missing: %s.", answer->reason),
					errhint("%s", retry)));
}

/* What is held and booked here in a span, palloc'd. */
static Taken *
load_taken(const TcCalendar *calendar, const TcSlotWish *wish, int *count)
{
	MemoryContext caller = CurrentMemoryContext;
	TcParams params = {0};
	uint64 rows;
	Taken *taken;
	TcAct act;

	tc_act_begin(&act, TC_AS_OWNER, NULL);
	tc_param_int8(&params, calendar->company_id);
	tc_param_text(&params, calendar->credential);
	tc_param_int8(&params, calendar->event_type_id);
	tc_param_datum(&params, TimestampTzGetDatum(wish->from), false);
	tc_param_datum(&params, TimestampTzGetDatum(tc_calendar_end(calendar, wish->to)), false);
	tc_param_int8(&params, wish->ignore_hold ? wish->call_id : 0);
	rows = tc_execute(&select_taken, &params);
	taken = MemoryContextAlloc(caller, sizeof(Taken) * Max(rows, 1));
	for (uint64 i = 0; i < rows; i++)
	{
		HeapTuple tuple = SPI_tuptable->vals[i];
		TupleDesc desc = SPI_tuptable->tupdesc;
		bool isnull;

		taken[i].from = DatumGetTimestampTz(SPI_getbinval(tuple, desc, 1, &isnull));
		taken[i].to = DatumGetTimestampTz(SPI_getbinval(tuple, desc, 2, &isnull));
		taken[i].seat = DatumGetInt32(SPI_getbinval(tuple, desc, 3, &isnull));
	}
	tc_act_end(&act);
	*count = (int) rows;
	return taken;
}

/* Are all seats of a slot taken?  A seat counts once, however much of it is taken. */
static bool
is_full(const TcCalendar *calendar, TimestampTz starts_at, const Taken *taken, int count)
{
	TimestampTz ends_at = tc_calendar_end(calendar, starts_at);
	int seats = 0;

	for (int i = 0; i < count; i++)
	{
		bool counted = false;

		if (taken[i].to <= starts_at || taken[i].from >= ends_at)
			continue;
		for (int k = 0; k < i && !counted; k++)
			counted = taken[k].seat == taken[i].seat && taken[k].to > starts_at &&
					  taken[k].from < ends_at;
		if (!counted && ++seats >= calendar->capacity)
			return true;
	}
	return false;
}

/* Starts of free slots. */
TimestampTz *
tc_slots_free(const TcCalendar *calendar, const TcSlotWish *asked, int *count)
{
	TcSlotWish wish = *asked;
	TcSlotQuestion question;
	TcSlotAnswer answer;
	Taken *taken;
	int ntaken;
	int kept = 0;

	*count = 0;
	wish.from = Max(wish.from, tc_calendar_earliest(calendar, GetCurrentTimestamp()));
	if (wish.from >= wish.to)
		return NULL;
	make_question(calendar, &wish, &question);
	tc_slot_cache_get(&question, wish.max_wait, wish.max_age, &answer);
	if (answer.source == TC_SLOTS_FAILED)
		raise_unknown(calendar, &answer);
	if (answer.count == 0)
		return answer.starts;
	taken = load_taken(calendar, &wish, &ntaken);
	for (int i = 0; i < answer.count; i++)
	{
		TimestampTz at = answer.starts[i];

		if (at >= wish.from && at < wish.to && tc_calendar_open(calendar, at) &&
			!is_full(calendar, at, taken, ntaken))
			answer.starts[kept++] = at;
	}
	pfree(taken);
	*count = kept;
	return answer.starts;
}

/* The window and the patience that were asked for. */
static void
read_wish(FunctionCallInfo fcinfo, TcSlotWish *wish)
{
	memset(wish, 0, sizeof(*wish));
	wish->from = tc_arg_moment(fcinfo, 1, "from_time");
	wish->to = tc_arg_moment(fcinfo, 2, "to_time");
	if (wish->from >= wish->to)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("\"from_time\" must be before \"to_time\"")));
	if (wish->to - wish->from > (TC_SLOT_MAX_DAYS - 1) * USECS_PER_DAY)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("slots can be asked for %d days at a time", TC_SLOT_MAX_DAYS - 1),
						errhint("Ask for less: callers rarely want more than the next weeks.")));
	wish->max_wait = tc_arg_max_wait(fcinfo, 4);
	wish->max_age = PG_ARGISNULL(5) ? TC_SLOT_ANY_AGE : tc_arg_span(fcinfo, 5, "max_age");
}

/* The time zone in which local times are shown. */
static pg_tz *
arg_zone(FunctionCallInfo fcinfo, int arg, const TcCalendar *calendar, char **name)
{
	char *wanted = tc_arg_optional_text(fcinfo, arg);
	pg_tz *zone;

	*name = wanted != NULL ? wanted : pstrdup(calendar->time_zone_name);
	if (wanted == NULL)
		return calendar->time_zone;
	zone = pg_tzset(wanted);
	if (zone == NULL || strchr(wanted, '/') == NULL)
	{
		if (zone == NULL || pg_strcasecmp(wanted, "UTC") != 0)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("time zone \"%s\" is not known", wanted),
							errhint("See view pg_timezone_names, for example Europe/Berlin.")));
	}
	return zone;
}

/* What clocks in the zone show then. */
Timestamp
tc_local_time(TimestampTz at, pg_tz *zone)
{
	struct pg_tm tm;
	fsec_t fraction;
	Timestamp local;
	int tz;

	if (timestamp2tm(at, &tz, &tm, &fraction, NULL, zone) != 0 ||
		tm2timestamp(&tm, fraction, NULL, &local) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE), errmsg("timestamp out of range")));
	return local;
}

/* The tenant whose slots are asked for. */
const TcContext *
tc_slots_tenant(void)
{
	const TcContext *tenant = tc_context_current();

	if (tenant == NULL)
		ereport(ERROR, (errcode(ERRCODE_TC_WRONG_TENANT), errmsg("no tenant in this transaction"),
						errdetail("Slots are those of one company."),
						errhint("Call tenantcall.enter_token() or tenantcall.enter() first, in "
								"the same transaction.")));
	return tenant;
}

/* available_slots(service_id, from_time, to_time, time_zone, max_wait, max_age) -> rows */
Datum
tc_available_slots(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *info = (ReturnSetInfo *) fcinfo->resultinfo;
	const TcContext *tenant = tc_slots_tenant();
	int64 service_id = tc_arg_id(fcinfo, 0, "service_id");
	TcCalendar calendar;
	TimestampTz *starts;
	TcSlotWish wish;
	char *zone_name;
	pg_tz *zone;
	int count;

	read_wish(fcinfo, &wish);
	calendar = *tc_calendar_in_use(tenant, service_id);
	zone = arg_zone(fcinfo, 3, &calendar, &zone_name);
	InitMaterializedSRF(fcinfo, 0);
	starts = tc_slots_free(&calendar, &wish, &count);
	for (int i = 0; i < count; i++)
	{
		Datum values[4] = {
			TimestampTzGetDatum(starts[i]),
			TimestampTzGetDatum(tc_calendar_end(&calendar, starts[i])),
			TimestampGetDatum(tc_local_time(starts[i], zone)),
			CStringGetTextDatum(zone_name),
		};
		bool nulls[4] = {false};

		tuplestore_putvalues(info->setResult, info->setDesc, values, nulls);
	}
	return (Datum) 0;
}
