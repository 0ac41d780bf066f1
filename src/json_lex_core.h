/*
 * json_lex_core.h
 *		The words of JSON, for json_core.c and json_walk_core.c.  Pure C.
 *
 * Each function moves the cursor past what it accepts, or returns false.
 */
#ifndef TC_JSON_LEX_CORE_H
#define TC_JSON_LEX_CORE_H

#include "json_core.h"

/* What is left of the text. */
typedef struct TcJsonCursor
{
	const char *at;
	const char *end;
} TcJsonCursor;

/* Skips white space. */
static inline void
tc_json_skip_space(TcJsonCursor *cursor)
{
	while (cursor->at < cursor->end && (*cursor->at == ' ' || *cursor->at == '\t' ||
										*cursor->at == '\n' || *cursor->at == '\r'))
		cursor->at++;
}

/* Takes the character if it comes next. */
static inline bool
tc_json_take(TcJsonCursor *cursor, char c)
{
	if (cursor->at == cursor->end || *cursor->at != c)
		return false;
	cursor->at++;
	return true;
}

/* Decodes the next character of a string's inside, of which something is left; false for what may
 * not stand there. */
extern bool tc_json_next_character(TcJsonCursor *cursor, uint32_t *character);

/* Scans a string; the span is its inside. */
extern bool tc_json_scan_string(TcJsonCursor *cursor, TcJsonSpan *span);

extern bool tc_json_scan_number(TcJsonCursor *cursor);

/* Scans true, false or null. */
extern bool tc_json_scan_literal(TcJsonCursor *cursor, const char *literal);

/* Do both strings, which were scanned, decode to the same characters? */
extern bool tc_json_same_string(TcJsonSpan a, TcJsonSpan b);

/* Writes a character as UTF-8 (room for 4 bytes); returns its length. */
extern size_t tc_json_put_utf8(uint32_t character, char *out);

#endif /* TC_JSON_LEX_CORE_H */
