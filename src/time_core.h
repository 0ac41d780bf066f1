/*
 * time_core.h
 *		Times as vendors write them: ISO 8601 and HTTP dates.  Pure C.
 *
 * A time is a number of microseconds since 1970-01-01 00:00 UTC, without leap seconds.
 */
#ifndef TC_TIME_CORE_H
#define TC_TIME_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TC_TIME_NONE INT64_MIN /* no time was given */
#define TC_TIME_SECOND INT64_C(1000000)
#define TC_TIME_ISO_LEN 24 /* 2026-11-23T09:00:00.000Z, without the final zero */

/*
 * 2026-11-23T09:00[:00[.000]] with Z, +02:00, +0200 or +02; years 1 to 9999.  False for anything
 * else, a time without a zone included.
 */
extern bool tc_time_parse_iso(const char *text, size_t len, int64_t *time);

/* Is it a date YYYY-MM-DD that exists? */
extern bool tc_time_is_date(const char *text, size_t len);

/* Writes the time in UTC with milliseconds and a final zero; false outside of years 1 to 9999. */
extern bool tc_time_print_iso(int64_t time, char out[TC_TIME_ISO_LEN + 1]);

/* An HTTP date in its one current form, Mon, 23 Nov 2026 09:00:00 GMT. */
extern bool tc_time_parse_http(const char *text, size_t len, int64_t *time);

#endif /* TC_TIME_CORE_H */
