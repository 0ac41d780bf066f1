/*
 * http_account.c
 *		A credential as the HTTP worker sees it: its queues, its quota, its breaker.
 *
 * Queues are the worker's own.  Quota, breaker and statistics are in shared memory, in entries that
 * the worker has pinned; tc_http_lock() is taken for each change, and nothing is called under it
 * that could wait or raise.
 */
#include "postgres.h"

#include "storage/lwlock.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "calcom_limit_core.h"
#include "http_account.h"
#include "http_reasons.h"
#include "http_settings.h"
#include "time_core.h"

#define NS_PER_S INT64CONST(1000000000)
#define FEW_FLOWS 64 /* that need not be cleared away */
#define TOO_MANY_REQUESTS 429

typedef struct FlowKey
{
	int64 company_id;
	int64 class;
} FlowKey;

typedef struct Flow
{
	FlowKey key;
	TcFairFlow fair;
	TcHttpEntry *share;
} Flow;

/* Latencies, in µs, up to which a bucket counts. */
static const int64 bucket_ends[TC_HTTP_BUCKETS - 1] = {10000,	30000,	 100000,  300000,
													   1000000, 3000000, 10000000};

static HTAB *accounts = NULL;

/* When the worker starts. */
void
tc_http_accounts_init(void)
{
	HASHCTL control = {.keysize = NAMEDATALEN, .entrysize = sizeof(TcHttpAccount)};

	control.hcxt = TopMemoryContext;
	accounts =
		hash_create("tenantcall accounts", 16, &control, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
}

/* Pins the entry of shared memory; NULL if there is no room. */
static TcHttpEntry *
pin_entry(const char *name, int64 company_id)
{
	TcHttpEntry *entry;

	LWLockAcquire(tc_http_lock(), LW_EXCLUSIVE);
	entry = tc_http_entry(name, company_id, true);
	if (entry != NULL)
		entry->pinned = true;
	LWLockRelease(tc_http_lock());
	return entry;
}

/* Makes the table of flows. */
static HTAB *
make_flows(void)
{
	HASHCTL control = {.keysize = sizeof(FlowKey), .entrysize = sizeof(Flow)};

	control.hcxt = TopMemoryContext;
	return hash_create("tenantcall flows", 16, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* The account of a credential. */
TcHttpAccount *
tc_http_account(const char *name)
{
	TcHttpAccount *account;
	bool found;

	account = hash_search(accounts, name, HASH_ENTER, &found);
	if (found)
		return account;
	memset((char *) account + NAMEDATALEN, 0, sizeof(*account) - NAMEDATALEN);
	dlist_init(&account->waiting);
	account->flows = make_flows();
	account->entry = pin_entry(name, TC_HTTP_ALL_COMPANIES);
	if (account->entry == NULL)
	{
		account->entry = &account->own;
		ereport(LOG, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					  errmsg("no statistics are kept of calendar account \"%s\"", name),
					  errhint("Increase tenantcall.http_max_entries.")));
	}
	return account;
}

/* Forgets flows that are idle, once they have become many. */
static void
clear_flows(TcHttpAccount *account)
{
	for (int class = 0; class < TC_HTTP_CLASSES; class ++)
	{
		if (account->queues[class].length > 0)
			return;
	}
	if (hash_get_num_entries(account->flows) <= FEW_FLOWS)
		return;
	hash_destroy(account->flows);
	account->flows = make_flows();
	memset(account->queues, 0, sizeof(account->queues));
}

/* The flow of a job's company and class. */
TcFairFlow *
tc_http_account_flow(TcHttpAccount *account, TcHttpJob *job)
{
	FlowKey key = {job->company_id, job->class};
	bool found;
	Flow *flow;

	clear_flows(account);
	flow = hash_search(account->flows, &key, HASH_ENTER, &found);
	if (!found)
	{
		memset(&flow->fair, 0, sizeof(flow->fair));
		flow->share = job->company_id > 0 ? pin_entry(account->name, job->company_id) : NULL;
	}
	job->share = flow->share;
	return &flow->fair;
}

/* The quota of the account's key; the lock is held. */
static TcQuota *
quota_of(TcHttpAccount *account)
{
	TcQuotaRules rules = tc_http_quota_rules();
	TcQuota *quota = tc_http_quota(&account->entry->key, true);
	int64 now = tc_http_now();

	if (quota == NULL)
	{
		quota = &account->own_quota;
		if (quota->rules.window == 0)
			tc_quota_init(quota, &rules, now);
	}
	tc_quota_configure(quota, &rules, now);
	return quota;
}

/* Charges quota and breaker with a request; the lock is held. */
static TcHttpVerdict
charge(TcHttpAccount *account, TcHttpClass class, int64 now, int64 *wait)
{
	TcBreakerRules rules = tc_http_breaker_rules();
	TcBreaker *breaker = &account->entry->breaker;
	TcQuota *quota = quota_of(account);
	int64 reserve = class == TC_HTTP_REFRESH ? tc_http_settings.quota_reserve : 0;

	if (!tc_breaker_admit(breaker, &rules, now, wait))
		return *wait > 0 ? TC_HTTP_NO_BREAKER : TC_HTTP_NO_PROBE;
	if (tc_quota_take(quota, now, reserve))
		return TC_HTTP_GO;
	*wait = tc_quota_wait(quota, now, reserve);
	tc_breaker_report(breaker, &rules, TC_BREAKER_NEUTRAL, now);
	return TC_HTTP_NO_QUOTA;
}

/* May a request of this class start now? */
TcHttpVerdict
tc_http_admit(TcHttpAccount *account, TcHttpClass class, const TcHttpKeyId *key, int64 *wait)
{
	TcHttpVerdict verdict;

	LWLockAcquire(tc_http_lock(), LW_EXCLUSIVE);
	account->entry->key = *key;
	verdict = charge(account, class, tc_http_now(), wait);
	LWLockRelease(tc_http_lock());
	return verdict;
}

/* Milliseconds until a request may start. */
int64
tc_http_blocked_ms(TcHttpAccount *account)
{
	int64 wait;

	LWLockAcquire(tc_http_lock(), LW_EXCLUSIVE);
	wait = tc_quota_wait(quota_of(account), tc_http_now(), 0);
	LWLockRelease(tc_http_lock());
	return (wait + 999999) / 1000000;
}

/* The entries that a job is counted in; at most two. */
static int
entries_of(const TcHttpJob *job, TcHttpEntry *entries[2])
{
	entries[0] = job->account->entry;
	entries[1] = job->share;
	return job->share != NULL ? 2 : 1;
}

/* A job comes into a queue, or leaves it. */
void
tc_http_note_queued(const TcHttpJob *job, int change)
{
	const TcHttpAccount *account = job->account;
	TcHttpEntry *entries[2];
	int n = entries_of(job, entries);

	LWLockAcquire(tc_http_lock(), LW_EXCLUSIVE);
	for (int i = 0; i < n; i++)
		entries[i]->queued[job->class] += change;
	account->entry->oldest =
		dlist_is_empty(unconstify(dlist_head *, &account->waiting))
			? 0
			: dlist_head_element(TcHttpJob, node, unconstify(dlist_head *, &account->waiting))
				  ->submitted;
	LWLockRelease(tc_http_lock());
}

/* A request starts. */
void
tc_http_note_start(const TcHttpJob *job)
{
	TcHttpEntry *entries[2];
	int n = entries_of(job, entries);

	LWLockAcquire(tc_http_lock(), LW_EXCLUSIVE);
	for (int i = 0; i < n; i++)
	{
		entries[i]->in_flight++;
		entries[i]->counts[TC_HTTP_REQUESTS]++;
	}
	LWLockRelease(tc_http_lock());
}

/* Notes why there was no answer. */
static void
note_error(TcHttpEntry *entry, const char *reason)
{
	strlcpy(entry->last_error, reason, TC_HTTP_REASON_LEN);
	entry->last_error_at = GetCurrentTimestamp();
}

/* What a refusal is counted as. */
static TcHttpCount
refusal_count(const char *reason)
{
	if (strcmp(reason, TC_HTTP_R_QUOTA) == 0)
		return TC_HTTP_REFUSED_QUOTA;
	if (strcmp(reason, TC_HTTP_R_BREAKER) == 0)
		return TC_HTTP_REFUSED_BREAKER;
	if (strcmp(reason, TC_HTTP_R_QUEUE_FULL) == 0)
		return TC_HTTP_REFUSED_QUEUE;
	return TC_HTTP_REFUSED_OTHER;
}

/* A job is refused before it was sent. */
void
tc_http_note_refusal(const TcHttpJob *job, const char *reason)
{
	TcHttpEntry *entries[2];
	int n = entries_of(job, entries);

	LWLockAcquire(tc_http_lock(), LW_EXCLUSIVE);
	for (int i = 0; i < n; i++)
	{
		entries[i]->counts[refusal_count(reason)]++;
		if (strcmp(reason, TC_HTTP_R_BREAKER) != 0) /* what opened it is told */
			note_error(entries[i], reason);
	}
	LWLockRelease(tc_http_lock());
}

/* Takes the end of a request into one entry; the lock is held. */
static void
take_end(TcHttpEntry *entry, const TcHttpResult *result, int64 latency)
{
	char status[TC_HTTP_REASON_LEN];
	int bucket = 0;

	entry->in_flight--;
	if (result->answered)
		entry->counts[result->status == TOO_MANY_REQUESTS ? TC_HTTP_LIMITED : TC_HTTP_ANSWERED]++;
	else
	{
		bool timeout = strcmp(result->reason, TC_HTTP_R_TIMEOUT) == 0;

		entry->counts[timeout ? TC_HTTP_TIMEOUTS : TC_HTTP_ERRORS]++;
		note_error(entry, result->reason);
	}
	if (result->status == TOO_MANY_REQUESTS)
		note_error(entry, "rate_limited");
	else if (result->status >= 500 || result->status == 401 || result->status == 403)
	{
		snprintf(status, sizeof(status), "http_%d", result->status);
		note_error(entry, status);
	}
	while (bucket < TC_HTTP_BUCKETS - 1 && latency > bucket_ends[bucket])
		bucket++;
	entry->buckets[bucket]++;
	entry->latency_sum += latency;
	entry->latency_max = Max(entry->latency_max, latency);
}

/* A time of the wall clock as ns from now; -1: not said. */
static int64
from_now(int64 at, int64 wall)
{
	return at == TC_TIME_NONE ? -1 : Max(0, at - wall) * 1000;
}

/* What the headers say of the peer's limits. */
static TcQuotaNews
read_limits(const char *headers, int status)
{
	TcQuotaNews news = TC_QUOTA_NO_NEWS;
	int64 wall =
		(GetCurrentTimestamp() + ((POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY));
	TcCalcomLimits limits;

	tc_calcom_limits_init(&limits);
	while (headers != NULL && *headers != '\0')
	{
		size_t len = strcspn(headers, "\n");

		(void) tc_calcom_limit_line(headers, len, wall, &limits);
		headers += len + (headers[len] == '\n');
	}
	news.limit = limits.limit;
	news.remaining = limits.remaining;
	news.reset = from_now(limits.reset, wall);
	if (news.reset >= 0) /* whole seconds, perhaps rounded down */
		news.reset += NS_PER_S;
	news.retry = from_now(limits.retry, wall);
	news.refused = status == TOO_MANY_REQUESTS;
	return news;
}

/* A request ends. */
void
tc_http_note_end(const TcHttpJob *job, const TcHttpResult *result, const char *limits)
{
	TcQuotaNews news = read_limits(limits, result->status);
	int64 now = tc_http_now();
	TcHttpEntry *entries[2];
	int n = entries_of(job, entries);

	LWLockAcquire(tc_http_lock(), LW_EXCLUSIVE);
	for (int i = 0; i < n; i++)
		take_end(entries[i], result, (now - job->started) / 1000);
	news.in_flight = job->account->entry->in_flight;
	if (result->status > 0)
		tc_quota_learn(quota_of(job->account), &news, now);
	LWLockRelease(tc_http_lock());
}

/* Tells the breaker. */
void
tc_http_note_outcome(TcHttpAccount *account, TcBreakerOutcome outcome)
{
	TcBreakerRules rules = tc_http_breaker_rules();
	TcBreakerState before;
	TcBreakerState after;

	LWLockAcquire(tc_http_lock(), LW_EXCLUSIVE);
	before = account->entry->breaker.state;
	tc_breaker_report(&account->entry->breaker, &rules, outcome, tc_http_now());
	after = account->entry->breaker.state;
	LWLockRelease(tc_http_lock());
	if (before != after && after != TC_BREAKER_HALF_OPEN)
		ereport(LOG, (errmsg("calendar account \"%s\" is %s", account->name,
							 after == TC_BREAKER_OPEN ? "left alone for a while" : "used again")));
}
