/*
 * rate_args.h
 *		Arguments and results of the rate limiter's SQL functions; within the rate module.
 */
#ifndef TC_RATE_ARGS_H
#define TC_RATE_ARGS_H

#include "postgres.h"

#include "fmgr.h"

#include "compat.h"

extern TC_NORETURN void tc_rate_raise_null(const char *argument);

/* Nanoseconds of an interval argument: a wait of 0 or more, or a policy's period. */
extern int64 tc_rate_wait_argument(FunctionCallInfo fcinfo, int arg);
extern int64 tc_rate_period_argument(FunctionCallInfo fcinfo, int arg);

/* The interval of so many nanoseconds, rounded up to microseconds. */
extern Datum tc_rate_interval(int64 ns);

#endif /* TC_RATE_ARGS_H */
