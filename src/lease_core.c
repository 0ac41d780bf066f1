/*
 * lease_core.c
 *		How many calls at once: the rules of admission.
 *
 *		0            max - reserved           max             max + burst
 *		|---- outbound ----|                   |                   |
 *		|------------------ both --------------|                   |
 *		|------------------------ inbound -------------------------|
 *
 * An outbound call may begin while there are fewer than max calls, and fewer than max - reserved
 * outbound ones.  So whatever is dialled, inbound calls find at least their reserve.  An inbound
 * call may begin while there are fewer than max + burst calls.
 */
#include "lease_core.h"

/* May one more call of the direction begin? */
TcLeaseVerdict
tc_lease_judge(const TcLeasePolicy *policy, const TcLeaseUse *use, bool outbound)
{
	int64_t in_use = use->inbound + use->outbound;

	if (!policy->enabled)
		return TC_LEASE_FREE;
	if (in_use >= tc_lease_limit(policy, outbound))
		return TC_LEASE_FULL;
	if (outbound && use->outbound >= policy->max_calls - policy->reserved_inbound)
		return TC_LEASE_RESERVED;
	return TC_LEASE_FREE;
}

/* The most calls at once. */
int64_t
tc_lease_limit(const TcLeasePolicy *policy, bool outbound)
{
	return outbound ? policy->max_calls : policy->max_calls + policy->burst;
}
