/*
 * call_events.c
 *		The events of a call: each stored once, and read back to be folded anew.
 *
 * Of two events of a kind that differ the first stays.  Of the many transcript_updated, each of
 * which carries the whole transcript so far, the longest stays (of equally long ones the greater
 * one), so that their order does not matter.
 *
 * Locks: rows of call_events.  The caller holds the call's row.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "act.h"
#include "call_events.h"
#include "rows.h"
#include "trail.h"

/* Columns of call_events: the key, then the rest. */
static const TcColumn event_columns[] = {
	{"company_id", INT8OID},
	{"call_id", INT8OID},
	{"event", TEXTOID},
	{"call_at", TIMESTAMPTZOID},
	{"received_at", TIMESTAMPTZOID},
	{"last_received_at", TIMESTAMPTZOID},
	{"body", TEXTOID},
};

static TcTable events = {.name = "call_events",
						 .columns = {.list = event_columns,
									 .count = lengthof(event_columns),
									 .keys = 4,
									 .written = lengthof(event_columns),
									 .inserts_only = true,
									 .parent = "calls",
									 .tenants = true}};

static TcStatement count_event = {
	.sql = "UPDATE @.call_events AS e SET deliveries = e.deliveries + 1, "
		   "last_received_at = greatest(e.last_received_at, $5), "
		   "body = CASE WHEN $7 AND (octet_length($6), $6 COLLATE \"C\") > "
		   "(octet_length(e.body), e.body COLLATE \"C\") THEN $6 ELSE e.body END "
		   "FROM @.call_events AS before WHERE e.company_id = $1 AND e.call_id = $2 "
		   "AND e.call_at = $3 AND e.event = $4 AND (before.company_id, before.call_id, "
		   "before.call_at, before.event) = (e.company_id, e.call_id, e.call_at, e.event) "
		   "RETURNING before.body = $6, e.body = $6",
	.nparams = 7,
	.types = {INT8OID, INT8OID, TIMESTAMPTZOID, TEXTOID, TIMESTAMPTZOID, TEXTOID, BOOLOID},
};
static TcStatement stored_events = {
	.sql = "SELECT event, body, received_at FROM @.call_events "
		   "WHERE company_id = $1 AND call_id = $2 AND call_at = $3",
	.nparams = 3,
	.types = {INT8OID, INT8OID, TIMESTAMPTZOID},
};

/*
 * What counts of an event's facts: analysis dates itself by its receipt; what comes before the end
 * knows nothing of the end.
 */
TcCallFacts
tc_call_event_facts(const TcRetellMessage *message, TimestampTz received_at)
{
	const TcCallFacts *told = &message->facts;
	TcCallFacts facts = *told;

	facts.analyzed_at = message->event == TC_RETELL_CALL_ANALYZED ? received_at : 0;
	if (message->event == TC_RETELL_CALL_STARTED || message->event == TC_RETELL_TRANSCRIPT_UPDATED)
		facts = (TcCallFacts){.direction = told->direction,
							  .from_number = told->from_number,
							  .to_number = told->to_number,
							  .agent = told->agent,
							  .started_at = told->started_at,
							  .transcript = told->transcript};
	return facts;
}

/* Raises: only a snapshot older than another session's change can bring us here. */
void
tc_call_report_changed(void)
{
	ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					errmsg("the call was changed by another session"),
					errhint("Repeat the transaction.")));
}

/* Appends what identifies the call's events. */
static void
param_key(TcParams *params, const TcCallKey *key)
{
	tc_param_int8(params, key->company_id);
	tc_param_int8(params, key->call_id);
	tc_param_datum(params, TimestampTzGetDatum(key->created_at), false);
}

/* Counts another delivery of an event that is there. */
static TcStored
count_delivery(const TcDelivery *delivery, const TcCallKey *key, Datum body)
{
	TcParams params = {0};
	uint64 counted;
	bool isnull;

	param_key(&params, key);
	tc_param_text(&params, delivery->message.event_name);
	tc_param_datum(&params, TimestampTzGetDatum(delivery->received_at), false);
	tc_param_datum(&params, body, false);
	tc_param_datum(&params, BoolGetDatum(delivery->message.event == TC_RETELL_TRANSCRIPT_UPDATED),
				   false);
	tc_trail_open();
	counted = tc_execute(&count_event, &params);
	tc_trail_close();
	if (counted == 0)
		tc_call_report_changed();
	if (DatumGetBool(tc_result_datum(1, &isnull)))
		return TC_STORED_ALREADY;
	return DatumGetBool(tc_result_datum(2, &isnull)) ? TC_STORED_INSTEAD : TC_STORED_DIFFERENTLY;
}

/* Stores the event, counting deliveries. */
TcStored
tc_call_event_store(const TcDelivery *delivery, const TcCallKey *key, bool new_call)
{
	Datum body = PointerGetDatum(cstring_to_text_with_len(delivery->body, delivery->len));
	TcRow row = {.values = {Int64GetDatum(key->company_id), Int64GetDatum(key->call_id),
							CStringGetTextDatum(delivery->message.event_name),
							TimestampTzGetDatum(key->created_at),
							TimestampTzGetDatum(delivery->received_at),
							TimestampTzGetDatum(delivery->received_at), body},
				 .absent = new_call};

	return tc_row_insert(&events, &row) ? TC_STORED_NEW : count_delivery(delivery, key, body);
}

/* Reads the stored events back, each at the place of its bit; the bits of those that are there. */
int
tc_call_events_read(const TcCallKey *key, TcCallFacts stages[TC_SEEN_ANALYZED + 1])
{
	TcParams params = {0};
	SPITupleTable *rows;
	uint64 count;
	int found = 0;

	param_key(&params, key);
	count = tc_execute(&stored_events, &params);
	rows = SPI_tuptable;
	for (uint64 i = 0; i < count; i++)
	{
		char *body = SPI_getvalue(rows->vals[i], rows->tupdesc, 2);
		bool isnull;
		Datum received_at = SPI_getbinval(rows->vals[i], rows->tupdesc, 3, &isnull);
		TcRetellMessage message;

		if (tc_retell_parse_event(body, strlen(body), &message) != NULL)
			continue;
		found |= tc_call_seen_bit(message.event);
		stages[tc_call_seen_bit(message.event)] =
			tc_call_event_facts(&message, DatumGetTimestampTz(received_at));
	}
	return found;
}
