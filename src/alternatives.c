/*
 * alternatives.c
 *		Times to offer when the one that was wanted cannot be had.
 *
 *		free slots of the next days (slots.h) --> less the customer's own appointments
 *			--> strategies in force, the company's or the shipped ones --> the best n
 *
 * Locks: AccessShareLock on the tables that are read; nothing is held while waiting.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "act.h"
#include "alternatives_core.h"
#include "args.h"
#include "context.h"
#include "errors.h"
#include "inval.h"
#include "node.h"
#include "slots.h"
#include "telephony.h"

PG_FUNCTION_INFO_V1(tc_alternative_slots);

#define MAX_ALTERNATIVES 50
#define MAX_DAYS 60

/* A strategy as data has it. */
typedef struct Row
{
	bool known;
	bool active;
	int32 position;
	TcStrategy strategy;
} Row;

/* What the customer does then. */
typedef struct Busy
{
	TimestampTz from;
	TimestampTz to;
} Busy;

/* Named windows of a day, in minutes. */
static const struct
{
	const char *name;
	int32 from;
	int32 to;
} windows[] = {{"morning", 0, TC_NOON},
			   {"afternoon", TC_NOON, 17 * 60},
			   {"evening", 17 * 60, TC_DAY_MINUTES}};

static TcStatement select_busy = {
	.sql = "SELECT starts_at, ends_at FROM @.appointments WHERE company_id = $1 "
		   "AND customer_id = $2 AND starts_at < $4 AND ends_at > $3 "
		   "AND status IN ('pending', 'unknown', 'confirmed', 'cancelling')",
	.nparams = 4,
	.types = {INT8OID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID},
};

/* An integer column; 0 for NULL. */
static int32
row_int4(HeapTuple tuple, TupleDesc desc, const char *column)
{
	Datum value;

	return tc_row_datum(tuple, desc, column, &value) ? DatumGetInt32(value) : 0;
}

/* A row of strategies: a later one of the same name replaces an earlier one. */
static bool
visit_strategy(HeapTuple tuple, TupleDesc desc, void *arg)
{
	char *name = tc_row_text(tuple, desc, "strategy");
	TcStrategyKind kind = name != NULL ? tc_strategy_of(name) : TC_N_STRATEGIES;
	Row *row;
	Datum value;

	if (kind == TC_N_STRATEGIES)
		return true;
	row = &((Row *) arg)[kind];
	row->known = true;
	row->active = tc_row_datum(tuple, desc, "is_active", &value) && DatumGetBool(value);
	row->position = row_int4(tuple, desc, "position");
	row->strategy.kind = kind;
	row->strategy.days = row_int4(tuple, desc, "days");
	row->strategy.bonus_later = row_int4(tuple, desc, "bonus_later");
	row->strategy.bonus_earlier = row_int4(tuple, desc, "bonus_earlier");
	row->strategy.span = 0;
	if (tc_row_datum(tuple, desc, "span", &value))
		row->strategy.span = (int32) (DatumGetIntervalP(value)->time / USECS_PER_MINUTE);
	return true;
}

/* Reads the strategies in force, in order. */
static int
load_strategies(int64 company_id, TcStrategy strategies[TC_N_STRATEGIES])
{
	Row rows[TC_N_STRATEGIES] = {0};
	TcMatch company = {"company_id", INT8OID, Int64GetDatum(company_id)};
	int count = 0;

	tc_read_rows(tc_own_relation("slot_strategy_defaults"), NULL, 0, visit_strategy, rows);
	tc_read_rows(tc_telephony_table("slot_strategies"), &company, 1, visit_strategy, rows);
	for (;;)
	{
		Row *next = NULL;

		for (int i = 0; i < TC_N_STRATEGIES; i++)
		{
			if (rows[i].known && rows[i].active &&
				(next == NULL || rows[i].position < next->position))
				next = &rows[i];
		}
		if (next == NULL)
			return count;
		strategies[count++] = next->strategy;
		next->active = false;
	}
}

