/*
 * test_calcom_core.c
 *		Cal.com's signature header, and what answers mean.
 */
#include "calcom_core.h"
#include "unit.h"
#include "unit_fixture.h"

#define D "77635c0c6a83b8f106daddb49ac000c254af00521e32a0632c95651ea4e431e5"

static uint8_t digest[TC_CALCOM_DIGEST_LEN];

static bool
parse(const char *header)
{
	return tc_calcom_signature_parse(header, strlen(header), digest);
}

/* The vectors of test/fixtures/calcom/signature_vectors.json. */
static void
vectors(void)
{
	CHECK(parse(D));
	CHECK_INT(digest[0], 0x77);
	CHECK_INT(digest[31], 0xe5);
	CHECK(!parse("no-secret-provided"));
}

static void
refuses_the_rest(void)
{
	CHECK(!parse(""));
	CHECK(!parse(D "0"));
	CHECK(!parse("sha256=" D));
	CHECK(!parse(" " D));
	CHECK(!parse("x7635c0c6a83b8f106daddb49ac000c254af00521e32a0632c95651ea4e431e5"));
	CHECK(!tc_calcom_signature_parse(D, 63, digest));
}

static TcCalcomVerdict verdict;

static TcCalcomAnswer
classify(int http_status, const char *body)
{
	tc_calcom_classify(http_status, body, strlen(body), &verdict);
	return verdict.answer;
}

static TcCalcomAnswer
classify_fixture(int http_status, const char *name)
{
	const Fixture *body = fixture(name);

	tc_calcom_classify(http_status, body->text, body->len, &verdict);
	return verdict.answer;
}

#define ERROR(message)                                                                             \
	"{\"status\":\"error\",\"error\":{\"code\":\"X\",\"message\":\"" message "\"}}"

static void
answers_that_are_good(void)
{
	CHECK_INT(classify_fixture(200, "calcom/slots_v2.json"), TC_CALCOM_OK);
	CHECK_INT(classify_fixture(200, "calcom/slots_empty.json"), TC_CALCOM_OK);
	CHECK_INT(classify_fixture(201, "calcom/booking_response.json"), TC_CALCOM_OK);
	CHECK_STR(verdict.reason, "");
}

/* That a time is taken comes with several statuses and words. */
static void
busy_by_message(void)
{
	CHECK_INT(classify_fixture(400, "calcom/booking_error_taken.json"), TC_CALCOM_BUSY);
	CHECK_STR(verdict.code, "BadRequestException");
	CHECK_STR(verdict.reason, "User either already has booking at this time or is not available");
	CHECK_INT(classify_fixture(409, "calcom/booking_error_conflict.json"), TC_CALCOM_BUSY);
	CHECK_INT(classify(422, ERROR("Can't reserve a slot if the event is already booked.")),
			  TC_CALCOM_BUSY);
	CHECK_INT(classify(400, ERROR("NO_AVAILABLE_USERS_FOUND_ERROR")), TC_CALCOM_BUSY);
	CHECK_INT(classify(409, ERROR("whatever")), TC_CALCOM_BUSY);
	CHECK_INT(classify(400, "{\"message\":[\"x is not available\"],\"error\":\"Bad\"}"),
			  TC_CALCOM_BUSY);
}

static void
other_refusals(void)
{
	CHECK_INT(classify(400, ERROR("Attempting to book a meeting in the past.")), TC_CALCOM_INVALID);
	CHECK_INT(classify(422, ERROR("no")), TC_CALCOM_INVALID);
	CHECK_INT(classify(404, ERROR("Event type with id 1 not found.")), TC_CALCOM_NOT_FOUND);
	CHECK_INT(classify(404, ERROR("is not available")), TC_CALCOM_NOT_FOUND);
	for (int answer = TC_CALCOM_OK; answer <= TC_CALCOM_GARBLED; answer++)
	{
		bool refusal = answer >= TC_CALCOM_BUSY && answer <= TC_CALCOM_NOT_FOUND;

		CHECK_INT(tc_calcom_is_refusal(answer), refusal);
		CHECK(!(refusal && tc_calcom_is_failure(answer)));
		CHECK(tc_calcom_answer_name(answer)[0] != '\0');
	}
	CHECK(!tc_calcom_is_failure(TC_CALCOM_OK) && !tc_calcom_is_failure(TC_CALCOM_RATE_LIMITED));
}

