/*
 * calls.c
 *		Merging the events of a call into its row.
 *
 *		event --lock the call's row--> store it once --> fold the facts --> move the state
 *
 * The row of the call is locked first (made if it is not there), so the events of one call are
 * merged one after the other and those of different calls side by side.
 *
 * Facts are folded in the order of a call's life, not of arrival: an event that comes in order
 * overlays what is there; one that comes late has all stored events folded anew.  The state
 * follows from the set of events seen (call_core.c); the lifecycle's trigger still judges each
 * move.  So every order of the same events ends in the same row.
 *
 * Branch and number are those of the event that is first in the call's life.
 *
 * Locks: the row of calls, then rows of call_events, always in this order.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "act.h"
#include "call_core.h"
#include "call_events.h"
#include "call_over.h"
#include "call_row.h"
#include "calls.h"
#include "forget.h"
#include "lease.h"
#include "lifecycle.h"
#include "rows.h"
#include "telephony.h"

int tc_calls_max_body = 4096;
int tc_calls_function_lease = 120;
int tc_calls_match_window = 120;

static const TcColumn decision_columns[] = {
	{"company_id", INT8OID},	  {"branch_id", INT8OID},
	{"phone_number_id", INT8OID}, {"kind", TEXTOID},
	{"outcome", TEXTOID},		  {"source", TEXTOID},
	{"reason", TEXTOID},		  {"provider_call_id", TEXTOID},
	{"from_number", TEXTOID},	  {"to_number", TEXTOID},
	{"agent", TEXTOID},			  {"event", TEXTOID},
	{"by_role", TEXTOID},		  {"decided_at", TIMESTAMPTZOID}, /* the partition hangs on it */
	{"decision_id", INT8OID},
};

static TcTable decisions = {.name = "tenant_decisions",
							.columns = {.list = decision_columns,
										.count = lengthof(decision_columns),
										.written = lengthof(decision_columns) - 1,
										.inserts_only = true,
										.tenants = true}};

static TcStatement find_call = {
	.sql = "SELECT call_id FROM @.calls WHERE company_id = tenantcall.current_company_id() "
		   "AND provider = 'retell' AND provider_call_id = $1",
	.nparams = 1,
	.types = {TEXTOID},
};
static TcStatement provider_id = {
	.sql =
		"SELECT provider_call_id FROM @.calls WHERE company_id = tenantcall.current_company_id() "
		"AND call_id = $1",
	.nparams = 1,
	.types = {INT8OID},
};

/* Defines the settings. */
void
tc_calls_init(void)
{
	DefineCustomIntVariable("tenantcall.calls_max_body",
							"Longest body of the voice platform that is parsed.",
							"A longer one that is authentic is kept in tenantcall.quarantine.",
							&tc_calls_max_body, 4096, 16, 256 * 1024, PGC_SUSET, GUC_UNIT_KB, NULL,
							NULL, NULL);
	DefineCustomIntVariable("tenantcall.calls_function_lease",
							"Time after which an unfinished function call can be run again.", NULL,
							&tc_calls_function_lease, 120, 1, 86400, PGC_SUSET, GUC_UNIT_S, NULL,
							NULL, NULL);
	DefineCustomIntVariable("tenantcall.calls_match_window",
							"Longest time between an inbound request and a call that is taken for "
							"it by its numbers.",
							"0: only by the token of the answer.", &tc_calls_match_window, 120, 0,
							3600, PGC_SUSET, GUC_UNIT_S, NULL, NULL, NULL);
}

/*
 * The facts to write, and in *ended those of the end alone, which decide the state.  Of the
 * reason for the end, the end's own word beats the analysis's.
 */
