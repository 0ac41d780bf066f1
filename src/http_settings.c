/*
 * http_settings.c
 *		Settings of the HTTP worker.  All of them take effect at a reload, but for two.
 */
#include "postgres.h"

#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/varlena.h"

#include "http.h"
#include "http_core.h"
#include "http_settings.h"

#define NS_PER_S INT64CONST(1000000000)

TcHttpSettings tc_http_settings;

/* A setting that is a number. */
typedef struct Number
{
	const char *name;
	int *value;
	int initial, min, max;
	int flags;
	const char *what;
	const char *detail;
} Number;

static const Number numbers[] = {
	{"tenantcall.http_timeout", &tc_http_settings.timeout, 10000, 100, 120000, GUC_UNIT_MS,
	 "Longest time that a request to a calendar may take, from asking for it.", NULL},
	{"tenantcall.http_connect_timeout", &tc_http_settings.connect_timeout, 3000, 50, 60000,
	 GUC_UNIT_MS, "Longest time until a calendar's server is connected.",
	 "Resolving its name and TLS included."},
	{"tenantcall.http_max_body", &tc_http_settings.max_body, 1024, 1, 65536, GUC_UNIT_KB,
	 "Longest answer that is taken from a calendar.", NULL},
	{"tenantcall.http_max_requests", &tc_http_settings.max_requests, 64, 1, 1000, 0,
	 "Requests of a database that may be under way at once.", NULL},
	{"tenantcall.http_credential_requests", &tc_http_settings.credential_requests, 16, 1, 1000, 0,
	 "Requests with one credential that may be under way at once.", NULL},
	{"tenantcall.http_queue_limit", &tc_http_settings.queue_limit, 100, 1, 1000000, 0,
	 "Requests of one company that may wait for one credential.", "More are refused at once."},
	{"tenantcall.http_poll_interval", &tc_http_settings.poll_interval, 5, 1, 3600, GUC_UNIT_S,
	 "Seconds after which the HTTP worker looks for work by itself.",
	 "It is woken when work comes; this is for what was missed."},
	{"tenantcall.http_quota", &tc_http_settings.quota, 120, 0, 1000000, 0,
	 "Requests with one credential that a calendar admits in http_quota_window; 0: no limit.",
	 "A twelfth of it is kept as a margin.  A lower limit that the calendar tells counts."},
	{"tenantcall.http_quota_window", &tc_http_settings.quota_window, 60, 1, 86400, GUC_UNIT_S,
	 "Seconds in which a calendar admits http_quota requests.", NULL},
	{"tenantcall.http_quota_burst", &tc_http_settings.quota_burst, 20, 1, 1000000, 0,
	 "Requests of them that may be sent at one moment.", NULL},
	{"tenantcall.http_quota_reserve", &tc_http_settings.quota_reserve, 5, 0, 1000000, 0,
	 "Requests that are left to callers on the line when caches are refreshed.", NULL},
	{"tenantcall.http_breaker_failures", &tc_http_settings.breaker_failures, 5, 1, 1000, 0,
	 "Failures in a row after which a credential is left alone.", NULL},
	{"tenantcall.http_breaker_successes", &tc_http_settings.breaker_successes, 2, 1, 1000, 0,
	 "Successes in a row after which it is used as before.", NULL},
	{"tenantcall.http_breaker_pause", &tc_http_settings.breaker_pause, 60, 1, 86400, GUC_UNIT_S,
	 "Seconds that a credential is left alone.", NULL},
};

/* check_hook of http_local_hosts */
static bool
check_hosts(char **value, void **extra, GucSource source)
{
	if (*value == NULL || tc_http_list_valid(*value))
		return true;
	GUC_check_errdetail("It must be a list of hosts, each with a port or without: \"localhost, "
						"127.0.0.1:8080, [::1]:8080\".");
	return false;
}

/* check_hook of worker_databases */
static bool
check_databases(char **value, void **extra, GucSource source)
{
	char *copy = pstrdup(*value == NULL ? "" : *value);
	List *names = NIL;
	bool ok;

	ok = SplitGUCList(copy, ',', &names);
	list_free(names);
	pfree(copy);
	if (!ok)
		GUC_check_errdetail("It must be a list of names, of which those with blanks and other "
							"special characters are in double quotes: 'app, \"front desk\"'.");
	return ok;
}

/* Defines those that need a restart; while preloaded. */
static void
define_at_start(void)
{
	DefineCustomStringVariable("tenantcall.worker_databases",
							   "Databases in which an HTTP worker speaks to calendars.",
							   "A list of names, separated by commas.", &tc_http_settings.databases,
							   "", PGC_POSTMASTER, GUC_LIST_INPUT, check_databases, NULL, NULL);
	DefineCustomIntVariable("tenantcall.http_max_entries",
							"Number of credentials, and companies with each, that shared memory "
							"keeps state and statistics of.",
							NULL, &tc_http_settings.max_entries, 1024, 16, 1000000, PGC_POSTMASTER,
							0, NULL, NULL, NULL);
}

/* Defines the settings. */
void
tc_http_settings_init(void)
{
	for (size_t i = 0; i < lengthof(numbers); i++)
		DefineCustomIntVariable(numbers[i].name, numbers[i].what, numbers[i].detail,
								numbers[i].value, numbers[i].initial, numbers[i].min,
								numbers[i].max, PGC_SIGHUP, numbers[i].flags, NULL, NULL, NULL);
	DefineCustomStringVariable("tenantcall.http_local_hosts",
							   "Hosts of calendars that may be reached at loopback and private "
							   "addresses, and by plain http.",
							   "For tests and demonstrations.", &tc_http_settings.local_hosts, "",
							   PGC_SIGHUP, 0, check_hosts, NULL, NULL);
	DefineCustomStringVariable("tenantcall.http_ca_file",
							   "File with the certificate authorities that calendars' servers are "
							   "checked against; empty: the system's.",
							   NULL, &tc_http_settings.ca_file, "", PGC_SIGHUP, 0, NULL, NULL,
							   NULL);
	if (process_shared_preload_libraries_in_progress)
		define_at_start();
}

/* The quota's rules. */
TcQuotaRules
tc_http_quota_rules(void)
{
	return (TcQuotaRules){tc_http_settings.quota, tc_http_settings.quota_burst,
						  tc_http_settings.quota_window * NS_PER_S};
}

/* The breaker's rules. */
TcBreakerRules
tc_http_breaker_rules(void)
{
	return (TcBreakerRules){tc_http_settings.breaker_failures, tc_http_settings.breaker_successes,
							tc_http_settings.breaker_pause * NS_PER_S};
}

/* Is this database one of those that have an HTTP worker, be it between two of them right now? */
bool
tc_http_worker_expected(void)
{
	static int expected = -1; /* the setting is fixed at the server's start; a name may change */
	static Oid database = InvalidOid;
	List *names = NIL;
	ListCell *cell;
	char *own;

	if (expected >= 0 && database == MyDatabaseId)
		return expected;
	own = get_database_name(MyDatabaseId);
	database = MyDatabaseId;
	expected = 0;
	if (own == NULL || !SplitGUCList(pstrdup(tc_http_settings.databases), ',', &names))
		return false;
	foreach(cell, names)
	{
		if (strcmp(lfirst(cell), own) == 0)
			expected = 1;
	}
	return expected;
}
