/*
 * calls.h
 *		Merging the events of a call into its row.
 */
#ifndef TC_CALLS_H
#define TC_CALLS_H

#include "postgres.h"

#include "delivery.h"

/* Longest body that is parsed, in kB: setting tenantcall.calls_max_body. */
extern int tc_calls_max_body;

/* How long a function call may run before it can be run again, in s. */
extern int tc_calls_function_lease;

/* How far an inbound request and its call may be apart in time, in s; 0: they are not matched. */
extern int tc_calls_match_window;

typedef enum TcMergeOutcome
{
	TC_MERGE_APPLIED,
	TC_MERGE_DUPLICATE, /* this event was there already */
	TC_MERGE_MERGED,	/* came late or out of order, and was merged */
	TC_MERGE_CONFLICT	/* stored, but says what can no longer be */
} TcMergeOutcome;

typedef struct TcMergeResult
{
	TcMergeOutcome outcome;
	const char *reason;
	bool new_call;
	bool was_over;	/* before the event: ended, analyzed, or in a state in which it cannot go on */
	bool over;		/* after it */
	bool forgotten; /* its caller was: nothing that the event tells is to be kept */
	int64 call_id;
	int64 branch_id;
	char *status;
} TcMergeResult;

extern void tc_calls_init(void);

/*
 * Merges an event.  The caller acts for the call's company (act.h), whose row is locked until the
 * end of the transaction.  Raises on content that the tables refuse: call under tc_guard().
 */
extern void tc_calls_merge(const TcDelivery *delivery, const TcPlacement *placement,
						   TcMergeResult *result);

/* Records a decision of the company that is being acted for; its decision_id. */
extern int64 tc_calls_record(const TcDelivery *delivery, const TcPlacement *placement,
							 const char *outcome, const char *reason);

/* The call's id in the company that is being acted for; 0: no row yet. */
extern int64 tc_calls_find(const char *provider_call_id);

/* The provider's id of a call of that company, or NULL. */
extern char *tc_calls_provider_id(int64 call_id);

#endif /* TC_CALLS_H */
