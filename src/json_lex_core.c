/*
 * json_lex_core.c
 *		The words of JSON: strings, numbers, literals.
 *
 * Strings are decoded character by character by tc_json_next_character(), which also validates, so
 * that scanning, comparing and copying agree.
 */
#include "json_lex_core.h"

#include <string.h>

/* Takes four hex digits of a \u escape. */
static bool
take_hex4(TcJsonCursor *cursor, uint32_t *value)
{
	*value = 0;
	for (int i = 0; i < 4; i++)
	{
		char c = cursor->at < cursor->end ? *cursor->at++ : '\0';
		uint32_t digit;

		if (c >= '0' && c <= '9')
			digit = c - '0';
		else if (c >= 'a' && c <= 'f')
			digit = c - 'a' + 10;
		else if (c >= 'A' && c <= 'F')
			digit = c - 'A' + 10;
		else
			return false;
		*value = *value << 4 | digit;
	}
	return true;
}

/* Takes what follows \u: a character of the basic plane, or a pair of surrogates. */
static bool
take_unicode_escape(TcJsonCursor *cursor, uint32_t *character)
{
	uint32_t low;

	if (!take_hex4(cursor, character) || *character == 0)
		return false;
	if (*character < 0xd800 || *character > 0xdfff)
		return true;
	if (*character > 0xdbff || !tc_json_take(cursor, '\\') || !tc_json_take(cursor, 'u') ||
		!take_hex4(cursor, &low) || low < 0xdc00 || low > 0xdfff)
		return false;
	*character = 0x10000 + ((*character - 0xd800) << 10) + (low - 0xdc00);
	return true;
}

/* Takes what follows a backslash. */
static bool
take_escape(TcJsonCursor *cursor, uint32_t *character)
{
	static const char letters[] = "\"\\/bfnrt";
	static const char meanings[] = "\"\\/\b\f\n\r\t";
	const char *letter;

	if (cursor->at == cursor->end)
		return false;
	if (tc_json_take(cursor, 'u'))
		return take_unicode_escape(cursor, character);
	letter = *cursor->at == '\0' ? NULL : strchr(letters, *cursor->at);
	if (letter == NULL)
		return false;
	cursor->at++;
	*character = (unsigned char) meanings[letter - letters];
	return true;
}

/* Takes one character of UTF-8 beyond ASCII. */
static bool
take_multibyte(TcJsonCursor *cursor, uint32_t *character)
{
	static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
	unsigned char first = (unsigned char) *cursor->at++;
	int len = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;

	if (first < 0xc2 || first > 0xf4)
		return false;
	*character = first & (0xff >> (len + 1));
	for (int i = 1; i < len; i++)
	{
		if (cursor->at == cursor->end || (*cursor->at & 0xc0) != 0x80)
			return false;
		*character = *character << 6 | (*cursor->at++ & 0x3f);
	}
	return *character >= smallest[len] && *character <= 0x10ffff &&
		   (*character < 0xd800 || *character > 0xdfff);
}

/* Decodes the next character of a string's inside; false for what may not stand there. */
bool
tc_json_next_character(TcJsonCursor *cursor, uint32_t *character)
{
	unsigned char c = (unsigned char) *cursor->at;

	if (c < 0x20 || c == '"')
		return false;
	if (c >= 0x80)
		return take_multibyte(cursor, character);
	cursor->at++;
	if (c == '\\')
		return take_escape(cursor, character);
	*character = c;
	return true;
}

/* Skips bytes that are characters by themselves, which most of them are. */
static void
skip_plain(TcJsonCursor *cursor)
{
	const char *at = cursor->at;

	while (at < cursor->end && *at >= 0x20 && (*at & 0x80) == 0 && *at != '"' && *at != '\\')
		at++;
	cursor->at = at;
}

/* Scans a string. */
bool
tc_json_scan_string(TcJsonCursor *cursor, TcJsonSpan *span)
{
	uint32_t character;

	if (!tc_json_take(cursor, '"'))
		return false;
	span->start = cursor->at;
	for (skip_plain(cursor); cursor->at < cursor->end && *cursor->at != '"'; skip_plain(cursor))
		if (!tc_json_next_character(cursor, &character))
			return false;
	span->len = cursor->at - span->start;
	return tc_json_take(cursor, '"');
}

/* Takes one digit or more. */
static bool
take_digits(TcJsonCursor *cursor)
{
	const char *start = cursor->at;

	while (cursor->at < cursor->end && *cursor->at >= '0' && *cursor->at <= '9')
		cursor->at++;
	return cursor->at > start;
}

/* Scans a number. */
bool
tc_json_scan_number(TcJsonCursor *cursor)
{
	(void) tc_json_take(cursor, '-');
	if (!tc_json_take(cursor, '0') && !take_digits(cursor))
		return false;
	if (tc_json_take(cursor, '.') && !take_digits(cursor))
		return false;
	if (tc_json_take(cursor, 'e') || tc_json_take(cursor, 'E'))
	{
		(void) (tc_json_take(cursor, '+') || tc_json_take(cursor, '-'));
		return take_digits(cursor);
	}
	return true;
}

/* Scans one of the three literal names. */
bool
tc_json_scan_literal(TcJsonCursor *cursor, const char *literal)
{
	size_t len = strlen(literal);

	if ((size_t) (cursor->end - cursor->at) < len || memcmp(cursor->at, literal, len) != 0)
		return false;
	cursor->at += len;
	return true;
}

/* Do both strings decode to the same characters? */
bool
tc_json_same_string(TcJsonSpan a, TcJsonSpan b)
{
	TcJsonCursor x = {a.start, a.start + a.len};
	TcJsonCursor y = {b.start, b.start + b.len};
	uint32_t cx;
	uint32_t cy;

	while (x.at < x.end && y.at < y.end)
		if (!tc_json_next_character(&x, &cx) || !tc_json_next_character(&y, &cy) || cx != cy)
			return false;
	return x.at == x.end && y.at == y.end;
}

/* Writes a character as UTF-8 (room for 4 bytes); returns its length. */
size_t
tc_json_put_utf8(uint32_t character, char *out)
{
	if (character < 0x80)
	{
		out[0] = (char) character;
		return 1;
	}
	if (character < 0x800)
	{
		out[0] = (char) (0xc0 | character >> 6);
		out[1] = (char) (0x80 | (character & 0x3f));
		return 2;
	}
	if (character < 0x10000)
	{
		out[0] = (char) (0xe0 | character >> 12);
		out[1] = (char) (0x80 | (character >> 6 & 0x3f));
		out[2] = (char) (0x80 | (character & 0x3f));
		return 3;
	}
	out[0] = (char) (0xf0 | character >> 18);
	out[1] = (char) (0x80 | (character >> 12 & 0x3f));
	out[2] = (char) (0x80 | (character >> 6 & 0x3f));
	out[3] = (char) (0x80 | (character & 0x3f));
	return 4;
}
