/*
 * rate_reset.c
 *		Rate limits: filling a bucket; the clock and the stops for tests.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "args.h"
#include "node.h"
#include "rate_args.h"
#include "rate_clock.h"
#include "rate_lock.h"
#include "rate_shared.h"
#include "rate_turn.h"
#include "ready.h"

PG_FUNCTION_INFO_V1(tc_reset_bucket);
PG_FUNCTION_INFO_V1(tc_rate_test_clock);
PG_FUNCTION_INFO_V1(tc_rate_test_stop);

/*
 * Fills an entry; false if it was full.  Tickets of before are worth nothing: they have been given
 * back.  Who waits goes on at once.  Exclusive lock.
 */
static bool
fill_entry(TcRateEntry *entry)
{
	int64 now = tc_rate_now();
	TcRateRecord *record = tc_rate_record(entry);
	TcRateView view;

	if (tc_rate_is_full(&record->math, tc_rate_state(entry), now))
		return false;
	entry->paused = false;
	tc_rate_view(&record->math, tc_rate_state(entry), now, 1, &view);
	pg_atomic_fetch_add_u64(&record->forgiven, record->math.burst - view.remaining);
	pg_atomic_write_u64(&entry->s, 0);
	tc_rate_turn_move(record->born, 0, TC_RATE_FAR);
	record->born = pg_atomic_add_fetch_u64(&tc_rate_table_here.shared->born, 1);
	return true;
}

/* Fills the bucket that a limit means, if it exists; false if it was full. */
static bool
fill_bucket(const TcRateLimit *limit, const TcRateWho *who)
{
	TcRateSubject subject;
	TcRateKey key;
	TcRateEntry *entry;
	uint32 hash;
	bool filled = false;

	tc_rate_subject(limit, who, &subject);
	tc_rate_key(&key, limit, &subject);
	hash = tc_rate_hash(&key);
	tc_rate_lock_or_raise(hash, LW_EXCLUSIVE);
	entry = tc_rate_find(&key, hash);
	if (entry != NULL)
		filled = fill_entry(entry);
	LWLockRelease(tc_rate_lock(hash));
	return filled;
}

/* reset_bucket(policy, company_id, branch_id, number, call, function) -> boolean */
Datum
tc_reset_bucket(PG_FUNCTION_ARGS)
{
	char *policy = tc_arg_text(fcinfo, 0, "policy");
	TcContext tenant = {.company_id = tc_arg_optional_id(fcinfo, 1, "company_id"),
						.branch_id = tc_arg_optional_id(fcinfo, 2, "branch_id")};
	TcRateWho who = {.tenant = &tenant,
					 .number = tc_arg_optional_text(fcinfo, 3),
					 .call = tc_arg_optional_text(fcinfo, 4),
					 .function = tc_arg_optional_text(fcinfo, 5)};
	const TcRateLimit *limit;
	bool filled = false;
	Datum there;
	int n;

	if (tc_node_elsewhere(fcinfo, tenant.company_id, &there))
		return there;
	limit = tc_rate_limit(policy, strlen(policy), &who);
	n = limit->more + 1;
	for (int i = 0; i < n; i++)
	{
		/* of a call's buckets only those that are named */
		if (limit[i].level == TC_RATE_FUNCTION && who.function == NULL && n > 1)
			continue;
		filled |= fill_bucket(&limit[i], &who);
	}
	PG_RETURN_BOOL(filled);
}

/* rate_test_clock(ns bigint) -> bigint: for tests, this session's time */
Datum
tc_rate_test_clock(PG_FUNCTION_ARGS)
{
	if (!superuser())
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("must be superuser to stop the clock of rate limits")));
	tc_require_ready();
	if (PG_ARGISNULL(0))
		tc_rate_raise_null("ns");
	tc_rate_frozen_clock = Max(PG_GETARG_INT64(0), 0);
	PG_RETURN_INT64(tc_rate_now());
}

static const char *const place_names[] = {
	[TC_RATE_PLACE_NONE] = "none",	   [TC_RATE_PLACE_SPEND] = "spend",
	[TC_RATE_PLACE_NEW] = "new",	   [TC_RATE_PLACE_CHANGE] = "change",
	[TC_RATE_PLACE_ALL] = "all",	   [TC_RATE_PLACE_RESERVE] = "reserve",
	[TC_RATE_PLACE_WAIT] = "wait",	   [TC_RATE_PLACE_EVICT] = "evict",
	[TC_RATE_PLACE_REFUND] = "refund", [TC_RATE_PLACE_READ] = "read",
};

StaticAssertDecl(lengthof(place_names) == TC_RATE_PLACE_READ + 1, "a place has no name");

/*
 * rate_test_stop(place text) -> void: for tests, this session's process stops itself (SIGSTOP) the
 * next time it comes to that place
 */
Datum
tc_rate_test_stop(PG_FUNCTION_ARGS)
{
	char *place = tc_arg_text(fcinfo, 0, "place");

	if (!superuser())
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("must be superuser to have a process stopped")));
	tc_require_ready();
	for (size_t i = 0; i < lengthof(place_names); i++)
	{
		if (strcmp(place_names[i], place) != 0)
			continue;
		tc_rate_place = (TcRatePlace) i;
		PG_RETURN_VOID();
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid place \"%s\"", place),
			 errhint("Places are none, spend, new, change, all, reserve, wait, evict, refund, "
					 "read.")));
}
