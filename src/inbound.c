/*
 * inbound.c
 *		The inbound webhook: a phone rings, and the platform asks what to do.
 *
 *		verify -> company and branch of the number now -> status -> limit -> answer
 *
 * Whatever goes wrong is an outcome.  A call that is refused is answered with "reject": true, the
 * one value that makes the platform not take it (docs.retellai.com, inbound call webhook).
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "act.h"
#include "args.h"
#include "calls.h"
#include "quarantine.h"
#include "rate.h"
#include "refusals.h"

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

/* The answer that refuses the call. */
static Datum
reject_answer(void)
{
	return DirectFunctionCall1(jsonb_in, CStringGetDatum("{\"call_inbound\": {\"reject\": true}}"));
}

/* The answer that takes the call, and the decision in the company's books. */
static Datum
accept_answer(const TcDelivery *delivery, const TcPlacement *placement)
{
	MemoryContext caller = CurrentMemoryContext;
	TcContext tenant = {.company_id = placement->place.company_id,
						.branch_id = placement->place.branch_id};
	TcParams params = {0};
	Datum answer;
	bool isnull;
	TcAct act;

	(void) tc_directory_fill(&tenant);
	tc_act_begin(&act, TC_AS_OWNER, &tenant);
	tc_param_int8(&params, tenant.company_id);
	tc_param_int8(&params, tenant.branch_id);
	tc_param_text(&params, delivery->message.facts.from_number);
	if (tc_execute(&build_answer, &params) == 0)
		ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
						errmsg("the company was made or deleted by another session"),
						errhint("Repeat the transaction.")));
	answer = tc_result_datum(1, &isnull);
	MemoryContextSwitchTo(caller);
	answer = PointerGetDatum(PG_DETOAST_DATUM_COPY(answer));
	tc_calls_record(delivery, placement, "accepted", NULL);
	tc_act_end(&act);
	return answer;
}

/* What to do with an authentic request; NULL: take the call. */
static const char *
refuse(const TcDelivery *delivery, TcPlacement *placement)
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
	tc_rate_take("inbound_call", placement->place.company_id, 1, &limit);
	if (!placement->found)
		return "unknown";
	if (placement->suspended)
		return "suspended";
	return limit.allowed ? NULL : "limited";
}

/* answer_inbound_call(body, signature, received_at) -> one row (outcome, answer) */
Datum
tc_answer_inbound_call(PG_FUNCTION_ARGS)
{
	TcDelivery delivery = {.kind = "inbound"};
	TcPlacement placement;
	const char *outcome;
	Datum values[2];
	bool nulls[2] = {false, false};

	tc_delivery_receive(fcinfo, 2, tc_retell_parse_inbound, &delivery);
	if (delivery.rejected != NULL)
	{
		memset(&placement, 0, sizeof(placement));
		tc_refusal_note(&delivery, &placement, "rejected", delivery.rejected);
		values[0] = CStringGetTextDatum("rejected");
		nulls[1] = true;
		return tc_return_row(fcinfo, values, nulls);
	}
	outcome = refuse(&delivery, &placement);
	if (outcome == NULL)
	{
		values[1] = accept_answer(&delivery, &placement);
		outcome = "accepted";
	}
	else
	{
		tc_refusal_note(&delivery, &placement, outcome, placement.reason);
		if (!placement.found)
			tc_quarantine(&delivery, &placement, outcome, placement.reason, delivery.detail);
		values[1] = reject_answer();
	}
	values[0] = CStringGetTextDatum(outcome);
	return tc_return_row(fcinfo, values, nulls);
}
