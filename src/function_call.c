/*
 * function_call.c
 *		Function calls of the voice platform: accepted once, answered once.
 *
 *		verify -> place -> known already? -> tokens of company and call -> claim -> run
 *		                     \-> replay (answer recorded), busy (still running)
 *
 * The claim is a row in function_calls with a lease, keyed by the platform's tool_call_id, so the
 * work itself runs in a later transaction without any lock of ours.  A retry that finds the answer
 * gets it and takes no second token; one that finds the lease expired takes the claim over (its
 * attempt number must still be the one it saw).
 *
 * A call gone wild is stopped by the policy "call_guard", together with the company's own limit:
 *all or nothing.  It counts by the call id of the signed body, or by one beside the body that is
 *bound to the company; another one may be anything a language model came up with ("call_1",
 *"None"), the same for many calls, and is not counted by.  Such a request takes the company's token
 *alone.
 *
 * Without a tool_call_id a request is known by its exact delivery (signature and body): a network
 * retry of the same bytes is recognised, the same question asked again later is not.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "act.h"
#include "args.h"
#include "calls.h"
#include "codec_core.h"
#include "errors.h"
#include "key.h"
#include "node.h"
#include "quarantine.h"
#include "rate.h"
#include "refusals.h"
#include "stat.h"
#include "telephony.h"

#define COMPANY_LIMIT "function_call"
#define CALL_LIMIT "call_guard"
#define NO_NAME "(none)" /* a function whose name is not told */

PG_FUNCTION_INFO_V1(tc_accept_function_call);
PG_FUNCTION_INFO_V1(tc_finish_function_call);

static TcStatement find_claim = {
	.sql = "SELECT state, lease_until > clock_timestamp(), attempt, answer, call_id "
		   "FROM @.function_calls WHERE company_id = $1 AND idempotency_key = $2",
	.nparams = 2,
	.types = {INT8OID, TEXTOID},
};
static TcStatement insert_claim = {
	.sql = "INSERT INTO @.function_calls (company_id, idempotency_key, call_id, name, args, "
		   "lease_until) VALUES ($1, $2, $3, $4, (SELECT $5 WHERE NOT EXISTS (SELECT FROM @.calls "
		   "AS c WHERE c.company_id = $1 AND c.call_id = $3 AND c.events_seen & 32 <> 0)), "
		   "clock_timestamp() + make_interval(secs => $6)) "
		   "ON CONFLICT (company_id, idempotency_key) DO NOTHING",
	.nparams = 6,
	.types = {INT8OID, TEXTOID, INT8OID, TEXTOID, JSONBOID, FLOAT8OID},
};
static TcStatement renew_claim = {
	.sql = "UPDATE @.function_calls SET attempt = attempt + 1, "
		   "lease_until = clock_timestamp() + make_interval(secs => $4) "
		   "WHERE company_id = $1 AND idempotency_key = $2 AND attempt = $3 AND state = 'running'",
	.nparams = 4,
	.types = {INT8OID, TEXTOID, INT4OID, FLOAT8OID},
};
static TcStatement finish_claim = {
	.sql =
		"UPDATE @.function_calls AS f SET state = 'done', answer = (SELECT $3 WHERE NOT EXISTS "
		"(SELECT FROM @.calls AS c WHERE c.company_id = $1 AND c.call_id = f.call_id "
		"AND c.events_seen & 32 <> 0)), finished_at = now() WHERE company_id = $1 AND idempotency_key = $2 AND state = 'running'",
	.nparams = 3,
	.types = {INT8OID, TEXTOID, JSONBOID},
};

typedef struct Accepted
{
	const char *outcome;
	const char *reason;
	TcPlacement placement;
	int64 call_id;
	char *key;
	Datum answer;
	bool has_answer;
	bool limited_once; /* was a token asked for? */
	TcTakeResult limit;
	MemoryContext caller; /* for what is to be returned */
} Accepted;

/* Why a limit has refused.  The second is what the clients of this platform know. */
static const char *
refusal_reason(const TcTakeResult *limit)
{
	if (limit->reason == TC_TAKE_UNAVAILABLE)
		return "limit_unavailable";
	return limit->policy != NULL && strcmp(limit->policy, CALL_LIMIT) == 0
			   ? "call_rate_limit_exceeded"
			   : "rate_limit";
}

