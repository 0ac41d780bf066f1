/*
 * test_calcom_request_core.c
 *		Paths and bodies of requests.
 */
#include "calcom_request_core.h"
#include "json_walk_core.h"
#include "time_core.h"
#include "unit.h"

#define START INT64_C(1723539600000000) /* 2024-08-13T09:00:00Z */

static char out[65536];

/* A string of n times the same. */
static const char *
repeat(const char *piece, int n)
{
	static char texts[2][2048];
	static int next;
	char *text = texts[next ^= 1];

	text[0] = '\0';
	while (n-- > 0)
		strcat(text, piece);
	return text;
}

static TcCalcomBookingRequest
request(void)
{
	static const TcCalcomPair metadata[] = {{"call_id", "Jabr9"}, {"tenantcall_key", "k\"1"}};

	return (TcCalcomBookingRequest){
		.event_type_id = 123,
		.start = START,
		.name = "John \"Jo\" D\xc3\xb6",
		.email = "john.doe@example.com",
		.phone = "+919876543210",
		.time_zone = "America/New_York",
		.language = "it",
		.metadata = metadata,
		.nmetadata = 2,
	};
}

static void
booking(void)
{
	TcCalcomBookingRequest r = request();
	size_t len = tc_calcom_booking_body(&r, out, sizeof(out));
	TcJsonMember root;

	CHECK_STR(out,
			  "{\"eventTypeId\":123,\"start\":\"2024-08-13T09:00:00.000Z\",\"attendee\":{\"name\":"
			  "\"John \\\"Jo\\\" D\xc3\xb6\",\"email\":\"john.doe@example.com\",\"phoneNumber\":"
			  "\"+919876543210\",\"timeZone\":\"America/New_York\",\"language\":\"it\"},"
			  "\"metadata\":{\"call_id\":\"Jabr9\",\"tenantcall_key\":\"k\\\"1\"}}");
	CHECK_INT(len, strlen(out));
	CHECK(tc_json_value(out, len, &root));
	CHECK_INT(tc_calcom_booking_body(&r, out, len), 0);
	CHECK_INT(tc_calcom_booking_body(&r, out, len + 1), len);
	r = (TcCalcomBookingRequest){.event_type_id = 1,
								 .duration = 45,
								 .name = "x",
								 .email = "",
								 .phone = "+4930",
								 .time_zone = "UTC"};
	CHECK(tc_calcom_booking_body(&r, out, sizeof(out)) > 0);
	CHECK_STR(out,
			  "{\"eventTypeId\":1,\"start\":\"1970-01-01T00:00:00.000Z\",\"lengthInMinutes\":45,"
			  "\"attendee\":{\"name\":\"x\",\"phoneNumber\":\"+4930\",\"timeZone\":\"UTC\"}}");
}

/* Each of these alone makes the request impossible. */
static void
booking_refuses(void)
{
	for (int i = 0; i < 8; i++)
	{
		TcCalcomBookingRequest r = request();

		if (i == 0)
			r.event_type_id = 0;
		else if (i == 1)
			r.name = "";
		else if (i == 2)
			r.name = NULL;
		else if (i == 3)
			r.time_zone = NULL;
		else if (i == 4)
			r.email = r.phone = NULL;
		else if (i == 5)
			r.name = "\xff";
		else if (i == 6)
			r.start = TC_TIME_NONE;
		else
			r.duration = -1;
		CHECK_INT(tc_calcom_booking_body(&r, out, sizeof(out)), 0);
		CHECK_STR(out, "");
	}
}

