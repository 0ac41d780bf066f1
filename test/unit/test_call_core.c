/*
 * test_call_core.c
 *		What a call's events say of its state: all sets of events, and all ends.
 */
#include "call_core.h"

#include "unit.h"

static const TcRetellEvent stages[] = {TC_RETELL_CALL_STARTED, TC_RETELL_TRANSCRIPT_UPDATED,
									   TC_RETELL_CALL_ENDED, TC_RETELL_CALL_ANALYZED};
static const int all_bits[] = {TC_SEEN_STARTED, TC_SEEN_TRANSCRIPT, TC_SEEN_ENDED,
							   TC_SEEN_ANALYZED};

/* Each stage has a bit of its own, in the order of a call's life; other events have none. */
static void
bits(void)
{
	int seen = 0;

	for (int i = 0; i < 4; i++)
	{
		CHECK_INT(tc_call_seen_bit(stages[i]), all_bits[i]);
		CHECK(all_bits[i] > seen);
		seen |= all_bits[i];
	}
	CHECK_INT(seen, TC_SEEN_ANY);
	CHECK_INT(TC_SEEN_ANY & TC_SEEN_DURATION, 0);
	CHECK_INT(tc_call_seen_bit(TC_RETELL_OTHER), 0);
	CHECK_INT(tc_call_seen_bit(TC_RETELL_CALL_INBOUND), 0);
	CHECK_INT(tc_call_seen_bit(TC_RETELL_TRANSFER_ENDED), 0);
}

/* Late is what comes after something later; first is what is earlier than all. */
static void
late_and_first(void)
{
	for (int seen = 0; seen <= TC_SEEN_ANY; seen++)
	{
		for (int i = 0; i < 4; i++)
		{
			bool later = false;
			bool earlier_or_same = false;

			for (int k = 0; k < 4; k++)
			{
				later = later || (k > i && (seen & all_bits[k]) != 0);
				earlier_or_same = earlier_or_same || (k <= i && (seen & all_bits[k]) != 0);
			}
			CHECK_INT(tc_call_is_late(seen, stages[i]), later);
			CHECK_INT(tc_call_is_late(seen | TC_SEEN_DURATION, stages[i]), later);
			CHECK_INT(tc_call_is_first(seen, stages[i]), !earlier_or_same);
			CHECK_INT(tc_call_is_first(seen | TC_SEEN_DURATION, stages[i]), !earlier_or_same);
		}
		CHECK(!tc_call_is_late(seen, TC_RETELL_OTHER));
		CHECK(!tc_call_is_first(seen, TC_RETELL_TRANSFER_STARTED));
	}
}

/* The state that all sets of events add up to. */
static void
targets(void)
{
	static const char *const ends[] = {"completed", "transferred", "not_connected", "failed"};

	for (int seen = 0; seen <= TC_SEEN_ANY; seen++)
	{
		bool started = (seen & TC_SEEN_STARTED) != 0;
		bool ended = (seen & TC_SEEN_ENDED) != 0;
		bool analyzed = (seen & TC_SEEN_ANALYZED) != 0;

		for (int i = 0; i < 4; i++)
		{
			const char *expected = started ? "ongoing" : NULL;

			if (ended)
				expected = analyzed && i == 0 ? "analyzed" : ends[i];
			CHECK_STR(tc_call_target(seen, ends[i]), expected);
			CHECK_STR(tc_call_target(seen | TC_SEEN_DURATION, ends[i]), expected);
		}
		if (!ended)
			CHECK_STR(tc_call_target(seen, NULL), started ? "ongoing" : NULL);
	}
	/* states that came from elsewhere stay */
	CHECK_STR(tc_call_target(TC_SEEN_ENDED | TC_SEEN_ANALYZED, "analyzed"), "analyzed");
	CHECK_STR(tc_call_target(TC_SEEN_ENDED | TC_SEEN_ANALYZED, "of one's own"), "of one's own");
}

/* Analysis is reached through completion, everything else at once. */
static void
ways(void)
{
	CHECK_STR(tc_call_via("inbound", "analyzed"), "completed");
	CHECK_STR(tc_call_via("ongoing", "analyzed"), "completed");
	CHECK_STR(tc_call_via("abandoned", "analyzed"), "completed");
	CHECK_STR(tc_call_via("completed", "analyzed"), NULL);
	CHECK_STR(tc_call_via("inbound", "completed"), NULL);
	CHECK_STR(tc_call_via("ongoing", "failed"), NULL);
}

int
main(void)
{
	RUN(bits);
	RUN(late_and_first);
	RUN(targets);
	RUN(ways);
	return unit_summary();
}
