/*
 * http_launcher.h
 *		Starts an HTTP worker in each database of tenantcall.worker_databases.
 */
#ifndef TC_HTTP_LAUNCHER_H
#define TC_HTTP_LAUNCHER_H

extern void tc_http_launcher_init(void);
/* Is this process's database one that is to have a worker? */
extern bool tc_http_database_listed(void);

#endif /* TC_HTTP_LAUNCHER_H */
