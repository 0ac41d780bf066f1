/*
 * http_settings.h
 *		Settings of the HTTP worker.
 */
#ifndef TC_HTTP_SETTINGS_H
#define TC_HTTP_SETTINGS_H

#include "postgres.h"

#include "breaker_core.h"
#include "quota_core.h"

typedef struct TcHttpSettings
{
	char *databases;		 /* worker_databases */
	char *local_hosts;		 /* http_local_hosts */
	char *ca_file;			 /* http_ca_file */
	int timeout;			 /* ms */
	int connect_timeout;	 /* ms */
	int max_body;			 /* kB */
	int max_requests;		 /* under way, of all credentials */
	int credential_requests; /* of one */
	int queue_limit;		 /* jobs of one company that wait for one credential */
	int poll_interval;		 /* s */
	int max_entries;		 /* of shared memory */
	int quota, quota_burst, quota_reserve;
	int quota_window; /* s */
	int breaker_failures, breaker_successes;
	int breaker_pause; /* s */
} TcHttpSettings;

extern TcHttpSettings tc_http_settings;

extern void tc_http_settings_init(void);
extern TcQuotaRules tc_http_quota_rules(void);
extern TcBreakerRules tc_http_breaker_rules(void);

#endif /* TC_HTTP_SETTINGS_H */
