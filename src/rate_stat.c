/*
 * rate_stat.c
 *		Rate limits: what the buckets say of themselves.
 *
 * Buckets are copied a few at a time under a shared lock and put out without it, so that reading
 * a million of them holds nobody up.  Administrators and members of pg_monitor see the buckets of
 * all companies in this database, others those of the company they have entered; without one, none.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parse_func.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "args.h"
#include "compat.h"
#include "context.h"
#include "inval.h"
#include "node.h"
#include "rate_args.h"
#include "rate_clock.h"
#include "rate_past.h"
#include "rate_stat.h"
#include "ready.h"
#include "stat.h"
#include "telephony.h"

#define N_BUCKET_COLUMNS 16
#define N_TABLE_COLUMNS 11

PG_FUNCTION_INFO_V1(tc_rate_buckets);
PG_FUNCTION_INFO_V1(tc_rate_table);
PG_FUNCTION_INFO_V1(tc_rate_policy_names);
PG_FUNCTION_INFO_V1(tc_reset_rate_stats);

/* May the current user call the function of schema tenantcall, which has no overloads? */
bool
tc_rate_may(const char *function)
{
	List *name = list_make2(makeString("tenantcall"), makeString(pstrdup(function)));
	Oid oid = superuser() ? InvalidOid : LookupFuncName(name, -1, NULL, true);

	return superuser() || (OidIsValid(oid) && tc_may_execute(oid, GetUserId()));
}

/* May the current user see all companies? */
static bool
sees_all(void)
{
	return has_privs_of_role(GetUserId(), ROLE_PG_MONITOR) || tc_rate_may("set_rate_policy");
}

/* Fills the columns that say whose bucket it is. */
static void
put_subject(const TcRateKey *key, Datum *values, bool *nulls)
{
	bool by_uuid = (key->level & TC_RATE_BY_UUID) != 0;

	values[1] = CStringGetTextDatum(tc_rate_level_name(key->level));
	values[2] = Int64GetDatum((int64) key->subject[0]);
	nulls[2] = by_uuid || key->subject[0] == 0;
	nulls[3] = !by_uuid;
	if (by_uuid)
	{
		pg_uuid_t *uuid = palloc(sizeof(pg_uuid_t));

		memcpy(uuid->data, key->subject, sizeof(uuid->data));
		values[3] = UUIDPGetDatum(uuid);
	}
	values[12] = Int64GetDatum((int64) key->subject[1]);
	nulls[12] = by_uuid || key->subject[1] == 0;
}

/* Puts one bucket out. */
static void
put_bucket(ReturnSetInfo *info, const TcRateBucket *bucket, int64 now)
{
	Datum values[N_BUCKET_COLUMNS] = {0};
	bool nulls[N_BUCKET_COLUMNS] = {false};
	bool past = bucket->math.burst == 0;
	TcRateView view = {0};

	if (!past)
		tc_rate_view(&bucket->math, bucket->state, now, 1, &view);
	nulls[4] = nulls[8] = nulls[9] = nulls[10] = past;
	values[0] = Int32GetDatum(bucket->key.policy_id);
	put_subject(&bucket->key, values, nulls);
	values[4] = BoolGetDatum(bucket->shadow);
	values[5] = Int64GetDatum(bucket->allowed);
	values[6] = Int64GetDatum(bucket->denied);
	values[7] = Int64GetDatum(bucket->would_deny);
	values[8] = Int64GetDatum(bucket->math.burst);
	values[9] = Int64GetDatum(bucket->paused && view.reset_after > 0 ? 0 : view.remaining);
	values[10] = tc_rate_interval(view.reset_after);
	nulls[11] = bucket->last_denied_at == 0;
	values[11] = TimestampTzGetDatum(bucket->last_denied_at);
	values[13] = Int64GetDatum(bucket->waited);
	values[14] = Int64GetDatum(bucket->refunded);
	values[15] = Int64GetDatum(bucket->forgiven);
	tuplestore_putvalues(info->setResult, info->setDesc, values, nulls);
}

/* Is it a bucket of the tenant's company? */
static bool
belongs_to(const TcRateKey *key, const TcContext *tenant)
{
	if (key->level == TC_RATE_GLOBAL || key->level == TC_RATE_UNKNOWN)
		return false;
	if (key->level & TC_RATE_BY_UUID)
		return tenant->company_id == 0 &&
			   memcmp(key->subject, tenant->company_uuid, TC_UUID_LEN) == 0;
	return tenant->company_id != 0 && key->subject[0] == (uint64) tenant->company_id;
}

