/*
 * fair_core.c
 *		Start-time fair queueing: each flow gets its share, whatever the others ask for.
 *
 *		queue --> flow (tag 7) --> flow (tag 7) --> flow (tag 8)
 *		            |                 |               |
 *		          item, item, ...    item            item, ...
 *
 * With items that cost 1, all tags lie between V and V + 1, so a flow that comes is inserted near
 * one end of the list.  A flow that leaves and comes back does not gain by it: it keeps its end.
 */
#include "fair_core.h"

#include <stddef.h>

/* Puts a flow where its tag belongs, behind those of the same tag. */
static void
link_flow(TcFairQueue *queue, TcFairFlow *flow)
{
	TcFairFlow *before = queue->last;

	while (before != NULL && before->tag > flow->tag)
		before = before->prev;
	flow->prev = before;
	flow->next = before != NULL ? before->next : queue->first;
	if (flow->prev != NULL)
		flow->prev->next = flow;
	else
		queue->first = flow;
	if (flow->next != NULL)
		flow->next->prev = flow;
	else
		queue->last = flow;
}

/* Takes a flow out of the list. */
static void
unlink_flow(TcFairQueue *queue, TcFairFlow *flow)
{
	if (flow->prev != NULL)
		flow->prev->next = flow->next;
	else
		queue->first = flow->next;
	if (flow->next != NULL)
		flow->next->prev = flow->prev;
	else
		queue->last = flow->prev;
	flow->prev = flow->next = NULL;
}

/* Takes an item out of its flow, and the flow out of the queue if that was its last. */
static void
unlink_item(TcFairQueue *queue, TcFairItem *item)
{
	TcFairFlow *flow = item->flow;

	if (item->prev != NULL)
		item->prev->next = item->next;
	else
		flow->first = item->next;
	if (item->next != NULL)
		item->next->prev = item->prev;
	else
		flow->last = item->prev;
	item->prev = item->next = NULL;
	item->flow = NULL;
	flow->length--;
	queue->length--;
	if (flow->first == NULL)
		unlink_flow(queue, flow);
}

/* Adds an item at the end of its flow. */
void
tc_fair_push(TcFairQueue *queue, TcFairFlow *flow, TcFairItem *item)
{
	bool idle = flow->first == NULL;

	item->flow = flow;
	item->next = NULL;
	item->prev = flow->last;
	if (idle)
		flow->first = item;
	else
		flow->last->next = item;
	flow->last = item;
	flow->length++;
	queue->length++;
	if (!idle)
		return;
	flow->tag = flow->end > queue->virtual_time ? flow->end : queue->virtual_time;
	link_flow(queue, flow);
}

/* The item whose turn it is, or NULL. */
TcFairItem *
tc_fair_peek(const TcFairQueue *queue)
{
	return queue->first != NULL ? queue->first->first : NULL;
}

/* Takes it out and charges its flow. */
TcFairItem *
tc_fair_pop(TcFairQueue *queue)
{
	TcFairItem *item = tc_fair_peek(queue);
	TcFairFlow *flow;

	if (item == NULL)
		return NULL;
	flow = item->flow;
	queue->virtual_time = flow->tag;
	flow->end = flow->tag + 1;
	unlink_item(queue, item);
	if (flow->first != NULL)
	{
		unlink_flow(queue, flow);
		flow->tag = flow->end;
		link_flow(queue, flow);
	}
	return item;
}

/* Takes an item out that will not be served; its flow is not charged. */
void
tc_fair_remove(TcFairQueue *queue, TcFairItem *item)
{
	unlink_item(queue, item);
}