static TcCallFacts
fold(const TcCallRow *row, const TcDelivery *delivery, bool late, TcCallFacts *ended)
{
	TcCallFacts stages[TC_SEEN_ANALYZED + 1];
	TcCallFacts folded = {0};

	if (!late)
	{
		folded = tc_call_event_facts(&delivery->message, delivery->received_at);
		*ended = folded;
		if (delivery->message.event == TC_RETELL_CALL_ANALYZED && row->reason_known)
			folded.disconnection_reason = NULL;
		return folded;
	}
	memset(stages, 0, sizeof(stages));
	if ((tc_call_events_read(&row->key, stages) & row->seen) != (row->seen & TC_SEEN_ANY) &&
		delivery->message.event == TC_RETELL_CALL_STARTED)
	{
		/* what came after has expired, but stands in the row: only the start can be news */
		memset(ended, 0, sizeof(*ended));
		folded.started_at = delivery->message.facts.started_at;
		return folded;
	}
	for (int bit = 1; bit <= TC_SEEN_ANALYZED; bit++)
		tc_facts_overlay(&folded, &stages[bit]);
	*ended = stages[TC_SEEN_ENDED];
	if (ended->disconnection_reason != NULL)
		folded.disconnection_reason = ended->disconnection_reason;
	return folded;
}

/* Takes the state from a row of reasons. */
static bool
visit_reason(HeapTuple tuple, TupleDesc desc, void *arg)
{
	*(char **) arg = tc_row_text(tuple, desc, "state");
	return false;
}

/* The state in which a call ends for a reason: as operators say, else as shipped; NULL: unknown. */
static const char *
state_of_reason(const char *reason)
{
	const TcTelephony *place = tc_telephony_required();
	const Oid tables[] = {place->reasons, place->reason_defaults};
	char *state = NULL;

	if (reason == NULL)
		return NULL;
	for (int i = 0; i < (int) lengthof(tables) && state == NULL; i++)
	{
		TcMatch match = {"reason", TEXTOID, CStringGetTextDatum(reason)};

		tc_read_rows(tables[i], &match, 1, visit_reason, &state);
	}
	return state;
}

/*
 * The state that the end of the call says; NULL until the end was seen.  A reason that is unknown
 * or missing never decides alone: then the vendor's status of the call helps.
 */
static const char *
find_end_state(const TcCallRow *row, TcRetellEvent event, const TcCallFacts *ended)
{
	const char *state;

	if ((row->seen & TC_SEEN_ENDED) == 0)
		return NULL;
	if (event != TC_RETELL_CALL_ENDED)
		return row->status; /* the end came before, and has moved the call there */
	state = state_of_reason(ended->disconnection_reason);
	if (state != NULL)
		return state;
	return tc_call_end_by_status(ended->call_status);
}

/* Does the lifecycle allow the move? */
static bool
may_move(const char *from, const char *to)
{
	const TcLifecycle *lifecycle = tc_lifecycle_required("call");

	return tc_lifecycle_may_move(lifecycle, tc_lifecycle_find(lifecycle, from, strlen(from)),
								 tc_lifecycle_find(lifecycle, to, strlen(to)));
}

/* Writes the facts and moves the state where the events seen say; false if it cannot go there. */
static bool
write_and_move(TcCallRow *row, const TcCallFacts *facts, const char *end)
{
	const char *target = tc_call_target(row->seen, end);
	const char *via = NULL;
	const char *first;

	if (target != NULL && strcmp(target, row->status) == 0)
		target = NULL;
	if (target != NULL)
		via = tc_call_via(row->status, target);
	first = via != NULL ? via : target;
	if (first != NULL && !may_move(row->status, first))
	{
		tc_call_row_write(row, facts, NULL);
		return false;
	}
	tc_call_row_write(row, facts, first);
	if (first != NULL)
		row->status = pstrdup(first);
	if (via == NULL)
		return true;
	tc_call_row_move(row, target);
	row->status = pstrdup(target);
	return true;
}

/* Folds in an event that was not there before. */
static void
apply_event(const TcDelivery *delivery, TcCallRow *row, TcMergeResult *result)
{
	TcRetellEvent event = delivery->message.event;
	bool late = tc_call_is_late(row->seen, event);
	TcCallFacts ended;
	TcCallFacts facts = fold(row, delivery, late, &ended);

	row->seen |= tc_call_seen_bit(event);
	if (facts.duration_ms > 0)
		row->seen |= TC_SEEN_DURATION;
	result->outcome = late ? TC_MERGE_MERGED : TC_MERGE_APPLIED;
	if (event == TC_RETELL_CALL_ANALYZED && (row->seen & TC_SEEN_ENDED) == 0)
	{
		result->outcome = TC_MERGE_MERGED;
		result->reason = "held_until_end";
	}
	if (!write_and_move(row, &facts, find_end_state(row, event, &ended)))
	{
		result->outcome = TC_MERGE_CONFLICT;
		result->reason = "illegal_transition";
	}
}

