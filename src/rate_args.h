/*
 * rate_args.h
 *		Arguments and results of the rate limiter's SQL functions; within the rate module.
 */
#ifndef TC_RATE_ARGS_H
#define TC_RATE_ARGS_H

#include "postgres.h"

#include "fmgr.h"

#include "compat.h"
#include "rate_bucket.h"

extern TC_NORETURN void tc_rate_raise_null(const char *argument);

/* Nanoseconds of an interval argument: a wait of 0 or more, or a policy's period. */
extern int64 tc_rate_period_argument(FunctionCallInfo fcinfo, int arg);
extern int64 tc_rate_span_argument(FunctionCallInfo fcinfo, int arg, const char *name);

/* The interval of so many nanoseconds, rounded up to microseconds. */
extern Datum tc_rate_interval(int64 ns);

/* A required boolean. */
extern bool tc_rate_flag_argument(FunctionCallInfo fcinfo, int arg, const char *name);

/* Raises unless the cost is at least 1. */
extern void tc_rate_check_cost(int64 cost);

/* rate.c: the tenant in context; raises PT403 without one. */
extern const TcContext *tc_rate_tenant(void);

/* rate_save.c: a number for this boot of the machine; 0: not known. */
extern int64 tc_rate_boot(void);

/* rate_stat.c: may the current user call the function of schema tenantcall? */
extern bool tc_rate_may(const char *function);

/* Columns of take_result. */
#define TC_RATE_RESULT_COLUMNS 7
extern void tc_rate_result_columns(const TcTakeResult *result, Datum *values, bool *nulls);

#endif /* TC_RATE_ARGS_H */
