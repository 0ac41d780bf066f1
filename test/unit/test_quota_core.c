/* Unit test of quota_core.c: in no window does more start than the peer admits. */
#include "quota_core.h"
#include "unit.h"

#define S INT64_C(1000000000)
#define MAX_SENT 100000

static int64_t sent[MAX_SENT];
static int n_sent;
static uint64_t seed;

/* A random number below n. */
static int64_t
below(int64_t n)
{
	seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (int64_t) ((seed >> 33) % (uint64_t) n);
}

/* The most that was sent in any window, its ends included. */
static int
most_in_window(int64_t window)
{
	int most = 0;
	int first = 0;

	for (int i = 0; i < n_sent; i++)
	{
		while (sent[i] - sent[first] > window)
			first++;
		if (i - first + 1 > most)
			most = i - first + 1;
	}
	return most;
}

/* Sends whatever is admitted for so long; the mean gap between attempts is given. */
static int64_t
demand(TcQuota *quota, int64_t now, int64_t until, int64_t gap)
{
	while (now < until)
	{
		if (tc_quota_take(quota, now, below(4) == 0 ? 5 : 0) && n_sent < MAX_SENT)
			sent[n_sent++] = now;
		now += below(2 * gap) + 1;
	}
	return now;
}

/* Whatever the limit and the demand, with restarts in between. */
static void
test_windows(void)
{
	static const int64_t limits[] = {1, 2, 3, 4, 7, 12, 13, 30, 60, 119, 120, 121, 1000};

	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++)
	{
		for (int burst = 1; burst <= 2000; burst *= 10)
		{
			TcQuotaRules rules = {limits[i], burst, 60 * S};
			int64_t now = below(1000) * S;
			TcQuota quota;

			seed = (uint64_t) limits[i] * 31 + (uint64_t) burst;
			n_sent = 0;
			tc_quota_init(&quota, &rules, now);
			CHECK_INT(tc_quota_remaining(&quota, now), 0);
			for (int phase = 0; phase < 30; phase++)
			{
				now = demand(&quota, now, now + below(90) * S, S / (1 + below(200)));
				now += below(5) == 0 ? below(200) * S : 0;
				if (below(3) == 0)
					tc_quota_init(&quota, &rules, now);
			}
			CHECK(n_sent > 0);
			CHECK(most_in_window(60 * S) <= limits[i]);
		}
	}
}

/* The documented figures: 20 at once, then three every two seconds, 110 in 60 s. */
static void
test_default(void)
{
	TcQuotaRules rules = {120, 20, 60 * S};
	TcQuota quota;

	tc_quota_init(&quota, &rules, 0);
	CHECK_INT(tc_quota_wait(&quota, 0, 0), 2 * S / 3 + 1);
	CHECK(!tc_quota_take(&quota, 2 * S / 3, 0));
	CHECK(tc_quota_take(&quota, 2 * S / 3 + 1, 0));
	CHECK_INT(tc_quota_remaining(&quota, 100 * S), 20);
	n_sent = 0;
	seed = 7;
	(void) demand(&quota, 100 * S, 160 * S, S / 100);
	CHECK(n_sent >= 108 && n_sent <= 110);
}

/* Refreshes leave the reserve. */
static void
test_reserve(void)
{
	TcQuotaRules rules = {120, 20, 60 * S};
	TcQuota quota;
	int taken = 0;

	tc_quota_init(&quota, &rules, 0);
	while (tc_quota_take(&quota, 60 * S, 5))
		taken++;
	CHECK_INT(taken, 15);
	CHECK(tc_quota_wait(&quota, 60 * S, 5) > 0);
	CHECK_INT(tc_quota_wait(&quota, 60 * S, 0), 0);
	while (tc_quota_take(&quota, 60 * S, 0))
		taken++;
	CHECK_INT(taken, 20);
}

/* Tells the quota something. */
static void
learn(TcQuota *quota, int64_t limit, int64_t remaining, int64_t reset, int64_t now)
{
	TcQuotaNews news = TC_QUOTA_NO_NEWS;

	news.limit = limit;
	news.remaining = remaining;
	news.reset = reset;
	tc_quota_learn(quota, &news, now);
}

/* A lower limit counts, a higher one does not, and changing to and fro adds nothing. */
static void
test_learned_limit(void)
{
	TcQuotaRules rules = {120, 20, 60 * S};
	int64_t now = 1000 * S;
	TcQuota quota;

	tc_quota_init(&quota, &rules, 0);
	learn(&quota, 60, -1, -1, now);
	CHECK_INT(quota.limit, 60);
	CHECK_INT(tc_quota_remaining(&quota, now), 10);
	learn(&quota, 1000, -1, -1, now);
	CHECK_INT(quota.limit, 120);
	CHECK_INT(tc_quota_remaining(&quota, now), 10);
	n_sent = 0;
	for (int i = 0; i < 1000; i++)
	{
		now += S / 10;
		learn(&quota, i % 2 ? 60 : 120, -1, -1, now);
		if (tc_quota_take(&quota, now, 0))
			sent[n_sent++] = now;
	}
	CHECK(most_in_window(60 * S) <= 120);
	learn(&quota, 0, -1, -1, now);
	CHECK(quota.limit > 0);
}

