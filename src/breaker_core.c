/*
 * breaker_core.c
 *		A circuit breaker: a peer that fails is left alone for a while.
 */
#include "breaker_core.h"

/* Comes into a state. */
static void
enter(TcBreaker *breaker, TcBreakerState state, int64_t now)
{
	breaker->state = state;
	breaker->count = 0;
	breaker->probes = 0;
	breaker->since = now;
}

/* May a request start? */
bool
tc_breaker_admit(TcBreaker *breaker, const TcBreakerRules *rules, int64_t now, int64_t *wait)
{
	*wait = 0;
	if (breaker->state == TC_BREAKER_CLOSED)
		return true;
	if (breaker->held)
	{
		*wait = INT64_MAX;
		return false;
	}
	if (breaker->state == TC_BREAKER_OPEN)
	{
		*wait = breaker->since + rules->pause - now;
		if (*wait > 0)
			return false;
		*wait = 0;
		enter(breaker, TC_BREAKER_HALF_OPEN, now);
	}
	if (breaker->probes > 0)
		return false;
	breaker->probes++;
	return true;
}

/* Takes the outcome of a request while half open. */
static void
report_probe(TcBreaker *breaker, const TcBreakerRules *rules, TcBreakerOutcome outcome, int64_t now)
{
	if (breaker->probes > 0)
		breaker->probes--;
	if (outcome == TC_BREAKER_FAILURE || outcome == TC_BREAKER_DENIED)
		enter(breaker, TC_BREAKER_OPEN, now);
	else if (outcome == TC_BREAKER_SUCCESS && ++breaker->count >= rules->successes)
		enter(breaker, TC_BREAKER_CLOSED, now);
}

/* Takes the outcome of a request; of one that began before it opened, nothing. */
void
tc_breaker_report(TcBreaker *breaker, const TcBreakerRules *rules, TcBreakerOutcome outcome,
				  int64_t now)
{
	if (breaker->state == TC_BREAKER_HALF_OPEN)
		report_probe(breaker, rules, outcome, now);
	else if (breaker->state == TC_BREAKER_CLOSED)
	{
		if (outcome == TC_BREAKER_SUCCESS)
			breaker->count = 0;
		else if (outcome == TC_BREAKER_FAILURE)
			breaker->count++;
		if (outcome == TC_BREAKER_DENIED || breaker->count >= rules->failures)
			enter(breaker, TC_BREAKER_OPEN, now);
	}
}

/* Opens it until told otherwise, or closes it. */
void
tc_breaker_set(TcBreaker *breaker, bool open, int64_t now)
{
	enter(breaker, open ? TC_BREAKER_OPEN : TC_BREAKER_CLOSED, now);
	breaker->held = open;
}

/* The requests under way are gone. */
void
tc_breaker_restart(TcBreaker *breaker)
{
	breaker->probes = 0;
}
