/*
 * replay.c
 *		What was quarantined is taken in again.
 *
 *		tenantcall.quarantine --replay_quarantined()--> ingest.c
 *
 * Replaying resolves the tenant as of the start of the call, so a company gets nothing from before
 * its assignment, unless the operator says since when it may.  Rows are replayed in the order of a
 * call's life (start, end, analysis), each locked with SKIP LOCKED, so that two replays share the
 * work.  What was a conflict is not replayed: the call is another company's for good.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "act.h"
#include "args.h"
#include "calcom_ingest.h"
#include "ingest.h"
#include "phone.h"
#include "refusals.h"
#include "telephony.h"

PG_FUNCTION_INFO_V1(tc_replay_quarantined);

static TcStatement select_bodies = {
	.sql =
		"SELECT quarantine_id FROM tenantcall.quarantine "
		"WHERE kind = 'event' AND outcome = 'quarantined' AND replayed_at IS NULL AND ($1 IS NULL OR number = $1) "
		"ORDER BY provider_call_id, CASE event WHEN 'call_started' THEN 1 "
		"WHEN 'transcript_updated' THEN 2 WHEN 'call_ended' THEN 3 WHEN 'call_analyzed' THEN 5 "
		"ELSE 4 END, quarantine_id",
	.nparams = 1,
	.types = {TEXTOID},
};
static TcStatement lock_body = {
	.sql =
		"SELECT body, received_at, coalesce(verified_for, 0), provider FROM tenantcall.quarantine "
		"WHERE quarantine_id = $1 AND replayed_at IS NULL FOR UPDATE SKIP LOCKED",
	.nparams = 1,
	.types = {INT8OID},
};
static TcStatement mark_replayed = {
	.sql = "UPDATE tenantcall.quarantine SET replayed_at = now(), replay_outcome = $2 "
		   "WHERE quarantine_id = $1",
	.nparams = 2,
	.types = {INT8OID, TEXTOID},
};

/* Lists what may be replayed, in the order in which it should be. */
static int64 *
list_bodies(const char *number, uint64 *count)
{
	MemoryContext caller = CurrentMemoryContext;
	TcParams params = {0};
	int64 *ids;
	TcAct act;

	tc_act_begin(&act, TC_AS_SYSTEM, NULL);
	tc_param_text(&params, number);
	*count = tc_execute(&select_bodies, &params);
	ids = MemoryContextAlloc(caller, Max(*count, 1) * sizeof(int64));
	for (uint64 i = 0; i < *count; i++)
	{
		bool isnull;

		ids[i] =
			DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
	}
	tc_act_end(&act);
	return ids;
}

/* Locks one body and reads it; false if another replay has it. */
static bool
take_body(int64 id, TcDelivery *delivery)
{
	MemoryContext caller = CurrentMemoryContext;
	TcParams params = {0};
	bool isnull;
	bool found;
	TcAct act;

	tc_act_begin(&act, TC_AS_SYSTEM, NULL);
	tc_param_int8(&params, id);
	found = tc_execute(&lock_body, &params) > 0;
	if (found)
	{
		bytea *body = DatumGetByteaPP(tc_result_datum(1, &isnull));
		char *copy = MemoryContextAlloc(caller, VARSIZE_ANY_EXHDR(body) + 1);

		delivery->len = VARSIZE_ANY_EXHDR(body);
		memcpy(copy, VARDATA_ANY(body), delivery->len);
		delivery->body = copy;
		delivery->received_at = DatumGetTimestampTz(tc_result_datum(2, &isnull));
		delivery->verified_for = tc_result_int8(3);
		delivery->provider = MemoryContextStrdup(caller, tc_result_text(4));
	}
	tc_act_end(&act);
	return found;
}

/* Notes that a body has been replayed. */
static void
finish_body(int64 id, const char *outcome)
{
	TcParams params = {0};
	TcAct act;

	tc_act_begin(&act, TC_AS_SYSTEM, NULL);
	tc_param_int8(&params, id);
	tc_param_text(&params, outcome);
	tc_execute(&mark_replayed, &params);
	tc_act_end(&act);
}

/* Takes a body of the calendar in again. */
static void
replay_calcom(const TcDelivery *delivery, TcIngested *ingested)
{
	TcTold told = {.body = delivery->body,
				   .len = delivery->len,
				   .received_at = delivery->received_at,
				   .verified_for = delivery->verified_for};
	TcToldResult result;

	tc_calcom_parse(&told);
	tc_calcom_ingest(&told, &result);
	memset(ingested, 0, sizeof(*ingested));
	ingested->outcome = result.outcome;
	ingested->reason = result.reason;
	ingested->company_id = result.company_id;
}

/* Adds a row to the result. */
static void
put_row(FunctionCallInfo fcinfo, int64 id, const TcIngested *ingested)
{
	ReturnSetInfo *info = (ReturnSetInfo *) fcinfo->resultinfo;
	Datum values[5];
	bool nulls[5] = {false};

	values[0] = Int64GetDatum(id);
	values[1] = CStringGetTextDatum(ingested->outcome);
	nulls[2] = ingested->reason == NULL;
	values[2] = nulls[2] ? (Datum) 0 : CStringGetTextDatum(ingested->reason);
	values[3] = Int64GetDatum(ingested->company_id);
	nulls[3] = ingested->company_id == 0;
	values[4] = Int64GetDatum(ingested->call_id);
	nulls[4] = ingested->call_id == 0;
	tuplestore_putvalues(info->setResult, info->setDesc, values, nulls);
}

/* Replays one body. */
static void
replay_body(FunctionCallInfo fcinfo, int64 id, TimestampTz since)
{
	TcDelivery delivery = {.kind = "event"};
	TcPlacement placement;
	TcIngested ingested;

	if (!take_body(id, &delivery))
		return;
	if (strcmp(delivery.provider, "calcom") == 0)
		replay_calcom(&delivery, &ingested);
	else
	{
		tc_delivery_parse(&delivery, tc_retell_parse_event);
		tc_ingest_event(&delivery, &placement, since, &ingested);
		tc_refusal_note(&delivery, &placement, ingested.outcome, ingested.reason);
	}
	if (strcmp(ingested.outcome, "quarantined") != 0)
		finish_body(id, ingested.outcome);
	put_row(fcinfo, id, &ingested);
}

/* replay_quarantined(number text, since timestamptz) -> rows */
Datum
tc_replay_quarantined(PG_FUNCTION_ARGS)
{
	char *number = tc_arg_optional_text(fcinfo, 0);
	TimestampTz since = PG_ARGISNULL(1) ? TC_SINCE_ASSIGNMENT : PG_GETARG_TIMESTAMPTZ(1);
	int64 *ids;
	uint64 count;

	(void) tc_telephony_required();
	InitMaterializedSRF(fcinfo, 0);
	if (number != NULL)
		number = tc_phone_format(tc_phone_require(number, NULL));
	ids = list_bodies(number, &count);
	for (uint64 i = 0; i < count; i++)
		replay_body(fcinfo, ids[i], since);
	return (Datum) 0;
}
