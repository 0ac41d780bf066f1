/*
 * lease_sql.c
 *		Leases by hand: for whoever dials, and for upkeep.
 *
 *		acquire_call_lease() -> the platform is asked to dial -> bind_call_lease() -> events
 *		                                            \-> it did not: release_call_lease()
 *
 * A dialler that dies in between leaves a lease that is not bound, which expires soon.  Binding
 * goes through call_bindings and the call's row, in the order in which events take them, so it
 * neither misses the end of a call nor deadlocks with its events.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "act.h"
#include "args.h"
#include "companies.h"
#include "errors.h"
#include "lease.h"
#include "node.h"
#include "refusals.h"
#include "telephony.h"

PG_FUNCTION_INFO_V1(tc_acquire_call_lease);
PG_FUNCTION_INFO_V1(tc_bind_call_lease);
PG_FUNCTION_INFO_V1(tc_release_call_lease);
PG_FUNCTION_INFO_V1(tc_expire_call_leases);
PG_FUNCTION_INFO_V1(tc_call_lease_stats);

#define FIND_CALL                                                                                  \
	"SELECT status, ended_at IS NOT NULL OR analyzed_at IS NOT NULL FROM @.calls "                 \
	"WHERE company_id = $1 AND provider = 'retell' AND provider_call_id = $2"

static TcStatement find_call = {
	.sql = FIND_CALL,
	.nparams = 2,
	.types = {INT8OID, TEXTOID},
};
static TcStatement lock_call = {
	.sql = FIND_CALL " FOR NO KEY UPDATE",
	.nparams = 2,
	.types = {INT8OID, TEXTOID},
};
static TcStatement delete_held = {
	.sql = "DELETE FROM @.call_leases WHERE company_id = $1 AND holder = $2",
	.nparams = 2,
	.types = {INT8OID, TEXTOID},
};
static TcStatement delete_bound = {
	.sql = "DELETE FROM @.call_leases WHERE company_id = $1 AND provider_call_id = $2",
	.nparams = 2,
	.types = {INT8OID, TEXTOID},
};
static TcStatement has_lease = {
	.sql = "SELECT 1 FROM @.call_leases WHERE company_id = $1 AND provider_call_id = $2 "
		   "AND holder <> $3",
	.nparams = 3,
	.types = {INT8OID, TEXTOID, TEXTOID},
};
static TcStatement bind_lease = {
	.sql = "UPDATE @.call_leases SET provider_call_id = $2, seen_at = clock_timestamp() "
		   "WHERE company_id = $1 AND holder = $3 "
		   "AND (provider_call_id IS NULL OR provider_call_id = $2)",
	.nparams = 3,
	.types = {INT8OID, TEXTOID, TEXTOID},
};
static TcStatement expire_requests = {
	.sql = "DELETE FROM @.inbound_requests WHERE company_id = $1 AND request_id = ANY (ARRAY("
		   "SELECT request_id FROM @.inbound_requests WHERE company_id = $1 "
		   "AND received_at < now() - interval '1 day' LIMIT $2 FOR UPDATE SKIP LOCKED))",
	.nparams = 2,
	.types = {INT8OID, INT8OID},
};

/* --- by hand ------------------------------------------------------------------------------- */

/* A holder, or a call's id: a text of no more than 200 bytes. */
static char *
name_argument(FunctionCallInfo fcinfo, int arg, const char *name)
{
	char *value = tc_arg_text(fcinfo, arg, name);

	if (strlen(value) > TC_LEASE_HOLDER_MAX)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"%s\" has 1 to %d bytes", name, TC_LEASE_HOLDER_MAX)));
	return value;
}

/* The direction argument: is it outbound? */
static bool
outbound_argument(FunctionCallInfo fcinfo, int arg)
{
	char *direction = tc_arg_text(fcinfo, arg, "direction");

	if (strcmp(direction, "outbound") != 0 && strcmp(direction, "inbound") != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid direction \"%s\"", direction),
						errhint("Directions are inbound and outbound.")));
	return direction[0] == 'o';
}

