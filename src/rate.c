/*
 * rate.c
 *		Rate limits: the SQL functions that spend and look.
 *
 *		policy name --rate_policy.c--> limit --+
 *		tenant context ----------> subject ----+--rate_bucket.c--> result
 *
 * Nothing here is transactional: what is spent stays spent after a rollback, and all of it works
 * in read-only transactions and on a standby.  A wait holds no lock; its tokens are spent in
 * advance, and given back if it is cancelled.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "args.h"
#include "context.h"
#include "errors.h"
#include "rate_args.h"
#include "rate_table.h"
#include "tenantcall.h"

PG_FUNCTION_INFO_V1(tc_allow);
PG_FUNCTION_INFO_V1(tc_take);
PG_FUNCTION_INFO_V1(tc_take_or_fail);
PG_FUNCTION_INFO_V1(tc_take_for);
PG_FUNCTION_INFO_V1(tc_peek);

/* A wait in progress: what to give back if it ends early. */
typedef struct Waiting
{
	TcRateLimit limit;
	TcRateSubject subject;
	int64 cost;
} Waiting;

/* Sets the module up. */
void
tc_rate_init(void)
{
	tc_rate_shmem_init();
}

/* The subject of a company, or of the unknown callers (0). */
void
tc_rate_company_subject(int64 company_id, TcRateSubject *subject)
{
	subject->level = company_id == 0 ? TC_RATE_UNKNOWN : TC_RATE_COMPANY;
	subject->subject[0] = (uint64) company_id;
	subject->subject[1] = 0;
}

/* The subject of the tenant context, and its company_id, or 0 if only the UUID is known. */
int64
tc_rate_current_subject(TcRateSubject *subject)
{
	const TcContext *context = tc_context_current();

	if (unlikely(context == NULL))
	{
		tc_require_ready();
		ereport(ERROR,
				(errcode(ERRCODE_TC_WRONG_TENANT), errmsg("no tenant has been entered"),
				 errdetail("A rate limit counts for the company of the tenant context."),
				 errhint("Call tenantcall.enter_token() first in this transaction; gateways can "
						 "call tenantcall.enter(), or tenantcall.take_for() at any time.")));
	}
	if (likely(context->company_id != 0))
	{
		tc_rate_company_subject(context->company_id, subject);
		return context->company_id;
	}
	subject->level = TC_RATE_COMPANY_UUID;
	memcpy(subject->subject, context->company_uuid, sizeof(subject->subject));
	return 0;
}

/* Refuses a cost that nothing could mean. */
static inline void
check_cost(int64 cost)
{
	if (unlikely(cost < 1))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"cost\" must be at least 1"),
						errdetail("It is " INT64_FORMAT ".", cost)));
}

/* The policy argument as it holds for the company. */
static inline const TcRateLimit *
limit_argument(FunctionCallInfo fcinfo, int arg, int64 company_id)
{
	text *policy;

	if (unlikely(PG_ARGISNULL(arg)))
		tc_rate_raise_null("policy");
	policy = PG_GETARG_TEXT_PP(arg);
	return tc_rate_limit(VARDATA_ANY(policy), VARSIZE_ANY_EXHDR(policy), company_id);
}

/* The cost argument. */
static inline int64
cost_argument(FunctionCallInfo fcinfo, int arg)
{
	if (unlikely(PG_ARGISNULL(arg)))
		tc_rate_raise_null("cost");
	check_cost(PG_GETARG_INT64(arg));
	return PG_GETARG_INT64(arg);
}

/* Cleanup of a wait that ended early, also when the backend is told to exit. */
static void
end_wait_early(int code, Datum arg)
{
	Waiting *waiting = (Waiting *) DatumGetPointer(arg);

	tc_rate_give_back(&waiting->limit, &waiting->subject, waiting->cost);
}

