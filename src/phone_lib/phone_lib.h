/*
 * phone_lib.h
 *		What tenantcall.so may ask of tenantcall_phone.so.  Pure C: neither PostgreSQL nor C++.
 *
 * tenantcall_phone.so wraps libphonenumber.  It is loaded by phone_plan.c at first use, so that
 * C++, protobuf and the numbering plans stay out of every process that needs none of them.
 * Nothing in it raises, allocates for its caller, or lets an exception out.
 */
#ifndef TC_PHONE_LIB_H
#define TC_PHONE_LIB_H

#include <stdbool.h>

/* Room for every text that passes, with its final zero. */
#define TC_PHONELIB_TEXT_LEN 64

/* What came of a question. */
typedef enum TcPhoneLibStatus
{
	TC_PHONELIB_OK,
	TC_PHONELIB_UNKNOWN_REGION,	 /* the region is no country that has a numbering plan */
	TC_PHONELIB_UNKNOWN_COUNTRY, /* no country has this code */
	TC_PHONELIB_NOT_A_NUMBER,
	TC_PHONELIB_TOO_SHORT,
	TC_PHONELIB_TOO_LONG,
	TC_PHONELIB_BAD_LENGTH,	  /* neither too short nor too long, but no number has it */
	TC_PHONELIB_NO_AREA_CODE, /* can be dialled within an area only */
	TC_PHONELIB_FAILED		  /* out of memory, or a bug */
} TcPhoneLibStatus;

#define TC_PHONELIB_N_STATUS (TC_PHONELIB_FAILED + 1)

/* What is known of a number. */
typedef struct TcPhoneLibFacts
{
	bool valid;							 /* may the plan's number be in use? */
	char region[4];						 /* "DE"; "001" for those of no country; or empty */
	char national[TC_PHONELIB_TEXT_LEN]; /* as people of that country write it; or empty */
} TcPhoneLibFacts;

#ifdef __cplusplus
extern "C"
{
#endif
#pragma GCC visibility push(default)

	/* Version of tenantcall that the library was built with. */
	extern const char *tc_phonelib_version(void);

	/* Reads a number; region may be NULL.  Writes e164 on success alone. */
	extern TcPhoneLibStatus tc_phonelib_parse(const char *number, const char *region,
											  char e164[TC_PHONELIB_TEXT_LEN]);

	/* Says what is known of a number in canonical form. */
	extern TcPhoneLibStatus tc_phonelib_describe(const char *e164, TcPhoneLibFacts *facts);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif /* TC_PHONE_LIB_H */