/* The peer's window: no more than it has left, less what is under way; answers in any order. */
static void
test_window_left(void)
{
	TcQuotaRules rules = {120, 20, 60 * S};
	TcQuotaNews news = {-1, 5, 10 * S, -1, false, 2};
	int64_t now = 1000 * S;
	TcQuota quota;
	int taken = 0;

	tc_quota_init(&quota, &rules, 0);
	tc_quota_learn(&quota, &news, now);
	CHECK_INT(tc_quota_remaining(&quota, now), 3);
	learn(&quota, -1, 9, 10 * S, now);
	CHECK_INT(tc_quota_remaining(&quota, now), 3);
	while (tc_quota_take(&quota, now, 0))
		taken++;
	CHECK_INT(taken, 3);
	CHECK_INT(tc_quota_wait(&quota, now, 0), 10 * S);
	CHECK_INT(tc_quota_wait(&quota, now + 10 * S, 0), 0);
	learn(&quota, -1, 0, 5 * S, now + 10 * S);
	CHECK_INT(tc_quota_wait(&quota, now + 10 * S, 0), 5 * S);
}

/* 429: as long as told, a window if not told, longer when it comes again. */
static void
test_refused(void)
{
	TcQuotaRules rules = {120, 20, 60 * S};
	TcQuotaNews news = TC_QUOTA_NO_NEWS;
	int64_t now = 1000 * S;
	TcQuota quota;

	tc_quota_init(&quota, &rules, 0);
	news.refused = true;
	tc_quota_learn(&quota, &news, now);
	CHECK_INT(tc_quota_wait(&quota, now, 0), 60 * S);
	CHECK_INT(tc_quota_remaining(&quota, now), 0);
	CHECK(!tc_quota_take(&quota, now + 59 * S, 0));
	CHECK(tc_quota_take(&quota, now + 60 * S, 0));
	now += 61 * S;
	news.retry = 5 * S;
	tc_quota_learn(&quota, &news, now);
	CHECK_INT(tc_quota_wait(&quota, now, 0), 60 * S);
	tc_quota_learn(&quota, &news, now);
	CHECK_INT(tc_quota_wait(&quota, now, 0), 120 * S);
	learn(&quota, -1, -1, -1, now);
	news.retry = 90 * S;
	now += 200 * S;
	tc_quota_learn(&quota, &news, now);
	CHECK_INT(tc_quota_wait(&quota, now, 0), 90 * S);
	news.retry = INT64_MAX / 2;
	tc_quota_learn(&quota, &news, now);
	CHECK_INT(tc_quota_wait(&quota, now, 0), 3600 * S);
}

/* Without a limit only a 429 and the peer's own window count. */
static void
test_no_limit(void)
{
	TcQuotaRules rules = {0, 20, 60 * S};
	TcQuotaRules limited = {120, 20, 60 * S};
	TcQuotaNews news = TC_QUOTA_NO_NEWS;
	TcQuota quota;

	tc_quota_init(&quota, &rules, 0);
	for (int i = 0; i < 1000; i++)
		CHECK(tc_quota_take(&quota, 0, 5));
	news.refused = true;
	tc_quota_learn(&quota, &news, 0);
	CHECK(!tc_quota_take(&quota, 59 * S, 0));
	CHECK(tc_quota_take(&quota, 60 * S, 0));
	tc_quota_configure(&quota, &limited, 60 * S);
	CHECK_INT(tc_quota_remaining(&quota, 60 * S), 0);
	tc_quota_configure(&quota, &limited, 70 * S);
	CHECK_INT(tc_quota_remaining(&quota, 70 * S), 15);
	tc_quota_configure(&quota, &rules, 70 * S);
	CHECK(tc_quota_take(&quota, 70 * S, 0));
}

/* A quota of which nobody made use for years is what it was. */
static void
test_after_years(void)
{
	TcQuotaRules rules = {120, 20, 60 * S};
	int64_t now = 0;
	TcQuota quota;

	tc_quota_init(&quota, &rules, now);
	for (int turn = 0; turn < 20; turn++)
	{
		now += INT64_MAX / 40;
		CHECK(tc_quota_take(&quota, now, 0));
	}
}

int
main(void)
{
	RUN(test_windows);
	RUN(test_default);
	RUN(test_reserve);
	RUN(test_learned_limit);
	RUN(test_window_left);
	RUN(test_refused);
	RUN(test_no_limit);
	RUN(test_after_years);
	return unit_summary();
}
