/*
 * http_stat.c
 *		The HTTP worker as seen from outside: statistics, breakers by hand.
 *
 * Entries are copied one at a time under tc_http_lock() and put out without it.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lwlock.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "args.h"
#include "compat.h"
#include "elected.h"
#include "errors.h"
#include "http.h"
#include "http_settings.h"
#include "http_shmem.h"
#include "rate_args.h"
#include "ready.h"
#include "stat.h"

#define N_COLUMNS 26
#define NS_PER_US INT64CONST(1000)

PG_FUNCTION_INFO_V1(tc_http_accounts);
PG_FUNCTION_INFO_V1(tc_set_breaker);
PG_FUNCTION_INFO_V1(tc_reset_http_stats);

/* A copy of what is shown as one row. */
typedef struct Row
{
	TcHttpEntry entry;
	bool has_quota;
	TcQuota quota;
} Row;

static const char *const breaker_names[] = {
	[TC_BREAKER_CLOSED] = "closed",
	[TC_BREAKER_OPEN] = "open",
	[TC_BREAKER_HALF_OPEN] = "half_open",
};

/* The columns that tell of queues and counts. */
static void
put_counts(const TcHttpEntry *entry, int64 now, Datum *values, bool *nulls)
{
	static const TcHttpCount counts[] = {TC_HTTP_REQUESTS,		  TC_HTTP_ANSWERED,
										 TC_HTTP_LIMITED,		  TC_HTTP_TIMEOUTS,
										 TC_HTTP_ERRORS,		  TC_HTTP_REFUSED_QUOTA,
										 TC_HTTP_REFUSED_BREAKER, TC_HTTP_REFUSED_QUEUE,
										 TC_HTTP_REFUSED_OTHER};

	values[0] = CStringGetTextDatum(entry->credential);
	values[1] = Int64GetDatum(entry->company_id);
	nulls[1] = entry->company_id == TC_HTTP_ALL_COMPANIES;
	for (int i = 0; i < (int) lengthof(counts); i++)
		values[2 + i] = Int64GetDatum(entry->counts[counts[i]]);
	values[11] = Int64GetDatum(entry->in_flight);
	for (int i = 0; i < TC_HTTP_CLASSES; i++)
		values[12 + i] = Int64GetDatum(entry->queued[i]);
	values[15] = tc_rate_interval(Max(0, now - entry->oldest));
	nulls[15] = entry->oldest == 0;
}

/* The columns that tell of breaker and quota, which a company's part has none of. */
static void
put_state(const Row *row, int64 now, Datum *values, bool *nulls)
{
	const TcHttpEntry *entry = &row->entry;
	TimestampTz wall = GetCurrentTimestamp();

	for (int i = 16; i <= 20; i++)
		nulls[i] = entry->company_id != TC_HTTP_ALL_COMPANIES;
	values[16] = CStringGetTextDatum(breaker_names[entry->breaker.state]);
	values[17] = TimestampTzGetDatum(wall - (now - entry->breaker.since) / NS_PER_US);
	nulls[17] = nulls[17] || entry->breaker.since == 0;
	nulls[20] = nulls[20] || !row->has_quota;
	nulls[18] = nulls[19] = nulls[20] || row->quota.limit == 0;
	if (nulls[20])
		return;
	values[18] = Int64GetDatum(row->quota.limit);
	values[19] = Int64GetDatum(tc_quota_remaining(&row->quota, now));
	values[20] = tc_rate_interval(tc_quota_wait(&row->quota, now, 0));
}

