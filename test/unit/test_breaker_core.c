/* Unit test of breaker_core.c. */
#include "breaker_core.h"
#include "unit.h"

#define S INT64_C(1000000000)

static const TcBreakerRules rules = {5, 2, 60 * S};

/* Admits a request and reports its outcome. */
static bool
ask(TcBreaker *breaker, TcBreakerOutcome outcome, int64_t now)
{
	int64_t wait;

	if (!tc_breaker_admit(breaker, &rules, now, &wait))
		return false;
	tc_breaker_report(breaker, &rules, outcome, now);
	return true;
}

/* The whole way round. */
static void
test_round(void)
{
	TcBreaker breaker = {0};
	int64_t wait;

	for (int i = 0; i < 4; i++)
		CHECK(ask(&breaker, TC_BREAKER_FAILURE, i));
	CHECK(ask(&breaker, TC_BREAKER_SUCCESS, 4));
	for (int i = 0; i < 5; i++)
		CHECK(ask(&breaker, TC_BREAKER_FAILURE, S));
	CHECK_INT(breaker.state, TC_BREAKER_OPEN);
	CHECK(!tc_breaker_admit(&breaker, &rules, 11 * S, &wait));
	CHECK_INT(wait, 50 * S);
	CHECK(tc_breaker_admit(&breaker, &rules, 61 * S, &wait));
	CHECK_INT(breaker.state, TC_BREAKER_HALF_OPEN);
	CHECK(!tc_breaker_admit(&breaker, &rules, 61 * S, &wait));
	CHECK_INT(wait, 0);
	tc_breaker_report(&breaker, &rules, TC_BREAKER_SUCCESS, 62 * S);
	CHECK_INT(breaker.state, TC_BREAKER_HALF_OPEN);
	CHECK(ask(&breaker, TC_BREAKER_SUCCESS, 63 * S));
	CHECK_INT(breaker.state, TC_BREAKER_CLOSED);
	CHECK_INT(breaker.since, 63 * S);
}

/* A probe that fails opens it again; one that says nothing leaves it as it is. */
static void
test_probe(void)
{
	TcBreaker breaker = {0};
	int64_t wait;

	CHECK(ask(&breaker, TC_BREAKER_DENIED, 0));
	CHECK_INT(breaker.state, TC_BREAKER_OPEN);
	CHECK(!ask(&breaker, TC_BREAKER_SUCCESS, 59 * S));
	CHECK(ask(&breaker, TC_BREAKER_NEUTRAL, 60 * S));
	CHECK_INT(breaker.state, TC_BREAKER_HALF_OPEN);
	CHECK(ask(&breaker, TC_BREAKER_FAILURE, 61 * S));
	CHECK_INT(breaker.state, TC_BREAKER_OPEN);
	CHECK(!ask(&breaker, TC_BREAKER_SUCCESS, 120 * S));
	CHECK(tc_breaker_admit(&breaker, &rules, 121 * S, &wait));
	tc_breaker_restart(&breaker);
	CHECK(tc_breaker_admit(&breaker, &rules, 121 * S, &wait));
}

/* What began before it opened changes nothing. */
static void
test_late(void)
{
	TcBreaker breaker = {0};

	CHECK(ask(&breaker, TC_BREAKER_DENIED, 0));
	tc_breaker_report(&breaker, &rules, TC_BREAKER_SUCCESS, S);
	tc_breaker_report(&breaker, &rules, TC_BREAKER_FAILURE, 30 * S);
	CHECK_INT(breaker.state, TC_BREAKER_OPEN);
	CHECK_INT(breaker.since, 0);
}

/* By hand. */
static void
test_set(void)
{
	TcBreaker breaker = {0};
	int64_t wait;

	tc_breaker_set(&breaker, true, 0);
	CHECK(!tc_breaker_admit(&breaker, &rules, 1000 * S, &wait));
	CHECK(wait == INT64_MAX);
	tc_breaker_set(&breaker, false, 0);
	CHECK(ask(&breaker, TC_BREAKER_SUCCESS, 0));
	CHECK(!breaker.held);
}

int
main(void)
{
	RUN(test_round);
	RUN(test_probe);
	RUN(test_late);
	RUN(test_set);
	return unit_summary();
}
