/*
 * forget.c
 *		Erasing what is known of one caller of one company.
 *
 *		number --> lock the calls --> calls, events, decisions, function calls,
 *		                              appointments, customers
 *		                          --> tenantcall.quarantine: bodies of these calls, and of others
 *		                              that are the company's, or nobody's, and name the number
 *
 * What stays is what counts and moves: that there was a call, when, how long, how it ended, what
 * it cost.  Of an event's body stays what call_core.c needs to merge late events of the call.
 *
 * The calls are marked (TC_SEEN_FORGOTTEN): of what is delivered for them later, the same is left
 * out before anything is stored.
 *
 * On a cluster: on the coordinator, where most of the quarantine is.  It has the calls named, and
 * all else done, by the company's node in the same transaction.
 *
 * Locks: the rows of the calls first, as whoever merges an event does; so no event gets between
 * the look and the erasure.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "nodes/makefuncs.h"
#include "parser/parse_func.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"

#include "act.h"
#include "args.h"
#include "call_core.h"
#include "companies.h"
#include "context.h"
#include "directory.h"
#include "errors.h"
#include "forget.h"
#include "node.h"
#include "node_ticket.h"
#include "phone.h"
#include "telephony.h"
#include "trail.h"

PG_FUNCTION_INFO_V1(tc_forget_caller);
PG_FUNCTION_INFO_V1(tc_caller_calls);

#define IS_NUMBER(column)                                                                          \
	"(SELECT n.number::text FROM tenantcall.caller_number(" column ") AS n) = $2"

/* Whose numbers the company's own are, now or once. */
static TcStatement find_own_number = {
	.sql = "SELECT 1 FROM @.phone_numbers WHERE company_id = $1 AND number = $2",
	.nparams = 2,
	.types = {INT8OID, TEXTOID},
};
static TcStatement lock_calls = {
	.sql =
		"SELECT array_agg(l.call_id), array_agg(l.provider_call_id) FROM ("
		"SELECT c.call_id, c.provider_call_id FROM @.calls AS c WHERE c.company_id = $1 AND (" IS_NUMBER(
			"c.from_number") " OR " IS_NUMBER("c.to_number") " OR c.customer_id IN ("
															 "SELECT k.customer_id FROM @.customers AS k WHERE k.company_id = $1 AND k.phone = $2)) "
															 "ORDER BY c.call_id FOR UPDATE) AS l",
	.nparams = 2,
	.types = {INT8OID, TEXTOID},
};

/* The body of an event without content. */
#define FORGOTTEN_BODY(event, body)                                                                \
	"jsonb_strip_nulls(jsonb_build_object('event', " event ", 'forgotten', true, 'call', ("        \
	"SELECT jsonb_object_agg(m.key, CASE m.key WHEN 'call_cost' THEN CASE jsonb_typeof(m.value) "  \
	"WHEN 'object' THEN jsonb_build_object('combined_cost', CASE jsonb_typeof(m.value -> "         \
	"'combined_cost') WHEN 'number' THEN m.value -> 'combined_cost' END) END ELSE m.value END) "   \
	"FROM jsonb_each(" body "::jsonb -> 'call') AS m WHERE m.key IN ('call_id', 'call_type', "     \
	"'call_status', 'direction', 'agent_id', 'start_timestamp', 'end_timestamp', 'duration_ms', "  \
	"'disconnection_reason', 'call_cost') AND (m.key = 'call_cost' "                               \
	"OR jsonb_typeof(m.value) IN ('string', 'number')))))::text"

static TcStatement strip_body = {
	.sql = "SELECT " FORGOTTEN_BODY("$1", "$2"),
	.nparams = 2,
	.types = {TEXTOID, TEXTOID},
};
static TcStatement find_forgotten = {
	.sql = "SELECT 1 FROM @.calls WHERE company_id = $1 AND provider = 'retell' "
		   "AND provider_call_id = $2 AND events_seen & 32 <> 0",
	.nparams = 2,
	.types = {INT8OID, TEXTOID},
};

StaticAssertDecl(TC_SEEN_FORGOTTEN == 32, "statements name the bit");

