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
 * Locks: those of slot_cache.h and slot_taken.h; no row locks; nothing is held while waiting.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "args.h"
#include "context.h"
#include "errors.h"
#include "node.h"
#include "slot_remote.h"
#include "slot_taken.h"
#include "slots.h"

PG_FUNCTION_INFO_V1(tc_available_slots);

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
	if (strcmp(answer->reason, "no_elected_node") == 0)
		retry = pstrdup("See tenantcall.elected_node(): the node that speaks to calendars.");
	ereport(ERROR, (errcode(ERRCODE_TC_UNAVAILABLE),
					errmsg("the free slots of service " INT64_FORMAT " are not known",
						   calendar->service_id),
					errdetail("The calendar's answer is missing: %s.", answer->reason),
					errhint("%s", retry)));
}

/* Starts of free slots. */
TimestampTz *
tc_slots_free(const TcCalendar *calendar, const TcSlotWish *asked, int *count)
{
	TcSlotWish wish = *asked;
	TcSlotQuestion question;
	TcSlotAnswer answer;
	TcSlotTaken *taken;
	int ntaken;
	int kept = 0;

	*count = 0;
	wish.from = Max(wish.from, tc_calendar_earliest(calendar, GetCurrentTimestamp()));
	if (wish.from >= wish.to)
		return NULL;
	make_question(calendar, &wish, &question);
	tc_slot_ask(&question, wish.max_wait, wish.max_age, &answer);
	if (answer.source == TC_SLOTS_FAILED)
		raise_unknown(calendar, &answer);
	if (answer.count == 0)
		return answer.starts;
	taken = tc_slot_taken(calendar, &wish, &question, &answer, &ntaken);
	for (int i = 0; i < answer.count; i++)
	{
		TimestampTz at = answer.starts[i];

		if (at >= wish.from && at < wish.to && tc_calendar_open(calendar, at) &&
			!tc_slot_full(calendar, at, taken, ntaken))
			answer.starts[kept++] = at;
	}
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
	Datum shown;
	int count;

	if (unlikely(tc_node_citus) && tc_node_forward_set(fcinfo, tenant->company_id))
		return (Datum) 0;
	read_wish(fcinfo, &wish);
	calendar = *tc_calendar_in_use(tenant, service_id);
	zone = arg_zone(fcinfo, 3, &calendar, &zone_name);
	shown = CStringGetTextDatum(zone_name);
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	starts = tc_slots_free(&calendar, &wish, &count);
	for (int i = 0; i < count; i++)
	{
		Datum values[4] = {
			TimestampTzGetDatum(starts[i]),
			TimestampTzGetDatum(tc_calendar_end(&calendar, starts[i])),
			TimestampGetDatum(tc_local_time(starts[i], zone)),
			shown,
		};
		bool nulls[4] = {false};

		tuplestore_putvalues(info->setResult, info->setDesc, values, nulls);
	}
	return (Datum) 0;
}
