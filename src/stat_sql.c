/*
 * stat_sql.c
 *		The counts of stat.c from SQL: read, reset, and what health() asks of keys.
 *
 * Administrators and members of pg_monitor see all companies of this database, others the one that
 * they have entered, and without one nothing.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "args.h"
#include "companies.h"
#include "context.h"
#include "key.h"
#include "node.h"
#include "ready.h"
#include "stat.h"
#include "stat_shmem.h"

PG_FUNCTION_INFO_V1(tc_stat_counts);
PG_FUNCTION_INFO_V1(tc_stat_last);
PG_FUNCTION_INFO_V1(tc_reset_stats);
PG_FUNCTION_INFO_V1(tc_stats_reset);
PG_FUNCTION_INFO_V1(tc_token_keys);
PG_FUNCTION_INFO_V1(tc_key_in_file);
PG_FUNCTION_INFO_V1(tc_stat_notes);

/* May the caller see the entry? */
static bool
may_see(const TcStatEntry *entry, bool all, const TcContext *own)
{
	if (pg_atomic_read_u32((pg_atomic_uint32 *) &entry->database) != MyDatabaseId)
		return false;
	pg_read_barrier();
	return all || (own != NULL && own->company_id != 0 && own->company_id == entry->company_id);
}

/* Puts out the counts of an entry that are not 0. */
static void
put_counts(ReturnSetInfo *info, TcStatEntry *entry)
{
	for (int i = 0; i < TC_STAT_N_COUNTS; i++)
	{
		uint64 count = pg_atomic_read_u64(&entry->count[i]);
		TcStatName name = tc_stat_name(i);
		Datum values[5];
		bool nulls[5] = {entry->company_id == 0};

		if (count == 0)
			continue;
		values[0] = Int64GetDatum(entry->company_id);
		values[1] = CStringGetTextDatum(name.area);
		values[2] = CStringGetTextDatum(name.kind);
		values[3] = CStringGetTextDatum(name.outcome);
		values[4] = Int64GetDatum((int64) count);
		tuplestore_putvalues(info->setResult, info->setDesc, values, nulls);
	}
}

/* stat_counts() -> rows */
Datum
tc_stat_counts(PG_FUNCTION_ARGS)
{
	const TcContext *own = tc_context_current();
	bool all = tc_sees_all();

	tc_require_ready();
	if (tc_node_forward_statistics(fcinfo))
		return (Datum) 0;
	InitMaterializedSRF(fcinfo, 0);
	for (uint32 i = 0; i < tc_stat_shared->nentries; i++)
		if (may_see(&tc_stat_shared->entry[i], all, own))
			put_counts((ReturnSetInfo *) fcinfo->resultinfo, &tc_stat_shared->entry[i]);
	return (Datum) 0;
}

