/*
 * call_row.c
 *		The row of a call, locked while an event is merged into it.
 *
 *		take (lock, or make) --> write facts and first move --> move again
 *
 * The whole row is read with the lock and kept, so that writing needs no expressions: what the
 * event does not tell is written as it was.
 *
 * Locks: the row of calls, until the end of the transaction.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "call_row.h"

/* Columns of calls: the key, what is written, what the database fills in. */
enum
{
	CALL_COMPANY,
	CALL_PROVIDER,
	CALL_PROVIDER_ID,
	CALL_BRANCH,
	CALL_NUMBER,
	CALL_STATUS,
	CALL_DIRECTION,
	CALL_FROM,
	CALL_TO,
	CALL_AGENT,
	CALL_STARTED,
	CALL_ENDED,
	CALL_ANALYZED,
	CALL_REASON,
	CALL_DURATION,
	CALL_COST,
	CALL_SENTIMENT,
	CALL_SUMMARY,
	CALL_TRANSCRIPT,
	CALL_RECORDING,
	CALL_SEEN,
	CALL_ID,
	CALL_CREATED,
	N_CALL_COLUMNS
};

static const TcColumn call_columns[] = {
	[CALL_COMPANY] = {"company_id", INT8OID},
	[CALL_PROVIDER] = {"provider", TEXTOID},
	[CALL_PROVIDER_ID] = {"provider_call_id", TEXTOID},
	[CALL_BRANCH] = {"branch_id", INT8OID},
	[CALL_NUMBER] = {"phone_number_id", INT8OID},
	[CALL_STATUS] = {"status", TEXTOID},
	[CALL_DIRECTION] = {"direction", TEXTOID},
	[CALL_FROM] = {"from_number", TEXTOID},
	[CALL_TO] = {"to_number", TEXTOID},
	[CALL_AGENT] = {"agent", TEXTOID},
	[CALL_STARTED] = {"started_at", TIMESTAMPTZOID},
	[CALL_ENDED] = {"ended_at", TIMESTAMPTZOID},
	[CALL_ANALYZED] = {"analyzed_at", TIMESTAMPTZOID},
	[CALL_REASON] = {"disconnection_reason", TEXTOID},
	[CALL_DURATION] = {"duration", INTERVALOID},
	[CALL_COST] = {"cost_cents", NUMERICOID},
	[CALL_SENTIMENT] = {"sentiment", TEXTOID},
	[CALL_SUMMARY] = {"summary", TEXTOID},
	[CALL_TRANSCRIPT] = {"transcript", TEXTOID},
	[CALL_RECORDING] = {"recording_url", TEXTOID},
	[CALL_SEEN] = {"events_seen", INT2OID},
	[CALL_ID] = {"call_id", INT8OID},
	[CALL_CREATED] = {"created_at", TIMESTAMPTZOID},
};

StaticAssertDecl(lengthof(call_columns) == N_CALL_COLUMNS, "a name and type for each column");

static TcTable calls = {.name = "calls",
						.columns = {.list = call_columns,
									.count = N_CALL_COLUMNS,
									.keys = CALL_BRANCH,
									.written = CALL_ID,
									.tenants = true}};

/* Sets a text; NULL leaves the column as it is. */
static void
set_text(TcRow *row, int column, const char *value)
{
	if (value != NULL)
		tc_row_set(row, column, CStringGetTextDatum(value), false);
}

/* Sets a time; 0 leaves the column as it is. */
static void
set_time(TcRow *row, int column, TimestampTz at)
{
	if (at != 0)
		tc_row_set(row, column, TimestampTzGetDatum(at), false);
}

/* Takes what decides from the row that was locked or inserted. */
static void
take_row(TcCallRow *row)
{
	const TcRow *is = &row->row;

	row->key.call_id = DatumGetInt64(is->values[CALL_ID]);
	row->key.created_at = DatumGetTimestampTz(is->values[CALL_CREATED]);
	row->status = TextDatumGetCString(is->values[CALL_STATUS]);
	row->seen = DatumGetInt16(is->values[CALL_SEEN]);
	row->branch_id = is->nulls[CALL_BRANCH] ? 0 : DatumGetInt64(is->values[CALL_BRANCH]);
	row->reason_known = !is->nulls[CALL_REASON];
}

