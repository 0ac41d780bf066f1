/*
 * fuzz_json.c
 *		Fuzzes the strict scanner of JSON objects.
 *
 * Checked besides the sanitizers: names and values lie within the text, and are of the kind that
 * they are read as.
 */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "json_core.h"

/* Does the span lie within the text? */
static bool
lies_in(TcJsonSpan span, const char *text, size_t len)
{
	return span.start >= text && span.len <= len && span.start + span.len <= text + len;
}

/* Scans the text as an object and reads each member in every way. */
static void
fuzz_json(const char *text, size_t len)
{
	TcJsonObject object;
	char out[64];
	int64_t value;

	if (!tc_json_scan(text, len, &object))
		return;
	require(object.nmembers >= 0 && object.nmembers <= TC_JSON_MEMBERS);
	for (int i = 0; i < object.nmembers; i++)
	{
		const TcJsonMember *member = &object.members[i];

		require(lies_in(member->name, text, len) && lies_in(member->value, text, len));
		if (tc_json_integer(member, &value))
			require(member->kind == TC_JSON_NUMBER);
		if (tc_json_string(member, out, sizeof(out)))
			require(member->kind == TC_JSON_STRING && strlen(out) < sizeof(out));
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* a copy of its own, so that the sanitizer sees a read beyond its end */
	char *text = calloc(1, size > 0 ? size : 1);

	if (size > 0)
		memcpy(text, data, size);
	fuzz_json(text, size);
	free(text);
	return 0;
}
