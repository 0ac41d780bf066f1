/*
 * call_over.c
 *		What becomes of the things that a call owns when it is over.
 *
 *		event of the end (calls.c), close_stuck_calls(), advance_call() --> tc_call_over()
 *			--> its holds are released (its lease: lease_follow.c)
 *
 * Locks: rows of slot_holds, after the call's row.
 */
#include "postgres.h"

#include "call_over.h"
#include "holds.h"

/* A call came to its end. */
void
tc_call_over(int64 company_id, int64 call_id)
{
	tc_holds_release_call(company_id, call_id);
}
