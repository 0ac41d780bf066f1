/*
 * test_calcom_core.c
 *		Cal.com's signature header: 64 hex digits, and nothing else.
 */
#include "calcom_core.h"
#include "unit.h"

#define D "77635c0c6a83b8f106daddb49ac000c254af00521e32a0632c95651ea4e431e5"

static uint8_t digest[TC_CALCOM_DIGEST_LEN];

static bool
parse(const char *header)
{
	return tc_calcom_signature_parse(header, strlen(header), digest);
}

/* The vectors of test/fixtures/calcom/signature_vectors.json. */
static void
vectors(void)
{
	CHECK(parse(D));
	CHECK_INT(digest[0], 0x77);
	CHECK_INT(digest[31], 0xe5);
	CHECK(!parse("no-secret-provided"));
}

static void
refuses_the_rest(void)
{
	CHECK(!parse(""));
	CHECK(!parse(D "0"));
	CHECK(!parse("sha256=" D));
	CHECK(!parse(" " D));
	CHECK(!parse("x7635c0c6a83b8f106daddb49ac000c254af00521e32a0632c95651ea4e431e5"));
	CHECK(!tc_calcom_signature_parse(D, 63, digest));
}

int
main(void)
{
	RUN(vectors);
	RUN(refuses_the_rest);
	return unit_summary();
}
