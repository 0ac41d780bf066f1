/*
 * directory_admin.c
 *		SQL functions by which administrators keep the directory.
 *
 * Each finds out below row security which company is concerned, then acts for that company as the
 * owner of the tables (act.h).  A move acts for two companies in turn, in one transaction.
 *
 * Races: numbers among the unreleased, agents and external ids are unique, so of two concurrent
 * assignments one waits, inserts nothing, and says so (PT409).  A release touches the row only if
 * it is still unreleased, and says so when it is not.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "act.h"
#include "args.h"
#include "compat.h"
#include "directory.h"
#include "errors.h"
#include "phone.h"
#include "ready.h"
#include "telephony.h"
#include "time_zone.h"

PG_FUNCTION_INFO_V1(tc_create_company);
PG_FUNCTION_INFO_V1(tc_set_company_status);
PG_FUNCTION_INFO_V1(tc_assign_number);
PG_FUNCTION_INFO_V1(tc_release_number);
PG_FUNCTION_INFO_V1(tc_move_number);
PG_FUNCTION_INFO_V1(tc_assign_agent);
PG_FUNCTION_INFO_V1(tc_release_agent);
PG_FUNCTION_INFO_V1(tc_assign_credential);

static TcStatement next_company = {
	.sql = "SELECT nextval(pg_get_serial_sequence('@.companies', 'company_id'))",
};
static TcStatement insert_company = {
	.sql = "INSERT INTO @.companies (company_id, name, phone_region, time_zone, external_id) "
		   "VALUES ($1, $2, $3, $4, coalesce($5, gen_random_uuid())) "
		   "ON CONFLICT (external_id) DO NOTHING",
	.nparams = 5,
	.types = {INT8OID, TEXTOID, TEXTOID, TEXTOID, UUIDOID},
};
static TcStatement update_status = {
	.sql = "UPDATE @.companies SET status = $2, status_reason = $3, status_at = now() "
		   "WHERE company_id = $1",
	.nparams = 3,
	.types = {INT8OID, TEXTOID, TEXTOID},
};

/* Whole milliseconds, as the platform tells times: a call of this moment is not before it. */
#define NOW_MS "date_trunc('milliseconds', clock_timestamp())"

static TcStatement insert_number = {
	.sql = "INSERT INTO @.phone_numbers (company_id, branch_id, number, assigned_at) "
		   "VALUES ($1, $2, $3, coalesce($4, " NOW_MS ")) "
		   "ON CONFLICT (number) WHERE released_at IS NULL DO NOTHING RETURNING phone_number_id",
	.nparams = 4,
	.types = {INT8OID, INT8OID, TEXTOID, TIMESTAMPTZOID},
};
static TcStatement release_number = {
	.sql = "UPDATE @.phone_numbers SET released_at = greatest(assigned_at, $3) "
		   "WHERE company_id = $1 AND number = $2 AND released_at IS NULL RETURNING released_at",
	.nparams = 3,
	.types = {INT8OID, TEXTOID, TIMESTAMPTZOID},
};
static TcStatement insert_agent = {
	.sql = "INSERT INTO @.agents (provider_agent_id, company_id, branch_id, assigned_at) "
		   "VALUES ($1, $2, $3, " NOW_MS ") ON CONFLICT (provider_agent_id) DO NOTHING",
	.nparams = 3,
	.types = {TEXTOID, INT8OID, INT8OID},
};
static TcStatement update_agent = {
	.sql = "UPDATE @.agents SET branch_id = $3 "
		   "WHERE provider_agent_id = $1 AND company_id = $2",
	.nparams = 3,
	.types = {TEXTOID, INT8OID, INT8OID},
};
static TcStatement find_credential = {
	.sql = "SELECT 1 FROM tenantcall.secrets WHERE kind = 'credential' AND name = $1",
	.nparams = 1,
	.types = {TEXTOID},
};
static TcStatement company_credential = {
	.sql = "UPDATE @.companies SET credential = $2 WHERE company_id = $1",
	.nparams = 2,
	.types = {INT8OID, TEXTOID},
};
static TcStatement branch_credential = {
	.sql = "UPDATE @.branches SET credential = $2 WHERE company_id = $1 AND branch_id = $3",
	.nparams = 3,
	.types = {INT8OID, TEXTOID, INT8OID},
};
static TcStatement delete_agent = {
	.sql = "DELETE FROM @.agents WHERE provider_agent_id = $1 AND company_id = $2",
	.nparams = 2,
	.types = {TEXTOID, INT8OID},
};

