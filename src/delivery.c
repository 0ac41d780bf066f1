/*
 * delivery.c
 *		A body that the voice platform delivered: is it authentic, and whose is it?
 *
 *		signature header -> form, time window -> keys of the account
 *		      -> (body taken apart, unverified: selects candidate companies) -> their own keys
 *
 * Authentic means that a live key fits the raw bytes.  A key of the account may place a call with
 * any company; a company's own key with that company alone, whatever the body says.
 *
 * Placing asks, in this order and without ever guessing: the binding of the call; the company's
 * number, as of the start of the call; for calls without numbers the agent.
 *
 * Bodies are taken apart under tc_guard(), so that nonsense is a result.  Longer bodies than
 * tenantcall.calls_max_body are verified but not parsed.  No locks.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "act.h"
#include "args.h"
#include "calls.h"
#include "context.h"
#include "delivery.h"
#include "errors.h"
#include "guard.h"
#include "node.h"
#include "phone.h"
#include "rows.h"
#include "signature.h"
#include "telephony.h"
#include "webhook.h"

#define PROVIDER "retell"

static TcStatement insert_binding = {
	.sql = "INSERT INTO tenantcall.call_bindings (provider, provider_call_id, company_id) "
		   "VALUES ('retell', $1, $2) ON CONFLICT (provider, provider_call_id) DO NOTHING",
	.nparams = 2,
	.types = {TEXTOID, INT8OID},
};

static const TcColumn binding_list[] = {{"provider", TEXTOID},
										{"provider_call_id", TEXTOID},
										{"company_id", INT8OID}};
static const TcColumns binding_columns = {.list = binding_list,
										  .count = 3,
										  .keys = 2,
										  .written = 3,
										  .inserts_only = true};

/* What a key is tried against. */
typedef struct Signed
{
	const TcDelivery *delivery;
	const TcRetellSignature *signature;
} Signed;

/* Does the secret fit? */
static bool
secret_fits(const char *secret, size_t len, const void *arg)
{
	const Signed *what = arg;

	return tc_retell_verify(secret, len, what->delivery->body, what->delivery->len,
							what->signature);
}

/* What taking a body apart needs. */
typedef struct ParseJob
{
	TcDelivery *delivery;
	TcRetellParser parser;
} ParseJob;

/* Takes the body apart; under tc_guard(). */
static void
run_parser(void *arg)
{
	ParseJob *job = arg;
	TcDelivery *delivery = job->delivery;

	delivery->unusable = job->parser(delivery->body, delivery->len, &delivery->message);
}

/* Takes the body apart, recording why it could not be. */
void
tc_delivery_parse(TcDelivery *delivery, TcRetellParser parser)
{
	ParseJob job = {delivery, parser};
	TcFault fault;

	if (delivery->len > (size_t) tc_calls_max_body * 1024)
		delivery->unusable = "body_too_large";
	else if (!tc_guard(run_parser, &job, &fault))
	{
		delivery->unusable =
			fault.sqlerrcode == ERRCODE_CHARACTER_NOT_IN_REPERTOIRE	  ? "invalid_utf8"
			: fault.sqlerrcode == ERRCODE_INVALID_TEXT_REPRESENTATION ? "invalid_json"
																	  : "invalid_value";
		delivery->detail = fault.message;
		memset(&delivery->message, 0, sizeof(delivery->message));
	}
}

/* Tries the keys of the companies that the unverified body speaks of. */
static bool
verify_by_company(TcDelivery *delivery, const Signed *what)
{
	TcPlacement placement;

	tc_delivery_place(delivery, TC_SINCE_ASSIGNMENT, &placement);
	if (placement.place.company_id == 0 ||
		!tc_webhook_verify(PROVIDER, placement.place.company_id, secret_fits, what))
		return false;
	delivery->verified_for = placement.place.company_id;
	return true;
}

