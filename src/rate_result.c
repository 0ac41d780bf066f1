/*
 * rate_result.c
 *		Rate limits: intervals in, intervals and HTTP headers out.
 *
 * Rounding is always up, so that a client who waits as told is not refused for being early.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "common/int.h"
#include "datatype/timestamp.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "args.h"
#include "rate.h"
#include "rate_args.h"
#include "rate_core.h"

#define NS_PER_US INT64CONST(1000)
#define NS_PER_SECOND INT64CONST(1000000000)

PG_FUNCTION_INFO_V1(tc_rate_headers_sql);

static const char *const reason_names[] = {
	[TC_TAKE_OK] = NULL,
	[TC_TAKE_LIMITED] = "limited",
	[TC_TAKE_WOULD_DENY] = "would_deny",
	[TC_TAKE_COST_EXCEEDS_BURST] = "cost_exceeds_burst",
	[TC_TAKE_TABLE_FULL] = "table_full",
	[TC_TAKE_DISABLED] = "disabled",
	[TC_TAKE_UNAVAILABLE] = "unavailable",
	[TC_TAKE_PAUSED] = "paused",
};

StaticAssertDecl(lengthof(reason_names) == TC_TAKE_PAUSED + 1, "a reason has no name");

/* The reason as SQL shows it; NULL for TC_TAKE_OK. */
const char *
tc_take_reason_name(TcTakeReason reason)
{
	return reason_names[reason];
}

/* Raises for a required argument that is NULL. */
void
tc_rate_raise_null(const char *argument)
{
	ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					errmsg("argument \"%s\" must not be NULL", argument)));
}

/* A required boolean. */
bool
tc_rate_flag_argument(FunctionCallInfo fcinfo, int arg, const char *name)
{
	if (PG_ARGISNULL(arg))
		tc_rate_raise_null(name);
	return PG_GETARG_BOOL(arg);
}

/* Refuses a cost that nothing could mean. */
void
tc_rate_check_cost(int64 cost)
{
	if (unlikely(cost < 1))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"cost\" must be at least 1"),
						errdetail("It is " INT64_FORMAT ".", cost)));
}

/* The columns of a take_result, but for the ticket. */
void
tc_rate_result_columns(const TcTakeResult *result, Datum *values, bool *nulls)
{
	const char *reason = tc_take_reason_name(result->reason);

	memset(values, 0, sizeof(Datum) * TC_RATE_RESULT_COLUMNS);
	memset(nulls, 0, sizeof(bool) * TC_RATE_RESULT_COLUMNS);
	values[0] = BoolGetDatum(result->allowed);
	nulls[1] = nulls[2] = nulls[4] = result->quota < 0;
	nulls[3] = nulls[1] || result->retry_after < 0;
	values[1] = Int64GetDatum(result->quota);
	values[2] = Int64GetDatum(result->remaining);
	if (!nulls[3])
		values[3] = tc_rate_interval(result->retry_after);
	if (!nulls[4])
		values[4] = tc_rate_interval(result->reset_after);
	nulls[5] = reason == NULL;
	if (reason != NULL)
		values[5] = CStringGetTextDatum(reason);
	nulls[6] = true;
}

/* Microseconds of an interval; raises if it has months, which have no length, or is infinite. */
static int64
interval_us(const Interval *interval, const char *argument)
{
	int64 days_us;
	int64 us;

	if (interval->month != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must be a finite time without months or years", argument),
				 errhint("Months differ in length: use days or hours, such as '30 days'.")));
	days_us = (int64) interval->day * USECS_PER_DAY;
	if (pg_add_s64_overflow(days_us, interval->time, &us))
		ereport(ERROR, (errcode(ERRCODE_INTERVAL_FIELD_OVERFLOW),
						errmsg("argument \"%s\" is out of range", argument)));
	return us;
}

/* A span of time in nanoseconds; more than the limiter looks ahead is as much as that. */
int64
tc_rate_span_argument(FunctionCallInfo fcinfo, int arg, const char *name)
{
	int64 us;

	if (PG_ARGISNULL(arg))
		tc_rate_raise_null(name);
	us = interval_us(PG_GETARG_INTERVAL_P(arg), name);
	if (us < 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"%s\" must not be negative", name)));
	return Min(us, TC_RATE_MAX_PERIOD / NS_PER_US) * NS_PER_US;
}

/* The period of a policy in nanoseconds. */
int64
tc_rate_period_argument(FunctionCallInfo fcinfo, int arg)
{
	int64 us;

	if (PG_ARGISNULL(arg))
		tc_rate_raise_null("per");
	us = interval_us(PG_GETARG_INTERVAL_P(arg), "per");
	if (us < 1 || us > TC_RATE_MAX_PERIOD / NS_PER_US)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"per\" must be from 1 microsecond to 366 days")));
	return us * NS_PER_US;
}

