/*
 * json_walk_core.c
 *		Walks through JSON of any size.
 *
 * Nesting is kept in a bit a level rather than on the C stack, so that depth costs nothing and is
 * bounded by one number.  A walk scans each member that it passes again, which is what keeps it
 * free of allocation; answers are small and three or four levels deep.
 */
#include "json_walk_core.h"

#include <string.h>

#include "json_lex_core.h"

/* Which of the levels that are open are objects. */
typedef struct Nesting
{
	uint64_t objects;
	int depth;
} Nesting;

_Static_assert(TC_JSON_WALK_DEPTH <= 64, "a bit for each level");

/* Is the innermost open level an object? */
static bool
in_object(const Nesting *nesting)
{
	return (nesting->objects >> (nesting->depth - 1) & 1) != 0;
}

/* Takes a member's name and its colon. */
static bool
take_name(TcJsonCursor *cursor, TcJsonSpan *name)
{
	tc_json_skip_space(cursor);
	if (!tc_json_scan_string(cursor, name))
		return false;
	tc_json_skip_space(cursor);
	return tc_json_take(cursor, ':');
}

/* Takes what begins a value, which is the whole of it unless it opens a level. */
static bool
begin_value(TcJsonCursor *cursor, Nesting *nesting, TcJsonMember *value)
{
	bool object = *cursor->at == '{';

	if (object || *cursor->at == '[')
	{
		if (nesting->depth == TC_JSON_WALK_DEPTH)
			return false;
		nesting->objects &= ~(UINT64_C(1) << nesting->depth);
		nesting->objects |= (uint64_t) object << nesting->depth;
		nesting->depth++;
		value->kind = object ? TC_JSON_OBJECT : TC_JSON_ARRAY;
		cursor->at++;
		return true;
	}
	switch (*cursor->at)
	{
		case '"':
			value->kind = TC_JSON_STRING;
			return tc_json_scan_string(cursor, &value->value);
		case 't':
			value->kind = TC_JSON_TRUE;
			return tc_json_scan_literal(cursor, "true");
		case 'f':
			value->kind = TC_JSON_FALSE;
			return tc_json_scan_literal(cursor, "false");
		case 'n':
			value->kind = TC_JSON_NULL;
			return tc_json_scan_literal(cursor, "null");
		default:
			value->kind = TC_JSON_NUMBER;
			return tc_json_scan_number(cursor);
	}
}

/* Closes the levels that end here; at the start of the next value, or behind all, returns true. */
static bool
end_value(TcJsonCursor *cursor, Nesting *nesting, bool opened)
{
	TcJsonSpan name;

	while (nesting->depth > 0)
	{
		bool object = in_object(nesting);

		tc_json_skip_space(cursor);
		if (tc_json_take(cursor, object ? '}' : ']'))
			nesting->depth--;
		else if (!opened && !tc_json_take(cursor, ','))
			return false;
		else
			return !object || take_name(cursor, &name);
		opened = false;
	}
	return true;
}

/* Scans a value of any kind; the cursor stands behind white space. */
static bool
scan_value(TcJsonCursor *cursor, TcJsonMember *value)
{
	Nesting nesting = {0, 0};
	TcJsonMember *into = value;
	TcJsonMember ignored;
	const char *start = cursor->at;

	do
	{
		int depth = nesting.depth;

		tc_json_skip_space(cursor);
		if (cursor->at == cursor->end || !begin_value(cursor, &nesting, into) ||
			!end_value(cursor, &nesting, nesting.depth > depth))
			return false;
		into = &ignored;
	} while (nesting.depth > 0);
	if (value->kind != TC_JSON_STRING)
	{
		value->value.start = start;
		value->value.len = cursor->at - start;
	}
	return true;
}

/* The whole text as one value. */
bool
tc_json_value(const char *text, size_t len, TcJsonMember *value)
{
	TcJsonCursor cursor = {text, text + len};

	value->name.start = text;
	value->name.len = 0;
	tc_json_skip_space(&cursor);
	if (!scan_value(&cursor, value))
		return false;
	tc_json_skip_space(&cursor);
	return cursor.at == cursor.end;
}

/* Begins a walk. */
bool
tc_json_walk(const TcJsonMember *value, TcJsonWalk *walk)
{
	if (value->kind != TC_JSON_OBJECT && value->kind != TC_JSON_ARRAY)
		return false;
	walk->named = value->kind == TC_JSON_OBJECT;
	walk->at = value->value.start + 1;
	walk->end = value->value.start + value->value.len - 1;
	return true;
}

/* The next member or element. */
bool
tc_json_next(TcJsonWalk *walk, TcJsonMember *member)
{
	TcJsonCursor cursor = {walk->at, walk->end};

	member->name.start = walk->at;
	member->name.len = 0;
	tc_json_skip_space(&cursor);
	if (cursor.at == cursor.end)
		return false;
	if (walk->named && !take_name(&cursor, &member->name))
		return false;
	tc_json_skip_space(&cursor);
	if (!scan_value(&cursor, member))
		return false;
	tc_json_skip_space(&cursor);
	(void) tc_json_take(&cursor, ',');
	walk->at = cursor.at;
	return true;
}

/* The member whose name is these bytes; the last one, if there are several. */
static bool
get_member(const TcJsonMember *object, TcJsonSpan name, TcJsonMember *member)
{
	TcJsonMember next;
	TcJsonWalk walk;
	bool found = false;

	if (object->kind != TC_JSON_OBJECT || !tc_json_walk(object, &walk))
		return false;
	while (tc_json_next(&walk, &next))
		if (tc_json_same_string(next.name, name))
		{
			*member = next;
			found = true;
		}
	return found;
}

/* The object's member of that name. */
bool
tc_json_get(const TcJsonMember *object, const char *name, TcJsonMember *member)
{
	return get_member(object, (TcJsonSpan){name, strlen(name)}, member);
}

/* The same along a path. */
bool
tc_json_get_path(const TcJsonMember *object, const char *path, TcJsonMember *member)
{
	TcJsonMember at = *object;

	for (;;)
	{
		const char *dot = strchr(path, '.');
		TcJsonSpan name = {path, dot != NULL ? (size_t) (dot - path) : strlen(path)};

		if (!get_member(&at, name, member))
			return false;
		if (dot == NULL)
			return true;
		at = *member;
		path = dot + 1;
	}
}

/* A string, as much of it as there is room for. */
static void
clip_string(TcJsonSpan span, char *out, size_t outsize)
{
	TcJsonCursor cursor = {span.start, span.start + span.len};
	size_t n = 0;
	uint32_t character;

	while (cursor.at < cursor.end && tc_json_next_character(&cursor, &character))
	{
		char utf8[4];
		size_t len =
			tc_json_put_utf8(character < 0x20 || character == 0x7f ? ' ' : character, utf8);

		if (n + len >= outsize)
			break;
		memcpy(out + n, utf8, len);
		n += len;
	}
	out[n] = '\0';
}

/* A string or number as text. */
bool
tc_json_clip(const TcJsonMember *member, char *out, size_t outsize)
{
	size_t len = member->value.len;

	if (outsize == 0)
		return false;
	out[0] = '\0';
	if (member->kind == TC_JSON_STRING)
		clip_string(member->value, out, outsize);
	else if (member->kind == TC_JSON_NUMBER)
	{
		len = len < outsize ? len : outsize - 1;
		memcpy(out, member->value.start, len);
		out[len] = '\0';
	}
	else
		return false;
	return true;
}
