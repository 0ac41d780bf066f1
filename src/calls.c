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
#include "calls.h"
#include "lease.h"
#include "lifecycle.h"

int tc_calls_max_body = 4096;
int tc_calls_function_lease = 120;
int tc_calls_match_window = 120;

static TcStatement lock_call = {
	.sql =
		"SELECT call_id, created_at, status, events_seen, branch_id, disconnection_reason "
		"FROM @.calls WHERE company_id = $1 AND provider = 'retell' AND provider_call_id = $2 FOR UPDATE",
	.nparams = 2,
	.types = {INT8OID, TEXTOID},
};
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
static TcStatement insert_call = {
	.sql = "INSERT INTO @.calls (company_id, provider_call_id, branch_id, phone_number_id, status) "
		   "VALUES ($1, $2, $3, $4, $5) ON CONFLICT (company_id, provider, provider_call_id) "
		   "DO NOTHING RETURNING call_id, created_at, status, events_seen, branch_id, "
		   "disconnection_reason",
	.nparams = 5,
	.types = {INT8OID, TEXTOID, INT8OID, INT8OID, TEXTOID},
};
static TcStatement update_call = {
	.sql =
		"UPDATE @.calls SET direction = coalesce($3, direction), "
		"from_number = coalesce($4, from_number), to_number = coalesce($5, to_number), "
		"agent = coalesce($6, agent), started_at = coalesce($7, started_at), "
		"ended_at = coalesce($8, ended_at), analyzed_at = coalesce($9, analyzed_at), "
		"disconnection_reason = coalesce($10, disconnection_reason), "
		"duration = CASE WHEN $11 IS NOT NULL THEN $11 WHEN $17 & 16 <> 0 THEN duration "
		"ELSE nullif(greatest(coalesce($8, ended_at) - coalesce($7, started_at), '0'), '0') END, "
		"cost_cents = coalesce($12, cost_cents), "
		"sentiment = coalesce($13, sentiment), summary = coalesce($14, summary), "
		"transcript = coalesce($15, transcript), "
		"recording_url = coalesce($16, recording_url), events_seen = $17, "
		"status = coalesce($18, status), branch_id = coalesce($19, branch_id), "
		"phone_number_id = CASE WHEN $19 IS NULL THEN phone_number_id ELSE $20 END "
		"WHERE company_id = $1 AND call_id = $2",
	.nparams = 20,
	.types = {INT8OID,	   INT8OID,		   TEXTOID,		   TEXTOID,		   TEXTOID,
			  TEXTOID,	   TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID,
			  INTERVALOID, NUMERICOID,	   TEXTOID,		   TEXTOID,		   TEXTOID,
			  TEXTOID,	   INT2OID,		   TEXTOID,		   INT8OID,		   INT8OID},
};
static TcStatement move_call = {
	.sql = "UPDATE @.calls SET status = $3 WHERE company_id = $1 AND call_id = $2",
	.nparams = 3,
	.types = {INT8OID, INT8OID, TEXTOID},
};
static TcStatement end_state = {
	.sql = "SELECT coalesce("
		   "(SELECT r.state FROM tenantcall.disconnection_reasons AS r WHERE r.reason = $1), "
		   "(SELECT d.state FROM tenantcall.disconnection_reason_defaults AS d "
		   "WHERE d.reason = $1), "
		   "CASE $2 WHEN 'error' THEN 'failed' WHEN 'not_connected' THEN 'not_connected' "
		   "ELSE 'completed' END)",
	.nparams = 2,
	.types = {TEXTOID, TEXTOID},
};
static TcStatement insert_decision = {
	.sql = "INSERT INTO @.tenant_decisions (company_id, branch_id, phone_number_id, kind, outcome, "
		   "source, reason, provider_call_id, from_number, to_number, agent, by_role) "
		   "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) RETURNING decision_id",
	.nparams = 12,
	.types = {INT8OID, INT8OID, INT8OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID,
			  TEXTOID, TEXTOID, TEXTOID},
};

/* The call's row while it is locked. */
typedef struct CallRow
{
	TcCallKey key;
	int64 branch_id;
	char *status;
	char *disconnection_reason;
	int seen;
	TcPlace place; /* branch and number to be written; none: they stay */
} CallRow;

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

