/*
 * rate_policy.c
 *		Rate policies as this backend knows them.
 *
 * Policies are rows: tenantcall.rate_policy_defaults as shipped, tenantcall.rate_policies for
 * everything else.  A policy has one bandwidth or several, each with rows of its own.  For one
 * caller the most specific row of a bandwidth holds: the number's, the branch's, the company's,
 * the policy's, the shipped one.  Rows are never deleted but marked removed, so that the version
 * of what holds, the highest of these rows' versions, only rises.
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
#include "inval.h"
#include "node.h"
#include "rate_args.h"
#include "rate_policy.h"
#include "rate_table.h"
#include "ready.h"

#define MAX_CACHED 1024	  /* limits kept; beyond, the cache starts over */
#define DEFAULT_COMPANY 0 /* in CacheKey: the policy's own limit */

/* Columns of tenantcall.rate_policies, and of rate_policy_defaults. */
enum
{
	COLUMN_POLICY = 1,
	COLUMN_COMPANY, /* NULL: all; so are branch and number, which stand with a company only */
	COLUMN_BRANCH,
	COLUMN_NUMBER,
	COLUMN_BANDWIDTH,
	COLUMN_LEVEL,
	COLUMN_POLICY_ID,
	COLUMN_TOKENS,
	COLUMN_PERIOD,
	COLUMN_BURST,
	COLUMN_RESERVE,
	COLUMN_PAUSE,
	COLUMN_SHADOW,
	COLUMN_ENABLED,
	COLUMN_CHANGE_MODE,
	COLUMN_VERSION,
	COLUMN_CHANGED_AT,
	COLUMN_CHANGED_BOOT,
	COLUMN_CHANGED_CLOCK,
	COLUMN_REMOVED
};

typedef struct CacheKey
{
	char policy[TC_RATE_NAME_LEN];
	int64 company_id;
	int64 branch_id; /* this and number: only where the company has finer rows */
	char number[TC_RATE_NUMBER_LEN];
} CacheKey;

typedef struct CacheEntry
{
	CacheKey key;
	bool has_finer; /* rows of some company, or of branches and numbers of this one */
	int n;			/* bandwidths; 0: no such policy */
	TcRateLimit *limits;
} CacheEntry;

/* What a look-up gathers from the rows of one bandwidth. */
typedef struct Gathered
{
	int specificity; /* of the row that limit holds the values of; 0: none yet */
	TcRateLimit limit;
} Gathered;

typedef struct Gathering
{
	const CacheKey *key;
	bool finer; /* is there any row of a branch or number? */
	int n;
	Gathered of[TC_RATE_MAX_BANDWIDTHS];
} Gathering;

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
policies_changed(Oid relid)
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
		tc_on_relation_change(policies_changed);
		cache_context = AllocSetContextCreate(CacheMemoryContext, "tenantcall rate policies",
											  ALLOCSET_DEFAULT_SIZES);
	}
	last_hit = NULL;
	cache = NULL;
	MemoryContextReset(cache_context);
	cache_valid = true;
	schema = get_namespace_oid("tenantcall", false);
	policies_oid = tc_node_copy(relation_oid(schema, "rate_policies"));
	policies_index_oid = tc_node_index(policies_oid, relation_oid(schema, "rate_policies_key"));
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

/* How specific a row is: 5 number, 4 branch, 3 company, 2 policy, 1 shipped; 0: not for this key.
 */
static int
specificity_of(Gathering *gathering, HeapTuple tuple, TupleDesc desc, bool shipped)
{
	const CacheKey *key = gathering->key;
	bool any_company;
	bool any_branch;
	bool any_number;
	Datum branch = heap_getattr(tuple, COLUMN_BRANCH, desc, &any_branch);
	Datum number = heap_getattr(tuple, COLUMN_NUMBER, desc, &any_number);

	(void) heap_getattr(tuple, COLUMN_COMPANY, desc, &any_company);
	if (any_branch && any_number)
		return any_company ? (shipped ? 1 : 2) : 3;
	gathering->finer = true;
	if (!any_branch && DatumGetInt64(branch) != key->branch_id)
		return 0;
	if (!any_number && strcmp(TextDatumGetCString(number), key->number) != 0)
		return 0;
	return any_number ? 4 : 5;
}

/* Where a bandwidth's rows are gathered. */
static Gathered *
gathered_of(Gathering *gathering, const char *bandwidth)
{
	Gathered *gathered;

	for (int i = 0; i < gathering->n; i++)
	{
		if (strcmp(gathering->of[i].limit.bandwidth, bandwidth) == 0)
			return &gathering->of[i];
	}
	if (gathering->n == TC_RATE_MAX_BANDWIDTHS)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("rate policy \"%s\" has more than %d bandwidths",
							   gathering->key->policy, TC_RATE_MAX_BANDWIDTHS)));
	gathered = &gathering->of[gathering->n++];
	strlcpy(gathered->limit.bandwidth, bandwidth, TC_RATE_NAME_LEN);
	return gathered;
}