/* The columns that tell of errors and latencies. */
static void
put_latency(const TcHttpEntry *entry, Datum *values, bool *nulls)
{
	Datum buckets[TC_HTTP_BUCKETS];
	int64 n = 0;

	values[21] = CStringGetTextDatum(entry->last_error);
	values[22] = TimestampTzGetDatum(entry->last_error_at);
	nulls[21] = nulls[22] = entry->last_error_at == 0;
	for (int i = 0; i < TC_HTTP_BUCKETS; i++)
	{
		buckets[i] = Int64GetDatum(entry->buckets[i]);
		n += entry->buckets[i];
	}
	values[23] = tc_rate_interval(n > 0 ? entry->latency_sum / n * NS_PER_US : 0);
	values[24] = tc_rate_interval(entry->latency_max * NS_PER_US);
	nulls[23] = nulls[24] = n == 0;
	values[25] = PointerGetDatum(construct_array(buckets, TC_HTTP_BUCKETS, INT8OID, sizeof(int64),
												 FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/* Copies the next entry. */
static bool
copy_entry(int *position, Row *copy)
{
	const TcQuota *quota = NULL;
	TcHttpEntry *entry;

	LWLockAcquire(tc_http_lock(), LW_SHARED);
	entry = tc_http_next_entry(position);
	if (entry != NULL)
	{
		copy->entry = *entry;
		quota = tc_http_quota(&entry->key, false);
	}
	copy->has_quota = quota != NULL;
	if (quota != NULL)
		copy->quota = *quota;
	LWLockRelease(tc_http_lock());
	return entry != NULL;
}

/* http_accounts() -> SETOF record */
Datum
tc_http_accounts(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *info = (ReturnSetInfo *) fcinfo->resultinfo;
	Row row;
	int position = 0;

	tc_require_ready();
	InitMaterializedSRF(fcinfo, 0);
	while (copy_entry(&position, &row))
	{
		Datum values[N_COLUMNS];
		bool nulls[N_COLUMNS] = {false};
		int64 now = tc_http_now();

		put_counts(&row.entry, now, values, nulls);
		put_state(&row, now, values, nulls);
		put_latency(&row.entry, values, nulls);
		tuplestore_putvalues(info->setResult, info->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* set_breaker(credential, state) -> void */
Datum
tc_set_breaker(PG_FUNCTION_ARGS)
{
	char *credential = tc_arg_text(fcinfo, 0, "credential");
	char *state = tc_arg_text(fcinfo, 1, "state");
	bool open = strcmp(state, "open") == 0;
	TcHttpEntry *entry;

	tc_require_ready();
	tc_require_elected();
	if (strlen(credential) >= NAMEDATALEN)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"credential\" is too long"),
						errdetail("At most %d bytes are possible.", NAMEDATALEN - 1)));
	if (!open && strcmp(state, "closed") != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid state \"%s\" of a breaker", state),
						errhint("Set it to open, until told otherwise, or closed.")));
	LWLockAcquire(tc_http_lock(), LW_EXCLUSIVE);
	entry = tc_http_entry(credential, TC_HTTP_ALL_COMPANIES, true);
	if (entry != NULL)
		tc_breaker_set(&entry->breaker, open, tc_http_now());
	LWLockRelease(tc_http_lock());
	if (entry == NULL)
		ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
						errmsg("no room for the state of calendar account \"%s\"", credential),
						errhint("Increase tenantcall.http_max_entries.")));
	tc_http_wake();
	PG_RETURN_VOID();
}

/* reset_http_stats() -> void: counts of this database start over; what is under way stays */
Datum
tc_reset_http_stats(PG_FUNCTION_ARGS)
{
	TcHttpEntry *entry;
	int position = 0;

	tc_require_ready();
	LWLockAcquire(tc_http_lock(), LW_EXCLUSIVE);
	while ((entry = tc_http_next_entry(&position)) != NULL)
	{
		memset(entry->counts, 0, sizeof(entry->counts));
		memset(entry->buckets, 0, sizeof(entry->buckets));
		memset(entry->last_error, 0, sizeof(entry->last_error));
		entry->latency_sum = entry->latency_max = 0;
		entry->last_error_at = 0;
	}
	LWLockRelease(tc_http_lock());
	tc_stat_note_reset(TC_STAT_HTTP);
	PG_RETURN_VOID();
}
