/*
 * calcom_limit_core.c
 *		Cal.com: what the headers of an answer say about limits.
 *
 * An answer may tell of several limits by name; the tightest counts.  What a header says is taken
 * no further than TC_CALCOM_LONGEST_WAIT, so that no value can silence a credential for good.
 */
#include "calcom_limit_core.h"

#include <string.h>

#include "time_core.h"

#define LINE_NAME 64 /* bytes of a header's name and value that are looked at */
#define LINE_VALUE 128
#define AT_LEAST TC_TIME_SECOND /* how long a 429 is taken to last at least */
#define UNIX_SECONDS INT64_C(1000000000)
#define UNIX_MILLISECONDS INT64_C(100000000000)

/* Nothing said yet. */
void
tc_calcom_limits_init(TcCalcomLimits *limits)
{
	limits->limit = limits->remaining = -1;
	limits->reset = limits->retry = TC_TIME_NONE;
}

/* If text begins with the word, in whatever case, returns what follows it, else NULL. */
static const char *
after_word(const char *text, const char *word)
{
	for (; *word != '\0'; word++, text++)
	{
		char c = *text >= 'A' && *text <= 'Z' ? (char) (*text - 'A' + 'a') : *text;

		if (c != *word)
			return NULL;
	}
	return text;
}

/* Does the name of the header end here, or does a limit's own name follow? */
static bool
ends_name(const char *rest)
{
	return rest != NULL && (*rest == '\0' || *rest == '-');
}

/* Parses a number that is not negative, rounded up; false for anything else. */
static bool
parse_number(const char *text, int64_t *number)
{
	const char *start = text;

	*number = 0;
	for (; *text >= '0' && *text <= '9'; text++)
		if (__builtin_mul_overflow(*number, 10, number) ||
			__builtin_add_overflow(*number, *text - '0', number))
			return false;
	if (text == start)
		return false;
	if (*text == '.')
	{
		bool more = false;

		for (text++; *text >= '0' && *text <= '9'; text++)
			more = more || *text != '0';
		if (more && __builtin_add_overflow(*number, 1, number))
			return false;
	}
	return *text == '\0';
}

/* A time no earlier than now and no later than the longest wait. */
static int64_t
within(int64_t time, int64_t now)
{
	if (time < now)
		return now;
	return time - now > TC_CALCOM_LONGEST_WAIT ? now + TC_CALCOM_LONGEST_WAIT : time;
}

/* When it is so many seconds from now. */
static int64_t
in_seconds(int64_t seconds, int64_t now)
{
	if (seconds > TC_CALCOM_LONGEST_WAIT / TC_TIME_SECOND)
		seconds = TC_CALCOM_LONGEST_WAIT / TC_TIME_SECOND;
	return now + seconds * TC_TIME_SECOND;
}

/* What a reset stands for: seconds, a unix time, or one in milliseconds. */
static int64_t
reset_at(int64_t number, int64_t now)
{
	if (number < UNIX_SECONDS)
		return in_seconds(number, now);
	if (number < UNIX_MILLISECONDS)
		return within(number * TC_TIME_SECOND, now);
	if (number > INT64_MAX / 1000)
		return now + TC_CALCOM_LONGEST_WAIT;
	return within(number * 1000, now);
}

/* Takes Retry-After. */
static bool
take_retry(const char *value, int64_t now, TcCalcomLimits *limits)
{
	int64_t number;
	int64_t time;

	if (parse_number(value, &number))
		time = in_seconds(number, now);
	else if (tc_time_parse_http(value, strlen(value), &time))
		time = within(time, now);
	else
		return false;
	if (limits->retry == TC_TIME_NONE || time > limits->retry)
		limits->retry = time;
	return true;
}

/* The smaller of two numbers, of which the first may be -1 for none. */
static int64_t
smaller(int64_t known, int64_t number)
{
	return known < 0 || number < known ? number : known;
}

/* Takes one header. */
bool
tc_calcom_limit_header(const char *name, const char *value, int64_t now, TcCalcomLimits *limits)
{
	const char *kind = after_word(name, "x-ratelimit-");
	const char *rest = after_word(name, "retry-after");
	int64_t number;

	if (rest != NULL && *rest == '\0')
		return take_retry(value, now, limits);
	if (kind == NULL || !parse_number(value, &number))
		return false;
	if (ends_name(after_word(kind, "limit")))
		limits->limit = smaller(limits->limit, number);
	else if (ends_name(after_word(kind, "remaining")))
		limits->remaining = smaller(limits->remaining, number);
	else if (ends_name(after_word(kind, "reset")))
	{
		int64_t time = reset_at(number, now);

		if (limits->reset == TC_TIME_NONE || time > limits->reset)
			limits->reset = time;
	}
	else
		return false;
	return true;
}

/* Is it white space, or of the line's end? */
static bool
is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Copies a part of the line without the spaces around it; false when it is too long. */
static bool
copy_trimmed(const char *start, const char *end, char *out, size_t outsize)
{
	while (start < end && is_space(*start))
		start++;
	while (start < end && is_space(end[-1]))
		end--;
	if ((size_t) (end - start) >= outsize || memchr(start, '\0', end - start) != NULL)
		return false;
	memcpy(out, start, end - start);
	out[end - start] = '\0';
	return true;
}

/* Takes a header line. */
bool
tc_calcom_limit_line(const char *line, size_t len, int64_t now, TcCalcomLimits *limits)
{
	const char *colon = len > 0 ? memchr(line, ':', len) : NULL;
	char name[LINE_NAME];
	char value[LINE_VALUE];

	return colon != NULL && copy_trimmed(line, colon, name, sizeof(name)) &&
		   copy_trimmed(colon + 1, line + len, value, sizeof(value)) &&
		   tc_calcom_limit_header(name, value, now, limits);
}

/* Until when not to ask after a 429. */
int64_t
tc_calcom_blocked_until(const TcCalcomLimits *limits, int64_t now, int64_t otherwise)
{
	int64_t until = limits->reset > limits->retry ? limits->reset : limits->retry;

	if (until == TC_TIME_NONE)
		until = now + otherwise;
	return until < now + AT_LEAST ? now + AT_LEAST : until;
}
