/*
 * inbound_request.c
 *		The inbound webhook's requests, and which call each became.
 *
 *		request --answer, with a token in its metadata--> platform --metadata of the call--> event
 *		   \------- tenant, numbers, time (where no token came back) ------------------------/
 *
 * The inbound webhook has no call id.  The answer hands out a token, which comes back on the call.
 *
 * The token is a name of the request that nobody can guess, and not a statement that somebody
 * signed: it is looked up among the requests of the company to which the call belongs by its
 * number, and says nothing by itself.  So a token of another company, true or forged, is unknown
 * here; there is no key whose loss would let tokens be forged, or whose rotation would end them;
 * and a copy of the database elsewhere, or one restored to an earlier time, honours exactly the
 * tokens of the requests that it holds.  It is SHA-256 over signature header and body: the
 * signature is an HMAC under a key that only we and the platform have, so the same delivery gets
 * the same token again without any being stored.  The table has the hash of the token: neither a
 * dump nor an application that reads its own company's rows tells one that is still open.
 *
 * A token decides nothing but the match.  Company and branch are those of the number; a token is
 * honoured only on an inbound call between the numbers of its request, begun within an hour of it,
 * and once: on another call it is a conflict, recorded in the books of that call's company.
 *
 * A call that brings no token is matched to the request nearest in time between the same numbers
 * that no other call has, if it is within tenantcall.calls_match_window.  That is a guess: a call
 * that brings the request's token takes it over.  A request has at most one call and a call at
 * most one request (unique constraints).
 *
 * Locks: rows of inbound_requests, of which those that others hold are passed over.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "act.h"
#include "inbound_request.h"
#include "telephony.h"

/* Keeps tokens apart from other hashes of the same bytes. */
#define TOKEN_LABEL "tenantcall correlation v1:"

static TcStatement insert_request = {
	.sql = "INSERT INTO @.inbound_requests (company_id, correlation, outcome, answer, from_number, "
		   "to_number, received_at, decision_id) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
	.nparams = 8,
	.types = {INT8OID, TEXTOID, TEXTOID, JSONBOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, INT8OID},
};
static TcStatement lock_request = {
	.sql = "SELECT provider_call_id, matched_by, outcome = 'accepted' AND to_number = $3 "
		   "AND from_number IS NOT DISTINCT FROM $4, "
		   "$5 BETWEEN received_at - interval '5 minutes' AND received_at + interval '1 hour', "
		   "decision_id FROM @.inbound_requests "
		   "WHERE company_id = $1 AND correlation = $2 FOR UPDATE SKIP LOCKED",
	.nparams = 5,
	.types = {INT8OID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID},
};
static TcStatement free_guessed = {
	.sql = "UPDATE @.inbound_requests SET provider_call_id = NULL, matched_by = NULL "
		   "WHERE company_id = $1 AND request_id = (SELECT request_id FROM @.inbound_requests "
		   "WHERE company_id = $1 AND provider_call_id = $2 AND matched_by = 'window' "
		   "FOR UPDATE SKIP LOCKED)",
	.nparams = 2,
	.types = {INT8OID, TEXTOID},
};
static TcStatement find_match = {
	.sql = "SELECT correlation FROM @.inbound_requests "
		   "WHERE company_id = $1 AND provider_call_id = $2",
	.nparams = 2,
	.types = {INT8OID, TEXTOID},
};
static TcStatement set_match = {
	.sql = "UPDATE @.inbound_requests SET provider_call_id = $2, matched_by = 'metadata' "
		   "WHERE company_id = $1 AND correlation = $3",
	.nparams = 3,
	.types = {INT8OID, TEXTOID, TEXTOID},
};
static TcStatement match_nearest = {
	.sql = "UPDATE @.inbound_requests SET provider_call_id = $2, matched_by = 'window' "
		   "WHERE company_id = $1 AND request_id = (SELECT request_id FROM @.inbound_requests "
		   "WHERE company_id = $1 AND received_at >= $5 - $6 AND received_at <= $5 + $6 "
		   "AND outcome = 'accepted' AND provider_call_id IS NULL AND to_number = $3 "
		   "AND from_number IS NOT DISTINCT FROM $4 "
		   "ORDER BY abs(extract(epoch FROM received_at - $5)), request_id LIMIT 1 "
		   "FOR UPDATE SKIP LOCKED) RETURNING correlation, decision_id",
	.nparams = 6,
	.types = {INT8OID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, INTERVALOID},
};
static TcStatement insert_decision = {
	.sql = "INSERT INTO @.tenant_decisions (company_id, branch_id, phone_number_id, kind, outcome, "
		   "source, reason, provider_call_id, from_number, to_number, agent, by_role, "
		   "inbound_decision_id) SELECT $1, $2, $3, 'match', $4, $5, $6, $7, $8, $9, $10, $11, $12 "
		   "WHERE $4 <> 'conflict' OR NOT EXISTS (SELECT FROM @.tenant_decisions "
		   "WHERE company_id = $1 AND provider_call_id = $7 AND kind = 'match' AND reason = $6)",
	.nparams = 12,
	.types = {INT8OID, INT8OID, INT8OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID,
			  TEXTOID, TEXTOID, INT8OID},
};

