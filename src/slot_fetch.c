/*
 * slot_fetch.c
 *		Asks calendars for free slots: a source of the HTTP worker.
 *
 *		slot_publish.c: next question --> GET /v2/slots --> starts, or why there are none
 *
 * In the worker only.  No transaction, no snapshot and no lock is held at any time.  What an
 * answer means is decided by the calcom cores; how long a failure is believed, here: the shorter,
 * the likelier it is to pass by itself.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "calcom_request_core.h"
#include "calcom_slots_core.h"
#include "http.h"
#include "http_reasons.h"
#include "slot_fetch.h"
#include "slot_publish.h"

#define PATH_LEN 1024
#define UNIX_EPOCH ((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

/* How long a failure is believed, in s. */
#define KEEP_NOT_FOUND 120
#define KEEP_INVALID 60
#define KEEP_DENIED 30
#define KEEP_UPSTREAM 3
#define KEEP_UNSENT 1

/* Beyond the callers' patience the answer is still worth having: the next one will ask. */
#define GRACE (2 * USECS_PER_SEC)
#define REFRESH_PATIENCE (30 * USECS_PER_SEC)

typedef struct Fetch
{
	TcHttpJob job;
	TcSlotFetch fetch;
	char path[PATH_LEN];
} Fetch;

/* Publishes a failure of some seconds, or as long as the calendar said. */
static void
fail(const Fetch *fetch, const char *reason, int seconds, int64 retry_after_ms)
{
	int64 keep = (int64) seconds * USECS_PER_SEC;

	if (retry_after_ms > 0)
		keep = Max(keep, Min(retry_after_ms, 60 * 1000) * 1000);
	tc_slot_cache_failure(&fetch->fetch, reason, keep, retry_after_ms);
}

/* Publishes the slots of an answer that is fine. */
static TcCalcomParse
publish(const Fetch *fetch, const TcHttpResult *result)
{
	static int64 starts[TC_SLOT_MAX_STARTS];
	const TcSlotQuestion *question = &fetch->fetch.question;
	TcCalcomParse parsed;
	int count;
	int kept = 0;

	parsed = tc_calcom_parse_slots(result->body, result->len, starts, TC_SLOT_MAX_STARTS, &count);
	if (parsed != TC_CALCOM_PARSED)
		return parsed;
	for (int i = 0; i < count; i++)
	{
		TimestampTz at = starts[i] - UNIX_EPOCH;

		if (at >= question->from && at < question->to)
			starts[kept++] = at;
	}
	tc_slot_cache_answer(&fetch->fetch, starts, kept);
	return TC_CALCOM_PARSED;
}

/* Publishes what an answer means. */
static void
take_answer(const Fetch *fetch, const TcHttpResult *result)
{
	TcCalcomVerdict verdict;
	TcCalcomParse parsed = TC_CALCOM_PARSED;

	tc_calcom_classify(result->status, result->body, result->len, &verdict);
	if (verdict.answer == TC_CALCOM_OK)
		parsed = publish(fetch, result);
	if (parsed == TC_CALCOM_TOO_MANY)
	{
		/* asked for too much: no fault of the calendar, nor of others with the same account */
		tc_http_report(&fetch->job, false);
		fail(fetch, "too_many_slots", KEEP_INVALID, -1);
		return;
	}
	if (parsed != TC_CALCOM_PARSED)
		verdict.answer = TC_CALCOM_GARBLED;
	switch (verdict.answer)
	{
		case TC_CALCOM_OK:
			tc_http_report(&fetch->job, false);
			break;
		case TC_CALCOM_UNAUTHORIZED:
			tc_http_report_denied(&fetch->job);
			fail(fetch, "unauthorized", KEEP_DENIED, -1);
			break;
		case TC_CALCOM_NOT_FOUND:
			tc_http_report(&fetch->job, false);
			fail(fetch, "not_found", KEEP_NOT_FOUND, -1);
			break;
		case TC_CALCOM_RATE_LIMITED:
			tc_http_report(&fetch->job, false);
			fail(fetch, "rate_limited", KEEP_UNSENT, result->retry_after_ms);
			break;
		case TC_CALCOM_INVALID:
		case TC_CALCOM_BUSY:
			tc_http_report(&fetch->job, false);
			fail(fetch, "refused", KEEP_INVALID, -1);
			break;
		default:
			tc_http_report(&fetch->job, true);
			fail(fetch, tc_calcom_answer_name(verdict.answer), KEEP_UPSTREAM,
				 result->retry_after_ms);
			break;
	}
}

/* The worker has a result. */
static void
fetch_done(TcHttpJob *job, const TcHttpResult *result)
{
	Fetch *fetch = job->arg;

	if (result->answered)
		take_answer(fetch, result);
	else if (result->reason != NULL && strcmp(result->reason, TC_HTTP_R_SHUTDOWN) == 0)
		; /* the next worker takes it up: tc_slot_cache_recover() */
	else if (result->sent || !tc_slot_cache_again(&fetch->fetch))
		fail(fetch, result->reason != NULL ? result->reason : "unknown",
			 result->sent ? KEEP_UPSTREAM : KEEP_UNSENT, result->retry_after_ms);
	pfree(fetch);
}

/* Writes the path of the request; false: it cannot be asked. */
static bool
write_path(Fetch *fetch)
{
	const TcSlotQuestion *question = &fetch->fetch.question;
	TcCalcomSlotsQuery query = {
		.event_type_id = question->event_type_id,
		.start = question->from + UNIX_EPOCH,
		.end = question->to + UNIX_EPOCH,
		.time_zone = question->time_zone,
		.duration = question->duration,
	};

	return tc_calcom_slots_path(&query, fetch->path, sizeof(fetch->path)) > 0;
}

/* Hands in the job of a question. */
static void
submit(const TcSlotFetch *question)
{
	Fetch *fetch = MemoryContextAllocZero(TopMemoryContext, sizeof(Fetch));
	TimestampTz now = GetCurrentTimestamp();

	fetch->fetch = *question;
	if (!write_path(fetch))
	{
		fail(fetch, "refused", KEEP_INVALID, -1);
		pfree(fetch);
		return;
	}
	fetch->job.class = question->live ? TC_HTTP_LIVE : TC_HTTP_REFRESH;
	fetch->job.company_id = question->question.company_id;
	strlcpy(fetch->job.credential, question->question.credential, NAMEDATALEN);
	fetch->job.method = "GET";
	fetch->job.path = fetch->path;
	fetch->job.api_version = TC_CALCOM_SLOTS_VERSION;
	fetch->job.deadline =
		question->live ? Max(question->deadline, now) + GRACE : now + REFRESH_PATIENCE;
	fetch->job.done = fetch_done;
	fetch->job.arg = fetch;
	tc_http_submit(&fetch->job);
}

/* The worker looks for work. */
static void
fetch_poll(void)
{
	TcSlotFetch question;

	while (tc_slot_cache_next(&question))
		submit(&question);
}

/* The worker is new. */
static void
fetch_start(void)
{
	tc_slot_cache_recover();
}

/* Registers the source. */
void
tc_slot_fetch_init(void)
{
	static const TcHttpSource source = {.name = "slots",
										.start = fetch_start,
										.poll = fetch_poll,
										.wants_extension = true};

	tc_http_add_source(&source);
}
