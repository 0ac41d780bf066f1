/*
 * rate_policy.h
 *		Policies as a backend knows them; within the rate module.
 */
#ifndef TC_RATE_POLICY_H
#define TC_RATE_POLICY_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "context_core.h"
#include "rate.h"
#include "rate_core.h"
#include "rate_key.h"

#define TC_RATE_NAME_LEN 64		 /* longest name of a policy or bandwidth, and a zero byte */
#define TC_RATE_NUMBER_LEN 24	 /* the same of a number */
#define TC_RATE_MAX_BANDWIDTHS 8 /* of one policy */

/* One bandwidth of a policy, as it holds for one company. */
typedef struct TcRateLimit
{
	int32 policy_id; /* another one for each bandwidth */
	int32 more;		 /* so many further bandwidths of the policy follow in memory */
	bool together;	 /* they, or a pause, are to be asked by rate_all.c */
	TcRateLevel level;
	bool enabled;
	bool shadow;
	bool uncommitted; /* changed by the current transaction */
	TcRateChange change;
	int64 version;			/* rises with each change */
	uint64 stamp;			/* of version and math: see rate_table.h */
	TimestampTz changed_at; /* of this version */
	int64 changed_clock;	/* the same by the buckets' clock; -1: it was another one */
	int64 reserve;			/* tokens that low priority may not use */
	int64 pause;			/* ns in which a refusal by the policy has this bucket admit nothing */
	TcRateMath math;
	char bandwidth[TC_RATE_NAME_LEN];
} TcRateLimit;

/* Who asks; what is not known is NULL. */
typedef struct TcRateWho
{
	const TcContext *tenant;
	const char *number;
	const char *call;
	const char *function;
} TcRateWho;

/* The policy as it holds for the tenant, valid until the next call; raises PT404. */
extern const TcRateLimit *tc_rate_limit(const char *policy, int length, const TcRateWho *who);

#endif /* TC_RATE_POLICY_H */
