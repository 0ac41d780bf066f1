/*
 * hours_core.h
 *		When a branch is open.  Pure C.
 */
#ifndef TC_HOURS_CORE_H
#define TC_HOURS_CORE_H

#include <stdbool.h>
#include <stdint.h>

#define TC_DAY_SECONDS 86400

/* A span of one local day, in seconds since its midnight as clocks show it. */
typedef struct TcOpening
{
	int32_t day;	/* weekday 1 (Monday) to 7; or, of a holiday, days since 2000-01-01 */
	int32_t opens;	/* opens == closes: not open at all */
	int32_t closes; /* up to 86400 */
} TcOpening;

typedef struct TcHours
{
	const TcOpening
		*week; /* none: the branch keeps no hours, and is open whenever the calendar is */
	int nweek;
	const TcOpening *holidays; /* other hours of single days, which replace those of the weekday */
	int nholidays;
} TcHours;

/* A span of local time: the days and the clocks' readings at its ends. */
typedef struct TcLocalSpan
{
	int32_t from_day, from_second;
	int32_t to_day, to_second;
} TcLocalSpan;

/* The weekday of a day since 2000-01-01, which was a Saturday. */
extern int tc_weekday(int32_t day);

/* Is the branch open during all of the span? */
extern bool tc_hours_open(const TcHours *hours, const TcLocalSpan *span);

/* Does the branch work on that day?  One without opening hours does from Monday to Friday. */
extern bool tc_hours_workday(const TcHours *hours, int32_t day);

#endif /* TC_HOURS_CORE_H */