/* 50 pairs, 40 and 500 characters as the vendor counts them: in UTF-16. */
static void
metadata(void)
{
	static char names[TC_CALCOM_META_PAIRS + 1][8];
	TcCalcomPair pairs[TC_CALCOM_META_PAIRS + 1];

	for (int i = 0; i <= TC_CALCOM_META_PAIRS; i++)
	{
		(void) snprintf(names[i], sizeof(names[i]), "k%d", i);
		pairs[i] = (TcCalcomPair){names[i], ""};
	}
	CHECK_INT(tc_calcom_bad_metadata(pairs, TC_CALCOM_META_PAIRS), -1);
	CHECK_INT(tc_calcom_bad_metadata(pairs, TC_CALCOM_META_PAIRS + 1), TC_CALCOM_META_PAIRS);
	CHECK_INT(tc_calcom_bad_metadata(NULL, 0), -1);
	pairs[0] = (TcCalcomPair){repeat("\xc3\xa4", 40), repeat("\xf0\x9f\x98\x80", 250)};
	CHECK_INT(tc_calcom_bad_metadata(pairs, 1), -1);
	pairs[0].name = repeat("x", 41);
	CHECK_INT(tc_calcom_bad_metadata(pairs, 1), 0);
	pairs[0] = (TcCalcomPair){"k", repeat("\xf0\x9f\x98\x80", 251)};
	CHECK_INT(tc_calcom_bad_metadata(pairs, 1), 0);
	pairs[0] = (TcCalcomPair){"k", repeat("v", 501)};
	CHECK_INT(tc_calcom_bad_metadata(pairs, 1), 0);
	pairs[0] = (TcCalcomPair){"", ""};
	CHECK_INT(tc_calcom_bad_metadata(pairs, 1), 0);
	pairs[0] = (TcCalcomPair){"k1", ""};
	CHECK_INT(tc_calcom_bad_metadata(pairs, 3), 1);
}

static void
paths(void)
{
	CHECK(tc_calcom_booking_path("uid_1", NULL, out, sizeof(out)) > 0);
	CHECK_STR(out, "/v2/bookings/uid_1");
	CHECK(tc_calcom_booking_path("a/../b?c", "cancel", out, sizeof(out)) > 0);
	CHECK_STR(out, "/v2/bookings/a%2F..%2Fb%3Fc/cancel");
	CHECK_INT(tc_calcom_booking_path("", "cancel", out, sizeof(out)), 0);
	CHECK_INT(tc_calcom_booking_path(NULL, "cancel", out, sizeof(out)), 0);
	CHECK_INT(tc_calcom_booking_path("..", "cancel", out, sizeof(out)), 0);
}

static void
other_bodies(void)
{
	CHECK(tc_calcom_cancel_body("ill\n", out, sizeof(out)) > 0);
	CHECK_STR(out, "{\"cancellationReason\":\"ill\\n\"}");
	CHECK_INT(tc_calcom_cancel_body(NULL, out, sizeof(out)), 2);
	CHECK_STR(out, "{}");
	CHECK(tc_calcom_reschedule_body(START, NULL, out, sizeof(out)) > 0);
	CHECK_STR(out, "{\"start\":\"2024-08-13T09:00:00.000Z\"}");
	CHECK(tc_calcom_reschedule_body(START, "later", out, sizeof(out)) > 0);
	CHECK_STR(out, "{\"start\":\"2024-08-13T09:00:00.000Z\",\"reschedulingReason\":\"later\"}");
	CHECK_INT(tc_calcom_reschedule_body(TC_TIME_NONE, NULL, out, sizeof(out)), 0);
	CHECK(tc_calcom_reservation_body(1, START, 5, out, sizeof(out)) > 0);
	CHECK_STR(out, "{\"eventTypeId\":1,\"slotStart\":\"2024-08-13T09:00:00.000Z\","
				   "\"reservationDuration\":5}");
	CHECK_INT(tc_calcom_reservation_body(0, START, 5, out, sizeof(out)), 0);
}

static void
lists(void)
{
	TcCalcomListQuery query = {501, "a+b@example.com", START, START + TC_TIME_SECOND, 100, 200};

	CHECK(tc_calcom_list_path(&query, out, sizeof(out)) > 0);
	CHECK_STR(out, "/v2/bookings?sortCreated=desc&take=100&skip=200&eventTypeId=501"
				   "&attendeeEmail=a%2Bb%40example.com&afterStart=2024-08-13T09%3A00%3A00.000Z"
				   "&beforeEnd=2024-08-13T09%3A00%3A01.000Z");
	query = (TcCalcomListQuery){0, NULL, TC_TIME_NONE, TC_TIME_NONE, 1, 0};
	CHECK(tc_calcom_list_path(&query, out, sizeof(out)) > 0);
	CHECK_STR(out, "/v2/bookings?sortCreated=desc&take=1&skip=0");
	query.take = 251;
	CHECK_INT(tc_calcom_list_path(&query, out, sizeof(out)), 0);
}

int
main(void)
{
	RUN(booking);
	RUN(booking_refuses);
	RUN(metadata);
	RUN(paths);
	RUN(other_bodies);
	RUN(lists);
	return unit_summary();
}
