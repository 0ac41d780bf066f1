/*
 * confine_core.c
 *		Functions of PostgreSQL that reach past row security, by name.
 *
 * A name ending in '*' stands for all functions that begin so.  All of these are in pg_catalog.
 */
#include "confine_core.h"

#include <stddef.h>
#include <string.h>

#define OTHER_SESSIONS "It shows or disturbs other sessions, which may work for other companies."
#define MESSAGES "Notifications reach all sessions of the database, whatever their company."
#define LARGE_OBJECTS "Large objects belong to no company, and row security does not cover them."
#define LOCK_SPACE "Advisory locks share one space of keys among all companies."
#define VOLUMES "It tells how much data all companies have together."
#define POOLED "A pooled connection keeps the statements of other companies."
#define FILES "It reads the files of the server."

static const struct
{
	const char *name;
	const char *why;
} confined[] = {
	{"pg_notify", MESSAGES},
	{"pg_listening_channels", MESSAGES},
	{"lo_*", LARGE_OBJECTS},
	{"loread", LARGE_OBJECTS},
	{"lowrite", LARGE_OBJECTS},
	{"pg_advisory_*", LOCK_SPACE},
	{"pg_try_advisory_*", LOCK_SPACE},
	{"pg_cancel_backend", OTHER_SESSIONS},
	{"pg_terminate_backend", OTHER_SESSIONS},
	{"pg_log_backend_memory_contexts", OTHER_SESSIONS},
	{"pg_lock_status", OTHER_SESSIONS},
	{"pg_blocking_pids", OTHER_SESSIONS},
	{"pg_safe_snapshot_blocking_pids", OTHER_SESSIONS},
	{"pg_prepared_xact", OTHER_SESSIONS},
	{"pg_prepared_statement", POOLED},
	{"pg_isolation_test_session_is_blocked", OTHER_SESSIONS},
	{"currtid*", "It tells of rows that row security hides."},
	{"pg_get_multixact_members", OTHER_SESSIONS},
	{"pg_stat_get_*", OTHER_SESSIONS},
	{"pg_relation_size", VOLUMES},
	{"pg_table_size", VOLUMES},
	{"pg_indexes_size", VOLUMES},
	{"pg_total_relation_size", VOLUMES},
	{"pg_database_size", VOLUMES},
	{"pg_tablespace_size", VOLUMES},
	{"pg_ls_*", FILES},
	{"pg_read_*", FILES},
	{"pg_stat_file", FILES},
};

const char *const tc_confine_citus_reason =
	"By it the nodes of the cluster work for each other, whatever the company.";

/* What Citus puts into the plans of ordinary statements, and what tells of nobody. */
static const char *const citus_for_clients[] = {
	"any_value*",
	"array_cat_agg",
	"citus_backend_gpid",
	"citus_extradata_container",
	"citus_is_coordinator",
	"citus_json_concatenate*",
	"citus_jsonb_concatenate*",
	"citus_table_is_visible",
	"citus_version",
	"cluster_clock_*",
	"coord_combine_agg*",
	"get_shard_id_for_distribution_column",
	"json_cat_agg",
	"jsonb_cat_agg",
	"read_intermediate_result*",
	"relation_is_a_known_shard",
	"worker_hash",
	"worker_nextval",
	"worker_partial_agg*",
	"worker_partition_query_result",
};

/* Does the name fit the pattern? */
static int
fits(const char *pattern, const char *name)
{
	size_t len = strlen(pattern);

	if (pattern[len - 1] == '*')
		return strncmp(pattern, name, len - 1) == 0;
	return strcmp(pattern, name) == 0;
}

/* Why an application role may not call the function; NULL: it may. */
const char *
tc_confine_function(const char *name)
{
	for (size_t i = 0; i < sizeof(confined) / sizeof(confined[0]); i++)
	{
		if (fits(confined[i].name, name))
			return confined[i].why;
	}
	return NULL;
}

/* May an application's own session call this function of Citus? */
int
tc_confine_citus_for_clients(const char *name)
{
	for (size_t i = 0; i < sizeof(citus_for_clients) / sizeof(citus_for_clients[0]); i++)
	{
		if (fits(citus_for_clients[i], name))
			return 1;
	}
	return 0;
}
