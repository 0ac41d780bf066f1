/*
 * inbound.c
 *		The inbound webhook: a phone rings, and the platform asks what to do.
 *
 *		verify -> company and branch of the number now
 *		       -> lock of the company -> answered before? -> status -> room for a call -> limit
 *		       -> answer, decision, request, lease
 *
 * Whatever goes wrong is an outcome.  A call that is refused is answered with "reject": true, the
 * one value that makes the platform not take it (docs.retellai.com, inbound call webhook).
 *
 * The platform repeats a delivery that it got no answer to.  The same delivery gets the same answer
 * again, whatever has changed since, and takes neither a second lease nor a second token.
 *
 * Locks: the company's (lease.c), until the end of the transaction: so of two deliveries of one
 * request the second finds the first, and calls at once are counted exactly.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "act.h"
#include "args.h"
#include "calls.h"
#include "inbound_request.h"
#include "lease.h"
#include "quarantine.h"
#include "rate.h"
#include "refusals.h"
#include "stat.h"

PG_FUNCTION_INFO_V1(tc_answer_inbound_call);

static TcStatement build_answer = {
	.sql = "SELECT jsonb_build_object('call_inbound', jsonb_build_object('dynamic_variables', "
		   "jsonb_strip_nulls(jsonb_build_object('company_name', c.name, 'branch_name', b.name, "
		   "'time_zone', coalesce(b.time_zone, c.time_zone), 'customer_name', (SELECT k.name FROM "
		   "@.customers AS k WHERE k.company_id = c.company_id AND k.phone = $3 "
		   "ORDER BY k.customer_id LIMIT 1))))) FROM @.companies AS c LEFT JOIN @.branches AS b "
		   "ON b.company_id = c.company_id AND b.branch_id = $2 WHERE c.company_id = $1",
	.nparams = 3,
	.types = {INT8OID, INT8OID, TEXTOID},
};
static TcStatement add_token = {
	.sql = "SELECT jsonb_set(coalesce($1, '{\"call_inbound\": {}}'), '{call_inbound,metadata}', "
		   "jsonb_build_object('" TC_TOKEN_MEMBER "', $2))",
	.nparams = 2,
	.types = {JSONBOID, TEXTOID},
};

/* The answer that refuses the call. */
static Datum
reject_answer(void)
{
	return DirectFunctionCall1(jsonb_in, CStringGetDatum("{\"call_inbound\": {\"reject\": true}}"));
}

/* The answer that takes the call, but for the token. */
static Datum
accept_answer(const TcContext *tenant, const TcDelivery *delivery)
{
	TcParams params = {0};
	bool isnull;

	tc_param_int8(&params, tenant->company_id);
	tc_param_int8(&params, tenant->branch_id);
	tc_param_text(&params, delivery->message.facts.from_number);
	if (tc_execute(&build_answer, &params) == 0)
		ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
						errmsg("the company was made or deleted by another session"),
						errhint("Repeat the transaction.")));
	return tc_result_datum(1, &isnull);
}

/* The answer to a request that was accepted, with its token, in the caller's memory. */
static Datum
finish_answer(const TcInboundRequest *request, const TcInboundId *id, MemoryContext caller)
{
	TcParams params = {0};
	Datum answer;
	bool isnull;

	tc_param_datum(&params, request->answer, request->answer == (Datum) 0);
	tc_param_text(&params, id->token);
	(void) tc_execute(&add_token, &params);
	answer = tc_result_datum(1, &isnull);
	MemoryContextSwitchTo(caller);
	return PointerGetDatum(PG_DETOAST_DATUM_COPY(answer));
}

/* Why the call is not taken, and the reason; NULL: it is, and has a lease. */
static const char *
refuse(const TcPlacement *placement, const TcLeaseAsk *ask, const char **reason)
{
	TcLeaseAnswer lease;
	TcTakeResult limit;

	if (placement->suspended)
	{
		*reason = "company_suspended";
		return "suspended";
	}
	tc_lease_ask(ask, &lease);
	*reason = lease.refused;
	if (lease.refused != NULL)
		return "limited";
	tc_rate_take("inbound_call", placement->place.company_id, 1, &limit);
	if (!limit.allowed)
	{
		*reason = "rate_limit";
		return "limited";
	}
	(void) tc_lease_hold(ask);
	return NULL;
}

