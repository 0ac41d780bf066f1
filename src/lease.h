/*
 * lease.h
 *		Calls at once: a lease for each call.
 */
#ifndef TC_LEASE_H
#define TC_LEASE_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "calls.h"
#include "context_core.h"
#include "lease_policy.h"

/* Leases as they are counted. */
typedef struct TcLeaseCount
{
	TcLeaseUse company;
	TcLeaseUse branch; /* of them, those of the branch asked for */
	int64 unbound;	   /* of them, those whose call has not come */
	int64 expired;	   /* counted nowhere else */
	TimestampTz oldest;
} TcLeaseCount;

/* Who asks for a lease. */
typedef struct TcLeaseAsk
{
	const TcContext *tenant; /* and branch, if any */
	const char *holder;
	bool outbound;
} TcLeaseAsk;

typedef struct TcLeaseAnswer
{
	const char *refused; /* why there is none; NULL: there is one */
	int64 in_use;		 /* before this one, of the company */
	int64 limit;		 /* of the company; -1: none */
	int64 ttl;			 /* of a lease that is not bound yet, in us */
} TcLeaseAnswer;

#define TC_LEASE_HOLDER_MAX 200

/*
 * Admission.  All of it acting for the company (act.h): first the lock, which makes what follows
 * exact until the end of the transaction; then judging; then, unless refused, holding, which is
 * false if the holder has a lease meanwhile.
 */
extern void tc_lease_lock(void);
extern void tc_lease_ask(const TcLeaseAsk *ask, TcLeaseAnswer *answer);
extern bool tc_lease_hold(const TcLeaseAsk *ask);

/* Counts a company's leases, as of now, whatever the transaction's snapshot. */
extern void tc_lease_count(int64 company_id, int64 branch_id, const TcLeasePolicies *policies,
						   TcLeaseCount *count);

/* Deletes expired leases of the company that is acted for, at most so many; how many. */
extern int64 tc_lease_expire(int64 company_id, const TcLeasePolicies *policies, int64 most);

/*
 * What an event that was merged means for the call's lease: bound, made, renewed or given back.
 * Never refuses, never waits for admission.  Acting for the company, holding the call's row.
 */
extern void tc_lease_follow(const TcDelivery *delivery, const TcPlacement *placement,
							TcMergeResult *merged);

/* A call's state was set: gives its lease back if it is over. */
extern void tc_lease_state_set(int64 company_id, const char *provider_call_id, const char *state);

/* Can a call in this state still go on? */
extern bool tc_lease_state_live(const char *state);

#endif /* TC_LEASE_H */
