/*
 * calcom_ingest.c
 *		What a calendar tells of its bookings, from the raw body to the appointment.
 *
 *		header -> keys of the account -> (body taken apart, unverified: selects companies) -> their
 *keys company: of the booking, else of the key, else the only one with that event type
 *			--> calcom_apply.c --> outcome
 *			\-> quarantine: authentic, but not to be placed or applied
 *
 * Whatever the content, the result is an outcome and not an error.  A key of the account may speak
 * of any company, a company's own key of that company alone.  There is no time in the signature, so
 * the same body may come again at any time: it changes nothing the second time.
 *
 * Locks: those of calcom_apply.c.
 */
#include "postgres.h"

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "act.h"
#include "args.h"
#include "calcom_ingest.h"
#include "calcom_place.h"
#include "calls.h"
#include "directory.h"
#include "guard.h"
#include "node.h"
#include "outbox.h"
#include "quarantine.h"
#include "rate.h"
#include "signature.h"
#include "stat.h"
#include "telephony.h"
#include "webhook.h"

PG_FUNCTION_INFO_V1(tc_ingest_calcom);

#define PROVIDER "calcom"
#define NO_SECRET "no-secret-provided"

/* What a key is tried against. */
typedef struct Signed
{
	const TcTold *told;
	uint8 digest[TC_CALCOM_DIGEST_LEN];
} Signed;

/* Does the secret fit? */
static bool
secret_fits(const char *secret, size_t len, const void *arg)
{
	const Signed *what = arg;

	return tc_calcom_verify(secret, len, what->told->body, what->told->len, what->digest);
}

/* Takes the body apart, noting why it cannot be. */
void
tc_calcom_parse(TcTold *told)
{
	if (told->len > (size_t) tc_calls_max_body * 1024)
		told->unusable = "body_too_large";
	else if (!pg_verify_mbstr(PG_UTF8, told->body, (int) told->len, true))
		told->unusable = "invalid_utf8";
	else
		switch (tc_calcom_parse_webhook(told->body, told->len, TC_OUTBOX_MARK, &told->webhook))
		{
			case TC_CALCOM_PARSED:
				break;
			case TC_CALCOM_NOT_JSON:
				told->unusable = "invalid_json";
				break;
			default:
				told->unusable = "not_a_webhook";
		}
	if (told->unusable != NULL)
		memset(&told->webhook, 0, sizeof(told->webhook));
}

/* Tries the keys of companies. */
static bool
verify_by(const TcCandidates *companies, TcTold *told, const Signed *what)
{
	for (int i = 0; i < companies->count; i++)
	{
		if (!tc_webhook_verify(PROVIDER, companies->ids[i], secret_fits, what))
			continue;
		told->verified_for = companies->ids[i];
		return true;
	}
	return false;
}

/* Finds out whether the body is authentic, and takes it apart. */
static void
verify(TcTold *told, const char *header)
{
	Signed what = {.told = told};
	TcCandidates companies;

	if (header == NULL || header[0] == '\0')
		told->rejected = "no_signature";
	else if (strcmp(header, NO_SECRET) == 0)
		told->rejected = "no_secret";
	else if (!tc_calcom_signature_parse(header, strlen(header), what.digest))
		told->rejected = "malformed_signature";
	if (told->rejected != NULL)
		return;
	tc_calcom_parse(told);
	if (tc_webhook_verify(PROVIDER, 0, secret_fits, &what))
		return;
	tc_calcom_owners(&told->webhook, &companies);
	if (verify_by(&companies, told, &what))
		return;
	tc_calcom_offerers(told->webhook.event_type_id, &companies);
	if (!verify_by(&companies, told, &what))
		told->rejected = tc_webhook_has_keys(PROVIDER, 0) ? "forged" : "no_key_fits";
}

/* Whose it is; 0 and a reason if that cannot be told, or must not be. */
static int64
place(const TcTold *told, TcToldResult *result)
{
	TcCandidates owners;
	TcCandidates offerers;

	tc_calcom_owners(&told->webhook, &owners);
	if (owners.count > 0 && told->verified_for != 0)
	{
		if (tc_candidates_have(&owners, told->verified_for))
			return told->verified_for;
		result->outcome = "rejected";
		result->reason = "key_of_another_company";
		return 0;
	}
	if (told->verified_for != 0)
		return told->verified_for;
	if (owners.count == 0)
	{
		tc_calcom_offerers(told->webhook.event_type_id, &offerers);
		owners = offerers;
	}
	if (owners.count == 1)
		return owners.ids[0];
	result->reason = owners.count == 0 ? "company_unknown" : "several_companies";
	return 0;
}

/* What applying needs. */
typedef struct ApplyJob
{
	const TcTold *told;
	int64 company_id;
	TcToldResult *result;
} ApplyJob;

/* Applies it, acting for the company; under tc_guard(). */
static void
run_apply(void *arg)
{
	ApplyJob *job = arg;
	TcContext tenant = {.company_id = job->company_id};
	MemoryContext caller = CurrentMemoryContext;
	TcAct act;

	(void) tc_directory_fill(&tenant);
	tc_act_begin(&act, TC_AS_OWNER, &tenant);
	tc_calcom_apply(job->told, job->company_id, job->result);
	if (job->result->status != NULL)
		job->result->status = MemoryContextStrdup(caller, job->result->status);
	tc_act_end(&act);
}

