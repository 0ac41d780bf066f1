/*
 * call_core.c
 *		What a call's events say of its state.
 *
 * The state is a function of the set of events seen, never of the order in which they came:
 *
 *		{}                          inbound | outbound     where it began
 *		{started}                   ongoing
 *		{ended, ...}                what the disconnection reason says
 *		{ended, analyzed, ...}      analyzed, if it completed; else the same as without analysis
 *		{analyzed}, no end yet      held: as without the analysis
 */
#include "call_core.h"

#include <stddef.h>
#include <string.h>

/* The bit of an event. */
int
tc_call_seen_bit(TcRetellEvent event)
{
	switch (event)
	{
		case TC_RETELL_CALL_STARTED:
			return TC_SEEN_STARTED;
		case TC_RETELL_TRANSCRIPT_UPDATED:
			return TC_SEEN_TRANSCRIPT;
		case TC_RETELL_CALL_ENDED:
			return TC_SEEN_ENDED;
		case TC_RETELL_CALL_ANALYZED:
			return TC_SEEN_ANALYZED;
		default:
			return 0;
	}
}

/* Has something later in a call's life been seen already? */
bool
tc_call_is_late(int seen, TcRetellEvent event)
{
	int bit = tc_call_seen_bit(event);

	return bit != 0 && (seen & TC_SEEN_ANY) >= 2 * bit;
}

/* Is it earlier in a call's life than all that has been seen? */
bool
tc_call_is_first(int seen, TcRetellEvent event)
{
	int bit = tc_call_seen_bit(event);

	return bit != 0 && (seen & TC_SEEN_ANY & (2 * bit - 1)) == 0;
}

/* The state in which a call ends, by the vendor's status of it alone. */
const char *
tc_call_end_by_status(const char *status)
{
	if (status != NULL && strcmp(status, "error") == 0)
		return "failed";
	if (status != NULL && strcmp(status, "not_connected") == 0)
		return "not_connected";
	return "completed";
}

/* The state that the events seen add up to. */
const char *
tc_call_target(int seen, const char *end_state)
{
	if ((seen & TC_SEEN_ENDED) != 0 && end_state != NULL)
	{
		if ((seen & TC_SEEN_ANALYZED) != 0 && strcmp(end_state, "completed") == 0)
			return "analyzed";
		return end_state;
	}
	return (seen & TC_SEEN_STARTED) != 0 ? "ongoing" : NULL;
}

/* Analysis is reached through completion. */
const char *
tc_call_via(const char *from, const char *target)
{
	if (strcmp(target, "analyzed") == 0 && strcmp(from, "completed") != 0)
		return "completed";
	return NULL;
}
