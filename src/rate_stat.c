/*
 * rate_stat.c
 *		Rate limits: what the buckets say of themselves.
 *
 * Buckets are copied a few at a time under a shared lock and put out without it, so that reading
 * a million of them holds nobody up.  Administrators and members of pg_monitor see the buckets of
 * all companies in this database, others those of the company they have entered.
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
#include "rate_args.h"
#include "rate_stat.h"
#include "tenantcall.h"

#define N_BUCKET_COLUMNS 12
#define N_TABLE_COLUMNS 7

PG_FUNCTION_INFO_V1(tc_rate_buckets);
PG_FUNCTION_INFO_V1(tc_rate_table);

/* May the current user see all companies? */
static bool
sees_all(void)
{
	Oid argtypes[] = {TEXTOID, INT8OID, INTERVALOID, INT8OID, INT8OID, BOOLOID, BOOLOID, TEXTOID};
	List *name = list_make2(makeString("tenantcall"), makeString("set_rate_policy"));
	Oid function;

	if (superuser() || has_privs_of_role(GetUserId(), ROLE_PG_MONITOR))
		return true;
	function = LookupFuncName(name, lengthof(argtypes), argtypes, true);
	return OidIsValid(function) && tc_may_execute(function, GetUserId());
}

/* Fills the columns that say whose bucket it is. */
static void
put_subject(const TcRateKey *key, Datum *values, bool *nulls)
{
	nulls[2] = key->level != TC_RATE_COMPANY;
	nulls[3] = key->level != TC_RATE_COMPANY_UUID;
	values[1] = CStringGetTextDatum(key->level == TC_RATE_UNKNOWN ? "unknown" : "company");
	values[2] = Int64GetDatum((int64) key->subject[0]);
	if (!nulls[3])
	{
		pg_uuid_t *uuid = palloc(sizeof(pg_uuid_t));

		memcpy(uuid->data, key->subject, sizeof(uuid->data));
		values[3] = UUIDPGetDatum(uuid);
	}
}

/* Puts one bucket out. */
static void
put_bucket(ReturnSetInfo *info, const TcRateBucket *bucket, int64 now)
{
	Datum values[N_BUCKET_COLUMNS] = {0};
	bool nulls[N_BUCKET_COLUMNS] = {false};
	TcRateView view;

	tc_rate_view(&bucket->math, bucket->state, now, 1, &view);
	values[0] = Int32GetDatum(bucket->key.policy_id);
	put_subject(&bucket->key, values, nulls);
	values[4] = BoolGetDatum(bucket->shadow);
	values[5] = Int64GetDatum(bucket->allowed);
	values[6] = Int64GetDatum(bucket->denied);
	values[7] = Int64GetDatum(bucket->would_deny);
	values[8] = Int64GetDatum(bucket->math.burst);
	values[9] = Int64GetDatum(view.remaining);
	values[10] = tc_rate_interval(view.reset_after);
	nulls[11] = bucket->last_denied_at == 0;
	values[11] = TimestampTzGetDatum(bucket->last_denied_at);
	tuplestore_putvalues(info->setResult, info->setDesc, values, nulls);
}

/* Is it the subject's bucket? */
static bool
belongs_to(const TcRateBucket *bucket, const TcRateSubject *subject)
{
	return bucket->key.level == subject->level && bucket->key.subject[0] == subject->subject[0] &&
		   bucket->key.subject[1] == subject->subject[1];
}

/* rate_buckets() -> SETOF record */
Datum
tc_rate_buckets(PG_FUNCTION_ARGS)
{
	TcRateBucket *buckets;
	TcRateSubject own = {0};
	bool all = sees_all();
	uint64 position = 0;
	MemoryContext loop;
	MemoryContext caller;
	int n;

	tc_require_ready();
	if (!all)
		(void) tc_rate_current_subject(&own);
	InitMaterializedSRF(fcinfo, 0);
	buckets = palloc(sizeof(TcRateBucket) * TC_RATE_READ_AT_ONCE);
	loop = AllocSetContextCreate(CurrentMemoryContext, "rate_buckets", ALLOCSET_DEFAULT_SIZES);
	caller = MemoryContextSwitchTo(loop);
	while ((n = tc_rate_read(&position, MyDatabaseId, buckets)) >= 0)
	{
		int64 now = tc_rate_now();

		for (int i = 0; i < n; i++)
		{
			if (buckets[i].key.private_version == 0 && (all || belongs_to(&buckets[i], &own)))
				put_bucket((ReturnSetInfo *) fcinfo->resultinfo, &buckets[i], now);
		}
		MemoryContextReset(loop);
		CHECK_FOR_INTERRUPTS();
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
	return tc_form_result(fcinfo, values, nulls);
}
