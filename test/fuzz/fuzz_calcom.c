/*
 * fuzz_calcom.c
 *		Fuzzes Cal.com's signature header.
 *
 * Checked besides the sanitizers: a header that is taken is the digest in hex, and nothing more.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "calcom_core.h"
#include "codec_core.h"

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Ends the run as a finding. */
static void
require(bool condition)
{
	if (!condition)
		abort();
}

/* Is the text the digest in hex? */
static bool
is_hex_of(const char *text, const uint8_t *digest, size_t len)
{
	char hex[2 * 32];

	tc_hex_encode(digest, len, hex);
	for (size_t i = 0; i < 2 * len; i++)
		if (tolower((unsigned char) text[i]) != hex[i])
			return false;
	return true;
}

/* Reads the text as Cal.com's header. */
static void
fuzz_calcom(const char *text, size_t len)
{
	uint8_t digest[TC_CALCOM_DIGEST_LEN];

	if (tc_calcom_signature_parse(text, len, digest))
		require(len == 64 && is_hex_of(text, digest, TC_CALCOM_DIGEST_LEN));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* a copy of its own, so that the sanitizer sees a read beyond its end */
	char *text = calloc(1, size > 0 ? size : 1);

	if (size > 0)
		memcpy(text, data, size);
	fuzz_calcom(text, size);
	free(text);
	return 0;
}
