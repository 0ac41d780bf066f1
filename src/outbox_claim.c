/*
 * outbox_claim.c
 *		The worker takes orders that are due.
 *
 *		tenantcall.outbox_due --lock, lease, attempt + 1--> outbox (content) --commit--> flights
 *
 * One short transaction.  Due rows that somebody else has locked are passed over.  Companies take
 * turns: the first due order of each, then the second of each; so one with ten thousand orders
 * delays another by no more than its share.
 *
 * An order that came with a copy of the database (outbox_home.c) is asked about first.  One
 * that is found in state "sending" was claimed before by a worker that is gone: whether it
 * was sent is unknown, so the calendar is asked first.  "Settled" is when the last request that may
 * have been sent can no longer be under way.
 *
 * Locks: rows of outbox_due, then outbox.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "act.h"
#include "directory.h"
#include "node.h"
#include "node_groups.h"
#include "outbox.h"
#include "outbox_claim.h"

static TcStatement claim_due = {
	.sql =
		"WITH RECURSIVE company (company_id) AS ("
		"(SELECT d.company_id FROM @@.outbox_due AS d ORDER BY d.company_id LIMIT 1) "
		"UNION ALL SELECT (SELECT d.company_id FROM @@.outbox_due AS d "
		"WHERE d.company_id > c.company_id ORDER BY d.company_id LIMIT 1) "
		"FROM company AS c WHERE c.company_id IS NOT NULL), "
		"candidate AS (SELECT r.company_id, r.outbox_id, "
		"row_number() OVER (PARTITION BY r.company_id ORDER BY r.due_at, r.outbox_id) AS turn, "
		"r.due_at FROM company AS c CROSS JOIN LATERAL (SELECT d.company_id, d.outbox_id, d.due_at "
		"FROM @@.outbox_due AS d WHERE d.company_id = c.company_id "
		"AND d.due_at <= clock_timestamp() AND d.credential <> ALL ($2) "
		"ORDER BY d.due_at LIMIT $1) AS r), "
		"chosen AS MATERIALIZED (SELECT d.company_id, d.outbox_id, d.state "
		"FROM @@.outbox_due AS d JOIN (SELECT * FROM candidate ORDER BY turn, due_at "
		"LIMIT $1) AS k USING (company_id, outbox_id) "
		"WHERE d.due_at <= clock_timestamp() FOR UPDATE OF d SKIP LOCKED) "
		"UPDATE @@.outbox_due AS d SET attempt = d.attempt + 1, "
		"due_at = clock_timestamp() + make_interval(secs => $3), "
		"lease_until = clock_timestamp() + make_interval(secs => $3), "
		"state = CASE k.state WHEN 'queued' THEN 'sending' ELSE 'reconcile' END "
		"FROM chosen AS k WHERE d.company_id = k.company_id AND d.outbox_id = k.outbox_id "
		"AND NOT EXISTS (SELECT FROM @@.outbox_pause) "
		"RETURNING d.company_id, d.outbox_id, d.credential, d.attempt, d.last_attempt, d.state",
	.nparams = 3,
	.types = {INT8OID, TEXTARRAYOID, FLOAT8OID},
};
static TcStatement next_due = {
	.sql = "WITH RECURSIVE company (company_id) AS ("
		   "(SELECT d.company_id FROM @@.outbox_due AS d ORDER BY d.company_id LIMIT 1) "
		   "UNION ALL SELECT (SELECT d.company_id FROM @@.outbox_due AS d "
		   "WHERE d.company_id > c.company_id ORDER BY d.company_id LIMIT 1) "
		   "FROM company AS c WHERE c.company_id IS NOT NULL) "
		   "SELECT min((SELECT min(d.due_at) FROM @@.outbox_due AS d "
		   "WHERE d.company_id = c.company_id)) FROM company AS c "
		   "WHERE NOT EXISTS (SELECT FROM @@.outbox_pause)",
};
static TcStatement find_pause = {
	.sql = "SELECT 1 FROM @@.outbox_pause",
};
static TcStatement take_order = {
	.sql =
		"WITH before AS (SELECT b.sent_at FROM @.outbox AS b "
		"WHERE b.company_id = $1 AND b.outbox_id = $2) "
		"UPDATE @.outbox AS o SET state = $3, attempt = $4, "
		"lease_until = clock_timestamp() + make_interval(secs => $5), "
		"due_at = clock_timestamp() + make_interval(secs => $5), "
		"sent_at = CASE $3 WHEN 'sending' THEN clock_timestamp() "
		"ELSE coalesce(o.sent_at, clock_timestamp()) END " /* perhaps by somebody else, until now */
		"FROM @.appointments AS a LEFT JOIN @.appointments AS f "
		"ON f.company_id = a.company_id AND f.appointment_id = a.rescheduled_from "
		"WHERE o.company_id = $1 AND o.outbox_id = $2 AND o.finished_at IS NULL "
		"AND a.company_id = o.company_id AND a.appointment_id = o.appointment_id "
		"RETURNING o.appointment_id, o.kind, o.idempotency_key, o.request::text, a.status, a.uid, "
		"f.uid, a.customer ->> 'email', a.calcom_event_type_id, a.starts_at, a.ends_at, "
		"o.refusal IS NOT NULL, (SELECT b.sent_at IS NOT NULL FROM before AS b), "
		"(SELECT b.sent_at <= clock_timestamp() - make_interval(secs => $6) FROM before AS b), "
		"a.starts_at <= clock_timestamp()",
	.nparams = 6,
	.types = {INT8OID, INT8OID, TEXTOID, INT4OID, FLOAT8OID, FLOAT8OID},
};
static TcStatement delete_orphan = {
	.sql = "DELETE FROM @@.outbox_due WHERE company_id = $1 AND outbox_id = $2",
	.nparams = 2,
	.types = {INT8OID, INT8OID},
};

