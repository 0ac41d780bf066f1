/*
 * json_write_core.h
 *		Writes JSON, and paths of URLs, into a buffer of the caller's.  Pure C.
 *
 * A writer that has run full, or was given text that is not UTF-8, stays failed: the caller asks
 * once, at the end.
 */
#ifndef TC_JSON_WRITE_CORE_H
#define TC_JSON_WRITE_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct TcWriter
{
	char *out;
	size_t size;
	size_t len;
	bool failed;
} TcWriter;

/* Begins with an empty text in out. */
extern void tc_write_begin(TcWriter *writer, char *out, size_t size);

/* Text as it is. */
extern void tc_write_raw(TcWriter *writer, const char *text);

/* A decimal number. */
extern void tc_write_integer(TcWriter *writer, int64_t value);

/* A JSON string with its quotes; fails on invalid UTF-8. */
extern void tc_write_string(TcWriter *writer, const char *text);

/* "name":"value" with a comma before it unless it is the first; nothing when the value is NULL. */
extern void tc_write_member(TcWriter *writer, const char *name, const char *value);

/* The same with a number. */
extern void tc_write_integer_member(TcWriter *writer, const char *name, int64_t value);

/* A part of a URL's path or query: all but the unreserved characters as %XX. */
extern void tc_write_url(TcWriter *writer, const char *text);

/* The text's length, with a zero behind it; 0 when anything failed, and then out is empty. */
extern size_t tc_write_end(TcWriter *writer);

#endif /* TC_JSON_WRITE_CORE_H */
