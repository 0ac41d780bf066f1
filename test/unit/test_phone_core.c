/*
 * test_phone_core.c
 *		Telephone numbers: each is read as it was written, and everything else is told apart.
 */
#include <stdlib.h>

#include "phone_core.h"
#include "unit.h"

#define UNTOUCHED INT64_C(-7)

/*
 * Parses a copy that ends exactly where the text ends, so that the sanitizer sees a read beyond;
 * checks that a failure leaves the result alone.
 */
static TcPhoneStatus
parse(TcPhoneStatus (*parser)(const char *, size_t, int64_t *), const char *text, int64_t *phone)
{
	size_t len = strlen(text);
	char *copy = malloc(len > 0 ? len : 1);
	TcPhoneStatus status;

	memcpy(copy, text, len);
	*phone = UNTOUCHED;
	status = parser(copy, len, phone);
	free(copy);
	CHECK((status == TC_PHONE_OK) == (*phone != UNTOUCHED));
	CHECK(status != TC_PHONE_OK || tc_phone_core_valid(*phone));
	return status;
}

/* The status of a text as a canonical number. */
static TcPhoneStatus
canonical(const char *text)
{
	int64_t phone;

	return parse(tc_phone_core_parse, text, &phone);
}

/* The status of a text as people write numbers. */
static TcPhoneStatus
loose(const char *text)
{
	int64_t phone;

	return parse(tc_phone_core_parse_loose, text, &phone);
}

/* The number that both grammars read, or UNTOUCHED if they differ. */
static int64_t
value(const char *text)
{
	int64_t phone, other;

	parse(tc_phone_core_parse, text, &phone);
	parse(tc_phone_core_parse_loose, text, &other);
	return phone == other ? phone : UNTOUCHED;
}

static void
test_every_length(void)
{
	char text[32] = "+";

	for (int digits = 1; digits <= 25; digits++)
	{
		TcPhoneStatus expected = digits < TC_PHONE_MIN_DIGITS	? TC_PHONE_TOO_SHORT
								 : digits > TC_PHONE_MAX_DIGITS ? TC_PHONE_TOO_LONG
																: TC_PHONE_OK;

		text[digits] = (char) ('0' + digits % 9 + 1);
		text[digits + 1] = '\0';
		CHECK_INT(canonical(text), expected);
		CHECK_INT(loose(text), expected);
	}
}

static void
test_round_trip(void)
{
	static const char *const numbers[] = {"+1000000",	  "+9999999",		  "+4930123456",
										  "+15551234567", "+100000000000000", "+999999999999999"};
	char text[TC_PHONE_TEXT_LEN];

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
	{
		int64_t phone = value(numbers[i]);

		CHECK_INT(tc_phone_core_format(phone, text), strlen(numbers[i]));
		CHECK_STR(text, numbers[i]);
		CHECK_INT(value(text), phone);
	}
	CHECK_INT(value("+4930123456"), INT64_C(4930123456));
}

static void
test_round_trip_of_many(void)
{
	char text[TC_PHONE_TEXT_LEN];
	uint64_t state = 88172645463325252u;

	for (int i = 0; i < 200000; i++)
	{
		int64_t phone;

		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		phone = (int64_t) (state % (uint64_t) (TC_PHONE_MAX - TC_PHONE_MIN + 1)) + TC_PHONE_MIN;
		tc_phone_core_format(phone, text);
		if (value(text) != phone)
			CHECK_INT(value(text), phone);
	}
}

static void
test_bounds(void)
{
	CHECK(!tc_phone_core_valid(0));
	CHECK(!tc_phone_core_valid(-4930123456));
	CHECK(!tc_phone_core_valid(999999));
	CHECK(tc_phone_core_valid(1000000));
	CHECK(tc_phone_core_valid(INT64_C(999999999999999)));
	CHECK(!tc_phone_core_valid(INT64_C(1000000000000000)));
	CHECK(!tc_phone_core_valid(INT64_MAX));
	CHECK(!tc_phone_core_valid(INT64_MIN));
}

