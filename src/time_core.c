/*
 * time_core.c
 *		Times as vendors write them.
 *
 * The calendar is the proleptic Gregorian one; days are counted by era of 400 years, each of which
 * begins on a 1st of March, so that the day that comes and goes is the last of its year.
 */
#include "time_core.h"

#include <stdio.h>
#include <string.h>

#define DAYS_OF_ERA 146097
#define DAYS_BEFORE_1970 719468 /* from 0000-03-01 */
#define SECONDS_OF_DAY 86400

typedef struct Civil
{
	int year;
	int month;
	int day;
	int hour;
	int minute;
	int second;
} Civil;

/* What is left of the text. */
typedef struct Text
{
	const char *at;
	const char *end;
} Text;

/* Days from 1970-01-01 to a date. */
static int64_t
days_of(int year, int month, int day)
{
	int64_t shifted = month <= 2 ? year - 1 : year;
	int64_t era = shifted / 400;
	int64_t year_of_era = shifted - era * 400;
	int64_t day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;

	return era * DAYS_OF_ERA + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 +
		   day_of_year - DAYS_BEFORE_1970;
}

/* How many days the month has. */
static int
days_in_month(int year, int month)
{
	static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	return month == 2 && leap ? 29 : lengths[month - 1];
}

/* Takes exactly n digits. */
static bool
take_number(Text *text, int n, int *value)
{
	*value = 0;
	if (text->end - text->at < n)
		return false;
	for (int i = 0; i < n; i++, text->at++)
	{
		if (*text->at < '0' || *text->at > '9')
			return false;
		*value = *value * 10 + (*text->at - '0');
	}
	return true;
}

/* Takes the character if it comes next. */
static bool
take(Text *text, char c)
{
	if (text->at == text->end || *text->at != c)
		return false;
	text->at++;
	return true;
}

/* Do these fields make a time that exists?  Leap seconds are not taken. */
static bool
is_valid(const Civil *civil)
{
	return civil->year >= 1 && civil->month >= 1 && civil->month <= 12 && civil->day >= 1 &&
		   civil->day <= days_in_month(civil->year, civil->month) && civil->hour <= 23 &&
		   civil->minute <= 59 && civil->second <= 59;
}

/* Seconds since 1970. */
static int64_t
seconds_of(const Civil *civil)
{
	return days_of(civil->year, civil->month, civil->day) * SECONDS_OF_DAY + civil->hour * 3600 +
		   civil->minute * 60 + civil->second;
}

/* Takes YYYY-MM-DD. */
static bool
take_date(Text *text, Civil *civil)
{
	return take_number(text, 4, &civil->year) && take(text, '-') &&
		   take_number(text, 2, &civil->month) && take(text, '-') &&
		   take_number(text, 2, &civil->day);
}

/* Takes a fraction's digits as microseconds; more than six are cut. */
static bool
take_fraction(Text *text, int64_t *microseconds)
{
	int64_t unit = TC_TIME_SECOND / 10;
	int digit;

	*microseconds = 0;
	if (!take(text, '.'))
		return true;
	if (!take_number(text, 1, &digit))
		return false;
	do
	{
		*microseconds += digit * unit;
		unit /= 10;
	} while (text->at < text->end && take_number(text, 1, &digit));
	return true;
}

/* Takes Z or an offset, as seconds east of UTC. */
static bool
take_zone(Text *text, int *offset)
{
	int hours;
	int minutes = 0;
	bool west;

	*offset = 0;
	if (take(text, 'Z'))
		return true;
	west = take(text, '-');
	if ((!west && !take(text, '+')) || !take_number(text, 2, &hours))
		return false;
	if (take(text, ':') || text->at < text->end)
		if (!take_number(text, 2, &minutes))
			return false;
	*offset = (hours * 3600 + minutes * 60) * (west ? -1 : 1);
	return hours <= 15 && minutes <= 59;
}

