/*
 * guard.c
 *		Running code on content from outside, whose faults must not raise.
 *
 * The same pattern as PL/pgSQL's EXCEPTION block: an internal subtransaction undoes identity,
 * settings and rows together.  No locks of its own.
 *
 * A subtransaction that ends well leaves its memory context to the outer transaction unless
 * nothing was ever allocated in it.  Statement triggers allocate there and free it again; so that a
 * batch of a million events does not keep a million contexts, one in which nothing is left is
 *reset.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "guard.h"

/* Is the error about the content, rather than about the server or the session? */
static bool
blames_content(int sqlerrcode)
{
	switch (ERRCODE_TO_CATEGORY(sqlerrcode))
	{
		case MAKE_SQLSTATE('2', '5', '0', '0', '0'): /* invalid transaction state */
		case MAKE_SQLSTATE('4', '0', '0', '0', '0'): /* transaction rollback */
		case MAKE_SQLSTATE('5', '3', '0', '0', '0'): /* insufficient resources */
		case MAKE_SQLSTATE('5', '5', '0', '0', '0'): /* object not in prerequisite state */
		case MAKE_SQLSTATE('5', '7', '0', '0', '0'): /* operator intervention */
		case MAKE_SQLSTATE('5', '8', '0', '0', '0'): /* system error */
		case MAKE_SQLSTATE('F', '0', '0', '0', '0'): /* configuration file */
		case MAKE_SQLSTATE('X', 'X', '0', '0', '0'): /* internal error */
			return false;
		default:
			return true;
	}
}

/* Bytes in use in a memory context, its own housekeeping included. */
static Size
bytes_in_use(MemoryContext context)
{
	MemoryContextCounters counters = {0};

	context->methods->stats(context, NULL, NULL, &counters, false);
	return counters.totalspace - counters.freespace;
}

/* Makes the subtransaction's context an empty one if all that was in it was freed again. */
static void
tidy_up(Size when_empty)
{
	if (CurTransactionContext->firstchild == NULL && !MemoryContextIsEmpty(CurTransactionContext) &&
		bytes_in_use(CurTransactionContext) == when_empty)
		MemoryContextReset(CurTransactionContext);
}

/* Ends the subtransaction, undoing what it did, and returns to where it began. */
static void
abandon(MemoryContext context, ResourceOwner owner)
{
	RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
}

/* Runs the function in a subtransaction. */
bool
tc_guard(void (*run)(void *arg), void *arg, TcFault *fault)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool done = false;
	Size when_empty;

	BeginInternalSubTransaction(NULL);
	when_empty = bytes_in_use(CurTransactionContext);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		run(arg);
		tidy_up(when_empty);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		done = true;
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		abandon(context, owner);
		/* only now: whoever catches it next rolls back the innermost subtransaction as its own */
		if (!blames_content(error->sqlerrcode))
			ReThrowError(error);
		fault->message = pstrdup(error->message);
		fault->sqlerrcode = error->sqlerrcode;
		FreeErrorData(error);
	}
	PG_END_TRY();
	return done;
}