/* Every byte at every place of a canonical number: only digits are taken. */
static void
test_every_byte(void)
{
	for (size_t place = 0; place < 11; place++)
		for (int byte = 1; byte < 256; byte++)
		{
			char text[] = "+4930123456";
			bool digit = byte >= '0' && byte <= '9';
			bool fits;

			text[place] = (char) byte;
			if (place == 0)
				fits = byte == '+';
			else
				fits = digit && !(place == 1 && byte == '0');
			if ((canonical(text) == TC_PHONE_OK) != fits)
				CHECK_INT(byte, -1);
		}
	CHECK_INT(tc_phone_core_parse("+4930\0123456", 12, &(int64_t){0}), TC_PHONE_BAD_CHAR);
}

static void
test_canonical_refusals(void)
{
	CHECK_INT(canonical(""), TC_PHONE_EMPTY);
	CHECK_INT(canonical("+"), TC_PHONE_TOO_SHORT);
	CHECK_INT(canonical("++4930123456"), TC_PHONE_BAD_CHAR);
	CHECK_INT(canonical("4930123456"), TC_PHONE_NO_PLUS);
	CHECK_INT(canonical("030123456"), TC_PHONE_NATIONAL);
	CHECK_INT(canonical("(030) 123456"), TC_PHONE_NATIONAL);
	CHECK_INT(canonical("004930123456"), TC_PHONE_NATIONAL);
	CHECK_INT(canonical("+0930123456"), TC_PHONE_LEADING_ZERO);
	CHECK_INT(canonical("+49 30123456"), TC_PHONE_SEPARATOR);
	CHECK_INT(canonical("+4930123456 "), TC_PHONE_SEPARATOR);
	CHECK_INT(canonical(" +4930123456"), TC_PHONE_BAD_CHAR);
	CHECK_INT(canonical("+4930123456\n"), TC_PHONE_BAD_CHAR);
	CHECK_INT(canonical("+4930123456a"), TC_PHONE_BAD_CHAR);
	CHECK_INT(canonical("+4930123456;ext=1"), TC_PHONE_EXTENSION);
	CHECK_INT(canonical("tel:+4930123456"), TC_PHONE_URI);
	CHECK_INT(canonical("sip:anna@example.com"), TC_PHONE_URI);
	CHECK_INT(canonical("anonymous"), TC_PHONE_BAD_CHAR);
	CHECK_INT(canonical("---"), TC_PHONE_BAD_CHAR);
	/* digits of other scripts are not digits here */
	CHECK_INT(canonical("+\xd9\xa4\xd9\xa9\xd9\xa3\xd9\xa0\xd9\xa1\xd9\xa2\xd9\xa3"),
			  TC_PHONE_BAD_CHAR);
}

static void
test_loose_forms(void)
{
	static const char *const forms[] = {
		"+49 30 123456",	"+49-30-123456",   "+49.30.123456",	  "+49/30/123456",
		"+49 (30) 123456",	"(+49) 30 123456", "tel:+4930123456", "TEL:+49-30-123456",
		"tel: +4930123456", "  +4930123456  ", "+ 49 30 123456",  "+49  30 - 123456",
	};

	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++)
	{
		int64_t phone;
		TcPhoneStatus status = parse(tc_phone_core_parse_loose, forms[i], &phone);

		/* a parenthesis before the plus sign is not one of the usual forms */
		if (forms[i][0] == '(')
			CHECK_INT(status, TC_PHONE_BAD_CHAR);
		else
			CHECK_INT(phone, INT64_C(4930123456));
	}
}

