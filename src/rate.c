/*
 * rate.c
 *		Rate limits: the SQL functions that spend and look.
 *
 *		policy name --rate_policy.c--> limit --+
 *		tenant context ----------> subject ----+--rate_bucket.c, rate_all.c--> result, ticket
 *
 * Nothing here is transactional: what is spent stays spent after a rollback (unless the call asks
 * for refund_on_abort), and all of it works in read-only transactions and on a standby.  A wait
 * holds no lock; its tokens are spent in advance, and given back if it is cancelled.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "args.h"
#include "context.h"
#include "errors.h"
#include "node.h"
#include "rate_all.h"
#include "rate_args.h"
#include "rate_clock.h"
#include "rate_shmem.h"
#include "rate_wait.h"
#include "ready.h"

PG_FUNCTION_INFO_V1(tc_allow);
PG_FUNCTION_INFO_V1(tc_allow_for);
PG_FUNCTION_INFO_V1(tc_take);
PG_FUNCTION_INFO_V1(tc_take_or_fail);
PG_FUNCTION_INFO_V1(tc_take_for);
PG_FUNCTION_INFO_V1(tc_take_all);
PG_FUNCTION_INFO_V1(tc_peek);

/* A request, taken from arguments. */
typedef struct Request
{
	TcRateWho who;
	const char *policy;
	TcRateAsk ask;
	bool refund_on_abort;
	TcRateTickets tickets;
	TcTakeResult result;
} Request;

/* Sets the module up. */
void
tc_rate_init(void)
{
	tc_rate_shmem_init();
}

/* The tenant in context. */
const TcContext *
tc_rate_tenant(void)
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
	return context;
}

/* The policy argument as it holds for the tenant. */
static inline const TcRateLimit *
limit_argument(FunctionCallInfo fcinfo, int arg, const TcRateWho *who)
{
	text *policy;

	if (unlikely(PG_ARGISNULL(arg)))
		tc_rate_raise_null("policy");
	policy = PG_GETARG_TEXT_PP(arg);
	return tc_rate_limit(VARDATA_ANY(policy), VARSIZE_ANY_EXHDR(policy), who);
}

/* The cost argument. */
static inline int64
cost_argument(FunctionCallInfo fcinfo, int arg)
{
	if (unlikely(PG_ARGISNULL(arg)))
		tc_rate_raise_null("cost");
	tc_rate_check_cost(PG_GETARG_INT64(arg));
	return PG_GETARG_INT64(arg);
}

/* Arguments from `arg` on: number, call, function, low_priority, refund_on_abort if it spends. */
static void
who_arguments(FunctionCallInfo fcinfo, int arg, Request *request)
{
	request->who.number = tc_arg_optional_text(fcinfo, arg);
	request->who.call = tc_arg_optional_text(fcinfo, arg + 1);
	request->who.function = tc_arg_optional_text(fcinfo, arg + 2);
	request->ask.low = tc_rate_flag_argument(fcinfo, arg + 3, "low_priority");
	if (request->ask.peek)
		return;
	request->refund_on_abort = tc_rate_flag_argument(fcinfo, arg + 4, "refund_on_abort");
	request->ask.tickets = &request->tickets;
}

/* Asks for one policy; waits if it was to, and notes what an abort gives back. */
static void
ask(FunctionCallInfo fcinfo, int policy_arg, Request *request)
{
	const TcRateLimit *limit;

	request->ask.cost = cost_argument(fcinfo, policy_arg + 1);
	limit = limit_argument(fcinfo, policy_arg, &request->who);
	request->policy = text_to_cstring(PG_GETARG_TEXT_PP(policy_arg));
	if (limit->shadow && !limit->together)
		request->ask.max_wait = 0;
	tc_rate_ask_policy(limit, request->policy, &request->who, &request->ask, &request->result);
	if (request->result.waited > 0)
		tc_rate_wait(&request->tickets.item[0], request->policy, &request->who);
	if (request->refund_on_abort && request->tickets.n > 0)
		tc_rate_give_back_on_abort(&request->tickets);
}

/* The SQL form of a result. */
static Datum
result_datum(FunctionCallInfo fcinfo, const Request *request)
{
	Datum values[TC_RATE_RESULT_COLUMNS];
	bool nulls[TC_RATE_RESULT_COLUMNS];

	tc_rate_result_columns(&request->result, values, nulls);
	if (request->tickets.n > 0)
	{
		values[6] = PointerGetDatum(tc_rate_ticket_encode(&request->tickets, request->who.tenant));
		nulls[6] = false;
	}
	return tc_form_result(fcinfo, values, nulls);
}

/* allow(policy text, cost bigint) -> boolean */
Datum
tc_allow(PG_FUNCTION_ARGS)
{
	TcRateWho who = {.tenant = tc_rate_tenant()};
	TcRateAsk brief = {.brief = true};
	TcTakeResult result;
	const TcRateLimit *limit;
	Datum there;

	if (tc_node_elsewhere(fcinfo, who.tenant->company_id, &there))
		return there;
	limit = limit_argument(fcinfo, 0, &who);
	brief.cost = cost_argument(fcinfo, 1);
	tc_rate_ask_policy(limit, NULL, &who, &brief, &result);
	PG_RETURN_BOOL(result.allowed);
}

