/*
 * http_queue.c
 *		Jobs on their way: waiting, under way, ended.
 *
 *		tc_http_submit() --> waiting: by credential, class and company (fair_core.h)
 *		                        |  dispatch, when quota and breaker admit
 *		                        v
 *		                     under way: libcurl --> end --> done()
 *		refused at any time before --> refused list -----> done()
 *
 * Within a credential live calls come first, then writes, then refreshes; of every four requests
 * one is a write's, if one waits.  Refreshes leave a reserve of the quota, and half of the places.
 * Credentials take turns.  What cannot start before its deadline is refused at once.
 *
 * All of it is memory of the worker, without locks.  done() is called from the worker's loop only.
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "elected.h"
#include "http.h"
#include "http_account.h"
#include "http_credential.h"
#include "http_reasons.h"
#include "http_send.h"
#include "http_settings.h"
#include "http_worker.h"

#define NS_PER_US INT64CONST(1000)
#define NS_PER_MS INT64CONST(1000000)
#define WRITE_TURN 3 /* live calls that may go before a write that waits */

static dlist_head turns = DLIST_STATIC_INIT(turns); /* accounts with jobs that wait */
static dlist_head sent = DLIST_STATIC_INIT(sent);	/* jobs under way */
static dlist_head refused =
	DLIST_STATIC_INIT(refused);		 /* jobs that their source is to be told of */
static pairingheap *expiries = NULL; /* jobs that wait, by deadline */
static int nturns = 0;
static int under_way = 0;
static bool closing = false;

static const TcHttpJob *reporting = NULL; /* the job whose done() is running */
static bool reported = false;

/* Orders jobs by deadline, the next one first. */
static int
compare_expiry(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	int64 left = pairingheap_const_container(TcHttpJob, expiry, a)->expires;
	int64 right = pairingheap_const_container(TcHttpJob, expiry, b)->expires;

	return left < right ? 1 : left > right ? -1 : 0;
}

/* When the worker starts. */
void
tc_http_queue_init(void)
{
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);

	tc_http_accounts_init();
	expiries = pairingheap_allocate(compare_expiry, NULL);
	MemoryContextSwitchTo(caller);
}

/* Is anything under way or waiting? */
bool
tc_http_busy(int *number)
{
	*number = under_way;
	return under_way > 0 || !dlist_is_empty(&turns) || !dlist_is_empty(&refused);
}

/* Is there anything to tell already? */
bool
tc_http_refusals(void)
{
	return !dlist_is_empty(&refused);
}

/* Puts a job on the list of those that were not sent; its source is told from the loop. */
static void
refuse(TcHttpJob *job, const char *reason, int64 wait)
{
	job->refusal = (TcHttpResult){.reason = reason, .retry_after_ms = -1};
	if (wait >= 0 && wait != PG_INT64_MAX)
		job->refusal.retry_after_ms = (wait + NS_PER_MS - 1) / NS_PER_MS;
	dlist_push_tail(&refused, &job->node);
	tc_http_note_refusal(job, reason);
}

/* Takes a job out of its queue, which it leaves to be sent (charged) or to be refused. */
static void
leave_queue(TcHttpJob *job, bool charged)
{
	TcHttpAccount *account = job->account;
	TcFairQueue *queue = &account->queues[job->class];

	if (charged)
		(void) tc_fair_pop(queue);
	else
		tc_fair_remove(queue, &job->fair);
	pairingheap_remove(expiries, &job->expiry);
	dlist_delete(&job->node);
	tc_http_note_queued(job, -1);
	if (dlist_is_empty(&account->waiting))
	{
		dlist_delete(&account->node);
		nturns--;
	}
}

/* Refuses a job that waits. */
static void
refuse_waiting(TcHttpJob *job, const char *reason, int64 wait)
{
	leave_queue(job, false);
	refuse(job, reason, wait);
}