/* Is the call known, and over?  The statement finds its row, or locks it as well. */
static bool
call_is_over(TcStatement *statement, int64 company_id, const char *provider_call_id)
{
	TcParams params = {0};
	bool isnull;

	tc_param_int8(&params, company_id);
	tc_param_text(&params, provider_call_id);
	if (tc_execute(statement, &params) == 0)
		return false;
	return DatumGetBool(tc_result_datum(2, &isnull)) || !tc_lease_state_live(tc_result_text(1));
}

/* A lease that is there: when it was seen last. */
typedef struct Held
{
	bool found;
	bool bound;
	TimestampTz seen_at;
} Held;

/* Takes a holder's lease. */
static bool
visit_held(HeapTuple tuple, TupleDesc desc, void *arg)
{
	Held *held = arg;
	Datum value;

	held->found = true;
	held->bound = tc_row_datum(tuple, desc, "provider_call_id", &value);
	if (tc_row_datum(tuple, desc, "seen_at", &value))
		held->seen_at = DatumGetTimestampTz(value);
	return false;
}

/* When the lease that the holder (or the call of that id) has expires; 0: it has none. */
static TimestampTz
held_until(int64 company_id, const char *holder)
{
	Oid relid = tc_telephony_table_of("call_leases", company_id);
	TcMatch matches[2] = {{"company_id", INT8OID, Int64GetDatum(company_id)},
						  {"holder", TEXTOID, CStringGetTextDatum(holder)}};
	TcLeasePolicies policies;
	TimestampTz until;
	Held held = {0};

	tc_read_rows(relid, matches, 2, visit_held, &held);
	if (!held.found)
	{
		matches[1].column = "provider_call_id";
		tc_read_rows(relid, matches, 2, visit_held, &held);
	}
	if (!held.found)
		return 0;
	tc_lease_policies(company_id, 0, &policies);
	until = held.seen_at + (held.bound ? policies.bound_ttl : policies.unbound_ttl);
	return until > GetCurrentTimestamp() ? until : 0;
}

/* Gives back what the holder, or the call, has; is there something? */
static bool
drop_lease(int64 company_id, const char *holder)
{
	TcParams params = {0};

	tc_param_int8(&params, company_id);
	tc_param_text(&params, holder);
	return tc_execute(&delete_held, &params) + tc_execute(&delete_bound, &params) > 0;
}

/* Notes that a lease was refused; counted, since whoever waits for one may ask again and again. */
static void
note_refusal(const TcLeaseAsk *ask, const char *reason)
{
	TcDelivery delivery = {.kind = "lease"};
	TcPlacement placement = {.place = {.company_id = ask->tenant->company_id,
									   .branch_id = ask->tenant->branch_id},
							 .source = "argument"};

	delivery.call_id = unconstify(char *, ask->holder);
	tc_refusal_note(&delivery, &placement, "limited", reason);
}

/* Decides on a lease; *until is when it expires. */
static const char *
acquire(const TcLeaseAsk *ask, TcLeaseAnswer *answer, TimestampTz *until)
{
	int64 company_id = ask->tenant->company_id;
	TcCompany company;

	*until = held_until(company_id, ask->holder);
	tc_lease_ask(ask, answer);
	if (*until != 0)
	{
		answer->refused = NULL;
		return "held";
	}
	(void) drop_lease(company_id, ask->holder); /* expired */
	if (!tc_directory_company(company_id, &company) || company.suspended)
		answer->refused = "company_suspended";
	else if (call_is_over(&find_call, company_id, ask->holder))
		answer->refused = "call_is_over";
	if (answer->refused != NULL)
		return "refused";
	*until = GetCurrentTimestamp() + answer->ttl;
	return tc_lease_hold(ask) ? "acquired" : "held";
}

