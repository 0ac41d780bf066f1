/*
 * phone_core.h
 *		E.164 telephone numbers: parsing, checking, writing.  Pure C.
 *
 * A number is held as its digits, without the plus sign, in an int64_t.  The first digit is never
 * zero and there are 7 to 15 of them, so that nothing is lost and zero means "no number".
 */
#ifndef TC_PHONE_CORE_H
#define TC_PHONE_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TC_PHONE_MIN_DIGITS 7
#define TC_PHONE_MAX_DIGITS 15
#define TC_PHONE_MIN INT64_C(1000000)
#define TC_PHONE_MAX INT64_C(999999999999999)

/* Room for the plus sign, the digits and the final zero. */
#define TC_PHONE_TEXT_LEN (1 + TC_PHONE_MAX_DIGITS + 1)

/* What is wrong with a text that should be a number. */
typedef enum TcPhoneStatus
{
	TC_PHONE_OK,
	TC_PHONE_EMPTY,
	TC_PHONE_NO_PLUS,  /* begins with a digit that could be a country code */
	TC_PHONE_NATIONAL, /* begins with a trunk or international prefix: 030…, 0049…, (030)… */
	TC_PHONE_LEADING_ZERO, /* +0… */
	TC_PHONE_BAD_CHAR,	   /* letters, or anything else that no number has */
	TC_PHONE_SEPARATOR,	   /* a separator where only digits may stand */
	TC_PHONE_TOO_SHORT,
	TC_PHONE_TOO_LONG,
	TC_PHONE_TRUNK_ZERO, /* +49 (0)30…: the zero is dialled inside the country only */
	TC_PHONE_EXTENSION,	 /* an extension or other parameter follows */
	TC_PHONE_URI,		 /* a URI that names no number */
	TC_PHONE_CONTEXT	 /* tel:030123;phone-context=+49: local to the context */
} TcPhoneStatus;

#define TC_PHONE_N_STATUS (TC_PHONE_CONTEXT + 1)

/* Longest text that is worth a look at a numbering plan, with its final zero. */
#define TC_PHONE_PLAN_LEN 64

/* Why there is no caller's number. */
typedef enum TcCallerReason
{
	TC_CALLER_SHOWN,	  /* the text may be a number */
	TC_CALLER_MISSING,	  /* there is no text */
	TC_CALLER_WITHHELD,	  /* the caller does not want it shown */
	TC_CALLER_UNAVAILABLE /* the network does not know it */
} TcCallerReason;

/* Is this the value of a number? */
static inline bool
tc_phone_core_valid(int64_t phone)
{
	return phone >= TC_PHONE_MIN && phone <= TC_PHONE_MAX;
}

extern TcPhoneStatus tc_phone_core_parse(const char *text, size_t len, int64_t *phone);
extern TcPhoneStatus tc_phone_core_parse_loose(const char *text, size_t len, int64_t *phone);

/*
 * Writes what a numbering plan is to read of a text that the loose grammar could not: without
 * scheme, extension and parameters, behind its phone-context.  False if it is too long.
 */
extern bool tc_phone_core_plan_text(const char *text, size_t len, char out[TC_PHONE_PLAN_LEN]);

/* Tells the words and codes that stand in for the number of a caller. */
extern TcCallerReason tc_phone_core_caller(const char *text, size_t len);

extern size_t tc_phone_core_format(int64_t phone, char text[TC_PHONE_TEXT_LEN]);

#endif /* TC_PHONE_CORE_H */
