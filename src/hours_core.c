/*
 * hours_core.c
 *		When a branch is open.  Pure C.
 *
 * A branch without opening hours is open whenever its calendar says so, holidays excepted.  A day
 * that has holiday rows follows these alone.  A span must lie in one day, or end at its midnight;
 * openings that touch ("8-12" and "12-18") count as one.  Days and seconds are what local clocks
 * show, so that days of 23 and 25 hours need no special case: the caller converts each end.
 */
#include "hours_core.h"

/* The weekday of a day. */
int
tc_weekday(int32_t day)
{
	int64_t monday = (int64_t) day + 5; /* 1999-12-27 was a Monday */

	return (int) (((monday % 7) + 7) % 7) + 1;
}

/* Do the openings of one day cover the span? */
static bool
covered(const TcOpening *openings, int count, int32_t day, const int32_t span[2])
{
	int32_t reached = span[0];
	bool grew = true;

	while (reached < span[1] && grew)
	{
		grew = false;
		for (int i = 0; i < count; i++)
		{
			if (openings[i].day == day && openings[i].opens <= reached &&
				openings[i].closes > reached)
			{
				reached = openings[i].closes;
				grew = true;
			}
		}
	}
	return reached >= span[1];
}

/* Is the branch open during all of the span? */
bool
tc_hours_open(const TcHours *hours, const TcLocalSpan *span)
{
	int32_t seconds[2] = {span->from_second, span->to_second};

	if (span->to_day == span->from_day + 1 && span->to_second == 0)
		seconds[1] = TC_DAY_SECONDS;
	else if (span->to_day != span->from_day)
		return hours->nweek == 0 && hours->nholidays == 0;
	for (int i = 0; i < hours->nholidays; i++)
	{
		if (hours->holidays[i].day == span->from_day)
			return covered(hours->holidays, hours->nholidays, span->from_day, seconds);
	}
	return hours->nweek == 0 ||
		   covered(hours->week, hours->nweek, tc_weekday(span->from_day), seconds);
}

/* Is there an opening on that day, or weekday? */
static bool
has_opening(const TcOpening *openings, int count, int32_t day, bool *mentioned)
{
	*mentioned = false;
	for (int i = 0; i < count; i++)
	{
		if (openings[i].day != day)
			continue;
		*mentioned = true;
		if (openings[i].closes > openings[i].opens)
			return true;
	}
	return false;
}

/* Does the branch work on that day? */
bool
tc_hours_workday(const TcHours *hours, int32_t day)
{
	bool mentioned;
	bool open = has_opening(hours->holidays, hours->nholidays, day, &mentioned);

	if (mentioned)
		return open;
	if (hours->nweek == 0)
		return tc_weekday(day) <= 5;
	return has_opening(hours->week, hours->nweek, tc_weekday(day), &mentioned);
}
