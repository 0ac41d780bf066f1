/*
 * test_lifecycle_core.c
 *		Rules of a lifecycle: order, look-up, permission, limits.
 */
#include "lifecycle_core.h"
#include "unit.h"

/* Adds a state. */
static bool
add(TcLifecycle *lifecycle, const char *name, int rank, bool initial, bool terminal)
{
	TcState state = {.rank = rank, .initial = initial, .terminal = terminal};

	state.len = (uint8_t) strlen(name);
	memcpy(state.name, name, strlen(name) + 1);
	return tc_lifecycle_add_state(lifecycle, &state);
}

/* Position of a state. */
static int
at(const TcLifecycle *lifecycle, const char *name)
{
	return tc_lifecycle_find(lifecycle, name, strlen(name));
}

static void
test_order(void)
{
	TcLifecycle lifecycle = {0};

	CHECK(add(&lifecycle, "d", 20, false, false));
	CHECK(add(&lifecycle, "b", 10, true, false));
	CHECK(add(&lifecycle, "c", -5, false, false));
	CHECK(add(&lifecycle, "a", 20, false, true));
	CHECK(!add(&lifecycle, "a", 1, false, false));
	CHECK_INT(lifecycle.n_states, 4);
	CHECK_STR(lifecycle.states[0].name, "c");
	CHECK_STR(lifecycle.states[1].name, "b");
	CHECK_STR(lifecycle.states[2].name, "a");
	CHECK_STR(lifecycle.states[3].name, "d");
	CHECK_INT(tc_lifecycle_initial(&lifecycle), 1 << 1);
}

static void
test_find(void)
{
	TcLifecycle lifecycle = {0};

	CHECK_INT(at(&lifecycle, "a"), TC_NO_STATE);
	add(&lifecycle, "ab", 1, false, false);
	add(&lifecycle, "abc", 2, false, false);
	CHECK_INT(at(&lifecycle, "ab"), 0);
	CHECK_INT(at(&lifecycle, "abc"), 1);
	CHECK_INT(at(&lifecycle, "a"), TC_NO_STATE);
	CHECK_INT(at(&lifecycle, "abcd"), TC_NO_STATE);
	CHECK_INT(at(&lifecycle, "AB"), TC_NO_STATE);
	CHECK_INT(at(&lifecycle, ""), TC_NO_STATE);
	CHECK_INT(tc_lifecycle_find(&lifecycle, "abX", 2), 0);
}

static void
test_transitions(void)
{
	TcLifecycle lifecycle = {0};
	int a, b, end;

	add(&lifecycle, "a", 1, true, false);
	add(&lifecycle, "b", 2, false, false);
	add(&lifecycle, "end", 3, false, true);
	a = at(&lifecycle, "a");
	b = at(&lifecycle, "b");
	end = at(&lifecycle, "end");
	CHECK(!tc_lifecycle_may_move(&lifecycle, a, b));
	tc_lifecycle_permit(&lifecycle, a, b, true);
	tc_lifecycle_permit(&lifecycle, b, end, true);
	CHECK(tc_lifecycle_may_move(&lifecycle, a, b));
	CHECK(!tc_lifecycle_may_move(&lifecycle, b, a));
	CHECK(!tc_lifecycle_may_move(&lifecycle, a, end));
	CHECK_INT(tc_lifecycle_successors(&lifecycle, b), 1 << end);
	/* nothing follows a terminal state, and nothing follows itself */
	tc_lifecycle_permit(&lifecycle, end, a, true);
	tc_lifecycle_permit(&lifecycle, a, a, true);
	CHECK_INT(tc_lifecycle_successors(&lifecycle, end), 0);
	CHECK_INT(tc_lifecycle_successors(&lifecycle, a), 1 << b);
	tc_lifecycle_permit(&lifecycle, a, b, false);
	CHECK(!tc_lifecycle_may_move(&lifecycle, a, b));
	CHECK(tc_lifecycle_may_begin(&lifecycle, a));
	CHECK(!tc_lifecycle_may_begin(&lifecycle, b));
}

static void
test_no_state(void)
{
	TcLifecycle lifecycle = {0};

	add(&lifecycle, "a", 1, true, false);
	tc_lifecycle_permit(&lifecycle, TC_NO_STATE, 0, true);
	tc_lifecycle_permit(&lifecycle, 0, TC_NO_STATE, true);
	tc_lifecycle_permit(&lifecycle, 0, 1, true);
	tc_lifecycle_permit(&lifecycle, TC_MAX_STATES, 0, true);
	CHECK_INT(tc_lifecycle_successors(&lifecycle, 0), 0);
	CHECK_INT(tc_lifecycle_successors(&lifecycle, TC_NO_STATE), 0);
	CHECK_INT(tc_lifecycle_successors(&lifecycle, TC_MAX_STATES), 0);
	CHECK(!tc_lifecycle_may_begin(&lifecycle, TC_NO_STATE));
	CHECK(!tc_lifecycle_may_begin(&lifecycle, 1));
	CHECK(!tc_lifecycle_may_move(&lifecycle, TC_NO_STATE, 0));
	CHECK(!tc_lifecycle_may_move(&lifecycle, 0, TC_NO_STATE));
	CHECK(!tc_lifecycle_may_move(&lifecycle, 0, 64));
}

static void
test_limits(void)
{
	TcLifecycle lifecycle = {0};
	TcState state = {.len = 0};
	char name[16];

	CHECK(!tc_lifecycle_add_state(&lifecycle, &state));
	memset(state.name, 'x', TC_STATE_LEN);
	state.len = TC_STATE_LEN;
	CHECK(!tc_lifecycle_add_state(&lifecycle, &state));
	for (int i = 0; i < TC_MAX_STATES; i++)
	{
		snprintf(name, sizeof(name), "s%02d", i % 100);
		CHECK(add(&lifecycle, name, -i, true, false));
	}
	CHECK(!add(&lifecycle, "more", 0, false, false));
	CHECK_INT(lifecycle.n_states, TC_MAX_STATES);
	/* the last bit works like the first */
	for (int from = 0; from < TC_MAX_STATES; from++)
		for (int to = 0; to < TC_MAX_STATES; to++)
			tc_lifecycle_permit(&lifecycle, from, to, (from + to) % 3 == 0);
	for (int from = 0; from < TC_MAX_STATES; from++)
		for (int to = 0; to < TC_MAX_STATES; to++)
			if (tc_lifecycle_may_move(&lifecycle, from, to) != ((from + to) % 3 == 0 && from != to))
				CHECK_INT(from * 100 + to, -1);
	CHECK(tc_lifecycle_initial(&lifecycle) == ~(TcStateSet) 0);
}

int
main(void)
{
	RUN(test_order);
	RUN(test_find);
	RUN(test_transitions);
	RUN(test_no_state);
	RUN(test_limits);
	return unit_summary();
}
