/*
 * outbox_judge.c
 *		What the calendar's answer to an order, or to a question about it, means.
 *
 *		HTTP result --calcom cores--> TcHeard (outbox_core.h), uid, reason
 *
 * A cancellation that is refused is looked into before it counts: most often the booking has been
 * cancelled already, which is what was wanted.  No state, no locks.
 */
#include "postgres.h"

#include "calcom_booking_core.h"
#include "calcom_core.h"
#include "outbox.h"
#include "outbox_flight.h"
#include "outbox_judge.h"

/* An answer that says nothing clear. */
static void
unclear(TcJudgement *judgement, const char *reason)
{
	judgement->heard = TC_HEARD_NOTHING;
	strlcpy(judgement->reason, reason, sizeof(judgement->reason));
}

/* The answer to an order that was carried out. */
static void
judge_done(const TcFlight *flight, const TcHttpResult *result, TcJudgement *judgement)
{
	TcCalcomBooking booking;

	if (flight->kind == TC_ORDER_CANCEL)
	{
		judgement->heard = TC_HEARD_DONE;
		return;
	}
	if (tc_calcom_parse_booking(result->body, result->len, NULL, &booking) != TC_CALCOM_PARSED ||
		booking.uid[0] == '\0')
	{
		unclear(judgement, "the calendar's answer names no booking");
		return;
	}
	judgement->heard = TC_HEARD_DONE;
	strlcpy(judgement->uid, booking.uid, sizeof(judgement->uid));
}

/* The answer to an order. */
static void
judge_send(const TcFlight *flight, const TcHttpResult *result, const TcCalcomVerdict *verdict,
		   TcJudgement *judgement)
{
	if (verdict->answer == TC_CALCOM_OK)
		judge_done(flight, result, judgement);
	else if (tc_calcom_is_refusal(verdict->answer))
	{
		unclear(judgement, verdict->reason);
		judgement->refusal = true;
		if (flight->kind != TC_ORDER_CANCEL)
			judgement->heard = TC_HEARD_REFUSED;
	}
	else if (tc_calcom_is_failure(verdict->answer))
		unclear(judgement, verdict->reason);
	else
	{
		/* not now, or not with this key: the calendar did nothing */
		unclear(judgement, verdict->reason);
		judgement->heard = TC_HEARD_NOT_SENT;
	}
}

/* What a list says about the booking that was ordered. */
static void
judge_list(const TcFlight *flight, const TcHttpResult *result, TcJudgement *judgement)
{
	TcCalcomMark mark = {TC_OUTBOX_MARK, flight->key};
	TcCalcomBooking booking;
	TcCalcomParse parse;

	parse = tc_calcom_find_booking(result->body, result->len, &mark, &booking, &judgement->more);
	if (parse == TC_CALCOM_NOT_THERE)
		judgement->heard = TC_HEARD_NOT_THERE;
	else if (parse != TC_CALCOM_PARSED || booking.uid[0] == '\0')
		unclear(judgement, "the calendar's list cannot be read");
	else
	{
		judgement->more = false;
		judgement->gone = !tc_calcom_booking_stands(&booking);
		judgement->heard = judgement->gone ? TC_HEARD_GONE : TC_HEARD_THERE;
		strlcpy(judgement->uid, booking.uid, sizeof(judgement->uid));
		if (judgement->gone)
			strlcpy(judgement->reason, "the booking was cancelled in the calendar",
					sizeof(judgement->reason));
	}
}

/* What the booking that was to be cancelled or moved says. */
static void
judge_booking(const TcFlight *flight, const TcHttpResult *result, TcJudgement *judgement)
{
	TcCalcomBooking booking;

	if (tc_calcom_parse_booking(result->body, result->len, NULL, &booking) != TC_CALCOM_PARSED)
		unclear(judgement, "the calendar's booking cannot be read");
	else if (tc_calcom_booking_stands(&booking))
		judgement->heard = TC_HEARD_NOT_THERE;
	else if (flight->kind == TC_ORDER_CANCEL)
		judgement->heard = TC_HEARD_THERE;
	else if (booking.rescheduled_to[0] != '\0')
	{
		judgement->heard = TC_HEARD_THERE;
		strlcpy(judgement->uid, booking.rescheduled_to, sizeof(judgement->uid));
	}
	else
	{
		judgement->heard = TC_HEARD_GONE;
		strlcpy(judgement->reason, "the booking was cancelled in the calendar",
				sizeof(judgement->reason));
	}
}

/* The answer to a question. */
static void
judge_look(const TcFlight *flight, const TcHttpResult *result, const TcCalcomVerdict *verdict,
		   TcJudgement *judgement)
{
	if (verdict->answer == TC_CALCOM_OK && flight->kind == TC_ORDER_CREATE)
		judge_list(flight, result, judgement);
	else if (verdict->answer == TC_CALCOM_OK)
		judge_booking(flight, result, judgement);
	else if (verdict->answer == TC_CALCOM_NOT_FOUND && flight->kind != TC_ORDER_CREATE)
	{
		unclear(judgement, verdict->reason);
		judgement->heard = flight->kind == TC_ORDER_CANCEL ? TC_HEARD_THERE : TC_HEARD_GONE;
	}
	else
		unclear(judgement, verdict->reason);
}

/* What the result means. */
void
tc_outbox_judge(const TcFlight *flight, const TcHttpResult *result, TcJudgement *judgement)
{
	TcCalcomVerdict verdict;

	memset(judgement, 0, sizeof(*judgement));
	if (!result->answered)
	{
		unclear(judgement, result->reason != NULL ? result->reason : "no answer");
		if (!result->sent)
			judgement->heard = TC_HEARD_NOT_SENT;
		return;
	}
	tc_calcom_classify(result->status, result->body, result->len, &verdict);
	judgement->failure = tc_calcom_is_failure(verdict.answer);
	judgement->denied = verdict.answer == TC_CALCOM_UNAUTHORIZED;
	if (flight->step == TC_OUTBOX_SEND)
		judge_send(flight, result, &verdict, judgement);
	else
		judge_look(flight, result, &verdict, judgement);
}
