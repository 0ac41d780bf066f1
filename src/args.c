/*
 * args.c
 *		Arguments and results of SQL functions.
 *
 * No state, no locks.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "nodes/value.h"
#include "parser/parse_func.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "args.h"
#include "compat.h"

#define MAX_WAIT (60 * USECS_PER_SEC)

/* Raises: NULL where a value is required. */
static void
refuse_null(const char *name)
{
	ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					errmsg("argument \"%s\" must not be NULL", name),
					errhint("NULL never means \"every\" or \"any\" here: pass a value.")));
}

/* An id that is not positive names nothing. */
static int64
check_id(int64 id, const char *name)
{
	if (id <= 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"%s\" must be positive", name),
						errdetail("It is " INT64_FORMAT ".", id)));
	return id;
}

/* A required id. */
int64
tc_arg_id(FunctionCallInfo fcinfo, int arg, const char *name)
{
	if (PG_ARGISNULL(arg))
		refuse_null(name);
	return check_id(PG_GETARG_INT64(arg), name);
}

/* An optional id; 0 for NULL. */
int64
tc_arg_optional_id(FunctionCallInfo fcinfo, int arg, const char *name)
{
	return PG_ARGISNULL(arg) ? 0 : check_id(PG_GETARG_INT64(arg), name);
}

/* A required, non-empty text. */
char *
tc_arg_text(FunctionCallInfo fcinfo, int arg, const char *name)
{
	char *value;

	if (PG_ARGISNULL(arg))
		refuse_null(name);
	value = TextDatumGetCString(PG_GETARG_DATUM(arg));
	if (value[0] == '\0')
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"%s\" must not be empty", name)));
	return value;
}

/* The same of what is stored as a name. */
char *
tc_arg_name(FunctionCallInfo fcinfo, int arg, const char *name)
{
	char *value = tc_arg_text(fcinfo, arg, name);
	int length = pg_mbstrlen(value);

	if (length > TC_NAME_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_STRING_DATA_RIGHT_TRUNCATION),
				 errmsg("argument \"%s\" is too long", name),
				 errdetail("It has %d characters; at most %d are stored.", length, TC_NAME_MAX),
				 errhint("Pass a shorter one.")));
	return value;
}

/* An optional text; NULL for NULL. */
char *
tc_arg_optional_text(FunctionCallInfo fcinfo, int arg)
{
	return PG_ARGISNULL(arg) ? NULL : TextDatumGetCString(PG_GETARG_DATUM(arg));
}

/* May the current user call this function of ours?  False as well if there is none such. */
bool
tc_may_call(const char *name, int nargs, const Oid *argtypes)
{
	List *qualified = list_make2(makeString("tenantcall"), makeString(pstrdup(name)));
	Oid function = LookupFuncName(qualified, nargs, argtypes, true);

	return OidIsValid(function) && tc_may_execute(function, GetUserId());
}

/* The declared row type, blessed; looked up once per call site. */
static TupleDesc
result_type(FunctionCallInfo fcinfo)
{
	TupleDesc desc = fcinfo->flinfo->fn_extra;
	MemoryContext caller;

	if (desc != NULL)
		return desc;
	caller = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	desc = BlessTupleDesc(CreateTupleDescCopy(desc));
	MemoryContextSwitchTo(caller);
	fcinfo->flinfo->fn_extra = desc;
	return desc;
}

/* A composite Datum of the declared result type. */
Datum
tc_form_result(FunctionCallInfo fcinfo, const Datum *values, const bool *nulls)
{
	HeapTuple tuple = heap_form_tuple(result_type(fcinfo), (Datum *) values, (bool *) nulls);

	return HeapTupleGetDatum(tuple);
}

/* One row, or none, in value-per-call mode but without a second call. */
Datum
tc_return_row(FunctionCallInfo fcinfo, const Datum *values, const bool *nulls)
{
	ReturnSetInfo *info = (ReturnSetInfo *) fcinfo->resultinfo;

	if (info == NULL || !IsA(info, ReturnSetInfo))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("set-valued function called in a context that cannot accept a set")));
	if (values == NULL)
	{
		info->isDone = ExprEndResult;
		PG_RETURN_NULL();
	}
	info->isDone = ExprSingleResult;
	PG_RETURN_DATUM(tc_form_result(fcinfo, values, nulls));
}

/* A required moment. */
TimestampTz
tc_arg_moment(FunctionCallInfo fcinfo, int arg, const char *name)
{
	if (PG_ARGISNULL(arg))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("argument \"%s\" must not be NULL", name)));
	if (TIMESTAMP_NOT_FINITE(PG_GETARG_TIMESTAMPTZ(arg)))
		ereport(ERROR, (errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
						errmsg("argument \"%s\" must be finite", name)));
	return PG_GETARG_TIMESTAMPTZ(arg);
}

/* A required span of time, not negative, in µs. */
int64
tc_arg_span(FunctionCallInfo fcinfo, int arg, const char *name)
{
	Interval *span;

	if (PG_ARGISNULL(arg))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("argument \"%s\" must not be NULL", name)));
	span = PG_GETARG_INTERVAL_P(arg);
	if (span->month != 0 || span->day < 0 || span->day > 365 || span->time < 0 ||
		span->time > 365 * USECS_PER_DAY)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"%s\" must be between 0 and 365 days", name),
						errdetail("Months have no fixed length.")));
	return span->time + span->day * USECS_PER_DAY;
}

/* How long the caller of a function is ready to wait, in µs. */
int64
tc_arg_max_wait(FunctionCallInfo fcinfo, int arg)
{
	int64 max_wait = tc_arg_span(fcinfo, arg, "max_wait");

	if (max_wait > MAX_WAIT)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"max_wait\" must be at most 60 s"),
						errdetail("The caller is on the line.")));
	return max_wait;
}
