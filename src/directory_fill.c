/*
 * directory_fill.c
 *		Completes a tenant context: ids from UUIDs, and UUIDs from ids.
 *
 * Companies come from directory.c.  Branches are kept here, in this process, as companies are: by
 * id, filled one at a time, forgotten when the relation cache says that the table has changed, and
 * all at once when they are as many as tenantcall.directory_cache_size.
 *
 * No shared state, no locks beyond AccessShareLock on the tables while they are read.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/uuid.h"

#include "directory.h"
#include "inval.h"
#include "telephony.h"

typedef struct BranchKey
{
	int64 company_id;
	int64 branch_id;
} BranchKey;

typedef struct BranchEntry
{
	BranchKey key;
	bool found;
	uint8 uuid[TC_UUID_LEN];
} BranchEntry;

static HTAB *branches = NULL;
static Oid watched = InvalidOid; /* the table that they were read from */
static uint64 changes = 0;		 /* counts its changes */
static uint64 cached_at = 0;	 /* value of changes at which they were last forgotten */

/* Relation cache callback. */
static void
relation_changed(Oid relid)
{
	if (relid == InvalidOid || relid == watched)
		changes++;
}

/* Makes the hash table, anew if it is there. */
static void
forget_branches(void)
{
	HASHCTL control = {.keysize = sizeof(BranchKey),
					   .entrysize = sizeof(BranchEntry),
					   .hcxt = TopMemoryContext};
	HTAB *old = branches;

	branches = NULL;
	if (old != NULL)
		hash_destroy(old);
	branches =
		hash_create("tenantcall branches", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* Forgets what is kept if the table has changed. */
static void
check_branches(const TcTelephony *tables)
{
	static bool registered = false;

	if (!registered)
		tc_on_relation_change(relation_changed);
	registered = true;
	if (tables->branches != watched)
		changes++;
	if (likely(branches != NULL && cached_at == changes))
		return;
	cached_at = changes;
	forget_branches();
	watched = tables->branches;
}

/* What completing a context reads of one row. */
typedef struct Identity
{
	const char *id_column;
	int64 id;
	uint8 uuid[TC_UUID_LEN];
} Identity;

/* Takes id and external id. */
static bool
visit_identity(HeapTuple tuple, TupleDesc desc, void *arg)
{
	Identity *identity = arg;
	Datum uuid;

	identity->id = tc_row_int8(tuple, desc, identity->id_column);
	if (tc_row_datum(tuple, desc, "external_id", &uuid))
		memcpy(identity->uuid, DatumGetUUIDP(uuid)->data, TC_UUID_LEN);
	return false;
}

/* A UUID as a Datum; the bytes must outlive it. */
static Datum
uuid_datum(const uint8 *uuid)
{
	return UUIDPGetDatum((pg_uuid_t *) uuid);
}

/* Completes the company's half. */
static bool
fill_company(const TcTelephony *tables, TcContext *context)
{
	Identity identity = {.id_column = "company_id"};
	TcMatch match = {"external_id", UUIDOID, uuid_datum(context->company_uuid)};
	TcCompany company;

	if (context->company_id == 0)
	{
		tc_read_rows(tables->companies, &match, 1, visit_identity, &identity);
		context->company_id = identity.id;
		return identity.id != 0;
	}
	if (!tc_directory_company(context->company_id, &company))
		return false;
	if (!tc_uuid_is_nil(context->company_uuid) &&
		memcmp(context->company_uuid, company.uuid, TC_UUID_LEN) != 0)
		return false;
	memcpy(context->company_uuid, company.uuid, TC_UUID_LEN);
	return true;
}

/* Finds the branch of a UUID. */
static bool
find_branch_id(const TcTelephony *tables, TcContext *context)
{
	Identity identity = {.id_column = "branch_id"};
	TcMatch matches[2] = {{"company_id", INT8OID, Int64GetDatum(context->company_id)},
						  {"external_id", UUIDOID, uuid_datum(context->branch_uuid)}};

	tc_read_rows(tables->branches, matches, 2, visit_identity, &identity);
	context->branch_id = identity.id;
	return identity.id != 0;
}

/* The branch of an id, from memory if possible; kept unless the table changed meanwhile. */
static BranchEntry
find_branch(const TcTelephony *tables, const BranchKey *key)
{
	Identity identity = {.id_column = "branch_id"};
	TcMatch matches[2] = {{"company_id", INT8OID, Int64GetDatum(key->company_id)},
						  {"branch_id", INT8OID, Int64GetDatum(key->branch_id)}};
	BranchEntry entry = {.key = *key};
	BranchEntry *kept;

	check_branches(tables);
	kept = hash_search(branches, key, HASH_FIND, NULL);
	if (kept != NULL)
		return *kept;
	tc_read_rows(tables->branches, matches, 2, visit_identity, &identity);
	entry.found = identity.id != 0;
	memcpy(entry.uuid, identity.uuid, TC_UUID_LEN);
	if (cached_at != changes)
		return entry;
	if (hash_get_num_entries(branches) >= tc_directory_cache_size)
		forget_branches();
	memcpy(hash_search(branches, key, HASH_ENTER, NULL), &entry, sizeof(entry));
	return entry;
}

/* Completes the branch's half, if a branch is named. */
static bool
fill_branch(const TcTelephony *tables, TcContext *context)
{
	BranchKey key = {context->company_id, context->branch_id};
	BranchEntry branch;

	if (context->branch_id == 0)
		return tc_uuid_is_nil(context->branch_uuid) || find_branch_id(tables, context);
	branch = find_branch(tables, &key);
	if (!branch.found || (!tc_uuid_is_nil(context->branch_uuid) &&
						  memcmp(context->branch_uuid, branch.uuid, TC_UUID_LEN) != 0))
		return false;
	memcpy(context->branch_uuid, branch.uuid, TC_UUID_LEN);
	return true;
}

/* Completes a context; false when company or branch is unknown. */
bool
tc_directory_fill(TcContext *context)
{
	const TcTelephony *tables = tc_telephony();

	if (tables == NULL)
		return true;
	return fill_company(tables, context) && fill_branch(tables, context);
}
