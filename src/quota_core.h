/*
 * quota_core.h
 *		How many requests a peer admits in a window, kept on our side.  Pure C.
 *
 * A token bucket (rate_core.h) such that burst + window * rate stays below the limit: in no window
 * of that length, wherever it begins, do more requests start.  What the peer says of its limit only
 * ever tightens it.  It starts without tokens, since what was spent before is not known.
 */
#ifndef TC_QUOTA_CORE_H
#define TC_QUOTA_CORE_H

#include "rate_core.h"

typedef struct TcQuotaRules
{
	int64_t limit;	/* requests in a window; 0: no limit */
	int64_t burst;	/* of them at one moment */
	int64_t window; /* ns */
} TcQuotaRules;

typedef struct TcQuota
{
	TcQuotaRules rules; /* as configured */
	int64_t limit;		/* in force: the configured one, or what the peer said if that is less */
	TcRateMath math;
	TcRateState state;
	int64_t blocked_until; /* after a 429 */
	int64_t window_end;	   /* the peer's window, and what it had left in it */
	int64_t window_left;
	int strikes; /* 429s in a row */
} TcQuota;

/* What an answer says; -1: nothing.  Durations in ns from now. */
typedef struct TcQuotaNews
{
	int64_t limit, remaining;
	int64_t reset;	   /* until the peer's window ends */
	int64_t retry;	   /* Retry-After */
	bool refused;	   /* 429 */
	int64_t in_flight; /* requests of ours that the peer may not have counted yet */
} TcQuotaNews;

#define TC_QUOTA_NO_NEWS ((TcQuotaNews){-1, -1, -1, -1, false, 0})

extern void tc_quota_init(TcQuota *quota, const TcQuotaRules *rules, int64_t now);
/* Changed rules: what is left stays left, nothing is added. */
extern void tc_quota_configure(TcQuota *quota, const TcQuotaRules *rules, int64_t now);
/* Spends one, leaving at least `reserve` tokens to others. */
extern bool tc_quota_take(TcQuota *quota, int64_t now, int64_t reserve);
/* Nanoseconds until that will succeed if nobody else comes; 0: now. */
extern int64_t tc_quota_wait(const TcQuota *quota, int64_t now, int64_t reserve);
extern int64_t tc_quota_remaining(const TcQuota *quota, int64_t now);
extern void tc_quota_learn(TcQuota *quota, const TcQuotaNews *news, int64_t now);

#endif /* TC_QUOTA_CORE_H */
