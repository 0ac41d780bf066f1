/*
 * calcom_elsewhere.h
 *		Bookings that were made in the calendar, and not by us.
 *
 * For all of it the caller acts for the company (act.h).
 */
#ifndef TC_CALCOM_ELSEWHERE_H
#define TC_CALCOM_ELSEWHERE_H

#include "postgres.h"

#include "appointments.h"
#include "calcom_ingest.h"

/* A time of a webhook (0 if it has none), and its body as text. */
extern TimestampTz tc_told_time(int64 unix_us);
extern Datum tc_told_body(const TcTold *told);

/*
 * Fills what the booking of a webhook is for the company, but status and uid; false if none of its
 * services has the event type, or the webhook no time.
 */
extern bool tc_elsewhere_fill(const TcTold *told, TcAppointment *row, int64 company_id);

/* Fills who comes. */
extern void tc_elsewhere_fill_customer(const TcTold *told, TcAppointment *row);

/* Inserts the row; a booking that stands takes a seat. */
extern void tc_elsewhere_insert(TcAppointment *row, const char *uid, const char *status);

#endif /* TC_CALCOM_ELSEWHERE_H */