/* allow_for(company_id bigint, policy text, cost bigint) -> boolean; NULL: unknown callers */
Datum
tc_allow_for(PG_FUNCTION_ARGS)
{
	TcContext tenant = {.company_id = tc_arg_optional_id(fcinfo, 0, "company_id")};
	TcRateWho who = {.tenant = &tenant};
	TcRateAsk brief = {.brief = true};
	TcTakeResult result;
	const TcRateLimit *limit;
	Datum there;

	if (tc_node_elsewhere(fcinfo, tenant.company_id, &there))
		return there;
	limit = limit_argument(fcinfo, 1, &who);
	brief.cost = cost_argument(fcinfo, 2);
	tc_rate_ask_policy(limit, NULL, &who, &brief, &result);
	PG_RETURN_BOOL(result.allowed);
}

/* take(policy, cost, max_wait, number, call, function, low_priority, refund_on_abort) */
Datum
tc_take(PG_FUNCTION_ARGS)
{
	Request request = {.who.tenant = tc_rate_tenant()};
	Datum there;

	if (tc_node_elsewhere(fcinfo, request.who.tenant->company_id, &there))
		return there;
	request.ask.max_wait = tc_rate_span_argument(fcinfo, 2, "max_wait");
	who_arguments(fcinfo, 3, &request);
	ask(fcinfo, 0, &request);
	PG_RETURN_DATUM(result_datum(fcinfo, &request));
}

/* Raises PT429. */
static void
raise_limited(const Request *request)
{
	const TcTakeResult *result = &request->result;

	if (result->retry_after == TC_RATE_NEVER)
		ereport(ERROR,
				(errcode(ERRCODE_TC_LIMITED),
				 errmsg("rate limit \"%s\" can never admit this request", request->policy),
				 errdetail("It costs " INT64_FORMAT ", more than the burst of " INT64_FORMAT ".",
						   request->ask.cost, result->quota),
				 errhint("Ask for less at a time, or raise the policy's burst.")));
	ereport(ERROR,
			(errcode(ERRCODE_TC_LIMITED), errmsg("rate limit \"%s\" exceeded", request->policy),
			 errdetail("Reason: %s. Remaining: " INT64_FORMAT " of " INT64_FORMAT
					   ". Retry after: %.6f s.",
					   tc_take_reason_name(result->reason), result->remaining, result->quota,
					   (double) result->retry_after / 1e9 + 5e-7),
			 errhint("Try again after that time.")));
}

/* take_or_fail(policy, cost, number, call, function, low_priority, refund_on_abort), or PT429 */
Datum
tc_take_or_fail(PG_FUNCTION_ARGS)
{
	Request request = {.who.tenant = tc_rate_tenant()};
	Datum there;

	if (tc_node_elsewhere(fcinfo, request.who.tenant->company_id, &there))
		return there;
	who_arguments(fcinfo, 2, &request);
	ask(fcinfo, 0, &request);
	if (!request.result.allowed)
		raise_limited(&request);
	PG_RETURN_DATUM(result_datum(fcinfo, &request));
}

/*
 * take_for(company_id, policy, cost, number, call, function, low_priority, refund_on_abort);
 * NULL: unknown callers
 */
Datum
tc_take_for(PG_FUNCTION_ARGS)
{
	TcContext tenant = {.company_id = tc_arg_optional_id(fcinfo, 0, "company_id")};
	Request request = {.who.tenant = &tenant};
	Datum there;

	if (tc_node_elsewhere(fcinfo, tenant.company_id, &there))
		return there;
	who_arguments(fcinfo, 3, &request);
	ask(fcinfo, 1, &request);
	PG_RETURN_DATUM(result_datum(fcinfo, &request));
}

/* peek(policy, cost, number, call, function, low_priority): what take() would say */
Datum
tc_peek(PG_FUNCTION_ARGS)
{
	Request request = {.who.tenant = tc_rate_tenant(), .ask.peek = true};
	Datum there;

	if (tc_node_elsewhere(fcinfo, request.who.tenant->company_id, &there))
		return there;
	who_arguments(fcinfo, 2, &request);
	ask(fcinfo, 0, &request);
	PG_RETURN_DATUM(result_datum(fcinfo, &request));
}

/* Elements of a one-dimensional array without NULLs. */
static Datum *
array_argument(FunctionCallInfo fcinfo, int arg, const char *name, int *n)
{
	ArrayType *array;
	Datum *values;
	bool *nulls;

	if (PG_ARGISNULL(arg))
		tc_rate_raise_null(name);
	array = PG_GETARG_ARRAYTYPE_P(arg);
	if (ARR_ELEMTYPE(array) == TEXTOID)
		deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, n);
	else
		deconstruct_array(array, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &values,
						  &nulls, n);
	for (int i = 0; i < *n; i++)
	{
		if (nulls[i])
			tc_rate_raise_null(name);
	}
	return values;
}

