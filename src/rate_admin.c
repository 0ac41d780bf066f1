/*
 * rate_admin.c
 *		Setting and dropping rate policies.
 *
 * Changes are rows of tenantcall.rate_policies, which only the extension's owner may touch; these
 * functions act as that owner.  A table lock puts changes in a row, so that versions rise in the
 * order of commit.  Readers are not held up.  See rate_policy.c for how a change spreads.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "act.h"
#include "args.h"
#include "errors.h"
#include "rate_args.h"
#include "rate_clock.h"
#include "rate_policy.h"
#include "ready.h"

PG_FUNCTION_INFO_V1(tc_set_rate_policy);
PG_FUNCTION_INFO_V1(tc_drop_rate_policy);

static TcStatement lock_policies = {
	.sql = "LOCK TABLE tenantcall.rate_policies IN SHARE ROW EXCLUSIVE MODE",
};
static TcStatement find_policy = {
	.sql =
		"SELECT policy_id::bigint, level FROM tenantcall.rate_policy_defaults "
		"WHERE policy = $1 AND bandwidth = $2 "
		"UNION ALL SELECT policy_id::bigint, level FROM tenantcall.rate_policies "
		"WHERE policy = $1 AND bandwidth = $2 AND company_id IS NULL AND (NOT removed OR NOT $3)",
	.nparams = 3,
	.types = {TEXTOID, TEXTOID, BOOLOID},
};
static TcStatement upsert_policy = {
	.sql =
		"INSERT INTO tenantcall.rate_policies (policy, company_id, branch_id, number, bandwidth,"
		" level, policy_id, tokens, period_ns, burst, reserve, pause_ns, shadow, enabled, "
		"change_mode, version, changed_at, changed_boot, changed_clock, removed) VALUES ($1, $2, $3, $4, $5, $6, "
		"coalesce($7, nextval('tenantcall.rate_policy_id'))::int, $8, $9, $10, $11, $12, $13, "
		"$14, $15, nextval('tenantcall.rate_policy_version'), clock_timestamp(), $16, $17, false) "
		"ON CONFLICT ON CONSTRAINT rate_policies_key DO UPDATE SET level = excluded.level, "
		"tokens = excluded.tokens, period_ns = excluded.period_ns, burst = excluded.burst, "
		"reserve = excluded.reserve, pause_ns = excluded.pause_ns, shadow = excluded.shadow, enabled = excluded.enabled, "
		"change_mode = excluded.change_mode, version = excluded.version, "
		"changed_at = excluded.changed_at, changed_boot = excluded.changed_boot, "
		"changed_clock = excluded.changed_clock, removed = false",
	.nparams = 17,
	.types = {TEXTOID, INT8OID, INT8OID, TEXTOID, TEXTOID, TEXTOID, INT8OID, INT8OID, INT8OID,
			  INT8OID, INT8OID, INT8OID, BOOLOID, BOOLOID, TEXTOID, INT8OID, INT8OID},
};
static TcStatement remove_policy = {
	.sql = "UPDATE tenantcall.rate_policies SET removed = true, change_mode = 'proportional', "
		   "version = $8, changed_at = $9, "
		   "changed_boot = $6, changed_clock = $7 "
		   "WHERE policy = $1 AND company_id IS NOT DISTINCT FROM $2 "
		   "AND branch_id IS NOT DISTINCT FROM $3 AND number IS NOT DISTINCT FROM $4 "
		   "AND bandwidth = $5 AND NOT removed",
	.nparams = 9,
	.types = {TEXTOID, INT8OID, INT8OID, TEXTOID, TEXTOID, INT8OID, INT8OID, INT8OID,
			  TIMESTAMPTZOID},
};
static TcStatement next_version = {
	.sql = "SELECT nextval('tenantcall.rate_policy_version')",
};

/* For whom a policy is set: a row's key. */
typedef struct Scope
{
	char *policy;
	int64 company_id;
	int64 branch_id;
	char *number;
	char *bandwidth;
} Scope;

/* A name of a policy or bandwidth. */
static char *
name_argument(FunctionCallInfo fcinfo, int arg, const char *argument)
{
	char *name = tc_arg_text(fcinfo, arg, argument);

	if (name[0] == '\0' || strlen(name) >= TC_RATE_NAME_LEN)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 strcmp(argument, "policy") == 0
					 ? errmsg("a rate policy's name has 1 to %d bytes", TC_RATE_NAME_LEN - 1)
					 : errmsg("a bandwidth's name has 1 to %d bytes", TC_RATE_NAME_LEN - 1)));
	return name;
}

