/*
 * calcom_read_core.c
 *		Cal.com: reads members of what the vendor sends.
 */
#include "calcom_read_core.h"

#include <string.h>

/* The member, unless it is absent or null. */
static bool
get(const TcJsonMember *object, const char *name, TcJsonMember *member)
{
	return tc_json_get(object, name, member) && member->kind != TC_JSON_NULL;
}

/* A string. */
bool
tc_calcom_read_text(const TcJsonMember *object, const char *name, char *out, size_t outsize)
{
	TcJsonMember member;

	out[0] = '\0';
	if (!get(object, name, &member))
		return true;
	if (tc_json_string(&member, out, outsize))
		return true;
	out[0] = '\0';
	return false;
}

/* An integer. */
bool
tc_calcom_read_integer(const TcJsonMember *object, const char *name, int64_t *value)
{
	TcJsonMember member;

	*value = 0;
	if (!get(object, name, &member))
		return true;
	if (tc_json_integer(&member, value))
		return true;
	*value = 0;
	return false;
}

/* A time.  No escape is ever needed in one, so the span is read as it is. */
bool
tc_calcom_read_time(const TcJsonMember *object, const char *name, int64_t *time)
{
	TcJsonMember member;

	*time = TC_TIME_NONE;
	if (!get(object, name, &member))
		return true;
	return member.kind == TC_JSON_STRING &&
		   tc_time_parse_iso(member.value.start, member.value.len, time);
}

/* A metadata value. */
void
tc_calcom_read_mark(const TcJsonMember *object, const char *key, char *out, size_t outsize)
{
	TcJsonMember metadata;

	out[0] = '\0';
	if (key != NULL && tc_json_get(object, "metadata", &metadata))
		(void) tc_calcom_read_text(&metadata, key, out, outsize);
}

/* Parses an answer and finds its data. */
TcCalcomParse
tc_calcom_open_answer(const char *body, size_t len, TcJsonMember *root, TcJsonMember *data)
{
	char status[16];

	if (!tc_json_value(body, len, root))
		return TC_CALCOM_NOT_JSON;
	if (!tc_calcom_read_text(root, "status", status, sizeof(status)))
		return TC_CALCOM_WRONG_SHAPE;
	if (strcmp(status, "error") == 0)
		return TC_CALCOM_ERROR_ANSWER;
	if (strcmp(status, "success") != 0 || !tc_json_get(root, "data", data))
		return TC_CALCOM_WRONG_SHAPE;
	return TC_CALCOM_PARSED;
}
