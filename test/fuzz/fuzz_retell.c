/*
 * fuzz_retell.c
 *		Fuzzes Retell AI's signature header and names of events.
 *
 * Checked besides the sanitizers: a header that is taken, written anew from what was understood,
 * is the same header but for the case of its hex digits.
 */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec_core.h"
#include "fuzz.h"
#include "retell_core.h"

/* Reads the text as Retell's header. */
static void
fuzz_retell(const char *text, size_t len)
{
	TcRetellSignature sig;
	char again[64];
	int n;

	if (!tc_retell_signature_parse(text, len, &sig))
		return;
	n = snprintf(again, sizeof(again), "v=%" PRId64 ",d=", sig.stamp_ms);
	require(len == (size_t) n + 64 && memcmp(text, again, n) == 0);
	require(sig.stamplen == strlen(sig.stamp) && memcmp(text + 2, sig.stamp, sig.stamplen) == 0);
	require(is_hex_of(text + n, sig.digest, TC_RETELL_DIGEST_LEN));
	require(tc_retell_fresh(&sig, sig.stamp_ms));
	(void) tc_retell_fresh(&sig, INT64_MIN);
	(void) tc_retell_fresh(&sig, INT64_MAX);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* a copy of its own, so that the sanitizer sees a read beyond its end */
	char *text = calloc(1, size > 0 ? size : 1);
	TcRetellEvent event;

	if (size > 0)
		memcpy(text, data, size);
	fuzz_retell(text, size);
	event = tc_retell_event(text, size);
	if (event != TC_RETELL_OTHER)
		require(memcmp(tc_retell_event_name(event), text, size) == 0);
	free(text);
	return 0;
}
