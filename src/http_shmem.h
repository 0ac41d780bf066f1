/*
 * http_shmem.h
 *		What the HTTP workers share with everybody: state of credentials, who works where.
 */
#ifndef TC_HTTP_SHMEM_H
#define TC_HTTP_SHMEM_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "storage/lwlock.h"

#include "breaker_core.h"
#include "http_quota.h"

#define TC_HTTP_CLASSES 3
#define TC_HTTP_MAX_WORKERS 64
#define TC_HTTP_BUCKETS 8 /* of latencies: up to 10, 30, 100, 300 ms, 1, 3, 10 s, above */
#define TC_HTTP_REASON_LEN 24
#define TC_HTTP_ALL_COMPANIES INT64CONST(-1)

typedef enum TcHttpCount
{
	TC_HTTP_REQUESTS, /* started */
	TC_HTTP_ANSWERED,
	TC_HTTP_LIMITED, /* answered with 429 */
	TC_HTTP_TIMEOUTS,
	TC_HTTP_ERRORS, /* no answer for another reason */
	TC_HTTP_REFUSED_QUOTA,
	TC_HTTP_REFUSED_BREAKER,
	TC_HTTP_REFUSED_QUEUE,
	TC_HTTP_REFUSED_OTHER
} TcHttpCount;

#define TC_HTTP_N_COUNTS (TC_HTTP_REFUSED_OTHER + 1)

/* A credential of a database; or a company's part in it, where breaker and key are unused. */
typedef struct TcHttpEntry
{
	Oid database; /* InvalidOid: free */
	int64 company_id;
	char credential[NAMEDATALEN];
	bool pinned; /* a worker uses it */
	TcBreaker breaker;
	TcHttpKeyId key; /* as it was last used; see http_quota.h */
	int64 counts[TC_HTTP_N_COUNTS];
	int64 in_flight;
	int64 queued[TC_HTTP_CLASSES];
	int64 oldest; /* tc_http_now() at which the oldest job that waits was handed in; 0: none */
	int64 latency_sum, latency_max; /* µs */
	int64 buckets[TC_HTTP_BUCKETS];
	char last_error[TC_HTTP_REASON_LEN];
	TimestampTz last_error_at;
} TcHttpEntry;

extern void tc_http_shmem_init(void);

/* Nanoseconds of a clock that nobody sets. */
extern int64 tc_http_now(void);

/* The lock of all that follows; held shortly, never while anything else is called. */
extern LWLock *tc_http_lock(void);

/* This database's entry, made if wished; NULL: none, or no room.  Exclusive lock to make one. */
extern TcHttpEntry *tc_http_entry(const char *credential, int64 company_id, bool make);
/* The next entry of this database after *position, which starts at 0. */
extern TcHttpEntry *tc_http_next_entry(int *position);
/* The worker that starts, or ends, releases what its predecessor, or it, had pinned. */
extern void tc_http_unpin_entries(void);

#endif /* TC_HTTP_SHMEM_H */
