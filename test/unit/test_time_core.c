/*
 * test_time_core.c
 *		Times as vendors write them, and what is none.
 */
#include "time_core.h"
#include "unit.h"

#define SEPTEMBER_5 INT64_C(2545974000000000) /* 2050-09-05T07:00:00Z, by date -u +%s */

static int64_t
iso(const char *text)
{
	int64_t time;

	return tc_time_parse_iso(text, strlen(text), &time) ? time : TC_TIME_NONE;
}

static int64_t
http(const char *text)
{
	int64_t time;

	return tc_time_parse_http(text, strlen(text), &time) ? time : TC_TIME_NONE;
}

static void
iso_in_every_form(void)
{
	CHECK_INT(iso("1970-01-01T00:00:00Z"), 0);
	CHECK_INT(iso("2050-09-05T07:00:00Z"), SEPTEMBER_5);
	CHECK_INT(iso("2050-09-05T07:00:00.000Z"), SEPTEMBER_5);
	CHECK_INT(iso("2050-09-05T07:00Z"), SEPTEMBER_5);
	CHECK_INT(iso("2050-09-05T09:00:00.000+02:00"), SEPTEMBER_5);
	CHECK_INT(iso("2050-09-05T09:00:00+0200"), SEPTEMBER_5);
	CHECK_INT(iso("2050-09-05T09:00:00+02"), SEPTEMBER_5);
	CHECK_INT(iso("2050-09-05T12:30:00.000+05:30"), SEPTEMBER_5);
	CHECK_INT(iso("2050-09-04T23:00:00-08:00"), SEPTEMBER_5);
	CHECK_INT(iso("2050-09-05T07:00:00.1234567Z"), SEPTEMBER_5 + 123456);
	CHECK_INT(iso("1969-12-31T23:59:59.999999Z"), -1);
	CHECK_INT(iso("2024-02-29T00:00:00Z"), INT64_C(1709164800000000));
}

static void
iso_refuses(void)
{
	static const char *const wrong[] = {
		"",
		"2050-09-05",
		"2050-09-05T07:00:00",
		"2050-09-05 07:00:00Z",
		"2050-09-05T07:00:00z",
		"2050-9-05T07:00:00Z",
		"2050-09-05T07:00:00.Z",
		"2050-09-05T07:00:00ZZ",
		"2050-09-05T24:00:00Z",
		"2050-09-05T07:60:00Z",
		"2050-09-05T07:00:60Z",
		"2050-13-05T07:00:00Z",
		"2050-00-05T07:00:00Z",
		"2050-09-31T07:00:00Z",
		"2050-02-29T07:00:00Z",
		"2100-02-29T07:00:00Z",
		"0000-01-01T00:00:00Z",
		"2050-09-05T07:00:00+2:00",
		"2050-09-05T07:00:00+02:",
		"2050-09-05T07:00:00+99:00",
		"2050-09-05T07:00:00+02:60",
		"+050-09-05T07:00:00Z",
	};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		if (!CHECK(iso(wrong[i]) == TC_TIME_NONE))
			printf("%s\n", wrong[i]);
}

static void
dates(void)
{
	CHECK(tc_time_is_date("2050-09-05", 10));
	CHECK(tc_time_is_date("2024-02-29", 10));
	CHECK(!tc_time_is_date("2050-02-29", 10));
	CHECK(!tc_time_is_date("2050-09-05T", 11));
	CHECK(!tc_time_is_date("hosts", 5));
	CHECK(!tc_time_is_date("", 0));
}

/* Every day of 800 years, and the edges, are printed as they are read. */
static void
prints_what_it_reads(void)
{
	char text[TC_TIME_ISO_LEN + 1];
	int64_t first = iso("1600-01-01T00:00:00Z");

	for (int64_t day = 0; day < 2 * 146097; day++)
	{
		int64_t time = first + day * 86400 * TC_TIME_SECOND + (day % 86400) * TC_TIME_SECOND +
					   day % 1000 * 1000;

		if (!CHECK(tc_time_print_iso(time, text)) || !CHECK_INT(iso(text), time))
			break;
	}
	CHECK(tc_time_print_iso(SEPTEMBER_5, text));
	CHECK_STR(text, "2050-09-05T07:00:00.000Z");
	CHECK(tc_time_print_iso(-1, text));
	CHECK_STR(text, "1969-12-31T23:59:59.999Z");
	CHECK(tc_time_print_iso(iso("0001-01-01T00:00:00Z"), text));
	CHECK(tc_time_print_iso(iso("9999-12-31T23:59:59.999999Z"), text));
	CHECK_STR(text, "9999-12-31T23:59:59.999Z");
	CHECK(!tc_time_print_iso(iso("9999-12-31T23:59:59.999999Z") + 1, text));
	CHECK(!tc_time_print_iso(iso("0001-01-01T00:00:00Z") - 1, text));
	CHECK(!tc_time_print_iso(TC_TIME_NONE, text));
	CHECK(!tc_time_print_iso(INT64_MAX, text));
	CHECK_STR(text, "");
}

static void
http_dates(void)
{
	CHECK_INT(http("Thu, 01 Jan 1970 00:00:00 GMT"), 0);
	CHECK_INT(http("Mon, 05 Sep 2050 07:00:00 GMT"), SEPTEMBER_5);
	CHECK_INT(http("Mon, 05 Sep 2050 07:00:00 UTC"), TC_TIME_NONE);
	CHECK_INT(http("Mon, 5 Sep 2050 07:00:00 GMT"), TC_TIME_NONE);
	CHECK_INT(http("Mon, 31 Feb 2050 07:00:00 GMT"), TC_TIME_NONE);
	CHECK_INT(http("Monday, 05-Sep-50 07:00:00 GMT"), TC_TIME_NONE);
	CHECK_INT(http("60"), TC_TIME_NONE);
	CHECK_INT(http(""), TC_TIME_NONE);
}

int
main(void)
{
	RUN(iso_in_every_form);
	RUN(iso_refuses);
	RUN(dates);
	RUN(prints_what_it_reads);
	RUN(http_dates);
	return unit_summary();
}