/* Takes the row that was selected or inserted. */
static void
take_row(CallRow *row)
{
	bool isnull;

	row->key.call_id = tc_result_int8(1);
	row->key.created_at = DatumGetTimestampTz(tc_result_datum(2, &isnull));
	row->status = tc_result_text(3);
	row->seen = DatumGetInt16(tc_result_datum(4, &isnull));
	row->branch_id = tc_result_int8(5);
	row->disconnection_reason = tc_result_text(6);
}

/* Locks the row of a known call. */
static bool
lock_row(const char *provider_call_id, CallRow *row)
{
	TcParams params = {0};

	tc_param_int8(&params, row->key.company_id);
	tc_param_text(&params, provider_call_id);
	if (tc_execute(&lock_call, &params) == 0)
		return false;
	take_row(row);
	return true;
}

/* Locks the call's row, making it if it is not there; true if it was made. */
static bool
lock_or_make_row(const TcDelivery *delivery, const TcPlacement *placement, CallRow *row)
{
	const TcRetellMessage *message = &delivery->message;
	bool outbound = message->facts.direction && strcmp(message->facts.direction, "outbound") == 0;
	TcParams params = {0};

	if (lock_row(message->call_id, row))
		return false;
	tc_param_int8(&params, row->key.company_id);
	tc_param_text(&params, message->call_id);
	tc_param_int8(&params, placement->place.branch_id);
	tc_param_int8(&params, placement->place.phone_number_id);
	tc_param_text(&params, outbound ? "outbound" : "inbound");
	if (tc_execute(&insert_call, &params) > 0)
	{
		take_row(row);
		return true;
	}
	if (!lock_row(message->call_id, row))
		tc_call_report_changed();
	return false;
}

/*
 * The facts to write, and in *ended those of the end alone, which decide the state.  Of the
 * reason for the end, the end's own word beats the analysis's.
 */
static TcCallFacts
fold(const CallRow *row, const TcDelivery *delivery, bool late, TcCallFacts *ended)
{
	TcCallFacts stages[TC_SEEN_ANALYZED + 1];
	TcCallFacts folded = {0};

	if (!late)
	{
		folded = tc_call_event_facts(&delivery->message, delivery->received_at);
		*ended = folded;
		if (delivery->message.event == TC_RETELL_CALL_ANALYZED && row->disconnection_reason)
			folded.disconnection_reason = NULL;
		return folded;
	}
	memset(stages, 0, sizeof(stages));
	tc_call_events_read(&row->key, stages);
	for (int bit = 1; bit <= TC_SEEN_ANALYZED; bit++)
		tc_facts_overlay(&folded, &stages[bit]);
	*ended = stages[TC_SEEN_ENDED];
	if (ended->disconnection_reason != NULL)
		folded.disconnection_reason = ended->disconnection_reason;
	return folded;
}

/* Appends a time, or NULL. */
static void
param_time(TcParams *params, TimestampTz at)
{
	tc_param_datum(params, TimestampTzGetDatum(at), at == 0);
}

/* Length of the call, if told; else the statement takes it from start to end. */
static void
param_duration(TcParams *params, const TcCallFacts *facts)
{
	Interval *interval = palloc0(sizeof(Interval));

	interval->time = facts->duration_ms * 1000;
	tc_param_datum(params, IntervalPGetDatum(interval), facts->duration_ms <= 0);
}

/* Writes facts, the events seen, and the first move. */
static void
write_row(const CallRow *row, const TcCallFacts *facts, const char *status)
{
	TcParams params = {0};
	const TcPlace *place = &row->place;

	tc_param_int8(&params, row->key.company_id);
	tc_param_int8(&params, row->key.call_id);
	tc_param_text(&params, facts->direction);
	tc_param_text(&params, facts->from_number);
	tc_param_text(&params, facts->to_number);
	tc_param_text(&params, facts->agent);
	param_time(&params, facts->started_at);
	param_time(&params, facts->ended_at);
	param_time(&params, facts->analyzed_at);
	tc_param_text(&params, facts->disconnection_reason);
	param_duration(&params, facts);
	tc_param_datum(&params, NumericGetDatum(facts->cost_cents), facts->cost_cents == NULL);
	tc_param_text(&params, facts->sentiment);
	tc_param_text(&params, facts->summary);
	tc_param_text(&params, facts->transcript);
	tc_param_text(&params, facts->recording_url);
	tc_param_datum(&params, Int16GetDatum((int16) row->seen), false);
	tc_param_text(&params, status);
	tc_param_int8(&params, place->branch_id);
	tc_param_int8(&params, place->phone_number_id);
	tc_execute(&update_call, &params);
}

