/*
 * guard.h
 *		Running code on content from outside, whose faults must not raise.
 */
#ifndef TC_GUARD_H
#define TC_GUARD_H

#include "postgres.h"

typedef struct TcFault
{
	char *message; /* allocated in the caller's context */
	int sqlerrcode;
} TcFault;

/*
 * Runs the function in a subtransaction.  False, with all it did undone, when it raised an error
 * that speaks of the content; errors that speak of the server or of the session (cancelled,
 * shutting down, deadlock, serialization, resources, internal) are raised on.
 */
extern bool tc_guard(void (*run)(void *arg), void *arg, TcFault *fault);

#endif /* TC_GUARD_H */
