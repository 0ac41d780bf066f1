/* Unit test of fair_core.c. */
#include "fair_core.h"
#include "unit.h"

#define FLOWS 5
#define ITEMS 10000

static TcFairFlow flows[FLOWS];
static TcFairItem items[ITEMS];
static TcFairQueue queue;

/* Starts anew. */
static void
reset(void)
{
	memset(flows, 0, sizeof(flows));
	memset(items, 0, sizeof(items));
	memset(&queue, 0, sizeof(queue));
}

/* The flow of what is served next; -1: nothing. */
static int
serve(void)
{
	TcFairItem *item = tc_fair_peek(&queue);
	int flow = item != NULL ? (int) (item->flow - flows) : -1;

	CHECK(tc_fair_pop(&queue) == item);
	CHECK(item == NULL || item->flow == NULL);
	return flow;
}

/* A flow that floods delays another's item by one at most, at any moment. */
static void
test_flood(void)
{
	reset();
	for (int i = 0; i < ITEMS - 100; i++)
		tc_fair_push(&queue, &flows[0], &items[i]);
	for (int round = 0; round < 100; round++)
	{
		int waited = 0;

		for (int i = 0; i < round % 7; i++)
			CHECK_INT(serve(), 0);
		tc_fair_push(&queue, &flows[1], &items[ITEMS - 100 + round]);
		while (serve() != 1)
			waited++;
		CHECK(waited <= 1);
	}
}

/* Flows that always ask get the same, and each its items in order. */
static void
test_shares(void)
{
	int served[FLOWS] = {0};

	reset();
	for (int i = 0; i < ITEMS; i++)
		tc_fair_push(&queue, &flows[(i * 7) % FLOWS], &items[i]);
	CHECK_INT(queue.length, ITEMS);
	for (int i = 0; i < ITEMS / 2; i++)
		served[serve()]++;
	for (int i = 0; i < FLOWS; i++)
		CHECK_INT(served[i], ITEMS / 2 / FLOWS);
	reset();
	for (int i = 0; i < 9; i++)
		tc_fair_push(&queue, &flows[0], &items[i]);
	for (int i = 0; i < 9; i++)
		CHECK(tc_fair_pop(&queue) == &items[i]);
	CHECK(tc_fair_pop(&queue) == NULL);
}

/* A flow that comes and goes does not get ahead of one that stays. */
static void
test_come_and_go(void)
{
	int served[2] = {0};

	reset();
	for (int i = 0; i < 1000; i++)
		tc_fair_push(&queue, &flows[0], &items[i]);
	for (int i = 1000; i < 1500; i++)
	{
		tc_fair_push(&queue, &flows[1], &items[i]);
		while (flows[1].length > 0)
			served[serve()]++;
	}
	CHECK_INT(served[1], 500);
	CHECK(served[0] >= 499);
}

/* Items can be taken out anywhere. */
static void
test_remove(void)
{
	reset();
	for (int i = 0; i < 30; i++)
		tc_fair_push(&queue, &flows[i % 3], &items[i]);
	for (int i = 0; i < 30; i += 3)
		tc_fair_remove(&queue, &items[i]);
	tc_fair_remove(&queue, &items[1]);
	tc_fair_remove(&queue, &items[29]);
	tc_fair_remove(&queue, &items[14]);
	CHECK_INT(queue.length, 17);
	CHECK_INT(flows[0].length, 0);
	for (int i = 0; i < 17; i++)
		CHECK(serve() > 0);
	CHECK_INT(serve(), -1);
	CHECK_INT(queue.length, 0);
}

int
main(void)
{
	RUN(test_flood);
	RUN(test_shares);
	RUN(test_come_and_go);
	RUN(test_remove);
	return unit_summary();
}
