/*
 * json_core.c
 *		A strict scanner of one small JSON object.
 *
 * A recursive descent over the text, one function per production, each of which moves the cursor
 * past what it accepts or returns false.  Only the outermost object's members are kept; what is
 * nested below is checked for syntax.  Strings are decoded character by character by
 * next_character(), which also validates, so that scanning, comparing and copying agree.
 */
#include "json_core.h"

#include <string.h>

/* What is left of the text. */
typedef struct Cursor
{
	const char *at;
	const char *end;
} Cursor;

static bool scan_value(Cursor *cursor, int depth, TcJsonMember *member);

/* Skips white space. */
static void
skip_space(Cursor *cursor)
{
	while (cursor->at < cursor->end && (*cursor->at == ' ' || *cursor->at == '\t' ||
										*cursor->at == '\n' || *cursor->at == '\r'))
		cursor->at++;
}

/* Takes the character if it comes next. */
static bool
take(Cursor *cursor, char c)
{
	if (cursor->at == cursor->end || *cursor->at != c)
		return false;
	cursor->at++;
	return true;
}

/* Takes four hex digits of a \u escape. */
static bool
take_hex4(Cursor *cursor, uint32_t *value)
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
take_unicode_escape(Cursor *cursor, uint32_t *character)
{
	uint32_t low;

	if (!take_hex4(cursor, character) || *character == 0)
		return false;
	if (*character < 0xd800 || *character > 0xdfff)
		return true;
	if (*character > 0xdbff || !take(cursor, '\\') || !take(cursor, 'u') ||
		!take_hex4(cursor, &low) || low < 0xdc00 || low > 0xdfff)
		return false;
	*character = 0x10000 + ((*character - 0xd800) << 10) + (low - 0xdc00);
	return true;
}