/* What is erased where; the counts are the result.  $3 and $4 are the calls' two kinds of ids. */
static TcStatement erasures[] = {
	{.sql =
		 "UPDATE @.calls AS c SET from_number = CASE WHEN " IS_NUMBER("c.from_number") " THEN NULL ELSE c.from_number END, to_number = CASE WHEN " IS_NUMBER(
			 "c.to_number") " THEN NULL ELSE c.to_number END, customer_id = NULL, sentiment = NULL, "
							"summary = NULL, transcript = NULL, recording_url = NULL, "
							"events_seen = c.events_seen | 32::smallint "
							"WHERE c.company_id = $1 AND c.call_id = ANY ($3)"},
	{.sql = "UPDATE @.call_events AS e SET body = " FORGOTTEN_BODY(
		 "e.event", "e.body") " WHERE e.company_id = $1 AND e.call_id = ANY ($3)"},
	{.sql = "UPDATE @.function_calls AS f SET args = NULL, answer = NULL WHERE f.company_id = $1 "
			"AND (f.call_id = ANY ($3) OR (f.call_id IS NULL AND EXISTS (SELECT FROM unnest($4) "
			"AS p (id) WHERE starts_with(f.idempotency_key, p.id || '/'))))"},
	{.sql =
		 "UPDATE @.tenant_decisions AS d SET from_number = CASE WHEN " IS_NUMBER("d.from_number") " THEN NULL ELSE d.from_number END, to_number = CASE WHEN " IS_NUMBER(
			 "d.to_number") " THEN NULL ELSE d.to_number END WHERE d.company_id = $1 "
							"AND (" IS_NUMBER("d.from_number") " OR " IS_NUMBER("d.to_number") ")"},
	/* What waits to be sent needs its content until it was sent; then it is erased anyway. */
	{.sql = "WITH a AS (SELECT p.appointment_id FROM @.appointments AS p WHERE p.company_id = $1 "
			"AND (p.call_id = ANY ($3) OR p.customer ->> 'phone' = $2 OR p.customer_id IN ("
			"SELECT k.customer_id FROM @.customers AS k WHERE k.company_id = $1 "
			"AND k.phone = $2))), e AS (UPDATE @.calendar_events AS e SET body = NULL FROM a "
			"WHERE e.company_id = $1 AND e.appointment_id = a.appointment_id), "
			"o AS (UPDATE @.outbox AS o SET request = NULL FROM a WHERE o.company_id = $1 "
			"AND o.appointment_id = a.appointment_id AND o.state = 'dead') "
			"UPDATE @.appointments AS p SET customer = NULL, customer_id = NULL, time_zone = NULL, "
			"reason = NULL FROM a WHERE p.company_id = $1 AND p.appointment_id = a.appointment_id"},
	{.sql = "UPDATE @.customers SET name = NULL, phone = NULL, email = NULL "
			"WHERE company_id = $1 AND phone = $2"},
};
/* Requests are kept for a day only, to be matched to their calls; so they are not counted. */
static TcStatement erase_requests = {
	.sql = "UPDATE @.inbound_requests AS r SET from_number = NULL, answer = NULL "
		   "WHERE r.company_id = $1 AND " IS_NUMBER("r.from_number"),
	.nparams = 2,
	.types = {INT8OID, TEXTOID},
};

/*
 * Bodies of the calls ($2); and those that name the number ($3, its digits), if the company's own
 * key verified them, or one of its numbers ($4) was called, or ($5) if they are nobody's.  Bytes
 * that are no ASCII are left out of the comparison, since a body need not be valid in any encoding.
 */
#define NAMES_NUMBER                                                                               \
	"regexp_replace(encode(q.body, 'escape'), '\\\\[0-7]{3}', '?', 'g') "                          \
	"~ ('(^|[^0-9])' || $3 || '([^0-9]|$)')"
static TcStatement delete_bodies = {
	.sql = "DELETE FROM tenantcall.quarantine AS q WHERE CASE "
		   "WHEN EXISTS (SELECT FROM tenantcall.call_bindings AS b WHERE b.provider = q.provider "
		   "AND b.provider_call_id = q.provider_call_id AND b.company_id <> $1) THEN false "
		   "WHEN q.provider_call_id = ANY ($2) THEN true "
		   "WHEN q.verified_for = $1 OR (q.verified_for IS NULL AND (q.number = ANY ($4) OR $5)) "
		   "THEN " NAMES_NUMBER " ELSE false END",
	.nparams = 5,
	.types = {INT8OID, TEXTARRAYOID, TEXTOID, TEXTARRAYOID, BOOLOID},
};
static TcStatement own_numbers = {
	.sql = "SELECT array_agg(DISTINCT number) FROM @.phone_numbers WHERE company_id = $1",
	.nparams = 1,
	.types = {INT8OID},
};

#define N_COUNTS (lengthof(erasures) + 1)

