/*
 * company_lock.c
 *		Advisory locks in a key space of each company's own.
 *
 * PostgreSQL's advisory locks share one space of keys in a database: one company's application
 * could find out about, or hold up, another's.  Here the key of the lock is the first half of
 * SHA-256 over company and key, so that nobody can choose a key that meets another company's.
 * The lock is PostgreSQL's own, held until the end of the transaction; on a cluster it is on the
 * company's node, whichever is asked.
 */
#include "postgres.h"

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "port/pg_bswap.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "args.h"
#include "company_lock.h"
#include "context.h"
#include "errors.h"
#include "key.h"
#include "node.h"

PG_FUNCTION_INFO_V1(tc_company_lock);
PG_FUNCTION_INFO_V1(tc_try_company_lock);

/* The lock's key for a key of the company in context. */
static int64
lock_key(TcBytes key)
{
	const TcContext *context = tc_context_current();
	uint8 digest[TC_HMAC_LEN];
	StringInfoData company;
	uint64 result;

	if (context == NULL)
		ereport(ERROR, (errcode(ERRCODE_TC_WRONG_TENANT),
						errmsg("no tenant has been entered in this transaction"),
						errhint("Call tenantcall.enter_token() first.")));
	initStringInfo(&company);
	appendBinaryStringInfo(&company, (const char *) &context->company_id, sizeof(int64));
	appendBinaryStringInfo(&company, (const char *) context->company_uuid, TC_UUID_LEN);
	tc_sha256(TC_BYTES(company.data, company.len), key, digest);
	memcpy(&result, digest, sizeof(result));
	return (int64) pg_ntoh64(result);
}

/* The lock's key for a key from SQL. */
static int64
key_argument(FunctionCallInfo fcinfo)
{
	char *key = tc_arg_text(fcinfo, 0, "key");

	return lock_key(TC_BYTES(key, strlen(key)));
}

/* A lock of our own: its key begins with the one byte that a text cannot have. */
void
tc_company_lock_internal(const char *purpose)
{
	StringInfoData key;

	initStringInfo(&key);
	appendStringInfoChar(&key, '\0');
	appendStringInfoString(&key, purpose);
	DirectFunctionCall1(pg_advisory_xact_lock_int8,
						Int64GetDatum(lock_key(TC_BYTES(key.data, key.len))));
	pfree(key.data);
}

/* company_lock(key text) -> void: waits */
Datum
tc_company_lock(PG_FUNCTION_ARGS)
{
	int64 key = key_argument(fcinfo);
	Datum there;

	if (tc_node_elsewhere(fcinfo, tc_context_current()->company_id, &there))
		return there;
	DirectFunctionCall1(pg_advisory_xact_lock_int8, Int64GetDatum(key));
	PG_RETURN_VOID();
}

/* try_company_lock(key text) -> boolean: does not wait */
Datum
tc_try_company_lock(PG_FUNCTION_ARGS)
{
	int64 key = key_argument(fcinfo);
	Datum there;

	if (tc_node_elsewhere(fcinfo, tc_context_current()->company_id, &there))
		return there;
	return DirectFunctionCall1(pg_try_advisory_xact_lock_int8, Int64GetDatum(key));
}
