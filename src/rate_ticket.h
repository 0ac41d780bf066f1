/*
 * rate_ticket.h
 *		Tickets for what was spent; within the rate module.
 */
#ifndef TC_RATE_TICKET_H
#define TC_RATE_TICKET_H

#include "postgres.h"

#include "context_core.h"
#include "rate_table.h"

#define TC_RATE_MAX_ITEMS 16 /* buckets asked at once */

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

typedef enum TcRateGiven
{
	TC_RATE_GIVEN_NOTHING, /* it was worth nothing */
	TC_RATE_GIVEN,
	TC_RATE_GIVEN_LATER /* the bucket could not be locked: the ticket is as good as before */
} TcRateGiven;

/* Notes what was spent.  Any lock. */
struct TcRateAsk;
extern void tc_rate_issue(TcRateEntry *entry, int64 after, uint64 seen,
						  const struct TcRateAsk *ask);

/* Gives it back; whose turn is after an instant moves up. */
extern TcRateGiven tc_rate_give_back(const TcRateTicket *ticket, int64 turn);

/* Has it given back if the (sub)transaction aborts. */
extern void tc_rate_give_back_on_abort(const TcRateTickets *tickets);

/* As SQL has it: bound to the company it was issued to. */
extern bytea *tc_rate_ticket_encode(const TcRateTickets *tickets, const TcContext *tenant);

#endif /* TC_RATE_TICKET_H */
