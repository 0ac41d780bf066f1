/*
 * lifecycle.h
 *		Lifecycles: their rules in memory, and what is noted with each move.
 *
 * The trigger that enforces them is lifecycle_trigger.c.
 */
#ifndef TC_LIFECYCLE_H
#define TC_LIFECYCLE_H

#include "postgres.h"

#include "lifecycle_core.h"

extern void tc_lifecycle_init(void);

/*
 * The rules of a lifecycle, or NULL if there is none of the name.  Valid until the next call;
 * keep it no longer than tc_lifecycle_generation() stays the same.
 */
extern const TcLifecycle *tc_lifecycle_lookup(const char *name);

/* The same, but raises PT404. */
extern const TcLifecycle *tc_lifecycle_required(const char *name);

/* Changes whenever a rule may have changed. */
extern uint64 tc_lifecycle_generation(void);

/* States of a set as "a, b, c", in order of rank; palloc'd. */
extern char *tc_lifecycle_list(const TcLifecycle *lifecycle, TcStateSet states);

/*
 * Notes why the following moves happen, and which event brings them, in the audit trail, until
 * the caller's settings nest level (NewGUCNestLevel) ends.  NULL notes nothing.
 */
extern void tc_lifecycle_set_reason(const char *reason);
extern void tc_lifecycle_set_event(const char *event);

/* What is noted now, or NULL. */
extern const char *tc_lifecycle_reason(void);
extern const char *tc_lifecycle_event(void);

#endif /* TC_LIFECYCLE_H */
