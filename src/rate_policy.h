/*
 * rate_policy.h
 *		Policies as a backend knows them, and what is asked of a bucket; within the rate module.
 */
#ifndef TC_RATE_POLICY_H
#define TC_RATE_POLICY_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "rate.h"
#include "rate_core.h"

/* A policy as it holds for one company. */
typedef struct TcRateLimit
{
	int32 policy_id;
	bool enabled;
	bool shadow;
	bool uncommitted; /* changed by the current transaction */
	TcRateChange change;
	int64 version;			/* rises with each change */
	TimestampTz changed_at; /* of this version */
	TcRateMath math;
} TcRateLimit;

/* Whose bucket.  More levels (branch, number, all companies) fit in. */
typedef enum TcRateLevel
{
	TC_RATE_UNKNOWN,	 /* all callers whose company is not known */
	TC_RATE_COMPANY,	 /* subject[0] is the company_id */
	TC_RATE_COMPANY_UUID /* subject is its UUID: entered by UUID without a directory */
} TcRateLevel;

typedef struct TcRateSubject
{
	uint32 level;
	uint64 subject[2];
} TcRateSubject;

/* What is asked of a bucket. */
typedef struct TcRateAsk
{
	int64 cost;
	int64 max_wait; /* ns */
	bool peek;		/* look only */
	bool brief;		/* only allowed and reason matter */
} TcRateAsk;

/* rate_policy.c: the policy as it holds for the company (0: none); raises PT404. */
extern const TcRateLimit *tc_rate_limit(const char *policy, int length, int64 company_id);

/* rate_bucket.c */
extern int64 tc_rate_now(void);
extern void tc_rate_ask(const TcRateLimit *limit, const TcRateSubject *subject,
						const TcRateAsk *ask, TcTakeResult *result);
/* Gives back what was spent in advance, unless the policy has changed meanwhile. */
extern void tc_rate_give_back(const TcRateLimit *limit, const TcRateSubject *subject, int64 cost);

/* rate.c: the subject of the tenant context (raises PT403 without one), or of a company. */
extern int64 tc_rate_current_subject(TcRateSubject *subject);
extern void tc_rate_company_subject(int64 company_id, TcRateSubject *subject);

#endif /* TC_RATE_POLICY_H */