/* Reads a time of day, HH:MM. */
static int32
minute_of(const char *key, const char *text)
{
	int hour;
	int minute;
	int end = -1;

	/* sscanf() would take blanks and signs; two digits fit */
	if (text == NULL || text[strspn(text, "0123456789:")] != '\0' ||
		sscanf(text, "%2d:%2d%n", &hour, &minute, &end) != 2 || /* NOLINT(cert-err34-c) */
		text[end] != '\0' || minute > 59 || hour * 60 + minute > TC_DAY_MINUTES)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("preference \"%s\" is no time of day", key),
						errhint("Write it as HH:MM, for example \"14:30\".")));
	return hour * 60 + minute;
}

/* Takes one pair of the preference. */
static void
take_preference(TcAlternativesRequest *request, const char *key, const char *text)
{
	if (strcmp(key, "from") == 0)
		request->prefers_from = minute_of(key, text);
	else if (strcmp(key, "to") == 0)
		request->prefers_to = minute_of(key, text);
	else if (strcmp(key, "exact") == 0)
	{
		request->prefers_from = minute_of(key, text);
		request->prefers_to = request->prefers_from + 1;
	}
	else if (strcmp(key, "window") == 0)
	{
		for (size_t i = 0; i < lengthof(windows); i++)
		{
			if (text == NULL || strcmp(text, windows[i].name) != 0)
				continue;
			request->prefers_from = windows[i].from;
			request->prefers_to = windows[i].to;
			return;
		}
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("preference \"window\" is not known"),
						errhint("It is \"morning\", \"afternoon\" or \"evening\".")));
	}
	else
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("preference \"%s\" is not known", key),
						errhint("Known are exact, window, from and to.")));
}

/* Reads the preference: an object of texts. */
static void
read_preference(Jsonb *preference, TcAlternativesRequest *request)
{
	JsonbIterator *it = JsonbIteratorInit(&preference->root);
	JsonbIteratorToken token;
	JsonbValue value;
	char *key = NULL;

	if (!JB_ROOT_IS_OBJECT(preference))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"preference\" must be a JSON object"),
						errhint("For example {\"from\": \"14:00\", \"to\": \"17:00\"}.")));
	request->prefers = JB_ROOT_COUNT(preference) > 0;
	request->prefers_to = TC_DAY_MINUTES;
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			key = pnstrdup(value.val.string.val, value.val.string.len);
		else if (token == WJB_VALUE && key != NULL)
			take_preference(request, key,
							value.type == jbvString
								? pnstrdup(value.val.string.val, value.val.string.len)
								: NULL);
	}
	if (request->prefers && request->prefers_from >= request->prefers_to)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the preferred hours end before they begin")));
}

/* What the branch's clocks show. */
static TcMoment
moment_of(const TcCalendar *calendar, TimestampTz at)
{
	TcMoment moment = {.at = at};
	int32 second;

	tc_calendar_local(calendar, at, &moment.day, &second);
	moment.minute = second / SECS_PER_MINUTE;
	return moment;
}

/* Is it a day on which the branch works? */
static bool
is_workday(int32 day, const void *arg)
{
	return tc_hours_workday(&((const TcCalendar *) arg)->hours, day);
}

/* Leaves out slots during which the customer has an appointment already. */
static int
leave_out_busy(const TcCalendar *calendar, int64 customer_id, TimestampTz *starts, int count)
{
	MemoryContext caller = CurrentMemoryContext;
	TcParams params = {0};
	int kept = 0;
	Busy *busy;
	uint64 rows;
	TcAct act;

	if (customer_id == 0 || count == 0)
		return count;
	tc_act_begin(&act, TC_AS_OWNER, NULL);
	tc_param_int8(&params, calendar->company_id);
	tc_param_int8(&params, customer_id);
	tc_param_datum(&params, TimestampTzGetDatum(starts[0]), false);
	tc_param_datum(&params, TimestampTzGetDatum(tc_calendar_end(calendar, starts[count - 1])),
				   false);
	rows = tc_execute(&select_busy, &params);
	busy = MemoryContextAlloc(caller, sizeof(Busy) * Max(rows, 1));
	for (uint64 i = 0; i < rows; i++)
	{
		bool isnull;

		busy[i].from = DatumGetTimestampTz(
			SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
		busy[i].to = DatumGetTimestampTz(
			SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &isnull));
	}
	tc_act_end(&act);
	for (int i = 0; i < count; i++)
	{
		bool free = true;

		for (uint64 k = 0; k < rows && free; k++)
			free = busy[k].to <= starts[i] || busy[k].from >= tc_calendar_end(calendar, starts[i]);
		if (free)
			starts[kept++] = starts[i];
	}
	return kept;
}

