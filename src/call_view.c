/*
 * call_view.c
 *		One call as an application asks for it: its context, its moves, its history.
 *
 *		provider's call id --call_bindings--> company --act.h--> the company's tables
 *
 * Whoever may enter any company (a gateway) asks without entering one, and the binding of the call
 * says for which company we act.  Whoever has entered a company, as an application role must, gets
 * that company's calls only: a call of another one is as unknown as one that does not exist.
 *
 * call_context() is kept for the command: a voice application asks for one thing after the other
 * of the same call.  The key of what is kept names all that could make the answer another one: the
 * transaction, the command, the subtransaction, what the statement's snapshot sees, and who asks.
 *
 * Locks: advance_call() locks the row of calls until the end of the transaction.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "act.h"
#include "args.h"
#include "call_over.h"
#include "compat.h"
#include "context.h"
#include "delivery.h"
#include "directory.h"
#include "errors.h"
#include "lease.h"
#include "lifecycle.h"
#include "node.h"
#include "telephony.h"

PG_FUNCTION_INFO_V1(tc_call_context);
PG_FUNCTION_INFO_V1(tc_advance_call);
PG_FUNCTION_INFO_V1(tc_call_timeline);

/*
 * The service is that of a caller who names none: the candidates and their order are those of
 * select_service() in 75_services.sql, which a test compares.
 */
