/*
 * phone_core.c
 *		E.164 telephone numbers: parsing, checking, writing.  Pure C.
 *
 * Two grammars:
 *		canonical		"+" digits
 *		loose			number [ extension | parameters ]
 *						"tel:" number [ parameters ]			(RFC 3966)
 *						"sip:" number [ parameters ] "@" host	(RFC 3261; also sips:)
 *		number			"+" digits, with separators between the digits
 *		extension		( "x" | "ext" | "extension" | "#" | "," ) digits
 *
 * Extensions and parameters are checked and dropped: a number in E.164 has none.
 * Neither grammar knows a numbering plan.  What would need one is told apart by its status, never
 *guessed.
 */
#include "phone_core.h"

#include <string.h>

#define CONTEXT ";phone-context=+"
#define CONTEXT_LEN (sizeof(CONTEXT) - 1)
#define MAX_EXTENSION_DIGITS 11

/* A text, or a part of one. */
typedef struct Span
{
	const char *text;
	size_t len;
} Span;

/* The parts of a text that matter. */
typedef struct Parts
{
	bool uri;
	Span number;
	Span rest;	  /* from the first character that no number has */
	Span context; /* digits behind phone-context=+ */
} Parts;

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

/* The length of the text before the first of the characters; all of it if there is none. */
static size_t
length_before(Span span, const char *ends)
{
	size_t i = 0;

	while (i < span.len && (span.text[i] == '\0' || strchr(ends, span.text[i]) == NULL))
		i++;
	return i;
}

/* Drops what stands before a place in the text. */
static void
advance(Span *span, size_t n)
{
	span->text += n;
	span->len -= n;
}

/* Drops spaces on both sides. */
static void
trim(Span *span)
{
	while (span->len > 0 && span->text[0] == ' ')
		advance(span, 1);
	while (span->len > 0 && span->text[span->len - 1] == ' ')
		span->len--;
}

/*
 * Cuts a SIP URI down to its user; false if there is none that could be a number.  Without a user
 * the host must not be taken for one: only a plus sign tells it apart from an IPv4 address.
 */
static bool
take_sip_user(Span *span)
{
	size_t user = length_before(*span, "@");

	if (user < span->len)
	{
		span->len = user;
		span->len = length_before(*span, ":");
		return true;
	}
	span->len = length_before(*span, "?");
	return span->len > 0 && span->text[0] == '+';
}

/* Takes the scheme off; false if it is one that names no number. */
static bool
take_scheme(Span *span, bool *uri)
{
	static const char *const schemes[] = {"tel:", "sip:", "sips:"};

	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++)
	{
		size_t n = strlen(schemes[i]);

		if (!has_prefix(span->text, span->len, schemes[i], n))
			continue;
		*uri = true;
		advance(span, n);
		trim(span);
		return i == 0 || take_sip_user(span);
	}
	return !has_scheme(span->text, span->len);
}

/* Finds the digits of the country or area that a local number belongs to. */
static void
find_context(Parts *parts)
{
	Span at = parts->rest;

	while (at.len > 0 && !has_prefix(at.text, at.len, CONTEXT, CONTEXT_LEN))
		advance(&at, 1);
	if (at.len == 0)
		return;
	advance(&at, CONTEXT_LEN);
	at.len = length_before(at, ";");
	for (size_t i = 0; i < at.len; i++)
		if (!is_digit(at.text[i]) && !is_separator(at.text[i]))
			return;
	parts->context = at;
}

/* Takes a text apart; false if it is a URI that names no number. */
static bool
split(const char *text, size_t len, Parts *parts)
{
	Span span = {text, len};
	size_t i = 0;

	memset(parts, 0, sizeof(*parts));
	trim(&span);
	if (!take_scheme(&span, &parts->uri))
		return false;
	parts->number = span;
	if (i < span.len && span.text[i] == '+')
		i++;
	while (i < span.len && (is_digit(span.text[i]) || is_separator(span.text[i])))
		i++;
	parts->number.len = i;
	parts->rest = span;
	advance(&parts->rest, i);
	find_context(parts);
	return true;
}

/* Are these the parameters of a URI?  Their values are none of our business. */
static bool
is_parameters(Span rest)
{
	if (rest.text[0] != ';')
		return false;
	for (size_t i = 0; i < rest.len; i++)
		if (!is_digit(rest.text[i]) && !is_letter(rest.text[i]) && rest.text[i] != '\0' &&
			strchr(";=+-._%*()/", rest.text[i]) == NULL)
			return false;
	return rest.len < TC_PHONE_PLAN_LEN * 4 && memchr(rest.text, '\0', rest.len) == NULL;
}