/* A key for a request without tool_call_id: this very delivery. */
static char *
delivery_key(const TcDelivery *delivery, const char *signature)
{
	uint8 digest[TC_HMAC_LEN];
	char hex[2 * TC_HMAC_LEN + 1];

	tc_sha256(TC_BYTES(signature, strlen(signature)), TC_BYTES(delivery->body, delivery->len),
			  digest);
	tc_hex_encode(digest, sizeof(digest), hex);
	hex[sizeof(hex) - 1] = '\0';
	return psprintf("delivery:%s", hex);
}

/* The key by which a retry is recognised. */
static char *
idempotency_key(const TcDelivery *delivery, const char *signature)
{
	const TcRetellMessage *message = &delivery->message;

	if (message->call_id != NULL && message->tool_call_id != NULL)
		return psprintf("%s/%s", message->call_id, message->tool_call_id);
	return delivery_key(delivery, signature);
}

/* What the claim that is already there means; false if there is none, or it was taken over. */
static bool
answer_from_claim(Accepted *accepted, MemoryContext caller)
{
	TcParams params = {0};
	bool isnull;
	bool running;
	Datum answer;
	int32 attempt;

	tc_param_int8(&params, accepted->placement.place.company_id);
	tc_param_text(&params, accepted->key);
	if (tc_execute(&find_claim, &params) == 0)
		return false;
	running = strcmp(tc_result_text(1), "running") == 0;
	attempt = DatumGetInt32(tc_result_datum(3, &isnull));
	accepted->call_id = tc_result_int8(5);
	if (!running)
	{
		accepted->outcome = "replay";
		answer = tc_result_datum(4, &isnull);
		accepted->has_answer = !isnull;
		MemoryContextSwitchTo(caller);
		if (!isnull)
			accepted->answer = PointerGetDatum(PG_DETOAST_DATUM_COPY(answer));
		return true;
	}
	accepted->outcome = "busy";
	if (DatumGetBool(tc_result_datum(2, &isnull)))
		return true;
	tc_param_datum(&params, Int32GetDatum(attempt), false);
	tc_param_datum(&params, Float8GetDatum(tc_calls_function_lease), false);
	if (tc_execute(&renew_claim, &params) > 0)
	{
		accepted->outcome = "run";
		accepted->reason = "lease_expired";
	}
	return true;
}

/* The id by which the call's function calls are counted; NULL: none that can be relied on. */
static const char *
counted_call(const TcDelivery *delivery, const TcPlacement *placement)
{
	if (delivery->message.call_id != NULL)
		return delivery->message.call_id;
	return strcmp(placement->source, "binding") == 0 ? delivery->call_id : NULL;
}

/* Takes the tokens; false, with the outcome, if there are none. */
static bool
take_tokens(const TcDelivery *delivery, Accepted *accepted, const TcContext *tenant,
			const char *name)
{
	TcRateCall call = {.tenant = tenant,
					   .call = counted_call(delivery, &accepted->placement),
					   .function = name[0] != '\0' ? name : NO_NAME};

	if (call.call != NULL)
		tc_rate_take_guarded(COMPANY_LIMIT, CALL_LIMIT, &call, &accepted->limit);
	else
		tc_rate_take(COMPANY_LIMIT, (int64) tenant->company_id, 1, &accepted->limit);
	accepted->limited_once = true;
	if (accepted->limit.allowed)
		return true;
	accepted->outcome = "limited";
	accepted->reason = refusal_reason(&accepted->limit);
	return false;
}

/* Takes the tokens and makes the claim; acting for the company. */
static void
claim(const TcDelivery *delivery, Accepted *accepted, const TcContext *tenant, const char *name)
{
	MemoryContext caller = accepted->caller;
	const TcRetellMessage *message = &delivery->message;
	TcParams params = {0};

	if (answer_from_claim(accepted, caller) || !take_tokens(delivery, accepted, tenant, name))
		return;
	accepted->call_id =
		tc_calls_find(message->call_id != NULL ? message->call_id : delivery->call_id);
	tc_param_int8(&params, accepted->placement.place.company_id);
	tc_param_text(&params, accepted->key);
	tc_param_int8(&params, accepted->call_id);
	tc_param_text(&params, name);
	tc_param_datum(&params, JsonbPGetDatum(message->arguments), message->arguments == NULL);
	tc_param_datum(&params, Float8GetDatum(tc_calls_function_lease), false);
	accepted->outcome = "run";
	if (tc_execute(&insert_claim, &params) > 0)
		return;
	/* the same call was accepted meanwhile: its tokens are enough */
	tc_rate_untake(&accepted->limit);
	accepted->limited_once = false;
	if (!answer_from_claim(accepted, caller))
		accepted->outcome = "busy";
}

