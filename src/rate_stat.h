/*
 * rate_stat.h
 *		What the table of buckets says of itself; within the rate module.
 */
#ifndef TC_RATE_STAT_H
#define TC_RATE_STAT_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "rate_table.h"

/* A copy of an entry, or of what entries had counted that made way (math.burst is 0). */
typedef struct TcRateBucket
{
	TcRateKey key;
	int64 version;
	bool shadow;
	bool paused;
	TcRateMath math;
	TcRateState state;
	int64 allowed;
	int64 denied;
	int64 would_deny;
	TimestampTz last_denied_at; /* 0: never */
	int64 waited;
	int64 refunded; /* tokens, like the next */
	int64 forgiven;
} TcRateBucket;

#define TC_RATE_READ_AT_ONCE 128 /* slots looked at under one hold of a lock */

/* Counts of the whole table since the start of the server. */
typedef struct TcRateTableStat
{
	int64 max_buckets;
	int64 used;
	int64 evicted;
	int64 evicted_allowed; /* counters of the evicted buckets, kept here */
	int64 evicted_denied;
	int64 evicted_would_deny;
	int64 refused;	/* for want of room */
	int64 passed;	/* the same, but let pass */
	int64 forced;	/* buckets that were not full and made way */
	int64 forgiven; /* tokens that these lacked */
	int64 unavailable;
} TcRateTableStat;

/* InvalidOid: of all databases. */
extern int tc_rate_read(uint64 *position, Oid database, TcRateBucket buckets[TC_RATE_READ_AT_ONCE]);
extern void tc_rate_reset_counts(Oid database);
extern void tc_rate_table_stat(TcRateTableStat *stat);

#endif /* TC_RATE_STAT_H */