static void
failures(void)
{
	CHECK_INT(classify(401, "Unauthorized"), TC_CALCOM_UNAUTHORIZED);
	CHECK_INT(classify(403, ERROR("not available")), TC_CALCOM_UNAUTHORIZED);
	CHECK_INT(classify(429, ""), TC_CALCOM_RATE_LIMITED);
	CHECK_STR(verdict.reason, "HTTP status 429, not JSON");
	CHECK_INT(classify(500, ERROR("already has booking")), TC_CALCOM_UPSTREAM);
	CHECK_INT(classify(503, "<html>"), TC_CALCOM_UPSTREAM);
	CHECK_INT(classify(408, ""), TC_CALCOM_UPSTREAM);
	CHECK_INT(classify(0, ""), TC_CALCOM_UPSTREAM);
	CHECK_STR(verdict.reason, "no answer");
}

/* Whoever answers otherwise is not Cal.com, and says nothing about a booking. */
static void
garbled(void)
{
	CHECK_INT(classify(200, ""), TC_CALCOM_GARBLED);
	CHECK_INT(classify(200, "<html>hotel</html>"), TC_CALCOM_GARBLED);
	CHECK_INT(classify(200, "{\"status\":\"success\""), TC_CALCOM_GARBLED);
	CHECK_INT(classify(200, "{\"status\":\"success\"}"), TC_CALCOM_GARBLED);
	CHECK_INT(classify(200, "[]"), TC_CALCOM_GARBLED);
	CHECK_INT(classify(200, ERROR("already has booking")), TC_CALCOM_GARBLED);
	CHECK_INT(classify(400, "<html>"), TC_CALCOM_GARBLED);
	CHECK_INT(classify(404, "<html>"), TC_CALCOM_GARBLED);
	CHECK_INT(classify(404, "{}"), TC_CALCOM_GARBLED);
	CHECK_INT(classify(302, ""), TC_CALCOM_GARBLED);
	CHECK_INT(classify(204, ""), TC_CALCOM_GARBLED);
	CHECK_INT(classify(999, ERROR("x")), TC_CALCOM_GARBLED);
	(void) classify(400, "{\"status\":\"error\",\"error\":\"plain\"}");
	CHECK_STR(verdict.reason, "plain");
}

/* A message of any length, with whatever is in it, becomes one short line. */
static void
reasons_are_bounded(void)
{
	char body[2000];
	int n = snprintf(body, sizeof(body), "{\"error\":{\"code\":\"");

	memset(body + n, 'c', 200);
	n += 200;
	n += snprintf(body + n, sizeof(body) - n, "\",\"message\":\"a\\nb");
	memset(body + n, 'm', 1000);
	n += 1000;
	(void) snprintf(body + n, sizeof(body) - n, "\"}}");
	CHECK_INT(classify(400, body), TC_CALCOM_INVALID);
	CHECK_INT(strlen(verdict.code), TC_CALCOM_CODE - 1);
	CHECK_INT(strlen(verdict.reason), TC_CALCOM_REASON - 1);
	CHECK_MEM(verdict.reason, "a bmm", 5);
}

int
main(void)
{
	RUN(vectors);
	RUN(refuses_the_rest);
	RUN(answers_that_are_good);
	RUN(busy_by_message);
	RUN(other_refusals);
	RUN(failures);
	RUN(garbled);
	RUN(reasons_are_bounded);
	return unit_summary();
}