/* --- requests ------------------------------------------------------------------------------ */

/* The hash under which a token is stored. */
static void
hash_token(const char *token, char correlation[2 * TC_HMAC_LEN + 1])
{
	uint8 digest[TC_HMAC_LEN];

	tc_sha256(TC_BYTES(token, strlen(token)), TC_NO_BYTES, digest);
	tc_hex_encode(digest, sizeof(digest), correlation);
	correlation[2 * TC_HMAC_LEN] = '\0';
}

/* What identifies the request. */
void
tc_inbound_identify(const TcDelivery *delivery, const char *signature, TcInboundId *id)
{
	char *secret = psprintf("%s%s", TOKEN_LABEL, signature);
	uint8 digest[TC_HMAC_LEN];

	tc_sha256(TC_BYTES(secret, strlen(secret)), TC_BYTES(delivery->body, delivery->len), digest);
	memcpy(id->token, TC_TOKEN_PREFIX, strlen(TC_TOKEN_PREFIX));
	tc_hex_encode(digest, 16, id->token + strlen(TC_TOKEN_PREFIX));
	id->token[TC_TOKEN_LEN] = '\0';
	hash_token(id->token, id->correlation);
	pfree(secret);
}

/* Takes a request's row. */
static bool
visit_request(HeapTuple tuple, TupleDesc desc, void *arg)
{
	TcInboundRequest *request = arg;
	Datum answer;

	request->outcome = tc_row_text(tuple, desc, "outcome");
	if (tc_row_datum(tuple, desc, "answer", &answer))
		request->answer = PointerGetDatum(PG_DETOAST_DATUM_COPY(answer));
	return false;
}

/* The company's request of that correlation, as of now. */
static bool
find_request(int64 company_id, const char *correlation, TcInboundRequest *request)
{
	TcMatch matches[2] = {{"company_id", INT8OID, Int64GetDatum(company_id)},
						  {"correlation", TEXTOID, CStringGetTextDatum(correlation)}};

	memset(request, 0, sizeof(*request));
	tc_read_rows(tc_telephony_table("inbound_requests"), matches, 2, visit_request, request);
	return request->outcome != NULL;
}

/* The company's request of that id. */
bool
tc_inbound_find(int64 company_id, const TcInboundId *id, TcInboundRequest *request)
{
	return find_request(company_id, id->correlation, request);
}

/* Keeps what was answered. */
void
tc_inbound_keep(const TcDelivery *delivery, const TcPlacement *placement, const TcInboundId *id,
				const TcInboundRequest *request, int64 decision_id)
{
	TcParams params = {0};

	tc_param_int8(&params, placement->place.company_id);
	tc_param_text(&params, id->correlation);
	tc_param_text(&params, request->outcome);
	tc_param_datum(&params, request->answer, request->answer == (Datum) 0);
	tc_param_text(&params, delivery->message.facts.from_number);
	tc_param_text(&params, placement->number);
	tc_param_datum(&params, TimestampTzGetDatum(delivery->received_at), false);
	tc_param_int8(&params, decision_id);
	(void) tc_execute(&insert_request, &params);
}

/* --- matching ------------------------------------------------------------------------------ */

/* What is matched: the call of an event. */
typedef struct Matching
{
	const TcDelivery *delivery;
	const TcPlacement *placement;
	bool new_call;
	const char *source; /* metadata, window */
	int64 decision_id;	/* on the request that was matched */
} Matching;

/* Records a match, or (once a call) why the token is not honoured. */
static void
record(const Matching *matching, const char *conflict)
{
	const TcRetellMessage *message = &matching->delivery->message;
	const TcPlace *place = &matching->placement->place;
	TcParams params = {0};

	tc_param_int8(&params, place->company_id);
	tc_param_int8(&params, place->branch_id);
	tc_param_int8(&params, place->phone_number_id);
	tc_param_text(&params, conflict == NULL ? "matched" : "conflict");
	tc_param_text(&params, matching->source);
	tc_param_text(&params, conflict);
	tc_param_text(&params, message->call_id);
	tc_param_text(&params, message->facts.from_number);
	tc_param_text(&params, message->facts.to_number);
	tc_param_text(&params, message->facts.agent);
	tc_param_text(&params, GetUserNameFromId(GetOuterUserId(), false));
	tc_param_int8(&params, matching->decision_id);
	(void) tc_execute(&insert_decision, &params);
}

/* Company and call: the first parameters of most statements here. */
static TcParams
call_params(const Matching *matching)
{
	TcParams params = {0};

	tc_param_int8(&params, matching->placement->place.company_id);
	tc_param_text(&params, matching->delivery->message.call_id);
	return params;
}

