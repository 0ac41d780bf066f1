/*
 * quota_core.c
 *		How many requests a peer admits in a window, kept on our side.
 *
 * Of a limit L a twelfth is kept as a margin, for requests that reach the peer later than we sent
 * them; the rest is divided into the burst and what is refilled in one window.  120 in 60 s with a
 * burst of 20 gives 20 + 90 = 110, so requests may be 6 s under way without ever exceeding it.
 *
 * The peer's own count (remaining, reset) comes on top: until its window ends, no more is sent than
 * it had left, less what was under way when it said so.  Answers may come out of order; within one
 * window the smallest number counts.
 */
#include "quota_core.h"

#define BLOCK_MAX (INT64_C(3600) * 1000000000) /* no 429 blocks longer than an hour */

/* The smaller one. */
static int64_t
least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* The larger one. */
static int64_t
most(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

/* The bucket of a limit. */
static void
make_math(TcQuota *quota)
{
	int64_t limit = quota->limit;
	int64_t margin = limit >= 3 ? most(limit / 12, 1) : 0;
	int64_t burst = quota->rules.burst;
	int64_t refill;

	if (limit < quota->rules.limit) /* the same part of a smaller limit */
		burst = (int64_t) ((__extension__(__int128) burst) * limit / quota->rules.limit);
	burst = most(1, least(burst, limit - margin - 1));
	refill = most(1, limit - margin - burst);
	/* limits of 1: the second one comes in the next window but one */
	(void) tc_rate_setup(&quota->math, refill,
						 limit == 1 ? 2 * quota->rules.window : quota->rules.window, burst);
}

/* Makes the bucket hold so many tokens. */
static void
hold(TcQuota *quota, int64_t tokens, int64_t now)
{
	quota->state.base = now;
	quota->state.s = (quota->math.burst - least(tokens, quota->math.burst)) * quota->math.unit;
}

/* Tokens in the bucket, whatever else forbids to use them. */
static int64_t
tokens_at(const TcQuota *quota, int64_t now)
{
	TcRateView view;

	tc_rate_view(&quota->math, quota->state, now, 1, &view);
	return view.remaining;
}

/* Starts, without tokens. */
void
tc_quota_init(TcQuota *quota, const TcQuotaRules *rules, int64_t now)
{
	*quota = (TcQuota){.rules = *rules, .limit = rules->limit};
	if (rules->limit == 0)
		return;
	make_math(quota);
	hold(quota, 0, now);
}

/* Comes under another limit: the tokens that were left stay, none are added. */
static void
change_limit(TcQuota *quota, int64_t limit, int64_t now)
{
	int64_t tokens = quota->limit > 0 ? tokens_at(quota, now) : 0;

	quota->limit = limit;
	if (limit == 0)
		return;
	make_math(quota);
	hold(quota, tokens, now);
}

/* Changed rules. */
void
tc_quota_configure(TcQuota *quota, const TcQuotaRules *rules, int64_t now)
{
	if (quota->rules.limit == rules->limit && quota->rules.burst == rules->burst &&
		quota->rules.window == rules->window)
		return;
	quota->rules = *rules;
	change_limit(quota, rules->limit, now);
}

/* Nanoseconds until a request may start. */
int64_t
tc_quota_wait(const TcQuota *quota, int64_t now, int64_t reserve)
{
	int64_t wait = most(0, quota->blocked_until - now);
	TcRateView view;

	if (now < quota->window_end && quota->window_left <= reserve)
		wait = most(wait, quota->window_end - now);
	if (quota->limit == 0)
		return wait;
	tc_rate_view(&quota->math, quota->state, now, least(1 + reserve, quota->math.burst), &view);
	return most(wait, view.retry_after);
}

/* Spends one. */
bool
tc_quota_take(TcQuota *quota, int64_t now, int64_t reserve)
{
	if (tc_quota_wait(quota, now, reserve) > 0)
		return false;
	if (quota->limit > 0)
	{
		if (tc_rate_needs_rebase(&quota->math, quota->state, now))
			tc_rate_rebase(&quota->math, &quota->state, now);
		if (!tc_rate_admit(&quota->math, quota->state, now, 1, &quota->state.s))
			return false;
	}
	if (now < quota->window_end)
		quota->window_left--;
	return true;
}

/* Requests that may start at this moment. */
int64_t
tc_quota_remaining(const TcQuota *quota, int64_t now)
{
	int64_t tokens = quota->limit > 0 ? tokens_at(quota, now) : INT64_MAX;

	if (now < quota->blocked_until)
		return 0;
	if (now < quota->window_end)
		tokens = least(tokens, most(0, quota->window_left));
	return tokens;
}

/* A 429: nothing is sent for as long as it says, or a window; longer each time in a row. */
static void
block(TcQuota *quota, const TcQuotaNews *news, int64_t now)
{
	int64_t pause = most(news->retry, news->reset);
	int64_t window = quota->rules.window;

	if (pause < 0)
		pause = window;
	if (quota->strikes > 0)
		pause = most(pause, window << least(quota->strikes - 1, 4));
	quota->strikes++;
	quota->blocked_until = most(quota->blocked_until, now + least(pause, BLOCK_MAX));
	if (quota->limit > 0)
		hold(quota, 0, now);
}

/* What the peer has left in its window. */
static void
take_window(TcQuota *quota, const TcQuotaNews *news, int64_t now)
{
	int64_t left = most(0, news->remaining - news->in_flight);

	if (now < quota->window_end)
	{
		quota->window_left = least(quota->window_left, left);
		return;
	}
	quota->window_end = now + least(most(news->reset, 0), BLOCK_MAX);
	quota->window_left = left;
}

/* Takes what an answer says. */
void
tc_quota_learn(TcQuota *quota, const TcQuotaNews *news, int64_t now)
{
	int64_t limit = quota->rules.limit;

	if (news->limit > 0 && (limit == 0 || news->limit < limit))
		limit = news->limit;
	if (news->limit > 0 && limit != quota->limit && quota->rules.limit > 0)
		change_limit(quota, limit, now);
	if (news->remaining >= 0)
		take_window(quota, news, now);
	if (news->refused)
		block(quota, news, now);
	else
		quota->strikes = 0;
}
