/*
 * slot_taken.c
 *		What of a calendar's time is held or booked here, which the calendar may not know yet.
 *
 *		slot_holds --> list of a question's days --> kept beside the calendar's answer
 *
 * Reading slot_holds costs as much as all the rest of an answer from memory.  So the list is kept
 * with the answer, in shared memory, for everybody who asks the same.  It is right as long as its
 * generation (slot_generation.h) stands still: every transaction that holds, releases, books or
 * cancels raises it once it can be seen, which does away with the list, and not with the answer.
 * The generation is noted before the snapshot is taken that the list is read with, so what is
 * missing in the list raises it later.
 *
 * The table itself is read for a caller whose own hold is to count as free, by a transaction that
 * has changed something itself, and where there is too much for the list.  A list that was read
 * with an old snapshot is not kept.
 *
 * Locks: AccessShareLock on slot_holds; tc_slot_lock, see slot_cache.c.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/timestamp.h"

#include "act.h"
#include "clock.h"
#include "slot_generation.h"
#include "slot_taken.h"

static TcStatement select_taken = {
	.sql = "SELECT starts_at, ends_at, CASE state WHEN 'held' THEN expires_at ELSE 'infinity' END, "
		   "seat FROM @.slot_holds WHERE company_id = $1 "
		   "AND credential = $2 AND calcom_event_type_id = $3 "
		   "AND pg_catalog.tstzrange(starts_at, ends_at, '[)') "
		   "OPERATOR(pg_catalog.&&) pg_catalog.tstzrange($4, $5, '[)') "
		   "AND (state = 'booked' OR state = 'held' AND expires_at > pg_catalog.now()) "
		   "AND ($6 IS NULL OR state = 'booked' OR call_id IS DISTINCT FROM $6)",
	.nparams = 6,
	.types = {INT8OID, TEXTOID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID},
};

/* One row of the statement. */
static TcSlotTaken
read_row(HeapTuple tuple, TupleDesc desc)
{
	bool isnull;

	return (TcSlotTaken){
		.from = DatumGetTimestampTz(SPI_getbinval(tuple, desc, 1, &isnull)),
		.to = DatumGetTimestampTz(SPI_getbinval(tuple, desc, 2, &isnull)),
		.expires = DatumGetTimestampTz(SPI_getbinval(tuple, desc, 3, &isnull)),
		.seat = DatumGetInt32(SPI_getbinval(tuple, desc, 4, &isnull)),
	};
}

/* Reads what is taken in the question's days; a call's own holds, if it is not 0, are left out. */
static TcSlotTaken *
load_taken(const TcCalendar *calendar, const TcSlotQuestion *question, int64 but_of_call,
		   int *count)
{
	MemoryContext caller = CurrentMemoryContext;
	TcParams params = {0};
	TcSlotTaken *taken;
	uint64 rows;
	TcAct act;

	tc_act_begin(&act, TC_AS_OWNER, NULL);
	tc_param_int8(&params, calendar->company_id);
	tc_param_text(&params, calendar->credential);
	tc_param_int8(&params, calendar->event_type_id);
	tc_param_datum(&params, TimestampTzGetDatum(question->from), false);
	tc_param_datum(&params, TimestampTzGetDatum(tc_calendar_end(calendar, question->to)), false);
	tc_param_int8(&params, but_of_call);
	rows = tc_execute(&select_taken, &params);
	taken = MemoryContextAlloc(caller, sizeof(TcSlotTaken) * Max(rows, 1));
	for (uint64 i = 0; i < rows; i++)
		taken[i] = read_row(SPI_tuptable->vals[i], SPI_tuptable->tupdesc);
	tc_act_end(&act);
	*count = (int) rows;
	return taken;
}

/* Takes out of the answer's list what has expired; how many are left. */
static int
drop_expired(TcSlotAnswer *answer)
{
	TimestampTz now = GetCurrentTransactionStartTimestamp();
	int kept = 0;

	for (int i = 0; i < answer->ntaken; i++)
	{
		if (answer->taken[i].expires > now)
			answer->taken[kept++] = answer->taken[i];
	}
	return kept;
}

/* What is taken. */
TcSlotTaken *
tc_slot_taken(const TcCalendar *calendar, const TcSlotWish *wish, const TcSlotQuestion *question,
			  TcSlotAnswer *answer, int *count)
{
	int64 as_of = tc_clock_us();
	TcSlotTaken *taken;

	if (wish->ignore_hold)
		return load_taken(calendar, question, wish->call_id, count);
	if (answer->ntaken >= 0)
	{
		*count = drop_expired(answer);
		return answer->taken;
	}
	answer->taken_generation = tc_slot_taken_generation(question->company_id, question->credential,
														question->event_type_id);
	taken = load_taken(calendar, question, 0, count);
	if (*count <= TC_SLOT_MAX_TAKEN && !tc_slot_change_pending() && !IsolationUsesXactSnapshot())
	{
		answer->ntaken = *count;
		memcpy(answer->taken, taken, sizeof(TcSlotTaken) * *count);
		tc_slot_cache_keep_taken(question, answer, as_of);
	}
	return taken;
}

/* Are all seats of a slot taken?  A seat counts once, however much of it is taken. */
bool
tc_slot_full(const TcCalendar *calendar, TimestampTz starts_at, const TcSlotTaken *taken, int count)
{
	TimestampTz ends_at = tc_calendar_end(calendar, starts_at);
	int seats = 0;

	for (int i = 0; i < count; i++)
	{
		bool counted = false;

		if (taken[i].to <= starts_at || taken[i].from >= ends_at)
			continue;
		for (int k = 0; k < i && !counted; k++)
			counted = taken[k].seat == taken[i].seat && taken[k].to > starts_at &&
					  taken[k].from < ends_at;
		if (!counted && ++seats >= calendar->capacity)
			return true;
	}
	return false;
}
