/*
 * phone.h
 *		The type phone, for the other modules.
 */
#ifndef TC_PHONE_H
#define TC_PHONE_H

#include "postgres.h"

#include "phone_core.h"

/* Parses a canonical number ("+4930123456"); says false, and never raises, on anything else. */
extern bool tc_phone_parse(const char *text, int len, int64 *phone);

/* Parses what people write, or raises; region may be NULL. */
extern int64 tc_phone_require(const char *number, const char *region);

/* The canonical text of a valid number, palloc'd. */
extern char *tc_phone_format(int64 phone);

#endif /* TC_PHONE_H */