/* The interval of so many nanoseconds, rounded up to microseconds. */
Datum
tc_rate_interval(int64 ns)
{
	Interval *interval = palloc0(sizeof(Interval));

	interval->time = ns / NS_PER_US + (ns % NS_PER_US != 0);
	PG_RETURN_INTERVAL_P(interval);
}

/* Whole seconds, rounded up. */
static int64
seconds(int64 ns)
{
	return ns / NS_PER_SECOND + (ns % NS_PER_SECOND != 0);
}

/* Adds one header. */
static void
push_header(JsonbParseState **state, const char *name, const char *value)
{
	JsonbValue item;

	item.type = jbvString;
	item.val.string.val = (char *) name;
	item.val.string.len = strlen(name);
	pushJsonbValue(state, WJB_KEY, &item);
	item.val.string.val = (char *) value;
	item.val.string.len = strlen(value);
	pushJsonbValue(state, WJB_VALUE, &item);
}

/* A number as the draft's structured fields may have it: at most 15 digits. */
static int64
field_number(int64 n)
{
	return Min(n, INT64CONST(999999999999999));
}

/*
 * The draft's two headers.  A name is a String of structured fields: printable ASCII, with quotes
 * and backslashes escaped; other bytes become "_".
 */
static void
push_draft_headers(JsonbParseState **state, const TcTakeResult *result)
{
	StringInfoData name;
	int64 quota = field_number(result->quota);
	int64 remaining = field_number(result->remaining);

	initStringInfo(&name);
	for (const char *c = result->policy != NULL ? result->policy : "default"; *c != '\0'; c++)
	{
		if (*c == '"' || *c == '\\')
			appendStringInfoChar(&name, '\\');
		appendStringInfoChar(&name, *c >= ' ' && *c <= '~' ? *c : '_');
	}
	push_header(state, "RateLimit-Policy",
				result->window > 0 ? psprintf("\"%s\";q=" INT64_FORMAT ";w=" INT64_FORMAT,
											  name.data, quota, seconds(result->window))
								   : psprintf("\"%s\";q=" INT64_FORMAT, name.data, quota));
	push_header(state, "RateLimit",
				psprintf("\"%s\";r=" INT64_FORMAT ";t=" INT64_FORMAT, name.data, remaining,
						 seconds(result->reset_after)));
}

/* HTTP headers: X-RateLimit-*, the IETF draft's RateLimit and RateLimit-Policy, Retry-After. */
Jsonb *
tc_rate_headers(const TcTakeResult *result)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	if (result->quota >= 0)
	{
		push_header(&state, "X-RateLimit-Limit", psprintf(INT64_FORMAT, result->quota));
		push_header(&state, "X-RateLimit-Remaining", psprintf(INT64_FORMAT, result->remaining));
		push_header(&state, "X-RateLimit-Reset",
					psprintf(INT64_FORMAT, seconds(result->reset_after)));
		push_draft_headers(&state, result);
		if (!result->allowed && result->retry_after > 0)
			push_header(&state, "Retry-After",
						psprintf(INT64_FORMAT, seconds(result->retry_after)));
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/* Nanoseconds of an interval column of a take_result; missing if it is NULL. */
static int64
result_interval(HeapTupleHeader row, const char *column, int64 missing)
{
	bool isnull;
	Datum value = GetAttributeByName(row, column, &isnull);
	int64 us;

	if (isnull)
		return missing;
	us = interval_us(DatumGetIntervalP(value), column);
	return us > TC_RATE_FAR / NS_PER_US ? TC_RATE_FAR : Max(us, 0) * NS_PER_US;
}

/* Number in a bigint column of a take_result; -1 if it is NULL. */
static int64
result_number(HeapTupleHeader row, const char *column)
{
	bool isnull;
	Datum value = GetAttributeByName(row, column, &isnull);

	return isnull ? -1 : DatumGetInt64(value);
}

/* rate_headers(result take_result [, policy text, refill interval]) -> jsonb */
Datum
tc_rate_headers_sql(PG_FUNCTION_ARGS)
{
	TcTakeResult result = {0};
	HeapTupleHeader row;
	Datum allowed;
	bool isnull;

	if (PG_ARGISNULL(0))
		tc_rate_raise_null("result");
	row = PG_GETARG_HEAPTUPLEHEADER(0);
	allowed = GetAttributeByName(row, "allowed", &isnull);
	if (isnull)
		tc_rate_raise_null("result");
	result.allowed = DatumGetBool(allowed);
	result.quota = result_number(row, "quota");
	result.remaining = Max(result_number(row, "remaining"), 0);
	result.retry_after = result_interval(row, "retry_after", TC_RATE_NEVER);
	result.reset_after = result_interval(row, "reset_after", 0);
	if (PG_NARGS() > 1)
		result.policy = tc_arg_optional_text(fcinfo, 1);
	if (PG_NARGS() > 2 && !PG_ARGISNULL(2))
		result.window = tc_rate_span_argument(fcinfo, 2, "refill");
	PG_RETURN_JSONB_P(tc_rate_headers(&result));
}
