/*
 * calcom_core.h
 *		Cal.com: the webhook's signature header, and what an answer means.  Pure C.
 *
 * The other parts: calcom_slots_core.h, calcom_booking_core.h, calcom_request_core.h,
 * calcom_webhook_core.h, calcom_limit_core.h.  Times are those of time_core.h throughout.
 */
#ifndef TC_CALCOM_CORE_H
#define TC_CALCOM_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TC_CALCOM_DIGEST_LEN 32

#define TC_CALCOM_CODE 64	 /* bytes of an error's code, with the final zero */
#define TC_CALCOM_REASON 256 /* bytes of an error's message, likewise */

/* What an answer's status and body say together. */
typedef enum TcCalcomAnswer
{
	TC_CALCOM_OK,
	TC_CALCOM_BUSY,			/* the time is taken or not offered: a refusal */
	TC_CALCOM_INVALID,		/* the request is wrong: a refusal */
	TC_CALCOM_NOT_FOUND,	/* no such event type or booking: a refusal */
	TC_CALCOM_UNAUTHORIZED, /* the key is wrong, or may not do this */
	TC_CALCOM_RATE_LIMITED,
	TC_CALCOM_UPSTREAM, /* the service failed: whether it acted is not known */
	TC_CALCOM_GARBLED,	/* not an answer of Cal.com: likewise */
} TcCalcomAnswer;

typedef struct TcCalcomVerdict
{
	TcCalcomAnswer answer;
	char code[TC_CALCOM_CODE];	   /* the vendor's, such as ConflictException; may be empty */
	char reason[TC_CALCOM_REASON]; /* the vendor's message, or ours; empty when OK */
} TcCalcomVerdict;

/* What the parsers of bodies return. */
typedef enum TcCalcomParse
{
	TC_CALCOM_PARSED,
	TC_CALCOM_NOT_JSON,
	TC_CALCOM_WRONG_SHAPE,
	TC_CALCOM_ERROR_ANSWER, /* status is "error": tc_calcom_classify() says which */
	TC_CALCOM_TOO_MANY,		/* more than the caller has room for */
	TC_CALCOM_NOT_THERE,	/* the list has no such booking */
} TcCalcomParse;

/* Parses the whole header, 64 hex digits; false for all else, "no-secret-provided" included. */
extern bool tc_calcom_signature_parse(const char *header, size_t len,
									  uint8_t digest[TC_CALCOM_DIGEST_LEN]);

/* Judges an answer; http_status 0 stands for a transfer that failed. */
extern void tc_calcom_classify(int http_status, const char *body, size_t len,
							   TcCalcomVerdict *verdict);

/* Did the vendor decide against it?  Final, nothing was booked, and no failure for a breaker. */
extern bool tc_calcom_is_refusal(TcCalcomAnswer answer);

/* Is it a failure for the breaker of the credential? */
extern bool tc_calcom_is_failure(TcCalcomAnswer answer);

/* The answer's name in lower case, for statistics. */
extern const char *tc_calcom_answer_name(TcCalcomAnswer answer);

#endif /* TC_CALCOM_CORE_H */
