/*
 * call_core.h
 *		What a call's events say of its state.  Pure C.
 */
#ifndef TC_CALL_CORE_H
#define TC_CALL_CORE_H

#include <stdbool.h>

#include "retell_core.h"

/* Which events of a call have been seen; kept in calls.events_seen. */
#define TC_SEEN_STARTED 1
#define TC_SEEN_TRANSCRIPT 2
#define TC_SEEN_ENDED 4
#define TC_SEEN_ANALYZED 8
#define TC_SEEN_ANY 15
#define TC_SEEN_DURATION 16	 /* not an event: one of them told how long the call was */
#define TC_SEEN_FORGOTTEN 32 /* nor this: the caller was forgotten, later content is left out */

/* The bit of an event; 0 for events that say nothing of the call's state. */
extern int tc_call_seen_bit(TcRetellEvent event);

/* Has something later in a call's life been seen already? */
extern bool tc_call_is_late(int seen, TcRetellEvent event);

/* Is it earlier in a call's life than all that has been seen? */
extern bool tc_call_is_first(int seen, TcRetellEvent event);

/* The state in which a call ends, by the vendor's status of it alone (which may be NULL). */
extern const char *tc_call_end_by_status(const char *status);

/*
 * The state that a call should be in when exactly these events have been seen; end_state is what
 * the disconnection reason says, and NULL until the end was seen.  NULL: where it began.
 */
extern const char *tc_call_target(int seen, const char *end_state);

/* The state to pass through on the way, or NULL. */
extern const char *tc_call_via(const char *from, const char *target);

#endif /* TC_CALL_CORE_H */