/* Decides on a request whose tenant is known, and answers it; as before, if it was before. */
static const char *
decide(const TcDelivery *delivery, const TcPlacement *placement, const TcInboundId *id,
	   Datum *answer)
{
	TcContext tenant = {.company_id = placement->place.company_id,
						.branch_id = placement->place.branch_id};
	TcLeaseAsk ask = {.tenant = &tenant, .holder = id->correlation};
	MemoryContext caller = CurrentMemoryContext;
	TcInboundRequest request = {0};
	const char *refused;
	const char *reason;
	bool accepted;
	TcAct act;

	(void) tc_directory_fill(&tenant);
	tc_act_begin(&act, TC_AS_OWNER, &tenant);
	if (!tc_company_hold(tenant.company_id))
	{
		tc_act_end(&act); /* deleted meanwhile */
		*answer = reject_answer();
		return "unknown";
	}
	tc_lease_lock();
	if (!tc_inbound_find(tenant.company_id, id, &request))
	{
		refused = refuse(placement, &ask, &reason);
		request.outcome = pstrdup(refused != NULL ? refused : "accepted");
		if (refused == NULL)
			request.answer = accept_answer(&tenant, delivery);
		tc_inbound_keep(delivery, placement, id, &request,
						tc_calls_record(delivery, placement, request.outcome, reason));
	}
	accepted = strcmp(request.outcome, "accepted") == 0;
	if (accepted)
		*answer = finish_answer(&request, id, caller);
	request.outcome = MemoryContextStrdup(caller, request.outcome);
	tc_act_end(&act);
	if (!accepted)
		*answer = reject_answer();
	return request.outcome;
}

/* Finds out whose an authentic request is; NULL: somebody's, else the outcome. */
static const char *
place(const TcDelivery *delivery, TcPlacement *placement)
{
	TcTakeResult limit;

	memset(placement, 0, sizeof(*placement));
	if (delivery->unusable != NULL)
	{
		placement->reason = delivery->unusable;
		return "unknown";
	}
	tc_delivery_place(delivery, TC_SINCE_ASSIGNMENT, placement);
	if (placement->conflict)
		return "rejected";
	if (placement->found)
		return NULL;
	tc_rate_take("inbound_call", 0, 1, &limit);
	return "unknown";
}

/* answer_inbound_call(body, signature, received_at) -> one row (outcome, answer) */
Datum
tc_answer_inbound_call(PG_FUNCTION_ARGS)
{
	TcDelivery delivery = {.kind = "inbound"};
	TcPlacement placement;
	TcInboundId id;
	const char *outcome;
	Datum values[2];
	bool nulls[2] = {false, false};
	Datum result;

	tc_delivery_receive(fcinfo, 2, tc_retell_parse_inbound, &delivery);
	if (tc_delivery_forward(fcinfo, &delivery, false, &result))
		return result;
	if (delivery.rejected != NULL)
	{
		memset(&placement, 0, sizeof(placement));
		tc_refusal_note(&delivery, &placement, "rejected", delivery.rejected);
		tc_stat_delivery("inbound", "rejected", delivery.verified_for);
		values[0] = CStringGetTextDatum("rejected");
		nulls[1] = true;
		return tc_return_row(fcinfo, values, nulls);
	}
	outcome = place(&delivery, &placement);
	if (outcome == NULL)
	{
		tc_inbound_identify(&delivery, TextDatumGetCString(PG_GETARG_DATUM(1)), &id);
		outcome = decide(&delivery, &placement, &id, &values[1]);
		(void) tc_refusal_count(&delivery, &placement, outcome, NULL);
	}
	else
	{
		tc_refusal_note(&delivery, &placement, outcome, placement.reason);
		if (!placement.found)
			tc_quarantine(&delivery, &placement, outcome, placement.reason, delivery.detail);
		values[1] = reject_answer();
	}
	tc_stat_delivery("inbound", outcome, placement.place.company_id);
	values[0] = CStringGetTextDatum(outcome);
	return tc_return_row(fcinfo, values, nulls);
}
