/*
 * rate_core.c
 *		The arithmetic of a token bucket (GCRA): exact, without drift, without overflow.
 *
 * Sub-tokens are chosen so that, wherever that fits, each nanosecond refills a whole number of
 * them: unit = period / gcd(tokens, period), and V(t) is exact.  Policies with large coprime
 * numbers get the finest power of two instead; then V is known as floor (lo) and ceiling (hi).
 * Requests are checked against lo and a full bucket is taken to have been full at hi: both err
 * against the caller by less than a sub-token, so that nothing is ever admitted early, and as s
 * only sums up whole costs the error cannot accumulate.
 *
 * Ranges: V <= 2^60 (rebase), capacity < 2^60, s < 2^62, num < 2^59, den < 2^55: every product
 * below stays under 2^123 in unsigned __int128.
 */
#include "rate_core.h"

#include <stddef.h>

__extension__ typedef unsigned __int128 tc_u128;

#define TWO_59 (INT64_C(1) << 59)
#define TWO_60 (INT64_C(1) << 60)
#define TWO_62 (INT64_C(1) << 62)
#define NS_PER_HOUR INT64_C(3600000000000)

/* Number of bits of a positive number. */
static int
bits(int64_t n)
{
	return 64 - __builtin_clzll((unsigned long long) n);
}

/* Greatest common divisor of two positive numbers. */
static int64_t
gcd(int64_t a, int64_t b)
{
	while (b != 0)
	{
		int64_t rest = a % b;

		a = b;
		b = rest;
	}
	return a;
}

/* Quotient rounded up. */
static inline tc_u128
div_up(tc_u128 a, tc_u128 b)
{
	return a / b + (a % b != 0);
}

/* The smaller of a 128-bit number and a limit. */
static inline int64_t
capped(tc_u128 n, int64_t limit)
{
	return n < (tc_u128) limit ? (int64_t) n : limit;
}

/* Nanoseconds since base that V may be computed for: an instant before base counts as base. */
static inline int64_t
elapsed_at(const TcRateMath *math, int64_t base, int64_t now)
{
	uint64_t elapsed;

	if (now <= base)
		return 0;
	elapsed = (uint64_t) now - (uint64_t) base;
	return elapsed < (uint64_t) math->horizon ? (int64_t) elapsed : math->horizon;
}

/* V(now), rounded down and up. */
static inline void
refilled(const TcRateMath *math, int64_t base, int64_t now, int64_t *lo, int64_t *hi)
{
	int64_t elapsed = elapsed_at(math, base, now);

	if (math->den == 1)
		*lo = *hi = elapsed * math->num;
	else
	{
		tc_u128 product = (tc_u128) elapsed * (tc_u128) math->num;

		*lo = (int64_t) (product / (tc_u128) math->den);
		*hi = *lo + ((tc_u128) *lo * (tc_u128) math->den != product);
	}
}

/* Nanoseconds from now until V reaches target, which it has not yet. */
static int64_t
time_until(const TcRateMath *math, int64_t base, int64_t target, int64_t now)
{
	tc_u128 since_base = div_up((tc_u128) target * (tc_u128) math->den, (tc_u128) math->num);

	tc_u128 elapsed = (uint64_t) now - (uint64_t) base;

	if (now < base)
		return capped(since_base + ((uint64_t) base - (uint64_t) now), TC_RATE_FAR);
	return since_base <= elapsed ? 0 : capped(since_base - elapsed, TC_RATE_FAR);
}

/*
 * The finest unit, or 0 if there is none.  Capacity and an hour's refill stay under 2^60, and num
 * under 2^59, so that the horizon is more than 2 * den and a rebase always gets on.
 */
static int64_t
choose_unit(int64_t tokens, int64_t period, int64_t burst, int64_t per_hour)
{
	int64_t common = gcd(tokens, period);
	int64_t exact = period / common;
	int k = 60 - bits(burst + 1);

	if (exact <= (TWO_60 - 1) / burst && tokens / common <= TWO_60 / NS_PER_HOUR)
		return exact;
	if (k > 59 - bits(tokens / common))
		k = 59 - bits(tokens / common);
	if (k > 60 - bits(per_hour))
		k = 60 - bits(per_hour);
	return k < 0 ? 0 : INT64_C(1) << k;
}

