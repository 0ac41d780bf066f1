/*
 * lease_policy.c
 *		How many calls at once: what is set for a company and its branches.
 *
 *		set_concurrency_policy() --> tenantcall.concurrency_policies
 *		shipped row <- row of all companies <- row of the company;  row of the branch: beside it
 *
 * The policy of a branch does not replace the company's: a call needs room in both.  Policies are
 * read anew at each admission, as of now and below row security, by two or three index look-ups:
 * a change holds from its commit on, for leases that are held already as well.
 *
 * Changes act as the extension's owner, who alone may touch the tables.  No locks but rows'.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "act.h"
#include "args.h"
#include "directory.h"
#include "errors.h"
#include "lease_policy.h"
#include "node.h"
#include "telephony.h"

PG_FUNCTION_INFO_V1(tc_set_concurrency_policy);
PG_FUNCTION_INFO_V1(tc_drop_concurrency_policy);

#define MAX_CALLS 1000000

static TcStatement upsert_policy = {
	.sql = "INSERT INTO tenantcall.concurrency_policies (company_id, branch_id, max_calls, "
		   "reserved_inbound, burst, unbound_ttl, bound_ttl, enabled) VALUES "
		   "(coalesce($1, 0), coalesce($2, 0), $3, $4, $5, $6, $7, $8) "
		   "ON CONFLICT (company_id, branch_id) DO UPDATE SET max_calls = excluded.max_calls, "
		   "reserved_inbound = excluded.reserved_inbound, burst = excluded.burst, "
		   "unbound_ttl = excluded.unbound_ttl, bound_ttl = excluded.bound_ttl, "
		   "enabled = excluded.enabled, changed_at = excluded.changed_at",
	.nparams = 8,
	.types = {INT8OID, INT8OID, INT4OID, INT4OID, INT4OID, INTERVALOID, INTERVALOID, BOOLOID},
};
static TcStatement delete_policy = {
	.sql = "DELETE FROM tenantcall.concurrency_policies "
		   "WHERE company_id = coalesce($1, 0) AND branch_id = coalesce($2, 0)",
	.nparams = 2,
	.types = {INT8OID, INT8OID},
};

/* --- reading ------------------------------------------------------------------------------- */

/* What a look-up gathers. */
typedef struct Gathering
{
	int64 branch_id;
	TcLeasePolicies *policies;
	int64 *branches; /* NULL: not wanted */
	int count;
	int room;
} Gathering;

/* An integer column, which is never NULL. */
static int64
integer_of(HeapTuple tuple, TupleDesc desc, const char *column)
{
	Datum value;

	return tc_row_datum(tuple, desc, column, &value) ? DatumGetInt32(value) : 0;
}

/* Replaces a time to live, if the row has one. */
static void
take_ttl(HeapTuple tuple, TupleDesc desc, const char *column, int64 *ttl)
{
	Datum value;
	Interval *interval;

	if (!tc_row_datum(tuple, desc, column, &value))
		return;
	interval = DatumGetIntervalP(value);
	*ttl =
		interval->time + (interval->day + (int64) interval->month * DAYS_PER_MONTH) * USECS_PER_DAY;
}

/* Takes a row of policies. */
static bool
visit_policy(HeapTuple tuple, TupleDesc desc, void *arg)
{
	Gathering *gathering = arg;
	TcLeasePolicies *policies = gathering->policies;
	int64 branch_id = tc_row_int8(tuple, desc, "branch_id");
	TcLeasePolicy *policy = branch_id == 0 ? &policies->company : &policies->branch;
	Datum enabled;

	if (branch_id != 0 && branch_id != gathering->branch_id)
		return true;
	policy->enabled = tc_row_datum(tuple, desc, "enabled", &enabled) && DatumGetBool(enabled);
	policy->max_calls = integer_of(tuple, desc, "max_calls");
	policy->reserved_inbound = integer_of(tuple, desc, "reserved_inbound");
	policy->burst = integer_of(tuple, desc, "burst");
	take_ttl(tuple, desc, "unbound_ttl", &policies->unbound_ttl);
	take_ttl(tuple, desc, "bound_ttl", &policies->bound_ttl);
	return true;
}

/* Lists the branches of a company that have rows. */
static bool
visit_branch(HeapTuple tuple, TupleDesc desc, void *arg)
{
	Gathering *gathering = arg;
	int64 branch_id = tc_row_int8(tuple, desc, "branch_id");

	if (branch_id == 0)
		return true;
	if (gathering->count == gathering->room)
	{
		gathering->room *= 2;
		gathering->branches = repalloc(gathering->branches, gathering->room * sizeof(int64));
	}
	gathering->branches[gathering->count++] = branch_id;
	return true;
}

/* Reads a company's rows of a table. */
static void
read_policies(const char *table, int64 company_id, TcRowVisitor visit, Gathering *gathering)
{
	TcMatch match = {"company_id", INT8OID, Int64GetDatum(company_id)};
	Oid relid = tc_node_copy(get_relname_relid(table, get_namespace_oid("tenantcall", false)));

	if (!OidIsValid(relid))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
						errmsg("table \"tenantcall.%s\" is missing", table),
						errhint("Drop and create the extension \"tenantcall\" again.")));
	tc_read_rows(relid, &match, 1, visit, gathering);
}

