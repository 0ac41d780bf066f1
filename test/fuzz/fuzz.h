/*
 * fuzz.h
 *		What the fuzzers share: how a finding ends the run, and digests in hex.
 */
#ifndef TC_FUZZ_H
#define TC_FUZZ_H

#include <ctype.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "codec_core.h"

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Ends the run as a finding. */
static inline void
require(bool condition)
{
	if (!condition)
		abort();
}

/* Is the text the digest in hex? */
static inline bool
is_hex_of(const char *text, const uint8_t *digest, size_t len)
{
	char hex[2 * 32];

	tc_hex_encode(digest, len, hex);
	for (size_t i = 0; i < 2 * len; i++)
	{
		if (tolower((unsigned char) text[i]) != hex[i])
			return false;
	}
	return true;
}

#endif /* TC_FUZZ_H */
