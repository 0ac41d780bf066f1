/*
 * context.h
 *		The tenant context of the current transaction.
 */
#ifndef TC_CONTEXT_H
#define TC_CONTEXT_H

#include "postgres.h"

#include "context_core.h"

extern void tc_context_init(void);

/* The context in force, or NULL.  Valid until the context changes. */
extern const TcContext *tc_context_current(void);

/* Enters a tenant for the rest of the transaction: set once, raises PT403 on a second one. */
extern void tc_context_enter(const TcContext *context);

/* For token_setting.c, whose setting carries a context as well. */
typedef struct TcContextExtra TcContextExtra;
extern void tc_context_check_may_enter(const TcContext *context);
extern TcContextExtra *tc_context_make_extra(const TcContext *context); /* NULL: no memory */
extern void tc_context_assign_token(const TcContextExtra *extra);

/*
 * Overrides the context within the caller's settings nest level (NewGUCNestLevel), whose end pops
 * it, as do an error and the abort of the subtransaction.  Not reachable from SQL; see act.h.
 */
extern void tc_context_push(const TcContext *context);

#endif /* TC_CONTEXT_H */
