/*
 * call_over.c
 *		What becomes of the things that a call owns when it is over.
 *
 *		event of the end (calls.c), close_stuck_calls(), advance_call() --> tc_call_over()
 *			--> its holds are released
 *
 * Locks: rows of slot_holds, after the call's row.
 */
#include "postgres.h"

#include "call_over.h"
#include "holds.h"
#include "lifecycle.h"

#define ABANDONED "abandoned"

/* Is a call in that state over? */
bool
tc_call_state_over(const char *state)
{
	const TcLifecycle *lifecycle = tc_lifecycle_required("call");
	int now = tc_lifecycle_find(lifecycle, state, strlen(state));
	int abandoned = tc_lifecycle_find(lifecycle, ABANDONED, strlen(ABANDONED));

	if (now == TC_NO_STATE || tc_lifecycle_may_begin(lifecycle, now))
		return false;
	if (abandoned == TC_NO_STATE)
		return lifecycle->states[now].terminal;
	return !tc_lifecycle_may_move(lifecycle, now, abandoned);
}

/* A call came to its end. */
void
tc_call_over(int64 company_id, int64 call_id)
{
	tc_holds_release_call(company_id, call_id);
}