/* Sleeps until an instant of the buckets' clock. */
static void
sleep_until(int64 instant)
{
	int64 left;

	while ((left = instant - tc_rate_now()) > 0)
	{
		int64 ms = Min((left + 999999) / 1000000, 3600 * 1000);

		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, (long) ms,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* Sleeps what the bucket said, or gives the tokens back. */
static void
wait_for_turn(const TcRateLimit *limit, const TcRateSubject *subject, int64 cost, int64 delay)
{
	Waiting waiting = {*limit, *subject, cost};
	int64 instant = tc_rate_now() + delay;

	PG_ENSURE_ERROR_CLEANUP(end_wait_early, PointerGetDatum(&waiting));
	{
		sleep_until(instant);
	}
	PG_END_ENSURE_ERROR_CLEANUP(end_wait_early, PointerGetDatum(&waiting));
}

/* The SQL form of a result. */
static Datum
result_datum(FunctionCallInfo fcinfo, const TcTakeResult *result)
{
	const char *reason = tc_take_reason_name(result->reason);
	Datum values[7] = {0};
	bool nulls[7] = {false};

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
	nulls[6] = true; /* ticket: refunds are to come */
	return tc_form_result(fcinfo, values, nulls);
}

/* allow(policy text, cost bigint) -> boolean */
Datum
tc_allow(PG_FUNCTION_ARGS)
{
	TcRateSubject subject;
	TcRateAsk ask = {.brief = true};
	TcTakeResult result;
	int64 company_id = tc_rate_current_subject(&subject);
	const TcRateLimit *limit = limit_argument(fcinfo, 0, company_id);

	ask.cost = cost_argument(fcinfo, 1);
	tc_rate_ask(limit, &subject, &ask, &result);
	PG_RETURN_BOOL(result.allowed);
}

/* take(policy text, cost bigint, max_wait interval) -> take_result */
Datum
tc_take(PG_FUNCTION_ARGS)
{
	TcRateSubject subject;
	TcRateAsk ask = {0};
	TcTakeResult result;
	int64 company_id = tc_rate_current_subject(&subject);
	const TcRateLimit *limit;

	ask.cost = cost_argument(fcinfo, 1);
	ask.max_wait = tc_rate_wait_argument(fcinfo, 2);
	limit = limit_argument(fcinfo, 0, company_id);
	if (limit->shadow)
		ask.max_wait = 0;
	tc_rate_ask(limit, &subject, &ask, &result);
	if (result.waited > 0)
		wait_for_turn(limit, &subject, ask.cost, result.waited);
	PG_RETURN_DATUM(result_datum(fcinfo, &result));
}

/* Raises PT429. */
static void
raise_limited(const char *policy, int64 cost, const TcTakeResult *result)
{
	if (result->retry_after == TC_RATE_NEVER)
		ereport(ERROR,
				(errcode(ERRCODE_TC_LIMITED),
				 errmsg("rate limit \"%s\" can never admit this request", policy),
				 errdetail("It costs " INT64_FORMAT ", more than the burst of " INT64_FORMAT ".",
						   cost, result->quota),
				 errhint("Ask for less at a time, or raise the policy's burst.")));
	ereport(ERROR, (errcode(ERRCODE_TC_LIMITED), errmsg("rate limit \"%s\" exceeded", policy),
					errdetail("Reason: %s. Remaining: " INT64_FORMAT " of " INT64_FORMAT
							  ". Retry after: %.6f s.",
							  tc_take_reason_name(result->reason), result->remaining, result->quota,
							  (double) result->retry_after / 1e9 + 5e-7),
					errhint("Try again after that time.")));
}

/* take_or_fail(policy text, cost bigint) -> take_result, or PT429 */
Datum
tc_take_or_fail(PG_FUNCTION_ARGS)
{
	TcRateSubject subject;
	TcRateAsk ask = {0};
	TcTakeResult result;
	int64 company_id = tc_rate_current_subject(&subject);
	const TcRateLimit *limit = limit_argument(fcinfo, 0, company_id);

	ask.cost = cost_argument(fcinfo, 1);
	tc_rate_ask(limit, &subject, &ask, &result);
	if (!result.allowed)
		raise_limited(text_to_cstring(PG_GETARG_TEXT_PP(0)), ask.cost, &result);
	PG_RETURN_DATUM(result_datum(fcinfo, &result));
}

/* take_for(company_id bigint, policy text, cost bigint) -> take_result; NULL: unknown callers */
Datum
tc_take_for(PG_FUNCTION_ARGS)
{
	int64 company_id = tc_arg_optional_id(fcinfo, 0, "company_id");
	TcRateSubject subject;
	TcRateAsk ask = {0};
	TcTakeResult result;
	const TcRateLimit *limit = limit_argument(fcinfo, 1, company_id);

	ask.cost = cost_argument(fcinfo, 2);
	tc_rate_company_subject(company_id, &subject);
	tc_rate_ask(limit, &subject, &ask, &result);
	PG_RETURN_DATUM(result_datum(fcinfo, &result));
}

/* peek(policy text, cost bigint) -> take_result: what take() would say, spending nothing */
Datum
tc_peek(PG_FUNCTION_ARGS)
{
	TcRateSubject subject;
	TcRateAsk ask = {.peek = true};
	TcTakeResult result;
	int64 company_id = tc_rate_current_subject(&subject);
	const TcRateLimit *limit = limit_argument(fcinfo, 0, company_id);

	ask.cost = cost_argument(fcinfo, 1);
	tc_rate_ask(limit, &subject, &ask, &result);
	PG_RETURN_DATUM(result_datum(fcinfo, &result));
}

/* The same for other modules: see rate.h. */
void
tc_rate_take(const char *policy, int64 company_id, int64 cost, TcTakeResult *result)
{
	TcRateSubject subject;
	TcRateAsk ask = {.cost = cost};

	check_cost(cost);
	tc_rate_company_subject(company_id, &subject);
	tc_rate_ask(tc_rate_limit(policy, strlen(policy), company_id), &subject, &ask, result);
}

/* Gives tokens back to the company's bucket. */
void
tc_rate_untake(const char *policy, int64 company_id, int64 cost)
{
	TcRateSubject subject;

	tc_rate_company_subject(company_id, &subject);
	tc_rate_give_back(tc_rate_limit(policy, strlen(policy), company_id), &subject, cost);
}
