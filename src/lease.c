/*
 * lease.c
 *		Calls at once: who may begin one.
 *
 *		lock of the company -> leases counted -> policies of company and branch -> lease, or why not
 *
 * Leases are rows of call_leases, one for each call, so a crash neither leaks nor forgets one: what
 * was not committed is gone, what was expires by itself.  Counting is exact because admission, and
 * only admission, takes a lock of the company's until the end of the transaction, and counts with
 * a snapshot of this moment.  A lease that was given back or bound meanwhile makes room without
 * any lock; so the events of calls (lease_follow.c) never wait for admission, nor it for them.
 *
 * A lease lives from its last sign of life for the time that the policy in force says: a short one
 * until its call comes, a long one from then on.  An expired one is not counted, and is deleted
 * where it is met.
 *
 * Locks: the company's, waited for no longer than LOCK_WAIT, since whoever holds it keeps all calls
 * of the company waiting; then rows of call_leases.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "act.h"
#include "company_lock.h"
#include "lease.h"
#include "telephony.h"

/* How long admission waits for others of the company, in ms. */
#define LOCK_WAIT 5000
#define LOCK_WAIT_TEXT "5000"

/* The array makes the sub-select run once: in a join its LIMIT would start over with each row. */
static TcStatement delete_expired = {
	.sql = "DELETE FROM @.call_leases WHERE company_id = $1 AND holder = ANY (ARRAY("
		   "SELECT holder FROM @.call_leases WHERE company_id = $1 AND seen_at <= "
		   "CASE WHEN provider_call_id IS NULL THEN $2 ELSE $3 END "
		   "LIMIT $4 FOR UPDATE SKIP LOCKED))",
	.nparams = 4,
	.types = {INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID},
};
static TcStatement insert_lease = {
	.sql = "INSERT INTO @.call_leases (company_id, holder, direction, branch_id, acquired_at, "
		   "seen_at) VALUES ($1, $2, $3, $4, $5, $5) ON CONFLICT DO NOTHING",
	.nparams = 5,
	.types = {INT8OID, TEXTOID, TEXTOID, INT8OID, TIMESTAMPTZOID},
};

/* What counting needs. */
typedef struct Counting
{
	int64 branch_id;
	TimestampTz unbound_since; /* seen later than that: alive */
	TimestampTz bound_since;
	TcLeaseCount *count;
} Counting;

/* A time column, which is never NULL. */
static TimestampTz
time_of(HeapTuple tuple, TupleDesc desc, const char *column)
{
	Datum value;

	return tc_row_datum(tuple, desc, column, &value) ? DatumGetTimestampTz(value) : 0;
}

/* Counts one lease. */
static bool
visit_lease(HeapTuple tuple, TupleDesc desc, void *arg)
{
	Counting *counting = arg;
	TcLeaseCount *count = counting->count;
	Datum value;
	bool bound = tc_row_datum(tuple, desc, "provider_call_id", &value);
	bool outbound = strcmp(tc_row_text(tuple, desc, "direction"), "outbound") == 0;
	int64 branch_id = tc_row_int8(tuple, desc, "branch_id");
	TimestampTz acquired_at = time_of(tuple, desc, "acquired_at");

	if (time_of(tuple, desc, "seen_at") <=
		(bound ? counting->bound_since : counting->unbound_since))
	{
		count->expired++;
		return true;
	}
	if (outbound)
		count->company.outbound++;
	else
		count->company.inbound++;
	if (branch_id != 0 && branch_id == counting->branch_id)
	{
		if (outbound)
			count->branch.outbound++;
		else
			count->branch.inbound++;
	}
	if (!bound)
		count->unbound++;
	if (count->oldest == 0 || acquired_at < count->oldest)
		count->oldest = acquired_at;
	return true;
}

/* Counts a company's leases. */
void
tc_lease_count(int64 company_id, int64 branch_id, const TcLeasePolicies *policies,
			   TcLeaseCount *count)
{
	TcMatch match = {"company_id", INT8OID, Int64GetDatum(company_id)};
	TimestampTz now = GetCurrentTimestamp();
	Counting counting = {.branch_id = branch_id,
						 .unbound_since = now - policies->unbound_ttl,
						 .bound_since = now - policies->bound_ttl,
						 .count = count};

	memset(count, 0, sizeof(*count));
	tc_read_rows(tc_telephony_table_of("call_leases", company_id), &match, 1, visit_lease,
				 &counting);
}

/* Deletes expired leases, at most so many. */
int64
tc_lease_expire(int64 company_id, const TcLeasePolicies *policies, int64 most)
{
	TimestampTz now = GetCurrentTimestamp();
	TcParams params = {0};

	tc_param_int8(&params, company_id);
	tc_param_datum(&params, TimestampTzGetDatum(now - policies->unbound_ttl), false);
	tc_param_datum(&params, TimestampTzGetDatum(now - policies->bound_ttl), false);
	tc_param_int8(&params, most);
	return (int64) tc_execute(&delete_expired, &params);
}

/* Waits for the company's lock. */
void
tc_lease_lock(void)
{
	if (LockTimeout == 0 || LockTimeout > LOCK_WAIT)
		(void) set_config_option("lock_timeout", LOCK_WAIT_TEXT, PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	tc_company_lock_internal("call leases");
}

/* May the call begin? */
void
tc_lease_ask(const TcLeaseAsk *ask, TcLeaseAnswer *answer)
{
	const TcContext *tenant = ask->tenant;
	TcLeasePolicies policies;
	TcLeaseCount count;

	tc_lease_policies(tenant->company_id, tenant->branch_id, &policies);
	tc_lease_count(tenant->company_id, tenant->branch_id, &policies, &count);
	/* where the snapshot is fixed, a row that somebody else deleted would make us fail */
	if (count.expired > 0 && !IsolationUsesXactSnapshot())
		(void) tc_lease_expire(tenant->company_id, &policies, 100);
	answer->refused = NULL;
	answer->in_use = count.company.inbound + count.company.outbound;
	answer->limit =
		policies.company.enabled ? tc_lease_limit(&policies.company, ask->outbound) : -1;
	answer->ttl = policies.unbound_ttl;
	switch (tc_lease_judge(&policies.company, &count.company, ask->outbound))
	{
		case TC_LEASE_FULL:
			answer->refused = "max_calls";
			return;
		case TC_LEASE_RESERVED:
			answer->refused = "reserved_inbound";
			return;
		case TC_LEASE_FREE:
			break;
	}
	switch (tc_lease_judge(&policies.branch, &count.branch, ask->outbound))
	{
		case TC_LEASE_FULL:
			answer->refused = "branch_max_calls";
			break;
		case TC_LEASE_RESERVED:
			answer->refused = "branch_reserved_inbound";
			break;
		case TC_LEASE_FREE:
			break;
	}
}

/* Makes the lease. */
bool
tc_lease_hold(const TcLeaseAsk *ask)
{
	TcParams params = {0};

	tc_param_int8(&params, ask->tenant->company_id);
	tc_param_text(&params, ask->holder);
	tc_param_text(&params, ask->outbound ? "outbound" : "inbound");
	tc_param_int8(&params, ask->tenant->branch_id);
	tc_param_datum(&params, TimestampTzGetDatum(GetCurrentTimestamp()), false);
	return tc_execute(&insert_lease, &params) > 0;
}