/* Places and applies what was taken apart. */
static void
place_and_apply(const TcTold *told, TcToldResult *result)
{
	ApplyJob job = {.told = told, .result = result};
	TcTakeResult limit;
	TcCompany company;
	TcFault fault;

	job.company_id = place(told, result);
	tc_rate_take("webhook", job.company_id, 1, &limit);
	if (job.company_id == 0 || !tc_directory_company(job.company_id, &company))
		return;
	result->company_id = job.company_id;
	if (tc_guard(run_apply, &job, &fault))
		return;
	/* another message of the booking came in between, and its row can be seen now */
	if (fault.sqlerrcode == ERRCODE_UNIQUE_VIOLATION && tc_guard(run_apply, &job, &fault))
		return;
	memset(result, 0, sizeof(*result));
	result->outcome = "quarantined";
	result->reason = "not_applicable";
	result->detail = fault.message;
	result->company_id = job.company_id;
}

/* Takes in an authentic body. */
void
tc_calcom_ingest(TcTold *told, TcToldResult *result)
{
	memset(result, 0, sizeof(*result));
	result->outcome = "quarantined";
	result->reason = told->unusable;
	if (told->unusable == NULL)
		place_and_apply(told, result);
}

/* Keeps it raw. */
static void
quarantine(const TcTold *told, const TcToldResult *result)
{
	TcDelivery delivery = {.provider = PROVIDER,
						   .kind = "event",
						   .body = told->body,
						   .len = told->len,
						   .received_at = told->received_at,
						   .verified_for = told->verified_for};
	TcPlacement placement = {0};

	if (told->webhook.trigger_name[0] != '\0')
		delivery.message.event_name = pstrdup(told->webhook.trigger_name);
	if (told->webhook.uid[0] != '\0')
		delivery.message.call_id = pstrdup(told->webhook.uid);
	tc_quarantine(&delivery, &placement, result->outcome, result->reason, result->detail);
}

/* The row that ingest_calcom() returns. */
static Datum
return_told(FunctionCallInfo fcinfo, const TcToldResult *result)
{
	Datum values[6];
	bool nulls[6] = {false};

	values[0] = CStringGetTextDatum(result->outcome);
	nulls[1] = result->reason == NULL;
	values[1] = nulls[1] ? (Datum) 0 : CStringGetTextDatum(result->reason);
	values[2] = Int64GetDatum(result->company_id);
	nulls[2] = result->company_id == 0;
	values[3] = Int64GetDatum(result->branch_id);
	nulls[3] = result->branch_id == 0;
	values[4] = Int64GetDatum(result->appointment_id);
	nulls[4] = result->appointment_id == 0;
	nulls[5] = result->status == NULL;
	values[5] = nulls[5] ? (Datum) 0 : CStringGetTextDatum(result->status);
	return tc_return_row(fcinfo, values, nulls);
}

/* Fills what is told from SQL arguments. */
static void
receive(FunctionCallInfo fcinfo, TcTold *told)
{
	char *header = PG_ARGISNULL(1) ? NULL : TextDatumGetCString(PG_GETARG_DATUM(1));

	memset(told, 0, sizeof(*told));
	(void) tc_telephony_required();
	if (PG_ARGISNULL(2) || TIMESTAMP_NOT_FINITE(PG_GETARG_TIMESTAMPTZ(2)))
		ereport(ERROR, (errcode(PG_ARGISNULL(2) ? ERRCODE_NULL_VALUE_NOT_ALLOWED
												: ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
						errmsg("argument \"received_at\" must be a finite time"),
						errhint("Pass the time at which the body was received.")));
	told->received_at = PG_GETARG_TIMESTAMPTZ(2);
	if (PG_ARGISNULL(0))
		told->rejected = "no_body";
	else
	{
		/* text and bytea are laid out alike */
		struct varlena *body = PG_DETOAST_DATUM_PACKED(PG_GETARG_DATUM(0));

		told->body = VARDATA_ANY(body);
		told->len = VARSIZE_ANY_EXHDR(body);
		verify(told, header);
	}
}

/* Has it taken in where its company is at home; false if that is here, or nowhere. */
static bool
forward(FunctionCallInfo fcinfo, const TcTold *told, Datum *row)
{
	TcToldResult ignored = {0};
	TcCompany company;
	int64 company_id;

	if (likely(!tc_node_is_coordinator()) || told->rejected != NULL || told->unusable != NULL)
		return false;
	company_id = place(told, &ignored);
	return company_id != 0 && tc_directory_company(company_id, &company) &&
		   tc_node_forward(fcinfo, company_id, NULL, row);
}

/* ingest_calcom(body, signature, received_at) -> one row */
Datum
tc_ingest_calcom(PG_FUNCTION_ARGS)
{
	TcToldResult result = {.outcome = "rejected"};
	TcTold told;
	Datum row;

	tc_node_require_front();
	receive(fcinfo, &told);
	if (forward(fcinfo, &told, &row))
		return row;
	result.reason = told.rejected;
	if (told.rejected == NULL)
	{
		tc_calcom_ingest(&told, &result);
		if (strcmp(result.outcome, "quarantined") == 0 || strcmp(result.outcome, "conflict") == 0)
			quarantine(&told, &result);
	}
	tc_stat_delivery("calendar", result.outcome, result.company_id);
	return return_told(fcinfo, &result);
}
