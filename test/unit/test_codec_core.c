/*
 * test_codec_core.c
 *		base64url, hex and constant-time comparison: one spelling for each value.
 */
#include "codec_core.h"
#include "unit.h"

/* Is the text refused? */
static bool
refused(const char *text)
{
	uint8_t out[64];
	size_t len;

	return !tc_base64url_decode(text, strlen(text), out, sizeof(out), &len);
}

/* RFC 4648's own vectors, and the two digits that differ from plain base64. */
static void
base64url_vectors(void)
{
	static const char *const vectors[][2] = {
		{"", ""},			{"f", "Zg"},		  {"fo", "Zm8"},		  {"foo", "Zm9v"},
		{"foob", "Zm9vYg"}, {"fooba", "Zm9vYmE"}, {"foobar", "Zm9vYmFy"}, {"\xfb\xff", "-_8"},
	};

	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++)
	{
		size_t len = strlen(vectors[i][0]);
		char text[16] = {0};
		uint8_t back[16];
		size_t backlen;

		CHECK_INT(tc_base64url_encode((const uint8_t *) vectors[i][0], len, text),
				  TC_BASE64URL_LEN(len));
		CHECK_STR(text, vectors[i][1]);
		CHECK(tc_base64url_decode(text, strlen(text), back, len, &backlen));
		CHECK_INT(backlen, len);
		CHECK_MEM(back, vectors[i][0], len);
	}
}

static void
base64url_refuses_other_spellings(void)
{
	CHECK(refused("Zg=="));	   /* padding */
	CHECK(refused("Zg="));	   /* half of it */
	CHECK(refused("+/8"));	   /* the other alphabet */
	CHECK(refused("Z"));	   /* impossible length */
	CHECK(refused("Zm9vY"));   /* impossible length */
	CHECK(refused("Zh"));	   /* bits left over */
	CHECK(refused("Zm9"));	   /* bits left over */
	CHECK(refused("Zm 8"));	   /* white space */
	CHECK(refused("Zm8\n"));   /* line end */
	CHECK(refused("Zm8\xc3")); /* not ASCII */
	CHECK(refused("Zm.v"));
}

static void
base64url_respects_room(void)
{
	uint8_t out[3];
	size_t len;

	CHECK(tc_base64url_decode("Zm9v", 4, out, 3, &len));
	CHECK(!tc_base64url_decode("Zm9v", 4, out, 2, &len));
	CHECK(!tc_base64url_decode("Zm8", 3, out, 1, &len));
	CHECK(!tc_base64url_decode("Zg", 2, out, 0, &len));
}

/* Every pair of bytes comes back. */
static void
base64url_round_trip(void)
{
	for (int i = 0; i < 65536; i++)
	{
		uint8_t data[2] = {(uint8_t) (i >> 8), (uint8_t) i};
		char text[3];
		uint8_t back[2];
		size_t len;

		if (tc_base64url_encode(data, 2, text) != 3 ||
			!tc_base64url_decode(text, 3, back, 2, &len) || len != 2 || memcmp(back, data, 2) != 0)
		{
			CHECK_INT(i, -1);
			return;
		}
	}
}

static void
hex(void)
{
	uint8_t out[3];
	char text[7] = {0};

	CHECK(tc_hex_decode("00aFfE", 6, out, 3));
	CHECK_MEM(out, "\x00\xaf\xfe", 3);
	tc_hex_encode(out, 3, text);
	CHECK_STR(text, "00affe");
	CHECK(!tc_hex_decode("00affe", 6, out, 2));
	CHECK(!tc_hex_decode("00aff", 5, out, 3));
	CHECK(!tc_hex_decode("00afg0", 6, out, 3));
	CHECK(!tc_hex_decode("00af 0", 6, out, 3));
	CHECK(!tc_hex_decode("0x00af", 6, out, 3));
}

static void
equal_ct(void)
{
	uint8_t a[32] = {0};
	uint8_t b[32] = {0};

	CHECK(tc_equal_ct(a, b, sizeof(a)));
	CHECK(tc_equal_ct(a, b, 0));
	for (int i = 0; i < 32; i++)
		for (int bit = 0; bit < 8; bit++)
		{
			b[i] = (uint8_t) (1 << bit);
			CHECK(!tc_equal_ct(a, b, sizeof(a)));
			b[i] = 0;
		}
}

int
main(void)
{
	RUN(base64url_vectors);
	RUN(base64url_refuses_other_spellings);
	RUN(base64url_respects_room);
	RUN(base64url_round_trip);
	RUN(hex);
	RUN(equal_ct);
	return unit_summary();
}
