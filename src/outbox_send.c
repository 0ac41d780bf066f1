/*
 * outbox_send.c
 *		The HTTP worker's source of orders to calendars.
 *
 *		poll: claim (outbox_claim.c) --> submit (outbox_request.c) --> done: judge --> record
 *(outbox_record.c)
 *
 * Claim and record are short transactions of their own; while a request is under way there is
 * neither transaction nor snapshot.  An order that somebody else has locked when its answer comes
 * is recorded later.  What happens in between (the worker is killed, the server crashes, recording
 * fails for long) leaves the order leased as "sending"; after the lease somebody claims
 * it and asks the calendar first.
 *
 * At most outbox_in_flight orders are under way at a time, and of a credential that has
 * MAX_PER_CREDENTIAL no more are claimed, so that a calendar that does not answer does not hold up
 * the others.
 *
 * State of the worker's process only.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "elected.h"
#include "node.h"
#include "outbox.h"
#include "outbox_claim.h"
#include "outbox_home.h"
#include "outbox_judge.h"
#include "ready.h"
#include "telephony.h"

#define MAX_IN_FLIGHT 256
#define MAX_PER_CREDENTIAL 8
#define MAX_LISTED 2000 /* bookings of one event type in the window that are looked through */
#define PAUSE_MS 200	/* between two looks at what is locked or busy */
#define LONG_PAUSE_MS 5000
#define RECORD_MS 30000 /* how long recording is tried */
#define MAX_UNRECORDED 128
#define LONGEST_PAUSE (2 * USECS_PER_SEC) /* between two tries */

static int in_flight_limit = 32; /* setting */

static TcFlight *flights[MAX_IN_FLIGHT]; /* under way; no order */
static int nflights = 0;
static uint64 moved_in = 0;		  /* of which tables it was found out whether orders came along */
static int nunrecorded = 0;		  /* of them: have an outcome that could not be recorded yet */
static TimestampTz next_poll = 1; /* 0: nothing is due */

/* Takes a flight off the list and frees it. */
static void
forget_flight(TcFlight *flight)
{
	for (int i = 0; i < nflights; i++)
	{
		if (flights[i] == flight)
		{
			flights[i] = flights[--nflights];
			break;
		}
	}
	nunrecorded -= flight->outcome != NULL;
	MemoryContextDelete(flight->memory);
	next_poll = GetCurrentTimestamp();
}

/*
 * Runs something in a transaction of its own; false if it failed, which is logged, or if the
 * extension is being dropped.
 */