static TcStatement select_context = {
	.sql = "SELECT ROW(k.company_id, k.name, k.status, b.branch_id, b.name, "
		   "coalesce(b.time_zone, k.time_zone), n.phone_number_id, n.number, c.call_id, $2, "
		   "c.direction, c.status, c.started_at, c.ended_at, c.agent, p.number::text, p.reason, "
		   "u.customer_id, u.name, s.service_id, s.name)::tenantcall.call_context "
		   "FROM @.companies AS k "
		   "LEFT JOIN @.calls AS c ON c.company_id = k.company_id AND c.provider = 'retell' "
		   "AND c.provider_call_id = $2 "
		   "LEFT JOIN @.branches AS b ON b.company_id = c.company_id AND b.branch_id = c.branch_id "
		   "LEFT JOIN @.phone_numbers AS n ON n.company_id = c.company_id "
		   "AND n.phone_number_id = c.phone_number_id "
		   "LEFT JOIN LATERAL tenantcall.caller_number(CASE c.direction WHEN 'outbound' "
		   "THEN c.to_number ELSE c.from_number END) AS p ON c.call_id IS NOT NULL "
		   "LEFT JOIN @.customers AS u ON u.company_id = c.company_id AND u.customer_id = "
		   "coalesce(c.customer_id, (SELECT min(v.customer_id) FROM @.customers AS v "
		   "WHERE v.company_id = c.company_id AND v.phone = p.number::text)) "
		   "LEFT JOIN LATERAL (SELECT e.service_id, e.name FROM @.services AS e "
		   "LEFT JOIN @.branch_services AS f ON f.company_id = e.company_id "
		   "AND f.service_id = e.service_id AND f.branch_id = c.branch_id "
		   "WHERE e.company_id = k.company_id AND e.is_active AND coalesce(f.is_active, true) "
		   "AND coalesce(f.calcom_event_type_id, e.calcom_event_type_id) IS NOT NULL "
		   "AND (c.branch_id IS NULL OR f.service_id IS NOT NULL OR e.is_default OR NOT EXISTS "
		   "(SELECT FROM @.branch_services AS o WHERE o.company_id = e.company_id "
		   "AND o.service_id = e.service_id)) "
		   "ORDER BY coalesce(f.is_default, false) DESC, e.is_default DESC, "
		   "coalesce(f.priority, e.priority), "
		   "e.service_id LIMIT 1) AS s ON true WHERE k.company_id = $1",
	.nparams = 2,
	.types = {INT8OID, TEXTOID},
};
static TcStatement move_call = {
	.sql = "UPDATE @.calls SET status = $3 WHERE company_id = $1 AND provider = 'retell' "
		   "AND provider_call_id = $2 RETURNING call_id",
	.nparams = 3,
	.types = {INT8OID, TEXTOID, TEXTOID},
};
static TcStatement select_timeline = {
	.sql = "WITH c AS (SELECT c.call_id, c.created_at FROM @.calls AS c WHERE c.company_id = $1 "
		   "AND c.provider = 'retell' AND c.provider_call_id = $2) "
		   "SELECT t.at, t.kind, t.what, jsonb_strip_nulls(t.detail) FROM ("
		   "SELECT d.decided_at, 1, d.decision_id, 'decision', d.kind || ' ' || d.outcome, "
		   "jsonb_build_object('source', d.source, 'reason', d.reason, 'branch_id', d.branch_id, "
		   "'from_number', d.from_number, 'to_number', d.to_number, 'agent', d.agent, "
		   "'by_role', d.by_role) FROM @.tenant_decisions AS d "
		   "WHERE d.company_id = $1 AND d.decision_id IN ("
		   "SELECT o.decision_id FROM @.tenant_decisions AS o WHERE o.company_id = $1 "
		   "AND o.provider_call_id = $2 UNION SELECT m.inbound_decision_id "
		   "FROM @.tenant_decisions AS m WHERE m.company_id = $1 AND m.provider_call_id = $2 "
		   "AND m.kind = 'match' AND m.outcome = 'matched') "
		   "UNION ALL SELECT e.received_at, 0, 0, 'event', e.event, "
		   "jsonb_build_object('deliveries', e.deliveries, 'last_received_at', e.last_received_at) "
		   "FROM c JOIN @.call_events AS e ON e.company_id = $1 AND e.call_id = c.call_id "
		   "AND e.call_at = c.created_at "
		   "UNION ALL SELECT m.at, 2, m.transition_id, 'transition', m.to_state, "
		   "jsonb_build_object('from', m.from_state, 'reason', m.reason, 'event', m.event, "
		   "'by_role', m.by_role) FROM c JOIN @.call_transitions AS m ON m.company_id = $1 "
		   "AND m.relation = '@.calls'::regclass AND m.key = c.call_id::text "
		   "UNION ALL SELECT f.accepted_at, 3, 0, 'function_call', f.name, "
		   "jsonb_build_object('args', f.args, 'attempt', f.attempt, 'state', f.state, "
		   "'idempotency_key', f.idempotency_key) FROM c JOIN @.function_calls AS f "
		   "ON f.company_id = $1 AND f.call_id = c.call_id "
		   "UNION ALL SELECT f.finished_at, 4, 0, 'function_answer', f.name, "
		   "jsonb_build_object('answer', f.answer, 'idempotency_key', f.idempotency_key) "
		   "FROM c JOIN @.function_calls AS f ON f.company_id = $1 AND f.call_id = c.call_id "
		   "WHERE f.finished_at IS NOT NULL "
		   "UNION ALL SELECT h.created_at, 5, h.hold_id, 'hold', 'held', "
		   "jsonb_build_object('hold_id', h.hold_id, 'service_id', h.service_id, "
		   "'starts_at', h.starts_at, 'seat', h.seat) FROM c JOIN @.slot_holds AS h "
		   "ON h.company_id = $1 AND h.call_id = c.call_id "
		   "UNION ALL SELECT h.released_at, 6, h.hold_id, 'hold', h.state, "
		   "jsonb_build_object('hold_id', h.hold_id, 'reason', h.reason) "
		   "FROM c JOIN @.slot_holds AS h ON h.company_id = $1 AND h.call_id = c.call_id "
		   "WHERE h.released_at IS NOT NULL "
		   "UNION ALL SELECT m.at, 7, m.transition_id, 'booking', m.to_state, "
		   "jsonb_build_object('appointment_id', a.appointment_id, 'starts_at', a.starts_at, "
		   "'from', m.from_state, 'reason', m.reason, 'event', m.event, 'by_role', m.by_role) "
		   "FROM c JOIN @.appointments AS a ON a.company_id = $1 AND a.call_id = c.call_id "
		   "JOIN @.call_transitions AS m ON m.company_id = $1 "
		   "AND m.relation = '@.appointments'::regclass AND m.key = a.appointment_id::text"
		   ") AS t (at, rank, id, kind, what, detail) ORDER BY t.at, t.rank, t.id, t.what",
	.nparams = 2,
	.types = {INT8OID, TEXTOID},
};