/* May the job be sent as it is? */
static bool
is_valid(const TcHttpJob *job)
{
	return job->credential[0] != '\0' && tc_http_path_safe(job->path) &&
		   (job->api_version == NULL || tc_http_header_safe(job->api_version)) &&
		   (strcmp(job->method, "GET") == 0 || strcmp(job->method, "POST") == 0 ||
			strcmp(job->method, "PATCH") == 0 || strcmp(job->method, "DELETE") == 0);
}

/* When the job's time is over, by the worker's clock. */
static int64
expiry_of(const TcHttpJob *job, int64 now)
{
	int64 longest = tc_http_settings.timeout * NS_PER_MS;
	int64 left;

	if (job->deadline == 0)
		return now + longest;
	left = job->deadline - GetCurrentTimestamp();
	if (left <= 0)
		return now;
	return now + (left < longest / NS_PER_US ? left * NS_PER_US : longest);
}

/* Takes a job in. */
void
tc_http_submit(TcHttpJob *job)
{
	TcHttpAccount *account = tc_http_account(job->credential);
	TcFairFlow *flow = tc_http_account_flow(account, job);

	job->account = account;
	job->submitted = tc_http_now();
	job->expires = expiry_of(job, job->submitted);
	if (closing)
		refuse(job, TC_HTTP_R_SHUTDOWN, -1);
	else if (!is_valid(job))
		refuse(job, TC_HTTP_R_INVALID, -1);
	else if (!tc_elected_speaks())
		refuse(job, TC_HTTP_R_NOT_ELECTED, -1);
	else if (tc_http_engine == NULL)
		refuse(job, TC_HTTP_R_NO_LIBRARY, -1);
	else if (flow->length >= tc_http_settings.queue_limit)
		refuse(job, TC_HTTP_R_QUEUE_FULL, -1);
	else
	{
		if (dlist_is_empty(&account->waiting))
		{
			dlist_push_tail(&turns, &account->node);
			nturns++;
		}
		tc_fair_push(&account->queues[job->class], flow, &job->fair);
		pairingheap_add(expiries, &job->expiry);
		dlist_push_tail(&account->waiting, &job->node);
		tc_http_note_queued(job, 1);
	}
}

/* The job of an account that is next, or NULL. */
static TcHttpJob *
next_job(TcHttpAccount *account)
{
	TcFairItem *live = tc_fair_peek(&account->queues[TC_HTTP_LIVE]);
	TcFairItem *write = tc_fair_peek(&account->queues[TC_HTTP_WRITE]);
	TcFairItem *refresh = tc_fair_peek(&account->queues[TC_HTTP_REFRESH]);
	TcFairItem *item;

	if (account->under_way >= tc_http_settings.credential_requests)
		return NULL;
	if (account->refreshing >= (tc_http_settings.credential_requests + 1) / 2)
		refresh = NULL;
	if (write != NULL && (live == NULL || account->passed_over >= WRITE_TURN))
		item = write;
	else
		item = live != NULL ? live : refresh;
	return item != NULL ? (TcHttpJob *) ((char *) item - offsetof(TcHttpJob, fair)) : NULL;
}

/* A job that waits is refused; others go on. */
void
tc_http_take_back(TcHttpJob *job)
{
	dlist_iter place;

	if (job->account == NULL)
		return;
	dlist_foreach(place, &job->account->waiting)
	{
		if (place.cur != &job->node)
			continue;
		refuse_waiting(job, TC_HTTP_R_TAKEN_BACK, -1);
		return;
	}
}

/* Refuses everything of an account that waits. */
static void
refuse_all(TcHttpAccount *account, const char *reason, int64 wait)
{
	while (!dlist_is_empty(&account->waiting))
		refuse_waiting(dlist_head_element(TcHttpJob, node, &account->waiting), reason, wait);
}

/* Refuses everything that waits. */
void
tc_http_refuse_all(void)
{
	while (!dlist_is_empty(&turns))
		refuse_all(dlist_head_element(TcHttpAccount, node, &turns), TC_HTTP_R_NOT_ELECTED, -1);
}