static void
test_loose_refusals(void)
{
	CHECK_INT(loose(""), TC_PHONE_EMPTY);
	CHECK_INT(loose("   "), TC_PHONE_EMPTY);
	CHECK_INT(loose("tel:"), TC_PHONE_EMPTY);
	CHECK_INT(loose("tel:030123456"), TC_PHONE_NATIONAL);
	CHECK_INT(loose("+49 (0)30 123456"), TC_PHONE_TRUNK_ZERO);
	CHECK_INT(loose("+(0)30 123456"), TC_PHONE_LEADING_ZERO);
	CHECK_INT(loose("+ 0 30 123456"), TC_PHONE_LEADING_ZERO);
	CHECK_INT(loose("+49 30 12"), TC_PHONE_TOO_SHORT);
	CHECK_INT(loose("+49 30 1234567890123"), TC_PHONE_TOO_LONG);
	CHECK_INT(loose("+4930123456x"), TC_PHONE_BAD_CHAR);
	CHECK_INT(loose("+4930e123456"), TC_PHONE_BAD_CHAR);
	CHECK_INT(loose("+49\t30123456"), TC_PHONE_BAD_CHAR);
	CHECK_INT(loose("sips:anna@example.com"), TC_PHONE_URI);
	CHECK_INT(loose("unknown"), TC_PHONE_BAD_CHAR);
	CHECK_INT(loose("call_1"), TC_PHONE_BAD_CHAR);
}

/* What follows a number is checked, then dropped. */
static void
test_extensions(void)
{
	static const char *const forms[] = {
		"+4930123456 ext. 5",
		"+4930123456EXT5",
		"+49 30 123456 extension 12345678901",
		"+4930123456x5",
		"+4930123456 X 5",
		"+4930123456,,5",
		"+4930123456#5",
		"+4930123456;ext=5",
		"tel:+4930123456;ext=5;isub=1411",
		"tel:+4930123456;phone-context=example.com",
	};

	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++)
	{
		int64_t phone;

		parse(tc_phone_core_parse_loose, forms[i], &phone);
		CHECK_INT(phone, INT64_C(4930123456));
	}
	CHECK_INT(loose("030123456 ext. 5"), TC_PHONE_NATIONAL);
	CHECK_INT(loose("+4930123456 ext."), TC_PHONE_BAD_CHAR);
	CHECK_INT(loose("+4930123456 ext. 5b"), TC_PHONE_BAD_CHAR);
	CHECK_INT(loose("+4930123456, ask for Anna"), TC_PHONE_BAD_CHAR);
	CHECK_INT(loose("+4930123456x123456789012"), TC_PHONE_BAD_CHAR);
	CHECK_INT(loose("tel:+4930123456x5"), TC_PHONE_URI);
	CHECK_INT(loose("+4930123456;ext=5 6"), TC_PHONE_BAD_CHAR);
}

static void
test_sip(void)
{
	static const char *const forms[] = {
		"sip:+4930123456@example.com",
		"SIPS:+4930123456@10.0.0.1:5061;transport=tls",
		"sip:+4930123456",
		"sip:+4930123456;user=phone",
		"sip:+4930123456?subject=x",
		"sip:+4930123456:secret@example.com",
		"sip:+49-30-123456;a=b@example",
		" sip: +4930123456@example.com ",
	};

	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++)
	{
		int64_t phone;

		parse(tc_phone_core_parse_loose, forms[i], &phone);
		CHECK_INT(phone, INT64_C(4930123456));
	}
	CHECK_INT(loose("sip:030123456@example.com"), TC_PHONE_NATIONAL);
	CHECK_INT(loose("sip:030123456;phone-context=+49@example.com"), TC_PHONE_CONTEXT);
	/* a host is no number */
	CHECK_INT(loose("sip:192.168.100.200"), TC_PHONE_URI);
	CHECK_INT(loose("sip:192.168.100.200;transport=udp"), TC_PHONE_URI);
	CHECK_INT(loose("sip:@192.168.100.200"), TC_PHONE_EMPTY);
	CHECK_INT(loose("sip:anna@example.com"), TC_PHONE_URI);
	CHECK_INT(loose("sip:"), TC_PHONE_URI);
	CHECK_INT(loose("mailto:+4930123456"), TC_PHONE_URI);
}

