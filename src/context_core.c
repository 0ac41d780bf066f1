/*
 * context_core.c
 *		A tenant context and its text form.
 *
 * The text travels in a setting, because settings are what PostgreSQL carries to parallel
 * workers:  company ':' branch ':' company uuid ':' branch uuid, numbers in decimal without sign,
 * UUIDs as 32 hex digits.  The text is ours alone: parsing takes back what formatting gave out
 * and nothing else.
 */
#include "context_core.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Is it the nil UUID, which stands for "none"? */
bool
tc_uuid_is_nil(const uint8_t *uuid)
{
	static const uint8_t nil[TC_UUID_LEN];

	return memcmp(uuid, nil, TC_UUID_LEN) == 0;
}

/* Do both name the same company and branch? */
bool
tc_context_equal(const TcContext *a, const TcContext *b)
{
	return a->company_id == b->company_id && a->branch_id == b->branch_id &&
		   memcmp(a->company_uuid, b->company_uuid, TC_UUID_LEN) == 0 &&
		   memcmp(a->branch_uuid, b->branch_uuid, TC_UUID_LEN) == 0;
}

/* Do an id and UUID name the same as another id and UUID?  What only one side knows is no matter.
 */
static bool
names_same(int64_t id, const uint8_t *uuid, int64_t other_id, const uint8_t *other_uuid)
{
	bool ids = id != 0 && other_id != 0;
	bool uuids = !tc_uuid_is_nil(uuid) && !tc_uuid_is_nil(other_uuid);
	bool none = id == 0 && tc_uuid_is_nil(uuid);
	bool other_none = other_id == 0 && tc_uuid_is_nil(other_uuid);

	if (none || other_none)
		return none && other_none;
	if ((ids && id != other_id) || (uuids && memcmp(uuid, other_uuid, TC_UUID_LEN) != 0))
		return false;
	return ids || uuids;
}

/* Do both name the same company and branch, as far as they can be compared? */
bool
tc_context_agrees(const TcContext *a, const TcContext *b)
{
	return names_same(a->company_id, a->company_uuid, b->company_id, b->company_uuid) &&
		   names_same(a->branch_id, a->branch_uuid, b->branch_id, b->branch_uuid);
}

/* Adds to a context what another one, which agrees with it, knows beyond it. */
void
tc_context_complete(TcContext *context, const TcContext *more)
{
	if (context->company_id == 0)
		context->company_id = more->company_id;
	if (context->branch_id == 0)
		context->branch_id = more->branch_id;
	if (tc_uuid_is_nil(context->company_uuid))
		memcpy(context->company_uuid, more->company_uuid, TC_UUID_LEN);
	if (tc_uuid_is_nil(context->branch_uuid))
		memcpy(context->branch_uuid, more->branch_uuid, TC_UUID_LEN);
}

/* Writes a UUID as 32 hex digits; returns the end. */
static char *
format_uuid(char *out, const uint8_t *uuid)
{
	static const char hex[] = "0123456789abcdef";

	for (int i = 0; i < TC_UUID_LEN; i++)
	{
		*out++ = hex[uuid[i] >> 4];
		*out++ = hex[uuid[i] & 15];
	}
	return out;
}

/* Writes the text form. */
void
tc_context_format(const TcContext *context, char text[TC_CONTEXT_TEXT_LEN])
{
	char *out = text;

	out += snprintf(out, TC_CONTEXT_TEXT_LEN, "%" PRId64 ":%" PRId64 ":", context->company_id,
					context->branch_id);
	out = format_uuid(out, context->company_uuid);
	*out++ = ':';
	out = format_uuid(out, context->branch_uuid);
	*out = '\0';
}

/* Reads decimal digits up to the separator; NULL on anything else or on overflow. */
static const char *
parse_number(const char *in, int64_t *number)
{
	int64_t value = 0;
	const char *start = in;

	for (; *in >= '0' && *in <= '9'; in++)
	{
		int digit = *in - '0';

		if (value > (INT64_MAX - digit) / 10)
			return NULL;
		value = value * 10 + digit;
	}
	if (in == start || *in != ':')
		return NULL;
	*number = value;
	return in + 1;
}

/* Value of a lower-case hex digit, or -1. */
static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

/* Reads 32 hex digits and the character that must follow; NULL on anything else. */
static const char *
parse_uuid(const char *in, char end, uint8_t *uuid)
{
	for (int i = 0; i < TC_UUID_LEN; i++, in += 2)
	{
		int high = hex_value(in[0]);
		int low = high < 0 ? -1 : hex_value(in[1]);

		if (low < 0)
			return NULL;
		uuid[i] = (uint8_t) (high << 4 | low);
	}
	return *in == end ? in + 1 : NULL;
}

/* Reads the text form; false, with *context undefined, on anything else. */
bool
tc_context_parse(const char *text, TcContext *context)
{
	const char *in = parse_number(text, &context->company_id);

	if (in != NULL)
		in = parse_number(in, &context->branch_id);
	if (in != NULL)
		in = parse_uuid(in, ':', context->company_uuid);
	if (in != NULL)
		in = parse_uuid(in, '\0', context->branch_uuid);
	return in != NULL;
}
