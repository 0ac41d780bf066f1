/*
 * http_job.h
 *		A request that a source hands to the HTTP worker, and what became of it.
 */
#ifndef TC_HTTP_JOB_H
#define TC_HTTP_JOB_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "lib/ilist.h"
#include "lib/pairingheap.h"

#include "fair_core.h"

/* Before all others: the caller is on the line.  Last: what nobody waits for. */
typedef enum TcHttpClass
{
	TC_HTTP_LIVE,
	TC_HTTP_WRITE,
	TC_HTTP_REFRESH
} TcHttpClass;

typedef struct TcHttpResult
{
	bool answered; /* a complete answer is there: status, body */
	bool sent;	   /* may have reached the peer; false only if it surely has not */
	int status;
	const char *body; /* zero-terminated, valid until done() returns */
	size_t len;
	int64 retry_after_ms; /* from headers, quota or breaker; -1: unknown */
	const char *reason;	  /* short, stable, no secrets (http_reasons.h); NULL if answered */
} TcHttpResult;

typedef struct TcHttpJob TcHttpJob;

struct TcHttpJob
{
	TcHttpClass class;
	int64 company_id;
	char credential[NAMEDATALEN];
	const char *method;		 /* "GET", "POST", "PATCH", "DELETE" */
	const char *path;		 /* "/v2/slots?...", follows the credential's base_url */
	const char *api_version; /* value of cal-api-version; NULL: none */
	const char *body;		 /* JSON; NULL: none.  All of these stay the source's until done() */
	size_t body_len;
	TimestampTz deadline; /* not sent after, aborted at; 0: tenantcall.http_timeout from now */
	/*
	 * Called exactly once, from the worker's loop, outside of any transaction, never from within
	 * tc_http_submit().  May submit jobs, and may free this one.  What it raises is logged.
	 */
	void (*done)(TcHttpJob *job, const TcHttpResult *result);
	void *arg;

	/* private to http_queue.c; a job starts zeroed */
	struct TcHttpAccount *account;
	struct TcHttpEntry *share; /* the company's part in the account's statistics, or NULL */
	int64 expires;			   /* of tc_http_now() */
	int64 submitted, started;
	int place; /* where it is: queued, in flight, refused */
	TcFairItem fair;
	pairingheap_node expiry;
	dlist_node node;
	TcHttpResult refusal;
};

#endif /* TC_HTTP_JOB_H */