/* A context for the company and branch; raises when either is unknown. */
static TcContext
require_tenant(int64 company_id, int64 branch_id)
{
	TcContext context = {.company_id = company_id, .branch_id = branch_id};
	TcCompany company;

	(void) tc_telephony_required();
	if (!tc_directory_company(company_id, &company))
		ereport(ERROR, (errcode(ERRCODE_TC_UNKNOWN),
						errmsg("company " INT64_FORMAT " does not exist", company_id),
						errhint("Make it with tenantcall.create_company().")));
	if (!tc_directory_fill(&context))
		ereport(ERROR,
				(errcode(ERRCODE_TC_UNKNOWN),
				 errmsg("branch " INT64_FORMAT " does not exist in company " INT64_FORMAT,
						branch_id, company_id),
				 errhint("Enter the company and insert the branch into the table branches.")));
	return context;
}

/* Executes one statement for a tenant; the number of rows.  *id takes the first column, if any. */
static uint64
execute_for(const TcContext *context, TcStatement *statement, const TcParams *params, int64 *id)
{
	TcAct act;
	uint64 rows;

	tc_act_begin(&act, TC_AS_DIRECTORY, context);
	rows = tc_execute(statement, params);
	if (id != NULL)
		*id = rows > 0 ? tc_result_int8(1) : 0;
	tc_act_end(&act);
	return rows;
}

/* A region is an ISO 3166 code of two letters. */
static void
check_region(const char *region)
{
	if (region != NULL && !(strlen(region) == 2 && region[0] >= 'A' && region[0] <= 'Z' &&
							region[1] >= 'A' && region[1] <= 'Z'))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid phone region \"%s\"", region),
						errhint("Use an ISO 3166-1 code of two capital letters, such as DE.")));
}

/* Raises: another session was faster. */
static TC_NORETURN void
report_meanwhile(const char *what, const char *name)
{
	ereport(ERROR, (errcode(ERRCODE_TC_CONFLICT), errmsg("%s %s was changed meanwhile", what, name),
					errdetail("Another session has just changed to whom it belongs."),
					errhint("Look at its assignment again, then repeat.")));
}

/* External ids are unique. */
static void
check_external_id(const uint8 *uuid)
{
	TcContext context = {0};

	memcpy(context.company_uuid, uuid, TC_UUID_LEN);
	if (tc_uuid_is_nil(uuid))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"external_id\" must not be the nil UUID")));
	if (tc_directory_fill(&context))
		ereport(ERROR, (errcode(ERRCODE_TC_CONFLICT),
						errmsg("a company with this external id exists already"),
						errdetail("It is company " INT64_FORMAT ".", (int64) context.company_id)));
}

/* create_company(name, phone_region, time_zone, external_id) -> bigint */
Datum
tc_create_company(PG_FUNCTION_ARGS)
{
	char *name = tc_arg_name(fcinfo, 0, "name");
	char *region = tc_arg_optional_text(fcinfo, 1);
	char *time_zone = tc_arg_text(fcinfo, 2, "time_zone");
	TcContext context = {0};
	TcParams params = {0};

	(void) tc_telephony_required();
	check_region(region);
	tc_time_zone_check(time_zone);
	if (!PG_ARGISNULL(3))
		check_external_id(PG_GETARG_UUID_P(3)->data);
	(void) execute_for(NULL, &next_company, NULL, &context.company_id);
	tc_param_int8(&params, context.company_id);
	tc_param_text(&params, name);
	tc_param_text(&params, region);
	tc_param_text(&params, time_zone);
	tc_param_datum(&params, PG_GETARG_DATUM(3), PG_ARGISNULL(3));
	if (execute_for(&context, &insert_company, &params, NULL) == 0)
		report_meanwhile("the external id of company", name);
	PG_RETURN_INT64(context.company_id);
}

