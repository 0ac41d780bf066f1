/*
 * quarantine.c
 *		Authentic content that could not be parsed, placed or applied: kept raw.
 *
 *		ingest.c, inbound.c, function_call.c, calcom_ingest.c --> tenantcall.quarantine --> replay.c
 *
 * A body is kept once; the same body again is counted.  No locks but the row's.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/timestamp.h"

#include "act.h"
#include "key.h"
#include "quarantine.h"

static TcStatement insert_body = {
	.sql =
		"INSERT INTO tenantcall.quarantine AS q (provider, kind, event, provider_call_id, "
		"number, agent, started_at, received_at, verified_for, reason, detail, body, "
		"body_digest, outcome) "
		"VALUES (coalesce($14, 'retell'), $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) "
		"ON CONFLICT (provider, kind, body_digest) DO UPDATE SET deliveries = q.deliveries + 1, "
		"outcome = excluded.outcome, reason = excluded.reason, detail = excluded.detail",
	.nparams = 14,
	.types = {TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID,
			  TEXTOID, TEXTOID, BYTEAOID, BYTEAOID, TEXTOID, TEXTOID},
};

/* SHA-256 of the body. */
static Datum
body_digest(const char *body, size_t len)
{
	bytea *digest = palloc(VARHDRSZ + TC_HMAC_LEN);

	SET_VARSIZE(digest, VARHDRSZ + TC_HMAC_LEN);
	tc_sha256(TC_BYTES(body, len), TC_NO_BYTES, (uint8 *) VARDATA(digest));
	return PointerGetDatum(digest);
}

/* Bytes as bytea. */
static Datum
bytes_datum(const char *bytes, size_t len)
{
	bytea *result = palloc(VARHDRSZ + len);

	SET_VARSIZE(result, VARHDRSZ + len);
	memcpy(VARDATA(result), bytes, len);
	return PointerGetDatum(result);
}

/* Keeps the body raw with the reason. */
void
tc_quarantine(const TcDelivery *delivery, const TcPlacement *placement, const char *outcome,
			  const char *reason, const char *detail)
{
	const TcRetellMessage *message = &delivery->message;
	TcParams params = {0};
	TcAct act;

	tc_act_begin(&act, TC_AS_SYSTEM, NULL);
	tc_param_text(&params, delivery->kind);
	tc_param_text(&params, message->event_name);
	tc_param_text(&params, message->call_id != NULL ? message->call_id : delivery->call_id);
	tc_param_text(&params, placement->number);
	tc_param_text(&params, message->facts.agent != NULL ? message->facts.agent : delivery->agent);
	tc_param_datum(&params, TimestampTzGetDatum(message->facts.started_at),
				   message->facts.started_at == 0);
	tc_param_datum(&params, TimestampTzGetDatum(delivery->received_at), false);
	tc_param_int8(&params, delivery->verified_for);
	tc_param_text(&params, reason);
	tc_param_text(&params, detail);
	tc_param_datum(&params, bytes_datum(delivery->body, delivery->len), false);
	tc_param_datum(&params, body_digest(delivery->body, delivery->len), false);
	tc_param_text(&params, outcome);
	tc_param_text(&params, delivery->provider);
	tc_execute(&insert_body, &params);
	tc_act_end(&act);
}
