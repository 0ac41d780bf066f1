/*
 * json_write_core.c
 *		Writes JSON, and parts of URLs.
 */
#include "json_write_core.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "json_lex_core.h"

static const char hex[] = "0123456789ABCDEF";

/* Begins with an empty text. */
void
tc_write_begin(TcWriter *writer, char *out, size_t size)
{
	writer->out = out;
	writer->size = size;
	writer->len = 0;
	writer->failed = size == 0;
}

/* Adds bytes; room for a final zero is kept. */
static void
put(TcWriter *writer, const char *bytes, size_t len)
{
	if (writer->failed || len >= writer->size - writer->len)
	{
		writer->failed = true;
		return;
	}
	memcpy(writer->out + writer->len, bytes, len);
	writer->len += len;
}

/* Text as it is. */
void
tc_write_raw(TcWriter *writer, const char *text)
{
	put(writer, text, strlen(text));
}

/* A decimal number. */
void
tc_write_integer(TcWriter *writer, int64_t value)
{
	char digits[24];
	int len = snprintf(digits, sizeof(digits), "%" PRId64, value);

	put(writer, digits, len);
}

/* The letter of a short escape, or 0. */
static char
short_escape(char c)
{
	switch (c)
	{
		case '"':
		case '\\':
			return c;
		case '\b':
			return 'b';
		case '\f':
			return 'f';
		case '\n':
			return 'n';
		case '\r':
			return 'r';
		case '\t':
			return 't';
		default:
			return '\0';
	}
}

/* One character of a JSON string; those that a backslash must precede are ASCII. */
static void
put_character(TcWriter *writer, const char *bytes, size_t len)
{
	char escape[2] = {'\\', short_escape(*bytes)};

	if (escape[1] != '\0')
		put(writer, escape, sizeof(escape));
	else if ((unsigned char) *bytes < 0x20)
	{
		char code[6] = {'\\', 'u', '0', '0', *bytes < 0x10 ? '0' : '1', hex[*bytes & 0xf]};

		put(writer, code, sizeof(code));
	}
	else
		put(writer, bytes, len);
}

/* A JSON string. */
void
tc_write_string(TcWriter *writer, const char *text)
{
	TcJsonCursor cursor = {text, text + strlen(text)};

	put(writer, "\"", 1);
	while (cursor.at < cursor.end)
	{
		const char *start = cursor.at;
		uint32_t character;

		/* the decoder knows UTF-8; what only JSON gives a meaning is a character like others here
		 */
		if ((unsigned char) *cursor.at < 0x80)
			cursor.at++;
		else if (!tc_json_next_character(&cursor, &character))
		{
			writer->failed = true;
			return;
		}
		put_character(writer, start, cursor.at - start);
	}
	put(writer, "\"", 1);
}

/* A member's name with what precedes it. */
static void
put_name(TcWriter *writer, const char *name)
{
	if (!writer->failed && writer->len > 0 && writer->out[writer->len - 1] != '{')
		put(writer, ",", 1);
	tc_write_string(writer, name);
	put(writer, ":", 1);
}

/* A member with a string. */
void
tc_write_member(TcWriter *writer, const char *name, const char *value)
{
	if (value == NULL)
		return;
	put_name(writer, name);
	tc_write_string(writer, value);
}

/* A member with a number. */
void
tc_write_integer_member(TcWriter *writer, const char *name, int64_t value)
{
	put_name(writer, name);
	tc_write_integer(writer, value);
}

/* Does the character stand for itself in a URL? */
static bool
is_unreserved(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
		   (c != '\0' && strchr("-._~", c) != NULL);
}

/* A part of a URL. */
void
tc_write_url(TcWriter *writer, const char *text)
{
	for (; *text != '\0'; text++)
	{
		unsigned char c = (unsigned char) *text;
		char escape[3] = {'%', hex[c >> 4], hex[c & 0xf]};

		if (is_unreserved(*text))
			put(writer, text, 1);
		else
			put(writer, escape, sizeof(escape));
	}
}

/* Ends the text. */
size_t
tc_write_end(TcWriter *writer)
{
	if (writer->failed)
		writer->len = 0;
	if (writer->size > 0)
		writer->out[writer->len] = '\0';
	return writer->len;
}
