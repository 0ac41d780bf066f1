/*
 * rate_core.h
 *		The arithmetic of a token bucket.  Pure C: time is an argument, nothing is allocated.
 *
 * A bucket is two numbers: `base`, an instant, and `s`, the virtual arrival time in sub-tokens
 * since base.  With V(t) for what the policy has refilled between base and t, it is full when
 * s <= V(t) and lacks (s - V(t)) otherwise.  Only `s` changes when tokens are spent: one CAS.
 */
#ifndef TC_RATE_CORE_H
#define TC_RATE_CORE_H

#include <stdbool.h>
#include <stdint.h>

#define TC_RATE_MAX_PERIOD (INT64_C(366) * 86400 * 1000000000) /* nanoseconds */
#define TC_RATE_FAR (INT64_C(1) << 62)						   /* stands for times beyond it */
#define TC_RATE_NEVER INT64_C(-1) /* retry_after of what can never be admitted */

typedef enum TcRateError
{
	TC_RATE_OK,
	TC_RATE_BAD_TOKENS, /* tokens < 1 */
	TC_RATE_BAD_PERIOD, /* period < 1 ns or > TC_RATE_MAX_PERIOD */
	TC_RATE_BAD_BURST,	/* burst < 1 or >= 2^59 */
	TC_RATE_TOO_FAST	/* more tokens an hour than the arithmetic holds, about 10^18 */
} TcRateError;

typedef struct TcRateMath /* a policy, prepared: `tokens` per `period`, bucket of `burst` */
{
	int64_t burst;
	int64_t unit;	  /* sub-tokens per token */
	int64_t num, den; /* num/den sub-tokens are refilled per nanosecond, in lowest terms */
	int64_t capacity; /* burst * unit, below 2^60 */
	int64_t horizon;  /* V(base + horizon) <= 2^60: rebase before that */
} TcRateMath;

typedef struct TcRateState
{
	int64_t base, s;
} TcRateState;

typedef struct TcRateView
{
	int64_t remaining;	 /* whole tokens that a request could have now */
	int64_t retry_after; /* 0: now; TC_RATE_NEVER: cost exceeds burst */
	int64_t reset_after; /* until full */
} TcRateView;

typedef enum TcRateChange /* what a change of policy makes of the tokens a bucket lacks */
{
	TC_RATE_PROPORTIONAL, /* it keeps its fill level */
	TC_RATE_RESET		  /* it becomes full */
} TcRateChange;

extern TcRateError tc_rate_setup(TcRateMath *math, int64_t tokens, int64_t period, int64_t burst);
/* May `cost` be spent now?  If so, *next is the new s.  False for costs outside 1..burst. */
extern bool tc_rate_admit(const TcRateMath *math, TcRateState state, int64_t now, int64_t cost,
						  int64_t *next);
/* The same, or after a wait: *delay is the longest allowed, and becomes what it takes. */
extern bool tc_rate_reserve(const TcRateMath *math, TcRateState state, int64_t now, int64_t cost,
							int64_t *delay, int64_t *next);
extern void tc_rate_view(const TcRateMath *math, TcRateState state, int64_t now, int64_t cost,
						 TcRateView *view);
/* The policy as it holds for low priority, which may not use the last `reserve` tokens. */
extern void tc_rate_low(const TcRateMath *math, int64_t reserve, TcRateMath *low);
/* What s becomes when a call is undone that left the state `after` behind; see rate_core.c. */
extern int64_t tc_rate_refund(const TcRateMath *math, TcRateState state, int64_t now,
							  TcRateState after, int64_t cost);
extern int64_t tc_rate_duration(const TcRateMath *math, int64_t amount);
/* What s becomes so that the bucket is not full for `span` ns; 0: so long cannot be expressed. */
extern int64_t tc_rate_pause(const TcRateMath *math, TcRateState state, int64_t now, int64_t span);
extern bool tc_rate_is_full(const TcRateMath *math, TcRateState state, int64_t now);
extern bool tc_rate_needs_rebase(const TcRateMath *math, TcRateState state, int64_t now);
extern void tc_rate_rebase(const TcRateMath *math, TcRateState *state, int64_t now);
/* Makes a bucket of `from`, valid until changed_at, one of `to`; and a wait for it. */
extern void tc_rate_convert(const TcRateMath *from, const TcRateMath *to, TcRateChange change,
							int64_t changed_at, int64_t now, TcRateState *state);
extern int64_t tc_rate_convert_wait(const TcRateMath *from, const TcRateMath *to, int64_t left);

#endif /* TC_RATE_CORE_H */