/* All that an answer of call_context() depends on.  Compared as bytes. */
typedef struct ContextKey
{
	uint64 telephony;
	int64 company_id; /* entered, or 0 */
	LocalTransactionId lxid;
	CommandId command;
	SubTransactionId subtransaction;
	Oid user;
	/* of the snapshot: below xmax only endings happen, and each changes a count */
	TransactionId xmax;
	uint32 xcnt;
	int32 subxcnt;
	uint32 unused; /* 0: keys are compared as bytes, so there is no padding */
} ContextKey;

/* The last answer of call_context(), in a memory context of its own. */
static MemoryContext kept_memory = NULL;
static ContextKey kept_key;
static char *kept_call = NULL; /* NULL: nothing is kept */
static Datum kept_value;

/* Raises: there is no such call for whoever asks. */
static void
refuse_unknown(const char *call_id)
{
	ereport(ERROR, (errcode(ERRCODE_TC_UNKNOWN), errmsg("unknown call \"%s\"", call_id),
					errhint("Pass the provider's id of a call whose event or function call has "
							"been taken in for this company.")));
}

/* For which company to act; raises for a call that is none of the caller's. */
static TcContext
require_tenant(const char *call_id)
{
	const TcContext *entered = tc_context_current();
	static const Oid enter_types[2] = {INT8OID, INT8OID};
	TcContext tenant = {0};
	int64 bound;

	(void) tc_telephony_required();
	if (entered == NULL && !tc_may_call("enter", 2, enter_types))
		ereport(ERROR, (errcode(ERRCODE_TC_WRONG_TENANT), errmsg("no tenant has been entered"),
						errhint("Enter a company first, in the same transaction.")));
	bound = tc_binding_find(call_id);
	if (bound == 0 || (entered != NULL && entered->company_id != bound))
		refuse_unknown(call_id);
	tenant.company_id = bound;
	if (!tc_directory_fill(&tenant))
		refuse_unknown(call_id);
	return tenant;
}

/* What the answer depends on now. */
static void
fill_key(ContextKey *key)
{
	const TcContext *entered = tc_context_current();
	Snapshot snapshot = ActiveSnapshotSet() ? GetActiveSnapshot() : NULL;

	memset(key, 0, sizeof(*key));
	(void) tc_telephony_required();
	key->telephony = tc_telephony_generation();
	key->company_id = entered == NULL ? 0 : entered->company_id;
	key->lxid = TC_MY_LXID;
	key->command = GetCurrentCommandId(false);
	key->subtransaction = GetCurrentSubTransactionId();
	key->user = GetUserId();
	if (snapshot == NULL)
		return;
	key->xmax = snapshot->xmax;
	key->xcnt = snapshot->xcnt;
	key->subxcnt = snapshot->subxcnt;
}

/* Keeps an answer. */
static void
keep(const ContextKey *key, const char *call_id, Datum value)
{
	MemoryContext caller;

	if (kept_memory == NULL)
		kept_memory = AllocSetContextCreate(TopMemoryContext, "tenantcall call context",
											ALLOCSET_SMALL_SIZES);
	kept_call = NULL;
	MemoryContextReset(kept_memory);
	caller = MemoryContextSwitchTo(kept_memory);
	kept_value = datumCopy(value, false, -1);
	kept_key = *key;
	kept_call = pstrdup(call_id);
	MemoryContextSwitchTo(caller);
}

