/*
 * test_alternatives_core.c
 *		Which free slots are offered instead of the one that was wanted.
 */
#include "alternatives_core.h"
#include "unit.h"

#define MONDAY 9823
#define MINUTE INT64_C(60000000)
#define MAX 20

/* The strategies that are shipped. */
static const TcStrategy shipped[] = {
	{TC_SAME_DAY, 120, 0, 500, 300},   {TC_NEXT_WORKDAY, 0, 7, 250, 250},
	{TC_NEXT_WEEK, 0, 7, 150, 150},	   {TC_NEXT_AVAILABLE, 0, 7, 100, 100},
	{TC_FIRST_FREE, 0, 14, 0, 0},	   {TC_PREFERRED_DAY, 0, 0, 500, 300},
	{TC_PREFERRED_OTHER, 0, 14, 0, 0},
};

/* A moment without daylight saving. */
static TcMoment
moment(int32_t day, int32_t minute)
{
	return (TcMoment){((int64_t) day * TC_DAY_MINUTES + minute) * MINUTE, day, minute};
}

/* Monday to Friday, but not the Tuesday after MONDAY. */
static bool
workday(int32_t day, const void *arg)
{
	(void) arg;
	return day % 7 != (MONDAY + 5) % 7 && day % 7 != (MONDAY + 6) % 7 && day != MONDAY + 1;
}

static TcAlternativesRequest
request_of(TcMoment wanted, int count)
{
	return (TcAlternativesRequest){.wanted = wanted,
								   .strategies = shipped,
								   .nstrategies = 7,
								   .wanted_count = count,
								   .is_workday = workday};
}

/* The wanted time itself is never offered, though it is free: somebody refused it. */
static void
test_never_the_refused(void)
{
	TcMoment slots[] = {moment(MONDAY, 600)};
	TcAlternativesRequest request = request_of(slots[0], 2);
	TcAlternative chosen[MAX];

	CHECK_INT(tc_alternatives_choose(&request, slots, 1, chosen), 0);
}

static void
test_same_day(void)
{
	/* wanted 14:00; free 11:00 (too far), 12:30, 13:45, 14:30, 16:00, 16:15 (too far) */
	TcMoment slots[] = {moment(MONDAY, 660), moment(MONDAY, 750), moment(MONDAY, 825),
						moment(MONDAY, 870), moment(MONDAY, 960), moment(MONDAY, 975)};
	TcAlternativesRequest request = request_of(moment(MONDAY, 840), 4);
	TcAlternative chosen[MAX];

	CHECK_INT(tc_alternatives_choose(&request, slots, 6, chosen), 4);
	CHECK_INT(chosen[0].slot, 3); /* 10000 - 30 + 500 */
	CHECK_INT(chosen[0].score, 10470);
	CHECK_INT(chosen[1].slot, 4); /* 10000 - 120 + 500 */
	CHECK_INT(chosen[1].score, 10380);
	CHECK_INT(chosen[2].slot, 2); /* 10000 - 15 + 300 */
	CHECK_INT(chosen[2].score, 10285);
	CHECK_INT(chosen[3].slot, 1);
}

/* Before noon earlier times are liked better. */
static void
test_before_noon(void)
{
	TcMoment slots[] = {moment(MONDAY, 540), moment(MONDAY, 660)};
	TcAlternativesRequest request = request_of(moment(MONDAY, 600), 2);
	TcAlternative chosen[MAX];

	CHECK_INT(tc_alternatives_choose(&request, slots, 2, chosen), 2);
	CHECK_INT(chosen[0].slot, 0);
	CHECK_INT(chosen[0].score, 10440);
	CHECK_INT(chosen[1].score, 10240);
}

/* The holiday on Tuesday is passed over; the same weekday of the next week comes after that. */
static void
test_other_days(void)
{
	TcMoment slots[] = {moment(MONDAY + 1, 600), moment(MONDAY + 2, 600), moment(MONDAY + 3, 480),
						moment(MONDAY + 7, 600)};
	TcAlternativesRequest request = request_of(moment(MONDAY, 600), 3);
	TcAlternative chosen[MAX];

	CHECK_INT(tc_alternatives_choose(&request, slots, 4, chosen), 3);
	CHECK_INT(chosen[0].slot, 1);
	CHECK_INT(chosen[0].kind, TC_NEXT_WORKDAY);
	CHECK_INT(chosen[0].score, 10000 - 2880 + 250);
	CHECK_INT(chosen[1].slot, 2);
	CHECK_INT(chosen[1].kind, TC_NEXT_AVAILABLE);
	CHECK_INT(chosen[2].slot, 3);
	CHECK_INT(chosen[2].kind, TC_NEXT_WEEK);
}

