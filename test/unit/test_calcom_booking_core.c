/*
 * test_calcom_booking_core.c
 *		Answers with bookings, lists of them, and reservations.
 */
#include "calcom_booking_core.h"
#include "time_core.h"
#include "unit.h"
#include "unit_fixture.h"

static TcCalcomBooking booking;
static bool more;

static TcCalcomParse
parse(const char *body)
{
	return tc_calcom_parse_booking(body, strlen(body), "tenantcall_key", &booking);
}

static TcCalcomParse
find(const char *body)
{
	TcCalcomMark mark = {"tenantcall_key", "ours"};

	return tc_calcom_find_booking(body, strlen(body), &mark, &booking, &more);
}

#define OK(data) "{\"status\":\"success\",\"data\":" data "}"

static void
a_booking(void)
{
	const Fixture *body = fixture("calcom/booking_response.json");
	char text[TC_TIME_ISO_LEN + 1];

	CHECK_INT(tc_calcom_parse_booking(body->text, body->len, "call_id", &booking),
			  TC_CALCOM_PARSED);
	CHECK_STR(booking.uid, "booking_uid_123");
	CHECK_INT(booking.id, 123);
	CHECK_INT(booking.event_type_id, 1);
	CHECK_STR(booking.status, "accepted");
	CHECK_STR(booking.rescheduled_from, "previous_uid_123");
	CHECK_STR(booking.rescheduled_to, "");
	CHECK_STR(booking.mark, "");
	CHECK(tc_time_print_iso(booking.start, text));
	CHECK_STR(text, "2024-08-13T15:30:00.000Z");
	CHECK_INT(booking.end - booking.start, 3600 * TC_TIME_SECOND);
	CHECK(tc_calcom_booking_stands(&booking));
}

static void
its_mark(void)
{
	CHECK_INT(parse(OK("{\"uid\":\"u\",\"status\":\"cancelled\",\"eventTypeId\":501,\"metadata\":"
					   "{\"other\":\"x\",\"tenantcall_key\":\"k\\u0031\"}}")),
			  TC_CALCOM_PARSED);
	CHECK_STR(booking.mark, "k1");
	CHECK_INT(booking.event_type_id, 501);
	CHECK_INT(booking.start, TC_TIME_NONE);
	CHECK(!tc_calcom_booking_stands(&booking));
	CHECK_INT(parse(
				  OK("{\"uid\":\"u\",\"status\":\"pending\",\"metadata\":{\"tenantcall_key\":1}}")),
			  TC_CALCOM_PARSED);
	CHECK_STR(booking.mark, "");
	CHECK(tc_calcom_booking_stands(&booking));
}

static void
no_booking(void)
{
	char body[512];

	CHECK_INT(parse(OK("{\"uid\":\"u\"}")), TC_CALCOM_WRONG_SHAPE);
	CHECK_INT(parse(OK("{\"status\":\"accepted\"}")), TC_CALCOM_WRONG_SHAPE);
	CHECK_INT(parse(OK("{\"uid\":1,\"status\":\"accepted\"}")), TC_CALCOM_WRONG_SHAPE);
	CHECK_INT(parse(OK("{\"uid\":\"u\",\"status\":\"accepted\",\"eventTypeId\":\"x\"}")),
			  TC_CALCOM_WRONG_SHAPE);
	CHECK_INT(parse("{\"status\":1,\"data\":{}}"), TC_CALCOM_WRONG_SHAPE);
	CHECK_INT(parse(OK("{\"uid\":\"u\",\"status\":\"accepted\",\"start\":\"soon\"}")),
			  TC_CALCOM_WRONG_SHAPE);
	CHECK_INT(parse(OK("[]")), TC_CALCOM_WRONG_SHAPE);
	CHECK_INT(parse("{\"status\":\"error\",\"error\":{}}"), TC_CALCOM_ERROR_ANSWER);
	CHECK_INT(parse("nothing"), TC_CALCOM_NOT_JSON);
	CHECK_STR(booking.uid, "");
	for (int len = TC_CALCOM_UID - 1; len <= TC_CALCOM_UID; len++)
	{
		(void) snprintf(body, sizeof(body), OK("{\"uid\":\"%0*d\",\"status\":\"accepted\"}"), len,
						7);
		CHECK_INT(parse(body), len < TC_CALCOM_UID ? TC_CALCOM_PARSED : TC_CALCOM_WRONG_SHAPE);
	}
}