/* Sends a job that was admitted. */
static void
send_job(TcHttpJob *job, const TcHttpCredential *credential)
{
	TcHttpAccount *account = job->account;
	bool write_waits = account->queues[TC_HTTP_WRITE].length > 0;

	leave_queue(job, true);
	account->passed_over = job->class == TC_HTTP_LIVE && write_waits ? account->passed_over + 1 : 0;
	job->started = tc_http_now();
	if (!tc_http_send(job, credential))
	{
		tc_http_note_outcome(account, TC_BREAKER_NEUTRAL);
		refuse(job, TC_HTTP_R_FAILED, -1);
		return;
	}
	dlist_push_tail(&sent, &job->node);
	under_way++;
	account->under_way++;
	account->refreshing += job->class == TC_HTTP_REFRESH;
	tc_http_note_start(job);
}

/*
 * Starts one request of an account, or refuses one that cannot start in time.  False when there is
 * nothing to be done before *wait ns have passed.
 */
static bool
advance(TcHttpAccount *account, int64 now, int64 *wait)
{
	TcHttpJob *job = next_job(account);
	const TcHttpCredential *credential;
	const char *obstacle;
	int64 admitted_in = 0;

	if (job == NULL)
		return false;
	credential = tc_http_credential(account->name);
	if (credential == NULL)
	{
		refuse_all(account, TC_HTTP_R_CREDENTIAL, -1);
		return true;
	}
	obstacle = tc_http_obstacle(credential);
	if (obstacle != NULL)
	{
		refuse_all(account, obstacle, -1);
		return true;
	}
	switch (tc_http_admit(account, job->class, &credential->key, &admitted_in))
	{
		case TC_HTTP_GO:
			send_job(job, credential);
			return true;
		case TC_HTTP_NO_BREAKER:
			refuse_all(account, TC_HTTP_R_BREAKER, admitted_in);
			return true;
		case TC_HTTP_NO_PROBE:
			return false;
		case TC_HTTP_NO_QUOTA:
			if (job->expires < now + admitted_in)
			{
				refuse_waiting(job, TC_HTTP_R_QUOTA, admitted_in);
				return true;
			}
			*wait = Min(*wait, admitted_in);
			return false;
	}
	return false;
}

/* Refuses what has waited too long; lowers *wait to when the next one will have. */
static void
expire(int64 now, int64 *wait)
{
	while (!pairingheap_is_empty(expiries))
	{
		TcHttpJob *job = pairingheap_container(TcHttpJob, expiry, pairingheap_first(expiries));

		if (job->expires > now)
		{
			*wait = Min(*wait, job->expires - now);
			return;
		}
		refuse_waiting(job, TC_HTTP_R_DEADLINE, -1);
	}
}

/* Starts what may start: each account one in turn, until none can. */
void
tc_http_dispatch(long *wait)
{
	int64 now = tc_http_now();
	int64 next = *wait * NS_PER_MS;
	int idle = 0; /* accounts in a row that could do nothing */

	if (dlist_is_empty(&turns))
		return;
	tc_http_credentials_refresh();
	expire(now, &next);
	while (nturns > idle && under_way < tc_http_settings.max_requests)
	{
		TcHttpAccount *account = dlist_head_element(TcHttpAccount, node, &turns);

		idle = advance(account, now, &next) ? 0 : idle + 1;
		if (!dlist_is_empty(&account->waiting))
		{
			dlist_delete(&account->node);
			dlist_push_tail(&turns, &account->node);
		}
	}
	*wait = Min(*wait, (long) ((next + NS_PER_MS - 1) / NS_PER_MS));
}