/* Takes over a row's values. */
static void
gather_values(TcRateLimit *limit, HeapTuple tuple, TupleDesc desc)
{
	char *level = TextDatumGetCString(column(tuple, desc, COLUMN_LEVEL));

	if (!tc_rate_level_parse(level, &limit->level) ||
		tc_rate_setup(&limit->math, DatumGetInt64(column(tuple, desc, COLUMN_TOKENS)),
					  DatumGetInt64(column(tuple, desc, COLUMN_PERIOD)),
					  DatumGetInt64(column(tuple, desc, COLUMN_BURST))) != TC_RATE_OK)
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("a rate policy is out of range"),
						errhint("Set it again with tenantcall.set_rate_policy().")));
	limit->policy_id = DatumGetInt32(column(tuple, desc, COLUMN_POLICY_ID));
	limit->reserve = DatumGetInt64(column(tuple, desc, COLUMN_RESERVE));
	limit->pause = DatumGetInt64(column(tuple, desc, COLUMN_PAUSE));
	limit->enabled = DatumGetBool(column(tuple, desc, COLUMN_ENABLED));
	limit->shadow = DatumGetBool(column(tuple, desc, COLUMN_SHADOW));
}

/* Takes a row in: the most specific not removed gives the values, the newest the version. */
static void
gather_row(Gathering *gathering, HeapTuple tuple, TupleDesc desc, bool shipped)
{
	int specificity = specificity_of(gathering, tuple, desc, shipped);
	Gathered *gathered;
	TcRateLimit *limit;
	int64 version;

	if (specificity == 0)
		return;
	gathered = gathered_of(gathering, TextDatumGetCString(column(tuple, desc, COLUMN_BANDWIDTH)));
	limit = &gathered->limit;
	version = DatumGetInt64(column(tuple, desc, COLUMN_VERSION));
	if (TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data)))
		limit->uncommitted = true;
	if (version > limit->version)
	{
		char *change = TextDatumGetCString(column(tuple, desc, COLUMN_CHANGE_MODE));

		limit->version = version;
		limit->changed_at = DatumGetTimestampTz(column(tuple, desc, COLUMN_CHANGED_AT));
		limit->changed_clock = -1;
		if (tc_rate_boot() != 0 &&
			DatumGetInt64(column(tuple, desc, COLUMN_CHANGED_BOOT)) == tc_rate_boot())
			limit->changed_clock = DatumGetInt64(column(tuple, desc, COLUMN_CHANGED_CLOCK));
		limit->change = strcmp(change, "reset") == 0 ? TC_RATE_RESET : TC_RATE_PROPORTIONAL;
	}
	if (DatumGetBool(column(tuple, desc, COLUMN_REMOVED)) || specificity <= gathered->specificity)
		return;
	gather_values(limit, tuple, desc);
	gathered->specificity = specificity;
}