/* Adds what take_all() is asked for. */
static void
items_arguments(FunctionCallInfo fcinfo, const TcRateWho *who, TcRateItems *items)
{
	int n;
	int n_costs = 0;
	Datum *policies = array_argument(fcinfo, 0, "policies", &n);
	Datum *costs = PG_ARGISNULL(1) ? NULL : array_argument(fcinfo, 1, "costs", &n_costs);

	if (n == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"policies\" must not be empty")));
	if (costs != NULL && n_costs != n)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("arguments \"policies\" and \"costs\" differ in length")));
	for (int i = 0; i < n; i++)
	{
		int64 cost = costs == NULL ? 1 : DatumGetInt64(costs[i]);

		tc_rate_check_cost(cost);
		tc_rate_all_add(items, TextDatumGetCString(policies[i]), cost, who);
	}
}

/* The names of those that refused, as policy or policy.bandwidth. */
static Datum
refused_names(const TcRateItems *items)
{
	Datum names[TC_RATE_MAX_ITEMS];
	int n = 0;

	for (int i = 0; i < items->n; i++)
	{
		const TcRateItem *item = &items->item[i];

		if (!item->refused)
			continue;
		names[n++] = strcmp(item->limit.bandwidth, "default") == 0
						 ? CStringGetTextDatum(item->policy)
						 : PointerGetDatum(cstring_to_text(
							   psprintf("%s.%s", item->policy, item->limit.bandwidth)));
	}
	return PointerGetDatum(construct_array(names, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/* take_all(policies, costs, number, call, function, low_priority, refund_on_abort) */
Datum
tc_take_all(PG_FUNCTION_ARGS)
{
	Request request = {.who.tenant = tc_rate_tenant()};
	TcRateItems *items = palloc0(sizeof(TcRateItems));
	Datum values[TC_RATE_RESULT_COLUMNS + 1];
	bool nulls[TC_RATE_RESULT_COLUMNS + 1];

	who_arguments(fcinfo, 2, &request);
	items_arguments(fcinfo, &request.who, items);
	tc_rate_all_ask(items, &request.ask, &request.result);
	if (request.refund_on_abort && request.tickets.n > 0)
		tc_rate_give_back_on_abort(&request.tickets);
	tc_rate_result_columns(&request.result, values, nulls);
	if (request.tickets.n > 0)
	{
		values[6] = PointerGetDatum(tc_rate_ticket_encode(&request.tickets, request.who.tenant));
		nulls[6] = false;
	}
	values[7] = refused_names(items);
	nulls[7] = false;
	return tc_form_result(fcinfo, values, nulls);
}

/* What this backend has spent last for other modules. */
static struct
{
	uint64 receipt;
	TcRateTickets tickets;
} last_taken;

/* What is to be asked for another module, and given back by tc_rate_untake(). */
static TcRateAsk
ask_for_module(int64 cost)
{
	tc_rate_check_cost(cost);
	last_taken.receipt++;
	last_taken.tickets.n = 0;
	return (TcRateAsk){.cost = cost, .tickets = &last_taken.tickets};
}

/* Tokens of a company's bucket: see rate.h. */
void
tc_rate_take(const char *policy, int64 company_id, int64 cost, TcTakeResult *result)
{
	TcContext tenant = {.company_id = company_id};
	TcRateWho who = {.tenant = &tenant};
	TcRateAsk one = ask_for_module(cost);
	const TcRateLimit *limit = tc_rate_limit(policy, strlen(policy), &who);
	int64 window = tc_rate_duration(&limit->math, limit->math.capacity);

	tc_rate_ask_policy(limit, policy, &who, &one, result);
	result->receipt = last_taken.receipt;
	result->policy = policy;
	if (result->window == 0)
		result->window = window;
}

/* One token of several policies, all or nothing. */
static void
take_together(const char *const *policies, int n, const TcRateWho *who, TcTakeResult *result)
{
	TcRateItems *items = palloc0(sizeof(TcRateItems));
	TcRateAsk one = ask_for_module(1);

	for (int i = 0; i < n; i++)
		tc_rate_all_add(items, policies[i], one.cost, who);
	tc_rate_all_ask(items, &one, result);
	result->receipt = last_taken.receipt;
	pfree(items);
}

/* One token of a company's bucket and of a guard's: see rate.h. */
void
tc_rate_take_guarded(const char *policy, const char *guard, const TcRateCall *call,
					 TcTakeResult *result)
{
	TcRateWho who = {.tenant = call->tenant, .call = call->call, .function = call->function};
	const char *const policies[] = {policy, guard};

	take_together(policies, lengthof(policies), &who, result);
	if (result->policy == guard && result->reason == TC_TAKE_TABLE_FULL)
		take_together(policies, 1, &who, result);
}

/* Gives back what was spent last, if it was this. */
void
tc_rate_untake(const TcTakeResult *result)
{
	if (result->receipt != last_taken.receipt)
		return;
	for (int i = 0; i < last_taken.tickets.n; i++)
		(void) tc_rate_give_back(&last_taken.tickets.item[i], tc_rate_now());
	last_taken.tickets.n = 0;
}