/* set_company_status(company_id, status, reason) -> void */
Datum
tc_set_company_status(PG_FUNCTION_ARGS)
{
	int64 company_id = tc_arg_id(fcinfo, 0, "company_id");
	char *status = tc_arg_text(fcinfo, 1, "status");
	TcContext context;
	TcParams params = {0};

	if (strcmp(status, "active") != 0 && strcmp(status, "suspended") != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid company status \"%s\"", status),
						errhint("A company is active or suspended.")));
	context = require_tenant(company_id, 0);
	tc_param_int8(&params, company_id);
	tc_param_text(&params, status);
	tc_param_text(&params, tc_arg_optional_text(fcinfo, 2));
	(void) execute_for(&context, &update_status, &params, NULL);
	PG_RETURN_VOID();
}

/* Gives an unassigned number to a tenant, from a moment on (0: now); its phone_number_id. */
static int64
assign(int64 phone, const TcContext *context, TimestampTz from)
{
	TcParams params = {0};
	int64 id;

	tc_param_int8(&params, context->company_id);
	tc_param_int8(&params, context->branch_id);
	tc_param_text(&params, tc_phone_format(phone));
	tc_param_datum(&params, TimestampTzGetDatum(from), from == 0);
	if (execute_for(context, &insert_number, &params, &id) == 0)
		report_meanwhile("the number", tc_phone_format(phone));
	return id;
}

/* The present moment in whole milliseconds, as NOW_MS says it. */
static TimestampTz
now_ms(void)
{
	TimestampTz now = GetCurrentTimestamp();

	return now - now % 1000;
}

/* Takes the number from the tenant that has it; the moment from which it is free. */
static TimestampTz
release(int64 phone, const TcPlace *place)
{
	TcContext context = {.company_id = place->company_id};
	TcParams params = {0};
	int64 released_at;

	(void) tc_directory_fill(&context);
	tc_param_int8(&params, place->company_id);
	tc_param_text(&params, tc_phone_format(phone));
	tc_param_datum(&params, TimestampTzGetDatum(now_ms()), false);
	if (execute_for(&context, &release_number, &params, &released_at) == 0)
		report_meanwhile("the number", tc_phone_format(phone));
	return (TimestampTz) released_at;
}

/* The number argument, read with the region of the company. */
static int64
number_argument(FunctionCallInfo fcinfo, int64 company_id)
{
	char *number = tc_arg_text(fcinfo, 0, "number");
	TcCompany company;

	if (company_id != 0 && tc_directory_company(company_id, &company) &&
		company.phone_region[0] != '\0')
		return tc_phone_require(number, company.phone_region);
	return tc_phone_require(number, NULL);
}

/* assign_number(number, company_id, branch_id) -> bigint */
Datum
tc_assign_number(PG_FUNCTION_ARGS)
{
	int64 company_id = tc_arg_id(fcinfo, 1, "company_id");
	int64 branch_id = tc_arg_id(fcinfo, 2, "branch_id");
	TcContext context = require_tenant(company_id, branch_id);
	int64 phone = number_argument(fcinfo, company_id);
	TcPlace place;

	if (!tc_directory_number(phone, &place))
		PG_RETURN_INT64(assign(phone, &context, 0));
	if (place.company_id != company_id || place.branch_id != branch_id)
		ereport(ERROR,
				(errcode(ERRCODE_TC_CONFLICT),
				 errmsg("the number %s is assigned already", tc_phone_format(phone)),
				 errdetail("It belongs to company " INT64_FORMAT ", branch " INT64_FORMAT ".",
						   place.company_id, place.branch_id),
				 errhint("Use tenantcall.move_number() to give it to another one.")));
	PG_RETURN_INT64(place.phone_number_id);
}

/* To whom an assigned number belongs; raises when it belongs to nobody. */
static TcPlace
require_number(int64 phone)
{
	TcPlace place;

	(void) tc_telephony_required();
	if (!tc_directory_number(phone, &place))
		ereport(ERROR, (errcode(ERRCODE_TC_UNKNOWN),
						errmsg("the number %s is not assigned", tc_phone_format(phone)),
						errhint("Assign it with tenantcall.assign_number().")));
	return place;
}

/* release_number(number) -> void */
Datum
tc_release_number(PG_FUNCTION_ARGS)
{
	int64 phone = number_argument(fcinfo, 0);
	TcPlace place = require_number(phone);

	(void) release(phone, &place);
	PG_RETURN_VOID();
}

