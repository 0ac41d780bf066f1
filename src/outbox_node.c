/*
 * outbox_node.c
 *		Orders on the other nodes of a Citus cluster.
 *
 *		worker of the elected node --> claim_orders() on each node --> flights
 *		outcome --> record_order() on the node of the order's company
 *
 * Both are transactions of their own on the other node, like those on this one.  A claim whose
 * answer gets lost leaves orders that are leased as "sending", as a worker does that was killed;
 * an outcome that arrives too late is fenced off by the attempt's number (outbox_record.c).
 *
 * A node gives its orders to nobody but the node that it knows to be elected (elected.c).  One
 * that does not answer is left alone for a while.
 *
 * Locks: those of outbox_claim.c and outbox_record.c, on the other node.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "act.h"
#include "args.h"
#include "elected.h"
#include "errors.h"
#include "node.h"
#include "node_groups.h"
#include "outbox.h"
#include "outbox_claim.h"
#include "outbox_home.h"
#include "telephony.h"

PG_FUNCTION_INFO_V1(tc_claim_orders);
PG_FUNCTION_INFO_V1(tc_orders_due);
PG_FUNCTION_INFO_V1(tc_record_order);

#define MAX_NODES 32 /* that orders are claimed on at a time */
#define MAX_CLAIMED 256
#define LONGEST_WAIT "250ms" /* for locks, while the elected node's worker waits for us */
#define N_FLIGHT_COLUMNS 21

/* A node that does not answer. */
typedef struct Resting
{
	int node;
	int failures;
	TimestampTz until;
} Resting;

static Resting resting[MAX_NODES];
static int nresting = 0;

static TcStatement read_claimed = {
	.sql =
		"SELECT o.* FROM jsonb_to_recordset($1::jsonb -> 'orders') AS o (company_id bigint, "
		"outbox_id bigint, credential text, attempt integer, last_attempt integer, looks boolean, "
		"appointment_id bigint, kind text, key text, request text, status text, uid text, "
		"old_uid text, email text, event_type_id bigint, starts_at timestamptz, "
		"ends_at timestamptz, refused boolean, sent_before boolean, settled boolean, "
		"overdue boolean)",
	.nparams = 1,
	.types = {TEXTOID},
};
static TcStatement read_due = {
	.sql = "SELECT ($1::jsonb ->> 'due')::timestamptz, $1::jsonb ->> 'election'",
	.nparams = 1,
	.types = {TEXTOID},
};

/* --- on the company's node ----------------------------------------------------------------- */

/* Is the caller the node that is elected?  This node may not have heard of it yet. */
static bool
caller_is_elected(int node, int64 generation, int64 place)
{
	TcElected elected;

	if (!tc_elected(&elected) || elected.generation < generation)
	{
		tc_elected_note(node, place, generation);
		return true;
	}
	return elected.generation == generation && elected.place == place;
}

/* A text or NULL. */
static Datum
optional_text(const char *text, bool *isnull)
{
	*isnull = text == NULL;
	return text == NULL ? (Datum) 0 : CStringGetTextDatum(text);
}

/* Puts a flight out as a row. */
static void
put_flight(ReturnSetInfo *info, const TcFlight *flight)
{
	static const char *const kinds[] = {"create", "cancel", "reschedule"};
	Datum values[N_FLIGHT_COLUMNS];
	bool nulls[N_FLIGHT_COLUMNS] = {false};

	values[0] = Int64GetDatum(flight->company_id);
	values[1] = Int64GetDatum(flight->outbox_id);
	values[2] = CStringGetTextDatum(flight->credential);
	values[3] = Int32GetDatum(flight->attempt);
	values[4] = Int32GetDatum(flight->last_attempt);
	values[5] = BoolGetDatum(flight->step == TC_OUTBOX_LOOK);
	values[6] = Int64GetDatum(flight->appointment_id);
	values[7] = CStringGetTextDatum(kinds[flight->kind]);
	values[8] = optional_text(flight->key, &nulls[8]);
	values[9] = optional_text(flight->request, &nulls[9]);
	values[10] = optional_text(flight->status, &nulls[10]);
	values[11] = optional_text(flight->uid, &nulls[11]);
	values[12] = optional_text(flight->old_uid, &nulls[12]);
	values[13] = optional_text(flight->email, &nulls[13]);
	values[14] = Int64GetDatum(flight->event_type_id);
	values[15] = TimestampTzGetDatum(flight->starts_at);
	values[16] = TimestampTzGetDatum(flight->ends_at);
	values[17] = BoolGetDatum(flight->refused);
	values[18] = BoolGetDatum(flight->sent_before);
	values[19] = BoolGetDatum(flight->settled);
	values[20] = BoolGetDatum(flight->overdue);
	tuplestore_putvalues(info->setResult, info->setDesc, values, nulls);
}

/* claim_orders(node, generation, place, most, busy, lease, settle) -> orders, for the elected node
 */
