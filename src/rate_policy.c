/*
 * rate_policy.c
 *		Rate policies as this backend knows them.
 *
 * Policies are rows: tenantcall.rate_policy_defaults as shipped, tenantcall.rate_policies for
 * everything else.  For one company the most specific row holds: the company's own, the policy's,
 * the shipped one.  Rows are never deleted but marked removed, so that the version of what holds,
 * the highest of the three rows' versions, only rises.
 *
 * Look-ups are answered from a local cache.  A row trigger on both tables sends a relcache
 * invalidation of them, which commits and aborts with the change, and reaches standbys; each
 * look-up first takes in what has arrived.  An invalidation only marks the cache: it is emptied
 * before the next look-up, and a fill during which one arrived starts over.
 *
 * Rows are read with a catalog snapshot, which for such tables is taken anew each time: an old
 * REPEATABLE READ snapshot would not see what has been committed since.  It does see what the
 * current transaction itself has changed; that is marked (uncommitted) and governs buckets of its
 * own, so that a change which may yet be rolled back touches nobody else.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "commands/trigger.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "errors.h"
#include "rate_policy.h"
#include "tenantcall.h"

#define NAME_SIZE 64	  /* longest name, and a zero byte */
#define MAX_CACHED 1024	  /* limits kept; beyond, the cache starts over */
#define DEFAULT_COMPANY 0 /* in CacheKey: the policy's own limit */

/* Columns of tenantcall.rate_policies, and of rate_policy_defaults but for company_id (NULL). */
enum
{
	COLUMN_POLICY = 1,
	COLUMN_COMPANY,
	COLUMN_POLICY_ID,
	COLUMN_TOKENS,
	COLUMN_PERIOD,
	COLUMN_BURST,
	COLUMN_SHADOW,
	COLUMN_ENABLED,
	COLUMN_CHANGE_MODE,
	COLUMN_VERSION,
	COLUMN_CHANGED_AT,
	COLUMN_REMOVED,
	N_COLUMNS = COLUMN_REMOVED
};

typedef struct CacheKey
{
	char policy[NAME_SIZE];
	int64 company_id;
} CacheKey;

typedef struct CacheEntry
{
	CacheKey key;
	bool has_overrides; /* of some company; known in the policy's own entry */
	bool exists;
	TcRateLimit limit;
} CacheEntry;

/* What a look-up gathers from the rows. */
typedef struct Gathered
{
	bool found; /* limit holds a row's values */
	bool any;	/* version, change and changed_at do */
	TcRateLimit limit;
} Gathered;

static MemoryContext cache_context = NULL;
static HTAB *cache = NULL;
static CacheEntry *last_hit = NULL; /* into cache */
static int last_length = 0;
static bool last_for_all = false; /* it holds for every company */
static bool cache_valid = false;
static uint64 invalidations = 0;

static Oid policies_oid = InvalidOid; /* known while the cache is valid */
static Oid policies_index_oid = InvalidOid;
static Oid defaults_oid = InvalidOid;
static Oid defaults_index_oid = InvalidOid;

/* Relcache callback: a policy changed. */
static void
policies_changed(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == policies_oid || relid == defaults_oid)
	{
		cache_valid = false;
		invalidations++;
	}
}

/* OID of a relation of schema tenantcall, which must exist. */
static Oid
relation_oid(Oid schema, const char *name)
{
	Oid oid = get_relname_relid(name, schema);

	if (!OidIsValid(oid))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
						errmsg("relation \"tenantcall.%s\" does not exist", name),
						errhint("Run CREATE EXTENSION tenantcall.")));
	return oid;
}

