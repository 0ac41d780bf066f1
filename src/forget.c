/*
 * forget.c
 *		Erasing what is known of one caller of one company.
 *
 *		number --> lock the calls --> calls, events, decisions, function calls, appointments,
 *customers
 *		                          --> tenantcall.quarantine: bodies that were replayed into them
 *
 * What stays is what counts and moves: that there was a call, when, how long, how it ended, what
 * it cost.  Of an event's body stays what call_core.c needs to merge late events of the call.
 *
 * Locks: the rows of the calls first, as whoever merges an event does; so no event gets between
 * the look and the erasure.  An event of such a call that is delivered later brings its content.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"

#include "act.h"
#include "args.h"
#include "companies.h"
#include "context.h"
#include "directory.h"
#include "errors.h"
#include "phone.h"
#include "telephony.h"

PG_FUNCTION_INFO_V1(tc_forget_caller);

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

/* What is erased where; the counts are the result.  $3 and $4 are the calls' two kinds of ids. */
static TcStatement erasures[] = {
	{.sql =
		 "UPDATE @.calls AS c SET from_number = CASE WHEN " IS_NUMBER("c.from_number") " THEN NULL ELSE c.from_number END, to_number = CASE WHEN " IS_NUMBER(
			 "c.to_number") " THEN NULL ELSE c.to_number END, customer_id = NULL, sentiment = NULL, "
							"summary = NULL, transcript = NULL, recording_url = NULL "
							"WHERE c.company_id = $1 AND c.call_id = ANY ($3)"},
	{.sql = "UPDATE @.call_events AS e SET body = jsonb_build_object('event', e.event, "
			"'forgotten', true, 'call', (SELECT jsonb_object_agg(m.key, m.value) "
			"FROM jsonb_each(e.body::jsonb -> 'call') AS m WHERE m.key IN ('call_id', 'call_type', "
			"'call_status', 'direction', 'agent_id', 'start_timestamp', 'end_timestamp', "
			"'duration_ms', 'disconnection_reason', 'call_cost')))::text "
			"WHERE e.company_id = $1 AND e.call_id = ANY ($3)"},
	{.sql = "UPDATE @.function_calls AS f SET args = NULL, answer = NULL WHERE f.company_id = $1 "
			"AND (f.call_id = ANY ($3) OR (f.call_id IS NULL AND EXISTS (SELECT FROM unnest($4) "
			"AS p (id) WHERE starts_with(f.idempotency_key, p.id || '/'))))"},
	{.sql = "UPDATE @.tenant_decisions AS d SET from_number = CASE WHEN " IS_NUMBER("d.from_number") " THEN NULL ELSE d.from_number END, to_number = CASE WHEN " IS_NUMBER(
		 "d.to_number") " THEN NULL ELSE d.to_number END WHERE d.company_id = $1 AND (" IS_NUMBER("d.from_number") " OR " IS_NUMBER("d.to_number") ")"},
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
static TcStatement delete_bodies = {
	.sql = "DELETE FROM tenantcall.quarantine AS q USING tenantcall.call_bindings AS b "
		   "WHERE q.provider_call_id = ANY ($2) AND b.provider = q.provider "
		   "AND b.provider_call_id = q.provider_call_id AND b.company_id = $1",
	.nparams = 2,
	.types = {INT8OID, TEXTARRAYOID},
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

/* A result's array, copied; an empty one if there were no rows. */
static Datum
array_result(int column, Oid element)
{
	bool isnull;
	Datum value = tc_result_datum(column, &isnull);

	return isnull ? PointerGetDatum(construct_empty_array(element)) : datumCopy(value, false, -1);
}

/* Erases in the company's tables; counts[] takes the rows of each, *calls the provider's ids. */
static void
erase(const TcContext *company, const char *number, Datum *calls, int64 counts[N_COUNTS])
{
	static const Oid types[] = {INT8OID, TEXTOID, INT8ARRAYOID, TEXTARRAYOID};
	MemoryContext caller = CurrentMemoryContext;
	TcParams params = {0};
	Datum call_ids;
	TcAct act;

	tc_act_begin(&act, TC_AS_OWNER, company);
	refuse_own_number(company, number);
	tc_param_int8(&params, company->company_id);
	tc_param_text(&params, number);
	tc_execute(&erase_requests, &params);
	tc_execute(&lock_calls, &params);
	MemoryContextSwitchTo(caller);
	call_ids = array_result(1, INT8OID);
	*calls = array_result(2, TEXTOID);
	tc_param_datum(&params, call_ids, false);
	tc_param_datum(&params, *calls, false);
	for (size_t i = 0; i < lengthof(erasures); i++)
	{
		erasures[i].nparams = lengthof(types);
		memcpy(erasures[i].types, types, sizeof(types));
		counts[i] = (int64) tc_execute(&erasures[i], &params);
	}
	tc_act_end(&act);
}

/* Deletes bodies of the calls that are still in quarantine, replayed or not. */
static int64
erase_bodies(const TcContext *company, Datum calls)
{
	TcParams params = {0};
	uint64 count;
	TcAct act;

	tc_act_begin(&act, TC_AS_SYSTEM, NULL);
	tc_param_int8(&params, company->company_id);
	tc_param_datum(&params, calls, false);
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

/* forget_caller(number, company_id) -> one row of counts */
Datum
tc_forget_caller(PG_FUNCTION_ARGS)
{
	char *number = tc_arg_text(fcinfo, 0, "number");
	TcContext context = company_argument(fcinfo);
	TcCompany company;
	int64 counts[N_COUNTS];
	Datum values[N_COUNTS];
	bool nulls[N_COUNTS] = {false};
	Datum calls;

	if (!tc_directory_company(context.company_id, &company))
		elog(ERROR, "company " INT64_FORMAT " has vanished", (int64) context.company_id);
	number = tc_phone_format(
		tc_phone_require(number, company.phone_region[0] == '\0' ? NULL : company.phone_region));
	erase(&context, number, &calls, counts);
	counts[N_COUNTS - 1] = erase_bodies(&context, calls);
	for (size_t i = 0; i < N_COUNTS; i++)
		values[i] = Int64GetDatum(counts[i]);
	return tc_return_row(fcinfo, values, nulls);
}