/* Finds out whether the body is authentic, and takes it apart. */
static void
verify_delivery(TcDelivery *delivery, const char *header, TcRetellParser parser)
{
	TcRetellSignature signature;
	Signed what = {delivery, &signature};
	int64 received_ms = (delivery->received_at +
						 (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY) /
						1000;

	if (header == NULL || header[0] == '\0')
		delivery->rejected = "no_signature";
	else if (!tc_retell_signature_parse(header, strlen(header), &signature))
		delivery->rejected = "malformed_signature";
	else if (!tc_retell_fresh(&signature, received_ms))
		delivery->rejected = "stale_signature";
	if (delivery->rejected != NULL)
		return;
	if (tc_webhook_verify(PROVIDER, 0, secret_fits, &what))
		tc_delivery_parse(delivery, parser);
	else
	{
		tc_delivery_parse(delivery, parser);
		if (!verify_by_company(delivery, &what))
			delivery->rejected = tc_webhook_has_keys(PROVIDER, 0) ? "forged" : "no_key_fits";
	}
}

/* Fills the delivery from SQL arguments. */
void
tc_delivery_receive(FunctionCallInfo fcinfo, int received_arg, TcRetellParser parser,
					TcDelivery *delivery)
{
	char *header = PG_ARGISNULL(1) ? NULL : TextDatumGetCString(PG_GETARG_DATUM(1));

	(void) tc_telephony_required();
	if (PG_ARGISNULL(received_arg))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("argument \"received_at\" must not be NULL"),
						errhint("Pass the time at which the body was received.")));
	delivery->received_at = PG_GETARG_TIMESTAMPTZ(received_arg);
	if (TIMESTAMP_NOT_FINITE(delivery->received_at))
		ereport(ERROR, (errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
						errmsg("argument \"received_at\" must be finite")));
	if (PG_ARGISNULL(0))
		delivery->rejected = "no_body";
	else
	{
		/* text and bytea are laid out alike */
		struct varlena *body = PG_DETOAST_DATUM_PACKED(PG_GETARG_DATUM(0));

		delivery->body = VARDATA_ANY(body);
		delivery->len = VARSIZE_ANY_EXHDR(body);
		verify_delivery(delivery, header, parser);
	}
}

/* Takes the company of a binding. */
static bool
visit_binding(HeapTuple tuple, TupleDesc desc, void *arg)
{
	*(int64 *) arg = tc_row_int8(tuple, desc, "company_id");
	return false;
}

/* The company entered, if it has the call: bindings stay behind when its shards move. */
static int64
find_by_call(const TcMatch by_id[2])
{
	const TcContext *entered = tc_context_current();
	TcMatch matches[3] = {{"company_id", INT8OID, (Datum) 0}, by_id[0], by_id[1]};
	int64 company_id = 0;
	Oid calls;

	if (!tc_node_distributed() || entered == NULL || entered->company_id == 0)
		return 0;
	matches[0].value = Int64GetDatum(entered->company_id);
	calls = tc_telephony_table("calls");
	if (OidIsValid(calls))
		tc_read_rows(calls, matches, 3, visit_binding, &company_id);
	return company_id;
}

/* The company that a call is bound to; 0: none yet. */
int64
tc_binding_find(const char *call_id)
{
	int64 company_id = 0;
	TcMatch matches[2] = {{"provider", TEXTOID, CStringGetTextDatum(PROVIDER)},
						  {"provider_call_id", TEXTOID, CStringGetTextDatum(call_id)}};

	tc_read_rows(tc_telephony_required()->call_bindings, matches, 2, visit_binding, &company_id);
	if (company_id == 0 && unlikely(tc_node_citus))
		company_id = find_by_call(matches);
	return company_id;
}

/* Binds a call to a company; the company that it is bound to now. */
int64
tc_binding_make(const char *call_id, int64 company_id)
{
	TcRow row = {.values = {CStringGetTextDatum(PROVIDER), CStringGetTextDatum(call_id),
							Int64GetDatum(company_id)}};
	TcDirect *bindings = NULL;
	TcAct act;
	TcParams params = {0};
	uint64 rows;

	if (tc_rows_repeatable)
		bindings = tc_direct_open(tc_telephony_required()->call_bindings, &binding_columns, &row);
	if (bindings != NULL)
	{
		/* there was none when the call was placed; should there be one now, this is repeated */
		tc_direct_insert(bindings, &row);
		tc_direct_close(bindings);
		return company_id;
	}
	tc_act_begin(&act, TC_AS_SYSTEM, NULL);
	tc_param_text(&params, call_id);
	tc_param_int8(&params, company_id);
	rows = tc_execute(&insert_binding, &params);
	tc_act_end(&act);
	return rows > 0 ? company_id : tc_binding_find(call_id);
}

/* When the call began, as far as we know. */
static TimestampTz
time_of_call(const TcDelivery *delivery)
{
	TimestampTz started_at = delivery->message.facts.started_at;

	return started_at != 0 ? started_at : delivery->received_at;
}

