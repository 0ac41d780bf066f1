/*
 * codec_core.c
 *		base64url, hex and comparison in constant time.
 *
 * Decoding is strict: one text has one reading and one reading has one text, so that nothing can
 * be told apart, or passed off, by spelling alone.  (Hex accepts both cases, as senders differ;
 * what is compared is always the decoded bytes.)
 */
#include "codec_core.h"

static const char base64url_digits[] =
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* Writes data as base64url; returns the number of characters. */
size_t
tc_base64url_encode(const uint8_t *data, size_t len, char *out)
{
	char *start = out;
	uint32_t bits = 0;
	int nbits = 0;

	for (size_t i = 0; i < len; i++)
	{
		bits = (bits << 8) | data[i];
		nbits += 8;
		while (nbits >= 6)
		{
			nbits -= 6;
			*out++ = base64url_digits[(bits >> nbits) & 63];
		}
	}
	if (nbits > 0)
		*out++ = base64url_digits[(bits << (6 - nbits)) & 63];
	return out - start;
}

/* The value of a base64url digit, or -1. */
static int
base64url_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '-')
		return 62;
	return c == '_' ? 63 : -1;
}

/* Decodes base64url without padding. */
bool
tc_base64url_decode(const char *text, size_t len, uint8_t *out, size_t outsize, size_t *outlen)
{
	uint32_t bits = 0;
	int nbits = 0;
	size_t n = 0;

	*outlen = 0;
	if (len % 4 == 1 || len / 4 * 3 + (len % 4) * 3 / 4 > outsize)
		return false;
	for (size_t i = 0; i < len; i++)
	{
		int value = base64url_value(text[i]);

		if (value < 0)
			return false;
		bits = (bits << 6) | (uint32_t) value;
		nbits += 6;
		if (nbits >= 8)
		{
			nbits -= 8;
			out[n++] = (uint8_t) (bits >> nbits);
		}
		bits &= (1u << nbits) - 1;
	}
	*outlen = n;
	return bits == 0;
}

/* Writes data as lower-case hex. */
void
tc_hex_encode(const uint8_t *data, size_t len, char *out)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < len; i++)
	{
		*out++ = digits[data[i] >> 4];
		*out++ = digits[data[i] & 15];
	}
}

/* The value of a hex digit, or -1. */
static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Decodes exactly outlen bytes of hex. */
bool
tc_hex_decode(const char *text, size_t len, uint8_t *out, size_t outlen)
{
	if (len != outlen * 2)
		return false;
	for (size_t i = 0; i < outlen; i++)
	{
		int high = hex_value(text[2 * i]);
		int low = hex_value(text[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		out[i] = (uint8_t) (high << 4 | low);
	}
	return true;
}

/* Compares in constant time; volatile keeps the compiler from leaving the loop early. */
bool
tc_equal_ct(const void *a, const void *b, size_t len)
{
	const volatile uint8_t *x = a;
	const volatile uint8_t *y = b;
	volatile uint8_t difference = 0;

	for (size_t i = 0; i < len; i++)
		difference |= x[i] ^ y[i];
	return difference == 0;
}