/* Refuses a number of the company itself: every call of it would be taken for the caller's. */
static void
refuse_own_number(const TcContext *company, const char *number)
{
	TcParams params = {0};

	tc_param_int8(&params, company->company_id);
	tc_param_text(&params, number);
	if (tc_execute(&find_own_number, &params) > 0)
		ereport(ERROR, (errcode(ERRCODE_TC_CONFLICT),
						errmsg("the number %s is one of the company itself", number),
						errdetail("Company " INT64_FORMAT " has it, or had it.",
								  (int64) company->company_id),
						errhint("Pass the number of the caller.")));
}

/* What is found in the company's tables, for the search in others. */
typedef struct Found
{
	Datum calls;	   /* the provider's ids, text[] */
	Datum own_numbers; /* of the company, now or once, text[] */
} Found;

/* A result's array, copied; an empty one if there were no rows. */
static Datum
array_result(int column, Oid element, MemoryContext memory)
{
	bool isnull;
	Datum value = tc_result_datum(column, &isnull);
	MemoryContext before = MemoryContextSwitchTo(memory);

	value = isnull ? PointerGetDatum(construct_empty_array(element)) : datumCopy(value, false, -1);
	MemoryContextSwitchTo(before);
	return value;
}

/* Finds the company's own numbers. */
static void
find_own_numbers(const TcContext *company, Found *found, MemoryContext memory)
{
	TcParams params = {0};

	tc_param_int8(&params, company->company_id);
	tc_execute(&own_numbers, &params);
	found->own_numbers = array_result(1, TEXTOID, memory);
}

/* Erases in the company's tables; counts[] takes the rows of each; *found what is still to erase.
 */
static void
erase(const TcContext *company, const char *number, Found *found, int64 counts[N_COUNTS])
{
	static const Oid types[] = {INT8OID, TEXTOID, INT8ARRAYOID, TEXTARRAYOID};
	MemoryContext caller = CurrentMemoryContext;
	TcParams params = {0};
	Datum call_ids;
	TcAct act;

	tc_act_begin(&act, TC_AS_OWNER, company);
	refuse_own_number(company, number);
	find_own_numbers(company, found, caller);
	tc_param_int8(&params, company->company_id);
	tc_param_text(&params, number);
	tc_execute(&erase_requests, &params);
	tc_execute(&lock_calls, &params);
	call_ids = array_result(1, INT8OID, caller);
	found->calls = array_result(2, TEXTOID, caller);
	tc_param_datum(&params, call_ids, false);
	tc_param_datum(&params, found->calls, false);
	tc_trail_open();
	for (size_t i = 0; i < lengthof(erasures); i++)
	{
		erasures[i].nparams = lengthof(types);
		memcpy(erasures[i].types, types, sizeof(types));
		counts[i] = (int64) tc_execute(&erasures[i], &params);
	}
	tc_trail_close();
	tc_act_end(&act);
}

/* Deletes bodies that are still in quarantine, replayed or not; nobody's if "strays" says so. */
static int64
erase_bodies(const TcContext *company, const char *number, const Found *found, bool strays)
{
	TcParams params = {0};
	uint64 count;
	TcAct act;

	tc_act_begin(&act, TC_AS_SYSTEM, NULL);
	tc_param_int8(&params, company->company_id);
	tc_param_datum(&params, found->calls, false);
	tc_param_text(&params, number + 1); /* without the plus sign */
	tc_param_datum(&params, found->own_numbers, false);
	tc_param_datum(&params, BoolGetDatum(strays), false);
	count = tc_execute(&delete_bodies, &params);
	tc_act_end(&act);
	return (int64) count;
}

/* The company of the argument, else the entered one. */
static TcContext
company_argument(FunctionCallInfo fcinfo)
{
	const TcContext *entered = tc_context_current();

	if (!PG_ARGISNULL(1))
		return tc_company_required(tc_arg_id(fcinfo, 1, "company_id"));
	if (entered == NULL)
		ereport(ERROR, (errcode(ERRCODE_TC_WRONG_TENANT), errmsg("no tenant has been entered"),
						errhint("Enter a company first, in the same transaction, or pass its "
								"company_id.")));
	return *entered;
}

/* The caller's number in E.164, of the argument as it is dialled where the company is. */
static char *
number_argument(FunctionCallInfo fcinfo, const TcContext *context)
{
	char *number = tc_arg_text(fcinfo, 0, "number");
	TcCompany company;

	if (!tc_directory_company(context->company_id, &company))
		elog(ERROR, "company " INT64_FORMAT " has vanished", (int64) context->company_id);
	return tc_phone_format(
		tc_phone_require(number, company.phone_region[0] == '\0' ? NULL : company.phone_region));
}