/* Is this an extension, as people write it? */
static bool
is_extension(Span rest)
{
	static const char *const marks[] = {"extension", "ext", "x", "#", ","};
	size_t n_digits;

	for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++)
	{
		if (!has_prefix(rest.text, rest.len, marks[i], strlen(marks[i])))
			continue;
		advance(&rest, strlen(marks[i]));
		while (rest.len > 0 && (rest.text[0] == ' ' || rest.text[0] == '.' || rest.text[0] == ':' ||
								rest.text[0] == ','))
			advance(&rest, 1);
		n_digits = rest.len;
		while (rest.len > 0 && is_digit(rest.text[0]))
			advance(&rest, 1);
		return n_digits > 0 && n_digits <= MAX_EXTENSION_DIGITS && rest.len == 0;
	}
	return false;
}

/* Parses the number of a text that was taken apart. */
static TcPhoneStatus
parse_parts(const Parts *parts, int64_t *phone)
{
	Span number = parts->number;
	TcPhoneStatus status;

	if (number.len == 0)
		return parts->rest.len == 0 ? TC_PHONE_EMPTY : TC_PHONE_BAD_CHAR;
	if (parts->rest.len > 0 && !is_parameters(parts->rest) &&
		(parts->uri || !is_extension(parts->rest)))
		return TC_PHONE_BAD_CHAR;
	if (number.text[0] == '+')
		return parse_separated(number.text + 1, number.len - 1, phone);
	status = judge_without_plus(number.text, number.len);
	if (parts->context.len > 0 && (status == TC_PHONE_NATIONAL || status == TC_PHONE_NO_PLUS))
		return TC_PHONE_CONTEXT;
	return status;
}

/* Parses an international number as people and URIs write it; sets *phone on success alone. */
TcPhoneStatus
tc_phone_core_parse_loose(const char *text, size_t len, int64_t *phone)
{
	Parts parts;
	TcPhoneStatus status;

	if (!split(text, len, &parts))
		return TC_PHONE_URI;
	status = parse_parts(&parts, phone);
	return parts.uri && status == TC_PHONE_BAD_CHAR ? TC_PHONE_URI : status;
}

/* Writes what a numbering plan is to read. */
bool
tc_phone_core_plan_text(const char *text, size_t len, char out[TC_PHONE_PLAN_LEN])
{
	Parts parts;
	size_t n = 0;

	if (!split(text, len, &parts) || parts.number.len + parts.context.len + 2 > TC_PHONE_PLAN_LEN)
		return false;
	if (parts.context.len > 0 && parts.number.len > 0 && parts.number.text[0] != '+')
	{
		out[n++] = '+';
		memcpy(out + n, parts.context.text, parts.context.len);
		n += parts.context.len;
	}
	memcpy(out + n, parts.number.text, parts.number.len);
	out[n + parts.number.len] = '\0';
	return true;
}

/*
 * What stands where the number of a caller should: words of SIP networks, and those words typed on
 * a keypad, as some carriers send them, which are numbers of no plan.
 */
static const struct
{
	const char *word;
	TcCallerReason reason;
} caller_words[] = {
	{"anonymous", TC_CALLER_WITHHELD},
	{"restricted", TC_CALLER_WITHHELD},
	{"private", TC_CALLER_WITHHELD},
	{"blocked", TC_CALLER_WITHHELD},
	{"withheld", TC_CALLER_WITHHELD},
	{"hidden", TC_CALLER_WITHHELD},
	{"nocallerid", TC_CALLER_WITHHELD},
	{"+266696687", TC_CALLER_WITHHELD},
	{"+7378742833", TC_CALLER_WITHHELD},
	{"+2562533", TC_CALLER_WITHHELD},
	{"unknown", TC_CALLER_UNAVAILABLE},
	{"unavailable", TC_CALLER_UNAVAILABLE},
	{"notavailable", TC_CALLER_UNAVAILABLE},
	{"outofarea", TC_CALLER_UNAVAILABLE},
	{"+8656696", TC_CALLER_UNAVAILABLE},
	{"+86282452253", TC_CALLER_UNAVAILABLE},
	{"none", TC_CALLER_MISSING},
	{"null", TC_CALLER_MISSING},
};

#define MAX_CALLER_WORD 16

/* Tells the words and codes that stand in for the number of a caller. */
TcCallerReason
tc_phone_core_caller(const char *text, size_t len)
{
	Span span = {text, len};
	char word[MAX_CALLER_WORD + 1];
	size_t n = 0;
	bool uri;

	trim(&span);
	(void) take_scheme(&span, &uri);
	span.len = length_before(span, "@;");
	if (span.len == 0)
		return TC_CALLER_MISSING;
	for (size_t i = 0; i < span.len; i++)
	{
		if (span.text[i] == ' ' || span.text[i] == '_' || span.text[i] == '-')
			continue;
		if (n == MAX_CALLER_WORD)
			return TC_CALLER_SHOWN;
		word[n++] = span.text[i];
	}
	for (size_t i = 0; i < sizeof(caller_words) / sizeof(caller_words[0]); i++)
		if (n == strlen(caller_words[i].word) && has_prefix(word, n, caller_words[i].word, n))
			return caller_words[i].reason;
	return TC_CALLER_SHOWN;
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
