/*
 * calcom_core.c
 *		Cal.com: the webhook's signature header, and what an answer means.
 *
 * X-Cal-Signature-256 is the HMAC-SHA256 of the raw body in hex, or the words "no-secret-provided",
 * which fail here like anything else that is not 64 digits.
 *
 * An answer is judged by its status first.  Those of a refusal (400, 404, 409, 422, …) count as one
 * only when the body speaks as the vendor does, in JSON with an error: a proxy's or a portal's page
 * says nothing about a booking.  That a time is taken comes with several statuses, so it is told
 * from other refusals by the message.
 */
#include "calcom_core.h"

#include <stdio.h>
#include <string.h>

#include "calcom_read_core.h"
#include "codec_core.h"

static const char *const answer_names[] = {
	[TC_CALCOM_OK] = "ok",
	[TC_CALCOM_BUSY] = "busy",
	[TC_CALCOM_INVALID] = "invalid",
	[TC_CALCOM_NOT_FOUND] = "not_found",
	[TC_CALCOM_UNAUTHORIZED] = "unauthorized",
	[TC_CALCOM_RATE_LIMITED] = "rate_limited",
	[TC_CALCOM_UPSTREAM] = "upstream",
	[TC_CALCOM_GARBLED] = "garbled",
};

_Static_assert(sizeof(answer_names) / sizeof(answer_names[0]) == TC_CALCOM_GARBLED + 1,
			   "every answer has a name");

/* What messages say, in lower case, when the time is taken or not offered. */
static const char *const busy_phrases[] = {
	"already has booking", "no_available_users_found", "not available",		 "no longer available",
	"no availability",	   "already booked",		   "already reserved",	 "booking_conflict",
	"no more seats",	   "booking_seats_full",	   "no available users",
};

/* Parses the whole header. */
bool
tc_calcom_signature_parse(const char *header, size_t len, uint8_t digest[TC_CALCOM_DIGEST_LEN])
{
	return tc_hex_decode(header, len, digest, TC_CALCOM_DIGEST_LEN);
}

/* The letter in lower case, ASCII only. */
static char
lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char) (c - 'A' + 'a') : c;
}

/* Does the text contain the phrase, which is in lower case, in any case? */
static bool
contains(const char *text, const char *phrase)
{
	for (; *text != '\0'; text++)
	{
		size_t i = 0;

		while (phrase[i] != '\0' && lower(text[i]) == phrase[i])
			i++;
		if (phrase[i] == '\0')
			return true;
	}
	return false;
}

/* Does the message say that the time is taken? */
static bool
says_busy(const TcCalcomVerdict *verdict)
{
	for (size_t i = 0; i < sizeof(busy_phrases) / sizeof(busy_phrases[0]); i++)
		if (contains(verdict->reason, busy_phrases[i]))
			return true;
	return false;
}

/* Takes a message, which may be a list of them. */
static bool
take_message(const TcJsonMember *message, char *out, size_t outsize)
{
	TcJsonMember first;
	TcJsonWalk walk;

	if (message->kind == TC_JSON_ARRAY)
		return tc_json_walk(message, &walk) && tc_json_next(&walk, &first) &&
			   tc_json_clip(&first, out, outsize);
	return tc_json_clip(message, out, outsize);
}

/*
 * Reads code and message of {error: {code, message}}, or the framework's own {message, error};
 * false when the body is neither.
 */
static bool
read_error(const TcJsonMember *root, TcCalcomVerdict *verdict)
{
	TcJsonMember error;
	TcJsonMember member;
	bool has_error = tc_json_get(root, "error", &error) && error.kind != TC_JSON_NULL;

	if (has_error && tc_json_get(&error, "code", &member))
		(void) tc_json_clip(&member, verdict->code, sizeof(verdict->code));
	if (has_error && tc_json_get(&error, "message", &member) &&
		take_message(&member, verdict->reason, sizeof(verdict->reason)))
		return true;
	if (tc_json_get(root, "message", &member) &&
		take_message(&member, verdict->reason, sizeof(verdict->reason)))
		return true;
	if (has_error)
		(void) tc_json_clip(&error, verdict->reason, sizeof(verdict->reason));
	return has_error;
}

/* The answer that a status in the 400s stands for, when the vendor itself gave it. */
static TcCalcomAnswer
refusal_of(int http_status, const TcCalcomVerdict *verdict)
{
	if (http_status == 404 || http_status == 410)
		return TC_CALCOM_NOT_FOUND;
	if (http_status == 409 || says_busy(verdict))
		return TC_CALCOM_BUSY;
	return TC_CALCOM_INVALID;
}

/* Judges status and error; is_error tells that the body is one of the vendor's. */
static TcCalcomAnswer
judge(int http_status, bool is_error, const TcCalcomVerdict *verdict)
{
	if (http_status == 401 || http_status == 403)
		return TC_CALCOM_UNAUTHORIZED;
	if (http_status == 429)
		return TC_CALCOM_RATE_LIMITED;
	if (http_status == 0 || http_status == 408 || (http_status >= 500 && http_status <= 599))
		return TC_CALCOM_UPSTREAM;
	if (is_error && http_status >= 400 && http_status <= 499)
		return refusal_of(http_status, verdict);
	return TC_CALCOM_GARBLED;
}

/* Judges an answer. */
void
tc_calcom_classify(int http_status, const char *body, size_t len, TcCalcomVerdict *verdict)
{
	TcJsonMember root;
	TcJsonMember data;
	TcCalcomParse parse = tc_calcom_open_answer(body, len, &root, &data);
	bool is_error = false;

	memset(verdict, 0, sizeof(*verdict));
	if (http_status >= 200 && http_status <= 299 && parse == TC_CALCOM_PARSED)
		return;
	if (parse != TC_CALCOM_NOT_JSON)
		is_error = read_error(&root, verdict);
	verdict->answer = judge(http_status, is_error, verdict);
	if (verdict->reason[0] != '\0')
		return;
	if (http_status == 0)
		(void) snprintf(verdict->reason, sizeof(verdict->reason), "no answer");
	else
		(void) snprintf(verdict->reason, sizeof(verdict->reason), "HTTP status %d%s", http_status,
						parse == TC_CALCOM_NOT_JSON ? ", not JSON" : "");
}

/* Did the vendor decide against it? */
bool
tc_calcom_is_refusal(TcCalcomAnswer answer)
{
	return answer == TC_CALCOM_BUSY || answer == TC_CALCOM_INVALID || answer == TC_CALCOM_NOT_FOUND;
}

/* Is it a failure for the breaker?  A limit is not: it says itself when it ends. */
bool
tc_calcom_is_failure(TcCalcomAnswer answer)
{
	return answer == TC_CALCOM_UNAUTHORIZED || answer == TC_CALCOM_UPSTREAM ||
		   answer == TC_CALCOM_GARBLED;
}

/* The answer's name. */
const char *
tc_calcom_answer_name(TcCalcomAnswer answer)
{
	return answer_names[answer];
}
