/*
 * node.c
 *		Which node of a Citus cluster a company is at home on, and its shards there.
 *
 *		company --hash--> group of shards (one of each table, all on one node) --> tables of that
 *
 * After distribute() the tables are parts: the directory and what is configured are copied to every
 * node, the others are sharded by company, all alike.  The library works on the parts of its own
 * node by their own names, as on ordinary tables; only what writes the directory goes through the
 * tables that Citus knows.  So a company is worked for where its shards are, and nowhere else.
 *
 * What Citus's catalogs say is kept per process and forgotten with the relation cache's message
 * that Citus sends for each table whose shards change.
 *
 * Locks: the advisory lock on the metadata of the company's group of shards, shared, until the end
 * of the transaction.  It is the one that every write through Citus takes, and that a move or a
 * split of the shards takes exclusively before it switches over: whoever holds it works on shards
 * that stay.  (Citus 13: class 8 of the advisory locks, keyed by the group's place and the
 * colocation; distribute() makes sure of it.)
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "common/pg_prng.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "context.h"
#include "inval.h"
#include "node.h"
#include "node_groups.h"
#include "node_map.h"

/* Class of Citus's advisory locks on the metadata of a group of shards. */
#define SHARD_GROUP_LOCK 8
#define MAX_LISTENERS 4

/* A group of shards: one of each table, of the same hash values. */
typedef struct ShardGroup
{
	int32 min; /* lowest hash value */
	int node;
} ShardGroup;

bool tc_node_citus = false;

static MemoryContext map_context = NULL;
HTAB *tc_node_tables = NULL;
HTAB *tc_node_parts = NULL;
static ShardGroup *groups = NULL;
static int ngroups = 0;
static uint32 colocation = 0; /* what Citus calls the shards that stay together */
static int this_node = 0;	  /* Citus's number of it; the coordinator's is 0 */
static int visited = 0;		  /* group that is worked on without a company in context */
static bool known = false;
static bool loading = false;
static uint64 changes = 0;
static Oid calls_relid = InvalidOid;
static void (*listeners[MAX_LISTENERS])(void);
static int nlisteners = 0;

static const char *const load_sql =
	"SELECT t.logicalrelid::oid, t.partmethod = 'n', s.shardid, "
	"coalesce(s.shardminvalue::int4, 0), "
	"p.groupid, c.relname = 'calls' AND c.relnamespace <> 'tenantcall'::regnamespace, "
	"(SELECT l.groupid FROM pg_catalog.pg_dist_local_group AS l), t.colocationid "
	"FROM pg_catalog.pg_class AS c "
	"JOIN pg_catalog.pg_dist_partition AS t ON t.logicalrelid = c.oid "
	"JOIN pg_catalog.pg_dist_shard AS s ON s.logicalrelid = t.logicalrelid "
	"JOIN pg_catalog.pg_dist_placement AS p ON p.shardid = s.shardid "
	"WHERE (c.relnamespace = 'tenantcall'::regnamespace OR "
	"EXISTS (SELECT 1 FROM pg_catalog.pg_namespace AS n JOIN pg_catalog.pg_roles AS r "
	"ON r.oid = n.nspowner WHERE n.oid = c.relnamespace AND r.rolname = 'tenantcall_owner')) "
	"AND (t.partmethod = 'h' OR t.partmethod = 'n' AND t.repmodel = 't' AND "
	"p.groupid = (SELECT l.groupid FROM pg_catalog.pg_dist_local_group AS l)) "
	"ORDER BY 1, 4";

/* Citus is the first of the libraries that are preloaded: it insists on that. */
void
tc_node_init(void)
{
	tc_node_citus = GetConfigOption("citus.shard_count", true, false) != NULL;
}

/* Relation cache callback: our tables and theirs. */
static void
relation_changed(Oid relid)
{
	bool ours = relid == InvalidOid || !OidIsValid(calls_relid) || relid == calls_relid;

	if (!ours && tc_node_tables != NULL)
		ours = hash_search(tc_node_tables, &relid, HASH_FIND, NULL) != NULL;
	if (!ours)
		return;
	changes++;
	known = false;
	for (int i = 0; i < nlisteners; i++)
		listeners[i]();
}

/* Adds a listener to moves of shards. */
void
tc_node_on_change(void (*callback)(void))
{
	Assert(nlisteners < MAX_LISTENERS);
	listeners[nlisteners++] = callback;
}

/* Name of a shard. */
static char *
shard_name(Oid relid, int64 shard)
{
	char suffix[32];
	char *name = get_rel_name(relid);
	char *result;

	snprintf(suffix, sizeof(suffix), "_" INT64_FORMAT, shard);
	if (name == NULL || strlen(name) + strlen(suffix) >= NAMEDATALEN)
		return NULL; /* Citus shortens such names; ours are short */
	result = psprintf("%s%s", name, suffix);
	pfree(name);
	return result;
}