/* Who is meant: arguments company, and from `rest` on bandwidth, branch and number. */
static Scope
scope_arguments(FunctionCallInfo fcinfo, int company, int rest)
{
	Scope scope;

	scope.policy = name_argument(fcinfo, 0, "policy");
	scope.company_id = tc_arg_optional_id(fcinfo, company, "company_id");
	scope.bandwidth = name_argument(fcinfo, rest, "bandwidth");
	scope.branch_id = tc_arg_optional_id(fcinfo, rest + 1, "branch_id");
	scope.number = tc_arg_optional_text(fcinfo, rest + 2);
	if ((scope.branch_id != 0 || scope.number != NULL) && scope.company_id == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("a branch or number is given, but no company"),
						errhint("Pass company_id as well.")));
	if (scope.number != NULL &&
		(scope.number[0] == '\0' || strlen(scope.number) >= TC_RATE_NUMBER_LEN))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"number\" has 1 to %d bytes", TC_RATE_NUMBER_LEN - 1)));
	return scope;
}

/* Binds a scope's first four columns, or all five. */
static void
bind_scope(TcParams *params, const Scope *scope)
{
	tc_param_text(params, scope->policy);
	tc_param_int8(params, scope->company_id);
	tc_param_int8(params, scope->branch_id);
	tc_param_text(params, scope->number);
	tc_param_text(params, scope->bandwidth);
}

/* Binds the instant of a change by the buckets' clock. */
static void
bind_clock(TcParams *params)
{
	tc_param_datum(params, Int64GetDatum(tc_rate_boot()), false);
	tc_param_datum(params, Int64GetDatum(tc_rate_now()), false);
}

/* A required number. */
static int64
number_argument(FunctionCallInfo fcinfo, int arg, const char *name)
{
	if (PG_ARGISNULL(arg))
		tc_rate_raise_null(name);
	return PG_GETARG_INT64(arg);
}

/* The change mode. */
static char *
change_argument(FunctionCallInfo fcinfo, int arg)
{
	char *mode = tc_arg_text(fcinfo, arg, "change_mode");

	if (strcmp(mode, "proportional") != 0 && strcmp(mode, "reset") != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid change mode \"%s\"", mode),
						errhint("proportional keeps each bucket's fill level, reset fills it.")));
	return mode;
}

/* Refuses numbers that the arithmetic cannot hold. */
static void
check_numbers(int64 tokens, int64 period, int64 burst, TcRateMath *math)
{
	switch (tc_rate_setup(math, tokens, period, burst))
	{
		case TC_RATE_OK:
			return;
		case TC_RATE_BAD_TOKENS:
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("argument \"tokens\" must be at least 1"),
					 errhint("To let nobody pass, revoke the right to call; to let everybody "
							 "pass, set enabled => false.")));
		case TC_RATE_BAD_PERIOD:
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("argument \"per\" must be from 1 microsecond to 366 days")));
		case TC_RATE_BAD_BURST:
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("argument \"burst\" must be from 1 to 2^59 - 1"),
							errdetail("It is as many tokens as a full bucket holds; it defaults to "
									  "\"tokens\".")));
		case TC_RATE_TOO_FAST:
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the rate is too high"),
					 errdetail("The most are 3 * 10^14 tokens a second, and 2^58 tokens in a "
							   "period.")));
	}
}

/* Refuses settings for a part of what the policy's buckets count for. */
static void
check_scope(const Scope *scope, TcRateLevel level)
{
	if ((scope->company_id != 0 && level == TC_RATE_GLOBAL) ||
		(scope->branch_id != 0 && level == TC_RATE_COMPANY) ||
		(scope->number != NULL && (level == TC_RATE_COMPANY || level == TC_RATE_BRANCH)))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("rate policy \"%s\" has buckets of level \"%s\"", scope->policy,
							   tc_rate_level_name(level)),
						errdetail("It cannot be set for anything finer than that.")));
}

/* The level argument; NULL: as it is, or company. */
static TcRateLevel
level_argument(const char *name, TcRateLevel present)
{
	TcRateLevel level = present;

	if (name != NULL && !tc_rate_level_parse(name, &level))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid level \"%s\"", name),
				 errhint("Levels are global, company, branch, number, call, function.")));
	return level;
}

/* The bandwidth's id (0: it has none yet) and level.  For a company's row it must exist. */
static int64
find_policy_id(const Scope *scope, const char *level_name, TcRateLevel *level)
{
	TcParams params = {0};
	TcRateLevel present = TC_RATE_COMPANY;
	int64 id = 0;

	tc_param_text(&params, scope->policy);
	tc_param_text(&params, scope->bandwidth);
	tc_param_datum(&params, BoolGetDatum(scope->company_id != 0), false);
	if (tc_execute(&find_policy, &params) > 0)
	{
		id = tc_result_int8(1);
		(void) tc_rate_level_parse(tc_result_text(2), &present);
	}
	else if (scope->company_id != 0)
		ereport(ERROR,
				(errcode(ERRCODE_TC_UNKNOWN), errmsg("unknown rate policy \"%s\"", scope->policy),
				 errhint("Set it for all companies first: tenantcall.set_rate_policy(policy, "
						 "tokens, per).")));
	*level = level_argument(level_name, present);
	if (id != 0 && *level != present)
		ereport(ERROR, (errcode(ERRCODE_TC_CONFLICT),
						errmsg("rate policy \"%s\" has buckets of level \"%s\"", scope->policy,
							   tc_rate_level_name(present)),
						errdetail("A level is chosen once."),
						errhint("Use another name for policy or bandwidth.")));
	check_scope(scope, *level);
	return id;
}