Datum
tc_claim_orders(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *info = (ReturnSetInfo *) fcinfo->resultinfo;
	TcClaim claim = {.most = Min(PG_GETARG_INT32(3), MAX_CLAIMED),
					 .busy_credentials = PG_GETARG_ARRAYTYPE_P(4),
					 .lease = PG_GETARG_FLOAT8(5),
					 .settle = PG_GETARG_FLOAT8(6)};
	TcFlight *flights[MAX_CLAIMED];
	int count;

	InitMaterializedSRF(fcinfo, 0);
	if (tc_telephony() == NULL || claim.most <= 0 ||
		!caller_is_elected(PG_GETARG_INT32(0), PG_GETARG_INT64(1), PG_GETARG_INT64(2)))
		return (Datum) 0;
	SetConfigOption("lock_timeout", LONGEST_WAIT, PGC_USERSET, PGC_S_SESSION);
	tc_outbox_move_in();
	count = tc_outbox_claim(&claim, flights);
	for (int i = 0; i < count; i++)
		put_flight(info, flights[i]);
	return (Datum) 0;
}

/* orders_due() -> timestamptz: when the next order of this node is due */
Datum
tc_orders_due(PG_FUNCTION_ARGS)
{
	TimestampTz due = tc_telephony() == NULL ? 0 : tc_outbox_next_due();

	if (due == 0)
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(due);
}

/*
 * record_order(company_id, outbox_id, appointment_id, attempt, kind, sent_before, next, delay_ms,
 * http_status, refusal, not_sent, uid, reason, became) -> boolean: an outcome from the elected node
 */
Datum
tc_record_order(PG_FUNCTION_ARGS)
{
	TcFlight flight = {.company_id = tc_arg_id(fcinfo, 0, "company_id"),
					   .outbox_id = tc_arg_id(fcinfo, 1, "outbox_id"),
					   .appointment_id = tc_arg_id(fcinfo, 2, "appointment_id"),
					   .attempt = PG_GETARG_INT32(3)};
	TcOutcome outcome = {.next = (TcOutboxNext) PG_GETARG_INT32(6),
						 .delay_ms = PG_GETARG_INT64(7),
						 .http_status = PG_GETARG_INT32(8),
						 .refusal = PG_GETARG_BOOL(9),
						 .not_sent = PG_GETARG_BOOL(10),
						 .uid = tc_arg_optional_text(fcinfo, 11),
						 .reason = tc_arg_optional_text(fcinfo, 12),
						 .became = tc_arg_optional_text(fcinfo, 13)};

	flight.kind = tc_order_kind(tc_arg_text(fcinfo, 4, "kind"));
	flight.sent_before = PG_GETARG_BOOL(5);
	SetConfigOption("lock_timeout", LONGEST_WAIT, PGC_USERSET, PGC_S_SESSION);
	tc_node_require_home(flight.company_id);
	PG_RETURN_BOOL(tc_outbox_record(&flight, &outcome));
}

/* --- on the elected node ------------------------------------------------------------------- */

/* The note of a node that does not answer, or NULL. */
static Resting *
find_resting(int node)
{
	for (int i = 0; i < nresting; i++)
	{
		if (resting[i].node == node)
			return &resting[i];
	}
	return NULL;
}

/* Notes whether a node has answered. */
static void
note_reply(const TcNodeReply *reply)
{
	Resting *note = find_resting(reply->node);

	if (reply->ok)
	{
		if (note != NULL)
			*note = resting[--nresting];
		return;
	}
	if (note == NULL && nresting < MAX_NODES)
	{
		note = &resting[nresting++];
		*note = (Resting){.node = reply->node};
	}
	if (note == NULL)
		return;
	note->failures = Min(note->failures + 1, 6);
	note->until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), 500 << note->failures);
	ereport(LOG, (errmsg("orders of the node of group %d cannot be taken: %s", reply->node,
						 reply->text)));
}

/* Nodes that are left alone now; *next is lowered to when the first is asked again. */
static int
list_resting(int *nodes, TimestampTz *next)
{
	TimestampTz now = GetCurrentTimestamp();
	int count = 0;

	for (int i = 0; i < nresting; i++)
	{
		if (resting[i].until <= now)
			continue;
		nodes[count++] = resting[i].node;
		if (*next == 0 || resting[i].until < *next)
			*next = resting[i].until;
	}
	return count;
}

/* A text of a row, in the flight's memory; NULL for NULL. */
static char *
flight_text(TcFlight *flight, HeapTuple row, TupleDesc desc, int column)
{
	char *text = SPI_getvalue(row, desc, column);

	return text == NULL ? NULL : MemoryContextStrdup(flight->memory, text);
}

