/*
 * test_siphash_core.c
 *		SipHash-2-4 against the vectors of its authors: key 00..0f, message 00..n-1.
 */
#include <string.h>

#include "siphash_core.h"
#include "unit.h"

static uint8_t key[TC_SIPHASH_KEY];
static uint8_t message[64];

/* The 64-bit output. */
static void
test_64(void)
{
	CHECK(tc_siphash64(key, message, 0) == UINT64_C(0x726fdb47dd0e0e31));
	CHECK(tc_siphash64(key, message, 1) == UINT64_C(0x74f839c593dc67fd));
	CHECK(tc_siphash64(key, message, 15) == UINT64_C(0xa129ca6149be45e5));
}

/* The 128-bit output. */
static void
test_128(void)
{
	static const uint8_t empty[] = {0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6,
									0x6d, 0xf6, 0x72, 0x14, 0xc7, 0x55, 0x02, 0x93};
	uint8_t tag[TC_SIPHASH_TAG];

	tc_siphash128(key, message, 0, tag);
	CHECK(memcmp(tag, empty, sizeof(tag)) == 0);
}

int
main(void)
{
	int i;

	for (i = 0; i < 64; i++)
		message[i] = (uint8_t) i;
	memcpy(key, message, sizeof(key));
	RUN(test_64);
	RUN(test_128);
	return unit_summary();
}