/* A claim that is being made, of one group of shards after the other. */
typedef struct Claiming
{
	const TcClaim *claim;
	TcFlight **flights;
	int count;
	int most; /* of one group */
	bool full;
} Claiming;

/* A boolean of the result's first row; false for NULL. */
static bool
result_bool(int column)
{
	bool isnull;
	Datum value = tc_result_datum(column, &isnull);

	return !isnull && DatumGetBool(value);
}

/* A text of it, in the flight's memory; NULL for NULL. */
static char *
flight_text(TcFlight *flight, int column)
{
	char *text = tc_result_text(column);

	return text == NULL ? NULL : MemoryContextStrdup(flight->memory, text);
}

/* An empty flight, which goes with the transaction. */
TcFlight *
tc_flight_make(void)
{
	MemoryContext memory = AllocSetContextCreate(TopTransactionContext, "tenantcall outbox order",
												 ALLOCSET_SMALL_SIZES);
	TcFlight *flight = MemoryContextAllocZero(memory, sizeof(TcFlight));

	flight->memory = memory;
	return flight;
}

/* The kind of an order. */
TcOrderKind
tc_order_kind(const char *kind)
{
	return strcmp(kind, "create") == 0	 ? TC_ORDER_CREATE
		   : strcmp(kind, "cancel") == 0 ? TC_ORDER_CANCEL
										 : TC_ORDER_RESCHEDULE;
}

/* A flight from a claimed row of outbox_due. */
static TcFlight *
make_flight(HeapTuple row, TupleDesc desc)
{
	TcFlight *flight = tc_flight_make();
	bool isnull;

	flight->company_id = DatumGetInt64(SPI_getbinval(row, desc, 1, &isnull));
	flight->outbox_id = DatumGetInt64(SPI_getbinval(row, desc, 2, &isnull));
	strlcpy(flight->credential, SPI_getvalue(row, desc, 3), NAMEDATALEN);
	flight->attempt = DatumGetInt32(SPI_getbinval(row, desc, 4, &isnull));
	flight->last_attempt = DatumGetInt32(SPI_getbinval(row, desc, 5, &isnull));
	flight->step =
		strcmp(SPI_getvalue(row, desc, 6), "sending") == 0 ? TC_OUTBOX_SEND : TC_OUTBOX_LOOK;
	return flight;
}

/* Takes the content from the result of take_order. */
static void
fill_flight(TcFlight *flight)
{
	bool isnull;

	flight->appointment_id = tc_result_int8(1);
	flight->kind = tc_order_kind(tc_result_text(2));
	flight->key = flight_text(flight, 3);
	flight->request = flight_text(flight, 4);
	flight->status = flight_text(flight, 5);
	flight->uid = flight_text(flight, 6);
	flight->old_uid = flight_text(flight, 7);
	flight->email = flight_text(flight, 8);
	flight->event_type_id = tc_result_int8(9);
	flight->starts_at = DatumGetTimestampTz(tc_result_datum(10, &isnull));
	flight->ends_at = DatumGetTimestampTz(tc_result_datum(11, &isnull));
	flight->refused = result_bool(12);
	flight->sent_before = result_bool(13);
	flight->settled = result_bool(14);
	flight->overdue = result_bool(15);
}