/* To whom the company's number of the call belonged at the start of the call. */
static void
place_by_number(const TcDelivery *delivery, TimestampTz since, TcPlacement *placement)
{
	const TcCallFacts *facts = &delivery->message.facts;
	bool outbound = facts->direction != NULL && strcmp(facts->direction, "outbound") == 0;
	const char *number = outbound ? facts->from_number : facts->to_number;
	TimestampTz at = time_of_call(delivery);
	int64 phone;

	if (number == NULL)
	{
		placement->reason = "no_number";
		return;
	}
	if (!tc_phone_parse(number, strlen(number), &phone))
	{
		placement->reason = "not_a_number";
		return;
	}
	placement->number = number;
	placement->source = outbound ? "from_number" : "to_number";
	placement->found = tc_directory_number_at(phone, at, &placement->place);
	if (!placement->found && at >= since)
		placement->found = tc_directory_number(phone, &placement->place);
	if (!placement->found)
		placement->reason = "number_not_assigned";
}

/* To whom the agent belongs, if it did so at the start of the call. */
static void
place_by_agent(const TcDelivery *delivery, TimestampTz since, TcPlacement *placement)
{
	const char *told = delivery->message.facts.agent;
	const char *agent = told != NULL ? told : delivery->agent;
	TimestampTz at = time_of_call(delivery);
	TimestampTz assigned_at;

	placement->source = "agent";
	placement->found = agent != NULL &&
					   tc_directory_agent(agent, &placement->place, &assigned_at) &&
					   (at >= assigned_at || at >= since);
	if (placement->found)
		return;
	memset(&placement->place, 0, sizeof(placement->place));
	placement->reason = agent == NULL ? "no_agent" : "agent_not_assigned";
}

/* What the message itself says, whatever the call is bound to. */
static void
place_by_content(const TcDelivery *delivery, TimestampTz since, TcPlacement *placement)
{
	const TcRetellMessage *message = &delivery->message;
	bool numberless = message->facts.from_number == NULL && message->facts.to_number == NULL;

	if (!message->web && !numberless)
		place_by_number(delivery, since, placement);
	else
		place_by_agent(delivery, since, placement);
}

/* Resolves the tenant. */
void
tc_delivery_place(const TcDelivery *delivery, TimestampTz since, TcPlacement *placement)
{
	const char *call_id =
		delivery->message.call_id != NULL ? delivery->message.call_id : delivery->call_id;
	int64 bound = call_id == NULL ? 0 : tc_binding_find(call_id);
	TcCompany company;

	memset(placement, 0, sizeof(*placement));
	place_by_content(delivery, since, placement);
	if (bound != 0)
	{
		if (placement->found && placement->place.company_id != bound)
		{
			placement->conflict = true;
			placement->reason = "names_another_tenant";
		}
		if (!placement->found || placement->conflict)
			placement->place = (TcPlace){.company_id = bound};
		placement->found = true;
		placement->source = "binding";
	}
	if (!placement->found || !tc_directory_company(placement->place.company_id, &company))
	{
		placement->found = false;
		memset(&placement->place, 0, sizeof(placement->place));
		return;
	}
	placement->suspended = company.suspended;
	if (!placement->conflict)
		placement->reason = NULL;
	if (delivery->verified_for != 0 && delivery->verified_for != placement->place.company_id)
	{
		placement->conflict = true;
		placement->reason = "key_of_another_company";
	}
}

/* Has the delivery taken in where its company is at home; false if that is here, or nowhere. */
bool
tc_delivery_forward(FunctionCallInfo fcinfo, const TcDelivery *delivery, bool bind, Datum *result)
{
	const char *call_id = delivery->message.call_id;
	TcPlacement placement;

	if (likely(!tc_node_distributed()))
		return false;
	tc_node_require_front();
	if (!tc_node_is_coordinator() || delivery->rejected != NULL || delivery->unusable != NULL)
		return false;
	tc_delivery_place(delivery, TC_SINCE_ASSIGNMENT, &placement);
	if (!placement.found)
		return false;
	if (bind && strcmp(placement.source, "binding") != 0 && !placement.conflict)
		placement.place.company_id = tc_binding_make(call_id, placement.place.company_id);
	else if (strcmp(placement.source, "binding") != 0)
		call_id = NULL;
	return tc_node_forward(fcinfo, placement.place.company_id, call_id, result);
}

/* Notes on the company's node what the coordinator has bound. */
void
tc_delivery_bind(const char *call_id, int64 company_id)
{
	if (tc_binding_make(call_id, company_id) != company_id)
		ereport(ERROR, (errcode(ERRCODE_TC_WRONG_TENANT),
						errmsg("the call is bound to another company on this node")));
}
