/*
 * inval.c
 *		How caches of table contents learn of changes; see inval.h.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "inval.h"

/* Oid of a table or view in schema tenantcall, or InvalidOid. */
Oid
tc_own_relation(const char *name)
{
	Oid schema = get_namespace_oid("tenantcall", true);

	return OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;
}

PG_FUNCTION_INFO_V1(tc_invalidate_cache_trigger);

/* invalidate_cache_trigger() -> trigger */
Datum
tc_invalidate_cache_trigger(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(trigdata->tg_event))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("tenantcall.invalidate_cache_trigger() must be called by an AFTER "
							   "trigger")));
	CacheInvalidateRelcache(trigdata->tg_relation);
	return PointerGetDatum(NULL);
}
