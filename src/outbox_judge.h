/*
 * outbox_judge.h
 *		What the calendar's answer to an order means.
 */
#ifndef TC_OUTBOX_JUDGE_H
#define TC_OUTBOX_JUDGE_H

#include "postgres.h"

#include "calcom_booking_core.h"
#include "outbox_flight.h"

typedef struct TcJudgement
{
	TcOutboxHeard heard;
	bool refusal; /* the calendar said no; reason says why */
	bool gone;	  /* the booking was made, and cancelled since */
	bool more;	  /* the list goes on: ask for the next page */
	bool failure; /* for the breaker */
	bool denied;
	char uid[TC_CALCOM_UID];
	char reason[TC_CALCOM_REASON]; /* empty: none */
} TcJudgement;

extern void tc_outbox_judge(const TcFlight *flight, const TcHttpResult *result,
							TcJudgement *judgement);

#endif /* TC_OUTBOX_JUDGE_H */
