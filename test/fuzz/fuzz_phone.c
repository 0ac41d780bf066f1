/*
 * fuzz_phone.c
 *		Fuzzes both grammars of telephone numbers, and what becomes of other texts.
 *
 * Checked besides the sanitizers: what is taken is a number, is written as canonical text and read
 * back the same; what the strict grammar takes, the loose one takes alike; what is refused leaves
 * the result alone.
 */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "phone_core.h"

/* A number that was taken comes back as it went. */
static void
check_number(int64_t phone)
{
	char text[TC_PHONE_TEXT_LEN];
	size_t len;
	int64_t back = 0;

	require(tc_phone_core_valid(phone));
	len = tc_phone_core_format(phone, text);
	require(len == strlen(text) && len < sizeof(text));
	require(tc_phone_core_parse(text, len, &back) == TC_PHONE_OK && back == phone);
}

/* A numbering plan is given nothing but digits, separators and one plus sign in front. */
static void
check_plan_text(const char *text, size_t size)
{
	char out[TC_PHONE_PLAN_LEN];

	memset(out, 'a', sizeof(out));
	if (!tc_phone_core_plan_text(text, size, out))
		return;
	require(memchr(out, '\0', sizeof(out)) != NULL);
	require(strspn(out, "+") <= 1);
	require(strspn(out + (out[0] == '+'), "0123456789 -./()") + (out[0] == '+') == strlen(out));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *) data;
	int64_t strict = -1;
	int64_t loose = -1;
	TcPhoneStatus strict_status = tc_phone_core_parse(text, size, &strict);
	TcPhoneStatus loose_status = tc_phone_core_parse_loose(text, size, &loose);

	require((strict_status == TC_PHONE_OK) == (strict != -1));
	require((loose_status == TC_PHONE_OK) == (loose != -1));
	if (strict_status == TC_PHONE_OK)
	{
		check_number(strict);
		require(loose == strict);
	}
	if (loose_status == TC_PHONE_OK)
		check_number(loose);
	check_plan_text(text, size);
	require(tc_phone_core_caller(text, size) <= TC_CALLER_UNAVAILABLE);
	return 0;
}