/* Oid of a shard on this node. */
static Oid
shard_relid(Oid relid, int64 shard)
{
	char *name = shard_name(relid, shard);

	return name == NULL ? InvalidOid : get_relname_relid(name, get_rel_namespace(relid));
}

/* Takes one row of Citus's catalogs. */
static void
take_shard(HeapTuple row, TupleDesc desc)
{
	bool isnull;
	Oid relid = DatumGetObjectId(SPI_getbinval(row, desc, 1, &isnull));
	int64 shard = DatumGetInt64(SPI_getbinval(row, desc, 3, &isnull));
	bool found;
	TcNodeTable *table = hash_search(tc_node_tables, &relid, HASH_ENTER, &found);
	Oid here;

	this_node = DatumGetInt32(SPI_getbinval(row, desc, 7, &isnull));
	if (!found)
	{
		table->reference = DatumGetBool(SPI_getbinval(row, desc, 2, &isnull));
		table->tenants = get_rel_namespace(relid) != get_namespace_oid("tenantcall", true);
		table->count = 0;
		table->shards = MemoryContextAlloc(map_context, sizeof(int64));
	}
	table->shards = repalloc(table->shards, (table->count + 1) * sizeof(int64));
	table->shards[table->count++] = shard;
	if (!table->reference && DatumGetBool(SPI_getbinval(row, desc, 6, &isnull)))
	{
		groups = groups == NULL
					 ? MemoryContextAlloc(map_context, sizeof(ShardGroup))
					 : (ShardGroup *) repalloc(groups, (ngroups + 1) * sizeof(ShardGroup));
		groups[ngroups].min = DatumGetInt32(SPI_getbinval(row, desc, 4, &isnull));
		groups[ngroups].node = DatumGetInt32(SPI_getbinval(row, desc, 5, &isnull));
		ngroups++;
		colocation = DatumGetInt32(SPI_getbinval(row, desc, 8, &isnull));
		calls_relid = relid;
	}
	here = shard_relid(relid, shard);
	if (OidIsValid(here))
		((TcNodeShard *) hash_search(tc_node_parts, &here, HASH_ENTER, NULL))->whole = relid;
}