/* Empties the cache, or makes it. */
static void
reset_cache(void)
{
	HASHCTL control = {0};
	Oid schema;

	if (cache_context == NULL)
	{
		CacheRegisterRelcacheCallback(policies_changed, (Datum) 0);
		cache_context = AllocSetContextCreate(CacheMemoryContext, "tenantcall rate policies",
											  ALLOCSET_DEFAULT_SIZES);
	}
	last_hit = NULL;
	cache = NULL;
	MemoryContextReset(cache_context);
	cache_valid = true;
	schema = get_namespace_oid("tenantcall", false);
	policies_oid = relation_oid(schema, "rate_policies");
	policies_index_oid = relation_oid(schema, "rate_policies_key");
	defaults_oid = relation_oid(schema, "rate_policy_defaults");
	defaults_index_oid = relation_oid(schema, "rate_policy_defaults_key");

	control.keysize = sizeof(CacheKey);
	control.entrysize = sizeof(CacheEntry);
	control.hcxt = cache_context;
	cache = hash_create("tenantcall rate policies", 64, &control,
						HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* A column of a row, all of which are NOT NULL but the company. */
static Datum
column(HeapTuple tuple, TupleDesc desc, int number)
{
	bool isnull;
	Datum value = heap_getattr(tuple, number, desc, &isnull);

	if (isnull)
		elog(ERROR, "column %d of a rate policy is null", number);
	return value;
}

/* Takes a row in: the first that is not removed gives the values, the newest the version. */
static void
gather_row(Gathered *gathered, HeapTuple tuple, TupleDesc desc)
{
	TcRateLimit *limit = &gathered->limit;
	int64 version = DatumGetInt64(column(tuple, desc, COLUMN_VERSION));

	if (TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data)))
		limit->uncommitted = true;
	if (!gathered->any || version > limit->version)
	{
		char *change = TextDatumGetCString(column(tuple, desc, COLUMN_CHANGE_MODE));

		limit->version = version;
		limit->changed_at = DatumGetTimestampTz(column(tuple, desc, COLUMN_CHANGED_AT));
		limit->change = strcmp(change, "reset") == 0 ? TC_RATE_RESET : TC_RATE_PROPORTIONAL;
		pfree(change);
	}
	gathered->any = true;
	if (gathered->found || DatumGetBool(column(tuple, desc, COLUMN_REMOVED)))
		return;
	if (tc_rate_setup(&limit->math, DatumGetInt64(column(tuple, desc, COLUMN_TOKENS)),
					  DatumGetInt64(column(tuple, desc, COLUMN_PERIOD)),
					  DatumGetInt64(column(tuple, desc, COLUMN_BURST))) != TC_RATE_OK)
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("a rate policy is out of range"),
						errhint("Set it again with tenantcall.set_rate_policy().")));
	limit->policy_id = DatumGetInt32(column(tuple, desc, COLUMN_POLICY_ID));
	limit->enabled = DatumGetBool(column(tuple, desc, COLUMN_ENABLED));
	limit->shadow = DatumGetBool(column(tuple, desc, COLUMN_SHADOW));
	gathered->found = true;
}

