/*
 * test_calcom_slots_core.c
 *		Free slots in every shape; nothing else counts as "nothing is free".
 */
#include "calcom_slots_core.h"
#include "time_core.h"
#include "unit.h"
#include "unit_fixture.h"

static int64_t starts[8];
static int n;

static TcCalcomParse
parse(const char *body)
{
	return tc_calcom_parse_slots(body, strlen(body), starts, 8, &n);
}

static TcCalcomParse
parse_fixture(const char *name)
{
	const Fixture *body = fixture(name);

	return tc_calcom_parse_slots(body->text, body->len, starts, 8, &n);
}

/* The slot as text. */
static const char *
slot(int i)
{
	static char text[TC_TIME_ISO_LEN + 1];

	(void) tc_time_print_iso(starts[i], text);
	return text;
}

static void
fixtures(void)
{
	CHECK_INT(parse_fixture("calcom/slots_v2.json"), TC_CALCOM_PARSED);
	CHECK_INT(n, 2);
	CHECK_STR(slot(0), "2050-09-05T07:00:00.000Z");
	CHECK_STR(slot(1), "2050-09-05T08:00:00.000Z");
	CHECK_INT(parse_fixture("calcom/slots_v2_range.json"), TC_CALCOM_PARSED);
	CHECK_INT(n, 2);
	CHECK_STR(slot(1), "2050-09-05T08:00:00.000Z");
	CHECK_INT(parse_fixture("calcom/slots_available_2024_08_13.json"), TC_CALCOM_PARSED);
	CHECK_INT(n, 1);
	CHECK_STR(slot(0), "2024-09-25T08:00:00.000Z");
	CHECK_INT(parse_fixture("calcom/slots_empty.json"), TC_CALCOM_PARSED);
	CHECK_INT(n, 0);
	CHECK_INT(parse_fixture("calcom/booking_error_taken.json"), TC_CALCOM_ERROR_ANSWER);
	CHECK_INT(parse_fixture("calcom/booking_response.json"), TC_CALCOM_WRONG_SHAPE);
}

#define DAYS(days) "{\"status\":\"success\",\"data\":{" days "}}"
#define AT(time) "{\"start\":\"" time "\"}"

static void
sorted_and_each_once(void)
{
	CHECK_INT(
		parse(DAYS("\"2050-09-06\":[" AT("2050-09-06T09:00:00Z") "," AT("2050-09-06T08:00:00.000Z") "],\"2050-09-05\":[" AT(
			"2050-09-05T11:00:00+02:00") "," AT("2050-09-05T09:00:00Z") "," AT("2050-09-05T08:00:00Z") "],\"2050-09-07\":[]")),
		TC_CALCOM_PARSED);
	CHECK_INT(n, 4);
	CHECK_STR(slot(0), "2050-09-05T08:00:00.000Z");
	CHECK_STR(slot(1), "2050-09-05T09:00:00.000Z");
	CHECK_STR(slot(3), "2050-09-06T09:00:00.000Z");
}

/* 9 are too many for 8, duplicates too: the room is for what comes. */
static void
room(void)
{
	char body[1024] = "{\"status\":\"success\",\"data\":{\"2050-09-05\":[";

	for (int i = 0; i < 9; i++)
	{
		char end[1024];

		(void) snprintf(body + strlen(body), 64, "%s{\"start\":\"2050-09-05T%02d:00:00Z\"}",
						i > 0 ? "," : "", 20 - i);
		(void) snprintf(end, sizeof(end), "%s]}}", body);
		CHECK_INT(parse(end), i < 8 ? TC_CALCOM_PARSED : TC_CALCOM_TOO_MANY);
		CHECK_INT(n, i < 8 ? i + 1 : 0);
		if (i < 8)
			CHECK_INT(starts[i], starts[0] + i * 3600 * TC_TIME_SECOND);
	}
}

static void
not_slots(void)
{
	static const char *const wrong[] = {
		"{\"status\":\"success\"}",
		"{\"data\":{}}",
		"{\"status\":\"success\",\"data\":null}",
		"{\"status\":\"success\",\"data\":[]}",
		"{\"status\":\"success\",\"data\":{\"slots\":[]}}",
		DAYS("\"hosts\":[]"),
		DAYS("\"2050-02-30\":[]"),
		DAYS("\"2050-09-05\":{}"),
		DAYS("\"2050-09-05\":[1]"),
		DAYS("\"2050-09-05\":[{}]"),
		DAYS("\"2050-09-05\":[{\"time\":\"2050-09-05T09:00:00Z\"}]"),
		DAYS("\"2050-09-05\":[{\"start\":null}]"),
		DAYS("\"2050-09-05\":[{\"start\":\"2050-09-05T09:00:00\"}]"),
		"[]",
		"null",
	};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		if (!CHECK_INT(parse(wrong[i]), TC_CALCOM_WRONG_SHAPE))
			printf("%s\n", wrong[i]);
	CHECK_INT(parse(""), TC_CALCOM_NOT_JSON);
	CHECK_INT(parse("<html>"), TC_CALCOM_NOT_JSON);
	CHECK_INT(parse("{\"status\":\"success\",\"data\":{\"2050-09-05\":["), TC_CALCOM_NOT_JSON);
}

static void
paths(void)
{
	TcCalcomSlotsQuery query = {501, 0, 86400 * TC_TIME_SECOND, NULL, 0, NULL};
	char out[256];
	size_t len = tc_calcom_slots_path(&query, out, sizeof(out));

	CHECK_STR(out, "/v2/slots?eventTypeId=501&start=1970-01-01T00%3A00%3A00.000Z"
				   "&end=1970-01-02T00%3A00%3A00.000Z");
	CHECK_INT(len, strlen(out));
	CHECK_INT(tc_calcom_slots_path(&query, out, len), 0);
	CHECK_INT(tc_calcom_slots_path(&query, out, len + 1), len);
	query.time_zone = "America/Argentina/Buenos_Aires";
	query.duration = 45;
	query.moved_uid = "a/b&c";
	CHECK(tc_calcom_slots_path(&query, out, sizeof(out)) > len);
	CHECK_STR(out + len, "&timeZone=America%2FArgentina%2FBuenos_Aires&duration=45"
						 "&bookingUidToReschedule=a%2Fb%26c");
	query.end = query.start;
	CHECK_INT(tc_calcom_slots_path(&query, out, sizeof(out)), 0);
}

int
main(void)
{
	RUN(fixtures);
	RUN(sorted_and_each_once);
	RUN(room);
	RUN(not_slots);
	RUN(paths);
	return unit_summary();
}
