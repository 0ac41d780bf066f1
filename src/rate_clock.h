/*
 * rate_clock.h
 *		The time that buckets go by.
 */
#ifndef TC_RATE_CLOCK_H
#define TC_RATE_CLOCK_H

#include "postgres.h"

#include <time.h>

#ifdef CLOCK_BOOTTIME
#define TC_RATE_CLOCK CLOCK_BOOTTIME /* goes on while the machine sleeps */
#else
#define TC_RATE_CLOCK CLOCK_MONOTONIC
#endif

extern int64 tc_rate_frozen_clock; /* rate_table.c: for tests, this session's time unless 0 */

/* Nanoseconds since the machine started, whatever the wall clock. */
static inline int64
tc_rate_clock(void)
{
	struct timespec now;

	clock_gettime(TC_RATE_CLOCK, &now);
	return (int64) now.tv_sec * INT64CONST(1000000000) + now.tv_nsec;
}

/* The time that buckets go by. */
static inline int64
tc_rate_now(void)
{
	return likely(tc_rate_frozen_clock == 0) ? tc_rate_clock() : tc_rate_frozen_clock;
}

#endif /* TC_RATE_CLOCK_H */
