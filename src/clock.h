/*
 * clock.h
 *		The time that only goes forward: neither set nor corrected by anybody.
 */
#ifndef TC_CLOCK_H
#define TC_CLOCK_H

#include "postgres.h"

#include <time.h>

/* On Linux time in suspend counts too. */
#ifdef CLOCK_BOOTTIME
#define TC_CLOCK CLOCK_BOOTTIME
#else
#define TC_CLOCK CLOCK_MONOTONIC
#endif

/* Nanoseconds since some moment of this boot; the same in all processes. */
static inline int64
tc_clock_ns(void)
{
	struct timespec now;

	clock_gettime(TC_CLOCK, &now);
	return (int64) now.tv_sec * INT64CONST(1000000000) + now.tv_nsec;
}

/* The same in microseconds. */
static inline int64
tc_clock_us(void)
{
	return tc_clock_ns() / 1000;
}

#endif /* TC_CLOCK_H */
