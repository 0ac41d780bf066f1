/*
 * ingest.c
 *		Events of the voice platform, from the raw body to the call's row.
 *
 *		verify (delivery.c) -> place -> bind -> merge (calls.c) -> lease (lease_follow.c) -> outcome
 *		                          \-> quarantine.c: authentic, but not to be placed or applied
 *
 * Whatever the content, the result is an outcome and not an error, so that a batch goes on.  What
 * changes rows runs under tc_guard(): a refusal by a constraint or trigger of the tables undoes
 * that one event, which is then quarantined.
 *
 * Locks: the call's row, until the end of the transaction.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "act.h"
#include "args.h"
#include "calls.h"
#include "forget.h"
#include "guard.h"
#include "ingest.h"
#include "lease.h"
#include "quarantine.h"
#include "rate.h"
#include "refusals.h"
#include "rows.h"
#include "stat.h"

PG_FUNCTION_INFO_V1(tc_ingest_retell);

/* What applying an event needs and gives back. */
typedef struct ApplyJob
{
	const TcDelivery *delivery;
	TcPlacement *placement;
	TcMergeResult merged;
	bool bound_elsewhere;
} ApplyJob;

/* Binds the call and merges the event, acting for the company; under tc_guard(). */
static void
run_apply(void *arg)
{
	ApplyJob *job = arg;
	TcPlacement *placement = job->placement;
	TcContext tenant = {.company_id = placement->place.company_id,
						.branch_id = placement->place.branch_id};
	MemoryContext caller = CurrentMemoryContext;
	TcAct act;

	if (strcmp(placement->source, "binding") != 0 &&
		tc_binding_make(job->delivery->message.call_id, tenant.company_id) != tenant.company_id)
	{
		job->bound_elsewhere = true;
		return;
	}
	(void) tc_directory_fill(&tenant);
	tc_act_begin(&act, TC_AS_OWNER, &tenant);
	tc_calls_merge(job->delivery, placement, &job->merged);
	job->merged.status = MemoryContextStrdup(caller, job->merged.status);
	if (job->merged.new_call)
		tc_calls_record(job->delivery, placement, "placed", job->merged.reason);
	tc_lease_follow(job->delivery, placement, &job->merged);
	tc_act_end(&act);
}

/* Applies under guard, with rows that can be repeated or without. */
static bool
guard_apply(ApplyJob *job, bool repeatable, TcFault *fault)
{
	bool done;

	tc_rows_repeatable = repeatable;
	PG_TRY();
	{
		done = tc_guard(run_apply, job, fault);
	}
	PG_FINALLY();
	{
		tc_rows_repeatable = false;
	}
	PG_END_TRY();
	return done;
}

/* Applies an event whose tenant is known. */
static void
apply(const TcDelivery *delivery, TcPlacement *placement, TcIngested *ingested)
{
	static const char *const outcomes[] = {[TC_MERGE_APPLIED] = "applied",
										   [TC_MERGE_DUPLICATE] = "duplicate",
										   [TC_MERGE_MERGED] = "merged",
										   [TC_MERGE_CONFLICT] = "conflict"};
	ApplyJob job = {.delivery = delivery, .placement = placement};
	TcFault fault;
	bool done = guard_apply(&job, true, &fault);

	/* made by another session at this very moment: a statement waits and then finds it */
	if (!done && fault.sqlerrcode == ERRCODE_UNIQUE_VIOLATION)
		done = guard_apply(&job, false, &fault);
	if (!done)
	{
		ingested->outcome = "quarantined";
		ingested->reason = "not_applicable";
		ingested->detail = fault.message;
	}
	else if (job.bound_elsewhere)
	{
		/* another event of the call was placed meanwhile: ask again, the binding decides now */
		tc_delivery_place(delivery, TC_SINCE_ASSIGNMENT, placement);
		ingested->outcome = "conflict";
		ingested->reason = "names_another_tenant";
	}
	else
	{
		ingested->outcome = outcomes[job.merged.outcome];
		ingested->reason = job.merged.reason;
		ingested->company_id = placement->place.company_id;
		ingested->branch_id = job.merged.branch_id;
		ingested->call_id = job.merged.call_id;
		ingested->status = job.merged.status;
	}
}

