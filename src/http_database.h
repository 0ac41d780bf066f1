/*
 * http_database.h
 *		Which HTTP worker runs in which database.
 */
#ifndef TC_HTTP_DATABASE_H
#define TC_HTTP_DATABASE_H

#include "postgres.h"

extern Size tc_http_database_size(void);
extern void tc_http_database_startup(void);

/* The worker enters itself, until it exits; false: another one runs already, or there is no room.
 */
extern bool tc_http_database_enter(void);
/* The same of the process that does maintenance for it. */
extern bool tc_http_database_help(void);
/*
 * What this database's worker does about calendars (elected.h), and after which election it has
 * ended to speak; the latter false if there is no worker.
 */
extern void tc_http_database_set_duty(int duty, int64 retired);
extern bool tc_http_database_duty(int *duty, int64 *retired);
/* Is there a worker in that database, or is it to stay without one for the moment? */
extern bool tc_http_database_taken(Oid database);
/*
 * Ends the worker of a database that is about to be dropped, renamed or copied, and keeps the
 * launcher from starting another one for some seconds.
 */
extern void tc_http_database_clear(Oid database);

#endif /* TC_HTTP_DATABASE_H */
