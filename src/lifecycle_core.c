/*
 * lifecycle_core.c
 *		The rules of one lifecycle: its states, and which may follow which.  Pure C.
 */
#include "lifecycle_core.h"

#include <string.h>

/* Does a come before b? */
static bool
state_before(const TcState *a, const TcState *b)
{
	if (a->rank != b->rank)
		return a->rank < b->rank;
	return strcmp(a->name, b->name) < 0;
}

/* Adds a state at its place. */
bool
tc_lifecycle_add_state(TcLifecycle *lifecycle, const TcState *state)
{
	int place = lifecycle->n_states;

	if (lifecycle->n_states >= TC_MAX_STATES || state->len == 0 || state->len >= TC_STATE_LEN)
		return false;
	if (tc_lifecycle_find(lifecycle, state->name, state->len) != TC_NO_STATE)
		return false;
	while (place > 0 && state_before(state, &lifecycle->states[place - 1]))
	{
		lifecycle->states[place] = lifecycle->states[place - 1];
		place--;
	}
	lifecycle->states[place] = *state;
	lifecycle->n_states++;
	return true;
}

/* Position of a state, or TC_NO_STATE. */
int
tc_lifecycle_find(const TcLifecycle *lifecycle, const char *name, size_t len)
{
	for (int i = 0; i < lifecycle->n_states; i++)
		if (lifecycle->states[i].len == len && memcmp(lifecycle->states[i].name, name, len) == 0)
			return i;
	return TC_NO_STATE;
}

/* Is this the position of a state? */
static inline bool
is_state(const TcLifecycle *lifecycle, int state)
{
	return state >= 0 && state < lifecycle->n_states;
}

/* Permits a transition, or takes it back. */
void
tc_lifecycle_permit(TcLifecycle *lifecycle, int from, int to, bool permitted)
{
	TcStateSet bit;

	if (!is_state(lifecycle, from) || !is_state(lifecycle, to) || from == to)
		return;
	bit = (TcStateSet) 1 << to;
	if (permitted && !lifecycle->states[from].terminal)
		lifecycle->successors[from] |= bit;
	else
		lifecycle->successors[from] &= ~bit;
}

/* May a row move so? */
bool
tc_lifecycle_may_move(const TcLifecycle *lifecycle, int from, int to)
{
	if (!is_state(lifecycle, from) || !is_state(lifecycle, to))
		return false;
	return (lifecycle->successors[from] >> to) & 1;
}

/* May a row begin so? */
bool
tc_lifecycle_may_begin(const TcLifecycle *lifecycle, int state)
{
	return is_state(lifecycle, state) && lifecycle->states[state].initial;
}

/* The states in which a row may begin. */
TcStateSet
tc_lifecycle_initial(const TcLifecycle *lifecycle)
{
	TcStateSet result = 0;

	for (int i = 0; i < lifecycle->n_states; i++)
		if (lifecycle->states[i].initial)
			result |= (TcStateSet) 1 << i;
	return result;
}

/* The states that may follow. */
TcStateSet
tc_lifecycle_successors(const TcLifecycle *lifecycle, int state)
{
	return is_state(lifecycle, state) ? lifecycle->successors[state] : 0;
}
