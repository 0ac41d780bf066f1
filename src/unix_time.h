/*
 * unix_time.h
 *		Times of the server, and those of the cores: microseconds since 1970.
 */
#ifndef TC_UNIX_TIME_H
#define TC_UNIX_TIME_H

#include "postgres.h"

#include "datatype/timestamp.h"

#define TC_UNIX_EPOCH ((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

/* A finite time as the cores have it, and back. */
static inline int64
tc_unix_time(TimestampTz at)
{
	return at + TC_UNIX_EPOCH;
}

static inline TimestampTz
tc_server_time(int64 unix_us)
{
	return unix_us - TC_UNIX_EPOCH;
}

#endif /* TC_UNIX_TIME_H */