/* acquire_call_lease(company_id, holder, direction, branch_id) -> one row */
Datum
tc_acquire_call_lease(PG_FUNCTION_ARGS)
{
	TcContext tenant = tc_company_required(tc_arg_id(fcinfo, 0, "company_id"));
	TcLeaseAsk ask = {&tenant, name_argument(fcinfo, 1, "holder"), outbound_argument(fcinfo, 2)};
	TcLeaseAnswer answer;
	TimestampTz until;
	const char *outcome;
	Datum values[5];
	bool nulls[5] = {false};
	Datum there;
	TcAct act;

	if (tc_node_elsewhere(fcinfo, tenant.company_id, &there))
		return there;
	tenant.branch_id = tc_arg_optional_id(fcinfo, 3, "branch_id");
	if (!tc_directory_fill(&tenant))
		ereport(ERROR, (errcode(ERRCODE_TC_UNKNOWN), errmsg("no such company or branch"),
						errhint("The branch must belong to the company.")));
	tc_act_begin(&act, TC_AS_OWNER, &tenant);
	tc_lease_lock();
	outcome = acquire(&ask, &answer, &until);
	tc_act_end(&act);
	if (answer.refused != NULL)
		note_refusal(&ask, answer.refused);
	values[0] = CStringGetTextDatum(outcome);
	nulls[1] = answer.refused == NULL;
	values[1] = nulls[1] ? (Datum) 0 : CStringGetTextDatum(answer.refused);
	values[2] = Int64GetDatum(answer.in_use + (strcmp(outcome, "acquired") == 0 ? 1 : 0));
	values[3] = Int64GetDatum(answer.limit);
	nulls[3] = answer.limit < 0;
	values[4] = TimestampTzGetDatum(until);
	nulls[4] = answer.refused != NULL;
	return tc_return_row(fcinfo, values, nulls);
}

/* Binds, acting for the company and holding the call's row; false: there is nothing to bind. */
static bool
bind_to(int64 company_id, const char *holder, const char *call_id)
{
	TcParams params = {0};

	if (call_is_over(&lock_call, company_id, call_id))
	{
		(void) drop_lease(company_id, holder);
		return false;
	}
	tc_param_int8(&params, company_id);
	tc_param_text(&params, call_id);
	tc_param_text(&params, holder);
	if (tc_execute(&has_lease, &params) == 0)
		return tc_execute(&bind_lease, &params) > 0;
	(void) drop_lease(company_id, holder); /* an event of the call came first: one is enough */
	return true;
}

/* bind_call_lease(company_id, holder, provider_call_id) -> boolean */
Datum
tc_bind_call_lease(PG_FUNCTION_ARGS)
{
	TcContext tenant = tc_company_required(tc_arg_id(fcinfo, 0, "company_id"));
	char *holder = name_argument(fcinfo, 1, "holder");
	char *call_id = name_argument(fcinfo, 2, "provider_call_id");
	Datum there;
	bool bound;
	TcAct act;

	tc_node_require_front();
	if (tc_binding_make(call_id, tenant.company_id) != tenant.company_id)
		ereport(ERROR, (errcode(ERRCODE_TC_CONFLICT),
						errmsg("call \"%s\" belongs to another company", call_id),
						errhint("A call belongs to one company for good.")));
	if (tc_node_forward(fcinfo, tenant.company_id, call_id, &there))
		return there;
	tc_act_begin(&act, TC_AS_OWNER, &tenant);
	bound = bind_to(tenant.company_id, holder, call_id);
	tc_act_end(&act);
	PG_RETURN_BOOL(bound);
}

/* release_call_lease(company_id, holder) -> boolean */
Datum
tc_release_call_lease(PG_FUNCTION_ARGS)
{
	TcContext tenant = tc_company_required(tc_arg_id(fcinfo, 0, "company_id"));
	char *holder = name_argument(fcinfo, 1, "holder");
	bool released;
	Datum there;
	TcAct act;

	if (tc_node_elsewhere(fcinfo, tenant.company_id, &there))
		return there;
	tc_act_begin(&act, TC_AS_OWNER, &tenant);
	released = drop_lease(tenant.company_id, holder);
	tc_act_end(&act);
	PG_RETURN_BOOL(released);
}

/* --- upkeep -------------------------------------------------------------------------------- */

/* Deletes a company's expired leases, at most so many; how many there were. */
static int64
expire_for(const TcContext *company, int64 most)
{
	TcLeasePolicies policies;
	int64 deleted;
	TcAct act;

	tc_act_begin(&act, TC_AS_OWNER, company);
	tc_lease_policies(company->company_id, 0, &policies);
	deleted = tc_lease_expire(company->company_id, &policies, most);
	tc_act_end(&act);
	return deleted;
}

