/*
 * lease_policy.h
 *		How many calls at once: what is set for a company and its branches.
 */
#ifndef TC_LEASE_POLICY_H
#define TC_LEASE_POLICY_H

#include "postgres.h"

#include "lease_core.h"

typedef struct TcLeasePolicies
{
	TcLeasePolicy company;
	TcLeasePolicy branch; /* enabled only if the branch has one of its own */
	int64 unbound_ttl;	  /* in us */
	int64 bound_ttl;
} TcLeasePolicies;

/* What holds for a company, and for one of its branches (0: none), as of now. */
extern void tc_lease_policies(int64 company_id, int64 branch_id, TcLeasePolicies *policies);

/* The branches of the company that have a policy of their own; palloc'd. */
extern int64 *tc_lease_policy_branches(int64 company_id, int *count);

#endif /* TC_LEASE_POLICY_H */