/* Takes in the rows of one table with this policy and company (0: none). */
static void
gather(Gathering *gathering, Oid relid, Oid indexid, int64 company_id)
{
	Relation rel = table_open(relid, AccessShareLock);
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyEntryInitialize(&keys[0], 0, COLUMN_POLICY, BTEqualStrategyNumber, InvalidOid,
						   C_COLLATION_OID, F_TEXTEQ, CStringGetTextDatum(gathering->key->policy));
	if (company_id == DEFAULT_COMPANY)
		ScanKeyEntryInitialize(&keys[1], SK_ISNULL | SK_SEARCHNULL, COLUMN_COMPANY, InvalidStrategy,
							   InvalidOid, InvalidOid, InvalidOid, (Datum) 0);
	else
		ScanKeyInit(&keys[1], COLUMN_COMPANY, BTEqualStrategyNumber, F_INT8EQ,
					Int64GetDatum(company_id));
	scan = systable_beginscan(rel, indexid, true, NULL, 2, keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		gather_row(gathering, tuple, RelationGetDescr(rel), relid == defaults_oid);
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
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

/* Reads what holds for a key. */
static void
read_rows(Gathering *gathering, const CacheKey *key)
{
	memset(gathering, 0, sizeof(*gathering));
	gathering->key = key;
	if (key->company_id != DEFAULT_COMPANY)
		gather(gathering, policies_oid, policies_index_oid, key->company_id);
	gather(gathering, policies_oid, policies_index_oid, DEFAULT_COMPANY);
	gather(gathering, defaults_oid, defaults_index_oid, DEFAULT_COMPANY);
	if (key->company_id == DEFAULT_COMPANY)
		gathering->finer = any_override(key->policy);
}

/* Enters what was gathered into the cache. */
static CacheEntry *
enter(const CacheKey *key, const Gathering *gathering)
{
	TcRateLimit *limits =
		MemoryContextAlloc(cache_context, sizeof(TcRateLimit) * TC_RATE_MAX_BANDWIDTHS);
	CacheEntry *entry;
	int n = 0;

	for (int i = 0; i < gathering->n; i++)
	{
		if (gathering->of[i].specificity > 0)
			limits[n++] = gathering->of[i].limit;
	}
	for (int i = 0; i < n; i++)
	{
		limits[i].more = n - 1 - i;
		limits[i].together = n > 1 || limits[i].pause > 0;
		limits[i].stamp = tc_rate_stamp(limits[i].version, &limits[i].math);
	}
	entry = hash_search(cache, key, HASH_ENTER, NULL);
	entry->has_finer = gathering->finer;
	entry->n = n;
	entry->limits = limits;
	return entry;
}

/* Reads a key's rows until no change gets in between, and enters them. */
static CacheEntry *
fill(const CacheKey *key)
{
	MemoryContext loop = AllocSetContextCreate(CurrentMemoryContext, "tenantcall rate policy rows",
											   ALLOCSET_SMALL_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(loop);
	Gathering gathering;
	CacheEntry *entry;
	uint64 seen;

	do
	{
		if (!cache_valid || cache == NULL || hash_get_num_entries(cache) >= MAX_CACHED)
			reset_cache();
		seen = invalidations;
		read_rows(&gathering, key);
	} while (seen != invalidations);
	entry = enter(key, &gathering);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(loop);
	return entry;
}

/* Finds a cache entry, or fills it from the rows. */
static CacheEntry *
cached(const CacheKey *key)
{
	CacheEntry *entry;

	if (!cache_valid || cache == NULL)
		reset_cache();
	entry = hash_search(cache, key, HASH_FIND, NULL);
	return entry != NULL ? entry : fill(key);
}

/* Refuses a policy that does not exist. */
static void
raise_unknown(const char *policy)
{
	ereport(ERROR, (errcode(ERRCODE_TC_UNKNOWN), errmsg("unknown rate policy \"%s\"", policy),
					errhint("Define it with tenantcall.set_rate_policy(policy, tokens, per).")));
}

/* The entry that holds for a caller: the policy's, the company's, or one that is finer yet. */
static CacheEntry *
entry_for(CacheKey *key, const TcRateWho *who)
{
	CacheEntry *entry = cached(key);

	if (!entry->has_finer || who->tenant->company_id == DEFAULT_COMPANY)
		return entry;
	key->company_id = who->tenant->company_id;
	entry = cached(key);
	if (!entry->has_finer)
		return entry;
	key->branch_id = who->tenant->branch_id;
	if (who->number != NULL)
		strlcpy(key->number, who->number, sizeof(key->number));
	return key->branch_id != 0 || key->number[0] != '\0' ? cached(key) : entry;
}

/* Looks a policy up, and remembers the answer if it may well be the next one, too. */
static pg_noinline const TcRateLimit *
look_up(const char *policy, int length, const TcRateWho *who)
{
	CacheKey key = {0};
	CacheEntry *entry;

	if (length < 1 || length >= TC_RATE_NAME_LEN)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("a rate policy's name has 1 to %d bytes", TC_RATE_NAME_LEN - 1)));
	tc_require_ready();
	memcpy(key.policy, policy, length);
	entry = entry_for(&key, who);
	if (entry->n == 0)
		raise_unknown(key.policy);
	last_hit = NULL;
	if (key.branch_id == 0 && key.number[0] == '\0' &&
		(key.company_id == DEFAULT_COMPANY || !entry->has_finer))
	{
		last_hit = entry;
		last_length = length;
		last_for_all = key.company_id == DEFAULT_COMPANY && !entry->has_finer;
	}
	return entry->limits;
}

/* The policy as it holds for the tenant.  Valid until the next call. */
const TcRateLimit *
tc_rate_limit(const char *policy, int length, const TcRateWho *who)
{
	AcceptInvalidationMessages();
	if (likely(cache_valid && last_hit != NULL && last_length == length &&
			   (last_for_all || last_hit->key.company_id == who->tenant->company_id) &&
			   memcmp(last_hit->key.policy, policy, length) == 0))
		return last_hit->limits;
	return look_up(policy, length, who);
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