/* Deletes a company's old requests, at most so many; how many there were. */
static int64
forget_requests(const TcContext *company, int64 most)
{
	TcParams params = {0};
	int64 deleted;
	TcAct act;

	tc_act_begin(&act, TC_AS_OWNER, company);
	tc_param_int8(&params, company->company_id);
	tc_param_int8(&params, most);
	deleted = (int64) tc_execute(&expire_requests, &params);
	tc_act_end(&act);
	return deleted;
}

/* expire_call_leases(max_rows integer) -> one row */
Datum
tc_expire_call_leases(PG_FUNCTION_ARGS)
{
	static const struct
	{
		const char *table;
		int64 (*clean)(const TcContext *company, int64 most);
	} jobs[] = {{"call_leases", expire_for}, {"inbound_requests", forget_requests}};

	Datum values[lengthof(jobs)];
	bool nulls[lengthof(jobs)] = {false};

	if (PG_ARGISNULL(0) || PG_GETARG_INT32(0) <= 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"max_rows\" must be positive")));
	for (size_t job = 0; job < lengthof(jobs); job++)
	{
		int count;
		TcContext *companies = tc_companies_in(jobs[job].table, &count);
		int64 left = PG_GETARG_INT32(0);

		for (int i = 0; i < count && left > 0; i++)
		{
			CHECK_FOR_INTERRUPTS();
			left -= jobs[job].clean(&companies[i], left);
		}
		values[job] = Int64GetDatum(PG_GETARG_INT32(0) - left);
	}
	return tc_return_row(fcinfo, values, nulls);
}

/* Adds a row of statistics: of a company, or of a branch with a policy of its own. */
static void
put_stats(FunctionCallInfo fcinfo, int64 company_id, int64 branch_id)
{
	ReturnSetInfo *info = (ReturnSetInfo *) fcinfo->resultinfo;
	TcLeasePolicies policies;
	const TcLeasePolicy *policy;
	const TcLeaseUse *use;
	TcLeaseCount count;
	Datum values[12];
	bool nulls[12] = {false};

	tc_lease_policies(company_id, branch_id, &policies);
	tc_lease_count(company_id, branch_id, &policies, &count);
	policy = branch_id == 0 ? &policies.company : &policies.branch;
	use = branch_id == 0 ? &count.company : &count.branch;
	values[0] = Int64GetDatum(company_id);
	values[1] = Int64GetDatum(branch_id);
	nulls[1] = branch_id == 0;
	values[2] = Int64GetDatum(use->inbound + use->outbound);
	values[3] = Int64GetDatum(use->inbound);
	values[4] = Int64GetDatum(use->outbound);
	values[5] = Int64GetDatum(count.unbound);
	values[6] = Int64GetDatum(count.expired);
	nulls[5] = nulls[6] = branch_id != 0;
	values[7] = Int64GetDatum(policy->max_calls);
	values[8] = Int64GetDatum(policy->reserved_inbound);
	values[9] = Int64GetDatum(policy->burst);
	values[10] = BoolGetDatum(policy->enabled);
	values[11] = TimestampTzGetDatum(count.oldest);
	nulls[11] = count.oldest == 0 || branch_id != 0;
	tuplestore_putvalues(info->setResult, info->setDesc, values, nulls);
}

/* call_lease_stats() -> rows */
Datum
tc_call_lease_stats(PG_FUNCTION_ARGS)
{
	TcContext *companies;
	int count;

	if (tc_node_forward_statistics(fcinfo))
		return (Datum) 0;
	InitMaterializedSRF(fcinfo, 0);
	if (tc_telephony() == NULL)
		return (Datum) 0;
	companies = tc_companies_seen("call_leases", &count);
	for (int i = 0; i < count; i++)
	{
		int branches;
		int64 *branch_ids = tc_lease_policy_branches(companies[i].company_id, &branches);

		CHECK_FOR_INTERRUPTS();
		put_stats(fcinfo, companies[i].company_id, 0);
		for (int k = 0; k < branches; k++)
			put_stats(fcinfo, companies[i].company_id, branch_ids[k]);
		pfree(branch_ids);
	}
	return (Datum) 0;
}
