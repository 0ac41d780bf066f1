/*
 * calcom_request_core.h
 *		Cal.com: paths and bodies of requests.  Pure C.
 *
 * calcom_slots_core.h has the path of a slots request.  Paths begin with /v2 and follow the
 * credential's base URL.  Every writer returns the length of what it wrote with a final zero, and 0
 * when out is too small or the request cannot be made.
 */
#ifndef TC_CALCOM_REQUEST_CORE_H
#define TC_CALCOM_REQUEST_CORE_H

#include <stddef.h>
#include <stdint.h>

/* What the header cal-api-version says for slots and reservations, and for bookings. */
#define TC_CALCOM_SLOTS_VERSION "2024-09-04"
#define TC_CALCOM_BOOKINGS_VERSION "2024-08-13"

/* The vendor's limits of metadata: pairs, and characters of a name and of a value. */
#define TC_CALCOM_META_PAIRS 50
#define TC_CALCOM_META_NAME 40
#define TC_CALCOM_META_VALUE 500

#define TC_CALCOM_RESERVATIONS_PATH "/v2/slots/reservations"
#define TC_CALCOM_BOOKINGS_PATH "/v2/bookings"

/* POST /v2/slots/reservations; minutes 0 is the vendor's default of 5. */
extern size_t tc_calcom_reservation_body(int64_t event_type_id, int64_t start, int minutes,
										 char *out, size_t size);

typedef struct TcCalcomPair
{
	const char *name;
	const char *value;
} TcCalcomPair;

/* POST /v2/bookings: name, time zone, and an email address or a phone number must be given. */
typedef struct TcCalcomBookingRequest
{
	int64_t event_type_id;
	int64_t start;
	int duration; /* minutes, or 0: the event type's own */
	const char *name;
	const char *email;	   /* or NULL */
	const char *phone;	   /* E.164, or NULL */
	const char *time_zone; /* of the attendee */
	const char *language;  /* such as de, or NULL */
	const TcCalcomPair *metadata;
	int nmetadata;
} TcCalcomBookingRequest;

extern size_t tc_calcom_booking_body(const TcCalcomBookingRequest *request, char *out, size_t size);

/* Do the pairs keep to the vendor's limits?  Returns the first that does not, or -1. */
extern int tc_calcom_bad_metadata(const TcCalcomPair *metadata, int nmetadata);

/* /v2/bookings/{uid}, and with an action of "cancel" or "reschedule" behind it; NULL: none. */
extern size_t tc_calcom_booking_path(const char *uid, const char *action, char *out, size_t size);
extern size_t tc_calcom_cancel_body(const char *reason, char *out, size_t size);
extern size_t tc_calcom_reschedule_body(int64_t start, const char *reason, char *out, size_t size);

/* GET /v2/bookings, newest first: to look for a booking whose answer never came. */
typedef struct TcCalcomListQuery
{
	int64_t event_type_id; /* 0: any */
	const char *email;	   /* of the attendee, or NULL: any */
	int64_t after_start;   /* TC_TIME_NONE: any */
	int64_t before_end;
	int take; /* page size, at most 250 */
	int skip;
} TcCalcomListQuery;

extern size_t tc_calcom_list_path(const TcCalcomListQuery *query, char *out, size_t size);

#endif /* TC_CALCOM_REQUEST_CORE_H */
