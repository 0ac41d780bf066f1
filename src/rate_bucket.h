/*
 * rate_bucket.h
 *		What is asked of buckets, one or several; within the rate module.
 */
#ifndef TC_RATE_BUCKET_H
#define TC_RATE_BUCKET_H

#include "postgres.h"

#include "rate_policy.h"
#include "rate_table.h"

#define TC_RATE_MAX_ITEMS 16 /* buckets asked at once */

typedef struct TcRateSubject
{
	uint32 level;
	uint64 subject[2];
	uint64 detail;
} TcRateSubject;

/* What a call has spent of one bucket, so that it can be undone. */
typedef struct TcRateTicket
{
	TcRateKey key;
	TcRateState after;
	int64 version;
	int64 cost;
	uint64 born;
	uint64 number;
	int64 given_back; /* by the bucket, when the ticket was issued */
	uint64 unordered; /* others may have been numbered otherwise than they spent */
} TcRateTicket;

typedef struct TcRateTickets
{
	int n;
	TcRateTicket item[TC_RATE_MAX_ITEMS];
} TcRateTickets;

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

/* rate_bucket.c */
extern void tc_rate_subject(const TcRateLimit *limit, const TcRateWho *who, TcRateSubject *subject);
extern void tc_rate_key(TcRateKey *key, const TcRateLimit *limit, const TcRateSubject *subject);
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

/* rate_ticket.c: notes what was spent (any lock); gives it back, whose turn was at an instant. */
extern void tc_rate_issue(TcRateEntry *entry, int64 after, uint64 seen, const TcRateAsk *ask);

typedef enum TcRateGiven
{
	TC_RATE_GIVEN_NOTHING, /* it was worth nothing */
	TC_RATE_GIVEN,
	TC_RATE_GIVEN_LATER /* the bucket could not be locked: the ticket is as good as before */
} TcRateGiven;

extern TcRateGiven tc_rate_give_back(const TcRateTicket *ticket, int64 turn);
extern void tc_rate_give_back_on_abort(const TcRateTickets *tickets);
/* As SQL has it: bound to the company it was issued to. */
extern bytea *tc_rate_ticket_encode(const TcRateTickets *tickets, const TcContext *tenant);

#endif /* TC_RATE_BUCKET_H */