/* Is the call over, whether or not its state could follow? */
static bool
is_over(const TcCallRow *row)
{
	return (row->seen & (TC_SEEN_ENDED | TC_SEEN_ANALYZED)) != 0 ||
		   !tc_lease_state_live(row->status);
}

/* Merges an event. */
void
tc_calls_merge(const TcDelivery *delivery, const TcPlacement *placement, TcMergeResult *result)
{
	const TcRetellMessage *message = &delivery->message;
	TcCallRow row = {.key.company_id = placement->place.company_id};
	TcDelivery stripped;

	tc_lifecycle_set_event(message->event_name);
	memset(result, 0, sizeof(*result));
	result->new_call = tc_call_row_take(delivery, placement, &row);
	result->call_id = row.key.call_id;
	result->branch_id = row.branch_id;
	result->was_over = is_over(&row);
	if (!result->new_call && tc_call_is_first(row.seen, message->event) &&
		placement->place.branch_id != 0)
	{
		row.place = placement->place;
		result->branch_id = row.place.branch_id;
	}
	if ((row.seen & TC_SEEN_FORGOTTEN) != 0)
	{
		result->forgotten = true;
		stripped = tc_forgotten_event(delivery);
		delivery = &stripped;
	}
	switch (tc_call_event_store(delivery, &row.key, result->new_call))
	{
		case TC_STORED_NEW:
			if ((row.seen & tc_call_seen_bit(message->event)) != 0)
			{
				/* it was there, and has expired since: this copy will as well */
				result->outcome = TC_MERGE_DUPLICATE;
				result->reason = "history_expired";
				break;
			}
			if (tc_call_seen_bit(message->event) != 0)
				apply_event(delivery, &row, result);
			break;
		case TC_STORED_ALREADY:
			result->outcome = TC_MERGE_DUPLICATE;
			break;
		case TC_STORED_DIFFERENTLY:
			result->outcome = TC_MERGE_DUPLICATE;
			result->reason = "content_differs";
			break;
		default:
			if (tc_call_seen_bit(message->event) != 0)
				apply_event(delivery, &row, result);
	}
	result->over = is_over(&row);
	if (result->over && !result->was_over)
		tc_call_over(row.key.company_id, row.key.call_id);
	result->status = row.status;
}

/* Records a decision of the company that is being acted for. */
int64
tc_calls_record(const TcDelivery *delivery, const TcPlacement *placement, const char *outcome,
				const char *reason)
{
	const TcRetellMessage *message = &delivery->message;
	const char *const texts[] = {delivery->kind,
								 outcome,
								 placement->source,
								 reason,
								 message->call_id != NULL ? message->call_id : delivery->call_id,
								 message->facts.from_number,
								 message->facts.to_number,
								 message->facts.agent,
								 message->event_name != NULL ? message->event_name
															 : message->function_name,
								 GetUserNameFromId(GetOuterUserId(), false)};
	TcRow row = {0};

	tc_row_set_id(&row, 0, placement->place.company_id);
	tc_row_set_id(&row, 1, placement->place.branch_id);
	tc_row_set_id(&row, 2, placement->place.phone_number_id);
	for (int i = 0; i < (int) lengthof(texts); i++)
		tc_row_set_text(&row, 3 + i, texts[i]);
	tc_row_set(&row, 3 + (int) lengthof(texts), TimestampTzGetDatum(GetCurrentTimestamp()), false);
	tc_row_insert(&decisions, &row);
	return DatumGetInt64(row.values[lengthof(decision_columns) - 1]);
}

/* The call's id in the company that is being acted for. */
int64
tc_calls_find(const char *provider_call_id)
{
	TcParams params = {0};

	if (provider_call_id == NULL)
		return 0;
	tc_param_text(&params, provider_call_id);
	return tc_execute(&find_call, &params) > 0 ? tc_result_int8(1) : 0;
}

/* The provider's id of a call. */
char *
tc_calls_provider_id(int64 call_id)
{
	TcParams params = {0};

	if (call_id == 0)
		return NULL;
	tc_param_int8(&params, call_id);
	return tc_execute(&provider_id, &params) > 0 ? tc_result_text(1) : NULL;
}