/* Takes what follows a backslash. */
static bool
take_escape(Cursor *cursor, uint32_t *character)
{
	static const char letters[] = "\"\\/bfnrt";
	static const char meanings[] = "\"\\/\b\f\n\r\t";
	const char *letter;

	if (cursor->at == cursor->end)
		return false;
	if (take(cursor, 'u'))
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
take_multibyte(Cursor *cursor, uint32_t *character)
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
static bool
next_character(Cursor *cursor, uint32_t *character)
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

/* Scans a string; the span is its inside. */
static bool
scan_string(Cursor *cursor, TcJsonSpan *span)
{
	uint32_t character;

	if (!take(cursor, '"'))
		return false;
	span->start = cursor->at;
	while (cursor->at < cursor->end && *cursor->at != '"')
		if (!next_character(cursor, &character))
			return false;
	span->len = cursor->at - span->start;
	return take(cursor, '"');
}

/* Takes one digit or more. */
static bool
take_digits(Cursor *cursor)
{
	const char *start = cursor->at;

	while (cursor->at < cursor->end && *cursor->at >= '0' && *cursor->at <= '9')
		cursor->at++;
	return cursor->at > start;
}

/* Scans a number. */
static bool
scan_number(Cursor *cursor)
{
	(void) take(cursor, '-');
	if (!take(cursor, '0') && !take_digits(cursor))
		return false;
	if (take(cursor, '.') && !take_digits(cursor))
		return false;
	if (take(cursor, 'e') || take(cursor, 'E'))
	{
		(void) (take(cursor, '+') || take(cursor, '-'));
		return take_digits(cursor);
	}
	return true;
}

/* Scans one of the three literal names. */
static bool
scan_literal(Cursor *cursor, const char *literal)
{
	size_t len = strlen(literal);

	if ((size_t) (cursor->end - cursor->at) < len || memcmp(cursor->at, literal, len) != 0)
		return false;
	cursor->at += len;
	return true;
}

/* Scans an array or, with_names, an object that is not the outermost one. */
static bool
scan_nested(Cursor *cursor, int depth, bool with_names)
{
	char close = with_names ? '}' : ']';
	TcJsonMember ignored;

	if (depth == 0)
		return false;
	cursor->at++;
	skip_space(cursor);
	if (take(cursor, close))
		return true;
	for (;;)
	{
		skip_space(cursor);
		if (with_names)
		{
			if (!scan_string(cursor, &ignored.name))
				return false;
			skip_space(cursor);
			if (!take(cursor, ':'))
				return false;
			skip_space(cursor);
		}
		if (!scan_value(cursor, depth - 1, &ignored))
			return false;
		skip_space(cursor);
		if (take(cursor, close))
			return true;
		if (!take(cursor, ','))
			return false;
	}
}

/* Scans any value but a string by what it begins with, and notes its kind. */
static bool
scan_plain(Cursor *cursor, int depth, TcJsonKind *kind)
{
	switch (*cursor->at)
	{
		case '{':
			*kind = TC_JSON_OBJECT;
			return scan_nested(cursor, depth, true);
		case '[':
			*kind = TC_JSON_ARRAY;
			return scan_nested(cursor, depth, false);
		case 't':
			*kind = TC_JSON_TRUE;
			return scan_literal(cursor, "true");
		case 'f':
			*kind = TC_JSON_FALSE;
			return scan_literal(cursor, "false");
		case 'n':
			*kind = TC_JSON_NULL;
			return scan_literal(cursor, "null");
		default:
			*kind = TC_JSON_NUMBER;
			return scan_number(cursor);
	}
}

/* Scans a value into the member's value and kind. */
static bool
scan_value(Cursor *cursor, int depth, TcJsonMember *member)
{
	if (cursor->at == cursor->end)
		return false;
	if (*cursor->at == '"')
	{
		member->kind = TC_JSON_STRING;
		return scan_string(cursor, &member->value);
	}
	member->value.start = cursor->at;
	if (!scan_plain(cursor, depth, &member->kind))
		return false;
	member->value.len = cursor->at - member->value.start;
	return true;
}

/* Do both strings decode to the same characters? */
static bool
same_string(TcJsonSpan a, TcJsonSpan b)
{
	Cursor x = {a.start, a.start + a.len};
	Cursor y = {b.start, b.start + b.len};
	uint32_t cx;
	uint32_t cy;

	while (x.at < x.end && y.at < y.end)
		if (!next_character(&x, &cx) || !next_character(&y, &cy) || cx != cy)
			return false;
	return x.at == x.end && y.at == y.end;
}

/* Scans one member of the outermost object, which must not have it yet. */
static bool
scan_member(Cursor *cursor, TcJsonObject *object)
{
	TcJsonMember *member = &object->members[object->nmembers];

	if (object->nmembers == TC_JSON_MEMBERS || !scan_string(cursor, &member->name))
		return false;
	for (int i = 0; i < object->nmembers; i++)
		if (same_string(object->members[i].name, member->name))
			return false;
	skip_space(cursor);
	if (!take(cursor, ':'))
		return false;
	skip_space(cursor);
	if (!scan_value(cursor, TC_JSON_DEPTH - 1, member))
		return false;
	object->nmembers++;
	return true;
}

/* Scans the whole text as one object. */
bool
tc_json_scan(const char *text, size_t len, TcJsonObject *object)
{
	Cursor cursor = {text, text + len};

	object->nmembers = 0;
	skip_space(&cursor);
	if (!take(&cursor, '{'))
		return false;
	skip_space(&cursor);
	if (!take(&cursor, '}'))
	{
		do
		{
			skip_space(&cursor);
			if (!scan_member(&cursor, object))
				return false;
			skip_space(&cursor);
		} while (take(&cursor, ','));
		if (!take(&cursor, '}'))
			return false;
	}
	skip_space(&cursor);
	return cursor.at == cursor.end;
}

/* The member of that name, or NULL. */
const TcJsonMember *
tc_json_find(const TcJsonObject *object, const char *name)
{
	TcJsonSpan wanted = {name, strlen(name)};

	for (int i = 0; i < object->nmembers; i++)
		if (same_string(object->members[i].name, wanted))
			return &object->members[i];
	return NULL;
}

/* An integer without fraction or exponent that fits int64. */
bool
tc_json_integer(const TcJsonMember *member, int64_t *value)
{
	const char *at = member->value.start;
	const char *end = at + member->value.len;
	bool negative;

	*value = 0;
	if (member->kind != TC_JSON_NUMBER)
		return false;
	negative = *at == '-';
	for (at += negative; at < end; at++)
	{
		int digit = *at - '0';

		if (digit < 0 || digit > 9 || __builtin_mul_overflow(*value, 10, value) ||
			__builtin_add_overflow(*value, negative ? -digit : digit, value))
			return false;
	}
	return true;
}

/* Writes a character as UTF-8 (room for 4 bytes); returns its length. */
static size_t
put_utf8(uint32_t character, char *out)
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

/* A string, decoded. */
bool
tc_json_string(const TcJsonMember *member, char *out, size_t outsize)
{
	Cursor cursor = {member->value.start, member->value.start + member->value.len};
	size_t n = 0;

	if (member->kind != TC_JSON_STRING)
		return false;
	while (cursor.at < cursor.end)
	{
		uint32_t character;
		char utf8[4];
		size_t len;

		if (!next_character(&cursor, &character))
			return false;
		len = put_utf8(character, utf8);
		if (n + len >= outsize)
			return false;
		memcpy(out + n, utf8, len);
		n += len;
	}
	if (outsize == 0)
		return false;
	out[n] = '\0';
	return true;
}
