/*
 * fuzz_calcom.c
 *		Fuzzes what reads Cal.com's answers, webhooks and headers, and what writes requests.
 *
 * The first byte chooses what stands around the rest, so that the fuzzer need not find out by
 * itself how an answer begins.  Checked besides the sanitizers: what is accepted is what the
 * headers promise, and what is written can be read.
 */
#include <stdlib.h>
#include <string.h>

#include "calcom_core.h"
#include "calcom_limit_core.h"
#include "calcom_request_core.h"
#include "calcom_slots_core.h"
#include "calcom_webhook_core.h"
#include "fuzz.h"
#include "json_walk_core.h"
#include "json_write_core.h"
#include "time_core.h"

#define MAX_SLOTS 64
#define NOW (INT64_C(1723539600) * TC_TIME_SECOND)

static const char *const around[][2] = {
	{"", ""},
	{"{\"status\":\"success\",\"data\":", "}"},
	{"{\"status\":\"success\",\"data\":{\"2050-09-05\":[", "]}}"},
	{"{\"status\":\"success\",\"data\":{\"slots\":{\"2050-09-05\":[{\"time\":\"", "\"}]}}}"},
	{"{\"status\":\"success\",\"data\":[{\"uid\":\"u\",\"status\":\"accepted\",\"metadata\":{",
	 "}}]}"},
	{"{\"status\":\"error\",\"error\":{\"code\":\"X\",\"message\":", "}}"},
	{"{\"triggerEvent\":\"BOOKING_CREATED\",\"payload\":{", "}}"},
	{"{\"triggerEvent\":\"", "\"}"},
};

#define N_AROUND (sizeof(around) / sizeof(around[0]))

/* Is the time one that is printed as it would be read? */
static void
require_time(int64_t time)
{
	char text[TC_TIME_ISO_LEN + 1];
	int64_t again;

	if (time == TC_TIME_NONE || !tc_time_print_iso(time, text))
		return;
	require(tc_time_parse_iso(text, TC_TIME_ISO_LEN, &again));
	require(time - again >= 0 && time - again < 1000);
}

/* Is the text UTF-8 that a JSON string gives back? */
static void
require_text(const char *text)
{
	char json[4096];
	char again[1024];
	TcJsonMember value;
	TcWriter writer;
	size_t len;

	tc_write_begin(&writer, json, sizeof(json));
	tc_write_string(&writer, text);
	len = tc_write_end(&writer);
	require(len > 0 && tc_json_value(json, len, &value));
	require(tc_json_string(&value, again, sizeof(again)) && strcmp(text, again) == 0);
}

/* Walks through all of a value; returns how many values it has. */
static size_t
count(const TcJsonMember *value)
{
	TcJsonMember member;
	TcJsonWalk walk;
	size_t n = 1;

	if (!tc_json_walk(value, &walk))
		return n;
	while (tc_json_next(&walk, &member))
		n += count(&member);
	for (; walk.at < walk.end; walk.at++)
		require(strchr(" \t\r\n", *walk.at) != NULL);
	return n;
}

/* Reads the text as JSON; what the strict scanner takes, the walk takes. */
static void
fuzz_json(const char *text, size_t len)
{
	TcJsonObject object;
	TcJsonMember value;
	bool is_json = tc_json_value(text, len, &value);
	char clip[16];

	if (tc_json_scan(text, len, &object))
	{
		require(is_json && count(&value) > (size_t) object.nmembers);
		for (int i = 0; i < object.nmembers; i++)
			if (tc_json_clip(&object.members[i], clip, sizeof(clip)))
				require_text(clip);
	}
	else if (is_json)
		(void) count(&value);
}

/* Reads the text as each kind of answer. */
static void
fuzz_answers(const char *text, size_t len)
{
	TcCalcomMark mark = {"k", "v"};
	int64_t starts[MAX_SLOTS];
	TcCalcomVerdict verdict;
	TcCalcomBooking booking;
	char uid[TC_CALCOM_UID];
	bool more;
	int n;

	if (tc_calcom_parse_slots(text, len, starts, MAX_SLOTS, &n) != TC_CALCOM_PARSED)
		require(n == 0);
	require(n >= 0 && n <= MAX_SLOTS);
	for (int i = 0; i < n; i++)
	{
		require(i == 0 || starts[i] > starts[i - 1]);
		require_time(starts[i]);
	}
	if (tc_calcom_parse_booking(text, len, "k", &booking) == TC_CALCOM_PARSED)
		require(booking.uid[0] != '\0' && booking.status[0] != '\0');
	require_text(booking.mark);
	if (tc_calcom_find_booking(text, len, &mark, &booking, &more) == TC_CALCOM_PARSED)
		require(strcmp(booking.mark, "v") == 0 && booking.uid[0] != '\0');
	else
		require(booking.uid[0] == '\0');
	(void) tc_calcom_parse_reservation(text, len, uid, &starts[0]);
	require_text(uid);
	for (int status = 200; status < 600; status += 100)
	{
		tc_calcom_classify(status, text, len, &verdict);
		require((verdict.answer == TC_CALCOM_OK) == (verdict.reason[0] == '\0'));
		require(verdict.answer != TC_CALCOM_OK || status == 200);
		require_text(verdict.code);
		require_text(verdict.reason);
	}
}