/* The days that the strategies may look at, around the wanted time. */
static void
set_window(const TcAlternativesRequest *request, TimestampTz wanted, TcSlotWish *wish)
{
	int32 days = 1;

	for (int i = 0; i < request->nstrategies; i++)
	{
		const TcStrategy *strategy = &request->strategies[i];

		days = Max(days, strategy->kind == TC_NEXT_WEEK ? 7 : strategy->days);
	}
	wish->from = wanted - USECS_PER_DAY;
	wish->to = wanted + (Min(days, MAX_DAYS - 3) + 1) * USECS_PER_DAY;
}

/* Puts the chosen ones into the result. */
static void
put_alternatives(ReturnSetInfo *info, const TcCalendar *calendar, const TimestampTz *starts,
				 const TcAlternative *chosen, int count)
{
	for (int i = 0; i < count; i++)
	{
		TimestampTz at = starts[chosen[i].slot];
		Datum values[6] = {
			TimestampTzGetDatum(at),
			TimestampTzGetDatum(tc_calendar_end(calendar, at)),
			TimestampGetDatum(tc_local_time(at, calendar->time_zone)),
			CStringGetTextDatum(calendar->time_zone_name),
			CStringGetTextDatum(tc_strategy_name(chosen[i].kind)),
			Int32GetDatum(chosen[i].score),
		};
		bool nulls[6] = {false};

		tuplestore_putvalues(info->setResult, info->setDesc, values, nulls);
	}
}

/* Reads the arguments that shape the request. */
static void
read_request(FunctionCallInfo fcinfo, const TcCalendar *calendar, TimestampTz wanted,
			 TcAlternativesRequest *request)
{
	if (PG_ARGISNULL(2) || PG_GETARG_INT32(2) < 1 || PG_GETARG_INT32(2) > MAX_ALTERNATIVES)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"n\" must be between 1 and %d", MAX_ALTERNATIVES)));
	request->wanted_count = PG_GETARG_INT32(2);
	if (!PG_ARGISNULL(3))
		read_preference(PG_GETARG_JSONB_P(3), request);
	request->wanted = moment_of(calendar, wanted);
	request->is_workday = is_workday;
	request->arg = calendar;
}

/* alternative_slots(service_id, wanted, n, preference, customer_id, max_wait) -> rows */
Datum
tc_alternative_slots(PG_FUNCTION_ARGS)
{
	const TcContext *tenant = tc_slots_tenant();
	int64 service_id = tc_arg_id(fcinfo, 0, "service_id");
	TimestampTz wanted = tc_arg_moment(fcinfo, 1, "wanted");
	int64 customer_id = tc_arg_optional_id(fcinfo, 4, "customer_id");
	TcStrategy strategies[TC_N_STRATEGIES];
	TcAlternativesRequest request = {.strategies = strategies};
	TcSlotWish wish = {.max_age = TC_SLOT_ANY_AGE};
	TcAlternative *chosen;
	TcCalendar calendar;
	TimestampTz *starts;
	TcMoment *moments;
	int count;

	if (unlikely(tc_node_citus) && tc_node_forward_set(fcinfo, tenant->company_id))
		return (Datum) 0;
	wish.max_wait = tc_arg_max_wait(fcinfo, 5);
	calendar = *tc_calendar_in_use(tenant, service_id);
	read_request(fcinfo, &calendar, wanted, &request);
	request.nstrategies = load_strategies(calendar.company_id, strategies);
	set_window(&request, wanted, &wish);
	InitMaterializedSRF(fcinfo, 0);
	starts = tc_slots_free(&calendar, &wish, &count);
	count = leave_out_busy(&calendar, customer_id, starts, count);
	moments = palloc(sizeof(TcMoment) * Max(count, 1));
	for (int i = 0; i < count; i++)
		moments[i] = moment_of(&calendar, starts[i]);
	chosen = palloc(sizeof(TcAlternative) * request.wanted_count);
	count = tc_alternatives_choose(&request, moments, count, chosen);
	put_alternatives((ReturnSetInfo *) fcinfo->resultinfo, &calendar, starts, chosen, count);
	return (Datum) 0;
}