/* The reserve for high priority. */
static int64
reserve_argument(FunctionCallInfo fcinfo, int arg, int64 burst)
{
	int64 reserve = number_argument(fcinfo, arg, "reserve");

	if (reserve < 0 || reserve > burst)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"reserve\" must be from 0 to the burst"),
						errdetail("Low priority may not use so many of the last tokens.")));
	return reserve;
}

/* The pause after a refusal. */
static int64
pause_argument(FunctionCallInfo fcinfo, int arg, const TcRateMath *math)
{
	int64 pause = tc_rate_span_argument(fcinfo, arg, "pause");

	if (pause > 0 && tc_rate_pause(math, (TcRateState){0, 0}, 0, pause) == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"pause\" is too long for a rate this high")));
	return pause;
}

/*
 * set_rate_policy(policy, tokens, per, burst, company_id, shadow, enabled, change_mode,
 *				   bandwidth, branch_id, number, level, reserve, pause) -> void
 */
Datum
tc_set_rate_policy(PG_FUNCTION_ARGS)
{
	Scope scope = scope_arguments(fcinfo, 4, 8);
	int64 tokens = number_argument(fcinfo, 1, "tokens");
	int64 period = tc_rate_period_argument(fcinfo, 2);
	int64 burst = PG_ARGISNULL(3) ? tokens : PG_GETARG_INT64(3);
	bool shadow = tc_rate_flag_argument(fcinfo, 5, "shadow");
	bool enabled = tc_rate_flag_argument(fcinfo, 6, "enabled");
	char *change = change_argument(fcinfo, 7);
	char *level_name = tc_arg_optional_text(fcinfo, 11);
	int64 reserve;
	int64 pause;
	TcRateLevel level;
	int64 policy_id;
	TcParams params = {0};
	TcRateMath math;
	TcAct act;

	tc_require_ready();
	check_numbers(tokens, period, burst, &math);
	reserve = reserve_argument(fcinfo, 12, burst);
	pause = pause_argument(fcinfo, 13, &math);
	tc_act_begin(&act, TC_AS_SYSTEM, NULL);
	(void) tc_execute(&lock_policies, NULL);
	policy_id = find_policy_id(&scope, level_name, &level);
	bind_scope(&params, &scope);
	tc_param_text(&params, tc_rate_level_name(level));
	tc_param_int8(&params, policy_id);
	tc_param_int8(&params, tokens);
	tc_param_int8(&params, period);
	tc_param_int8(&params, burst);
	tc_param_datum(&params, Int64GetDatum(reserve), false);
	tc_param_datum(&params, Int64GetDatum(pause), false);
	tc_param_datum(&params, BoolGetDatum(shadow), false);
	tc_param_datum(&params, BoolGetDatum(enabled), false);
	tc_param_text(&params, change);
	bind_clock(&params);
	(void) tc_execute(&upsert_policy, &params);
	tc_act_end(&act);
	PG_RETURN_VOID();
}

/* drop_rate_policy(policy, company_id, bandwidth, branch_id, number) -> void */
Datum
tc_drop_rate_policy(PG_FUNCTION_ARGS)
{
	Scope scope = scope_arguments(fcinfo, 1, 2);
	TcParams params = {0};
	TcAct act;
	uint64 rows;

	tc_require_ready();
	bind_scope(&params, &scope);
	bind_clock(&params);
	tc_act_begin(&act, TC_AS_SYSTEM, NULL);
	(void) tc_execute(&lock_policies, NULL);
	(void) tc_execute(&next_version, NULL);
	tc_param_int8(&params, tc_result_int8(1));
	tc_param_datum(&params, TimestampTzGetDatum(GetCurrentTimestamp()), false);
	rows = tc_execute(&remove_policy, &params);
	tc_act_end(&act);
	if (rows == 0)
		ereport(ERROR,
				(errcode(ERRCODE_TC_UNKNOWN),
				 scope.company_id == 0
					 ? errmsg("rate policy \"%s\" has not been set", scope.policy)
					 : errmsg("company " INT64_FORMAT " has no rate policy \"%s\" of its own",
							  scope.company_id, scope.policy),
				 errhint("Shipped policies cannot be dropped: set them with enabled => false.")));
	PG_RETURN_VOID();
}
