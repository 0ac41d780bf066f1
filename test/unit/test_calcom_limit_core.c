/*
 * test_calcom_limit_core.c
 *		Headers about limits, in every style.
 */
#include "calcom_limit_core.h"
#include "time_core.h"
#include "unit.h"

#define SECOND TC_TIME_SECOND
#define NOW (INT64_C(1723539600) * SECOND) /* Tue, 13 Aug 2024 09:00:00 GMT */

static TcCalcomLimits limits;

/* Takes one header alone. */
static bool
take(const char *name, const char *value)
{
	tc_calcom_limits_init(&limits);
	return tc_calcom_limit_header(name, value, NOW, &limits);
}

/* How many seconds until the reset that one header tells. */
static int64_t
reset(const char *value)
{
	return take("X-RateLimit-Reset-Default", value) ? (limits.reset - NOW) / SECOND : -1;
}

static int64_t
retry(const char *value)
{
	return take("Retry-After", value) ? (limits.retry - NOW) / SECOND : -1;
}

static void
limit_and_remaining(void)
{
	CHECK(take("X-RateLimit-Limit-Default", "120") && limits.limit == 120);
	CHECK(take("x-ratelimit-limit", "120") && limits.limit == 120);
	CHECK(take("X-RATELIMIT-REMAINING-Default", "0") && limits.remaining == 0);
	CHECK_INT(limits.limit, -1);
	CHECK_INT(limits.reset, TC_TIME_NONE);
	CHECK(!take("X-RateLimit-Limits", "120"));
	CHECK(!take("X-RateLimit-Policy", "120"));
	CHECK(!take("RateLimit", "120"));
	CHECK(!take("X-RateLimit-Limit", "many"));
	CHECK(!take("X-RateLimit-Limit", ""));
	CHECK(!take("X-RateLimit-Limit", "-1"));
	CHECK(!take("X-RateLimit-Limit", "99999999999999999999"));
	CHECK_INT(limits.limit, -1);
}

static void
resets(void)
{
	CHECK_INT(reset("0"), 0);
	CHECK_INT(reset("59"), 59);
	CHECK_INT(reset("58.2"), 59);
	CHECK_INT(reset("58.0"), 58);
	CHECK_INT(reset("1723539660"), 60);
	CHECK_INT(reset("1723539540"), 0);
	CHECK_INT(reset("1723539660000"), 60);
	CHECK_INT(reset("999999999"), 3600);
	CHECK_INT(reset("9999999999"), 3600);
	CHECK_INT(reset("9223372036854775807"), 3600);
	CHECK_INT(reset("9223372036854775807.5"), -1);
	CHECK_INT(reset("soon"), -1);
}

static void
retries(void)
{
	CHECK_INT(retry("60"), 60);
	CHECK_INT(retry("Tue, 13 Aug 2024 09:01:00 GMT"), 60);
	CHECK_INT(retry("Tue, 13 Aug 2024 08:00:00 GMT"), 0);
	CHECK_INT(retry("Tue, 13 Aug 2124 08:00:00 GMT"), 3600);
	CHECK_INT(retry("86400"), 3600);
	CHECK_INT(retry("a minute"), -1);
	CHECK_INT(retry(""), -1);
	CHECK(!take("Retry-After-Default", "60"));
}

static bool
take_line(const char *line)
{
	return tc_calcom_limit_line(line, strlen(line), NOW, &limits);
}

static void
lines(void)
{
	tc_calcom_limits_init(&limits);
	CHECK(take_line("X-RateLimit-Limit-Default:120\r\n"));
	CHECK(take_line("x-ratelimit-remaining-default:   7  \r\n"));
	CHECK(take_line("X-RateLimit-Reset-Default: 12"));
	CHECK(take_line("retry-after:\t30\r\n"));
	CHECK_INT(limits.limit, 120);
	CHECK_INT(limits.remaining, 7);
	CHECK_INT(limits.reset, NOW + 12 * SECOND);
	CHECK_INT(limits.retry, NOW + 30 * SECOND);
	CHECK(!take_line("HTTP/1.1 200 OK\r\n"));
	CHECK(!take_line("\r\n"));
	CHECK(!take_line(""));
	CHECK(!take_line(":"));
	CHECK(!tc_calcom_limit_line("Retry-After: 9\0", 16, NOW, &limits));
	CHECK(!take_line("X-A-header-with-a-name-that-is-longer-than-any-that-we-are-looking-for: 1"));
	CHECK_INT(limits.retry, NOW + 30 * SECOND);
}

/* Of several limits the tightest counts. */
static void
several(void)
{
	tc_calcom_limits_init(&limits);
	CHECK(take_line("X-RateLimit-Limit-Default: 120"));
	CHECK(take_line("X-RateLimit-Limit-Key: 60"));
	CHECK(take_line("X-RateLimit-Remaining-Default: 10"));
	CHECK(take_line("X-RateLimit-Remaining-Key: 20"));
	CHECK(take_line("X-RateLimit-Reset-Default: 30"));
	CHECK(take_line("X-RateLimit-Reset-Key: 20"));
	CHECK_INT(limits.limit, 60);
	CHECK_INT(limits.remaining, 10);
	CHECK_INT(limits.reset, NOW + 30 * SECOND);
}

static void
blocks(void)
{
	tc_calcom_limits_init(&limits);
	CHECK_INT(tc_calcom_blocked_until(&limits, NOW, 60 * SECOND), NOW + 60 * SECOND);
	limits.reset = NOW;
	CHECK_INT(tc_calcom_blocked_until(&limits, NOW, 60 * SECOND), NOW + SECOND);
	limits.reset = NOW + 20 * SECOND;
	CHECK_INT(tc_calcom_blocked_until(&limits, NOW, 60 * SECOND), NOW + 20 * SECOND);
	limits.retry = NOW + 30 * SECOND;
	CHECK_INT(tc_calcom_blocked_until(&limits, NOW, 60 * SECOND), NOW + 30 * SECOND);
}

int
main(void)
{
	RUN(limit_and_remaining);
	RUN(resets);
	RUN(retries);
	RUN(lines);
	RUN(several);
	RUN(blocks);
	return unit_summary();
}
