/*
 * lease_follow.c
 *		A call's lease follows what its events say.
 *
 *		call goes on:  its lease is renewed; else that of its inbound request, or the one acquired
 *		               under its id, is bound to it; else one is made
 *		call is over:  its lease is given back, and none is made any more
 *
 * It follows the state that the call's row is in after the merge, not the event: so events may come
 * in any order, and after the end of a call no lease is left, nor is one made by a late start.  A
 * call that was seen to end or to be analyzed is over, even where its state could not follow.
 *
 * Nothing is refused here: a call that the platform has begun is counted, with or without room.
 *
 * Locks: rows of inbound_requests, none of which is waited for, and of call_leases.  Both are this
 * call's alone, and the caller holds the call's row; so batches of events cannot meet in a
 * deadlock here that they would not have met in before.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "act.h"
#include "inbound_request.h"
#include "lease.h"
#include "lifecycle.h"
#include "rows.h"
#include "telephony.h"

/* A lease is renewed when it has not been for so long, so that not every event writes it. */
#define RENEWED_AFTER USECS_PER_MINUTE

static TcStatement renew_lease = {
	.sql = "UPDATE @.call_leases SET seen_at = greatest(seen_at, $3) "
		   "WHERE company_id = $1 AND provider_call_id = $2",
	.nparams = 3,
	.types = {INT8OID, TEXTOID, TIMESTAMPTZOID},
};
static TcStatement bind_lease = {
	.sql = "UPDATE @.call_leases SET provider_call_id = $2, seen_at = greatest(seen_at, $3) "
		   "WHERE company_id = $1 AND holder = $4 AND provider_call_id IS NULL AND NOT EXISTS "
		   "(SELECT FROM @.call_leases WHERE company_id = $1 AND provider_call_id = $2)",
	.nparams = 4,
	.types = {INT8OID, TEXTOID, TIMESTAMPTZOID, TEXTOID},
};
static const TcColumn lease_columns[] = {
	{"company_id", INT8OID},		 {"holder", TEXTOID},		  {"provider_call_id", TEXTOID},
	{"acquired_at", TIMESTAMPTZOID}, {"seen_at", TIMESTAMPTZOID}, {"branch_id", INT8OID},
	{"direction", TEXTOID},
};
/* The call's row, which the caller has locked, keeps the company. */
static TcTable leases = {.name = "call_leases",
						 .columns = {.list = lease_columns,
									 .count = lengthof(lease_columns),
									 .keys = 2,
									 .written = lengthof(lease_columns),
									 .inserts_only = true,
									 .parent = "companies",
									 .tenants = true},
						 .other_keys = true};
/* Two statements, since one with OR would read all leases of the company. */
static TcStatement release_bound = {
	.sql = "DELETE FROM @.call_leases WHERE company_id = $1 AND provider_call_id = $2",
	.nparams = 2,
	.types = {INT8OID, TEXTOID},
};
static TcStatement release_waiting = {
	.sql = "DELETE FROM @.call_leases WHERE company_id = $1 AND holder = $2 "
		   "AND provider_call_id IS NULL",
	.nparams = 2,
	.types = {INT8OID, TEXTOID},
};

/* Can a call in this state still go on?  Those can that could be abandoned. */
bool
tc_lease_state_live(const char *state)
{
	const TcLifecycle *lifecycle = tc_lifecycle_required("call");
	int abandoned = tc_lifecycle_find(lifecycle, "abandoned", strlen("abandoned"));
	int current = tc_lifecycle_find(lifecycle, state, strlen(state));

	if (abandoned == TC_NO_STATE || current == TC_NO_STATE)
		return abandoned == TC_NO_STATE;
	return current != abandoned && tc_lifecycle_may_move(lifecycle, current, abandoned);
}

/* Gives back one lease, by its call or its holder; false if there is none. */
static bool
release_of(TcStatement *statement, int64 company_id, const char *holder)
{
	TcParams params = {0};

	tc_param_int8(&params, company_id);
	tc_param_text(&params, holder);
	return tc_execute(statement, &params) > 0;
}

/* Gives back the call's lease, and the one of its inbound request (NULL: none). */
static void
release(int64 company_id, const char *call_id, const char *correlation)
{
	if (!release_of(&release_bound, company_id, call_id))
		(void) release_of(&release_waiting, company_id, call_id);
	if (correlation != NULL)
		(void) release_of(&release_waiting, company_id, correlation);
}

