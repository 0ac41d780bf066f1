/*
 * test_hours_core.c
 *		Opening hours and holidays.
 */
#include "hours_core.h"
#include "unit.h"

#define H(hour) ((hour) *3600)

/* 2026-11-23, a Monday, in days since 2000-01-01. */
#define MONDAY 9823

static const TcOpening week[] = {{1, H(8), H(12)},
								 {1, H(12), H(18)},
								 {2, H(8), H(12)},
								 {2, H(14), H(18)},
								 {6, H(20), H(24)}};

/* Is it open on that day from one hour to another? */
static bool
open_at(const TcHours *hours, int32_t day, int32_t from, int32_t to)
{
	TcLocalSpan span = {day, from, day, to};

	return tc_hours_open(hours, &span);
}

static void
test_weekday(void)
{
	CHECK_INT(tc_weekday(0), 6); /* 2000-01-01 was a Saturday */
	CHECK_INT(tc_weekday(1), 7);
	CHECK_INT(tc_weekday(2), 1);
	CHECK_INT(tc_weekday(-1), 5);
	CHECK_INT(tc_weekday(-7), 6);
	CHECK_INT(tc_weekday(MONDAY), 1);
}

static void
test_week(void)
{
	TcHours hours = {week, 5, NULL, 0};

	CHECK(open_at(&hours, MONDAY, H(8), H(9)));
	CHECK(open_at(&hours, MONDAY, H(11), H(13))); /* openings that touch are one */
	CHECK(open_at(&hours, MONDAY, H(8), H(18)));
	CHECK(!open_at(&hours, MONDAY, H(8) - 1, H(9)));
	CHECK(!open_at(&hours, MONDAY, H(17), H(18) + 1));
	CHECK(!open_at(&hours, MONDAY + 1, H(11), H(13))); /* the lunch break */
	CHECK(open_at(&hours, MONDAY + 1, H(14), H(15)));
	CHECK(!open_at(&hours, MONDAY + 2, H(9), H(10))); /* no row: closed */
}

static void
test_midnight(void)
{
	TcHours hours = {week, 5, NULL, 0};
	TcLocalSpan to_midnight = {MONDAY + 5, H(23), MONDAY + 6, 0};
	TcLocalSpan beyond = {MONDAY + 5, H(23), MONDAY + 6, 1};

	CHECK(tc_hours_open(&hours, &to_midnight));
	CHECK(!tc_hours_open(&hours, &beyond));
}

static void
test_holidays(void)
{
	TcOpening days[] = {{MONDAY, 0, 0}, {MONDAY + 2, H(10), H(11)}};
	TcHours hours = {week, 5, days, 2};
	TcHours without_week = {NULL, 0, days, 2};

	CHECK(!open_at(&hours, MONDAY, H(9), H(10)));
	CHECK(open_at(&hours, MONDAY + 2, H(10), H(11))); /* open though the weekday is not */
	CHECK(!open_at(&hours, MONDAY + 2, H(10), H(12)));
	CHECK(open_at(&hours, MONDAY + 7, H(9), H(10)));
	CHECK(!open_at(&without_week, MONDAY, H(9), H(10)));
	CHECK(open_at(&without_week, MONDAY + 1, H(3), H(4))); /* no hours kept: the calendar decides */
}

static void
test_workdays(void)
{
	TcOpening days[] = {{MONDAY, 0, 0}, {MONDAY + 6, H(10), H(11)}};
	TcHours hours = {week, 5, days, 2};
	TcHours none = {NULL, 0, NULL, 0};

	CHECK(!tc_hours_workday(&hours, MONDAY));
	CHECK(tc_hours_workday(&hours, MONDAY + 1));
	CHECK(!tc_hours_workday(&hours, MONDAY + 2));
	CHECK(tc_hours_workday(&hours, MONDAY + 5)); /* a Saturday with hours */
	CHECK(tc_hours_workday(&hours, MONDAY + 6)); /* a Sunday that is opened once */
	CHECK(tc_hours_workday(&hours, MONDAY + 7));
	CHECK(tc_hours_workday(&none, MONDAY + 4));
	CHECK(!tc_hours_workday(&none, MONDAY + 5));
}

int
main(void)
{
	RUN(test_weekday);
	RUN(test_week);
	RUN(test_midnight);
	RUN(test_holidays);
	RUN(test_workdays);
	return unit_summary();
}
