/*
 * test_context_core.c
 *		The text form of a tenant context: it comes back as it went, and nothing else is taken.
 */
#include "context_core.h"
#include "unit.h"

#define NIL "00000000000000000000000000000000"
#define SOME "00112233445566778899aabbccddeeff"

/* Formats, parses back, and compares. */
static void
round_trip(const TcContext *context, const char *expected)
{
	char text[TC_CONTEXT_TEXT_LEN];
	TcContext back;

	memset(&back, 0x5a, sizeof(back));
	tc_context_format(context, text);
	if (expected != NULL)
		CHECK_STR(text, expected);
	CHECK(tc_context_parse(text, &back));
	CHECK(tc_context_equal(context, &back));
}

/* Is the text refused? */
static bool
refused(const char *text)
{
	TcContext context;

	if (!tc_context_parse(text, &context))
		return true;
	printf("taken: \"%s\"\n", text);
	return false;
}

static void
test_round_trip(void)
{
	TcContext context = {.company_id = 1};

	round_trip(&context, "1:0:" NIL ":" NIL);
	context.branch_id = 42;
	round_trip(&context, "1:42:" NIL ":" NIL);
	for (int i = 0; i < TC_UUID_LEN; i++)
	{
		context.company_uuid[i] = (uint8_t) (i * 0x11);
		context.branch_uuid[i] = (uint8_t) (255 - i);
	}
	round_trip(&context, "1:42:" SOME ":fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0");
}

/* Agreement: by id, by UUID, never by nothing; a branch is not its company. */
static void
test_agreement(void)
{
	TcContext by_id = {.company_id = 1};
	TcContext by_uuid = {.company_uuid = {7}};
	TcContext full = {.company_id = 1, .company_uuid = {7}};
	TcContext other = {.company_id = 2, .company_uuid = {7}};
	TcContext branch = {.company_id = 1, .branch_id = 3};
	TcContext branch_full = {.company_id = 1, .branch_id = 3, .branch_uuid = {9}};
	TcContext nobody = {0};

	CHECK(tc_context_agrees(&by_id, &by_id));
	CHECK(tc_context_agrees(&by_id, &full) && tc_context_agrees(&full, &by_uuid));
	CHECK(!tc_context_agrees(&by_id, &by_uuid) && !tc_context_agrees(&by_uuid, &by_id));
	CHECK(!tc_context_agrees(&full, &other) && !tc_context_agrees(&other, &by_id));
	CHECK(!tc_context_agrees(&by_id, &branch) && !tc_context_agrees(&branch, &by_id));
	CHECK(tc_context_agrees(&branch, &branch_full));
	CHECK(!tc_context_agrees(&nobody, &by_id) && !tc_context_agrees(&by_id, &nobody));
	tc_context_complete(&nobody, &branch);
	CHECK(tc_context_equal(&nobody, &branch));
	tc_context_complete(&by_id, &full);
	CHECK(tc_context_equal(&by_id, &full));
	tc_context_complete(&branch, &branch_full);
	CHECK(tc_context_equal(&branch, &branch_full));
	tc_context_complete(&full, &other);
	CHECK(full.company_id == 1);
}

static void
test_longest_fits(void)
{
	TcContext context = {.company_id = INT64_MAX, .branch_id = INT64_MAX};
	char text[TC_CONTEXT_TEXT_LEN];

	memset(context.company_uuid, 0xff, TC_UUID_LEN);
	memset(context.branch_uuid, 0xff, TC_UUID_LEN);
	tc_context_format(&context, text);
	CHECK_INT(strlen(text) + 1, TC_CONTEXT_TEXT_LEN);
	round_trip(&context, NULL);
}

static void
test_numbers_refused(void)
{
	CHECK(refused(""));
	CHECK(refused(":"));
	CHECK(refused("1"));
	CHECK(refused("1:"));
	CHECK(refused("1:0"));
	CHECK(refused("1:0:"));
	CHECK(refused("-1:0:" NIL ":" NIL));
	CHECK(refused("+1:0:" NIL ":" NIL));
	CHECK(refused(" 1:0:" NIL ":" NIL));
	CHECK(refused("1 :0:" NIL ":" NIL));
	CHECK(refused("1::" NIL ":" NIL));
	CHECK(refused("0x1:0:" NIL ":" NIL));
	CHECK(refused("1.0:0:" NIL ":" NIL));
}

static void
test_overflow_refused(void)
{
	TcContext context;

	CHECK(tc_context_parse("9223372036854775807:0:" NIL ":" NIL, &context));
	CHECK_INT(context.company_id, INT64_MAX);
	CHECK(refused("9223372036854775808:0:" NIL ":" NIL));
	CHECK(refused("1:9223372036854775808:" NIL ":" NIL));
	CHECK(refused("18446744073709551617:0:" NIL ":" NIL));
	CHECK(refused("99999999999999999999999999999999999999:0:" NIL ":" NIL));
}

static void
test_uuids_refused(void)
{
	CHECK(refused("1:0:" NIL));
	CHECK(refused("1:0:" NIL ":"));
	CHECK(refused("1:0:" NIL ":0000"));
	CHECK(refused("1:0::" NIL));
	CHECK(refused("1:0:" NIL "0:" NIL));
	CHECK(refused("1:0:" NIL ":" NIL "0"));
	CHECK(refused("1:0:" NIL ":" NIL " "));
	CHECK(refused("1:0:" NIL ":" NIL ":"));
	CHECK(refused("1:0:00112233445566778899AABBCCDDEEFF:" NIL));
	CHECK(refused("1:0:g0112233445566778899aabbccddeeff:" NIL));
	CHECK(refused("1:0:00112233-4455-6677-8899-aabbccddeeff:" NIL));
}

/* Every proper prefix of a good text is refused, and none is read beyond its end. */
static void
test_prefixes_refused(void)
{
	const char *good = "12:34:" SOME ":" SOME;
	char prefix[TC_CONTEXT_TEXT_LEN];

	for (size_t length = 0; length < strlen(good); length++)
	{
		memcpy(prefix, good, length);
		prefix[length] = '\0';
		CHECK(refused(prefix));
	}
}

static void
test_equal(void)
{
	TcContext a = {.company_id = 1, .branch_id = 2};
	TcContext b = a;

	CHECK(tc_context_equal(&a, &b));
	b.branch_id = 3;
	CHECK(!tc_context_equal(&a, &b));
	b = a;
	b.company_id = 3;
	CHECK(!tc_context_equal(&a, &b));
	b = a;
	b.company_uuid[TC_UUID_LEN - 1] = 1;
	CHECK(!tc_context_equal(&a, &b));
	b = a;
	b.branch_uuid[0] = 1;
	CHECK(!tc_context_equal(&a, &b));
}

static void
test_nil(void)
{
	uint8_t uuid[TC_UUID_LEN] = {0};

	CHECK(tc_uuid_is_nil(uuid));
	uuid[TC_UUID_LEN - 1] = 1;
	CHECK(!tc_uuid_is_nil(uuid));
}

int
main(void)
{
	RUN(test_round_trip);
	RUN(test_agreement);
	RUN(test_longest_fits);
	RUN(test_numbers_refused);
	RUN(test_overflow_refused);
	RUN(test_uuids_refused);
	RUN(test_prefixes_refused);
	RUN(test_equal);
	RUN(test_nil);
	return unit_summary();
}