/* Sets the columns by which the row of a call is found. */
static void
set_key(const char *provider_call_id, TcCallRow *row)
{
	tc_row_set_id(&row->row, CALL_COMPANY, row->key.company_id);
	set_text(&row->row, CALL_PROVIDER, "retell");
	set_text(&row->row, CALL_PROVIDER_ID, provider_call_id);
}

/* Locks the row of a known call. */
static bool
lock_row(TcCallRow *row)
{
	if (!tc_row_lock(&calls, &row->row))
		return false;
	take_row(row);
	return true;
}

/* Locks the call's row, making it if it is not there; true if it was made. */
bool
tc_call_row_take(const TcDelivery *delivery, const TcPlacement *placement, TcCallRow *row)
{
	const TcRetellMessage *message = &delivery->message;
	bool outbound = message->facts.direction && strcmp(message->facts.direction, "outbound") == 0;

	set_key(message->call_id, row);
	/* before it is bound a call has no row; should one be there all the same, this is repeated */
	row->row.absent = tc_rows_repeatable && strcmp(placement->source, "binding") != 0;
	if (!row->row.absent && lock_row(row))
		return false;
	for (int i = CALL_BRANCH; i < CALL_ID; i++)
		row->row.nulls[i] = true;
	tc_row_set_id(&row->row, CALL_BRANCH, placement->place.branch_id);
	tc_row_set_id(&row->row, CALL_NUMBER, placement->place.phone_number_id);
	set_text(&row->row, CALL_STATUS, outbound ? "outbound" : "inbound");
	tc_row_set(&row->row, CALL_SEEN, Int16GetDatum(0), false);
	if (tc_row_insert(&calls, &row->row))
	{
		take_row(row);
		return true;
	}
	if (!lock_row(row))
		tc_call_report_changed();
	return false;
}

/* Sets the length of the call: as told, else, unless it was told before, from start to end. */
static void
set_duration(TcCallRow *row, int64 told_ms)
{
	TcRow *is = &row->row;
	Interval *told;

	if (told_ms > 0)
	{
		told = palloc0(sizeof(Interval));
		told->time = told_ms * 1000;
		tc_row_set(is, CALL_DURATION, IntervalPGetDatum(told), false);
	}
	else if ((row->seen & TC_SEEN_DURATION) == 0)
	{
		is->nulls[CALL_DURATION] = is->nulls[CALL_STARTED] || is->nulls[CALL_ENDED] ||
								   DatumGetTimestampTz(is->values[CALL_ENDED]) <=
									   DatumGetTimestampTz(is->values[CALL_STARTED]);
		if (!is->nulls[CALL_DURATION])
			is->values[CALL_DURATION] =
				DirectFunctionCall2(timestamp_mi, is->values[CALL_ENDED], is->values[CALL_STARTED]);
	}
}

/* Writes facts, the events seen, and the first move. */
void
tc_call_row_write(TcCallRow *row, const TcCallFacts *facts, const char *status)
{
	TcRow *is = &row->row;

	set_text(is, CALL_DIRECTION, facts->direction);
	set_text(is, CALL_FROM, facts->from_number);
	set_text(is, CALL_TO, facts->to_number);
	set_text(is, CALL_AGENT, facts->agent);
	set_time(is, CALL_STARTED, facts->started_at);
	set_time(is, CALL_ENDED, facts->ended_at);
	set_time(is, CALL_ANALYZED, facts->analyzed_at);
	set_text(is, CALL_REASON, facts->disconnection_reason);
	set_duration(row, facts->duration_ms);
	if (facts->cost_cents != NULL)
		tc_row_set(is, CALL_COST, NumericGetDatum(facts->cost_cents), false);
	set_text(is, CALL_SENTIMENT, facts->sentiment);
	set_text(is, CALL_SUMMARY, facts->summary);
	set_text(is, CALL_TRANSCRIPT, facts->transcript);
	set_text(is, CALL_RECORDING, facts->recording_url);
	tc_row_set(is, CALL_SEEN, Int16GetDatum((int16) row->seen), false);
	set_text(is, CALL_STATUS, status);
	if (row->place.branch_id != 0)
	{
		tc_row_set_id(is, CALL_BRANCH, row->place.branch_id);
		tc_row_set_id(is, CALL_NUMBER, row->place.phone_number_id);
	}
	tc_row_update(&calls, is);
}

/* Writes another state. */
void
tc_call_row_move(TcCallRow *row, const char *status)
{
	set_text(&row->row, CALL_STATUS, status);
	tc_row_update(&calls, &row->row);
}