/* Decides on an authentic request whose tenant is known. */
static void
decide(const TcDelivery *delivery, Accepted *accepted, const char *name)
{
	const TcPlacement *placement = &accepted->placement;
	TcContext tenant = {.company_id = placement->place.company_id,
						.branch_id = placement->place.branch_id};
	TcAct act;

	accepted->caller = CurrentMemoryContext;
	(void) tc_directory_fill(&tenant);
	tc_act_begin(&act, TC_AS_OWNER, &tenant);
	if (placement->suspended)
	{
		accepted->outcome = "suspended";
		accepted->reason = "company_suspended";
	}
	else
		claim(delivery, accepted, &tenant, name);
	if (strcmp(accepted->outcome, "run") == 0 && strcmp(placement->source, "binding") != 0)
		tc_calls_record(delivery, placement, "accepted", accepted->reason);
	tc_act_end(&act);
}

/*
 * What is beside the body may say what the body does not, and nothing else: where a caller's words
 * become arguments ("args at root"), they could else take the place of the call.
 */
static const char *
find_disagreement(const TcDelivery *delivery)
{
	const TcRetellMessage *message = &delivery->message;

	if (delivery->call_id != NULL && message->call_id != NULL &&
		strcmp(delivery->call_id, message->call_id) != 0)
		return "call_differs";
	if (delivery->agent != NULL && message->facts.agent != NULL &&
		strcmp(delivery->agent, message->facts.agent) != 0)
		return "agent_differs";
	return NULL;
}

/* Decides on a request. */
static void
accept(TcDelivery *delivery, const char *signature, Accepted *accepted)
{
	TcPlacement *placement = &accepted->placement;
	const char *name = delivery->message.function_name;

	if (delivery->rejected == NULL)
		delivery->rejected = find_disagreement(delivery);
	if (delivery->rejected != NULL)
	{
		accepted->outcome = "rejected";
		accepted->reason = delivery->rejected;
		return;
	}
	if (delivery->unusable != NULL)
		placement->reason = delivery->unusable;
	else
		tc_delivery_place(delivery, TC_SINCE_ASSIGNMENT, placement);
	if (placement->conflict)
	{
		accepted->outcome = "rejected";
		accepted->reason = placement->reason;
	}
	else if (!placement->found)
	{
		/* those that nobody knows share one bucket, so that they cannot fill the quarantine */
		tc_rate_take(COMPANY_LIMIT, 0, 1, &accepted->limit);
		accepted->limited_once = true;
		accepted->outcome = accepted->limit.allowed ? "unknown" : "limited";
		accepted->reason =
			accepted->limit.allowed ? placement->reason : refusal_reason(&accepted->limit);
		if (accepted->limit.allowed)
			tc_quarantine(delivery, placement, "unknown", placement->reason, delivery->detail);
	}
	else
	{
		accepted->key = idempotency_key(delivery, signature);
		decide(delivery, accepted, name != NULL ? name : "");
	}
}

/* A span in ns as interval, rounded up to whole µs. */
static Datum
interval_of(int64 ns)
{
	Interval *interval = palloc0(sizeof(Interval));

	interval->time = ns / 1000 + (ns % 1000 > 0 ? 1 : 0);
	return IntervalPGetDatum(interval);
}

/* The row that accept_function_call() returns. */
static Datum
return_accepted(FunctionCallInfo fcinfo, const TcDelivery *delivery, const Accepted *accepted)
{
	const TcPlace *place = &accepted->placement.place;
	const TcRetellMessage *message = &delivery->message;
	bool runs = strcmp(accepted->outcome, "run") == 0;
	bool limited = strcmp(accepted->outcome, "limited") == 0;
	Datum values[11] = {0};
	bool nulls[11];

	memset(nulls, true, sizeof(nulls));
#define PUT(column, condition, datum)                                                              \
	do                                                                                             \
	{                                                                                              \
		nulls[column] = !(condition);                                                              \
		if (condition)                                                                             \
			values[column] = (datum);                                                              \
	} while (0)
	PUT(0, true, CStringGetTextDatum(accepted->outcome));
	PUT(1, accepted->reason != NULL, CStringGetTextDatum(accepted->reason));
	PUT(2, accepted->key != NULL, Int64GetDatum(place->company_id));
	PUT(3, accepted->key != NULL && place->branch_id != 0, Int64GetDatum(place->branch_id));
	PUT(4, accepted->call_id != 0, Int64GetDatum(accepted->call_id));
	PUT(5, accepted->key != NULL && message->function_name != NULL,
		CStringGetTextDatum(message->function_name));
	PUT(6, runs && message->arguments != NULL, JsonbPGetDatum(message->arguments));
	PUT(7, accepted->key != NULL, CStringGetTextDatum(accepted->key));
	PUT(8, accepted->has_answer, accepted->answer);
	PUT(9, limited && accepted->limit.retry_after >= 0, interval_of(accepted->limit.retry_after));
	PUT(10, accepted->limited_once, JsonbPGetDatum(tc_rate_headers(&accepted->limit)));
#undef PUT
	return tc_return_row(fcinfo, values, nulls);
}