/* Reads the text as a webhook. */
static void
fuzz_webhook(const char *text, size_t len)
{
	TcCalcomWebhook webhook;

	if (tc_calcom_parse_webhook(text, len, "k", &webhook) == TC_CALCOM_PARSED)
		require(webhook.trigger_name[0] != '\0');
	require_text(webhook.trigger_name);
	require_text(webhook.uid);
	require_text(webhook.mark);
	require_time(webhook.created_at);
	require_time(webhook.start);
}

/* Is the time between now and the longest wait? */
static void
require_bounded(int64_t time)
{
	require(time == TC_TIME_NONE || (time >= NOW && time <= NOW + TC_CALCOM_LONGEST_WAIT));
}

/* Reads the text as a header line, as the value of each header, and as times. */
static void
fuzz_headers(const char *text, size_t len)
{
	static const char *const names[] = {"X-RateLimit-Reset-Default", "X-RateLimit-Remaining",
										"X-RateLimit-Limit-Key", "Retry-After"};
	TcCalcomLimits limits;
	int64_t time;

	tc_calcom_limits_init(&limits);
	(void) tc_calcom_limit_line(text, len, NOW, &limits);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && memchr(text, '\0', len) == NULL; i++)
	{
		char *value = strndup(text, len);

		(void) tc_calcom_limit_header(names[i], value, NOW, &limits);
		free(value);
	}
	require_bounded(limits.reset);
	require_bounded(limits.retry);
	require(limits.limit >= -1 && limits.remaining >= -1);
	if (tc_time_parse_iso(text, len, &time) || tc_time_parse_http(text, len, &time))
		require_time(time);
	(void) tc_time_is_date(text, len);
}

/* Writes a request with the text in every place; what is written is JSON of that text. */
static void
fuzz_requests(const char *text, size_t len)
{
	char *copy = strndup(text, len);
	TcCalcomPair pair = {copy, copy};
	TcCalcomBookingRequest request = {.event_type_id = 1,
									  .name = copy,
									  .email = copy,
									  .time_zone = copy,
									  .metadata = &pair,
									  .nmetadata = 1};
	static char out[65536];
	TcJsonMember root;
	TcJsonMember name;
	static char again[8192];
	size_t n = tc_calcom_booking_body(&request, out, sizeof(out));

	if (n > 0)
	{
		require(tc_json_value(out, n, &root) && strlen(out) == n);
		require(tc_json_get_path(&root, "attendee.name", &name));
		require(tc_json_string(&name, again, sizeof(again)) && strcmp(again, copy) == 0);
	}
	n = tc_calcom_booking_path(copy, "cancel", out, sizeof(out));
	require(n == strlen(out) && strpbrk(out, " ?#&%\r\n") == strchr(out, '%'));
	free(copy);
}

/* Reads the text as a webhook's signature. */
static void
fuzz_signature(const char *text, size_t len)
{
	uint8_t digest[TC_CALCOM_DIGEST_LEN];

	if (tc_calcom_signature_parse(text, len, digest))
		require(len == 64 && is_hex_of(text, digest, TC_CALCOM_DIGEST_LEN));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *const *frame = around[size > 0 ? data[0] % N_AROUND : 0];
	size_t before = strlen(frame[0]);
	size_t after = strlen(frame[1]);
	size_t len = size > 0 ? size - 1 : 0;
	/* a copy of its own, so that the sanitizer sees a read beyond its end */
	char *whole = malloc(before + len + after > 0 ? before + len + after : 1);

	memcpy(whole, frame[0], before);
	if (len > 0)
		memcpy(whole + before, data + 1, len);
	memcpy(whole + before + len, frame[1], after);
	fuzz_json(whole, before + len + after);
	fuzz_answers(whole, before + len + after);
	fuzz_webhook(whole, before + len + after);
	fuzz_headers(whole + before, len);
	fuzz_requests(whole + before, len);
	fuzz_signature(whole + before, len);
	free(whole);
	return 0;
}
