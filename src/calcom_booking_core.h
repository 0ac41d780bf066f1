/*
 * calcom_booking_core.h
 *		Cal.com: answers with a booking, a list of bookings, or a reservation.  Pure C.
 */
#ifndef TC_CALCOM_BOOKING_CORE_H
#define TC_CALCOM_BOOKING_CORE_H

#include "calcom_core.h"

#define TC_CALCOM_UID 128	/* bytes of a uid, with the final zero; a longer one is WRONG_SHAPE */
#define TC_CALCOM_STATUS 32 /* likewise of a status */
#define TC_CALCOM_MARK 256	/* likewise of our metadata value; a longer one is taken as absent */

/* What a booking's answer says; strings are empty, numbers 0, times TC_TIME_NONE when absent. */
typedef struct TcCalcomBooking
{
	int64_t id;
	int64_t event_type_id;
	int64_t start;
	int64_t end;
	char uid[TC_CALCOM_UID];
	char rescheduled_from[TC_CALCOM_UID]; /* rescheduledFromUid: the booking that this one replaced
										   */
	char rescheduled_to[TC_CALCOM_UID];	  /* rescheduledToUid: the booking that replaced this one */
	char status[TC_CALCOM_STATUS];		  /* accepted, pending, cancelled, rejected */
	char mark[TC_CALCOM_MARK];			  /* metadata[key] of the key that was asked for */
} TcCalcomBooking;

/*
 * The answer to creating, reading, cancelling or rescheduling a booking.  key names the member of
 * metadata to read, or is NULL.
 */
extern TcCalcomParse tc_calcom_parse_booking(const char *body, size_t len, const char *key,
											 TcCalcomBooking *booking);

/* Which booking of a list is wanted: the one with metadata[key] = value. */
typedef struct TcCalcomMark
{
	const char *key;
	const char *value;
} TcCalcomMark;

/*
 * Looks through the answer of a list.  Of several bookings with the mark it takes one that is
 * neither cancelled nor rejected, if there is one, and of these the last created (highest id).
 * *more tells that the list goes on at the vendor, so that NOT_THERE is not the last word.
 */
extern TcCalcomParse tc_calcom_find_booking(const char *body, size_t len, const TcCalcomMark *mark,
											TcCalcomBooking *booking, bool *more);

/* Does the booking stand (accepted or pending), as opposed to cancelled or rejected? */
extern bool tc_calcom_booking_stands(const TcCalcomBooking *booking);

/* The answer to a reservation: its uid and until when it holds. */
extern TcCalcomParse tc_calcom_parse_reservation(const char *body, size_t len,
												 char uid[TC_CALCOM_UID], int64_t *until);

#endif /* TC_CALCOM_BOOKING_CORE_H */
