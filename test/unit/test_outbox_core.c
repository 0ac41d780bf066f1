/*
 * test_outbox_core.c
 *		No order twice: every way through the machine, and the delays.
 */
#include "outbox_core.h"
#include "unit.h"

/* A case; the rest is usual. */
static TcOutboxCase
make_case(TcOutboxStep step, TcOutboxHeard heard)
{
	return (TcOutboxCase){.step = step, .heard = heard, .attempt = 1, .last_attempt = 20};
}

/* After a request. */
static void
test_send(void)
{
	TcOutboxCase now = make_case(TC_OUTBOX_SEND, TC_HEARD_DONE);

	CHECK(tc_outbox_next(&now) == TC_NEXT_DONE);
	now.heard = TC_HEARD_NOT_SENT;
	CHECK(tc_outbox_next(&now) == TC_NEXT_SEND);
	now.heard = TC_HEARD_NOTHING;
	CHECK(tc_outbox_next(&now) == TC_NEXT_LOOK);
	now.settled = true;
	CHECK(tc_outbox_next(&now) == TC_NEXT_LOOK);
	now.heard = TC_HEARD_REFUSED;
	CHECK(tc_outbox_next(&now) == TC_NEXT_REFUSED);
	now.sent_before = true; /* the time may be taken by ourselves */
	CHECK(tc_outbox_next(&now) == TC_NEXT_LOOK);
}

/* After a question. */
static void
test_look(void)
{
	TcOutboxCase now = make_case(TC_OUTBOX_LOOK, TC_HEARD_THERE);

	CHECK(tc_outbox_next(&now) == TC_NEXT_DONE);
	now.heard = TC_HEARD_GONE;
	CHECK(tc_outbox_next(&now) == TC_NEXT_REFUSED);
	now.heard = TC_HEARD_NOT_THERE; /* yet */
	CHECK(tc_outbox_next(&now) == TC_NEXT_LOOK);
	now.settled = true;
	CHECK(tc_outbox_next(&now) == TC_NEXT_SEND);
	now.refused = true;
	CHECK(tc_outbox_next(&now) == TC_NEXT_REFUSED);
	now.heard = TC_HEARD_NOTHING;
	CHECK(tc_outbox_next(&now) == TC_NEXT_LOOK);
	now.heard = TC_HEARD_NOT_SENT; /* the question, that is */
	CHECK(tc_outbox_next(&now) == TC_NEXT_LOOK);
}

/* It is sent again only if it surely was not sent, or surely is not there. */
static void
test_never_twice(void)
{
	for (int heard = TC_HEARD_NOT_SENT; heard <= TC_HEARD_GONE; heard++)
		for (int flags = 0; flags < 8; flags++)
		{
			TcOutboxCase now = make_case(TC_OUTBOX_SEND, (TcOutboxHeard) heard);

			now.sent_before = flags & 1;
			now.settled = flags & 2;
			now.refused = flags & 4;
			if (tc_outbox_next(&now) == TC_NEXT_SEND)
				CHECK(heard == TC_HEARD_NOT_SENT);
			now.step = TC_OUTBOX_LOOK;
			if (tc_outbox_next(&now) == TC_NEXT_SEND)
				CHECK(heard == TC_HEARD_NOT_THERE && now.settled);
		}
}

/* The last attempt. */
static void
test_dead(void)
{
	TcOutboxCase now = make_case(TC_OUTBOX_SEND, TC_HEARD_NOT_SENT);

	now.attempt = 20;
	CHECK(tc_outbox_next(&now) == TC_NEXT_DEAD);
	now.heard = TC_HEARD_NOTHING;
	CHECK(tc_outbox_next(&now) == TC_NEXT_DEAD);
	now.heard = TC_HEARD_DONE;
	CHECK(tc_outbox_next(&now) == TC_NEXT_DONE);
	now.step = TC_OUTBOX_LOOK;
	now.heard = TC_HEARD_NOT_THERE;
	CHECK(tc_outbox_next(&now) == TC_NEXT_DEAD);
	now.attempt = 25;
	now.heard = TC_HEARD_THERE;
	CHECK(tc_outbox_next(&now) == TC_NEXT_DONE);
}

/* How long to wait. */
static void
test_delay(void)
{
	CHECK(tc_outbox_delay(1, -1, 0.5) == 1000);
	CHECK(tc_outbox_delay(1, -1, 0) == 800);
	CHECK(tc_outbox_delay(1, -1, 1) == 1200);
	CHECK(tc_outbox_delay(4, -1, 0.5) == 8000);
	CHECK(tc_outbox_delay(1000000, -1, 0.5) == 300000);
	CHECK(tc_outbox_delay(1, 60000, 0) == 60000); /* never earlier than asked */
	CHECK(tc_outbox_delay(1, 60000, 1) == 72000);
	CHECK(tc_outbox_delay(10, 1000, 0.5) == 300000);
	CHECK(tc_outbox_delay(1, 0, 0.5) == 1000);
	CHECK(tc_outbox_delay(1, INT64_MAX, 0) == 3600000);
	CHECK(tc_outbox_delay(0, -1, 0.5) == 1000);
}

/* Runs all. */
int
main(void)
{
	RUN(test_send);
	RUN(test_look);
	RUN(test_never_twice);
	RUN(test_dead);
	RUN(test_delay);
	return unit_summary();
}
