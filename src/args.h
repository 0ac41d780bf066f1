/*
 * args.h
 *		Arguments and results of SQL functions.
 */
#ifndef TC_ARGS_H
#define TC_ARGS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "fmgr.h"

/* Required arguments: NULL, or an id that is not positive, raises and names the argument. */
extern int64 tc_arg_id(FunctionCallInfo fcinfo, int arg, const char *name);
extern char *tc_arg_text(FunctionCallInfo fcinfo, int arg, const char *name);

/* The same of what is stored as a name: at most TC_NAME_MAX characters. */
#define TC_NAME_MAX 200
extern char *tc_arg_name(FunctionCallInfo fcinfo, int arg, const char *name);

/* Optional ones: 0 or NULL for NULL. */
extern int64 tc_arg_optional_id(FunctionCallInfo fcinfo, int arg, const char *name);
extern char *tc_arg_optional_text(FunctionCallInfo fcinfo, int arg);

/* Required ones of time: a finite moment; a span in µs; and how long a caller can wait, in µs. */
extern TimestampTz tc_arg_moment(FunctionCallInfo fcinfo, int arg, const char *name);
extern int64 tc_arg_span(FunctionCallInfo fcinfo, int arg, const char *name);
extern int64 tc_arg_max_wait(FunctionCallInfo fcinfo, int arg);

/* May the current user call this function of schema tenantcall? */
extern bool tc_may_call(const char *name, int nargs, const Oid *argtypes);

/* Returns one row, or none (values NULL), from a function declared RETURNS TABLE. */
extern Datum tc_return_row(FunctionCallInfo fcinfo, const Datum *values, const bool *nulls);

/* A composite Datum of the function's declared result type. */
extern Datum tc_form_result(FunctionCallInfo fcinfo, const Datum *values, const bool *nulls);

#endif /* TC_ARGS_H */
