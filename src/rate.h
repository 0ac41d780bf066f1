/*
 * rate.h
 *		Rate limits, for the other modules.
 */
#ifndef TC_RATE_H
#define TC_RATE_H

#include "postgres.h"

#include "utils/jsonb.h"

#include "context_core.h"

typedef enum TcTakeReason
{
	TC_TAKE_OK,
	TC_TAKE_LIMITED,			/* too few tokens now */
	TC_TAKE_WOULD_DENY,			/* the same in shadow mode: allowed */
	TC_TAKE_COST_EXCEEDS_BURST, /* can never be admitted */
	TC_TAKE_TABLE_FULL,			/* no room for another bucket; rate_full says what happens */
	TC_TAKE_DISABLED,			/* the policy is disabled: allowed */
	TC_TAKE_UNAVAILABLE,		/* its bucket could not be locked in time */
	TC_TAKE_PAUSED				/* by a refusal of before; nothing is admitted until it is over */
} TcTakeReason;

typedef struct TcTakeResult
{
	bool allowed;
	TcTakeReason reason;
	int64 quota;		/* burst; -1 if the policy is disabled */
	int64 remaining;	/* tokens left; -1 as above */
	int64 retry_after;	/* ns until it would be admitted; 0 if it was, TC_RATE_NEVER if never */
	int64 reset_after;	/* ns until full */
	int64 waited;		/* ns to be slept before going on, if the caller allowed a wait */
	int64 window;		/* ns in which a full bucket is refilled; 0: not told */
	uint64 receipt;		/* see tc_rate_untake() */
	const char *policy; /* whose numbers these are, of several; NULL: not told */
} TcTakeResult;

/* A call of a voice platform, in which a function is called. */
typedef struct TcRateCall
{
	const TcContext *tenant;
	const char *call;
	const char *function;
} TcRateCall;

extern void tc_rate_init(void);

/*
 * Spends `cost` tokens of the company's bucket (0: the bucket shared by unknown callers).  Raises
 * PT404 for an unknown policy and 22023 for a cost below 1; a refusal is a result.
 */
extern void tc_rate_take(const char *policy, int64 company_id, int64 cost, TcTakeResult *result);

/*
 * Spends one token, together with one of a guard, a policy that counts by calls and their
 * functions: all or nothing.  If the table has no room for the guard's buckets, the policy decides
 * alone.
 */
extern void tc_rate_take_guarded(const char *policy, const char *guard, const TcRateCall *call,
								 TcTakeResult *result);

/* Gives back what this backend has spent last, if it was this: it was for nothing. */
extern void tc_rate_untake(const TcTakeResult *result);

/* HTTP headers that tell the caller of the limit; whole seconds, rounded up. */
extern Jsonb *tc_rate_headers(const TcTakeResult *result);

/* The reason as SQL shows it; NULL for TC_TAKE_OK. */
extern const char *tc_take_reason_name(TcTakeReason reason);

#endif /* TC_RATE_H */
