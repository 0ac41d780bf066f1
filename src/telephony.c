/*
 * telephony.c
 *		Where the tenants' tables are.
 *
 * The place of the tables is kept per process and forgotten when the relation cache says that one
 * of them, or tenantcall.installation, has changed.  AccessShareLock only.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "inval.h"
#include "node.h"
#include "ready.h"
#include "telephony.h"

static TcTelephony place;
static bool place_known = false; /* has it been looked up since the last change? */
static uint64 changes = 0;		 /* counts what made it unknown */
static bool place_exists = false;
static Oid installation_relid = InvalidOid;
static uint64 generation = 1;

/* Forgets the place. */
static void
forget(void)
{
	place_known = false;
	changes++;
	generation++;
}

/* Relation cache callback. */
static void
relation_changed(Oid relid)
{
	if (relid == InvalidOid || relid == installation_relid ||
		(place_exists && (relid == place.companies || relid == place.branches ||
						  relid == place.phone_numbers || relid == place.agents)))
	{
		place_known = false;
		changes++;
	}
}

/* Syscache callback: a schema was made, dropped or renamed. */
static void
schema_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	forget();
}

/* Registers the callbacks once per process. */
static void
register_callbacks(void)
{
	static bool registered = false;

	if (registered)
		return;
	tc_on_relation_change(relation_changed);
	tc_node_on_change(forget);
	CacheRegisterSyscacheCallback(NAMESPACEOID, schema_changed, (Datum) 0);
	registered = true;
}

/* Takes the schema's name from the row of tenantcall.installation. */
static bool
visit_installation(HeapTuple tuple, TupleDesc desc, void *arg)
{
	Datum value;

	if (tc_row_datum(tuple, desc, "schema_name", &value))
		*(char **) arg = pstrdup(NameStr(*DatumGetName(value)));
	return false;
}

/* Looks the place up. */
static bool
find_place(TcTelephony *found)
{
	char *schema_name = NULL;

	installation_relid = tc_own_relation("installation");
	if (!OidIsValid(installation_relid))
		return false;
	tc_read_rows(installation_relid, NULL, 0, visit_installation, &schema_name);
	if (schema_name == NULL)
		return false;
	found->schema = get_namespace_oid(schema_name, true);
	found->owner =
		GetSysCacheOid1(AUTHNAME, Anum_pg_authid_oid, CStringGetDatum("tenantcall_owner"));
	if (!OidIsValid(found->schema) || !OidIsValid(found->owner))
		return false;
	found->companies = tc_node_copy(get_relname_relid("companies", found->schema));
	found->branches = tc_node_copy(get_relname_relid("branches", found->schema));
	found->phone_numbers = tc_node_copy(get_relname_relid("phone_numbers", found->schema));
	found->agents = tc_node_copy(get_relname_relid("agents", found->schema));
	found->call_bindings = tc_own_relation("call_bindings");
	found->reasons = tc_own_relation("disconnection_reasons");
	found->reason_defaults = tc_own_relation("disconnection_reason_defaults");
	found->schema_quoted = MemoryContextStrdup(TopMemoryContext, quote_identifier(schema_name));
	return OidIsValid(found->companies) && OidIsValid(found->branches) &&
		   OidIsValid(found->phone_numbers) && OidIsValid(found->agents);
}

/* The tables, or NULL where create_tables() has not run. */
const TcTelephony *
tc_telephony(void)
{
	TcTelephony found = {0};
	uint64 before;

	AcceptInvalidationMessages();
	if (likely(place_known))
		return place_exists ? &place : NULL;
	register_callbacks();
	before = changes;
	place_exists = find_place(&found);
	place_known = changes == before; /* unknown again if it changed during the look-up */
	if (place_exists && (found.schema != place.schema || found.owner != place.owner ||
						 found.companies != place.companies))
		generation++;
	if (place.schema_quoted != NULL)
		pfree(place.schema_quoted);
	place = found;
	return place_exists ? &place : NULL;
}

/* The tables; raises where create_tables() has not run. */
const TcTelephony *
tc_telephony_required(void)
{
	const TcTelephony *found;

	tc_require_ready();
	found = tc_telephony();
	if (found == NULL)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("the tables of tenantcall do not exist in this database"),
						errhint("As a superuser, run SELECT tenantcall.create_tables().")));
	return found;
}

/* The part on this node of a table of the tenants, for a company. */
Oid
tc_telephony_table_of(const char *name, int64 company_id)
{
	TcNodePart part;
	Oid relid = get_relname_relid(name, tc_telephony_required()->schema);

	if (OidIsValid(relid))
		relid = tc_node_part_of(relid, company_id, &part);
	if (!OidIsValid(relid) && company_id != 0)
		tc_node_require_home(company_id);
	return relid;
}

/* The same for the company in context. */
Oid
tc_telephony_table(const char *name)
{
	TcNodePart part;
	Oid relid = get_relname_relid(name, tc_telephony_required()->schema);

	return OidIsValid(relid) ? tc_node_part(relid, &part) : InvalidOid;
}

/* Changes whenever prepared statements over the tables must be made anew. */
uint64
tc_telephony_generation(void)
{
	return generation;
}
