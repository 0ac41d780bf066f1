/*
 * scope_registry.c
 *		Which tables are scoped: the registry, and this backend's copy of it.
 *
 * tenantcall.scope_registry belongs to the extension's owner and is granted to nobody, so that the
 * owner of a scoped table cannot take his table out of it.  The copy is a hash table filled by one
 * scan below row security and privileges, with a snapshot as of now, and is thrown away by
 * relcache invalidation: the registry's own row trigger sends it, transactionally, so it also
 * reaches standbys and follows a rollback.  A table's first registration happens under an access
 * exclusive lock on that table; whoever has locked a table and looks it up here is current.
 *
 * Local to the process; no locks but the scan's.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/transam.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "compat.h"
#include "inval.h"
#include "node.h"
#include "scope.h"

/* Columns of the registry, in their order. */
enum
{
	REGISTRY_REL = 1,
	REGISTRY_COLUMN,
	REGISTRY_TYPE
};

static MemoryContext cache_context = NULL;
static HTAB *cache = NULL; /* NULL: nothing is scoped */
static bool cache_valid = false;
static uint64 invalidations = 0;		/* tells a scan that it was overtaken */
static Oid registry_relid = InvalidOid; /* valid with cache_valid */
static Oid schema_oid = InvalidOid;		/* valid with cache_valid */
static bool callbacks_registered = false;

/* Relcache callback: the registry changed. */
static void
relation_changed(Oid relid)
{
	if (relid != InvalidOid && relid != registry_relid)
		return;
	cache_valid = false;
	invalidations++;
}

/* Syscache callback: a schema came or went, maybe ours. */
static void
schema_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	cache_valid = false;
	invalidations++;
}

/* Registers the callbacks, which is possible in a process once only. */
static void
register_callbacks(void)
{
	if (callbacks_registered)
		return;
	tc_on_relation_change(relation_changed);
	CacheRegisterSyscacheCallback(NAMESPACEOID, schema_changed, (Datum) 0);
	callbacks_registered = true;
}

/* Makes an empty hash table. */
static void
make_cache(void)
{
	HASHCTL control = {.keysize = sizeof(Oid), .entrysize = sizeof(TcScoped)};

	if (cache_context == NULL)
		cache_context =
			AllocSetContextCreate(TopMemoryContext, "tenantcall scopes", ALLOCSET_SMALL_SIZES);
	MemoryContextReset(cache_context);
	control.hcxt = cache_context;
	cache = hash_create("tenantcall scopes", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/*
 * The registry, or InvalidOid.  Our hooks run in databases without the extension too, where anybody
 * may have made a table of this name, with other columns.
 */
static Oid
find_registry(Oid schema)
{
	Oid relid = OidIsValid(schema) ? get_relname_relid("scope_registry", schema) : InvalidOid;
	Oid extension;

	if (!OidIsValid(relid))
		return InvalidOid;
	extension = get_extension_oid("tenantcall", true);
	if (!OidIsValid(extension) || getExtensionOfObject(RelationRelationId, relid) != extension)
		return InvalidOid;
	return relid;
}

/* Copies one row of the registry. */
static void
remember_row(HeapTuple tuple, TupleDesc desc)
{
	bool isnull;
	Oid relid = DatumGetObjectId(heap_getattr(tuple, REGISTRY_REL, desc, &isnull));
	TcScoped *entry = hash_search(cache, &relid, HASH_ENTER, NULL);

	namestrcpy(&entry->column,
			   NameStr(*DatumGetName(heap_getattr(tuple, REGISTRY_COLUMN, desc, &isnull))));
	entry->type = DatumGetObjectId(heap_getattr(tuple, REGISTRY_TYPE, desc, &isnull));
}

/* Reads the registry.  An invalidation meanwhile leaves the copy to be read again next time. */
static void
fill_cache(void)
{
	Relation rel;
	SysScanDesc scan;
	HeapTuple tuple;
	uint64 before = invalidations;

	register_callbacks();
	cache = NULL;
	schema_oid = get_namespace_oid("tenantcall", true);
	registry_relid = find_registry(schema_oid);
	if (!OidIsValid(registry_relid))
	{
		/* without the schema we shall hear of its coming; with it, the table may come any time */
		cache_valid = before == invalidations && !OidIsValid(schema_oid);
		return;
	}
	rel = table_open(registry_relid, AccessShareLock);
	make_cache();
	/* not a catalog: this takes a new snapshot, also in parallel mode */
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		remember_row(tuple, RelationGetDescr(rel));
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	if (hash_get_num_entries(cache) == 0)
		cache = NULL;
	cache_valid = before == invalidations;
}

/* Is any table scoped? */
bool
tc_scope_any(void)
{
	if (unlikely(!cache_valid))
		fill_cache();
	return cache != NULL;
}

/* The table's row of the registry, valid until the next look-up; NULL if it is not scoped. */
const TcScoped *
tc_scope_lookup(Oid relid)
{
	if (!tc_scope_any())
		return NULL;
	return hash_search(cache, &relid, HASH_FIND, NULL);
}

/*
 * The same for tables of ours that Citus has distributed, and for their shards: the coordinator
 * alone has them in its registry, by their own names.
 */
const TcScoped *
tc_scope_in_force(Oid relid)
{
	static TcScoped shard = {.type = INT8OID, .column = {"company_id"}};
	const TcScoped *scoped = tc_scope_lookup(relid);

	if (likely(!tc_node_citus) || scoped != NULL || relid < FirstNormalObjectId ||
		!tc_node_of_tenants(relid))
		return scoped;
	shard.relid = relid;
	return &shard;
}

/* Owner of the registry, who is the extension's. */
Oid
tc_scope_registry_owner(void)
{
	Relation rel;
	Oid owner;

	(void) tc_scope_any();
	if (!OidIsValid(registry_relid))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("extension \"tenantcall\" is not installed in this database"),
						errhint("Run CREATE EXTENSION tenantcall.")));
	rel = table_open(registry_relid, AccessShareLock);
	owner = rel->rd_rel->relowner;
	table_close(rel, AccessShareLock);
	return owner;
}

/* A function of schema tenantcall with one argument, or none, whatever the search path. */
Oid
tc_scope_function(const char *name, Oid argtype)
{
	oidvector *types = buildoidvector(&argtype, OidIsValid(argtype) ? 1 : 0);
	Oid schema = cache_valid ? schema_oid : get_namespace_oid("tenantcall", true);

	if (!OidIsValid(schema))
		return InvalidOid;
	return GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid, CStringGetDatum(name),
						   PointerGetDatum(types), ObjectIdGetDatum(schema));
}
