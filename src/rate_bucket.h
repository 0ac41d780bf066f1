/*
 * rate_bucket.h
 *		What is asked of buckets, one or several; within the rate module.
 */
#ifndef TC_RATE_BUCKET_H
#define TC_RATE_BUCKET_H

#include "postgres.h"

#include "rate_subject.h"
#include "rate_table.h"
#include "rate_ticket.h"

/* What is asked of a bucket. */
typedef struct TcRateAsk
{
	int64 cost;
	int64 max_wait;			/* ns */
	bool peek;				/* look only */
	bool brief;				/* only allowed and reason matter */
	bool low;				/* low priority */
	TcRateTickets *tickets; /* NULL: none wanted */
} TcRateAsk;

extern bool tc_rate_fits(const TcRateEntry *entry, const TcRateLimit *limit, int64 now);
extern void tc_rate_refresh(TcRateEntry *entry, const TcRateLimit *limit, int64 now);
extern void tc_rate_describe(const TcRateMath *math, TcRateState state, int64 now,
							 const TcRateAsk *ask, TcTakeResult *result);
extern void tc_rate_count_refusal(TcRateEntry *entry);
extern void tc_rate_no_room(const TcRateLimit *limit, TcTakeResult *result);
extern void tc_rate_unavailable(const TcRateLimit *limit, TcTakeResult *result);
extern void tc_rate_not_entered(const TcRateLimit *limit, TcTakeReason why, TcTakeResult *result);
extern void tc_rate_disabled(TcTakeResult *result);
extern void tc_rate_ask(const TcRateLimit *limit, const TcRateSubject *subject,
						const TcRateAsk *ask, TcTakeResult *result);

#endif /* TC_RATE_BUCKET_H */