/* What a numbering plan is given to read, or NULL. */
static const char *
plan_text(const char *text)
{
	static char out[TC_PHONE_PLAN_LEN];

	return tc_phone_core_plan_text(text, strlen(text), out) ? out : NULL;
}

static void
test_plan_text(void)
{
	CHECK_STR(plan_text(" 030 / 12 34 56 "), "030 / 12 34 56");
	CHECK_STR(plan_text("+49 (0)30 123456 ext. 4"), "+49 (0)30 123456 ");
	CHECK_STR(plan_text("tel:030-123456"), "030-123456");
	CHECK_STR(plan_text("tel:030123456;ext=1;phone-context=+49"), "+49030123456");
	CHECK_STR(plan_text("tel:030123456;phone-context=+49;ext=1"), "+49030123456");
	CHECK_STR(plan_text("tel:030123456;phone-context=example.com"), "030123456");
	CHECK_STR(plan_text("tel:030123456;phone-context=+4a"), "030123456");
	CHECK_STR(plan_text("tel:+1 212;phone-context=+49"), "+1 212");
	CHECK_STR(plan_text("sip:030123456@example.com"), "030123456");
	CHECK_STR(plan_text("sip:anna@example.com"), "");
	CHECK_STR(plan_text("mailto:anna"), NULL);
	CHECK_STR(plan_text("000000000011111111112222222222333333333344444444445555555555666"), NULL);
	CHECK_INT(loose("tel:030123456;phone-context=+49"), TC_PHONE_CONTEXT);
	CHECK_INT(loose("tel:030123456;phone-context=example.com"), TC_PHONE_NATIONAL);
}

/* What a caller's text is taken for. */
static TcCallerReason
caller(const char *text)
{
	return tc_phone_core_caller(text, strlen(text));
}

static void
test_callers(void)
{
	CHECK_INT(caller(""), TC_CALLER_MISSING);
	CHECK_INT(caller("  "), TC_CALLER_MISSING);
	CHECK_INT(caller("None"), TC_CALLER_MISSING);
	CHECK_INT(caller("anonymous"), TC_CALLER_WITHHELD);
	CHECK_INT(caller(" Anonymous "), TC_CALLER_WITHHELD);
	CHECK_INT(caller("RESTRICTED"), TC_CALLER_WITHHELD);
	CHECK_INT(caller("No Caller ID"), TC_CALLER_WITHHELD);
	CHECK_INT(caller("sip:anonymous@anonymous.invalid"), TC_CALLER_WITHHELD);
	CHECK_INT(caller("anonymous@anonymous.invalid;tag=1"), TC_CALLER_WITHHELD);
	CHECK_INT(caller("+266696687"), TC_CALLER_WITHHELD);
	CHECK_INT(caller("unknown"), TC_CALLER_UNAVAILABLE);
	CHECK_INT(caller("out_of_area"), TC_CALLER_UNAVAILABLE);
	CHECK_INT(caller("+8656696"), TC_CALLER_UNAVAILABLE);
	CHECK_INT(caller("+4930123456"), TC_CALLER_SHOWN);
	CHECK_INT(caller("anonymous1"), TC_CALLER_SHOWN);
	CHECK_INT(caller("anonymousanonymous"), TC_CALLER_SHOWN);
	CHECK_INT(caller("anonymou"), TC_CALLER_SHOWN);
}

int
main(void)
{
	RUN(test_every_length);
	RUN(test_round_trip);
	RUN(test_round_trip_of_many);
	RUN(test_bounds);
	RUN(test_every_byte);
	RUN(test_canonical_refusals);
	RUN(test_loose_forms);
	RUN(test_loose_refusals);
	RUN(test_extensions);
	RUN(test_sip);
	RUN(test_plan_text);
	RUN(test_callers);
	return unit_summary();
}
