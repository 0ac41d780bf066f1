/*
 * telephony.c
 *		Where the tenants' tables are, and reading them across companies.
 *
 * The directory (companies, branches, phone numbers, agents) must be read before a tenant is
 * known.  Its tables force row security on everybody, their owner included, so the library reads
 * them as PostgreSQL reads its own catalogs: directly, with a snapshot of this moment.  A snapshot
 * of the transaction would be wrong here: a REPEATABLE READ transaction would fill a cache that
 * outlives it with rows that are already history.
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
relation_changed(Datum arg, Oid relid)
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
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
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
	found->companies = get_relname_relid("companies", found->schema);
	found->branches = get_relname_relid("branches", found->schema);
	found->phone_numbers = get_relname_relid("phone_numbers", found->schema);
	found->agents = get_relname_relid("agents", found->schema);
	found->call_bindings = tc_own_relation("call_bindings");
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

/* Changes whenever prepared statements over the tables must be made anew. */
uint64
tc_telephony_generation(void)
{
	return generation;
}

/* Equality function of the types that directories are keyed by. */
static RegProcedure
equality_of(Oid type)
{
	switch (type)
	{
		case INT8OID:
			return F_INT8EQ;
		case TEXTOID:
			return F_TEXTEQ;
		case UUIDOID:
			return F_UUID_EQ;
		default:
			elog(ERROR, "no equality for type %u", type);
	}
	return InvalidOid; /* keep the compiler quiet */
}

/* Is every match one of the index's first columns, and is each of these matched? */
static bool
index_serves(Relation index, const ScanKeyData *keys, int nkeys)
{
	Form_pg_index form = index->rd_index;

	if (!form->indisvalid || form->indnkeyatts < nkeys)
		return false;
	if (RelationGetIndexPredicate(index) != NIL)
		return false;
	for (int i = 0; i < nkeys; i++)
	{
		bool found = false;

		for (int k = 0; k < nkeys; k++)
			found = found || form->indkey.values[i] == keys[k].sk_attno;
		if (!found)
			return false;
	}
	return true;
}

/* The first index that serves the keys, or InvalidOid. */
static Oid
choose_index(Relation rel, const ScanKeyData *keys, int nkeys)
{
	List *indexes = RelationGetIndexList(rel);
	ListCell *cell;
	Oid chosen = InvalidOid;

	foreach(cell, indexes)
	{
		Relation index = index_open(lfirst_oid(cell), AccessShareLock);

		if (index->rd_rel->relam == BTREE_AM_OID && index_serves(index, keys, nkeys))
			chosen = RelationGetRelid(index);
		index_close(index, AccessShareLock);
		if (OidIsValid(chosen))
			break;
	}
	list_free(indexes);
	return chosen;
}

/* Turns matches into scan keys on the table's columns. */
static void
fill_keys(Relation rel, const TcMatch *matches, int nmatches, ScanKeyData *keys)
{
	for (int i = 0; i < nmatches; i++)
	{
		AttrNumber attno = get_attnum(RelationGetRelid(rel), matches[i].column);

		if (attno == InvalidAttrNumber)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("column \"%s\" of table \"%s\" is missing", matches[i].column,
							RelationGetRelationName(rel)),
					 errhint("The tables of create_tables() may be added to, not taken from.")));
		ScanKeyEntryInitialize(&keys[i], 0, attno, BTEqualStrategyNumber, InvalidOid,
							   TupleDescAttr(RelationGetDescr(rel), attno - 1)->attcollation,
							   equality_of(matches[i].type), matches[i].value);
	}
}

/* Reads rows as of now, below row security. */
void
tc_read_rows(Oid relid, const TcMatch *matches, int nmatches, TcRowVisitor visit, void *arg)
{
	Relation rel = table_open(relid, AccessShareLock);
	ScanKeyData keys[TC_MAX_MATCHES];
	Oid index = InvalidOid;
	SysScanDesc scan;
	HeapTuple tuple;

	Assert(nmatches <= TC_MAX_MATCHES);
	fill_keys(rel, matches, nmatches, keys);
	if (nmatches > 0)
		index = choose_index(rel, keys, nmatches);
	scan = systable_beginscan(rel, index, OidIsValid(index), NULL, nmatches, keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		if (!visit(tuple, RelationGetDescr(rel), arg))
			break;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

/* A column by name; false for NULL. */
bool
tc_row_datum(HeapTuple tuple, TupleDesc desc, const char *column, Datum *value)
{
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(desc, i);
		bool isnull;

		if (attr->attisdropped || namestrcmp(&attr->attname, column) != 0)
			continue;
		*value = heap_getattr(tuple, i + 1, desc, &isnull);
		return !isnull;
	}
	return false;
}

/* A bigint column; 0 for NULL. */
int64
tc_row_int8(HeapTuple tuple, TupleDesc desc, const char *column)
{
	Datum value;

	return tc_row_datum(tuple, desc, column, &value) ? DatumGetInt64(value) : 0;
}

/* A text column, allocated; NULL for NULL. */
char *
tc_row_text(HeapTuple tuple, TupleDesc desc, const char *column)
{
	Datum value;

	return tc_row_datum(tuple, desc, column, &value) ? TextDatumGetCString(value) : NULL;
}
