/*
 * json_core.h
 *		A strict scanner of one small JSON object, for input that decides about access.  Pure C.
 *
 * Strict RFC 8259, and beyond it: no member twice (names compared after decoding), no NUL, no lone
 * surrogate, no invalid UTF-8, at most TC_JSON_MEMBERS members and TC_JSON_DEPTH levels.  Nothing
 * is allocated and nothing copied: names and values are spans of the text.
 */
#ifndef TC_JSON_CORE_H
#define TC_JSON_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TC_JSON_MEMBERS 64
#define TC_JSON_DEPTH 8

typedef enum TcJsonKind
{
	TC_JSON_STRING,
	TC_JSON_NUMBER,
	TC_JSON_OBJECT,
	TC_JSON_ARRAY,
	TC_JSON_TRUE,
	TC_JSON_FALSE,
	TC_JSON_NULL,
} TcJsonKind;

/* A part of the text; of a string, what stands between the quotes, still escaped. */
typedef struct TcJsonSpan
{
	const char *start;
	size_t len;
} TcJsonSpan;

typedef struct TcJsonMember
{
	TcJsonSpan name;
	TcJsonSpan value;
	TcJsonKind kind;
} TcJsonMember;

typedef struct TcJsonObject
{
	int nmembers;
	TcJsonMember members[TC_JSON_MEMBERS];
} TcJsonObject;

/* Scans the whole text as one object; false when it is anything else. */
extern bool tc_json_scan(const char *text, size_t len, TcJsonObject *object);

/* The member of that (plain ASCII) name, or NULL. */
extern const TcJsonMember *tc_json_find(const TcJsonObject *object, const char *name);

/* An integer without fraction or exponent that fits int64; false otherwise. */
extern bool tc_json_integer(const TcJsonMember *member, int64_t *value);

/* A string, decoded into out with a final zero; false when no string, or longer than outsize - 1.
 */
extern bool tc_json_string(const TcJsonMember *member, char *out, size_t outsize);

#endif /* TC_JSON_CORE_H */
