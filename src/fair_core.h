/*
 * fair_core.h
 *		Start-time fair queueing: each flow gets its share, whatever the others ask for.  Pure C.
 *
 * Items and flows belong to the caller, who zeroes them before first use; nothing is allocated.
 * Each item costs 1.  A flow's next item is tagged max(V, end of its last one), V being the tag of
 * what was served last; the smallest tag is served first, equal ones in order of coming.
 */
#ifndef TC_FAIR_CORE_H
#define TC_FAIR_CORE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct TcFairItem TcFairItem;

struct TcFairItem
{
	TcFairItem *prev, *next;
	struct TcFairFlow *flow; /* NULL: not queued */
};

typedef struct TcFairFlow
{
	struct TcFairFlow *prev, *next; /* in the queue, by tag, while it has items */
	TcFairItem *first, *last;
	int64_t length;
	int64_t tag; /* of its first item */
	int64_t end; /* of what it was served last */
} TcFairFlow;

typedef struct TcFairQueue
{
	TcFairFlow *first, *last; /* flows that have items, in order of their tags */
	int64_t length;			  /* items of all flows */
	int64_t virtual_time;
} TcFairQueue;

/* Adds an item at the end of its flow. */
extern void tc_fair_push(TcFairQueue *queue, TcFairFlow *flow, TcFairItem *item);
/* The item whose turn it is, or NULL. */
extern TcFairItem *tc_fair_peek(const TcFairQueue *queue);
/* Takes it out and charges its flow. */
extern TcFairItem *tc_fair_pop(TcFairQueue *queue);
/* Takes an item out that will not be served; its flow is not charged. */
extern void tc_fair_remove(TcFairQueue *queue, TcFairItem *item);

#endif /* TC_FAIR_CORE_H */
