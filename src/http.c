/*
 * http.c
 *		Sets the HTTP module up.
 *
 *		http_job.h, http.h		what sources use
 *		http_launcher.c			starts the worker	http_database.c	where workers run, waking
 *		http_worker.c			its loop			http_source.c	who has work for it
 *		http_queue.c			jobs				http_account.c	quota, breaker, statistics
 *		http_send.c				to libcurl			http_lib/		libcurl, in tenantcall_http.so
 *		http_credential.c		keys in the clear	http_shmem.c	shared memory
 *		http_probe.c			requests of SQL functions: http_check.c
 *		http_stat.c				statistics, breakers by hand
 */
#include "postgres.h"

#include "http.h"
#include "http_launcher.h"
#include "http_probe.h"
#include "http_settings.h"
#include "http_shmem.h"
#include "ready.h"

/* Settings in every process; shared memory and workers while preloaded. */
void
tc_http_init(void)
{
	tc_http_settings_init();
	tc_http_probe_init();
	if (!tc_preloaded)
		return;
	tc_http_shmem_init();
	tc_http_launcher_init();
}
