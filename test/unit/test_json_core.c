/*
 * test_json_core.c
 *		The strict scanner: what is JSON, what is not, and what it says.
 */
#include "json_core.h"
#include "unit.h"

static TcJsonObject object;

static bool
scan(const char *text)
{
	return tc_json_scan(text, strlen(text), &object);
}

static void
objects(void)
{
	CHECK(scan("{}"));
	CHECK_INT(object.nmembers, 0);
	CHECK(scan(" \t\r\n{ \"a\" : 1 , \"b\":{\"a\":[1,2,{\"c\":[]}]},\"d\":[ ] } "));
	CHECK_INT(object.nmembers, 3);
	CHECK_INT(tc_json_find(&object, "a")->kind, TC_JSON_NUMBER);
	CHECK_INT(tc_json_find(&object, "b")->kind, TC_JSON_OBJECT);
	CHECK_INT(tc_json_find(&object, "d")->kind, TC_JSON_ARRAY);
	CHECK(tc_json_find(&object, "c") == NULL);
	CHECK(scan("{\"t\":true,\"f\":false,\"n\":null,\"s\":\"\"}"));
}

static void
not_json(void)
{
	static const char *const texts[] = {
		"",
		"{",
		"}",
		"[]",
		"1",
		"null",
		"{}{}",
		"{} x",
		"{,}",
		"{\"a\":1,}",
		"{\"a\"}",
		"{\"a\":}",
		"{a:1}",
		"{'a':1}",
		"{\"a\":1 \"b\":2}",
		"{\"a\":01}",
		"{\"a\":+1}",
		"{\"a\":-}",
		"{\"a\":.5}",
		"{\"a\":1.}",
		"{\"a\":1e}",
		"{\"a\":0x10}",
		"{\"a\":NaN}",
		"{\"a\":tru}",
		"{\"a\":TRUE}",
		"{\"a\":[1}",
		"{\"a\":[1,]}",
		"{\"a\":{\"b\"}}",
		"{\"a\":\"}",
		"{\"a\":\"\\x\"}",
		"{\"a\":\"\\u12\"}",
		"{\"a\":\"\n\"}",
		"{\"a\":\"\t\"}",
		"{/**/}",
		"\xef\xbb\xbf{}",
		"{\"a\":1}\v",
		"{\"a\":--1}",
		"{\"a\":[,1]}",
		"{\"a\":{\"b\":1,}}",
		"{\"a\":\"\\",
		"{\"a\":",
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		CHECK_STR(scan(texts[i]) ? texts[i] : "refused", "refused");
	CHECK(!tc_json_scan("{}\0", 3, &object));
	CHECK(!tc_json_scan("{\"a\":\"\\\0\"}", 9, &object));
}

/* The same name is the same however it is spelt. */
static void
duplicates(void)
{
	CHECK(!scan("{\"a\":1,\"a\":1}"));
	CHECK(!scan("{\"a\":1,\"b\":2,\"\\u0061\":3}"));
	CHECK(!scan("{\"\\u00e4\":1,\"\xc3\xa4\":2}"));
	CHECK(!scan("{\"\\ud83d\\ude00\":1,\"\xf0\x9f\x98\x80\":2}"));
	CHECK(!scan("{\"a\\/b\":1,\"a/b\":2}"));
	CHECK(scan("{\"a\":1,\"A\":2,\"aa\":3,\"\":4}"));
	CHECK(scan("{\"x\":{\"a\":1},\"y\":{\"a\":1}}"));
	CHECK(scan("{\"\\u006b\\u0069d\":\"x\"}"));
	CHECK(tc_json_find(&object, "kid") != NULL);
}

static void
limits(void)
{
	char text[4096];
	int len = 1;

	CHECK(scan("{\"a\":[[[[[[[1]]]]]]]}"));
	CHECK(!scan("{\"a\":[[[[[[[[1]]]]]]]]}"));
	text[0] = '{';
	for (int i = 0; i < TC_JSON_MEMBERS; i++)
		len += sprintf(text + len, "\"%d\":0,", i);
	text[len - 1] = '}';
	CHECK(tc_json_scan(text, len, &object));
	len += sprintf(text + len - 1, ",\"z\":0}") - 1;
	CHECK(!tc_json_scan(text, len, &object));
	memset(text, '[', sizeof(text));
	memcpy(text, "{\"a\":", 5);
	CHECK(!tc_json_scan(text, sizeof(text), &object));
}

/* Reads the integer that is member "a". */
static bool
integer(const char *number, int64_t *value)
{
	char text[128];

	snprintf(text, sizeof(text), "{\"a\":%s}", number);
	return scan(text) && tc_json_integer(tc_json_find(&object, "a"), value);
}

static void
integers(void)
{
	int64_t value;

	CHECK(integer("0", &value) && value == 0);
	CHECK(integer("-0", &value) && value == 0);
	CHECK(integer("-12", &value) && value == -12);
	CHECK(integer("9223372036854775807", &value) && value == INT64_MAX);
	CHECK(integer("-9223372036854775808", &value) && value == INT64_MIN);
	CHECK(!integer("9223372036854775808", &value));
	CHECK(!integer("-9223372036854775809", &value));
	CHECK(!integer("18446744073709551617", &value));
	CHECK(!integer("1.0", &value));
	CHECK(!integer("1e0", &value));
	CHECK(!integer("1E2", &value));
	CHECK(!integer("\"1\"", &value));
	CHECK(!integer("null", &value));
	CHECK(!integer("true", &value));
	CHECK(!integer("[1]", &value));
}

/* Decodes the string that is member "a". */
static const char *
string(const char *inside, size_t size)
{
	static char out[64];
	char text[128];

	snprintf(text, sizeof(text), "{\"a\":\"%s\"}", inside);
	if (!scan(text) || !tc_json_string(tc_json_find(&object, "a"), out, size))
		return NULL;
	return out;
}

static void
strings(void)
{
	CHECK_STR(string("", 64), "");
	CHECK_STR(string("abc", 4), "abc");
	CHECK_STR(string("abc", 3), NULL);
	CHECK_STR(string("", 0), NULL);
	CHECK_STR(string("\\\"\\\\\\/\\b\\f\\n\\r\\t", 64), "\"\\/\b\f\n\r\t");
	CHECK_STR(string("\\u0041\\u00e4\\u20AC\\ud83d\\ude00", 64),
			  "A\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80");
	CHECK_STR(string("\xe2\x82\xac", 4), "\xe2\x82\xac");
	CHECK_STR(string("\xe2\x82\xac", 3), NULL);
	CHECK_STR(string("\\u0000", 64), NULL);
	CHECK_STR(string("\\ud83d", 64), NULL);
	CHECK_STR(string("\\ud83dx", 64), NULL);
	CHECK_STR(string("\\ud83d\\u0041", 64), NULL);
	CHECK_STR(string("\\ude00", 64), NULL);
}

static void
utf8(void)
{
	CHECK(string("\xf4\x8f\xbf\xbf", 64) != NULL);
	CHECK_STR(string("\xf4\x90\x80\x80", 64), NULL); /* beyond Unicode */
	CHECK_STR(string("\xc0\xaf", 64), NULL);		 /* overlong */
	CHECK_STR(string("\xe0\x80\xaf", 64), NULL);	 /* overlong */
	CHECK_STR(string("\xf0\x80\x80\xaf", 64), NULL); /* overlong */
	CHECK_STR(string("\xed\xa0\x80", 64), NULL);	 /* surrogate */
	CHECK_STR(string("\x80", 64), NULL);			 /* continuation alone */
	CHECK_STR(string("\xc3", 64), NULL);			 /* cut off */
	CHECK_STR(string("\xff", 64), NULL);
	CHECK(!tc_json_scan("{\"a\":\"\xe2\x82", 8, &object));
}

int
main(void)
{
	RUN(objects);
	RUN(not_json);
	RUN(duplicates);
	RUN(limits);
	RUN(integers);
	RUN(strings);
	RUN(utf8);
	return unit_summary();
}