/*
 * The state that the end of the call says; NULL until the end was seen.  A reason that is unknown
 * or missing never decides alone: then the vendor's status of the call helps.
 */
static const char *
find_end_state(const CallRow *row, TcRetellEvent event, const TcCallFacts *ended)
{
	TcParams params = {0};

	if ((row->seen & TC_SEEN_ENDED) == 0)
		return NULL;
	if (event != TC_RETELL_CALL_ENDED)
		return row->status; /* the end came before, and has moved the call there */
	tc_param_text(&params, ended->disconnection_reason);
	tc_param_text(&params, ended->call_status);
	tc_execute(&end_state, &params);
	return tc_result_text(1);
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
write_and_move(CallRow *row, const TcCallFacts *facts, const char *end)
{
	const char *target = tc_call_target(row->seen, end);
	const char *via = NULL;
	const char *first;
	TcParams params = {0};

	if (target != NULL && strcmp(target, row->status) == 0)
		target = NULL;
	if (target != NULL)
		via = tc_call_via(row->status, target);
	first = via != NULL ? via : target;
	if (first != NULL && !may_move(row->status, first))
	{
		write_row(row, facts, NULL);
		return false;
	}
	write_row(row, facts, first);
	if (first != NULL)
		row->status = pstrdup(first);
	if (via != NULL)
	{
		tc_param_int8(&params, row->key.company_id);
		tc_param_int8(&params, row->key.call_id);
		tc_param_text(&params, target);
		tc_execute(&move_call, &params);
		row->status = pstrdup(target);
	}
	return true;
}

/* Folds in an event that was not there before. */
static void
apply_event(const TcDelivery *delivery, CallRow *row, TcMergeResult *result)
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
is_over(const CallRow *row)
{
	return (row->seen & (TC_SEEN_ENDED | TC_SEEN_ANALYZED)) != 0 ||
		   !tc_lease_state_live(row->status);
}

/* Merges an event. */
void
tc_calls_merge(const TcDelivery *delivery, const TcPlacement *placement, TcMergeResult *result)
{
	const TcRetellMessage *message = &delivery->message;
	CallRow row = {.key.company_id = placement->place.company_id};

	tc_lifecycle_set_event(message->event_name);
	memset(result, 0, sizeof(*result));
	result->new_call = lock_or_make_row(delivery, placement, &row);
	result->call_id = row.key.call_id;
	result->branch_id = row.branch_id;
	result->was_over = is_over(&row);
	if (!result->new_call && tc_call_is_first(row.seen, message->event) &&
		placement->place.branch_id != 0)
	{
		row.place = placement->place;
		result->branch_id = row.place.branch_id;
	}
	switch (tc_call_event_store(delivery, &row.key))
	{
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
	TcParams params = {0};

	tc_param_int8(&params, placement->place.company_id);
	tc_param_int8(&params, placement->place.branch_id);
	tc_param_int8(&params, placement->place.phone_number_id);
	tc_param_text(&params, delivery->kind);
	tc_param_text(&params, outcome);
	tc_param_text(&params, placement->source);
	tc_param_text(&params, reason);
	tc_param_text(&params, message->call_id != NULL ? message->call_id : delivery->call_id);
	tc_param_text(&params, message->facts.from_number);
	tc_param_text(&params, message->facts.to_number);
	tc_param_text(&params, message->facts.agent);
	tc_param_text(&params, GetUserNameFromId(GetOuterUserId(), false));
	tc_execute(&insert_decision, &params);
	return tc_result_int8(1);
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
