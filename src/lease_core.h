/*
 * lease_core.h
 *		How many calls at once: the rules of admission.  Pure C.
 */
#ifndef TC_LEASE_CORE_H
#define TC_LEASE_CORE_H

#include <stdbool.h>
#include <stdint.h>

/* What a company, or a branch, may do at once. */
typedef struct TcLeasePolicy
{
	bool enabled;
	int64_t max_calls;
	int64_t reserved_inbound; /* of max_calls: never used by outbound calls */
	int64_t burst;			  /* beyond max_calls: for inbound calls alone */
} TcLeasePolicy;

/* What is in use. */
typedef struct TcLeaseUse
{
	int64_t inbound;
	int64_t outbound;
} TcLeaseUse;

typedef enum TcLeaseVerdict
{
	TC_LEASE_FREE,
	TC_LEASE_FULL,	  /* as many calls as there may be */
	TC_LEASE_RESERVED /* what is left is kept for inbound calls */
} TcLeaseVerdict;

/* May one more call of the direction begin? */
extern TcLeaseVerdict tc_lease_judge(const TcLeasePolicy *policy, const TcLeaseUse *use,
									 bool outbound);

/* The most calls at once, of both directions together, at which one of this direction may be. */
extern int64_t tc_lease_limit(const TcLeasePolicy *policy, bool outbound);

#endif /* TC_LEASE_CORE_H */