/* Appends the numbers and the start of the call; no numbers unless it is an inbound call. */
static void
param_circumstances(TcParams *params, const Matching *matching)
{
	const TcRetellMessage *message = &matching->delivery->message;
	const TcCallFacts *facts = &message->facts;
	bool inbound =
		!message->web && facts->direction != NULL && strcmp(facts->direction, "inbound") == 0;
	TimestampTz start =
		facts->started_at != 0 ? facts->started_at : matching->delivery->received_at;

	tc_param_text(params, inbound ? matching->placement->number : NULL);
	tc_param_text(params, facts->from_number);
	tc_param_datum(params, TimestampTzGetDatum(start), false);
}

/* Frees the call from a request that was guessed; false if it has one that was not. */
static bool
free_call(const Matching *matching)
{
	TcParams params = call_params(matching);

	if (matching->new_call || tc_execute(&free_guessed, &params) > 0)
		return true;
	return tc_execute(&find_match, &params) == 0;
}

/* Matches by the request's token; NULL, or why it is not honoured.  *done: it was so before. */
static const char *
match_by_token(Matching *matching, const char *correlation, bool *done)
{
	const char *call_id = matching->delivery->message.call_id;
	TcParams params = {0};
	TcInboundRequest request;
	char *matched_call;
	bool guessed;
	bool isnull;

	*done = false;
	tc_param_int8(&params, matching->placement->place.company_id);
	tc_param_text(&params, correlation);
	param_circumstances(&params, matching);
	if (tc_execute(&lock_request, &params) == 0)
		return find_request(matching->placement->place.company_id, correlation, &request)
				   ? "token_in_use"
				   : "unknown_token";
	matched_call = tc_result_text(1);
	guessed = matched_call != NULL && strcmp(tc_result_text(2), "window") == 0;
	if (matched_call != NULL && strcmp(matched_call, call_id) == 0 && !guessed)
	{
		*done = true;
		return NULL;
	}
	if (!DatumGetBool(tc_result_datum(3, &isnull)) || isnull)
		return "token_of_another_call";
	if (!DatumGetBool(tc_result_datum(4, &isnull)))
		return "token_expired";
	matching->decision_id = tc_result_int8(5);
	if (matched_call != NULL && !guessed)
		return "token_replayed";
	if (!free_call(matching))
		return "token_contradicts";
	params = call_params(matching);
	tc_param_text(&params, correlation);
	(void) tc_execute(&set_match, &params);
	return NULL;
}

/* Notes a request that was accepted and has no call. */
static bool
visit_waiting(HeapTuple tuple, TupleDesc desc, void *arg)
{
	Datum call_id;

	*(bool *) arg = !tc_row_datum(tuple, desc, "provider_call_id", &call_id) &&
					strcmp(tc_row_text(tuple, desc, "outcome"), "accepted") == 0;
	return !*(bool *) arg;
}

/* Is there a request that no call has, within so many µs of the moment? */
static bool
any_waiting(int64 company_id, TimestampTz at, int64 window)
{
	TcMatch matches[3] = {{"company_id", INT8OID, Int64GetDatum(company_id)},
						  {"received_at", TIMESTAMPTZOID, TimestampTzGetDatum(at - window)},
						  {"received_at", TIMESTAMPTZOID, TimestampTzGetDatum(at + window)}};
	bool waiting = false;

	tc_read_rows(get_relname_relid("inbound_requests", tc_telephony_required()->schema), matches, 3,
				 visit_waiting, &waiting);
	return waiting;
}

/* Matches by numbers and time; the request's correlation, or NULL. */
static const char *
match_by_window(Matching *matching)
{
	TcParams params = call_params(matching);
	Interval *window = palloc0(sizeof(Interval));

	if (tc_calls_match_window == 0)
		return NULL;
	window->time = tc_calls_match_window * USECS_PER_SEC;
	param_circumstances(&params, matching);
	/* where no request waits, or none is made, looking is cheaper than a statement */
	if (params.nulls[2] == 'n' || !any_waiting(matching->placement->place.company_id,
											   DatumGetTimestampTz(params.values[4]), window->time))
		return NULL;
	tc_param_datum(&params, IntervalPGetDatum(window), false);
	if (tc_execute(&match_nearest, &params) == 0)
		return NULL;
	matching->decision_id = tc_result_int8(2);
	return tc_result_text(1);
}

/* Finds out which request became the call. */
const char *
tc_inbound_match(const TcDelivery *delivery, const TcPlacement *placement, TcMergeResult *merged)
{
	const char *token = delivery->message.correlation;
	Matching matching = {delivery, placement, merged->new_call, "window", 0};
	char *correlation = palloc(2 * TC_HMAC_LEN + 1);
	const char *found;
	const char *conflict;
	bool done;

	if (token == NULL)
	{
		found = merged->new_call ? match_by_window(&matching) : NULL;
		if (found != NULL)
			record(&matching, NULL);
		return found;
	}
	matching.source = "metadata";
	hash_token(token, correlation);
	conflict = match_by_token(&matching, correlation, &done);
	if (done)
		return NULL;
	record(&matching, conflict);
	if (conflict == NULL)
		return correlation;
	if (merged->reason == NULL)
		merged->reason = conflict;
	return NULL;
}