/* Puts out those of some buckets that may be seen; own: of this tenant only. */
static void
put_buckets(ReturnSetInfo *info, const TcRateBucket *buckets, int n, const TcContext *own)
{
	int64 now = tc_rate_now();

	for (int i = 0; i < n; i++)
	{
		if (buckets[i].key.private_version == 0 &&
			(own == NULL || belongs_to(&buckets[i].key, own)))
			put_bucket(info, &buckets[i], now);
	}
	CHECK_FOR_INTERRUPTS();
}

/* rate_buckets() -> SETOF record */
Datum
tc_rate_buckets(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *info = (ReturnSetInfo *) fcinfo->resultinfo;
	TcRateBucket *buckets = palloc(sizeof(TcRateBucket) * TC_RATE_READ_AT_ONCE);
	bool all = sees_all();
	const TcContext *own = all ? NULL : tc_context_current();
	uint64 position = 0;
	uint32 past = 0;
	MemoryContext loop;
	MemoryContext caller;
	int n;

	if (own != NULL && tc_node_forward_statistics(fcinfo))
		return (Datum) 0;
	tc_require_ready();
	InitMaterializedSRF(fcinfo, 0);
	if (!all && own == NULL)
		return (Datum) 0;
	loop = AllocSetContextCreate(CurrentMemoryContext, "rate_buckets", ALLOCSET_DEFAULT_SIZES);
	caller = MemoryContextSwitchTo(loop);
	while ((n = tc_rate_read(&position, MyDatabaseId, buckets)) >= 0)
	{
		put_buckets(info, buckets, n, own);
		MemoryContextReset(loop);
	}
	while ((n = tc_rate_past_read(&past, MyDatabaseId, buckets)) >= 0)
	{
		put_buckets(info, buckets, n, own);
		MemoryContextReset(loop);
	}
	MemoryContextSwitchTo(caller);
	return (Datum) 0;
}

/* rate_table() -> record */
Datum
tc_rate_table(PG_FUNCTION_ARGS)
{
	TcRateTableStat stat;
	Datum values[N_TABLE_COLUMNS];
	bool nulls[N_TABLE_COLUMNS] = {false};

	tc_require_ready();
	tc_rate_table_stat(&stat);
	values[0] = Int64GetDatum(stat.max_buckets);
	values[1] = Int64GetDatum(stat.used);
	values[2] = Int64GetDatum(stat.evicted);
	values[3] = Int64GetDatum(stat.evicted_allowed);
	values[4] = Int64GetDatum(stat.evicted_denied);
	values[5] = Int64GetDatum(stat.evicted_would_deny);
	values[6] = Int64GetDatum(stat.refused);
	values[7] = Int64GetDatum(stat.passed);
	values[8] = Int64GetDatum(stat.forced);
	values[9] = Int64GetDatum(stat.forgiven);
	values[10] = Int64GetDatum(stat.unavailable);
	return tc_form_result(fcinfo, values, nulls);
}

/* reset_rate_stats() -> void: counts of this database's buckets start over */
Datum
tc_reset_rate_stats(PG_FUNCTION_ARGS)
{
	tc_require_ready();
	tc_rate_reset_counts(MyDatabaseId);
	tc_rate_past_reset(MyDatabaseId);
	tc_stat_note_reset(TC_STAT_RATE);
	PG_RETURN_VOID();
}

/* What the search for names carries along. */
typedef struct NameSearch
{
	ReturnSetInfo *info;
	int64 company_id; /* whose policies are shown beside those of all; -1: everybody's */
} NameSearch;

/* Takes a policy. */
static bool
visit_name(HeapTuple tuple, TupleDesc desc, void *arg)
{
	static const char *const columns[3] = {"policy_id", "policy", "bandwidth"};
	NameSearch *search = arg;
	int64 company_id = tc_row_int8(tuple, desc, "company_id");
	Datum values[3];
	bool nulls[3];

	if (company_id != 0 && search->company_id >= 0 && company_id != search->company_id)
		return true;
	for (int i = 0; i < 3; i++)
		nulls[i] = !tc_row_datum(tuple, desc, columns[i], &values[i]);
	tuplestore_putvalues(search->info->setResult, search->info->setDesc, values, nulls);
	return true;
}

/* rate_policy_names() -> (policy_id, policy, bandwidth) */
Datum
tc_rate_policy_names(PG_FUNCTION_ARGS)
{
	NameSearch search = {.info = (ReturnSetInfo *) fcinfo->resultinfo, .company_id = -1};

	if (!sees_all())
		search.company_id =
			tc_context_current() == NULL ? 0 : (int64) tc_context_current()->company_id;
	InitMaterializedSRF(fcinfo, 0);
	tc_read_rows(tc_own_relation("rate_policy_defaults"), NULL, 0, visit_name, &search);
	tc_read_rows(tc_own_relation("rate_policies"), NULL, 0, visit_name, &search);
	return (Datum) 0;
}
