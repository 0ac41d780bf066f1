/*
 * outbox_core.c
 *		What to do next about an order to a calendar; see outbox_core.h.
 */
#include "outbox_core.h"

#define FIRST_DELAY 1000
#define LONGEST_DELAY 300000
#define LONGEST_ASKED 3600000 /* what a calendar asks for beyond this is not believed */

/* After a request. */
static TcOutboxNext
after_send(const TcOutboxCase *now)
{
	switch (now->heard)
	{
		case TC_HEARD_DONE:
			return TC_NEXT_DONE;
		case TC_HEARD_REFUSED:
			/* perhaps because an earlier request has taken the time */
			return now->sent_before ? TC_NEXT_LOOK : TC_NEXT_REFUSED;
		case TC_HEARD_NOT_SENT:
			return TC_NEXT_SEND;
		default:
			return TC_NEXT_LOOK;
	}
}

/* After having asked for it. */
static TcOutboxNext
after_look(const TcOutboxCase *now)
{
	switch (now->heard)
	{
		case TC_HEARD_THERE:
			return TC_NEXT_DONE;
		case TC_HEARD_GONE:
			return TC_NEXT_REFUSED;
		case TC_HEARD_NOT_THERE:
			if (!now->settled)
				return TC_NEXT_LOOK;
			return now->refused ? TC_NEXT_REFUSED : TC_NEXT_SEND;
		default:
			return TC_NEXT_LOOK;
	}
}

/* What to do next. */
TcOutboxNext
tc_outbox_next(const TcOutboxCase *now)
{
	TcOutboxNext next = now->step == TC_OUTBOX_SEND ? after_send(now) : after_look(now);

	if ((next == TC_NEXT_SEND || next == TC_NEXT_LOOK) && now->attempt >= now->last_attempt)
		return TC_NEXT_DEAD;
	return next;
}

/* How long to wait before the next attempt, in ms. */
int64_t
tc_outbox_delay(int attempt, int64_t retry_after, double chance)
{
	int64_t delay = FIRST_DELAY;

	for (int i = 1; i < attempt && delay < LONGEST_DELAY; i++)
		delay *= 2;
	if (delay > LONGEST_DELAY)
		delay = LONGEST_DELAY;
	delay = (int64_t) ((double) delay * (0.8 + 0.4 * chance));
	if (retry_after > LONGEST_ASKED)
		retry_after = LONGEST_ASKED;
	if (retry_after >= 0 && delay < retry_after)
		delay = (int64_t) ((double) retry_after * (1.0 + 0.2 * chance));
	return delay;
}
