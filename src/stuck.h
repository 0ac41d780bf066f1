/*
 * stuck.h
 *		Calls whose end was never told.
 */
#ifndef TC_STUCK_H
#define TC_STUCK_H

#include "postgres.h"

extern void tc_stuck_init(void);

/* The states in which a call may still be abandoned, as text[]. */
extern Datum tc_open_states(void);

#endif /* TC_STUCK_H */