/* move_number(number, company_id, branch_id) -> bigint */
Datum
tc_move_number(PG_FUNCTION_ARGS)
{
	int64 company_id = tc_arg_id(fcinfo, 1, "company_id");
	int64 branch_id = tc_arg_id(fcinfo, 2, "branch_id");
	TcContext context = require_tenant(company_id, branch_id);
	int64 phone = number_argument(fcinfo, company_id);
	TcPlace place = require_number(phone);

	if (place.company_id == company_id && place.branch_id == branch_id)
		PG_RETURN_INT64(place.phone_number_id);
	PG_RETURN_INT64(assign(phone, &context, release(phone, &place)));
}

/* assign_agent(provider_agent_id, company_id, branch_id) -> void */
Datum
tc_assign_agent(PG_FUNCTION_ARGS)
{
	char *agent = tc_arg_name(fcinfo, 0, "provider_agent_id");
	int64 company_id = tc_arg_id(fcinfo, 1, "company_id");
	TcContext context = require_tenant(company_id, tc_arg_optional_id(fcinfo, 2, "branch_id"));
	TcParams params = {0};
	TimestampTz assigned_at;
	TcPlace place;
	bool known = tc_directory_agent(agent, &place, &assigned_at);

	tc_param_text(&params, agent);
	tc_param_int8(&params, company_id);
	tc_param_int8(&params, context.branch_id);
	if (!known || place.company_id == company_id)
	{
		if (execute_for(&context, known ? &update_agent : &insert_agent, &params, NULL) == 0)
			report_meanwhile("the agent", agent);
	}
	else
		ereport(ERROR,
				(errcode(ERRCODE_TC_CONFLICT), errmsg("the agent is assigned to another company"),
				 errdetail("It belongs to company " INT64_FORMAT ".", place.company_id),
				 errhint("Release it first with tenantcall.release_agent().")));
	PG_RETURN_VOID();
}

/* release_agent(provider_agent_id) -> void */
Datum
tc_release_agent(PG_FUNCTION_ARGS)
{
	char *agent = tc_arg_text(fcinfo, 0, "provider_agent_id");
	TcContext context = {0};
	TcParams params = {0};
	TimestampTz assigned_at;
	TcPlace place;

	(void) tc_telephony_required();
	if (!tc_directory_agent(agent, &place, &assigned_at))
		ereport(ERROR,
				(errcode(ERRCODE_TC_UNKNOWN), errmsg("the agent is assigned to no company")));
	context.company_id = place.company_id;
	(void) tc_directory_fill(&context);
	tc_param_text(&params, agent);
	tc_param_int8(&params, place.company_id);
	(void) execute_for(&context, &delete_agent, &params, NULL);
	PG_RETURN_VOID();
}

/* A credential that is named must exist. */
static void
require_credential(const char *name)
{
	TcParams params = {0};
	bool found;
	TcAct act;

	tc_act_begin(&act, TC_AS_SYSTEM, NULL);
	tc_param_text(&params, name);
	found = tc_execute(&find_credential, &params) > 0;
	tc_act_end(&act);
	if (!found)
		ereport(ERROR,
				(errcode(ERRCODE_TC_UNKNOWN), errmsg("credential \"%s\" does not exist", name),
				 errhint("Store it with tenantcall.set_credential().")));
}

/* assign_credential(company_id, credential, branch_id) -> void */
Datum
tc_assign_credential(PG_FUNCTION_ARGS)
{
	int64 company_id = tc_arg_id(fcinfo, 0, "company_id");
	char *credential = tc_arg_optional_text(fcinfo, 1);
	TcContext context = require_tenant(company_id, tc_arg_optional_id(fcinfo, 2, "branch_id"));
	TcParams params = {0};

	if (credential != NULL)
		require_credential(credential);
	tc_param_int8(&params, company_id);
	tc_param_text(&params, credential);
	if (context.branch_id != 0)
		tc_param_int8(&params, context.branch_id);
	(void) execute_for(&context, context.branch_id == 0 ? &company_credential : &branch_credential,
					   &params, NULL);
	PG_RETURN_VOID();
}
