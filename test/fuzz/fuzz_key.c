/*
 * fuzz_key.c
 *		Fuzzes the key file.
 *
 * Checked besides the sanitizers: a file that is taken has as many keys as it may, each found by
 *its name and as long as it must be; one that is not has a reason.
 */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "key_core.h"

/* Parses the text as a key file. */
static void
fuzz_keys(const char *text, size_t len)
{
	static TcKeyRing ring;
	const char *reason;
	int line;

	if (!tc_key_parse(text, len, &ring, &reason, &line))
	{
		require(reason != NULL);
		return;
	}
	require(ring.nkeys >= 1 && ring.nkeys <= TC_KEY_MAX);
	for (int i = 0; i < ring.nkeys; i++)
	{
		require(ring.keys[i].secretlen >= TC_KEY_SECRET_MIN &&
				ring.keys[i].secretlen <= TC_KEY_SECRET_MAX);
		require(tc_key_ring_find(&ring, ring.keys[i].kid, strlen(ring.keys[i].kid)) ==
				&ring.keys[i]);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* a copy of its own, so that the sanitizer sees a read beyond its end */
	char *text = calloc(1, size > 0 ? size : 1);

	if (size > 0)
		memcpy(text, data, size);
	fuzz_keys(text, size);
	free(text);
	return 0;
}