/* A flight of a row of read_claimed. */
static TcFlight *
read_flight(HeapTuple row, TupleDesc desc)
{
	TcFlight *flight = tc_flight_make();
	Datum values[N_FLIGHT_COLUMNS];
	bool nulls[N_FLIGHT_COLUMNS];

	heap_deform_tuple(row, desc, values, nulls);
	flight->company_id = DatumGetInt64(values[0]);
	flight->outbox_id = DatumGetInt64(values[1]);
	strlcpy(flight->credential, SPI_getvalue(row, desc, 3), NAMEDATALEN);
	flight->attempt = DatumGetInt32(values[3]);
	flight->last_attempt = DatumGetInt32(values[4]);
	flight->step = DatumGetBool(values[5]) ? TC_OUTBOX_LOOK : TC_OUTBOX_SEND;
	flight->appointment_id = DatumGetInt64(values[6]);
	flight->kind = tc_order_kind(SPI_getvalue(row, desc, 8));
	flight->key = flight_text(flight, row, desc, 9);
	flight->request = flight_text(flight, row, desc, 10);
	flight->status = flight_text(flight, row, desc, 11);
	flight->uid = flight_text(flight, row, desc, 12);
	flight->old_uid = flight_text(flight, row, desc, 13);
	flight->email = flight_text(flight, row, desc, 14);
	flight->event_type_id = DatumGetInt64(values[14]);
	flight->starts_at = DatumGetTimestampTz(values[15]);
	flight->ends_at = DatumGetTimestampTz(values[16]);
	flight->refused = DatumGetBool(values[17]);
	flight->sent_before = DatumGetBool(values[18]);
	flight->settled = DatumGetBool(values[19]);
	flight->overdue = DatumGetBool(values[20]);
	return flight;
}

/* Takes a node's answer: its orders, and when the next is due. */
static int
take_reply(const char *text, int room, TcFlight **flights, TimestampTz *due)
{
	TcParams params = {0};
	bool isnull;
	Datum next;
	int count;
	TcAct act;

	tc_param_text(&params, text);
	tc_act_begin(&act, TC_AS_SYSTEM, NULL);
	count = (int) Min(tc_execute(&read_claimed, &params), (uint64) room);
	for (int i = 0; i < count; i++)
		flights[i] = read_flight(SPI_tuptable->vals[i], SPI_tuptable->tupdesc);
	(void) tc_execute(&read_due, &params);
	next = tc_result_datum(1, &isnull);
	if (!isnull && (*due == 0 || DatumGetTimestampTz(next) < *due))
		*due = DatumGetTimestampTz(next);
	tc_elected_hear(tc_result_text(2));
	tc_act_end(&act);
	return count;
}

/* Claims on the other nodes: on each so much that there is room for all. */
int
tc_outbox_claim_elsewhere(const TcClaim *claim, TcFlight **flights, int room, TimestampTz *due)
{
	int nodes[MAX_NODES];
	int nnodes = list_resting(nodes, due);
	char *busy = OidOutputFunctionCall(F_ARRAY_OUT, PointerGetDatum(claim->busy_credentials));
	TcNodeReply *replies;
	TcElected elected;
	int nreplies;
	int count = 0;

	if (!tc_elected(&elected))
		return 0;
	replies = tc_node_run_all(
		psprintf(
			"SELECT pg_catalog.jsonb_build_object('orders', (SELECT "
			"coalesce(pg_catalog.jsonb_agg(o), '[]') FROM tenantcall.claim_orders(%d, " INT64_FORMAT
			", " INT64_FORMAT ", %d, %s, %g, %g) AS o), 'due', tenantcall.orders_due(), "
			"'election', tenantcall.newest_election())",
			elected.node, elected.generation, elected.place,
			Min(claim->most, Max(1, room / MAX_NODES)), quote_literal_cstr(busy), claim->lease,
			claim->settle),
		nodes, nnodes, &nreplies);
	for (int i = 0; i < nreplies; i++)
	{
		note_reply(&replies[i]);
		if (replies[i].ok)
			count += take_reply(replies[i].text, room - count, &flights[count], due);
	}
	return count;
}

/* Appends a text argument. */
static void
append_text(StringInfo command, const char *text)
{
	appendStringInfo(command, ", %s", text == NULL ? "NULL" : quote_literal_cstr(text));
}

/* Writes an outcome where the company is at home. */
bool
tc_outbox_record_elsewhere(const TcFlight *flight, const TcOutcome *outcome)
{
	static const char *const kinds[] = {"create", "cancel", "reschedule"};
	StringInfoData command;
	char *error;
	char *answer;

	initStringInfo(&command);
	appendStringInfo(&command,
					 "SELECT tenantcall.record_order(" INT64_FORMAT ", " INT64_FORMAT
					 ", " INT64_FORMAT ", %d, '%s', %s, %d, " INT64_FORMAT ", %d, %s, %s",
					 flight->company_id, flight->outbox_id, flight->appointment_id, flight->attempt,
					 kinds[flight->kind], flight->sent_before ? "true" : "false",
					 (int) outcome->next, outcome->delay_ms, outcome->http_status,
					 outcome->refusal ? "true" : "false", outcome->not_sent ? "true" : "false");
	append_text(&command, outcome->uid);
	append_text(&command, outcome->reason);
	append_text(&command, outcome->became);
	appendStringInfoChar(&command, ')');
	answer = tc_node_run(tc_node_home(flight->company_id), command.data, &error);
	if (answer == NULL)
		ereport(ERROR, (errcode(ERRCODE_CONNECTION_FAILURE),
						errmsg("what came of order " INT64_FORMAT " of company " INT64_FORMAT
							   " cannot be recorded: %s",
							   flight->outbox_id, flight->company_id, error)));
	return strcmp(answer, "t") == 0;
}
