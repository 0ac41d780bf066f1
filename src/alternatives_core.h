/*
 * alternatives_core.h
 *		Which free slots to offer instead of the one that was wanted.  Pure C.
 */
#ifndef TC_ALTERNATIVES_CORE_H
#define TC_ALTERNATIVES_CORE_H

#include <stdbool.h>
#include <stdint.h>

#define TC_NOON (12 * 60)
#define TC_DAY_MINUTES (24 * 60)

/* A moment, and what the branch's clocks show then. */
typedef struct TcMoment
{
	int64_t at;		/* µs */
	int32_t day;	/* days since 2000-01-01 */
	int32_t minute; /* of the day */
} TcMoment;

/* Where to look, in the order of the strategies in force. */
typedef enum TcStrategyKind
{
	TC_SAME_DAY,		/* the same day, at most span away */
	TC_NEXT_WORKDAY,	/* the first workday after it, at the same time (span: or so much apart) */
	TC_NEXT_WEEK,		/* the same weekday of the next week, likewise */
	TC_NEXT_AVAILABLE,	/* workdays after it, at most days later */
	TC_FIRST_FREE,		/* whatever is first, at most days later */
	TC_PREFERRED_DAY,	/* the same day, in the preferred hours */
	TC_PREFERRED_OTHER, /* days after it, at most days later, in the preferred hours */
	TC_N_STRATEGIES
} TcStrategyKind;

typedef struct TcStrategy
{
	TcStrategyKind kind;
	int32_t span;		   /* minutes */
	int32_t days;		   /* at most so many later */
	int32_t bonus_later;   /* added to the score: of a slot after the wanted time, */
	int32_t bonus_earlier; /* and before it; the two change places when that is before noon */
} TcStrategy;

typedef struct TcAlternativesRequest
{
	TcMoment wanted; /* never offered itself */
	const TcStrategy *strategies;
	int nstrategies;
	bool prefers;		  /* only the strategies of preferred hours count; else only the others */
	int32_t prefers_from; /* minutes of the day: [from, to) */
	int32_t prefers_to;
	int wanted_count;
	/* Is it a day on which people work here? */
	bool (*is_workday)(int32_t day, const void *arg);
	const void *arg;
} TcAlternativesRequest;

typedef struct TcAlternative
{
	int slot; /* number of the free slot */
	TcStrategyKind kind;
	int32_t score;
} TcAlternative;

/*
 * Chooses among free slots: strategy after strategy, in each the best by score, until there are
 * enough; then all by score.  Returns how many; chosen has room for wanted_count.
 */
extern int tc_alternatives_choose(const TcAlternativesRequest *request, const TcMoment *free_slots,
								  int count, TcAlternative *chosen);

/* Names of strategies, as data has them; TC_N_STRATEGIES for a name that is none. */
extern const char *tc_strategy_name(TcStrategyKind kind);
extern TcStrategyKind tc_strategy_of(const char *name);

#endif /* TC_ALTERNATIVES_CORE_H */
