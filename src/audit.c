/*
 * audit.c
 *		What check_isolation() cannot learn from the catalogs.
 *
 * shared_preload_libraries is shown to superusers only, and administrators audit too.  No state,
 * no locks.
 */
#include "postgres.h"

#include "fmgr.h"

#include "ready.h"

PG_FUNCTION_INFO_V1(tc_library_preloaded);

/* library_preloaded() -> boolean */
Datum
tc_library_preloaded(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(tc_preloaded);
}