/* Makes an empty map. */
static void
empty_map(void)
{
	HASHCTL control = {.keysize = sizeof(Oid), .entrysize = sizeof(TcNodeTable)};

	if (map_context != NULL)
		MemoryContextDelete(map_context);
	map_context = AllocSetContextCreate(TopMemoryContext, "tenantcall node", ALLOCSET_SMALL_SIZES);
	control.hcxt = map_context;
	tc_node_tables =
		hash_create("tenantcall node tables", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	control.entrysize = sizeof(TcNodeShard);
	tc_node_parts =
		hash_create("tenantcall node parts", 256, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	groups = NULL;
	ngroups = 0;
}

/* Owner of the extension; InvalidOid where it, or Citus, is not in this database. */
static Oid
extension_owner(void)
{
	HeapTuple tuple;
	Oid owner;

	if (!OidIsValid(get_extension_oid("citus", true)) ||
		!OidIsValid(get_extension_oid("tenantcall", true)))
		return InvalidOid;
	tuple = SearchSysCache1(NAMESPACENAME, CStringGetDatum("tenantcall"));
	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	owner = ((Form_pg_namespace) GETSTRUCT(tuple))->nspowner;
	ReleaseSysCache(tuple);
	return owner;
}

/* Reads Citus's catalogs, as the owner of the extension. */
static void
load_map(void)
{
	Oid owner = extension_owner();
	Oid user;
	int sec_context;
	int guc_nest;

	empty_map();
	if (!OidIsValid(owner))
		return;
	GetUserIdAndSecContext(&user, &sec_context);
	guc_nest = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	SetUserIdAndSecContext(owner, sec_context | SECURITY_LOCAL_USERID_CHANGE);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute(load_sql, IsInParallelMode() || XactReadOnly, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the catalogs of Citus");
	for (uint64 i = 0; i < SPI_processed; i++)
		take_shard(SPI_tuptable->vals[i], SPI_tuptable->tupdesc);
	SPI_finish();
	SetUserIdAndSecContext(user, sec_context);
	AtEOXact_GUC(false, guc_nest);
}

/* Makes the map current. */
static void
refresh(void)
{
	static bool registered = false;
	uint64 before = changes;

	if (!registered)
		tc_on_relation_change(relation_changed);
	registered = true;
	loading = true;
	PG_TRY();
	{
		load_map();
	}
	PG_FINALLY();
	{
		loading = false;
	}
	PG_END_TRY();
	known = before == changes;
	/* whatever was looked up meanwhile took us for a server by itself */
	for (int i = 0; i < nlisteners; i++)
		listeners[i]();
}

/* Has distribute() run in this database? */
bool
tc_node_distributed(void)
{
	if (likely(!tc_node_citus) || loading || !IsTransactionState())
		return false;
	if (unlikely(!known))
		refresh();
	return ngroups > 0;
}

/* Is this node the coordinator? */
bool
tc_node_is_coordinator(void)
{
	return tc_node_distributed() && this_node == 0;
}

/* Citus's number of this node. */
int
tc_node_number(void)
{
	return tc_node_distributed() ? this_node : 0;
}

/* Index of the company's group of shards: Citus hashes as PostgreSQL does. */
static int
group_index(int64 company_id)
{
	int32 hash = DatumGetInt32(DirectFunctionCall1(hashint8, Int64GetDatum(company_id)));
	int low = 0;
	int high = ngroups - 1;

	while (low < high)
	{
		int middle = (low + high + 1) / 2;

		if (groups[middle].min <= hash)
			low = middle;
		else
			high = middle - 1;
	}
	return low;
}

/* Index of the group of shards that is worked on now; -1: none. */
static int
present_group(void)
{
	const TcContext *context = tc_context_current();

	if (context != NULL && context->company_id != 0)
		return group_index(context->company_id);
	return visited <= ngroups ? visited - 1 : -1;
}

/* Number of the group that is worked on now. */
int
tc_node_present_group(void)
{
	return tc_node_distributed() ? present_group() + 1 : 0;
}

/* The part of a table that is on this node, of a group of shards. */
static Oid
part_of_group(Oid relid, int group, TcNodePart *part)
{
	TcNodeTable *table;

	*part = TC_PART_WHOLE;
	if (!tc_node_distributed())
		return relid;
	table = hash_search(tc_node_tables, &relid, HASH_FIND, NULL);
	if (table == NULL)
		return relid;
	*part = table->reference ? TC_PART_REFERENCE : TC_PART_SHARD;
	if (table->reference)
		relid = shard_relid(relid, table->shards[0]);
	else if (group >= 0 && table->count == ngroups)
		relid = shard_relid(relid, table->shards[group]);
	else
		relid = InvalidOid;
	if (!OidIsValid(relid))
		*part = TC_PART_ELSEWHERE;
	return relid;
}

/* The part of a table that is on this node, for the group of shards that is worked on now. */
Oid
tc_node_part(Oid relid, TcNodePart *part)
{
	return part_of_group(relid, tc_node_distributed() ? present_group() : -1, part);
}

/* The same, for a company. */
Oid
tc_node_part_of(Oid relid, int64 company_id, TcNodePart *part)
{
	return part_of_group(relid, tc_node_distributed() ? group_index(company_id) : -1, part);
}

/* Is the company at home on this node, as far as is known now? */
bool
tc_node_here(int64 company_id)
{
	return !tc_node_distributed() || groups[group_index(company_id)].node == this_node;
}

/* Citus's number of the node where the company is at home. */
int
tc_node_home(int64 company_id)
{
	return tc_node_distributed() ? groups[group_index(company_id)].node : 0;
}

/* The tag of the lock on a group of shards. */
static LOCKTAG
group_tag(int index)
{
	LOCKTAG tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) index, colocation, SHARD_GROUP_LOCK);
	return tag;
}

/* Takes the lock, and looks again whether the shards are here. */
bool
tc_node_hold(int64 company_id)
{
	LOCKTAG tag;
	int index;
	uint32 together;

	if (!tc_node_distributed())
		return true;
	do
	{
		index = group_index(company_id);
		together = colocation;
		tag = group_tag(index);
		(void) LockAcquire(&tag, ShareLock, false, false);
		AcceptInvalidationMessages();
	} while (tc_node_distributed() && (group_index(company_id) != index || colocation != together));
	return ngroups == 0 || groups[group_index(company_id)].node == this_node;
}

/* Takes the lock of a group without waiting; false if somebody is moving it, or it is not here. */
static bool
try_group(int index)
{
	LOCKTAG tag = group_tag(index);

	if (LockAcquire(&tag, ShareLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
		return false;
	AcceptInvalidationMessages();
	return tc_node_distributed() && index < ngroups && groups[index].node == this_node;
}

/* Does the work for each group of shards that is on this node, from any one on. */
bool
tc_node_each_group(bool (*work)(void *arg), void *arg, bool hold)
{
	volatile bool all = true;
	uint32 first;

	if (!tc_node_distributed())
	{
		(void) work(arg);
		return true;
	}
	first = pg_prng_uint32(&pg_global_prng_state);
	PG_TRY();
	{
		for (int i = 0; i < ngroups; i++)
		{
			int index = (int) ((first + i) % ngroups);

			if (groups[index].node != this_node)
				continue;
			if (hold && !try_group(index))
			{
				all = false;
				continue;
			}
			visited = index + 1;
			if (!work(arg))
				break;
		}
	}
	PG_FINALLY();
	{
		visited = 0;
	}
	PG_END_TRY();
	return all;
}