/* The call, and when it was seen; what was received long ago is no sign that it lives now. */
static TcParams
sign_of_life(const TcDelivery *delivery, int64 company_id)
{
	TcParams params = {0};
	TimestampTz now = GetCurrentTimestamp();

	tc_param_int8(&params, company_id);
	tc_param_text(&params, delivery->message.call_id);
	tc_param_datum(&params, TimestampTzGetDatum(Min(delivery->received_at, now)), false);
	return params;
}

/* Takes the last sign of life. */
static bool
visit_seen(HeapTuple tuple, TupleDesc desc, void *arg)
{
	Datum seen_at;

	if (tc_row_datum(tuple, desc, "seen_at", &seen_at))
		*(TimestampTz *) arg = DatumGetTimestampTz(seen_at);
	return false;
}

/* When the call's lease was seen last; DT_NOBEGIN: it has none. */
static TimestampTz
last_seen(const TcParams *params)
{
	TcMatch matches[2] = {{"company_id", INT8OID, params->values[0]},
						  {"provider_call_id", TEXTOID, params->values[1]}};
	TimestampTz seen_at = DT_NOBEGIN;

	tc_read_rows(get_relname_relid("call_leases", tc_telephony_required()->schema), matches, 2,
				 visit_seen, &seen_at);
	return seen_at;
}

/* Renews the call's lease; false if it has none. */
static bool
renew(const TcParams *params)
{
	TimestampTz seen_at = last_seen(params);

	if (seen_at == DT_NOBEGIN)
		return false;
	if (seen_at < DatumGetTimestampTz(params->values[2]) - RENEWED_AFTER)
		(void) tc_execute(&renew_lease, params);
	return true;
}

/* Binds a lease that waits for the call; false if there is none. */
static bool
bind_waiting(const TcParams *params, const char *holder)
{
	TcParams bound = *params;

	tc_param_text(&bound, holder);
	return tc_execute(&bind_lease, &bound) > 0;
}

/* Makes a lease; false if the call, or its id as holder, has one. */
static bool
make(const TcParams *params, const TcDelivery *delivery, const TcMergeResult *merged)
{
	const char *direction = delivery->message.facts.direction;
	bool outbound = direction != NULL && strcmp(direction, "outbound") == 0;
	Datum call_id = params->values[1];
	Datum now = params->values[2];
	TcRow row = {.values = {params->values[0], call_id, call_id, now, now}};

	if (last_seen(params) != DT_NOBEGIN)
		return false;
	tc_row_set_id(&row, 5, merged->branch_id);
	tc_row_set_text(&row, 6, outbound ? "outbound" : "inbound");
	return tc_row_insert(&leases, &row);
}

/* The call goes on: it has a lease from now on.  Most likely first, since each is a statement. */
static void
keep(const TcDelivery *delivery, int64 company_id, const TcMergeResult *merged,
	 const char *correlation)
{
	TcParams params = sign_of_life(delivery, company_id);

	if (!merged->new_call && renew(&params))
	{
		if (correlation != NULL)
			(void) release_of(&release_waiting, company_id, correlation);
	}
	else if (correlation != NULL && bind_waiting(&params, correlation))
		return;
	else if (!make(&params, delivery, merged) && !bind_waiting(&params, delivery->message.call_id))
		(void) tc_execute(&renew_lease, &params); /* bound before its first event came */
}

/* What an event that was merged means for the call's lease. */
void
tc_lease_follow(const TcDelivery *delivery, const TcPlacement *placement, TcMergeResult *merged)
{
	int64 company_id = placement->place.company_id;
	const char *correlation;

	if (merged->outcome == TC_MERGE_DUPLICATE)
		return;
	/* of a forgotten caller the request knows no number to be matched by, nor is one written again
	 */
	correlation = merged->forgotten ? NULL : tc_inbound_match(delivery, placement, merged);
	if (!merged->over)
		keep(delivery, company_id, merged, correlation);
	else if (merged->new_call || !merged->was_over || correlation != NULL)
		release(company_id, delivery->message.call_id, correlation);
}

/* A call's state was set. */
void
tc_lease_state_set(int64 company_id, const char *provider_call_id, const char *state)
{
	if (!tc_lease_state_live(state))
		release(company_id, provider_call_id, NULL);
}
