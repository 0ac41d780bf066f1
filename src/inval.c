/*
 * inval.c
 *		A trigger that tells every backend when the rows of a table of ours have changed.
 *
 * It sends a relcache invalidation of the table, which is transactional: own process at the next
 * command, others at commit, standbys on replay, nobody after a rollback.  Caches of the table's
 * contents register a relcache callback.  No locks.
 */
#include "postgres.h"

#include "commands/trigger.h"
#include "fmgr.h"
#include "utils/inval.h"

PG_FUNCTION_INFO_V1(tc_invalidate_cache_trigger);

/* Trigger for AFTER INSERT, UPDATE, DELETE (row) and TRUNCATE (statement) */
Datum
tc_invalidate_cache_trigger(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("function was not called by the trigger manager")));
	CacheInvalidateRelcache(((TriggerData *) fcinfo->context)->tg_relation);
	return PointerGetDatum(NULL);
}
