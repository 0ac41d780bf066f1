/*
 * maintenance_cron.h
 *		Jobs in pg_cron's table: from the database that it lives in, or from another.
 */
#ifndef TC_MAINTENANCE_CRON_H
#define TC_MAINTENANCE_CRON_H

#include "postgres.h"

/*
 * Brings pg_cron's table in line with a request, in the database that it lives in, as the current
 * user; within a transaction.  Request and answer are JSON:
 *
 *		{"database": ..., "former": ..., "jobs": [{"job", "name", "former_name", "schedule",
 *		"command", "wanted"}]}  -->  {"version": ..., "jobs": [{"job", "schedule", "action"}]}
 *
 * Raises if pg_cron is not there.  The answer is allocated in the caller's memory context.
 */
extern char *tc_cron_sync(const char *request);

/* The same from another database, at once: it stays if the caller's transaction fails. */
extern char *tc_cron_sync_in(const char *database, const char *request);

extern void tc_cron_init(void);

/* Name of pg_cron's database, or NULL where the server does not load pg_cron. */
extern const char *tc_cron_database_name(void);

#endif /* TC_MAINTENANCE_CRON_H */