/* Reads the context of a call, in the caller's memory. */
static Datum
read_context(const char *call_id)
{
	TcContext tenant = require_tenant(call_id);
	MemoryContext caller = CurrentMemoryContext;
	TcParams params = {0};
	Datum value;
	bool isnull;
	TcAct act;

	tc_act_begin(&act, TC_AS_OWNER, &tenant);
	tc_param_int8(&params, tenant.company_id);
	tc_param_text(&params, call_id);
	if (tc_execute(&select_context, &params) == 0)
		refuse_unknown(call_id);
	value = tc_result_datum(1, &isnull);
	MemoryContextSwitchTo(caller);
	value = datumCopy(value, false, -1);
	tc_act_end(&act);
	return value;
}

/* call_context(provider_call_id) -> call_context */
Datum
tc_call_context(PG_FUNCTION_ARGS)
{
	char *call_id = tc_arg_text(fcinfo, 0, "provider_call_id");
	ContextKey key;
	Datum value;

	if (unlikely(tc_node_citus) &&
		tc_node_forward(fcinfo, require_tenant(call_id).company_id, NULL, &value))
		return value;
	fill_key(&key);
	if (kept_call != NULL && memcmp(&key, &kept_key, sizeof(key)) == 0 &&
		strcmp(call_id, kept_call) == 0)
		PG_RETURN_DATUM(datumCopy(kept_value, false, -1));
	value = read_context(call_id);
	keep(&key, call_id, value);
	PG_RETURN_DATUM(value);
}

/* advance_call(provider_call_id, state, reason) -> void */
Datum
tc_advance_call(PG_FUNCTION_ARGS)
{
	char *call_id = tc_arg_text(fcinfo, 0, "provider_call_id");
	char *state = tc_arg_text(fcinfo, 1, "state");
	char *reason = tc_arg_optional_text(fcinfo, 2);
	TcContext tenant = require_tenant(call_id);
	TcParams params = {0};
	Datum result;
	TcAct act;

	if (tc_node_elsewhere(fcinfo, tenant.company_id, &result))
		return result;
	tc_act_begin(&act, TC_AS_OWNER, &tenant);
	tc_lifecycle_set_reason(reason);
	tc_lifecycle_set_event(NULL);
	tc_param_int8(&params, tenant.company_id);
	tc_param_text(&params, call_id);
	tc_param_text(&params, state);
	if (tc_execute(&move_call, &params) == 0)
		refuse_unknown(call_id);
	if (!tc_lease_state_live(state))
		tc_call_over(tenant.company_id, tc_result_int8(1));
	tc_lease_state_set(tenant.company_id, call_id, state);
	tc_act_end(&act);
	PG_RETURN_VOID();
}

/* call_timeline(provider_call_id) -> rows */
Datum
tc_call_timeline(PG_FUNCTION_ARGS)
{
	char *call_id = tc_arg_text(fcinfo, 0, "provider_call_id");
	ReturnSetInfo *info = (ReturnSetInfo *) fcinfo->resultinfo;
	TcContext tenant = require_tenant(call_id);
	TcParams params = {0};
	uint64 count;
	TcAct act;

	if (unlikely(tc_node_citus) && tc_node_forward_set(fcinfo, tenant.company_id))
		return (Datum) 0;
	InitMaterializedSRF(fcinfo, 0);
	tc_act_begin(&act, TC_AS_OWNER, &tenant);
	tc_param_int8(&params, tenant.company_id);
	tc_param_text(&params, call_id);
	count = tc_execute(&select_timeline, &params);
	for (uint64 i = 0; i < count; i++)
		tuplestore_puttuple(info->setResult, SPI_tuptable->vals[i]);
	tc_act_end(&act);
	return (Datum) 0;
}