/* Parses ISO 8601. */
bool
tc_time_parse_iso(const char *text, size_t len, int64_t *time)
{
	Text rest = {text, text + len};
	Civil civil = {0};
	int64_t microseconds = 0;
	int offset;

	if (!take_date(&rest, &civil) || !take(&rest, 'T') || !take_number(&rest, 2, &civil.hour) ||
		!take(&rest, ':') || !take_number(&rest, 2, &civil.minute))
		return false;
	if (take(&rest, ':') &&
		(!take_number(&rest, 2, &civil.second) || !take_fraction(&rest, &microseconds)))
		return false;
	if (!take_zone(&rest, &offset) || rest.at != rest.end || !is_valid(&civil))
		return false;
	*time = (seconds_of(&civil) - offset) * TC_TIME_SECOND + microseconds;
	return true;
}

/* Is it a date? */
bool
tc_time_is_date(const char *text, size_t len)
{
	Text rest = {text, text + len};
	Civil civil = {0};

	return take_date(&rest, &civil) && rest.at == rest.end && is_valid(&civil);
}

/* The date of a number of days since 1970-01-01. */
static void
date_of(int64_t days, Civil *civil)
{
	int64_t shifted = days + DAYS_BEFORE_1970;
	int64_t era = (shifted >= 0 ? shifted : shifted - (DAYS_OF_ERA - 1)) / DAYS_OF_ERA;
	int64_t of_era = shifted - era * DAYS_OF_ERA;
	int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	int64_t of_year = of_era - (365 * year + year / 4 - year / 100);
	int64_t month = (5 * of_year + 2) / 153;

	civil->day = (int) (of_year - (153 * month + 2) / 5 + 1);
	civil->month = (int) (month < 10 ? month + 3 : month - 9);
	civil->year = (int) (year + era * 400 + (civil->month <= 2));
}

/* Writes the time in UTC. */
bool
tc_time_print_iso(int64_t time, char out[TC_TIME_ISO_LEN + 1])
{
	int64_t seconds = time / TC_TIME_SECOND - (time % TC_TIME_SECOND < 0);
	int64_t days = seconds / SECONDS_OF_DAY - (seconds % SECONDS_OF_DAY < 0);
	int of_day = (int) (seconds - days * SECONDS_OF_DAY);
	int milliseconds;
	char buffer[80];
	Civil civil;

	out[0] = '\0';
	if (days < days_of(1, 1, 1) || days > days_of(9999, 12, 31))
		return false;
	date_of(days, &civil);
	milliseconds = (int) ((time - seconds * TC_TIME_SECOND) / 1000);
	(void) snprintf(buffer, sizeof(buffer), "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", civil.year,
					civil.month, civil.day, of_day / 3600, of_day / 60 % 60, of_day % 60,
					milliseconds);
	memcpy(out, buffer, TC_TIME_ISO_LEN);
	out[TC_TIME_ISO_LEN] = '\0';
	return true;
}

/* Takes one of the names, each of three letters; its number from 0. */
static bool
take_word(Text *text, const char *names, int *number)
{
	for (*number = 0; names[3 * *number] != '\0'; ++*number)
		if (text->end - text->at >= 3 && memcmp(text->at, names + 3 * *number, 3) == 0)
		{
			text->at += 3;
			return true;
		}
	return false;
}

/* Parses an HTTP date. */
bool
tc_time_parse_http(const char *text, size_t len, int64_t *time)
{
	Text rest = {text, text + len};
	Civil civil = {0};
	int weekday;
	int month;

	if (!take_word(&rest, "MonTueWedThuFriSatSun", &weekday) || !take(&rest, ',') ||
		!take(&rest, ' ') || !take_number(&rest, 2, &civil.day) || !take(&rest, ' ') ||
		!take_word(&rest, "JanFebMarAprMayJunJulAugSepOctNovDec", &month) || !take(&rest, ' ') ||
		!take_number(&rest, 4, &civil.year))
		return false;
	civil.month = month + 1;
	if (!take(&rest, ' ') || !take_number(&rest, 2, &civil.hour) || !take(&rest, ':') ||
		!take_number(&rest, 2, &civil.minute) || !take(&rest, ':') ||
		!take_number(&rest, 2, &civil.second) || rest.end - rest.at != 4 ||
		memcmp(rest.at, " GMT", 4) != 0 || !is_valid(&civil))
		return false;
	*time = seconds_of(&civil) * TC_TIME_SECOND;
	return true;
}
