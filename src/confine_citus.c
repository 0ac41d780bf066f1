/*
 * confine_citus.c
 *		What application roles may not call of Citus.
 *
 * Citus lets everybody execute the functions by which its nodes talk to each other: these read what
 * other transactions of the role have left in files, run EXPLAIN, lock shards, or show and cancel
 * other sessions.  An application's session may call those alone that Citus itself puts into plans
 * of ordinary statements (confine_core.c).  A session that another node has opened may call what
 * that node needs.
 *
 * The answer is kept per function until some function changes.  No locks.
 */
#include "postgres.h"

#include "access/parallel.h"
#include "catalog/dependency.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "confine.h"
#include "confine_core.h"
#include "node.h"
#include "node_peer.h"

#define MISTAKEN                                                                                   \
	"The session calls itself a node's, but comes from no node's address: see "                    \
	"tenantcall.node_addresses."

/* What is known of a function. */
typedef struct Known
{
	Oid function; /* key */
	bool of_citus;
	bool for_clients;
	const char *why; /* refused to nodes as well */
} Known;

static HTAB *functions = NULL;

/* Syscache callback: some function changed. */
static void
functions_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	if (functions != NULL)
		hash_destroy(functions);
	functions = NULL;
}

/* Finds out about a function. */
static Known
find_out(Oid function)
{
	Known known = {.function = function};
	Oid citus = get_extension_oid("citus", true);
	char *name = get_func_name(function);

	known.of_citus = name != NULL && OidIsValid(citus) &&
					 getExtensionOfObject(ProcedureRelationId, function) == citus;
	if (!known.of_citus)
		return known;
	if (get_func_namespace(function) == PG_CATALOG_NAMESPACE)
		known.why = tc_confine_function(name);
	known.for_clients = tc_confine_citus_for_clients(name);
	return known;
}

/* The same, remembered. */
static Known
look_up(Oid function)
{
	static bool registered = false;
	HASHCTL control = {.keysize = sizeof(Oid), .entrysize = sizeof(Known)};
	Known *found;
	Known known;

	if (!registered)
		CacheRegisterSyscacheCallback(PROCOID, functions_changed, (Datum) 0);
	registered = true;
	if (functions != NULL)
	{
		found = hash_search(functions, &function, HASH_FIND, NULL);
		if (likely(found != NULL))
			return *found;
	}
	known = find_out(function);
	if (functions == NULL)
		functions = hash_create("tenantcall functions", 64, &control, HASH_ELEM | HASH_BLOBS);
	found = hash_search(functions, &function, HASH_ENTER, NULL);
	*found = known;
	return known;
}

/* Why an application's session may not call the function; NULL: it may, or it is none of Citus. */
const char *
tc_confine_citus(Oid function)
{
	Known known;

	if (likely(!tc_node_citus) || IsParallelWorker())
		return NULL; /* the leader of a parallel worker was asked as well */
	known = look_up(function);
	if (!known.of_citus)
		return NULL;
	if (known.why != NULL || known.for_clients || tc_node_internal())
		return known.why;
	return tc_node_claims_internal() ? MISTAKEN : tc_confine_citus_reason;
}