static bool
in_transaction(void (*run)(void *arg), void *arg)
{
	MemoryContext caller = CurrentMemoryContext;
	volatile bool done = false;

	PG_TRY();
	{
		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
		if (tc_hold_extension())
		{
			PushActiveSnapshot(GetTransactionSnapshot());
			run(arg);
			PopActiveSnapshot();
			done = true;
		}
		CommitTransactionCommand();
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(caller);
		EmitErrorReport();
		FlushErrorState();
		AbortCurrentTransaction();
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	return done;
}

/* --- what came of it ----------------------------------------------------------------------- */

typedef struct RecordJob
{
	const TcFlight *flight;
	const TcOutcome *outcome;
	bool recorded;
} RecordJob;

/* Records; within a transaction. */
static void
run_record(void *arg)
{
	RecordJob *job = arg;

	job->recorded = tc_outbox_record(job->flight, job->outcome);
}

/* Tries to record an outcome. */
static bool
record(const TcFlight *flight, const TcOutcome *outcome)
{
	RecordJob job = {flight, outcome, false};

	return in_transaction(run_record, &job) && job.recorded;
}

/* Keeps an outcome that cannot be recorded now. */
static void
keep_outcome(TcFlight *flight, const TcOutcome *outcome)
{
	MemoryContext caller = MemoryContextSwitchTo(flight->memory);

	flight->outcome = palloc(sizeof(TcOutcome));
	*flight->outcome = *outcome;
	if (outcome->uid != NULL)
		flight->outcome->uid = pstrdup(outcome->uid);
	if (outcome->reason != NULL)
		flight->outcome->reason = pstrdup(outcome->reason);
	MemoryContextSwitchTo(caller);
	flight->ended_at = GetCurrentTimestamp();
	flight->record_at = TimestampTzPlusMilliseconds(flight->ended_at, PAUSE_MS);
	nunrecorded++;
}

/* Records the outcome and forgets the flight, now or when nobody is in the way any more. */
static void
finish(TcFlight *flight, const TcOutcome *outcome)
{
	if (nunrecorded >= MAX_UNRECORDED || record(flight, outcome))
		forget_flight(flight);
	else
		keep_outcome(flight, outcome);
}

/* Tries again, ever less often; what cannot be recorded is found out again later. */
static void
record_again(void)
{
	TimestampTz now = GetCurrentTimestamp();

	for (int i = nflights - 1; i >= 0 && nunrecorded > 0; i--)
	{
		TcFlight *flight = flights[i];
		TimestampTz waited = now - flight->ended_at;

		if (flight->outcome == NULL || flight->record_at > now)
			continue;
		if (record(flight, flight->outcome) || waited >= RECORD_MS * INT64CONST(1000))
			forget_flight(flight);
		else
			flight->record_at = now + Min(waited, LONGEST_PAUSE);
	}
}

/* The outcome of a judgement. */
static void
conclude(TcFlight *flight, const TcJudgement *judgement, const TcHttpResult *result)
{
	TcOutboxCase now = {
		.step = flight->step,
		.heard = judgement->heard,
		.sent_before = flight->sent_before,
		/* a request that was refused is over, and so is any before it */
		.settled = flight->settled || flight->refused,
		.refused = flight->refused,
		.attempt = flight->attempt,
		.last_attempt = flight->last_attempt,
	};
	TcOutcome outcome = {
		.next = tc_outbox_next(&now),
		.http_status = result->answered ? result->status : 0,
		.refusal = judgement->refusal,
		.not_sent = flight->step == TC_OUTBOX_SEND && judgement->heard == TC_HEARD_NOT_SENT,
		.uid = judgement->uid[0] != '\0' ? judgement->uid : NULL,
		.reason = judgement->reason[0] != '\0' ? judgement->reason : NULL,
		.became = judgement->gone ? "cancelled" : NULL,
	};

	outcome.delay_ms = tc_outbox_delay(flight->attempt, result->retry_after_ms,
									   pg_prng_double(&pg_global_prng_state));
	if (flight->step == TC_OUTBOX_LOOK && outcome.next == TC_NEXT_SEND)
		outcome.delay_ms = 0; /* it was long enough on the way */
	finish(flight, &outcome);
}

/* --- requests ------------------------------------------------------------------------------ */

/* The worker has a result. */
static void
on_done(TcHttpJob *job, const TcHttpResult *result)
{
	TcFlight *flight = job->arg;
	TcJudgement judgement;

	tc_outbox_judge(flight, result, &judgement);
	if (judgement.denied)
		tc_http_report_denied(job);
	else if (result->answered)
		tc_http_report(job, judgement.failure);
	if (judgement.heard == TC_HEARD_NOT_THERE && judgement.more)
	{
		flight->skip += TC_OUTBOX_PAGE;
		if (flight->skip < MAX_LISTED && tc_outbox_submit(flight, on_done))
			return;
		judgement.heard = TC_HEARD_NOTHING;
		strlcpy(judgement.reason, "the calendar's list is too long", sizeof(judgement.reason));
	}
	conclude(flight, &judgement, result);
}

/* Is there an outcome already, without asking anybody? */
static bool
is_settled(const TcFlight *flight, TcOutcome *outcome)
{
	bool stands = strcmp(flight->status, "pending") == 0 || strcmp(flight->status, "unknown") == 0;

	memset(outcome, 0, sizeof(*outcome));
	if (flight->kind == TC_ORDER_CANCEL)
	{
		if (strcmp(flight->status, "cancelling") == 0 && flight->uid != NULL)
			return false;
		outcome->next = TC_NEXT_DONE; /* cancelled in the calendar meanwhile, or never booked */
		return true;
	}
	if (flight->uid != NULL || !(stands || strcmp(flight->status, "cancelling") == 0))
	{
		outcome->next = TC_NEXT_DONE; /* a webhook was faster */
		return true;
	}
	outcome->next = TC_NEXT_REFUSED;
	if (flight->request == NULL && flight->step == TC_OUTBOX_SEND)
	{
		outcome->reason = "the customer's data was erased";
		return true;
	}
	outcome->reason = flight->overdue ? "the time has come before it could be booked"
									  : "the booking to be moved has no uid";
	return flight->step == TC_OUTBOX_SEND && !flight->sent_before &&
		   (flight->overdue || (flight->kind == TC_ORDER_RESCHEDULE && flight->old_uid == NULL));
}

/* Lets a claimed order fly. */
static void
launch(TcFlight *flight)
{
	TcOutcome outcome;

	flights[nflights++] = flight;
	if (is_settled(flight, &outcome))
		finish(flight, &outcome);
	else if (!tc_outbox_submit(flight, on_done))
	{
		bool unknown = flight->step == TC_OUTBOX_LOOK || flight->sent_before;

		outcome = (TcOutcome){.next = unknown ? TC_NEXT_DEAD : TC_NEXT_REFUSED,
							  .reason = "the request cannot be written"};
		finish(flight, &outcome);
	}
}

/* --- the source ---------------------------------------------------------------------------- */

/* Credentials that have enough under way, as text[]. */
static ArrayType *
busy_credentials(void)
{
	Datum names[MAX_IN_FLIGHT];
	int count = 0;

	for (int i = 0; i < nflights; i++)
	{
		int same = 0;

		for (int k = 0; k <= i && flights[i]->outcome == NULL; k++)
			same += flights[k]->outcome == NULL &&
					strcmp(flights[k]->credential, flights[i]->credential) == 0;
		if (same == MAX_PER_CREDENTIAL)
			names[count++] = CStringGetTextDatum(flights[i]->credential);
	}
	return construct_array(names, count, TEXTOID, -1, false, TYPALIGN_INT);
}

/* One look at what is due. */
typedef struct PollJob
{
	TcFlight *claimed[MAX_IN_FLIGHT];
	int count;
	int room;
	bool paused;
	uint64 moved_in;
	bool elsewhere; /* were some claimed on other nodes? */
	TimestampTz began;
	TimestampTz due;
} PollJob;

/* Claims, everywhere. */
static void
claim(PollJob *job)
{
	TcClaim claim = {.most = job->room,
					 .busy_credentials = busy_credentials(),
					 .lease = (tc_outbox_timeout + TC_LEASE_MARGIN_MS) / 1000.0,
					 .settle = tc_outbox_settle / 1000.0};

	job->began = GetCurrentTimestamp();
	job->count = tc_outbox_claim(&claim, job->claimed);
	job->due = tc_outbox_next_due();
	if (unlikely(tc_node_distributed()) && job->count < job->room)
	{
		int here = job->count;

		claim.most = job->room - job->count;
		job->count += tc_outbox_claim_elsewhere(&claim, &job->claimed[job->count],
												MAX_IN_FLIGHT - nflights - job->count, &job->due);
		job->elsewhere = job->count > here;
	}
	for (int i = 0; i < job->count; i++) /* from now on they outlive the transaction */
	{
		job->claimed[i]->began = job->began;
		MemoryContextSetParent(job->claimed[i]->memory, TopMemoryContext);
	}
}

/* Claims; within a transaction. */
static void
run_poll(void *arg)
{
	PollJob *job = arg;

	if (tc_telephony() == NULL || !tc_elected_still())
		return;
	job->moved_in = tc_telephony_generation();
	if (moved_in != job->moved_in) /* also where a dump was put back under this worker */
		tc_outbox_move_in();
	job->paused = tc_outbox_paused();
	if (job->paused || job->room <= 0)
		return;
	claim(job);
}

/* Looks for orders that are due, and lets them fly. */
static void
poll_orders(void)
{
	PollJob *job = MemoryContextAllocZero(TopMemoryContext, sizeof(PollJob));
	TimestampTz now;
	bool polled;

	record_again();
	job->room = Min(in_flight_limit - (nflights - nunrecorded), MAX_IN_FLIGHT - nflights);
	job->room = Min(job->room, MAX_PER_CREDENTIAL);
	next_poll = 0;
	polled = in_transaction(run_poll, job);
	if (polled && job->moved_in != 0)
		moved_in = job->moved_in;
	now = GetCurrentTimestamp();
	if (!polled)
	{
		job->count = 0;
		next_poll = TimestampTzPlusMilliseconds(now, LONG_PAUSE_MS);
	}
	else if (job->room > 0 && (job->count >= job->room || (job->elsewhere && job->due <= now)))
		next_poll = now;
	else if (job->due != 0)
		next_poll = Max(job->due, TimestampTzPlusMilliseconds(now, PAUSE_MS));
	for (int i = 0; job->paused && i < nflights; i++)
		tc_http_take_back(&flights[i]->job);
	for (int i = 0; i < job->count; i++)
		launch(job->claimed[i]);
	pfree(job);
}

/* When to look again. */
static TimestampTz
next_orders(void)
{
	TimestampTz next = next_poll;

	for (int i = 0; i < nflights && nunrecorded > 0; i++)
	{
		if (flights[i]->outcome != NULL && (next == 0 || flights[i]->record_at < next))
			next = flights[i]->record_at;
	}
	return next;
}

static const TcHttpSource source = {
	.name = "outbox",
	.poll = poll_orders,
	.next = next_orders,
	.wants_extension = true,
};

/* Registers the source. */
void
tc_outbox_send_init(void)
{
	DefineCustomIntVariable("tenantcall.outbox_in_flight",
							"How many orders to calendars are under way at a time.", NULL,
							&in_flight_limit, 32, 1, MAX_IN_FLIGHT, PGC_SIGHUP, 0, NULL, NULL,
							NULL);
	tc_http_add_source(&source);
}
