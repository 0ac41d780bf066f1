/*
 * rate_clock.h
 *		The time that buckets go by.
 */
#ifndef TC_RATE_CLOCK_H
#define TC_RATE_CLOCK_H

#include "postgres.h"

#include "clock.h"

extern int64 tc_rate_frozen_clock; /* rate_table.c: for tests, this session's time unless 0 */

/* The time that buckets go by. */
static inline int64
tc_rate_now(void)
{
	return likely(tc_rate_frozen_clock == 0) ? tc_clock_ns() : tc_rate_frozen_clock;
}

#endif /* TC_RATE_CLOCK_H */