/* Prepares a policy. */
TcRateError
tc_rate_setup(TcRateMath *math, int64_t tokens, int64_t period, int64_t burst)
{
	tc_u128 per_hour;
	tc_u128 num;
	int64_t common;

	if (tokens < 1)
		return TC_RATE_BAD_TOKENS;
	if (period < 1 || period > TC_RATE_MAX_PERIOD)
		return TC_RATE_BAD_PERIOD;
	if (burst < 1 || burst >= TWO_59)
		return TC_RATE_BAD_BURST;
	per_hour = div_up((tc_u128) tokens * (tc_u128) NS_PER_HOUR, (tc_u128) period);
	if (per_hour >= (tc_u128) TWO_60)
		return TC_RATE_TOO_FAST;

	math->burst = burst;
	math->unit = choose_unit(tokens, period, burst, (int64_t) per_hour);
	if (math->unit == 0)
		return TC_RATE_TOO_FAST;
	common = gcd(tokens, period);
	num = (tc_u128) (tokens / common) * (tc_u128) math->unit;
	math->den = period / common;
	common = gcd(math->den, math->unit);
	math->num = (int64_t) (num / (tc_u128) common);
	math->den /= common;
	math->capacity = burst * math->unit;
	math->horizon =
		capped((tc_u128) TWO_60 * (tc_u128) math->den / (tc_u128) math->num, TC_RATE_FAR);
	return TC_RATE_OK;
}

/* Decides on a request.  The caller writes *next if s is still what it was, or asks again. */
bool
tc_rate_admit(const TcRateMath *math, TcRateState state, int64_t now, int64_t cost, int64_t *next)
{
	int64_t lo;
	int64_t hi;
	int64_t need;

	if (cost < 1 || cost > math->burst)
		return false;
	need = cost * math->unit;
	refilled(math, state.base, now, &lo, &hi);
	if (state.s > lo && state.s - lo > math->capacity - need)
		return false;
	*next = (state.s > hi ? state.s : hi) + need;
	return true;
}

/* Decides on a request that may wait: its tokens are spent in advance. */
bool
tc_rate_reserve(const TcRateMath *math, TcRateState state, int64_t now, int64_t cost,
				int64_t *delay, int64_t *next)
{
	int64_t max_wait = *delay;
	TcRateView view;

	*delay = 0;
	if (tc_rate_admit(math, state, now, cost, next))
		return true;
	if (cost < 1 || cost > math->burst || state.s >= TWO_62 - math->capacity)
		return false;
	tc_rate_view(math, state, now, cost, &view);
	if (view.retry_after > max_wait)
		return false;
	*next = state.s + cost * math->unit;
	*delay = view.retry_after;
	return true;
}

/* What the bucket has to offer, and when it will admit `cost` if nobody else comes. */
void
tc_rate_view(const TcRateMath *math, TcRateState state, int64_t now, int64_t cost, TcRateView *view)
{
	int64_t lo;
	int64_t hi;
	int64_t lacks;

	refilled(math, state.base, now, &lo, &hi);
	lacks = state.s > lo ? state.s - lo : 0;
	view->remaining = lacks >= math->capacity ? 0 : (math->capacity - lacks) / math->unit;
	view->reset_after = lacks == 0 ? 0 : time_until(math, state.base, state.s, now);
	view->retry_after = 0;
	if (cost > math->burst)
		view->retry_after = TC_RATE_NEVER;
	else if (cost > 0 && lacks > math->capacity - cost * math->unit)
		view->retry_after =
			time_until(math, state.base, state.s - (math->capacity - cost * math->unit), now);
}

/* Takes the reserve off capacity and burst; with nothing left, no cost is admitted. */
void
tc_rate_low(const TcRateMath *math, int64_t reserve, TcRateMath *low)
{
	*low = *math;
	if (reserve <= 0)
		return;
	low->burst = reserve < math->burst ? math->burst - reserve : 0;
	low->capacity = low->burst * math->unit;
}

/*
 * Undoes a call.  `after` is the state that it left behind, less what has been refunded of earlier
 * calls since then; the result is never better than if the call had not happened.
 *
 * A call is worth no more than what its state still lacks: what has been refilled since would have
 * been refilled without it, too.  A bucket that was full in the meantime gives nothing back.
 */
int64_t
tc_rate_refund(const TcRateMath *math, TcRateState state, int64_t now, TcRateState after,
			   int64_t cost)
{
	tc_u128 gone;
	int64_t lo;
	int64_t hi;
	int64_t amount;

	if (cost < 1 || cost > math->burst || after.base > state.base)
		return state.s;
	gone = div_up((tc_u128) ((uint64_t) state.base - (uint64_t) after.base) * (tc_u128) math->num,
				  (tc_u128) math->den);
	refilled(math, state.base, now, &lo, &hi);
	if (after.s <= 0 || gone + (tc_u128) hi >= (tc_u128) after.s)
		return state.s;
	amount = after.s - (int64_t) gone - hi;
	if (amount > cost * math->unit)
		amount = cost * math->unit;
	return state.s > amount ? state.s - amount : 0;
}

