/*
 * outbox_core.h
 *		What to do next about an order to a calendar.  Pure C.
 *
 * The rule: no order may be carried out twice.  It is sent again only when it surely was not sent
 * before, or when the calendar was asked afterwards and surely does not have it.
 *
 *		SEND --not sent------------------> SEND later
 *		     --answered: done------------> DONE
 *		     --answered: refused---------> REFUSED (LOOK first, if it was ever sent before)
 *		     --sent, and no clear answer-> LOOK later
 *		LOOK --it is there---------------> DONE
 *		     --not there, settled--------> SEND (REFUSED, if that was what the calendar said)
 *		     --not there, too early, or no clear answer --> LOOK later
 *		     --gone----------------------> REFUSED, as something else became of it
 */
#ifndef TC_OUTBOX_CORE_H
#define TC_OUTBOX_CORE_H

#include <stdbool.h>
#include <stdint.h>

typedef enum TcOutboxStep
{
	TC_OUTBOX_SEND,
	TC_OUTBOX_LOOK /* ask the calendar whether it has it */
} TcOutboxStep;

/* What was heard of it. */
typedef enum TcOutboxHeard
{
	TC_HEARD_NOT_SENT, /* surely nothing reached the calendar, or it said that it would not act */
	TC_HEARD_NOTHING,  /* sent, and no clear answer */
	TC_HEARD_DONE,
	TC_HEARD_REFUSED,
	TC_HEARD_THERE,		/* looked: the calendar has it */
	TC_HEARD_NOT_THERE, /* looked: it does not */
	TC_HEARD_GONE		/* looked: it can no longer be */
} TcOutboxHeard;

typedef enum TcOutboxNext
{
	TC_NEXT_DONE,
	TC_NEXT_REFUSED,
	TC_NEXT_SEND,
	TC_NEXT_LOOK,
	TC_NEXT_DEAD /* given up */
} TcOutboxNext;

typedef struct TcOutboxCase
{
	TcOutboxStep step;
	TcOutboxHeard heard;
	bool sent_before; /* may a request before this one have reached the calendar? */
	bool settled;	  /* can no request be under way any more? */
	bool refused;	  /* did the calendar refuse it, as far as it was sent? */
	int attempt;	  /* this one, from 1 */
	int last_attempt; /* after it the order is given up */
} TcOutboxCase;

extern TcOutboxNext tc_outbox_next(const TcOutboxCase *now);

/*
 * How long to wait before the next attempt, in ms: doubled with each attempt, at most 5 minutes,
 * not less than the calendar asks for (retry_after, -1: nothing), and up to a fifth more or less,
 * as chance (0 to 1) will have it, so that what failed together does not come back together.
 */
extern int64_t tc_outbox_delay(int attempt, int64_t retry_after, double chance);

#endif /* TC_OUTBOX_CORE_H */
