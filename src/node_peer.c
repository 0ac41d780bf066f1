/*
 * node_peer.c
 *		Is this session one that another node of a Citus cluster has opened?
 *
 * Citus gives such sessions an application_name, and believes everybody who uses it.  We believe
 * it only of a session that had the name from its beginning, and whose peer has the address of a
 * node: what pg_dist_node names, or tenantcall.node_addresses, if these are set.  On a socket of
 * this machine there are no nodes.
 *
 * Found out once for a session.  No locks.
 */
#include "postgres.h"

#include <netdb.h>
#include <netinet/in.h>

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_namespace.h"
#include "common/ip.h"
#include "libpq/ifaddr.h"
#include "libpq/libpq-be.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/varlena.h"

#include "node.h"
#include "node_peer.h"
#include "telephony.h"

#define INTERNAL_NAME "citus_internal gpid="

static char *node_addresses = NULL;

/* A range of addresses, as in "10.0.0.0/8"; without a length one address.  False if it is none. */
static bool
parse_range(const char *text, struct sockaddr_storage *address, struct sockaddr_storage *mask)
{
	struct addrinfo hint = {.ai_flags = AI_NUMERICHOST, .ai_family = AF_UNSPEC};
	struct addrinfo *found = NULL;
	char *host = pstrdup(text);
	char *length = strchr(host, '/');
	bool good = false;

	if (length != NULL)
		*length++ = '\0';
	if (pg_getaddrinfo_all(host, NULL, &hint, &found) == 0 && found != NULL)
	{
		memcpy(address, found->ai_addr, found->ai_addrlen);
		good = pg_sockaddr_cidr_mask(mask, length, found->ai_family) == 0;
	}
	if (found != NULL)
		pg_freeaddrinfo_all(hint.ai_family, found);
	pfree(host);
	return good;
}

/* Check hook. */
static bool
addresses_check(char **newval, void **extra, GucSource source)
{
	struct sockaddr_storage address, mask;
	char *copy = pstrdup(*newval);
	List *items = NIL;
	ListCell *cell;

	if (!SplitGUCList(copy, ',', &items))
	{
		GUC_check_errdetail("It is not a list.");
		return false;
	}
	foreach(cell, items)
	{
		if (!parse_range(lfirst(cell), &address, &mask))
		{
			GUC_check_errdetail("\"%s\" is no address or range of addresses.",
								(char *) lfirst(cell));
			return false;
		}
	}
	return true;
}

/* Defines the setting. */
void
tc_node_peer_init(void)
{
	DefineCustomStringVariable("tenantcall.node_addresses",
							   "From where the nodes of a Citus cluster connect to this one.",
							   "A list of addresses and ranges. Where it is empty, these are the "
							   "addresses of the nodes' names.",
							   &node_addresses, "", PGC_SIGHUP, GUC_LIST_INPUT, addresses_check,
							   NULL, NULL);
}

/* Is the peer within the list? */
static bool
is_listed(const char *list, const struct sockaddr_storage *peer)
{
	char *copy = pstrdup(list);
	List *items = NIL;
	ListCell *cell;

	(void) SplitGUCList(copy, ',', &items);
	foreach(cell, items)
	{
		struct sockaddr_storage address, mask;

		if (parse_range(lfirst(cell), &address, &mask) && address.ss_family == peer->ss_family &&
			pg_range_sockaddr(peer, &address, &mask))
			return true;
	}
	return false;
}

/* What the look through the nodes carries along. */
typedef struct NodeSearch
{
	const struct sockaddr_storage *peer;
	bool found;
} NodeSearch;

/* Is it the peer's address? */
static bool
is_address(const struct sockaddr_storage *peer, const struct addrinfo *address)
{
	if (peer->ss_family != address->ai_addr->sa_family)
		return false;
	if (peer->ss_family == AF_INET)
		return memcmp(&((const struct sockaddr_in *) peer)->sin_addr,
					  &((const struct sockaddr_in *) address->ai_addr)->sin_addr,
					  sizeof(struct in_addr)) == 0;
	return memcmp(&((const struct sockaddr_in6 *) peer)->sin6_addr,
				  &((const struct sockaddr_in6 *) address->ai_addr)->sin6_addr,
				  sizeof(struct in6_addr)) == 0;
}

/* Takes a row of pg_dist_node. */
static bool
visit_node(HeapTuple tuple, TupleDesc desc, void *arg)
{
	NodeSearch *search = arg;
	struct addrinfo hint = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
	struct addrinfo *found = NULL;
	char *name = tc_row_text(tuple, desc, "nodename");

	if (name != NULL && pg_getaddrinfo_all(name, NULL, &hint, &found) == 0)
	{
		for (struct addrinfo *one = found; one != NULL && !search->found; one = one->ai_next)
			search->found = is_address(search->peer, one);
	}
	if (found != NULL)
		pg_freeaddrinfo_all(hint.ai_family, found);
	return !search->found;
}

/* Is the peer's address that of a node? */
static bool
peer_is_node(void)
{
	NodeSearch search = {.peer = &MyProcPort->raddr.addr};
	Oid nodes = get_relname_relid("pg_dist_node", PG_CATALOG_NAMESPACE);

	if (search.peer->ss_family != AF_INET && search.peer->ss_family != AF_INET6)
		return false;
	if (node_addresses[0] != '\0')
		return is_listed(node_addresses, search.peer);
	if (OidIsValid(nodes))
		tc_read_rows(nodes, NULL, 0, visit_node, &search);
	return search.found;
}

/* Does the session say so? */
bool
tc_node_claims_internal(void)
{
	return tc_node_citus && MyProcPort != NULL && MyProcPort->application_name != NULL &&
		   strncmp(MyProcPort->application_name, INTERNAL_NAME, strlen(INTERNAL_NAME)) == 0;
}

/* Has another node opened this session? */
bool
tc_node_internal(void)
{
	static bool known = false;
	static bool internal = false;

	if (known || !tc_node_claims_internal() || !IsTransactionState())
		return internal;
	internal = peer_is_node();
	known = true;
	if (!internal)
		ereport(LOG, (errmsg("tenantcall: a session calls itself a node's, and comes from no "
							 "node's address"),
					  errhint("If it is one: tenantcall.node_addresses.")));
	return internal;
}
