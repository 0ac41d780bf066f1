/*
 * http_account.h
 *		A credential as the HTTP worker sees it: its queues, its quota, its breaker.
 */
#ifndef TC_HTTP_ACCOUNT_H
#define TC_HTTP_ACCOUNT_H

#include "postgres.h"

#include "utils/hsearch.h"

#include "fair_core.h"
#include "http_job.h"
#include "http_shmem.h"

typedef struct TcHttpAccount
{
	char name[NAMEDATALEN];
	TcFairQueue queues[TC_HTTP_CLASSES]; /* a flow for each company */
	HTAB *flows;
	dlist_head waiting; /* jobs in the queues, in order of coming */
	dlist_node node;	/* among the accounts that have some */
	int under_way;
	int refreshing;	  /* of them, of class refresh */
	int passed_over;  /* live calls that went before a write that waits */
	int64 wait_until; /* when asking again is of use */
	TcHttpEntry *entry;
	TcHttpEntry own;   /* these stand in when shared memory has no room */
	TcQuota own_quota; /* without rules: not begun */
} TcHttpAccount;

typedef enum TcHttpVerdict
{
	TC_HTTP_GO,
	TC_HTTP_NO_QUOTA,
	TC_HTTP_NO_BREAKER, /* it is open */
	TC_HTTP_NO_PROBE	/* it is half open, and a request is under way */
} TcHttpVerdict;

extern void tc_http_accounts_init(void);
extern TcHttpAccount *tc_http_account(const char *name);
/* The flow of a job's company and class. */
extern TcFairFlow *tc_http_account_flow(TcHttpAccount *account, TcHttpJob *job);

/* May a request of this class start now?  If so it is charged; if not, *wait is in ns. */
extern TcHttpVerdict tc_http_admit(TcHttpAccount *account, TcHttpClass class,
								   const TcHttpKeyId *key, int64 *wait);
extern int64 tc_http_blocked_ms(TcHttpAccount *account); /* until one may */

/* What happens to a job, for statistics. */
extern void tc_http_note_queued(const TcHttpJob *job, int change);
extern void tc_http_note_start(const TcHttpJob *job);
extern void tc_http_note_refusal(const TcHttpJob *job, const char *reason);
/* The headers about limits may be NULL. */
extern void tc_http_note_end(const TcHttpJob *job, const TcHttpResult *result, const char *limits);
/* Tells the breaker. */
extern void tc_http_note_outcome(TcHttpAccount *account, TcBreakerOutcome outcome);

#endif /* TC_HTTP_ACCOUNT_H */