/* Takes in the rows of one table with this policy and company (0: none). */
static void
gather(Gathered *gathered, Oid relid, Oid indexid, const CacheKey *key)
{
	Relation rel = table_open(relid, AccessShareLock);
	Datum policy = CStringGetTextDatum(key->policy);
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyEntryInitialize(&keys[0], 0, COLUMN_POLICY, BTEqualStrategyNumber, InvalidOid,
						   C_COLLATION_OID, F_TEXTEQ, policy);
	if (key->company_id == DEFAULT_COMPANY)
		ScanKeyEntryInitialize(&keys[1], SK_ISNULL | SK_SEARCHNULL, COLUMN_COMPANY, InvalidStrategy,
							   InvalidOid, InvalidOid, InvalidOid, (Datum) 0);
	else
		ScanKeyInit(&keys[1], COLUMN_COMPANY, BTEqualStrategyNumber, F_INT8EQ,
					Int64GetDatum(key->company_id));
	scan = systable_beginscan(rel, indexid, true, NULL, 2, keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		gather_row(gathered, tuple, RelationGetDescr(rel));
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	pfree(DatumGetPointer(policy));
}

/* Is there any company with a row of its own for this policy? */
static bool
any_override(const char *policy_name)
{
	Relation rel = table_open(policies_oid, AccessShareLock);
	Datum policy = CStringGetTextDatum(policy_name);
	ScanKeyData keys[2];
	SysScanDesc scan;
	bool found;

	ScanKeyEntryInitialize(&keys[0], 0, COLUMN_POLICY, BTEqualStrategyNumber, InvalidOid,
						   C_COLLATION_OID, F_TEXTEQ, policy);
	ScanKeyEntryInitialize(&keys[1], SK_ISNULL | SK_SEARCHNOTNULL, COLUMN_COMPANY, InvalidStrategy,
						   InvalidOid, InvalidOid, InvalidOid, (Datum) 0);
	scan = systable_beginscan(rel, policies_index_oid, true, NULL, 2, keys);
	found = HeapTupleIsValid(systable_getnext(scan));
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	pfree(DatumGetPointer(policy));
	return found;
}

/* Reads what holds for a policy and company. */
static void
read_rows(const CacheKey *key, CacheEntry *filled)
{
	Gathered gathered = {0};
	CacheKey default_key = *key;

	default_key.company_id = DEFAULT_COMPANY;
	filled->key = *key;
	if (key->company_id != DEFAULT_COMPANY)
		gather(&gathered, policies_oid, policies_index_oid, key);
	gather(&gathered, policies_oid, policies_index_oid, &default_key);
	gather(&gathered, defaults_oid, defaults_index_oid, &default_key);
	filled->has_overrides = key->company_id == DEFAULT_COMPANY && any_override(key->policy);
	filled->exists = gathered.found;
	filled->limit = gathered.limit;
}

/* Finds a cache entry, or fills it from the rows. */
static CacheEntry *
cached(const CacheKey *key)
{
	CacheEntry filled;
	CacheEntry *entry;
	uint64 seen;

	if (!cache_valid || cache == NULL)
		reset_cache();
	entry = hash_search(cache, key, HASH_FIND, NULL);
	if (entry != NULL)
		return entry;
	do
	{
		if (!cache_valid || cache == NULL || hash_get_num_entries(cache) >= MAX_CACHED)
			reset_cache();
		seen = invalidations;
		read_rows(key, &filled);
	} while (seen != invalidations);
	entry = hash_search(cache, key, HASH_ENTER, NULL);
	*entry = filled;
	return entry;
}

/* Refuses a policy that does not exist. */
static void
raise_unknown(const char *policy)
{
	ereport(ERROR, (errcode(ERRCODE_TC_UNKNOWN), errmsg("unknown rate policy \"%s\"", policy),
					errhint("Define it with tenantcall.set_rate_policy(policy, tokens, per).")));
}

/* The policy as it holds for the company (0: none).  Valid until the next call. */
const TcRateLimit *
tc_rate_limit(const char *policy, int length, int64 company_id)
{
	CacheKey key = {0};
	CacheEntry *entry;

	AcceptInvalidationMessages();
	if (likely(cache_valid && last_hit != NULL && last_length == length &&
			   (last_for_all || last_hit->key.company_id == company_id) &&
			   memcmp(last_hit->key.policy, policy, length) == 0))
		return &last_hit->limit;

	if (length < 1 || length >= NAME_SIZE)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("a rate policy's name has 1 to %d bytes", NAME_SIZE - 1)));
	tc_require_ready();
	memcpy(key.policy, policy, length);
	entry = cached(&key);
	if (entry->has_overrides && company_id != DEFAULT_COMPANY)
	{
		key.company_id = company_id;
		entry = cached(&key);
	}
	if (!entry->exists)
		raise_unknown(key.policy);
	last_hit = entry;
	last_length = length;
	last_for_all = key.company_id == DEFAULT_COMPANY && !entry->has_overrides;
	return &entry->limit;
}

PG_FUNCTION_INFO_V1(tc_rate_policy_changed);

/* Row and truncate trigger of both tables: tells every backend at commit; rows must stay. */
Datum
tc_rate_policy_changed(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		elog(ERROR, "tc_rate_policy_changed: not called as a trigger");
	if (TRIGGER_FIRED_BY_DELETE(trigger->tg_event) || TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("rate policies are not deleted"),
						errdetail("Buckets in use go by the highest version they have seen."),
						errhint("Use tenantcall.drop_rate_policy().")));
	CacheInvalidateRelcacheByRelid(RelationGetRelid(trigger->tg_relation));
	return PointerGetDatum(NULL);
}
