/*
 * breaker_core.h
 *		A circuit breaker: a peer that fails is left alone for a while.  Pure C.
 *
 *		closed --n failures in a row, or a denial--> open --after a while--> half open
 *		half open --m successes, one request at a time--> closed;  --a failure--> open
 */
#ifndef TC_BREAKER_CORE_H
#define TC_BREAKER_CORE_H

#include <stdbool.h>
#include <stdint.h>

typedef enum TcBreakerState
{
	TC_BREAKER_CLOSED,
	TC_BREAKER_OPEN,
	TC_BREAKER_HALF_OPEN
} TcBreakerState;

typedef enum TcBreakerOutcome
{
	TC_BREAKER_SUCCESS, /* the peer works, whatever it has said */
	TC_BREAKER_FAILURE,
	TC_BREAKER_DENIED, /* the key is refused: opens at once */
	TC_BREAKER_NEUTRAL /* says nothing of the peer */
} TcBreakerOutcome;

typedef struct TcBreakerRules
{
	int failures;  /* in a row, after which it opens */
	int successes; /* after which it closes */
	int64_t pause; /* ns that it stays open */
} TcBreakerRules;

/* Zeroed: closed. */
typedef struct TcBreaker
{
	TcBreakerState state;
	bool held;	   /* opened by hand: stays open */
	int count;	   /* failures while closed, successes while half open */
	int probes;	   /* requests under way while half open */
	int64_t since; /* when it came into this state */
} TcBreaker;

/* May a request start?  If not, *wait is how long at least (ns; INT64_MAX: until told). */
extern bool tc_breaker_admit(TcBreaker *breaker, const TcBreakerRules *rules, int64_t now,
							 int64_t *wait);
/* Each admitted request has one outcome. */
extern void tc_breaker_report(TcBreaker *breaker, const TcBreakerRules *rules,
							  TcBreakerOutcome outcome, int64_t now);
/* Opens it until told otherwise, or closes it. */
extern void tc_breaker_set(TcBreaker *breaker, bool open, int64_t now);
/* The requests under way are gone and will report nothing. */
extern void tc_breaker_restart(TcBreaker *breaker);

#endif /* TC_BREAKER_CORE_H */