/* Can it not be the id of anything? */
static bool
too_long(const char *id)
{
	return id != NULL && strlen(id) > TC_RETELL_ID_MAX;
}

/* accept_function_call(body, signature, agent, call, received_at) -> one row */
Datum
tc_accept_function_call(PG_FUNCTION_ARGS)
{
	TcDelivery delivery = {.kind = "function_call"};
	Accepted accepted = {0};
	char *signature = PG_ARGISNULL(1) ? NULL : TextDatumGetCString(PG_GETARG_DATUM(1));
	Datum result;

	delivery.agent = tc_arg_optional_text(fcinfo, 2);
	delivery.call_id = tc_arg_optional_text(fcinfo, 3);
	tc_delivery_receive(fcinfo, 4, tc_retell_parse_function, &delivery);
	if (too_long(delivery.agent) || too_long(delivery.call_id))
		delivery.unusable = "argument_too_long";
	if (find_disagreement(&delivery) == NULL &&
		tc_delivery_forward(fcinfo, &delivery, false, &result))
		return result;
	accept(&delivery, signature, &accepted);
	tc_refusal_note(&delivery, &accepted.placement, accepted.outcome, accepted.reason);
	tc_stat_delivery("function_call", accepted.outcome,
					 delivery.verified_for != 0 ? delivery.verified_for
												: accepted.placement.place.company_id);
	return return_accepted(fcinfo, &delivery, &accepted);
}

/* Raises unless the answer that is recorded already is the same. */
static void
check_recorded(TcParams *params, Datum answer, bool isnull)
{
	Datum recorded;
	bool recorded_null;

	params->count = 2;
	if (tc_execute(&find_claim, params) == 0)
		ereport(ERROR, (errcode(ERRCODE_TC_UNKNOWN), errmsg("no such function call"),
						errhint("Pass the idempotency_key that accept_function_call() gave.")));
	recorded = tc_result_datum(4, &recorded_null);
	if (recorded_null != isnull ||
		(!isnull && compareJsonbContainers(&DatumGetJsonbP(recorded)->root,
										   &DatumGetJsonbP(answer)->root) != 0))
		ereport(ERROR, (errcode(ERRCODE_TC_CONFLICT),
						errmsg("the function call has been answered already"),
						errdetail("Another answer is recorded, and may have been given."),
						errhint("Give the recorded answer: accept_function_call() returns it.")));
}

/* finish_function_call(company_id, idempotency_key, answer) -> void */
Datum
tc_finish_function_call(PG_FUNCTION_ARGS)
{
	TcContext tenant = {.company_id = tc_arg_id(fcinfo, 0, "company_id")};
	char *key = tc_arg_text(fcinfo, 1, "idempotency_key");
	TcParams params = {0};
	Datum result;
	TcAct act;

	(void) tc_telephony_required();
	if (tc_node_elsewhere(fcinfo, tenant.company_id, &result))
		return result;
	if (!tc_directory_fill(&tenant))
		ereport(ERROR,
				(errcode(ERRCODE_TC_UNKNOWN),
				 errmsg("company " INT64_FORMAT " does not exist", (int64) tenant.company_id)));
	tc_act_begin(&act, TC_AS_OWNER, &tenant);
	tc_param_int8(&params, tenant.company_id);
	tc_param_text(&params, key);
	tc_param_datum(&params, PG_GETARG_DATUM(2), PG_ARGISNULL(2));
	if (tc_execute(&finish_claim, &params) == 0)
		check_recorded(&params, PG_GETARG_DATUM(2), PG_ARGISNULL(2));
	tc_act_end(&act);
	PG_RETURN_VOID();
}
