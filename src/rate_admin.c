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

#include "act.h"
#include "args.h"
#include "errors.h"
#include "rate_args.h"
#include "rate_core.h"
#include "tenantcall.h"

#define MAX_NAME 63

PG_FUNCTION_INFO_V1(tc_set_rate_policy);
PG_FUNCTION_INFO_V1(tc_drop_rate_policy);

static TcStatement lock_policies = {
	.sql = "LOCK TABLE tenantcall.rate_policies IN SHARE ROW EXCLUSIVE MODE",
};
static TcStatement find_policy = {
	.sql = "SELECT policy_id::bigint FROM tenantcall.rate_policy_defaults WHERE policy = $1 "
		   "UNION ALL SELECT policy_id::bigint FROM tenantcall.rate_policies "
		   "WHERE policy = $1 AND company_id IS NULL AND (NOT removed OR NOT $2)",
	.nparams = 2,
	.types = {TEXTOID, BOOLOID},
};
static TcStatement upsert_policy = {
	.sql = "INSERT INTO tenantcall.rate_policies (policy, company_id, policy_id, tokens, period_ns,"
		   " burst, shadow, enabled, change_mode, version, changed_at, removed) "
		   "VALUES ($1, $2, coalesce($3, nextval('tenantcall.rate_policy_id'))::int, $4, $5, $6, "
		   "$7, $8, $9, nextval('tenantcall.rate_policy_version'), clock_timestamp(), false) "
		   "ON CONFLICT ON CONSTRAINT rate_policies_key DO UPDATE SET tokens = excluded.tokens, "
		   "period_ns = excluded.period_ns, burst = excluded.burst, shadow = excluded.shadow, "
		   "enabled = excluded.enabled, change_mode = excluded.change_mode, "
		   "version = excluded.version, changed_at = excluded.changed_at, removed = false",
	.nparams = 9,
	.types = {TEXTOID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, BOOLOID, BOOLOID, TEXTOID},
};
static TcStatement remove_policy = {
	.sql = "UPDATE tenantcall.rate_policies SET removed = true, change_mode = 'proportional', "
		   "version = nextval('tenantcall.rate_policy_version'), changed_at = clock_timestamp() "
		   "WHERE policy = $1 AND company_id IS NOT DISTINCT FROM $2 AND NOT removed",
	.nparams = 2,
	.types = {TEXTOID, INT8OID},
};

/* The name of a policy. */
static char *
name_argument(FunctionCallInfo fcinfo)
{
	char *name = tc_arg_text(fcinfo, 0, "policy");

	if (name[0] == '\0' || strlen(name) > MAX_NAME)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("a rate policy's name has 1 to %d bytes", MAX_NAME)));
	return name;
}

/* A required number. */
static int64
number_argument(FunctionCallInfo fcinfo, int arg, const char *name)
{
	if (PG_ARGISNULL(arg))
		tc_rate_raise_null(name);
	return PG_GETARG_INT64(arg);
}

/* A required flag. */
static Datum
flag_argument(FunctionCallInfo fcinfo, int arg, const char *name)
{
	if (PG_ARGISNULL(arg))
		tc_rate_raise_null(name);
	return PG_GETARG_DATUM(arg);
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
check_numbers(int64 tokens, int64 period, int64 burst)
{
	TcRateMath math;

	switch (tc_rate_setup(&math, tokens, period, burst))
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

/* The policy's id (0: it has none yet).  For a company's own row the policy must exist. */
static int64
find_policy_id(const char *name, int64 company_id)
{
	TcParams params = {0};

	tc_param_text(&params, name);
	tc_param_datum(&params, BoolGetDatum(company_id != 0), false);
	if (tc_execute(&find_policy, &params) > 0)
		return tc_result_int8(1);
	if (company_id != 0)
		ereport(ERROR,
				(errcode(ERRCODE_TC_UNKNOWN), errmsg("unknown rate policy \"%s\"", name),
				 errhint("Set it for all companies first: tenantcall.set_rate_policy(policy, "
						 "tokens, per).")));
	return 0;
}

/* set_rate_policy(policy, tokens, per, burst, company_id, shadow, enabled, change_mode) -> void */
Datum
tc_set_rate_policy(PG_FUNCTION_ARGS)
{
	char *name = name_argument(fcinfo);
	int64 tokens = number_argument(fcinfo, 1, "tokens");
	int64 period = tc_rate_period_argument(fcinfo, 2);
	int64 burst = PG_ARGISNULL(3) ? tokens : PG_GETARG_INT64(3);
	int64 company_id = tc_arg_optional_id(fcinfo, 4, "company_id");
	Datum shadow = flag_argument(fcinfo, 5, "shadow");
	Datum enabled = flag_argument(fcinfo, 6, "enabled");
	char *change = change_argument(fcinfo, 7);
	TcParams params = {0};
	TcAct act;

	tc_require_ready();
	check_numbers(tokens, period, burst);
	tc_act_begin(&act, TC_AS_SYSTEM, NULL);
	(void) tc_execute(&lock_policies, NULL);
	tc_param_text(&params, name);
	tc_param_int8(&params, company_id);
	tc_param_int8(&params, find_policy_id(name, company_id));
	tc_param_int8(&params, tokens);
	tc_param_int8(&params, period);
	tc_param_int8(&params, burst);
	tc_param_datum(&params, shadow, false);
	tc_param_datum(&params, enabled, false);
	tc_param_text(&params, change);
	(void) tc_execute(&upsert_policy, &params);
	tc_act_end(&act);
	PG_RETURN_VOID();
}

/* drop_rate_policy(policy, company_id) -> void: back to what holds otherwise */
Datum
tc_drop_rate_policy(PG_FUNCTION_ARGS)
{
	char *name = name_argument(fcinfo);
	int64 company_id = tc_arg_optional_id(fcinfo, 1, "company_id");
	TcParams params = {0};
	TcAct act;
	uint64 rows;

	tc_require_ready();
	tc_param_text(&params, name);
	tc_param_int8(&params, company_id);
	tc_act_begin(&act, TC_AS_SYSTEM, NULL);
	(void) tc_execute(&lock_policies, NULL);
	rows = tc_execute(&remove_policy, &params);
	tc_act_end(&act);
	if (rows == 0)
		ereport(ERROR,
				(errcode(ERRCODE_TC_UNKNOWN),
				 company_id == 0
					 ? errmsg("rate policy \"%s\" has not been set", name)
					 : errmsg("company " INT64_FORMAT " has no rate policy \"%s\" of its own",
							  company_id, name),
				 errhint("Shipped policies cannot be dropped: set them with enabled => false.")));
	PG_RETURN_VOID();
}
