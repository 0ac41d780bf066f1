/*
 * test_rate_core.c
 *		The token bucket against an exact oracle.
 *
 * The oracle is the same bucket in rational numbers: with x = (virtual arrival time) * tokens and
 * t * tokens, everything is a whole number and __int128 holds it.  For each random step:
 *	- what is admitted, the oracle admits at that instant (nothing early, not by a nanosecond);
 *	- what is refused, the oracle refuses, or would with two sub-tokens less (never for policies
 *	  whose nanosecond is a whole number of sub-tokens: those must agree exactly);
 *	- retry_after is exact: admitted then, refused one nanosecond earlier;
 *	- the total since the start is at most burst + rate * time.
 * To show that the test bites, the same steps run with a variant that forgets to round up
 * (test_faulty_variant): it must be caught.
 */
#include <stdlib.h>

#include "rate_core.h"
#include "unit.h"

__extension__ typedef __int128 i128;

#define NS_PER_S INT64_C(1000000000)
#define DAY (86400 * NS_PER_S)
#define YEAR (366 * DAY)

#define STEPS 1500000
#define FAULTY_STEPS 200000

static long admitted, refused; /* decisions of the random histories */
static long disagreements;	   /* of the faulty variant with the oracle */
static bool faulty;			   /* is it under test? */

/* A check of a random history; the faulty variant's failures are counted instead. */
#define AGREE(condition)                                                                           \
	(faulty ? (void) ((condition) || disagreements++) : (void) CHECK(condition))

static uint64_t seed = UINT64_C(88172645463325252);

