/*
 * calcom_limit_core.h
 *		Cal.com: what the headers of an answer say about limits.  Pure C.
 *
 * X-RateLimit-{Limit,Remaining,Reset}, with or without a name behind it (-Default, or that of a
 * limit of the key's own), and Retry-After in seconds or as an HTTP date.  A reset below 10^9 is a
 * number of seconds, below 10^11 a unix time in seconds, above that one in milliseconds.
 */
#ifndef TC_CALCOM_LIMIT_CORE_H
#define TC_CALCOM_LIMIT_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TC_CALCOM_LONGEST_WAIT INT64_C(3600000000) /* µs: nothing that a header says is longer */

/* The tightest of what an answer's headers said; times of time_core.h, between now and the longest
 * wait from now. */
typedef struct TcCalcomLimits
{
	int64_t limit;	   /* requests in a window, -1: not said */
	int64_t remaining; /* -1: not said */
	int64_t reset;	   /* when the window ends, TC_TIME_NONE: not said */
	int64_t retry;	   /* Retry-After, TC_TIME_NONE: not said */
} TcCalcomLimits;

/* Nothing said yet. */
extern void tc_calcom_limits_init(TcCalcomLimits *limits);

/* Takes one header; false when it is no such header, or its value is no such value. */
extern bool tc_calcom_limit_header(const char *name, const char *value, int64_t now,
								   TcCalcomLimits *limits);

/* The same for a header line as it came, "Name: value" with or without its line end. */
extern bool tc_calcom_limit_line(const char *line, size_t len, int64_t now, TcCalcomLimits *limits);

/* Until when not to ask after a 429: the later of retry and reset, or now + otherwise (µs). */
extern int64_t tc_calcom_blocked_until(const TcCalcomLimits *limits, int64_t now,
									   int64_t otherwise);

#endif /* TC_CALCOM_LIMIT_CORE_H */
