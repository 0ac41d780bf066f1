/*
 * booking_wait.h
 *		Waiting for what becomes of an appointment.
 */
#ifndef TC_BOOKING_WAIT_H
#define TC_BOOKING_WAIT_H

#include "postgres.h"

extern void tc_booking_wait_init(void);

/* Wakes those who wait for the appointment, when this transaction has committed. */
extern void tc_booking_changed_at_commit(int64 company_id, int64 appointment_id);

/*
 * Begin before looking; sleep after it was seen that there is nothing yet: what changed in between
 * ends the sleep at once.  Sleep returns as well for no reason, and raises when cancelled.
 */
extern void tc_booking_wait_begin(int64 company_id, int64 appointment_id);
extern void tc_booking_wait_sleep(long timeout_ms);
extern void tc_booking_wait_end(void);

#endif /* TC_BOOKING_WAIT_H */