/* The next pseudo-random number. */
static uint64_t
next_random(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

/* A pseudo-random number from low to high, its magnitude as evenly spread as its value. */
static int64_t
pick(int64_t low, int64_t high)
{
	uint64_t span = (uint64_t) high - (uint64_t) low;
	uint64_t offset = next_random() >> (next_random() % 63);

	return low + (int64_t) (span == UINT64_MAX ? offset : offset % (span + 1));
}

/* A bucket and its oracle. */
typedef struct Pair
{
	int64_t tokens;
	int64_t period;
	TcRateMath math;
	TcRateState state;
	i128 x;			/* oracle: (virtual arrival time - origin) * tokens */
	int64_t origin; /* instant that x counts from */
	int64_t latest; /* latest instant seen */
	i128 spent;		/* tokens since origin */
	int floor_only; /* the faulty variant */
} Pair;

/* The instant as the bucket counts it: before base is base. */
static i128
oracle_time(const Pair *pair, int64_t now)
{
	int64_t at = now > pair->state.base ? now : pair->state.base;

	return (i128) (at - pair->origin) * pair->tokens;
}

/* By how much the request exceeds what the oracle has; admitted if <= 0. */
static i128
oracle_excess(const Pair *pair, int64_t now, int64_t cost)
{
	i128 t = oracle_time(pair, now);
	i128 start = pair->x > t ? pair->x : t;

	return start + (i128) cost * pair->period - t - (i128) pair->math.burst * pair->period;
}

/* Two sub-tokens in the oracle's measure, and one for the rounding of a conversion. */
static i128
tolerance(const Pair *pair)
{
	if (pair->math.den == 1)
		return 0;
	return (2 * (i128) pair->period) / pair->math.unit + 2;
}

/* Starts over with a policy and a full bucket. */
static int
start(Pair *pair, int64_t tokens, int64_t period, int64_t burst, int64_t now)
{
	memset(pair, 0, sizeof(*pair));
	if (tc_rate_setup(&pair->math, tokens, period, burst) != TC_RATE_OK)
		return 0;
	pair->tokens = tokens;
	pair->period = period;
	pair->state.base = now;
	pair->origin = now;
	pair->latest = now;
	return 1;
}

/* The code under test, or its faulty variant: a full bucket was full at floor, not ceiling. */
static int
admit(const Pair *pair, int64_t now, int64_t cost, int64_t *next)
{
	i128 product = (i128) (now - pair->state.base) * pair->math.num;

	if (!tc_rate_admit(&pair->math, pair->state, now, cost, next))
		return 0;
	if (pair->floor_only && now > pair->state.base && product % pair->math.den != 0 &&
		tc_rate_is_full(&pair->math, pair->state, now))
		*next -= 1;
	return 1;
}

/* On a refusal: the announced instant is the first that admits. */
static void
check_retry(const Pair *pair, int64_t now, int64_t cost)
{
	TcRateView view;
	int64_t next;

	tc_rate_view(&pair->math, pair->state, now, cost, &view);
	if (cost > pair->math.burst)
	{
		AGREE(view.retry_after == TC_RATE_NEVER);
		return;
	}
	AGREE(view.retry_after > 0);
	AGREE(view.remaining < cost);
	if (view.retry_after >= TC_RATE_FAR || now > INT64_MAX - view.retry_after ||
		tc_rate_needs_rebase(&pair->math, pair->state, now + view.retry_after))
		return;
	AGREE(tc_rate_admit(&pair->math, pair->state, now + view.retry_after, cost, &next));
	AGREE(!tc_rate_admit(&pair->math, pair->state, now + view.retry_after - 1, cost, &next));
}

/* remaining tokens can be had at once, one more cannot (or within two sub-tokens). */
static void
check_remaining(const Pair *pair, int64_t now)
{
	TcRateView view;
	int64_t next;

	tc_rate_view(&pair->math, pair->state, now, 1, &view);
	AGREE(view.remaining >= 0 && view.remaining <= pair->math.burst);
	AGREE(view.reset_after >= 0);
	if (view.remaining > 0)
		AGREE(tc_rate_admit(&pair->math, pair->state, now, view.remaining, &next));
	if (view.remaining < pair->math.burst)
		AGREE(!tc_rate_admit(&pair->math, pair->state, now, view.remaining + 1, &next) ||
			  tc_rate_is_full(&pair->math, pair->state, now));
	AGREE((view.retry_after == 0) == (view.remaining > 0));
	AGREE((view.reset_after == 0) == tc_rate_is_full(&pair->math, pair->state, now));
}

/* One request at one instant. */
static void
step(Pair *pair, int64_t now, int64_t cost)
{
	int64_t next = 0;
	i128 excess;
	i128 t;

	if (tc_rate_needs_rebase(&pair->math, pair->state, now))
		tc_rate_rebase(&pair->math, &pair->state, now);
	if (now > pair->latest)
		pair->latest = now;
	excess = oracle_excess(pair, now, cost);
	if (!admit(pair, now, cost, &next))
	{
		refused++;
		AGREE(cost > pair->math.burst || excess > -tolerance(pair));
		check_retry(pair, now, cost);
		return;
	}
	admitted++;
	AGREE(excess <= 0);
	AGREE(next > pair->state.s && next < INT64_C(1) << 62);
	pair->state.s = next;
	t = oracle_time(pair, now);
	pair->x = (pair->x > t ? pair->x : t) + (i128) cost * pair->period;
	pair->spent += cost;
	t = (i128) (pair->latest - pair->origin) * pair->tokens;
	AGREE(pair->spent * pair->period <= (i128) pair->math.burst * pair->period + t);
}

/* Changes the policy: nothing is minted, and no more than two old and two new sub-tokens lost. */
static void
change(Pair *pair, int64_t tokens, int64_t period, int64_t burst)
{
	TcRateMath from = pair->math;
	int64_t period_before = pair->period;
	int64_t at = pair->latest > pair->state.base ? pair->latest : pair->state.base;
	i128 lacks = pair->x - oracle_time(pair, at);
	long double exact = 0;
	long double got;

	if (lacks > 0)
		exact = (long double) lacks / (long double) ((i128) from.burst * period_before);
	if (tc_rate_setup(&pair->math, tokens, period, burst) != TC_RATE_OK)
	{
		pair->math = from;
		return;
	}
	pair->tokens = tokens;
	pair->period = period;
	tc_rate_convert(&from, &pair->math, TC_RATE_PROPORTIONAL, pair->latest, pair->latest,
					&pair->state);
	AGREE(pair->state.base == at);
	AGREE(pair->state.s >= 0);
	got = (long double) pair->state.s / (long double) pair->math.capacity;
	AGREE(got >= exact - 1e-17L);
	AGREE(got <= exact + 3.0L / from.capacity + 2.0L / pair->math.capacity + 1e-17L);
	pair->origin = at;
	pair->x = (i128) pair->state.s * pair->period / pair->math.unit;
	pair->spent = 0;
}

/* The next instant: the same, a bit on, just when something happens, far on, or back. */
static int64_t
next_instant(const Pair *pair, int64_t now, int64_t cost)
{
	TcRateView view;

	switch (next_random() % 8)
	{
		case 0:
			return now;
		case 1:
			return now + pick(1, 1000);
		case 2:
		case 3:
		case 4:
			tc_rate_view(&pair->math, pair->state, now, cost, &view);
			if (view.retry_after > 0 && view.retry_after < YEAR)
				return now + view.retry_after - (int64_t) (next_random() % 2);
			return now + pick(1, NS_PER_S);
		case 5:
			return now - pick(0, NS_PER_S);
		case 6:
			return now + pick(0, pair->period);
		default:
			return next_random() % 64 == 0 ? now + pick(0, 100 * YEAR / 366) : now + pick(0, DAY);
	}
}

/* A policy of the wide range that must work. */
static int
random_policy(int64_t *tokens, int64_t *period, int64_t *burst)
{
	static const int64_t rates[][3] = {
		{1, 30 * DAY, 1},
		{1, YEAR, 1000000},
		{100, 60 * NS_PER_S, 100},
		{100, 30 * DAY, 100},
		{300000000, NS_PER_S, 300000000},
		{300000007, NS_PER_S, 1},
		{999983, 30 * DAY, 999983},
		{7, 1000, 3},
		{INT64_C(1000000007), 3600 * NS_PER_S + 7, INT64_C(1) << 40},
		{1, YEAR - 1, (INT64_C(1) << 59) - 1},
		{3, YEAR - 1, INT64_C(1) << 57},
	};
	uint64_t which = next_random() % (2 * sizeof(rates) / sizeof(rates[0]));

	if (which < sizeof(rates) / sizeof(rates[0]))
	{
		*tokens = rates[which][0];
		*period = rates[which][1];
		*burst = rates[which][2];
		return 1;
	}
	*tokens = pick(1, INT64_C(1) << 50);
	*period = pick(1, YEAR);
	*burst = pick(1, (INT64_C(1) << 59) - 1);
	return 1;
}

/* Random histories; returns the number of steps. */
static long
run_random(long steps, int floor_only)
{
	Pair pair;
	long done = 0;

	while (done < steps)
	{
		int64_t tokens, period, burst;
		int64_t now = pick(0, INT64_C(1) << 58);
		int i;

		random_policy(&tokens, &period, &burst);
		if (!start(&pair, tokens, period, burst, now))
			continue;
		pair.floor_only = floor_only;
		for (i = 0; i < 500; i++, done++)
		{
			int64_t cost = pick(1, pair.math.burst + 1);

			if (next_random() % 3 == 0)
				cost = pick(1, pair.math.burst < 100 ? pair.math.burst : 100);
			now = next_instant(&pair, now, cost);
			if (now < 0 || now > INT64_C(1) << 61)
				break;
			step(&pair, now, cost);
			if (next_random() % 16 == 0)
				check_remaining(&pair, now > pair.state.base ? now : pair.state.base);
			if (next_random() % 32 == 0)
				tc_rate_rebase(&pair.math, &pair.state, pair.latest);
			if (!floor_only && next_random() % 64 == 0)
			{
				random_policy(&tokens, &period, &burst);
				change(&pair, tokens, period, burst);
			}
		}
	}
	return done;
}

/* A frozen clock admits exactly the burst, also for a bucket that has been in use before. */
static void
test_burst(void)
{
	Pair pair;
	int64_t now = 12345;
	int64_t next;
	int round, i;

	CHECK(start(&pair, 100, 30 * DAY, 100, now));
	for (round = 0; round < 3; round++)
	{
		for (i = 0; i < 150; i++)
		{
			int ok = tc_rate_admit(&pair.math, pair.state, now, 1, &next);

			CHECK(ok == (i < 100));
			if (ok)
				pair.state.s = next;
		}
		now += 30 * DAY + 77;
	}
}

/* Policies that are refused, and requests that never are admitted. */
static void
test_limits(void)
{
	TcRateMath math;
	TcRateState state = {0, 0};
	TcRateView view;
	int64_t next;

	CHECK(tc_rate_setup(&math, 0, 1, 1) == TC_RATE_BAD_TOKENS);
	CHECK(tc_rate_setup(&math, INT64_MIN, 1, 1) == TC_RATE_BAD_TOKENS);
	CHECK(tc_rate_setup(&math, 1, 0, 1) == TC_RATE_BAD_PERIOD);
	CHECK(tc_rate_setup(&math, 1, -1, 1) == TC_RATE_BAD_PERIOD);
	CHECK(tc_rate_setup(&math, 1, TC_RATE_MAX_PERIOD + 1, 1) == TC_RATE_BAD_PERIOD);
	CHECK(tc_rate_setup(&math, 1, INT64_MAX, 1) == TC_RATE_BAD_PERIOD);
	CHECK(tc_rate_setup(&math, 1, 1, 0) == TC_RATE_BAD_BURST);
	CHECK(tc_rate_setup(&math, 1, 1, INT64_C(1) << 59) == TC_RATE_BAD_BURST);
	CHECK(tc_rate_setup(&math, 1, 1, INT64_MAX) == TC_RATE_BAD_BURST);
	CHECK(tc_rate_setup(&math, INT64_MAX, 1, 1) == TC_RATE_TOO_FAST);
	CHECK(tc_rate_setup(&math, 1, 1, 1) == TC_RATE_OK);
	CHECK(tc_rate_setup(&math, 1, TC_RATE_MAX_PERIOD, (INT64_C(1) << 59) - 1) == TC_RATE_OK);
	tc_rate_view(&math, state, 0, INT64_C(1) << 58, &view);
	CHECK(view.retry_after == 0);

	CHECK(tc_rate_setup(&math, 100, 60 * NS_PER_S, 100) == TC_RATE_OK);
	CHECK(!tc_rate_admit(&math, state, 0, 0, &next));
	CHECK(!tc_rate_admit(&math, state, 0, -1, &next));
	CHECK(!tc_rate_admit(&math, state, 0, INT64_MIN, &next));
	CHECK(!tc_rate_admit(&math, state, 0, 101, &next));
	CHECK(!tc_rate_admit(&math, state, 0, INT64_MAX, &next));
	CHECK(tc_rate_admit(&math, state, 0, 100, &next));
	state.s = next;
	tc_rate_view(&math, state, 0, 1, &view);
	CHECK(view.remaining == 0);
	CHECK(view.retry_after == 600000000);
	CHECK(view.reset_after == 60 * NS_PER_S);
	tc_rate_view(&math, state, 0, 101, &view);
	CHECK(view.retry_after == TC_RATE_NEVER);
}

/* Waiting: spent in advance, in the order of asking, never beyond what it may take. */
static void
test_reserve(void)
{
	TcRateMath math;
	TcRateState state = {0, 0};
	int64_t next;
	int64_t delay;
	int i;

	CHECK(tc_rate_setup(&math, 10, NS_PER_S, 1) == TC_RATE_OK);
	for (i = 0; i <= 10; i++)
	{
		delay = NS_PER_S;
		CHECK(tc_rate_reserve(&math, state, 0, 1, &delay, &next));
		CHECK_INT(delay, i * NS_PER_S / 10);
		state.s = next;
	}
	delay = NS_PER_S;
	CHECK(!tc_rate_reserve(&math, state, 0, 1, &delay, &next));
	CHECK_INT(delay, 0);
	delay = INT64_MAX;
	CHECK(!tc_rate_reserve(&math, state, 0, 2, &delay, &next));
	state.s = (INT64_C(1) << 62) - 1;
	delay = INT64_MAX;
	CHECK(!tc_rate_reserve(&math, state, 0, 1, &delay, &next));
}

/* Two versions alternating at one instant admit no more than the larger burst. */
static void
test_alternating(void)
{
	TcRateMath policy[2];
	TcRateState state = {0, 0};
	int64_t next;
	int count = 0;
	int i;

	CHECK(tc_rate_setup(&policy[0], 100, 60 * NS_PER_S, 100) == TC_RATE_OK);
	CHECK(tc_rate_setup(&policy[1], 10, 60 * NS_PER_S, 10) == TC_RATE_OK);
	for (i = 0; i < 100000; i++)
	{
		if (tc_rate_admit(&policy[i % 2], state, 0, 1, &next))
		{
			state.s = next;
			count++;
		}
		tc_rate_convert(&policy[i % 2], &policy[(i + 1) % 2], TC_RATE_PROPORTIONAL, 0, 0, &state);
	}
	CHECK(count <= 100);
	tc_rate_convert(&policy[0], &policy[1], TC_RATE_RESET, 0, 0, &state);
	CHECK(state.s == 0);
}

/* The time before a change counts at the old rate, the time after it at the new one. */
static void
test_changed_at(void)
{
	TcRateMath slow;
	TcRateMath fast;
	TcRateState empty = {0, 0};
	TcRateState state;
	TcRateView view;

	CHECK(tc_rate_setup(&slow, 1, NS_PER_S, 100) == TC_RATE_OK);
	CHECK(tc_rate_setup(&fast, 10, NS_PER_S, 100) == TC_RATE_OK);
	CHECK(tc_rate_admit(&slow, empty, 0, 100, &empty.s));
	state = empty;
	tc_rate_convert(&slow, &fast, TC_RATE_PROPORTIONAL, 7 * NS_PER_S, 9 * NS_PER_S, &state);
	tc_rate_view(&fast, state, 9 * NS_PER_S, 1, &view);
	CHECK_INT(view.remaining, 7 + 20);

	/* used up after the instant of the change, before its commit: no debt from that */
	state.base = 0;
	CHECK(tc_rate_admit(&fast, (TcRateState){0, 0}, 100 * NS_PER_S, 100, &state.s));
	tc_rate_convert(&fast, &slow, TC_RATE_PROPORTIONAL, 50 * NS_PER_S, 101 * NS_PER_S, &state);
	tc_rate_view(&slow, state, 101 * NS_PER_S, 1, &view);
	CHECK_INT(view.remaining, 10);
}

#define CALLS 24

/* A call in a history with refunds: its ticket, and what became of it. */
typedef struct Call
{
	int64_t at;
	int64_t cost;
	TcRateState after;
	int64_t refunded_before; /* sub-tokens refunded in all when it was made */
	int refunded;
	int64_t amount;
} Call;

/* The oracle's x after those calls that were not refunded, in order. */
static i128
replay(const Pair *pair, const Call *calls, int n)
{
	i128 x = 0;
	int i;

	for (i = 0; i < n; i++)
	{
		i128 t = oracle_time(pair, calls[i].at);

		if (calls[i].refunded)
			continue;
		x = (x > t ? x : t) + (i128) calls[i].cost * pair->period;
	}
	return x;
}

/* Refunds a call as rate_ticket.c does: less what has been refunded of earlier calls since. */
static void
refund(Pair *pair, Call *calls, int which, int64_t now, int64_t *refunded)
{
	TcRateState after = calls[which].after;
	int64_t earlier = *refunded - calls[which].refunded_before;
	int64_t next;
	int i;

	for (i = which + 1; i < CALLS; i++)
	{
		if (calls[i].refunded)
			earlier -= calls[i].amount;
	}
	after.s -= earlier > 0 ? earlier : 0;
	next = tc_rate_refund(&pair->math, pair->state, now, after, calls[which].cost);
	CHECK(next >= 0 && next <= pair->state.s);
	calls[which].refunded = 1;
	calls[which].amount = pair->state.s - next;
	*refunded += calls[which].amount;
	pair->state.s = next;
}

/* After refunds the bucket is never better than if the calls had not happened at all. */
static long
refund_history(void)
{
	Pair pair;
	Call calls[CALLS];
	int64_t tokens, period, burst;
	int64_t now = pick(0, INT64_C(1) << 58);
	int64_t refunded = 0;
	int n = 0;
	long done = 0;

	memset(calls, 0, sizeof(calls));
	random_policy(&tokens, &period, &burst);
	if (!start(&pair, tokens, period, burst, now))
		return 0;
	while (n < CALLS && !tc_rate_needs_rebase(&pair.math, pair.state, now))
	{
		int64_t cost = pick(1, 1 + pair.math.burst / 8);
		int64_t next;
		int which = n > 0 ? (int) (next_random() % (uint64_t) n) : 0;

		if (next_random() % 2 == 0)
			now += pick(0, 1 + period / tokens * (next_random() % 3 == 0 ? 4 : 1));
		if (next_random() % 2 == 0 && tc_rate_admit(&pair.math, pair.state, now, cost, &next))
		{
			pair.state.s = next;
			calls[n++] = (Call){now, cost, pair.state, refunded, 0, 0};
		}
		else if (n > 0 && !calls[which].refunded)
		{
			i128 t = oracle_time(&pair, now);
			i128 exact;
			i128 got;

			refund(&pair, calls, which, now, &refunded);
			exact = replay(&pair, calls, n);
			got = (i128) pair.state.s * pair.period / pair.math.unit;
			CHECK((got > t ? got : t) + tolerance(&pair) >= (exact > t ? exact : t));
			done++;
		}
		else if (next_random() % 64 == 0)
			break;
	}
	return done;
}

/* Refunds, against a replay without the refunded calls. */
static void
test_refunds(void)
{
	long refunds = 0;
	int i;

	for (i = 0; i < 20000; i++)
		refunds += refund_history();
	CHECK(refunds > 50000);
	printf("%ld refunds\n", refunds);
}

/* Several buckets at one instant: all or none, by the same algebra. */
static void
test_all_or_nothing(void)
{
	int round;

	for (round = 0; round < 2000; round++)
	{
		Pair pairs[4];
		int64_t now = pick(0, INT64_C(1) << 58);
		int n = 0;
		int turn;

		while (n < 4)
		{
			int64_t tokens, period, burst;

			random_policy(&tokens, &period, &burst);
			n += start(&pairs[n], tokens, period, burst, now);
		}
		for (turn = 0; turn < 50; turn++)
		{
			int64_t cost = pick(1, 1000);
			int64_t next[4];
			int all = 1;
			int exact = 1;
			int i;

			now += pick(0, NS_PER_S);
			for (i = 0; i < 4; i++)
			{
				all &= tc_rate_admit(&pairs[i].math, pairs[i].state, now, cost, &next[i]);
				exact &= oracle_excess(&pairs[i], now, cost) <= 0;
			}
			CHECK(!all || exact);
			for (i = 0; all && i < 4; i++)
			{
				i128 t = oracle_time(&pairs[i], now);

				pairs[i].state.s = next[i];
				pairs[i].x = (pairs[i].x > t ? pairs[i].x : t) + (i128) cost * pairs[i].period;
			}
		}
	}
}

/* A pause: the bucket is full when it is over, not a nanosecond before; it never gets shorter. */
static void
test_pause(void)
{
	int round;
	int exact = 0;

	for (round = 0; round < 200000; round++)
	{
		Pair pair;
		int64_t tokens, period, burst;
		int64_t now = pick(0, INT64_C(1) << 58);
		int64_t span = pick(1, DAY);
		TcRateState paused;
		TcRateView view;
		int64_t next;

		random_policy(&tokens, &period, &burst);
		if (!start(&pair, tokens, period, burst, now))
			continue;
		if (tc_rate_admit(&pair.math, pair.state, now, pick(1, burst), &next))
			pair.state.s = next;
		paused = (TcRateState){now, tc_rate_pause(&pair.math, pair.state, now, span)};
		if (paused.s == 0)
		{
			/* refused only where it could not be expressed */
			CHECK((i128) span * pair.math.num >= (i128) pair.math.den << 59);
			continue;
		}
		CHECK(paused.s >= pair.state.s);
		tc_rate_view(&pair.math, paused, now, 1, &view);
		CHECK(view.reset_after >= span);
		CHECK(tc_rate_pause(&pair.math, paused, now, span / 2) == paused.s);
		if (paused.s == pair.state.s || pair.math.den != 1 || span >= pair.math.horizon)
			continue;
		exact++;
		CHECK_INT(view.reset_after, span);
		CHECK(tc_rate_is_full(&pair.math, paused, now + span));
		CHECK(!tc_rate_is_full(&pair.math, paused, now + span - 1));
	}
	CHECK(exact > 1000);
}

/* What is left of a wait after a change: never less than what is exact, and all keep their order.
 */
static void
test_convert_wait(void)
{
	int round;
	int compared = 0;

	for (round = 0; round < 200000; round++)
	{
		TcRateMath from, to;
		int64_t tokens, period, burst;
		int64_t left = pick(1, 30 * DAY);
		int64_t more = left + pick(0, DAY);
		int64_t got;
		long double exact;

		random_policy(&tokens, &period, &burst);
		if (tc_rate_setup(&from, tokens, period, burst) != TC_RATE_OK)
			continue;
		random_policy(&tokens, &period, &burst);
		if (tc_rate_setup(&to, tokens, period, burst) != TC_RATE_OK)
			continue;
		got = tc_rate_convert_wait(&from, &to, left);
		CHECK(got > 0 && got <= TC_RATE_FAR);
		CHECK(tc_rate_convert_wait(&from, &to, more) >= got);
		CHECK(tc_rate_convert_wait(&from, &from, left) >= left || left > from.horizon);
		/* as a part of what a full bucket takes, it is the same as before */
		exact = (long double) left * from.num / from.den / from.capacity;
		exact *= (long double) to.capacity * to.den / to.num;
		if (got >= TC_RATE_FAR || (i128) left * from.num / from.den >= (i128) 1 << 60 ||
			exact * to.num / to.den >= 1e18L)
			continue;
		compared++;
		CHECK((long double) got >= exact * (1 - 1e-15L) - 1e-6L);
		CHECK((long double) got <=
			  exact * (1 + 1e-15L) + 2 +
				  (1 + (long double) to.capacity / from.capacity) * to.den / to.num);
	}
	CHECK(compared > 50000);
	CHECK_INT(tc_rate_convert_wait(&(TcRateMath){0}, &(TcRateMath){0}, 0), 0);
}

/* Low priority leaves the reserve. */
static void
test_low(void)
{
	TcRateMath math;
	TcRateMath low;
	int64_t next;

	CHECK(tc_rate_setup(&math, 10, NS_PER_S, 10) == TC_RATE_OK);
	tc_rate_low(&math, 4, &low);
	CHECK(tc_rate_admit(&low, (TcRateState){0, 0}, 0, 6, &next));
	CHECK(!tc_rate_admit(&low, (TcRateState){0, next}, 0, 1, &next));
	CHECK(tc_rate_admit(&math, (TcRateState){0, next}, 0, 4, &next));
	tc_rate_low(&math, 10, &low);
	CHECK(!tc_rate_admit(&low, (TcRateState){0, 0}, 0, 1, &next));
}

/* The bucket agrees with the oracle. */
static void
test_random_histories(void)
{
	long steps = run_random(STEPS, 0);

	CHECK(steps >= STEPS);
	CHECK(admitted > steps / 10 && refused > steps / 10);
	printf("%ld steps, %ld admitted, %ld refused\n", steps, admitted, refused);
}

/* The variant without rounding up is caught. */
static void
test_faulty_variant(void)
{
	faulty = true;
	run_random(FAULTY_STEPS, 1);
	faulty = false;
	CHECK(disagreements > 0);
	printf("the variant that rounds down was caught %ld times\n", disagreements);
}

/* No cost, no refund; a bucket of long ago lacks nothing, whatever becomes of its policy. */
static void
test_long_after(void)
{
	const int64_t long_after = INT64_MAX / 2;
	TcRateMath math;
	TcRateState state = {0, 5};

	CHECK(tc_rate_setup(&math, 10, INT64_C(1000000000), 10) == TC_RATE_OK);
	CHECK_INT(tc_rate_refund(&math, state, 0, state, 0), 5);
	CHECK_INT(tc_rate_refund(&math, state, 0, state, 11), 5);
	tc_rate_convert(&math, &math, TC_RATE_PROPORTIONAL, long_after, long_after, &state);
	CHECK_INT(state.base, long_after);
	CHECK_INT(state.s, 0);
}

int
main(void)
{
	RUN(test_limits);
	RUN(test_long_after);
	RUN(test_burst);
	RUN(test_reserve);
	RUN(test_alternating);
	RUN(test_changed_at);
	RUN(test_low);
	RUN(test_pause);
	RUN(test_convert_wait);
	RUN(test_refunds);
	RUN(test_all_or_nothing);
	RUN(test_random_histories);
	RUN(test_faulty_variant);
	return unit_summary();
}
