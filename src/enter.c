/*
 * enter.c
 *		SQL functions that resolve a number and enter a tenant.
 *
 *		number or id --directory--> company, branch --context--> every query of the transaction
 *
 * Entering by an administrator is recorded: one line in the server log, and one row in
 * tenant_decisions of the company entered (the log line also outlives a rollback, and serves in
 * read-only transactions and on a standby).
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/uuid.h"

#include "act.h"
#include "args.h"
#include "compat.h"
#include "context.h"
#include "directory.h"
#include "errors.h"
#include "node.h"
#include "phone.h"
#include "ready.h"
#include "stat.h"
#include "telephony.h"

PG_FUNCTION_INFO_V1(tc_enter);
PG_FUNCTION_INFO_V1(tc_enter_uuid);
PG_FUNCTION_INFO_V1(tc_enter_phone);
PG_FUNCTION_INFO_V1(tc_resolve_phone);

static TcStatement record_entry = {
	.sql = "INSERT INTO @.tenant_decisions (company_id, branch_id, kind, outcome, source, by_role) "
		   "VALUES ($1, $2, 'enter', 'entered', 'argument', $3)",
	.nparams = 3,
	.types = {INT8OID, INT8OID, TEXTOID},
};

/* May the current user do what only administrators may? */
static bool
is_admin(void)
{
	static const Oid argtypes[3] = {INT8OID, TEXTOID, TEXTOID};

	return tc_may_call("set_company_status", 3, argtypes);
}

/* Records that an administrator entered the tenant now in context. */
static void
record_admin(const TcContext *context)
{
	TcAct act;
	TcParams params = {0};
	char *role = GetUserNameFromId(GetOuterUserId(), false);

	if (!is_admin())
		return;
	ereport(LOG, (errmsg("tenantcall: administrator \"%s\" entered company " INT64_FORMAT, role,
						 (int64) context->company_id)));
	if (XactReadOnly || RecoveryInProgress() || tc_telephony() == NULL)
		return;
	if (!tc_node_hold(context->company_id))
	{
		tc_node_enter_there(context);
		return;
	}
	tc_act_begin(&act, TC_AS_OWNER, NULL);
	tc_param_int8(&params, context->company_id);
	tc_param_int8(&params, context->branch_id);
	tc_param_text(&params, role);
	tc_execute(&record_entry, &params);
	tc_act_end(&act);
}

/* A company or branch as the caller named it. */
static char *
shown(int64 id, const uint8 *uuid)
{
	pg_uuid_t copy;

	if (id != 0)
		return psprintf(INT64_FORMAT, id);
	memcpy(copy.data, uuid, TC_UUID_LEN);
	return DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&copy)));
}

/* Raises that the directory does not have the company, or not the branch in it. */
static _Noreturn void
refuse_unknown(const TcContext *context)
{
	char *company = shown((int64) context->company_id, context->company_uuid);
	bool has_branch = context->branch_id != 0 || !tc_uuid_is_nil(context->branch_uuid);

	tc_stat_count(0, TC_STAT_REFUSED_UNKNOWN);
	ereport(ERROR, (errcode(ERRCODE_TC_UNKNOWN), errmsg("no such company or branch"),
					has_branch ? errdetail("Company %s, branch %s.", company,
										   shown((int64) context->branch_id, context->branch_uuid))
							   : errdetail("Company %s.", company),
					errhint("The branch must belong to the company. Companies are made by "
							"tenantcall.create_company().")));
}

/* Completes, checks and enters. */
static void
enter_checked(TcContext *context, TcStatCount how)
{
	const TcContext *before = tc_context_current();
	bool again;

	tc_require_ready();
	if (!tc_directory_fill(context))
		refuse_unknown(context);
	again = before != NULL && tc_context_equal(before, context);
	tc_context_enter(context);
	tc_stat_count((int64) context->company_id, how);
	if (!again)
		record_admin(context);
	tc_node_spread(context);
}

/* enter(company_id bigint, branch_id bigint) -> void */
Datum
tc_enter(PG_FUNCTION_ARGS)
{
	TcContext context = {0};

	context.company_id = tc_arg_id(fcinfo, 0, "company_id");
	context.branch_id = tc_arg_optional_id(fcinfo, 1, "branch_id");
	enter_checked(&context, TC_STAT_ENTER_ID);
	PG_RETURN_VOID();
}

/* Copies a uuid argument; the nil UUID names nothing. */
static void
take_uuid(FunctionCallInfo fcinfo, int arg, const char *name, uint8 *uuid)
{
	memcpy(uuid, PG_GETARG_UUID_P(arg)->data, TC_UUID_LEN);
	if (tc_uuid_is_nil(uuid))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"%s\" must not be the nil UUID", name)));
}

/* enter_uuid(company uuid, branch uuid) -> void */
Datum
tc_enter_uuid(PG_FUNCTION_ARGS)
{
	TcContext context = {0};

	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("argument \"company\" must not be NULL")));
	take_uuid(fcinfo, 0, "company", context.company_uuid);
	if (!PG_ARGISNULL(1))
		take_uuid(fcinfo, 1, "branch", context.branch_uuid);
	enter_checked(&context, TC_STAT_ENTER_UUID);
	PG_RETURN_VOID();
}

/* Fills the columns of a resolution; false when the number belongs to nobody. */
static bool
resolve(const char *number, Datum values[4], bool nulls[4])
{
	TcPlace place;
	TcCompany company;

	(void) tc_telephony_required();
	if (!tc_directory_number(tc_phone_require(number, NULL), &place) ||
		!tc_directory_company(place.company_id, &company))
		return false;
	memset(nulls, false, 4 * sizeof(bool));
	values[0] = Int64GetDatum(place.company_id);
	values[1] = Int64GetDatum(place.branch_id);
	nulls[1] = place.branch_id == 0;
	values[2] = Int64GetDatum(place.phone_number_id);
	values[3] = CStringGetTextDatum(company.suspended ? "suspended" : "active");
	return true;
}

/* resolve_phone(number text) -> one row, or none */
Datum
tc_resolve_phone(PG_FUNCTION_ARGS)
{
	Datum values[4];
	bool nulls[4];
	char *number = tc_arg_text(fcinfo, 0, "number");

	if (!resolve(number, values, nulls))
		return tc_return_row(fcinfo, NULL, NULL);
	return tc_return_row(fcinfo, values, nulls);
}

/* enter_phone(number text) -> resolution */
Datum
tc_enter_phone(PG_FUNCTION_ARGS)
{
	Datum values[4];
	bool nulls[4];
	TcContext context = {0};
	char *number = tc_arg_text(fcinfo, 0, "number");

	if (!resolve(number, values, nulls))
	{
		tc_stat_count(0, TC_STAT_REFUSED_UNKNOWN);
		ereport(ERROR, (errcode(ERRCODE_TC_UNKNOWN), errmsg("the number belongs to no company"),
						errdetail("Number %s.", number),
						errhint("Assign it with tenantcall.assign_number().")));
	}
	context.company_id = DatumGetInt64(values[0]);
	context.branch_id = nulls[1] ? 0 : DatumGetInt64(values[1]);
	enter_checked(&context, TC_STAT_ENTER_PHONE);
	return tc_form_result(fcinfo, values, nulls);
}