#define ONE(id, uid, status, mark)                                                                 \
	"{\"id\":" id ",\"uid\":\"" uid "\",\"status\":\"" status                                      \
	"\",\"metadata\":{\"tenantcall_key\":\"" mark "\"}}"
#define PAGE(more) ",\"pagination\":{\"hasNextPage\":" more "}}"

static void
lists(void)
{
	CHECK_INT(find(OK("[]")), TC_CALCOM_NOT_THERE);
	CHECK_INT(find(OK("[" ONE("1", "a", "accepted", "theirs") "]")), TC_CALCOM_NOT_THERE);
	CHECK_STR(booking.uid, "");
	CHECK_INT(find(OK("[" ONE("1", "a", "accepted", "theirs") "," ONE("2", "b", "accepted",
																	  "ours") "]")),
			  TC_CALCOM_PARSED);
	CHECK_STR(booking.uid, "b");
	CHECK_STR(booking.mark, "ours");
	CHECK(!more);
	CHECK_INT(find("{\"status\":\"success\",\"data\":[]" PAGE("true")), TC_CALCOM_NOT_THERE);
	CHECK(more);
	CHECK_INT(find("{\"status\":\"success\",\"data\":[]" PAGE("false")), TC_CALCOM_NOT_THERE);
	CHECK(!more);
}

/* Of those that were moved, the one that stands; of several, the last. */
static void
the_one_that_counts(void)
{
	CHECK_INT(find(OK("[" ONE("3", "new", "accepted", "ours") "," ONE("9", "old", "cancelled",
																	  "ours") "]")),
			  TC_CALCOM_PARSED);
	CHECK_STR(booking.uid, "new");
	CHECK_INT(find(OK("[" ONE("9", "old", "cancelled", "ours") "," ONE("3", "new", "pending",
																	   "ours") "]")),
			  TC_CALCOM_PARSED);
	CHECK_STR(booking.uid, "new");
	CHECK_INT(find(OK("[" ONE("3", "a", "cancelled", "ours") "," ONE("4", "b", "cancelled",
																	 "ours") "]")),
			  TC_CALCOM_PARSED);
	CHECK_STR(booking.uid, "b");
}

/* What cannot be read may be ours, unless it is marked as somebody else's, or not marked. */
static void
lists_that_cannot_be_read(void)
{
	CHECK_INT(find(OK("[{\"metadata\":{\"tenantcall_key\":\"ours\"}}]")), TC_CALCOM_WRONG_SHAPE);
	CHECK_STR(booking.uid, "");
	CHECK_INT(find(OK("[1]")), TC_CALCOM_WRONG_SHAPE);
	CHECK_INT(find(OK("{}")), TC_CALCOM_WRONG_SHAPE);
	CHECK_INT(find(OK("[{\"uid\":1,\"metadata\":{}},{\"metadata\":null}]")), TC_CALCOM_NOT_THERE);
	CHECK_INT(find("{\"status\":\"error\"}"), TC_CALCOM_ERROR_ANSWER);
}

static void
reservations(void)
{
	const Fixture *body = fixture("calcom/reservation_response.json");
	char uid[TC_CALCOM_UID];
	char text[TC_TIME_ISO_LEN + 1];
	int64_t until;

	CHECK_INT(tc_calcom_parse_reservation(body->text, body->len, uid, &until), TC_CALCOM_PARSED);
	CHECK_STR(uid, "e84be5a3-4696-49e3-acc7-b2f3999c3b94");
	CHECK(tc_time_print_iso(until, text));
	CHECK_STR(text, "2023-09-04T10:00:00.000Z");
	body = fixture("calcom/booking_response.json");
	CHECK_INT(tc_calcom_parse_reservation(body->text, body->len, uid, &until),
			  TC_CALCOM_WRONG_SHAPE);
	CHECK_STR(uid, "");
	CHECK_INT(tc_calcom_parse_reservation("{", 1, uid, &until), TC_CALCOM_NOT_JSON);
}

int
main(void)
{
	RUN(a_booking);
	RUN(its_mark);
	RUN(no_booking);
	RUN(lists);
	RUN(the_one_that_counts);
	RUN(lists_that_cannot_be_read);
	RUN(reservations);
	return unit_summary();
}
