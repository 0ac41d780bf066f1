/*
 * outbox.c
 *		Orders to calendars: written with the appointment, sent by the HTTP worker.
 *
 *		book(), cancel_booking(), reschedule_booking()
 *			--> outbox (the company's: content) and tenantcall.outbox_due (narrow: when)
 *			--> worker woken at commit --> outbox_claim.c
 *
 * Both rows are written in the transaction of the appointment: neither exists without the others.
 * The row of outbox_due is there until the order is done, and its lock decides between the worker,
 * which claims it, and a backend that wants to take the order back.
 *
 * Locks, in this order: rows of outbox_due, appointments, slot_holds, outbox.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/jsonb.h"

#include "act.h"
#include "http.h"
#include "outbox.h"

int tc_outbox_max_attempts = 20;
int tc_outbox_timeout = 15000;
int tc_outbox_settle = 60000;

static TcStatement insert_order = {
	.sql = "INSERT INTO @.outbox (company_id, appointment_id, kind, idempotency_key, request, "
		   "state, due_at) VALUES ($1, $2, $3, $4, $5, $6, now()) RETURNING outbox_id",
	.nparams = 6,
	.types = {INT8OID, INT8OID, TEXTOID, TEXTOID, JSONBOID, TEXTOID},
};
static TcStatement insert_due = {
	.sql = "INSERT INTO @@.outbox_due (company_id, outbox_id, credential, state, due_at, "
		   "last_attempt) VALUES ($1, $2, $3, $4, CASE $4 WHEN 'waiting' THEN 'infinity' "
		   "ELSE now() END, $5)",
	.nparams = 5,
	.types = {INT8OID, INT8OID, TEXTOID, TEXTOID, INT4OID},
};
static TcStatement list_open = {
	.sql = "SELECT array_agg(o.outbox_id ORDER BY o.outbox_id) FROM @.outbox AS o "
		   "WHERE o.company_id = $1 AND o.appointment_id = $2 AND o.finished_at IS NULL",
	.nparams = 2,
	.types = {INT8OID, INT8OID},
};
static TcStatement lock_due = {
	.sql = "SELECT d.state = 'reconcile' FROM @@.outbox_due AS d WHERE d.company_id = $1 "
		   "AND d.outbox_id = ANY ($2) ORDER BY d.outbox_id FOR UPDATE",
	.nparams = 2,
	.types = {INT8OID, INT8ARRAYOID},
};
static TcStatement read_open = {
	.sql = "SELECT o.outbox_id, o.state, o.sent_at IS NULL AND o.state IN ('queued', 'dead') "
		   "FROM @.outbox AS o WHERE o.company_id = $1 AND o.appointment_id = $2 "
		   "AND o.finished_at IS NULL ORDER BY o.outbox_id LIMIT 1 FOR UPDATE",
	.nparams = 2,
	.types = {INT8OID, INT8OID},
};
static TcStatement drop_order = {
	.sql = "UPDATE @.outbox SET state = 'refused', error = $3, request = NULL, due_at = NULL, "
		   "finished_at = clock_timestamp() WHERE company_id = $1 AND outbox_id = $2",
	.nparams = 3,
	.types = {INT8OID, INT8OID, TEXTOID},
};
static TcStatement delete_due = {
	.sql = "DELETE FROM @@.outbox_due WHERE company_id = $1 AND outbox_id = $2",
	.nparams = 2,
	.types = {INT8OID, INT8OID},
};

/* Defines the settings. */
void
tc_outbox_init(void)
{
	DefineCustomIntVariable("tenantcall.outbox_max_attempts",
							"Attempts after which an order to a calendar is given up.",
							"It then stays as dead until tenantcall.replay_outbox() is called.",
							&tc_outbox_max_attempts, 20, 1, 1000, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("tenantcall.outbox_timeout",
							"Longest time that one request of the outbox may take.", NULL,
							&tc_outbox_timeout, 15000, 100, 300000, PGC_SIGHUP, GUC_UNIT_MS, NULL,
							NULL, NULL);
	DefineCustomIntVariable("tenantcall.outbox_settle",
							"Time after which a request that was sent and not answered is over.",
							"What the calendar does not have by then it will not get from that "
							"request, and it is sent again.",
							&tc_outbox_settle, 60000, 0, 3600000, PGC_SIGHUP, GUC_UNIT_MS, NULL,
							NULL, NULL);
}

/* A key that no other order has. */
char *
tc_outbox_new_key(void)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out, OidFunctionCall0(F_GEN_RANDOM_UUID)));
}

/* Writes an order. */
void
tc_outbox_put(const TcAppointment *appointment, const TcOrder *order)
{
	const char *state = order->waits ? "waiting" : "queued";
	TcParams params = {0};
	TcParams due = {0};
	TcAct act;

	tc_param_int8(&params, appointment->company_id);
	tc_param_int8(&params, appointment->appointment_id);
	tc_param_text(&params, order->kind);
	tc_param_text(&params, order->key);
	tc_param_datum(&params, DirectFunctionCall1(jsonb_in, CStringGetDatum(order->request)), false);
	tc_param_text(&params, state);
	tc_execute(&insert_order, &params);
	tc_param_int8(&due, appointment->company_id);
	tc_param_int8(&due, tc_result_int8(1));
	tc_param_text(&due, appointment->credential);
	tc_param_text(&due, state);
	tc_param_datum(&due, Int32GetDatum(tc_outbox_max_attempts), false);
	tc_act_begin(&act, TC_AS_SYSTEM, NULL);
	tc_execute(&insert_due, &due);
	tc_act_end(&act);
	if (!order->waits)
		tc_http_wake_at_commit();
}

/* Locks the orders of an appointment that are not finished. */
void
tc_outbox_lock_open(int64 company_id, int64 appointment_id, TcOpenOrder *open)
{
	TcParams params = {0};
	TcParams due = {0};
	bool asked;
	bool isnull;
	TcAct act;

	memset(open, 0, sizeof(*open));
	tc_param_int8(&params, company_id);
	tc_param_int8(&params, appointment_id);
	tc_execute(&list_open, &params);
	tc_param_int8(&due, company_id);
	tc_param_datum(&due, tc_result_datum(1, &isnull), false);
	if (isnull)
		return;
	tc_act_begin(&act, TC_AS_SYSTEM, NULL);
	asked = tc_execute(&lock_due, &due) > 0 && DatumGetBool(tc_result_datum(1, &isnull));
	tc_act_end(&act);
	if (tc_execute(&read_open, &params) == 0)
		return;
	open->outbox_id = tc_result_int8(1);
	open->state = tc_result_text(2);
	open->untouched = !asked && DatumGetBool(tc_result_datum(3, &isnull));
}

/* Drops an untouched order. */
void
tc_outbox_drop(int64 company_id, int64 outbox_id, const char *why)
{
	TcParams params = {0};
	TcAct act;

	tc_param_int8(&params, company_id);
	tc_param_int8(&params, outbox_id);
	tc_act_begin(&act, TC_AS_SYSTEM, NULL);
	tc_execute(&delete_due, &params);
	tc_act_end(&act);
	tc_param_text(&params, why);
	tc_execute(&drop_order, &params);
}
