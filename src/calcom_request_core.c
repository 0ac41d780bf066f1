/*
 * calcom_request_core.c
 *		Cal.com: paths and bodies of requests.
 */
#include "calcom_request_core.h"

#include <string.h>

#include "json_write_core.h"
#include "time_core.h"

/* "name":"time"; a time that cannot be written fails the writer. */
static void
write_time_member(TcWriter *writer, const char *name, int64_t time)
{
	char text[TC_TIME_ISO_LEN + 1];

	if (tc_time_print_iso(time, text))
		tc_write_member(writer, name, text);
	else
		writer->failed = true;
}

/* The body of a reservation. */
size_t
tc_calcom_reservation_body(int64_t event_type_id, int64_t start, int minutes, char *out,
						   size_t size)
{
	TcWriter writer;

	tc_write_begin(&writer, out, size);
	writer.failed |= event_type_id <= 0 || minutes < 0;
	tc_write_raw(&writer, "{");
	tc_write_integer_member(&writer, "eventTypeId", event_type_id);
	write_time_member(&writer, "slotStart", start);
	if (minutes > 0)
		tc_write_integer_member(&writer, "reservationDuration", minutes);
	tc_write_raw(&writer, "}");
	return tc_write_end(&writer);
}

/* Length in UTF-16 units, which is what the vendor counts; invalid UTF-8 fails later. */
static size_t
utf16_length(const char *text)
{
	size_t n = 0;

	for (; *text != '\0'; text++)
	{
		unsigned char c = (unsigned char) *text;

		n += (c & 0xc0) != 0x80;
		n += c >= 0xf0;
	}
	return n;
}

/* Is the name among the first n? */
static bool
is_repeated(const TcCalcomPair *metadata, int n, const char *name)
{
	for (int i = 0; i < n; i++)
		if (strcmp(metadata[i].name, name) == 0)
			return true;
	return false;
}

/* The first pair that breaks the vendor's limits. */
int
tc_calcom_bad_metadata(const TcCalcomPair *metadata, int nmetadata)
{
	for (int i = 0; i < nmetadata; i++)
	{
		const TcCalcomPair *pair = &metadata[i];

		if (i == TC_CALCOM_META_PAIRS || pair->name[0] == '\0' ||
			utf16_length(pair->name) > TC_CALCOM_META_NAME ||
			utf16_length(pair->value) > TC_CALCOM_META_VALUE ||
			is_repeated(metadata, i, pair->name))
			return i;
	}
	return -1;
}

/* Is there anything in the text? */
static bool
is_given(const char *text)
{
	return text != NULL && text[0] != '\0';
}

/* Has the request what the vendor asks for? */
static bool
is_complete(const TcCalcomBookingRequest *request)
{
	return request->event_type_id > 0 && request->duration >= 0 && is_given(request->name) &&
		   is_given(request->time_zone) && (is_given(request->email) || is_given(request->phone)) &&
		   tc_calcom_bad_metadata(request->metadata, request->nmetadata) < 0;
}

/* Who comes. */
static void
write_attendee(TcWriter *writer, const TcCalcomBookingRequest *request)
{
	tc_write_raw(writer, ",\"attendee\":{");
	tc_write_member(writer, "name", request->name);
	tc_write_member(writer, "email", is_given(request->email) ? request->email : NULL);
	tc_write_member(writer, "phoneNumber", is_given(request->phone) ? request->phone : NULL);
	tc_write_member(writer, "timeZone", request->time_zone);
	tc_write_member(writer, "language", request->language);
	tc_write_raw(writer, "}");
}

/* The body of a booking. */
size_t
tc_calcom_booking_body(const TcCalcomBookingRequest *request, char *out, size_t size)
{
	TcWriter writer;

	tc_write_begin(&writer, out, size);
	writer.failed |= !is_complete(request);
	if (writer.failed)
		return tc_write_end(&writer);
	tc_write_raw(&writer, "{");
	tc_write_integer_member(&writer, "eventTypeId", request->event_type_id);
	write_time_member(&writer, "start", request->start);
	if (request->duration > 0)
		tc_write_integer_member(&writer, "lengthInMinutes", request->duration);
	write_attendee(&writer, request);
	if (request->nmetadata > 0)
	{
		tc_write_raw(&writer, ",\"metadata\":{");
		for (int i = 0; i < request->nmetadata; i++)
			tc_write_member(&writer, request->metadata[i].name, request->metadata[i].value);
		tc_write_raw(&writer, "}");
	}
	tc_write_raw(&writer, "}");
	return tc_write_end(&writer);
}

/* The path of a booking; a uid of dots would be a way up.  Without a uid there is none. */
size_t
tc_calcom_booking_path(const char *uid, const char *action, char *out, size_t size)
{
	TcWriter writer;

	tc_write_begin(&writer, out, size);
	writer.failed |= uid == NULL || strspn(uid, ".") == strlen(uid);
	if (writer.failed)
		return tc_write_end(&writer);
	tc_write_raw(&writer, TC_CALCOM_BOOKINGS_PATH "/");
	tc_write_url(&writer, uid);
	if (action != NULL)
	{
		tc_write_raw(&writer, "/");
		tc_write_url(&writer, action);
	}
	return tc_write_end(&writer);
}

/* The body of a cancellation. */
size_t
tc_calcom_cancel_body(const char *reason, char *out, size_t size)
{
	TcWriter writer;

	tc_write_begin(&writer, out, size);
	tc_write_raw(&writer, "{");
	tc_write_member(&writer, "cancellationReason", reason);
	tc_write_raw(&writer, "}");
	return tc_write_end(&writer);
}

/* The body of moving a booking. */
size_t
tc_calcom_reschedule_body(int64_t start, const char *reason, char *out, size_t size)
{
	TcWriter writer;

	tc_write_begin(&writer, out, size);
	tc_write_raw(&writer, "{");
	write_time_member(&writer, "start", start);
	tc_write_member(&writer, "reschedulingReason", reason);
	tc_write_raw(&writer, "}");
	return tc_write_end(&writer);
}

/* A parameter of a query with a time, unless there is none. */
static void
write_time_parameter(TcWriter *writer, const char *name, int64_t time)
{
	char text[TC_TIME_ISO_LEN + 1];

	if (time == TC_TIME_NONE)
		return;
	writer->failed |= !tc_time_print_iso(time, text);
	tc_write_raw(writer, name);
	tc_write_url(writer, text);
}

/* The path of a list. */
size_t
tc_calcom_list_path(const TcCalcomListQuery *query, char *out, size_t size)
{
	TcWriter writer;

	tc_write_begin(&writer, out, size);
	writer.failed |= query->take < 1 || query->take > 250 || query->skip < 0;
	tc_write_raw(&writer, TC_CALCOM_BOOKINGS_PATH "?sortCreated=desc&take=");
	tc_write_integer(&writer, query->take);
	tc_write_raw(&writer, "&skip=");
	tc_write_integer(&writer, query->skip);
	if (query->event_type_id > 0)
	{
		tc_write_raw(&writer, "&eventTypeId=");
		tc_write_integer(&writer, query->event_type_id);
	}
	if (query->email != NULL)
	{
		tc_write_raw(&writer, "&attendeeEmail=");
		tc_write_url(&writer, query->email);
	}
	write_time_parameter(&writer, "&afterStart=", query->after_start);
	write_time_parameter(&writer, "&beforeEnd=", query->before_end);
	return tc_write_end(&writer);
}
