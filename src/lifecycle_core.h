/*
 * lifecycle_core.h
 *		The rules of one lifecycle: its states, and which may follow which.  Pure C.
 *
 * States are kept in order of rank, then name, and go by their position from then on; the legal
 * successors of a state are a set of bits.
 *
 *		states		 0 inbound | 1 outbound | 2 ongoing | ... | 8 analyzed
 *		successors	 000000100 | 000000100  | 111110000 | ...
 *
 * Build one by adding all states, then transitions.
 */
#ifndef TC_LIFECYCLE_CORE_H
#define TC_LIFECYCLE_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TC_MAX_STATES 64 /* bits of a TcStateSet */
#define TC_STATE_LEN 64	 /* bytes of a name, with the final zero */
#define TC_NO_STATE (-1)

typedef uint64_t TcStateSet;

typedef struct TcState
{
	char name[TC_STATE_LEN];
	uint8_t len;
	int32_t rank;
	bool initial;
	bool terminal;
} TcState;

typedef struct TcLifecycle
{
	char name[TC_STATE_LEN];
	int n_states;
	TcState states[TC_MAX_STATES];
	TcStateSet successors[TC_MAX_STATES];
} TcLifecycle;

/* Adds a state; says false if it is there, its name does not fit, or there are too many. */
extern bool tc_lifecycle_add_state(TcLifecycle *lifecycle, const TcState *state);

/* Position of a state, or TC_NO_STATE. */
extern int tc_lifecycle_find(const TcLifecycle *lifecycle, const char *name, size_t len);

/* Permits a transition, or takes it back.  A terminal state has none. */
extern void tc_lifecycle_permit(TcLifecycle *lifecycle, int from, int to, bool permitted);

extern bool tc_lifecycle_may_move(const TcLifecycle *lifecycle, int from, int to);
extern bool tc_lifecycle_may_begin(const TcLifecycle *lifecycle, int state);

/* The states in which a row may begin. */
extern TcStateSet tc_lifecycle_initial(const TcLifecycle *lifecycle);

/* The states that may follow; none after TC_NO_STATE. */
extern TcStateSet tc_lifecycle_successors(const TcLifecycle *lifecycle, int state);

#endif /* TC_LIFECYCLE_CORE_H */