/* Nanoseconds in which so many sub-tokens are refilled, rounded down. */
int64_t
tc_rate_duration(const TcRateMath *math, int64_t amount)
{
	return capped((tc_u128) amount * (tc_u128) math->den / (tc_u128) math->num, TC_RATE_FAR);
}

/* The bucket becomes full in `span` at the earliest; the base may have to be moved on before. */
int64_t
tc_rate_pause(const TcRateMath *math, TcRateState state, int64_t now, int64_t span)
{
	tc_u128 amount = div_up((tc_u128) span * (tc_u128) math->num, (tc_u128) math->den);
	int64_t lo;
	int64_t hi;

	if (amount > (tc_u128) TWO_60)
		return 0;
	refilled(math, state.base, now, &lo, &hi);
	hi += (int64_t) amount;
	return state.s > hi ? state.s : hi;
}

/* Is the bucket full? */
bool
tc_rate_is_full(const TcRateMath *math, TcRateState state, int64_t now)
{
	int64_t lo;
	int64_t hi;

	refilled(math, state.base, now, &lo, &hi);
	return state.s <= lo;
}

/* Has so much time passed that V would leave its range? */
bool
tc_rate_needs_rebase(const TcRateMath *math, TcRateState state, int64_t now)
{
	return now > state.base && (uint64_t) now - (uint64_t) state.base >= (uint64_t) math->horizon;
}

/* Moves base forward, to about now, by whole multiples of den: what the bucket lacks stays. */
void
tc_rate_rebase(const TcRateMath *math, TcRateState *state, int64_t now)
{
	uint64_t steps;
	tc_u128 gone;

	if (now <= state->base)
		return;
	steps = ((uint64_t) now - (uint64_t) state->base) / (uint64_t) math->den;
	gone = (tc_u128) steps * (tc_u128) math->num;
	state->base += (int64_t) (steps * (uint64_t) math->den);
	state->s = gone >= (tc_u128) state->s ? 0 : state->s - (int64_t) gone;
}

/* Sub-tokens that the bucket lacks, rounded up; moves base on if need be. */
static int64_t
lacking(const TcRateMath *math, TcRateState *state, int64_t at)
{
	int64_t lo;
	int64_t hi;

	if (tc_rate_needs_rebase(math, *state, at))
		tc_rate_rebase(math, state, at);
	refilled(math, state->base, at, &lo, &hi);
	return state->s > lo ? state->s - lo : 0;
}

/*
 * Converts what the bucket lacked at changed_at, rounded up; from there on the new rate holds.  A
 * bucket that lacks more than all was used under the old policy after changed_at (the change was
 * committed later): then the old rate held until now.
 */
void
tc_rate_convert(const TcRateMath *from, const TcRateMath *to, TcRateChange change,
				int64_t changed_at, int64_t now, TcRateState *state)
{
	int64_t at = changed_at > state->base ? changed_at : state->base;
	int64_t lacks = lacking(from, state, at);

	if (lacks > from->capacity && now > at)
	{
		at = now;
		lacks = lacking(from, state, at);
	}
	state->base = at;
	state->s = 0;
	if (change == TC_RATE_PROPORTIONAL && lacks > 0)
		state->s =
			capped(div_up((tc_u128) lacks * (tc_u128) to->capacity, (tc_u128) from->capacity),
				   TWO_60 * 2);
}

/*
 * Who waits has spent in advance.  What he still has to see refilled is converted like what the
 * bucket lacks, and rounded up twice: nobody's turn comes early, and all keep their order.
 */
int64_t
tc_rate_convert_wait(const TcRateMath *from, const TcRateMath *to, int64_t left)
{
	int64_t amount;

	if (left <= 0)
		return 0;
	amount = capped(div_up((tc_u128) left * (tc_u128) from->num, (tc_u128) from->den), TWO_60 * 2);
	amount = capped(div_up((tc_u128) amount * (tc_u128) to->capacity, (tc_u128) from->capacity),
					TWO_60 * 2);
	return capped(div_up((tc_u128) amount * (tc_u128) to->den, (tc_u128) to->num), TC_RATE_FAR);
}
