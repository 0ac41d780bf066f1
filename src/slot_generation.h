/*
 * slot_generation.h
 *		Has a calendar changed since it was asked?
 */
#ifndef TC_SLOT_GENERATION_H
#define TC_SLOT_GENERATION_H

#include "postgres.h"

extern void tc_slot_generation_init(void);

/*
 * A number that rises when the calendar of an event type may have changed.  Who asks the calendar
 * notes it before, and keeps the answer only if it is the same afterwards.
 */
extern uint64 tc_slot_generation(int64 company_id, const char *credential, int64 event_type_id);

/* It changes when this transaction commits (and not if it does not). */
extern void tc_slot_changed_at_commit(const char *credential, int64 event_type_id);

/* The same for one company: for what it says by itself, which is nothing to others. */
extern void tc_slot_forget_at_commit(int64 company_id, const char *credential, int64 event_type_id);

/*
 * The same of what is held and booked here and stands in slot_holds.  A calendar knows nothing of
 * holds, and of bookings only once they were sent: its answer stays.
 */
extern uint64 tc_slot_taken_generation(int64 company_id, const char *credential,
									   int64 event_type_id);
extern void tc_slot_taken_at_commit(int64 company_id, const char *credential, int64 event_type_id);

/* It has changed, for a company or (0) for all, as another node of a cluster says. */
extern void tc_slot_raise_now(int64 company_id, const char *credential, int64 event_type_id);

/* Has this transaction changed one or the other, to be told at commit? */
extern bool tc_slot_change_pending(void);

#endif /* TC_SLOT_GENERATION_H */
