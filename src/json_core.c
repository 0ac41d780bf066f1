/*
 * json_core.c
 *		A strict scanner of one small JSON object.
 *
 * A recursive descent over the text, one function per production, each of which moves the cursor
 * past what it accepts or returns false.  Only the outermost object's members are kept; what is
 * nested below is checked for syntax.  Strings are decoded character by character by
 * tc_json_next_character(), which also validates, so that scanning, comparing and copying agree.
 */
#include "json_core.h"

#include <string.h>

#include "json_lex_core.h"

static bool scan_value(TcJsonCursor *cursor, int depth, TcJsonMember *member);

/* Scans an array or, with_names, an object that is not the outermost one. */
static bool
scan_nested(TcJsonCursor *cursor, int depth, bool with_names)
{
	char close = with_names ? '}' : ']';
	TcJsonMember ignored;

	if (depth == 0)
		return false;
	cursor->at++;
	tc_json_skip_space(cursor);
	if (tc_json_take(cursor, close))
		return true;
	for (;;)
	{
		tc_json_skip_space(cursor);
		if (with_names)
		{
			if (!tc_json_scan_string(cursor, &ignored.name))
				return false;
			tc_json_skip_space(cursor);
			if (!tc_json_take(cursor, ':'))
				return false;
			tc_json_skip_space(cursor);
		}
		if (!scan_value(cursor, depth - 1, &ignored))
			return false;
		tc_json_skip_space(cursor);
		if (tc_json_take(cursor, close))
			return true;
		if (!tc_json_take(cursor, ','))
			return false;
	}
}

/* Scans any value but a string by what it begins with, and notes its kind. */
static bool
scan_plain(TcJsonCursor *cursor, int depth, TcJsonKind *kind)
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
			return tc_json_scan_literal(cursor, "true");
		case 'f':
			*kind = TC_JSON_FALSE;
			return tc_json_scan_literal(cursor, "false");
		case 'n':
			*kind = TC_JSON_NULL;
			return tc_json_scan_literal(cursor, "null");
		default:
			*kind = TC_JSON_NUMBER;
			return tc_json_scan_number(cursor);
	}
}

/* Scans a value into the member's value and kind. */
static bool
scan_value(TcJsonCursor *cursor, int depth, TcJsonMember *member)
{
	if (cursor->at == cursor->end)
		return false;
	if (*cursor->at == '"')
	{
		member->kind = TC_JSON_STRING;
		return tc_json_scan_string(cursor, &member->value);
	}
	member->value.start = cursor->at;
	if (!scan_plain(cursor, depth, &member->kind))
		return false;
	member->value.len = cursor->at - member->value.start;
	return true;
}

/* Scans one member of the outermost object, which must not have it yet. */
static bool
scan_member(TcJsonCursor *cursor, TcJsonObject *object)
{
	TcJsonMember *member = &object->members[object->nmembers];

	if (object->nmembers == TC_JSON_MEMBERS || !tc_json_scan_string(cursor, &member->name))
		return false;
	for (int i = 0; i < object->nmembers; i++)
		if (tc_json_same_string(object->members[i].name, member->name))
			return false;
	tc_json_skip_space(cursor);
	if (!tc_json_take(cursor, ':'))
		return false;
	tc_json_skip_space(cursor);
	if (!scan_value(cursor, TC_JSON_DEPTH - 1, member))
		return false;
	object->nmembers++;
	return true;
}

/* Scans the whole text as one object. */
bool
tc_json_scan(const char *text, size_t len, TcJsonObject *object)
{
	TcJsonCursor cursor = {text, text + len};

	object->nmembers = 0;
	tc_json_skip_space(&cursor);
	if (!tc_json_take(&cursor, '{'))
		return false;
	tc_json_skip_space(&cursor);
	if (!tc_json_take(&cursor, '}'))
	{
		do
		{
			tc_json_skip_space(&cursor);
			if (!scan_member(&cursor, object))
				return false;
			tc_json_skip_space(&cursor);
		} while (tc_json_take(&cursor, ','));
		if (!tc_json_take(&cursor, '}'))
			return false;
	}
	tc_json_skip_space(&cursor);
	return cursor.at == cursor.end;
}

/* The member of that name, or NULL. */
const TcJsonMember *
tc_json_find(const TcJsonObject *object, const char *name)
{
	TcJsonSpan wanted = {name, strlen(name)};

	for (int i = 0; i < object->nmembers; i++)
		if (tc_json_same_string(object->members[i].name, wanted))
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

/* A string, decoded. */
bool
tc_json_string(const TcJsonMember *member, char *out, size_t outsize)
{
	TcJsonCursor cursor = {member->value.start, member->value.start + member->value.len};
	size_t n = 0;

	if (member->kind != TC_JSON_STRING)
		return false;
	while (cursor.at < cursor.end)
	{
		uint32_t character;
		char utf8[4];
		size_t len;

		if (!tc_json_next_character(&cursor, &character))
			return false;
		len = tc_json_put_utf8(character, utf8);
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