/* Places and merges an authentic event that was taken apart. */
void
tc_ingest_event(const TcDelivery *delivery, TcPlacement *placement, TimestampTz since,
				TcIngested *ingested)
{
	TcTakeResult limit;

	memset(ingested, 0, sizeof(*ingested));
	memset(placement, 0, sizeof(*placement));
	if (delivery->unusable != NULL)
	{
		ingested->outcome = "quarantined";
		ingested->reason = delivery->unusable;
		ingested->detail = delivery->detail;
		return;
	}
	tc_delivery_place(delivery, since, placement);
	tc_rate_take("webhook", placement->place.company_id, 1, &limit);
	if (!placement->found)
	{
		ingested->outcome = "quarantined";
		ingested->reason = placement->reason;
	}
	else if (placement->conflict && delivery->verified_for != 0 &&
			 delivery->verified_for != placement->place.company_id)
	{
		ingested->outcome = "rejected";
		ingested->reason = placement->reason;
	}
	else if (placement->conflict)
	{
		ingested->outcome = "conflict";
		ingested->reason = placement->reason;
		ingested->company_id = placement->place.company_id;
	}
	else
		apply(delivery, placement, ingested);
}

/* Counts what became of a delivery. */
static void
count(const TcDelivery *delivery, const TcPlacement *placement, const TcIngested *ingested)
{
	int64 company_id =
		delivery->verified_for != 0 ? delivery->verified_for : placement->place.company_id;

	tc_stat_delivery(delivery->kind, ingested->outcome, company_id);
	if (delivery->message.event_name != NULL)
		tc_stat_event(delivery->message.event_name, company_id);
}

/* The row that ingest_retell() returns. */
static Datum
return_ingested(FunctionCallInfo fcinfo, const TcIngested *ingested)
{
	Datum values[6];
	bool nulls[6] = {false};

	values[0] = CStringGetTextDatum(ingested->outcome);
	nulls[1] = ingested->reason == NULL;
	values[1] = nulls[1] ? (Datum) 0 : CStringGetTextDatum(ingested->reason);
	values[2] = Int64GetDatum(ingested->company_id);
	nulls[2] = ingested->company_id == 0;
	values[3] = Int64GetDatum(ingested->branch_id);
	nulls[3] = ingested->branch_id == 0;
	values[4] = Int64GetDatum(ingested->call_id);
	nulls[4] = ingested->call_id == 0;
	nulls[5] = ingested->status == NULL;
	values[5] = nulls[5] ? (Datum) 0 : CStringGetTextDatum(ingested->status);
	return tc_return_row(fcinfo, values, nulls);
}

/* ingest_retell(body, signature, received_at) -> one row */
Datum
tc_ingest_retell(PG_FUNCTION_ARGS)
{
	TcDelivery delivery = {.kind = "event"};
	TcPlacement placement = {0};
	TcIngested ingested = {0};
	Datum result;

	tc_delivery_receive(fcinfo, 2, tc_retell_parse_event, &delivery);
	if (tc_delivery_forward(fcinfo, &delivery, true, &result))
		return result;
	if (delivery.rejected != NULL)
	{
		ingested.outcome = "rejected";
		ingested.reason = delivery.rejected;
	}
	else
		tc_ingest_event(&delivery, &placement, TC_SINCE_ASSIGNMENT, &ingested);
	tc_refusal_note(&delivery, &placement, ingested.outcome, ingested.reason);
	if ((strcmp(ingested.outcome, "quarantined") == 0 ||
		 strcmp(ingested.outcome, "conflict") == 0) &&
		!tc_call_forgotten(&delivery, placement.place.company_id))
		tc_quarantine(&delivery, &placement, ingested.outcome, ingested.reason, ingested.detail);
	count(&delivery, &placement, &ingested);
	return return_ingested(fcinfo, &ingested);
}