/* stat_last() -> rows: when each company was last delivered something */
Datum
tc_stat_last(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *info = (ReturnSetInfo *) fcinfo->resultinfo;
	const TcContext *own = tc_context_current();
	bool all = tc_sees_all();

	tc_require_ready();
	if (tc_node_forward_statistics(fcinfo))
		return (Datum) 0;
	InitMaterializedSRF(fcinfo, 0);
	for (uint32 i = 0; i < tc_stat_shared->nentries; i++)
	{
		TcStatEntry *entry = &tc_stat_shared->entry[i];
		Datum values[2];
		bool nulls[2] = {false};

		if (!may_see(entry, all, own) || pg_atomic_read_u64(&entry->last_delivery_at) == 0)
			continue;
		values[0] = Int64GetDatum(entry->company_id);
		nulls[0] = entry->company_id == 0;
		values[1] = TimestampTzGetDatum((int64) pg_atomic_read_u64(&entry->last_delivery_at));
		tuplestore_putvalues(info->setResult, info->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* reset_stats() -> void: the counts of this database */
Datum
tc_reset_stats(PG_FUNCTION_ARGS)
{
	tc_require_ready();
	for (uint32 i = 0; i < tc_stat_shared->nentries; i++)
	{
		TcStatEntry *entry = &tc_stat_shared->entry[i];

		if (pg_atomic_read_u32(&entry->database) != MyDatabaseId)
			continue;
		for (int k = 0; k < TC_STAT_N_COUNTS; k++)
			pg_atomic_write_u64(&entry->count[k], 0);
	}
	tc_stat_note_reset(TC_STAT_CALLS);
	PG_RETURN_VOID();
}

/* Is a company's share counted on its own node, on a cluster?  Else on the elected one. */
static bool
counted_at_home(int group)
{
	return group == TC_STAT_CALLS || group == TC_STAT_RATE;
}

/* stats_reset(text) -> timestamptz: those that the counts of the company entered began with */
Datum
tc_stats_reset(PG_FUNCTION_ARGS)
{
	static const char *const groups[TC_STAT_GROUPS] = {
		[TC_STAT_CALLS] = "calls",
		[TC_STAT_RATE] = "rate",
		[TC_STAT_HTTP] = "http",
		[TC_STAT_CACHE] = "cache",
	};
	const TcContext *own = tc_context_current();
	char *name = tc_arg_text(fcinfo, 0, "counts");
	Datum there;

	tc_require_ready();
	for (int i = 0; i < TC_STAT_GROUPS; i++)
	{
		if (strcmp(groups[i], name) != 0)
			continue;
		if (own != NULL && counted_at_home(i) && tc_node_elsewhere(fcinfo, own->company_id, &there))
			return there;
		PG_RETURN_TIMESTAMPTZ(tc_stat_since(i));
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("there are no counts \"%s\"", name),
			 errhint("Ask for calls, rate, http or cache.")));
}

/* token_keys() -> rows: keys that have signed tokens */
Datum
tc_token_keys(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *info = (ReturnSetInfo *) fcinfo->resultinfo;
	TcStatKey keys[TC_STAT_TOKEN_KEYS];

	tc_require_ready();
	InitMaterializedSRF(fcinfo, 0);
	LWLockAcquire(tc_stat_shared->lock, LW_SHARED);
	memcpy(keys, tc_stat_shared->key, sizeof(keys));
	LWLockRelease(tc_stat_shared->lock);
	for (int i = 0; i < TC_STAT_TOKEN_KEYS; i++)
	{
		Datum values[5];
		bool nulls[5] = {false};

		if (keys[i].kid[0] == '\0')
			continue;
		values[0] = CStringGetTextDatum(keys[i].kid);
		values[1] = BoolGetDatum(keys[i].was_good);
		values[2] = Int64GetDatum((int64) keys[i].refused);
		values[3] = TimestampTzGetDatum(keys[i].first_at);
		values[4] = TimestampTzGetDatum(keys[i].last_at);
		nulls[3] = nulls[4] = keys[i].refused == 0;
		tuplestore_putvalues(info->setResult, info->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* key_in_file(text) -> boolean */
Datum
tc_key_in_file(PG_FUNCTION_ARGS)
{
	char *kid = tc_arg_text(fcinfo, 0, "kid");

	PG_RETURN_BOOL(tc_key_find(kid, strlen(kid)) != NULL);
}

/* stat_notes() -> rows: what happened to the server */
Datum
tc_stat_notes(PG_FUNCTION_ARGS)
{
	static const char *const names[TC_STAT_NOTES] = {
		[TC_STAT_TABLE_FULL] = "table_full",
		[TC_STAT_SAVE_FAILED] = "save_failed",
		[TC_STAT_LOAD_REFUSED] = "load_refused",
	};
	ReturnSetInfo *info = (ReturnSetInfo *) fcinfo->resultinfo;
	TcStatHappened happened[TC_STAT_NOTES];

	tc_require_ready();
	InitMaterializedSRF(fcinfo, 0);
	LWLockAcquire(tc_stat_shared->lock, LW_SHARED);
	memcpy(happened, tc_stat_shared->happened, sizeof(happened));
	LWLockRelease(tc_stat_shared->lock);
	for (int i = 0; i < TC_STAT_NOTES; i++)
	{
		Datum values[4];
		bool nulls[4] = {false};

		if (happened[i].since == 0)
			continue;
		values[0] = CStringGetTextDatum(names[i]);
		values[1] = TimestampTzGetDatum(happened[i].since);
		values[2] = TimestampTzGetDatum(happened[i].last);
		values[3] = CStringGetTextDatum(happened[i].reason);
		tuplestore_putvalues(info->setResult, info->setDesc, values, nulls);
	}
	return (Datum) 0;
}
