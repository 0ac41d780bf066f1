/*
 * inval.c
 *		How caches of table contents learn of changes; see inval.h.
 */
#include "postgres.h"

#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "inval.h"
#include "node.h"

#define MAX_LISTENERS 32

static void (*listeners[MAX_LISTENERS])(Oid relid);
static int nlisteners = 0;

/* Relation cache callback: passes the message on. */
static void
relation_changed(Datum arg, Oid relid)
{
	for (int i = 0; i < nlisteners; i++)
		listeners[i](relid);
}

/* Has the callback called for each message of the relation cache. */
void
tc_on_relation_change(void (*callback)(Oid relid))
{
	if (nlisteners == 0)
		CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	if (nlisteners == MAX_LISTENERS)
		elog(ERROR, "no room for another listener to relation changes");
	listeners[nlisteners++] = callback;
}

/* Oid of a table or view of the extension, or InvalidOid. */
Oid
tc_own_relation(const char *name)
{
	Oid schema = get_namespace_oid("tenantcall", true);
	Oid extension = get_extension_oid("tenantcall", true);
	Oid relid;

	if (!OidIsValid(schema) || !OidIsValid(extension))
		return InvalidOid;
	relid = get_relname_relid(name, schema);
	if (!OidIsValid(relid) || getExtensionOfObject(RelationRelationId, relid) != extension)
		return InvalidOid;
	return tc_node_copy(relid);
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
