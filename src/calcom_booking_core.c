/*
 * calcom_booking_core.c
 *		Cal.com: answers with a booking, a list of bookings, or a reservation.
 *
 * What a list says decides whether a booking whose answer was lost is made again.  So a list of
 * which something cannot be read has the wrong shape, unless that is somebody else's booking.
 */
#include "calcom_booking_core.h"

#include <string.h>

#include "calcom_read_core.h"

/* Reads a booking's event type, which stands by itself or in an object. */
static bool
read_event_type(const TcJsonMember *data, int64_t *event_type_id)
{
	TcJsonMember event_type;

	if (!tc_calcom_read_integer(data, "eventTypeId", event_type_id))
		return false;
	if (*event_type_id != 0 || !tc_json_get(data, "eventType", &event_type))
		return true;
	return tc_calcom_read_integer(&event_type, "id", event_type_id);
}

/* Reads a booking; one has a uid and a status at least. */
static TcCalcomParse
read_booking(const TcJsonMember *data, const char *key, TcCalcomBooking *booking)
{
	bool read;

	memset(booking, 0, sizeof(*booking));
	if (data->kind != TC_JSON_OBJECT)
		return TC_CALCOM_WRONG_SHAPE;
	read = tc_calcom_read_integer(data, "id", &booking->id) &&
		   read_event_type(data, &booking->event_type_id) &&
		   tc_calcom_read_time(data, "start", &booking->start) &&
		   tc_calcom_read_time(data, "end", &booking->end) &&
		   tc_calcom_read_text(data, "uid", booking->uid, sizeof(booking->uid)) &&
		   tc_calcom_read_text(data, "rescheduledFromUid", booking->rescheduled_from,
							   sizeof(booking->rescheduled_from)) &&
		   tc_calcom_read_text(data, "rescheduledToUid", booking->rescheduled_to,
							   sizeof(booking->rescheduled_to)) &&
		   tc_calcom_read_text(data, "status", booking->status, sizeof(booking->status));
	if (!read || booking->uid[0] == '\0' || booking->status[0] == '\0')
		return TC_CALCOM_WRONG_SHAPE;
	tc_calcom_read_mark(data, key, booking->mark, sizeof(booking->mark));
	return TC_CALCOM_PARSED;
}

/* The answer with one booking. */
TcCalcomParse
tc_calcom_parse_booking(const char *body, size_t len, const char *key, TcCalcomBooking *booking)
{
	TcJsonMember root;
	TcJsonMember data;
	TcCalcomParse parse = tc_calcom_open_answer(body, len, &root, &data);

	if (parse == TC_CALCOM_PARSED)
		parse = read_booking(&data, key, booking);
	if (parse != TC_CALCOM_PARSED)
		memset(booking, 0, sizeof(*booking));
	return parse;
}

/* Does the booking stand? */
bool
tc_calcom_booking_stands(const TcCalcomBooking *booking)
{
	return strcmp(booking->status, "accepted") == 0 || strcmp(booking->status, "pending") == 0;
}

/* Is the first of two bookings with our mark rather the one that counts? */
static bool
is_preferred(const TcCalcomBooking *a, const TcCalcomBooking *b)
{
	bool a_stands = tc_calcom_booking_stands(a);

	if (a_stands != tc_calcom_booking_stands(b))
		return a_stands;
	return a->id > b->id;
}

/* Does the list go on at the vendor? */
static bool
goes_on(const TcJsonMember *root)
{
	TcJsonMember flag;

	if (tc_json_get_path(root, "pagination.hasNextPage", &flag) ||
		tc_json_get_path(root, "pagination.hasMore", &flag))
		return flag.kind == TC_JSON_TRUE;
	return false;
}

/* Looks through a list. */
TcCalcomParse
tc_calcom_find_booking(const char *body, size_t len, const TcCalcomMark *mark,
					   TcCalcomBooking *booking, bool *more)
{
	TcCalcomParse parse;
	TcCalcomParse found = TC_CALCOM_NOT_THERE;
	TcJsonMember root;
	TcJsonMember data;
	TcJsonMember element;
	TcJsonWalk walk;

	*more = false;
	memset(booking, 0, sizeof(*booking));
	parse = tc_calcom_open_answer(body, len, &root, &data);
	if (parse != TC_CALCOM_PARSED)
		return parse;
	if (data.kind != TC_JSON_ARRAY || !tc_json_walk(&data, &walk))
		return TC_CALCOM_WRONG_SHAPE;
	while (tc_json_next(&walk, &element))
	{
		TcCalcomBooking candidate;

		tc_calcom_read_mark(&element, mark->key, candidate.mark, sizeof(candidate.mark));
		if (element.kind == TC_JSON_OBJECT && strcmp(candidate.mark, mark->value) != 0)
			continue;
		parse = read_booking(&element, mark->key, &candidate);
		if (parse != TC_CALCOM_PARSED)
		{
			memset(booking, 0, sizeof(*booking));
			return parse;
		}
		if (found == TC_CALCOM_NOT_THERE || is_preferred(&candidate, booking))
			*booking = candidate;
		found = TC_CALCOM_PARSED;
	}
	*more = goes_on(&root);
	return found;
}

/* The answer to a reservation. */
TcCalcomParse
tc_calcom_parse_reservation(const char *body, size_t len, char uid[TC_CALCOM_UID], int64_t *until)
{
	TcJsonMember root;
	TcJsonMember data;
	TcCalcomParse parse = tc_calcom_open_answer(body, len, &root, &data);

	uid[0] = '\0';
	*until = TC_TIME_NONE;
	if (parse != TC_CALCOM_PARSED)
		return parse;
	if (!tc_calcom_read_text(&data, "reservationUid", uid, TC_CALCOM_UID) || uid[0] == '\0' ||
		!tc_calcom_read_time(&data, "reservationUntil", until))
	{
		uid[0] = '\0';
		return TC_CALCOM_WRONG_SHAPE;
	}
	return TC_CALCOM_PARSED;
}
