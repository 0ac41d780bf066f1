/*
 * fuzz_phone.c
 *		Fuzzes both grammars of telephone numbers.
 *
 * Checked besides the sanitizers: what is taken is a number, is written as canonical text and read
 * back the same; what the strict grammar takes, the loose one takes alike; what is refused leaves
 * the result alone.
 */
#include <stdlib.h>
#include <string.h>

#include "phone_core.h"

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Ends the run as a finding. */
static void
require(bool condition)
{
	if (!condition)
		abort();
}

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
	return 0;
}
