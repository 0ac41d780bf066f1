/*
 * phone_core.c
 *		E.164 telephone numbers: parsing, checking, writing.  Pure C.
 *
 * Two grammars:
 *		canonical		"+" digits
 *		loose			[ "tel:" ] "+" digits, with separators between the digits
 *
 * Neither knows a numbering plan.  What would need one is told apart by its status, never guessed.
 */
#include "phone_core.h"

#include <string.h>

#define TEL_SCHEME "tel:"
#define TEL_SCHEME_LEN (sizeof(TEL_SCHEME) - 1)

/* Is this an ASCII digit? */
static inline bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Is this an ASCII letter? */
static inline bool
is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* May people write this between the digits of a number? */
static inline bool
is_separator(char c)
{
	return c == ' ' || c == '-' || c == '.' || c == '/' || c == '(' || c == ')';
}

/* Compares n bytes with a lower-case word, whatever the case of the text. */
static bool
has_prefix(const char *text, size_t len, const char *word, size_t n)
{
	if (len < n)
		return false;
	for (size_t i = 0; i < n; i++)
	{
		char c = text[i];

		if (c >= 'A' && c <= 'Z')
			c = (char) (c - 'A' + 'a');
		if (c != word[i])
			return false;
	}
	return true;
}

/* Takes one more digit; says false if there is no room for it. */
static inline bool
add_digit(int64_t *value, int *n_digits, char c)
{
	if (*n_digits >= TC_PHONE_MAX_DIGITS)
		return false;
	*value = *value * 10 + (c - '0');
	(*n_digits)++;
	return true;
}

/* Does the text begin with the scheme of a URI, such as "sip:"? */
static bool
has_scheme(const char *text, size_t len)
{
	size_t i = 0;

	while (i < len && is_letter(text[i]))
		i++;
	return i > 0 && i < len && text[i] == ':';
}

/* Says what is wrong with a text that does not begin with a plus sign. */
static TcPhoneStatus
judge_without_plus(const char *text, size_t len)
{
	size_t i = 0;

	if (has_scheme(text, len))
		return TC_PHONE_URI;
	for (size_t k = 0; k < len; k++)
		if (!is_digit(text[k]) && !is_separator(text[k]))
			return TC_PHONE_BAD_CHAR;
	while (i < len && is_separator(text[i]))
		i++;
	if (i == len)
		return TC_PHONE_BAD_CHAR;
	return text[i] == '0' ? TC_PHONE_NATIONAL : TC_PHONE_NO_PLUS;
}

/* Says what stands at a place where neither a digit nor a separator does. */
static TcPhoneStatus
judge_rest(const char *text, size_t len)
{
	if (text[0] == ';' || text[0] == ',' || text[0] == '#')
		return TC_PHONE_EXTENSION;
	if (len >= 2 && (text[0] == 'x' || text[0] == 'X') && (is_digit(text[1]) || text[1] == ' '))
		return TC_PHONE_EXTENSION;
	if (has_prefix(text, len, "ext", 3))
		return TC_PHONE_EXTENSION;
	return TC_PHONE_BAD_CHAR;
}

/* Parses a canonical number; sets *phone on success alone. */
TcPhoneStatus
tc_phone_core_parse(const char *text, size_t len, int64_t *phone)
{
	int64_t value = 0;
	int n_digits = 0;

	if (len == 0)
		return TC_PHONE_EMPTY;
	if (text[0] != '+')
		return judge_without_plus(text, len);
	for (size_t i = 1; i < len; i++)
	{
		if (!is_digit(text[i]))
			return is_separator(text[i]) ? TC_PHONE_SEPARATOR : judge_rest(text + i, len - i);
		if (i == 1 && text[i] == '0')
			return TC_PHONE_LEADING_ZERO;
		if (!add_digit(&value, &n_digits, text[i]))
			return TC_PHONE_TOO_LONG;
	}
	if (n_digits < TC_PHONE_MIN_DIGITS)
		return TC_PHONE_TOO_SHORT;
	*phone = value;
	return TC_PHONE_OK;
}

/* Parses the digits of a loose number, from behind its plus sign. */
static TcPhoneStatus
parse_separated(const char *text, size_t len, int64_t *phone)
{
	int64_t value = 0;
	int n_digits = 0;

	for (size_t i = 0; i < len; i++)
	{
		if (is_separator(text[i]))
		{
			if (len - i >= 3 && memcmp(text + i, "(0)", 3) == 0 && n_digits > 0)
				return TC_PHONE_TRUNK_ZERO;
			continue;
		}
		if (!is_digit(text[i]))
			return judge_rest(text + i, len - i);
		if (n_digits == 0 && text[i] == '0')
			return TC_PHONE_LEADING_ZERO;
		if (!add_digit(&value, &n_digits, text[i]))
			return TC_PHONE_TOO_LONG;
	}
	if (n_digits < TC_PHONE_MIN_DIGITS)
		return TC_PHONE_TOO_SHORT;
	*phone = value;
	return TC_PHONE_OK;
}

/* Parses an international number as people and tel: URIs write it; sets *phone on success alone. */
TcPhoneStatus
tc_phone_core_parse_loose(const char *text, size_t len, int64_t *phone)
{
	if (has_prefix(text, len, TEL_SCHEME, TEL_SCHEME_LEN))
	{
		text += TEL_SCHEME_LEN;
		len -= TEL_SCHEME_LEN;
	}
	while (len > 0 && text[0] == ' ')
	{
		text++;
		len--;
	}
	while (len > 0 && text[len - 1] == ' ')
		len--;
	if (len == 0)
		return TC_PHONE_EMPTY;
	if (text[0] != '+')
		return judge_without_plus(text, len);
	return parse_separated(text + 1, len - 1, phone);
}

/* Writes a valid number in canonical form; returns its length. */
size_t
tc_phone_core_format(int64_t phone, char text[TC_PHONE_TEXT_LEN])
{
	char digits[TC_PHONE_MAX_DIGITS];
	size_t n = 0;

	while (phone > 0 && n < TC_PHONE_MAX_DIGITS)
	{
		digits[n++] = (char) ('0' + phone % 10);
		phone /= 10;
	}
	text[0] = '+';
	for (size_t i = 0; i < n; i++)
		text[1 + i] = digits[n - 1 - i];
	text[1 + n] = '\0';
	return 1 + n;
}
