/*
 * http.h
 *		The HTTP worker: what it offers to the modules that speak to calendars.
 *
 * One background worker per database owns all connections.  Modules ("sources") register at load
 * time; in the worker they look for work, hand in jobs, and are told the result of each.
 */
#ifndef TC_HTTP_H
#define TC_HTTP_H

#include "postgres.h"

#include "http_job.h"

typedef struct TcHttpSource
{
	const char *name;
	void (*start)(void);	   /* once, when the worker has connected; may be NULL */
	void (*poll)(void);		   /* on each wake and when due; outside of any transaction */
	TimestampTz (*next)(void); /* when poll() is due at the latest, 0: no wish; may be NULL */
	bool wants_extension;	   /* poll only while the extension exists in this database */
	bool everywhere;		   /* also where another node of a cluster speaks to calendars */
} TcHttpSource;

extern void tc_http_init(void);

/* At load time of the source's module, in every process; the worker alone uses the list. */
extern void tc_http_add_source(const TcHttpSource *source);

/* In the worker.  Results come through done(); a refusal too, a moment later. */
extern void tc_http_submit(TcHttpJob *job);

/* A job that has not begun is not sent any more, and ends as refused; others go on. */
extern void tc_http_take_back(TcHttpJob *job);

/*
 * What the source makes of an answer, for the breaker; to be called from done() at most once.
 * Without it the status decides: 5xx is a failure, 401 and 403 are denials.
 */
extern void tc_http_report(const TcHttpJob *job, bool failure);
extern void tc_http_report_denied(const TcHttpJob *job); /* the key is refused: opens at once */

/* In any process: wakes this database's worker, now or when the transaction commits. */
extern void tc_http_wake(void);
extern void tc_http_wake_at_commit(void);
extern bool tc_http_worker_alive(void);

/* Is there to be one, according to tenantcall.worker_databases?  It may just be starting. */
extern bool tc_http_worker_expected(void);

#endif /* TC_HTTP_H */