/* Marks the order in the company's table, and reads it; false if it is gone. */
static bool
take_content(const TcClaim *claim, TcFlight *flight)
{
	TcContext tenant = {.company_id = flight->company_id};
	TcParams params = {0};
	bool found;
	TcAct act;

	if (!tc_directory_fill(&tenant))
		return false;
	tc_act_begin(&act, TC_AS_OWNER, &tenant);
	tc_param_int8(&params, flight->company_id);
	tc_param_int8(&params, flight->outbox_id);
	tc_param_text(&params, flight->step == TC_OUTBOX_SEND ? "sending" : "reconcile");
	tc_param_datum(&params, Int32GetDatum(flight->attempt), false);
	tc_param_datum(&params, Float8GetDatum(claim->lease), false);
	tc_param_datum(&params, Float8GetDatum(claim->settle), false);
	found = tc_execute(&take_order, &params) > 0;
	if (found)
		fill_flight(flight);
	tc_act_end(&act);
	return found;
}

/* Removes a due row whose order is gone or finished. */
static void
drop_orphan(const TcFlight *flight)
{
	TcParams params = {0};
	TcAct act;

	tc_param_int8(&params, flight->company_id);
	tc_param_int8(&params, flight->outbox_id);
	tc_act_begin(&act, TC_AS_SYSTEM, NULL);
	tc_execute(&delete_orphan, &params);
	tc_act_end(&act);
}

/* Claims due rows of one group; the flights, without content yet. */
static int
claim_rows(const Claiming *claiming, TcFlight **flights)
{
	const TcClaim *claim = claiming->claim;
	TcParams params = {0};
	int count;
	TcAct act;

	tc_act_begin(&act, TC_AS_SYSTEM, NULL);
	tc_param_int8(&params, Min(claiming->most, claim->most - claiming->count));
	tc_param_datum(&params, PointerGetDatum(claim->busy_credentials), false);
	tc_param_datum(&params, Float8GetDatum(claim->lease), false);
	count = (int) tc_execute(&claim_due, &params);
	for (int i = 0; i < count; i++)
		flights[i] = make_flight(SPI_tuptable->vals[i], SPI_tuptable->tupdesc);
	tc_act_end(&act);
	return count;
}

/* tc_node_each_group() callback: claims orders that are due. */
static bool
claim_group(void *arg)
{
	Claiming *claiming = arg;
	TcFlight **flights = &claiming->flights[claiming->count];
	int claimed = claim_rows(claiming, flights);

	claiming->full = claiming->full || claimed == claiming->most;
	for (int i = 0; i < claimed; i++)
	{
		TcFlight *flight = flights[i];

		if (take_content(claiming->claim, flight))
			claiming->flights[claiming->count++] = flight;
		else
		{
			drop_orphan(flight);
			MemoryContextDelete(flight->memory);
		}
	}
	return claiming->count < claiming->claim->most;
}

/* Claims orders that are due: of each group of shards one, so that none has to wait, then more. */
int
tc_outbox_claim(const TcClaim *claim, TcFlight **flights)
{
	Claiming claiming = {.claim = claim, .flights = flights, .most = claim->most};

	if (unlikely(tc_node_distributed()))
	{
		claiming.most = 1;
		(void) tc_node_each_group(claim_group, &claiming, true);
		if (!claiming.full)
			return claiming.count;
		claiming.most = claim->most;
	}
	if (claiming.count < claim->most)
		(void) tc_node_each_group(claim_group, &claiming, true);
	return claiming.count;
}

/* Has the outbox been paused? */
bool
tc_outbox_paused(void)
{
	bool paused;
	TcAct act;

	tc_act_begin(&act, TC_AS_SYSTEM, NULL);
	paused = tc_execute(&find_pause, NULL) > 0;
	tc_act_end(&act);
	return paused;
}

/* tc_node_each_group() callback: when the next order of a group is due. */
static bool
find_due(void *arg)
{
	TimestampTz *earliest = arg;
	Datum value;
	bool isnull;
	TcAct act;

	tc_act_begin(&act, TC_AS_SYSTEM, NULL);
	tc_execute(&next_due, NULL);
	value = tc_result_datum(1, &isnull);
	if (!isnull && !TIMESTAMP_NOT_FINITE(DatumGetTimestampTz(value)) &&
		(*earliest == 0 || DatumGetTimestampTz(value) < *earliest))
		*earliest = DatumGetTimestampTz(value);
	tc_act_end(&act);
	return true;
}

/* When the next order is due. */
TimestampTz
tc_outbox_next_due(void)
{
	TimestampTz due = 0;

	(void) tc_node_each_group(find_due, &due, false);
	return due;
}