/* caller_calls(number, company_id) -> text[]: the provider's ids of a caller's calls, locked */
Datum
tc_caller_calls(PG_FUNCTION_ARGS)
{
	TcContext context = company_argument(fcinfo);
	MemoryContext caller = CurrentMemoryContext;
	TcParams params = {0};
	Datum result;
	TcAct act;

	if (tc_node_elsewhere(fcinfo, context.company_id, &result))
		return result;
	tc_param_int8(&params, context.company_id);
	tc_param_text(&params, number_argument(fcinfo, &context));
	tc_act_begin(&act, TC_AS_OWNER, &context);
	tc_execute(&lock_calls, &params);
	result = array_result(2, TEXTOID, caller);
	tc_act_end(&act);
	return result;
}

/* Has the caller forgotten on the company's node; false if that is here. */
static bool
forget_there(FunctionCallInfo fcinfo, const TcContext *company, Found *found,
			 int64 counts[N_COUNTS])
{
	MemoryContext caller = CurrentMemoryContext;
	Oid types[] = {TEXTOID, INT8OID};
	List *name = list_make2(makeString("tenantcall"), makeString("caller_calls"));
	Datum result;
	TcAct act;

	if (likely(!tc_node_distributed()) || tc_node_hold(company->company_id))
		return false;
	found->calls = OidFunctionCall2(LookupFuncName(name, lengthof(types), types, false),
									PG_GETARG_DATUM(0), Int64GetDatum(company->company_id));
	if (!tc_node_forward(fcinfo, company->company_id, NULL, &result))
		elog(ERROR, "company " INT64_FORMAT " has moved", (int64) company->company_id);
	for (size_t i = 0; i < N_COUNTS; i++)
	{
		bool isnull;

		counts[i] = DatumGetInt64(
			GetAttributeByNum(DatumGetHeapTupleHeader(result), (AttrNumber) (i + 1), &isnull));
	}
	tc_act_begin(&act, TC_AS_DIRECTORY, company);
	find_own_numbers(company, found, caller);
	tc_act_end(&act);
	return true;
}

/* Raises on a node of a cluster that cannot reach all that there is of a caller. */
static void
require_front(void)
{
	if (likely(!tc_node_distributed()) || tc_node_is_coordinator() || tc_ticket_admits())
		return;
	ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					errmsg("on a cluster, callers are forgotten on the coordinator"),
					errdetail("Bodies that are in quarantine there may be the caller's."),
					errhint("Connect to the coordinator of the cluster.")));
}

/* forget_caller(number, company_id) -> one row of counts */
Datum
tc_forget_caller(PG_FUNCTION_ARGS)
{
	TcContext context = company_argument(fcinfo);
	char *number = number_argument(fcinfo, &context);
	int64 counts[N_COUNTS] = {0};
	Datum values[N_COUNTS];
	bool nulls[N_COUNTS] = {false};
	Found found;

	require_front();
	if (!forget_there(fcinfo, &context, &found, counts))
		erase(&context, number, &found, counts);
	counts[N_COUNTS - 1] += erase_bodies(&context, number, &found, tc_may_enter_any());
	for (size_t i = 0; i < N_COUNTS; i++)
		values[i] = Int64GetDatum(counts[i]);
	return tc_return_row(fcinfo, values, nulls);
}

/* What may be merged of an event of a forgotten call. */
TcDelivery
tc_forgotten_event(const TcDelivery *delivery)
{
	TcDelivery stripped = *delivery;
	TcCallFacts *facts = &stripped.message.facts;
	TcParams params = {0};

	tc_param_text(&params, delivery->message.event_name);
	tc_param_datum(&params,
				   PointerGetDatum(cstring_to_text_with_len(delivery->body, delivery->len)), false);
	tc_execute(&strip_body, &params);
	stripped.body = tc_result_text(1);
	stripped.len = strlen(stripped.body);
	facts->from_number = facts->to_number = NULL;
	facts->sentiment = facts->summary = NULL;
	facts->transcript = facts->recording_url = NULL;
	return stripped;
}

/* Was the caller of this call forgotten? */
bool
tc_call_forgotten(const TcDelivery *delivery, int64 company_id)
{
	const char *call_id =
		delivery->message.call_id != NULL ? delivery->message.call_id : delivery->call_id;
	TcContext tenant = {.company_id = company_id};
	TcParams params = {0};
	bool forgotten;
	TcAct act;

	if (call_id == NULL || company_id == 0 || !tc_directory_fill(&tenant))
		return false;
	tc_param_int8(&params, company_id);
	tc_param_text(&params, call_id);
	tc_act_begin(&act, TC_AS_OWNER, &tenant);
	forgotten = tc_execute(&find_forgotten, &params) > 0;
	tc_act_end(&act);
	return forgotten;
}
