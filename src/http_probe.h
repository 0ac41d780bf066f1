/*
 * http_probe.h
 *		Requests of SQL functions that wait for the answer: check_credential() and its like.
 */
#ifndef TC_HTTP_PROBE_H
#define TC_HTTP_PROBE_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "http_job.h"

#define TC_HTTP_PROBE_TEXT 512

/* What is to be asked, and how often. */
typedef struct TcHttpProbeOrder
{
	char credential[NAMEDATALEN];
	TcHttpClass class;
	int64 company_id;
	char method[8];
	char path[TC_HTTP_PROBE_TEXT];
	char body[TC_HTTP_PROBE_TEXT]; /* empty: none */
	int64 requests;
	int64 at_once; /* of them, at most */
	TimestampTz deadline;
} TcHttpProbeOrder;

/* What came of it. */
typedef struct TcHttpProbeSum
{
	int64 answered; /* with a status below 400 */
	int64 refused;	/* not sent */
	int64 failed;
	int status; /* of the last answer, 0: none */
	int64 len;	/* of its body */
	bool sent;	/* was anything? */
	char reason[24];
	int64 latency_sum, latency_max; /* µs, of those that were answered */
	int64 retry_after_ms;
} TcHttpProbeSum;

extern void tc_http_probe_init(void);
extern Size tc_http_probe_size(void);
extern void tc_http_probe_startup(void);

/* Has the worker ask; waits until all is done.  Raises when there is no worker or no slot. */
extern void tc_http_probe(const TcHttpProbeOrder *order, TcHttpProbeSum *sum);

#endif /* TC_HTTP_PROBE_H */
