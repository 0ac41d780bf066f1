/*
 * test_json_walk_core.c
 *		Walks through JSON of any size, and the writer.
 */
#include "json_walk_core.h"
#include "json_write_core.h"
#include "unit.h"

static bool
is_json(const char *text)
{
	TcJsonMember value;

	return tc_json_value(text, strlen(text), &value);
}

/* The member at a path, clipped to 7 bytes; "" when there is none. */
static const char *
clipped(const char *text, const char *path)
{
	static char out[8];
	TcJsonMember root;
	TcJsonMember member;

	out[0] = '\0';
	if (CHECK(tc_json_value(text, strlen(text), &root)) && tc_json_get_path(&root, path, &member))
		(void) tc_json_clip(&member, out, sizeof(out));
	return out;
}

static void
takes_json(void)
{
	CHECK(is_json("{}"));
	CHECK(is_json(" [ ] "));
	CHECK(is_json("\"x\""));
	CHECK(is_json("-1.5e3"));
	CHECK(is_json("[1,[2,{\"a\":[]}],{},\"\",null,true,false]"));
	CHECK(is_json("{\"a\":{\"b\":{}},\"c\":[{},[]]}"));
}

static void
refuses_the_rest(void)
{
	static const char *const wrong[] = {
		"",		   " ",		   "{",			 "}",			"[1,]",		   "[,1]",	   "[1 2]",
		"{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{a:1}",		"{\"a\":1]",   "[1}",	   "[1]]",
		"{} {}",   "nul",	   "01",		 "\"\\u0000\"", "\"\\ud800\"", "\"\xff\"", "\"a\nb\"",
		"<html>",
	};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		if (!CHECK(!is_json(wrong[i])))
			printf("%s\n", wrong[i]);
}

/* 64 levels and no more, of either kind. */
static void
depth(void)
{
	char text[1024];

	for (int levels = TC_JSON_WALK_DEPTH - 1; levels <= TC_JSON_WALK_DEPTH + 1; levels++)
	{
		memset(text, '[', levels);
		memset(text + levels, ']', levels);
		text[2 * levels] = '\0';
		CHECK_INT(is_json(text), levels <= TC_JSON_WALK_DEPTH);
		text[0] = '\0';
		for (int i = 0; i < levels; i++)
			strcat(text, i % 2 == 0 ? "{\"a\":" : "[");
		strcat(text, "1");
		for (int i = levels - 1; i >= 0; i--)
			strcat(text, i % 2 == 0 ? "}" : "]");
		CHECK_INT(is_json(text), levels <= TC_JSON_WALK_DEPTH);
	}
}

static void
walks(void)
{
	const char *text = " { \"a\" : [ 1 , \"x]\" , {\"k\":2} ] , \"b\" : null } ";
	TcJsonMember root;
	TcJsonMember member;
	TcJsonWalk walk;
	int n = 0;

	CHECK(tc_json_value(text, strlen(text), &root));
	CHECK(tc_json_walk(&root, &walk));
	CHECK(tc_json_next(&walk, &member) && member.kind == TC_JSON_ARRAY);
	CHECK(tc_json_next(&walk, &member) && member.kind == TC_JSON_NULL);
	CHECK(!tc_json_next(&walk, &member));
	CHECK(tc_json_get(&root, "a", &member) && tc_json_walk(&member, &walk));
	while (tc_json_next(&walk, &member))
		n++;
	CHECK_INT(n, 3);
	CHECK(!tc_json_get(&member, "a", &member));
	CHECK(!tc_json_get(&root, "c", &member));
	CHECK(!tc_json_walk(&(TcJsonMember){.kind = TC_JSON_NULL}, &walk));
}

static void
gets_and_clips(void)
{
	CHECK_STR(clipped("{\"a\":{\"b\":\"deep\"}}", "a.b"), "deep");
	CHECK_STR(clipped("{\"a\":{\"b\":1}}", "a.b.c"), "");
	CHECK_STR(clipped("{\"a\":1,\"\\u0061\":2}", "a"), "2");
	CHECK_STR(clipped("{\"a\":\"123456789\"}", "a"), "1234567");
	CHECK_STR(clipped("{\"a\":\"12345\xc3\xa4\xc3\xa4\"}", "a"), "12345\xc3\xa4");
	CHECK_STR(clipped("{\"a\":\"1\\n\\t\\u007f2\"}", "a"), "1   2");
	CHECK_STR(clipped("{\"a\":-12345.678}", "a"), "-12345.");
	CHECK_STR(clipped("{\"a\":[1]}", "a"), "");
}

static void
writes(void)
{
	char out[64];
	TcWriter writer;
	size_t len;

	tc_write_begin(&writer, out, sizeof(out));
	tc_write_raw(&writer, "{");
	tc_write_member(&writer, "a", "q\"\\\n\x01\xc3\xa4");
	tc_write_member(&writer, "b", NULL);
	tc_write_integer_member(&writer, "c", INT64_MIN);
	tc_write_raw(&writer, "}");
	len = tc_write_end(&writer);
	CHECK_INT(len, strlen(out));
	CHECK_STR(out, "{\"a\":\"q\\\"\\\\\\n\\u0001\xc3\xa4\",\"c\":-9223372036854775808}");
	CHECK(is_json(out));

	tc_write_begin(&writer, out, sizeof(out));
	tc_write_url(&writer, "Europe/Berlin +&?#%\xc3\xa4~");
	CHECK(tc_write_end(&writer) > 0);
	CHECK_STR(out, "Europe%2FBerlin%20%2B%26%3F%23%25%C3%A4~");
}

/* What a string must not contain is escaped, shortly where JSON knows how. */
static void
escapes(void)
{
	char out[64];
	TcWriter writer;
	TcJsonMember value;

	tc_write_begin(&writer, out, sizeof(out));
	tc_write_string(&writer, "\b\f\n\r\t\"\\\x01\x1f");
	CHECK_INT(tc_write_end(&writer), 28);
	CHECK_STR(out, "\"\\b\\f\\n\\r\\t\\\"\\\\\\u0001\\u001F\"");
	CHECK(tc_json_value(out, strlen(out), &value) && !tc_json_clip(&value, out, 0));
}

/* The last byte is the final zero's; invalid UTF-8 cannot be written. */
static void
fails_for_good(void)
{
	char out[4];
	TcWriter writer;

	tc_write_begin(&writer, out, sizeof(out));
	tc_write_raw(&writer, "123");
	CHECK_INT(tc_write_end(&writer), 3);
	tc_write_raw(&writer, "4");
	tc_write_raw(&writer, "");
	CHECK_INT(tc_write_end(&writer), 0);
	CHECK_STR(out, "");
	tc_write_begin(&writer, out, sizeof(out));
	tc_write_string(&writer, "\xff");
	CHECK_INT(tc_write_end(&writer), 0);
	tc_write_begin(&writer, out, 0);
	CHECK_INT(tc_write_end(&writer), 0);
}

int
main(void)
{
	RUN(takes_json);
	RUN(refuses_the_rest);
	RUN(depth);
	RUN(walks);
	RUN(gets_and_clips);
	RUN(writes);
	RUN(fails_for_good);
	RUN(escapes);
	return unit_summary();
}