static void
test_first_free(void)
{
	TcMoment slots[] = {moment(MONDAY - 1, 600), moment(MONDAY + 12, 600),
						moment(MONDAY + 15, 600)};
	TcAlternativesRequest request = request_of(moment(MONDAY, 600), 3);
	TcAlternative chosen[MAX];

	CHECK_INT(tc_alternatives_choose(&request, slots, 3, chosen), 1);
	CHECK_INT(chosen[0].slot, 1);
	CHECK_INT(chosen[0].kind, TC_FIRST_FREE);
}

/* Preferred hours: this day, then others, and nothing beside them. */
static void
test_preference(void)
{
	TcMoment slots[] = {moment(MONDAY, 630), moment(MONDAY, 900), moment(MONDAY + 4, 960),
						moment(MONDAY + 1, 600)};
	TcAlternativesRequest request = request_of(moment(MONDAY, 600), 4);
	TcAlternative chosen[MAX];

	request.prefers = true;
	request.prefers_from = 840;
	request.prefers_to = 1020;
	CHECK_INT(tc_alternatives_choose(&request, slots, 4, chosen), 2);
	CHECK_INT(chosen[0].slot, 1);
	CHECK_INT(chosen[0].kind, TC_PREFERRED_DAY);
	CHECK_INT(chosen[1].slot, 2);
	CHECK_INT(chosen[1].kind, TC_PREFERRED_OTHER);
}

/* Against all subsets of a small world: never the wanted one, none twice, as many as there are. */
static void
test_all_subsets(void)
{
	TcMoment all[10];

	for (int i = 0; i < 10; i++)
		all[i] = moment(MONDAY + i / 3 * 2, 480 + 75 * i);
	for (int subset = 0; subset < 1024; subset++)
	{
		TcAlternativesRequest request = request_of(all[4], 1 + subset % 5);
		TcMoment slots[10];
		TcAlternative chosen[MAX];
		int count = 0;
		int found;

		for (int i = 0; i < 10; i++)
		{
			if (subset & 1 << i)
				slots[count++] = all[i];
		}
		found = tc_alternatives_choose(&request, slots, count, chosen);
		CHECK(found <= request.wanted_count);
		for (int i = 0; i < found; i++)
		{
			CHECK(slots[chosen[i].slot].at != all[4].at);
			CHECK(i == 0 || chosen[i].score <= chosen[i - 1].score);
			for (int k = 0; k < i; k++)
				CHECK(chosen[k].slot != chosen[i].slot);
		}
	}
}

static void
test_names(void)
{
	for (int kind = 0; kind < TC_N_STRATEGIES; kind++)
		CHECK_INT(tc_strategy_of(tc_strategy_name((TcStrategyKind) kind)), kind);
	CHECK_INT(tc_strategy_of("tomorrow"), TC_N_STRATEGIES);
}

/* Never a workday. */
static bool
holiday(int32_t day, const void *arg)
{
	(void) day;
	(void) arg;
	return false;
}

/* Where nobody works, the next workday has no slot. */
static void
test_no_workday(void)
{
	TcMoment slots[] = {moment(MONDAY + 1, 600), moment(MONDAY + 2, 600)};
	TcStrategy unknown = {TC_N_STRATEGIES, 0, 7, 0, 0};
	TcAlternativesRequest request = request_of(moment(MONDAY, 600), 2);
	TcAlternative chosen[MAX];

	request.is_workday = holiday;
	request.strategies = shipped + 1; /* the next workday alone */
	request.nstrategies = 1;
	CHECK_INT(tc_alternatives_choose(&request, slots, 2, chosen), 0);
	request.strategies = &unknown;
	CHECK_INT(tc_alternatives_choose(&request, slots, 2, chosen), 0);
}

int
main(void)
{
	RUN(test_never_the_refused);
	RUN(test_same_day);
	RUN(test_before_noon);
	RUN(test_other_days);
	RUN(test_first_free);
	RUN(test_preference);
	RUN(test_all_subsets);
	RUN(test_names);
	RUN(test_no_workday);
	return unit_summary();
}
