/*
 * http_worker.h
 *		Within the HTTP worker: its loop, its queues, and libcurl's library.
 */
#ifndef TC_HTTP_WORKER_H
#define TC_HTTP_WORKER_H

#include "postgres.h"

#include "http_job.h"
#include "http_lib/http_lib.h"

/*
 * Runs code that may raise.  False if it did: the error is logged, transactions are rolled back.
 * Outside of any transaction before and after.
 */
extern bool tc_http_protected(void (*run)(void *arg), void *arg);

/* The loaded library, or NULL where it is not installed. */
extern const TcHttpLibApi *tc_http_lib;
extern TcHttpLib *tc_http_engine;

/* http_send.c: loads the library */
extern void tc_http_send_init(void);

/* http_queue.c */
extern void tc_http_queue_init(void);
/* Starts what may start; *wait is lowered to the ms after which it is to be called again. */
extern void tc_http_dispatch(long *wait);
/* Tells sources of everything that has ended; true if there was anything. */
extern bool tc_http_deliver(void);
extern bool tc_http_busy(int *number);
extern bool tc_http_refusals(void); /* is there anything to tell already? */
/* Refuses all that waits: another node is elected to speak to calendars. */
extern void tc_http_refuse_all(void);
/* At the end of the worker: tells sources that nothing more will come. */
extern void tc_http_shut_down(int64 until);

/* The end of a request. */
typedef struct TcHttpTransferEnd
{
	TcHttpJob *job;
	TcHttpResult result;
	const char *limits; /* headers */
	bool counts;		/* as a failure if there is no answer: it was not cut short by its caller */
} TcHttpTransferEnd;

#endif /* TC_HTTP_WORKER_H */