/* What an end means for the breaker when the source does not say. */
static TcBreakerOutcome
outcome_of(const TcHttpTransferEnd *end)
{
	const TcHttpResult *result = &end->result;

	if (!result->answered)
		return end->counts ? TC_BREAKER_FAILURE : TC_BREAKER_NEUTRAL;
	if (result->status == 401 || result->status == 403)
		return TC_BREAKER_DENIED;
	if (result->status == 429)
		return TC_BREAKER_NEUTRAL;
	return result->status >= 500 ? TC_BREAKER_FAILURE : TC_BREAKER_SUCCESS;
}

/* A source tells what it makes of an answer. */
static void
take_report(const TcHttpJob *job, TcBreakerOutcome outcome)
{
	if (job != reporting || reported)
		return;
	reported = true;
	tc_http_note_outcome(job->account, outcome);
}

/* The same: the peer works, or it does not. */
void
tc_http_report(const TcHttpJob *job, bool failure)
{
	take_report(job, failure ? TC_BREAKER_FAILURE : TC_BREAKER_SUCCESS);
}

/* The same: the key is refused. */
void
tc_http_report_denied(const TcHttpJob *job)
{
	take_report(job, TC_BREAKER_DENIED);
}

/* tc_http_protected() callback: tells the source. */
static void
call_done(void *arg)
{
	TcHttpTransferEnd *end = arg;

	end->job->done(end->job, &end->result);
}

/* A request has ended: counts it, then tells its source. */
static void
end_request(TcHttpTransferEnd *end)
{
	TcHttpJob *job = end->job;
	TcHttpAccount *account = job->account;

	dlist_delete(&job->node);
	under_way--;
	account->under_way--;
	account->refreshing -= job->class == TC_HTTP_REFRESH;
	tc_http_note_end(job, &end->result, end->limits);
	if (end->result.status == 429)
		end->result.retry_after_ms = tc_http_blocked_ms(account);
	reporting = job;
	reported = !end->result.answered; /* what did not come through is ours to judge */
	if (reported)
		tc_http_note_outcome(account, outcome_of(end));
	(void) tc_http_protected(call_done, end);
	reporting = NULL;
	if (!reported)
		tc_http_note_outcome(account, outcome_of(end));
}

/* Tells the source of the first refusal. */
static void
end_refusal(void)
{
	TcHttpTransferEnd end = {0};

	end.job = dlist_container(TcHttpJob, node, dlist_pop_head_node(&refused));
	end.result = end.job->refusal;
	reporting = NULL;
	(void) tc_http_protected(call_done, &end);
}

/* Tells sources of everything that has ended. */
bool
tc_http_deliver(void)
{
	TcHttpTransferEnd end;
	bool any = false;

	while (tc_http_engine != NULL && tc_http_next_end(&end))
	{
		end_request(&end);
		any = true;
	}
	for (int i = 0; i < 1000 && !dlist_is_empty(&refused); i++)
	{
		end_refusal();
		any = true;
	}
	return any;
}

/* Bounds what a source may do while the server waits for us. */
static bool
call_in_time(void (*call)(void), int64 until)
{
	int64 left = (until - tc_http_now()) / NS_PER_MS;

	if (left <= 0)
		return false;
	enable_timeout_after(STATEMENT_TIMEOUT, (int) left);
	call();
	disable_timeout(STATEMENT_TIMEOUT, false);
	return true;
}

/* Ends the first request under way without an answer. */
static void
end_first(void)
{
	TcHttpTransferEnd end = {0};

	end.job = dlist_head_element(TcHttpJob, node, &sent);
	end.result.sent = true;
	end.result.reason = TC_HTTP_R_SHUTDOWN;
	end.result.retry_after_ms = -1;
	end_request(&end);
}

/* At the end of the worker: tells sources that nothing more will come. */
void
tc_http_shut_down(int64 until)
{
	closing = true;
	while (!dlist_is_empty(&turns))
		refuse_all(dlist_head_element(TcHttpAccount, node, &turns), TC_HTTP_R_SHUTDOWN, -1);
	while (!dlist_is_empty(&sent) && call_in_time(end_first, until))
		;
	while (!dlist_is_empty(&refused) && call_in_time(end_refusal, until))
		;
}
