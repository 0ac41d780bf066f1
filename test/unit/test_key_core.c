/*
 * test_key_core.c
 *		The key file: what is taken, and what is refused with a reason that quotes nothing.
 */
#include "key_core.h"
#include "unit.h"

#define S32 "0123456789abcdef0123456789abcdef"
#define T32 "fedcba9876543210fedcba9876543210"

static TcKeyRing ring;

/* Parses; returns the number of keys, or minus the line at fault (-100 for the whole file). */
static int
parse_len(const char *text, size_t len)
{
	const char *reason;
	int line;

	if (tc_key_parse(text, len, &ring, &reason, &line))
	{
		CHECK(reason == NULL);
		return ring.nkeys;
	}
	CHECK(reason != NULL && strstr(reason, "0123") == NULL);
	return line == 0 ? -100 : -line;
}

static int
parse(const char *text)
{
	return parse_len(text, strlen(text));
}

static void
two_keys(void)
{
	CHECK_INT(parse("# keys\n\n k2\t " S32 " \r\n  # old\nk1 " T32), 2);
	CHECK_STR(ring.keys[0].kid, "k2");
	CHECK_INT(ring.keys[0].secretlen, 32);
	CHECK_MEM(ring.keys[0].secret, S32, 32);
	CHECK_STR(ring.keys[1].kid, "k1");
	CHECK(tc_key_ring_find(&ring, "k1", 2) == &ring.keys[1]);
	CHECK(tc_key_ring_find(&ring, "k", 1) == NULL);
	CHECK(tc_key_ring_find(&ring, "k11", 3) == NULL);
	CHECK(tc_key_ring_find(&ring, "", 0) == NULL);
}

/* Bytes of the secret are used as they stand, '#' included. */
static void
secret_as_it_stands(void)
{
	CHECK_INT(parse("a.b_C-9 #!\"$%&'()*+,-./:;<=>?@[]^_`{|}~\\\n"), 1);
	CHECK_INT(ring.keys[0].secretlen, 32);
	CHECK_INT(ring.keys[0].secret[0], '#');
}

static void
lengths(void)
{
	char text[TC_KID_MAX + 2 + TC_KEY_SECRET_MAX + 2];

	CHECK_INT(parse("k 0123456789abcdef0123456789abcde"), -1);
	memset(text, 'x', sizeof(text));
	text[TC_KID_MAX] = ' ';
	CHECK_INT(parse_len(text, TC_KID_MAX + 1 + TC_KEY_SECRET_MAX), 1);
	CHECK_INT(ring.keys[0].secretlen, TC_KEY_SECRET_MAX);
	CHECK_INT(parse_len(text, TC_KID_MAX + 1 + TC_KEY_SECRET_MAX + 1), -1);
	text[TC_KID_MAX] = 'x';
	text[TC_KID_MAX + 1] = ' ';
	CHECK_INT(parse_len(text, TC_KID_MAX + 2 + 40), -1);
}

static void
faults(void)
{
	CHECK_INT(parse(""), -100);
	CHECK_INT(parse("\n# nothing\n\n"), -100);
	CHECK_INT(parse(S32), -1);
	CHECK_INT(parse("k1 " S32 "\nk2\n"), -2);
	CHECK_INT(parse("k1 " S32 "\nk1 " T32 "\n"), -2);
	CHECK_INT(parse("k/1 " S32), -1);
	CHECK_INT(parse("k\xc3\xa4 " S32), -1);
	CHECK_INT(parse("k1 " S32 " " T32), -1);
	CHECK_INT(parse("k1 " S32 "\x7f"), -1);
	CHECK_INT(parse("k1 " S32 "\xc3\xa4"), -1);
	CHECK_INT(parse_len("k1 " S32 "\0x", 3 + 32 + 2), -1);
	CHECK_INT(parse("\xef\xbb\xbfk1 " S32), -1);
}

static void
number_of_keys(void)
{
	char text[9 * 64] = "";

	for (int i = 0; i < TC_KEY_MAX; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "k%d " S32 "\n", i);
	CHECK_INT(parse(text), TC_KEY_MAX);
	strcat(text, "k9 " S32 "\n");
	CHECK_INT(parse(text), -9);
}

int
main(void)
{
	RUN(two_keys);
	RUN(secret_as_it_stands);
	RUN(lengths);
	RUN(faults);
	RUN(number_of_keys);
	return unit_summary();
}