/* What holds for a company and one of its branches. */
void
tc_lease_policies(int64 company_id, int64 branch_id, TcLeasePolicies *policies)
{
	Gathering gathering = {.branch_id = branch_id, .policies = policies};

	memset(policies, 0, sizeof(*policies));
	read_policies("concurrency_policy_defaults", 0, visit_policy, &gathering);
	read_policies("concurrency_policies", 0, visit_policy, &gathering);
	read_policies("concurrency_policies", company_id, visit_policy, &gathering);
}

/* The branches with a policy of their own. */
int64 *
tc_lease_policy_branches(int64 company_id, int *count)
{
	Gathering gathering = {.room = 16};

	gathering.branches = palloc(gathering.room * sizeof(int64));
	read_policies("concurrency_policies", company_id, visit_branch, &gathering);
	*count = gathering.count;
	return gathering.branches;
}

/* --- setting ------------------------------------------------------------------------------- */

/* For whom: arguments company and branch; raises PT404 for unknown ones. */
static TcContext
scope_argument(FunctionCallInfo fcinfo, int company)
{
	TcContext scope = {.company_id = tc_arg_optional_id(fcinfo, company, "company_id"),
					   .branch_id = tc_arg_optional_id(fcinfo, company + 1, "branch_id")};

	(void) tc_telephony_required();
	if (scope.branch_id != 0 && scope.company_id == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a branch is given, but no company"), errhint("Pass company_id as well.")));
	return scope;
}

/* A number of calls, from 0 to the most. */
static int32
calls_argument(FunctionCallInfo fcinfo, int arg, const char *name, int32 most)
{
	if (PG_ARGISNULL(arg))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("argument \"%s\" must not be NULL", name),
						errhint("For no limit, pass enabled => false.")));
	if (PG_GETARG_INT32(arg) < 0 || PG_GETARG_INT32(arg) > most)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"%s\" must be from 0 to %d", name, most)));
	return PG_GETARG_INT32(arg);
}

/* Refuses a time to live that is no span, or given for a branch. */
static void
check_ttl(FunctionCallInfo fcinfo, int arg, const char *name, const TcContext *scope)
{
	Interval *ttl;
	int64 span;

	if (PG_ARGISNULL(arg))
		return;
	ttl = PG_GETARG_INTERVAL_P(arg);
	span = ttl->time + ttl->day * USECS_PER_DAY;
	if (ttl->month != 0 || ttl->day > 100 || ttl->day < -100 || span < USECS_PER_SEC ||
		span > 7 * USECS_PER_DAY)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"%s\" must be from 1 second to 7 days", name)));
	if (scope->branch_id != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"%s\" cannot be set for a branch", name),
						errhint("Set it for the company.")));
}

/*
 * set_concurrency_policy(max_calls, reserved_inbound, burst, company_id, branch_id, unbound_ttl,
 *						  bound_ttl, enabled) -> void
 */
Datum
tc_set_concurrency_policy(PG_FUNCTION_ARGS)
{
	int32 max_calls = calls_argument(fcinfo, 0, "max_calls", MAX_CALLS);
	int32 reserved = calls_argument(fcinfo, 1, "reserved_inbound", max_calls);
	int32 burst = calls_argument(fcinfo, 2, "burst", MAX_CALLS);
	TcContext scope = scope_argument(fcinfo, 3);
	TcContext known = scope;
	TcParams params = {0};
	TcAct act;

	check_ttl(fcinfo, 5, "unbound_ttl", &scope);
	check_ttl(fcinfo, 6, "bound_ttl", &scope);
	if (PG_ARGISNULL(7))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("argument \"enabled\" must not be NULL")));
	if (scope.company_id != 0 && !tc_directory_fill(&known))
		ereport(ERROR, (errcode(ERRCODE_TC_UNKNOWN), errmsg("no such company or branch"),
						errhint("The branch must belong to the company.")));
	tc_act_begin(&act, TC_AS_SYSTEM, NULL);
	tc_param_int8(&params, scope.company_id);
	tc_param_int8(&params, scope.branch_id);
	tc_param_datum(&params, Int32GetDatum(max_calls), false);
	tc_param_datum(&params, Int32GetDatum(reserved), false);
	tc_param_datum(&params, Int32GetDatum(burst), false);
	tc_param_datum(&params, PG_GETARG_DATUM(5), PG_ARGISNULL(5));
	tc_param_datum(&params, PG_GETARG_DATUM(6), PG_ARGISNULL(6));
	tc_param_datum(&params, PG_GETARG_DATUM(7), false);
	(void) tc_execute(&upsert_policy, &params);
	tc_act_end(&act);
	PG_RETURN_VOID();
}

/* drop_concurrency_policy(company_id, branch_id) -> void */
Datum
tc_drop_concurrency_policy(PG_FUNCTION_ARGS)
{
	TcContext scope = scope_argument(fcinfo, 0);
	TcParams params = {0};
	uint64 rows;
	TcAct act;

	tc_act_begin(&act, TC_AS_SYSTEM, NULL);
	tc_param_int8(&params, scope.company_id);
	tc_param_int8(&params, scope.branch_id);
	rows = tc_execute(&delete_policy, &params);
	tc_act_end(&act);
	if (rows == 0)
		ereport(ERROR, (errcode(ERRCODE_TC_UNKNOWN), errmsg("no such concurrency policy"),
						errdetail("None has been set for exactly this company and branch."),
						errhint("The shipped policy cannot be dropped: set one with enabled => "
								"false.")));
	PG_RETURN_VOID();
}
