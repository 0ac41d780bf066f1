/*
 * alternatives_core.c
 *		Which free slots to offer instead of the one that was wanted.  Pure C.
 *
 * The strategies and scores are those of the application that this comes from:
 *
 *		score = 10000 - minutes between the slot and the wanted time + bonus
 *
 * It offered the wanted time again without looking whether it was free, compared hours of UTC with
 * local ones, and knew the customer's other appointments for one day only.  Here the candidates
 * are free slots and nothing else, each with the branch's own clocks' reading, so that days of 23
 * and 25 hours need no special case.
 */
#include <string.h>

#include "alternatives_core.h"

#define TOP_SCORE 10000
#define MINUTE INT64_C(60000000)

static const char *const names[TC_N_STRATEGIES] = {
	[TC_SAME_DAY] = "same_day",
	[TC_NEXT_WORKDAY] = "next_workday",
	[TC_NEXT_WEEK] = "next_week",
	[TC_NEXT_AVAILABLE] = "next_available",
	[TC_FIRST_FREE] = "first_free",
	[TC_PREFERRED_DAY] = "preferred_day",
	[TC_PREFERRED_OTHER] = "preferred_other_day",
};

/* The name of a strategy. */
const char *
tc_strategy_name(TcStrategyKind kind)
{
	return names[kind];
}

/* The strategy of a name. */
TcStrategyKind
tc_strategy_of(const char *name)
{
	int kind = 0;

	while (kind < TC_N_STRATEGIES && strcmp(names[kind], name) != 0)
		kind++;
	return (TcStrategyKind) kind;
}

/* Is it one of preferred hours? */
static bool
is_of_preference(TcStrategyKind kind)
{
	return kind == TC_PREFERRED_DAY || kind == TC_PREFERRED_OTHER;
}

/* The first workday after a day, at most so many days later; the day itself if there is none. */
static int32_t
next_workday(const TcAlternativesRequest *request, int32_t days)
{
	for (int32_t day = request->wanted.day + 1; day <= request->wanted.day + days; day++)
	{
		if (request->is_workday(day, request->arg))
			return day;
	}
	return request->wanted.day;
}

/* Are two times of day at most so many minutes apart? */
static bool
within(int32_t minute, int32_t other, int32_t span)
{
	return minute - other <= span && other - minute <= span;
}

/* Does a strategy look at this slot? */
static bool
fits(const TcAlternativesRequest *request, const TcStrategy *strategy, const TcMoment *slot)
{
	const TcMoment *wanted = &request->wanted;
	int32_t later = slot->day - wanted->day;
	bool preferred = slot->minute >= request->prefers_from && slot->minute < request->prefers_to;

	if (slot->at == wanted->at)
		return false;
	switch (strategy->kind)
	{
		case TC_SAME_DAY:
			return later == 0 && within(slot->minute, wanted->minute, strategy->span);
		case TC_NEXT_WORKDAY:
			return later > 0 && slot->day == next_workday(request, strategy->days) &&
				   within(slot->minute, wanted->minute, strategy->span);
		case TC_NEXT_WEEK:
			return later == 7 && within(slot->minute, wanted->minute, strategy->span);
		case TC_NEXT_AVAILABLE:
			return later > 0 && later <= strategy->days &&
				   request->is_workday(slot->day, request->arg);
		case TC_FIRST_FREE:
			return slot->at > wanted->at && later <= strategy->days;
		case TC_PREFERRED_DAY:
			return later == 0 && preferred;
		case TC_PREFERRED_OTHER:
			return later > 0 && later <= strategy->days && preferred;
		default:
			return false;
	}
}

/* The score of a slot under a strategy. */
static int32_t
score_of(const TcAlternativesRequest *request, const TcStrategy *strategy, const TcMoment *slot)
{
	int64_t apart = (slot->at - request->wanted.at) / MINUTE;
	bool later = apart > 0;
	bool swapped = request->wanted.minute < TC_NOON;

	return (int32_t) (TOP_SCORE - (later ? apart : -apart) +
					  (later != swapped ? strategy->bonus_later : strategy->bonus_earlier));
}

/* Was the slot chosen already? */
static bool
is_chosen(const TcAlternative *chosen, int count, int slot)
{
	for (int i = 0; i < count; i++)
	{
		if (chosen[i].slot == slot)
			return true;
	}
	return false;
}

/* Puts an alternative in its place among those from `first` on; the last may fall out. */
static int
insert_by_score(TcAlternative *chosen, int first, int count, int room, TcAlternative candidate)
{
	int at = count;

	while (at > first && chosen[at - 1].score < candidate.score)
		at--;
	if (at == room)
		return count;
	if (count == room)
		count--;
	memmove(&chosen[at + 1], &chosen[at], (size_t) (count - at) * sizeof(*chosen));
	chosen[at] = candidate;
	return count + 1;
}

/* Chooses among free slots. */
int
tc_alternatives_choose(const TcAlternativesRequest *request, const TcMoment *free_slots, int count,
					   TcAlternative *chosen)
{
	int found = 0;

	for (int s = 0; s < request->nstrategies && found < request->wanted_count; s++)
	{
		const TcStrategy *strategy = &request->strategies[s];
		int first = found;

		if (is_of_preference(strategy->kind) != request->prefers)
			continue;
		for (int i = 0; i < count; i++)
		{
			TcAlternative candidate = {i, strategy->kind, 0};

			if (!fits(request, strategy, &free_slots[i]) || is_chosen(chosen, first, i))
				continue;
			candidate.score = score_of(request, strategy, &free_slots[i]);
			found = insert_by_score(chosen, first, found, request->wanted_count, candidate);
		}
	}
	for (int i = 1; i < found; i++)
		(void) insert_by_score(chosen, 0, i, found, chosen[i]);
	return found;
}
