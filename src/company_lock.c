/*
 * company_lock.c
 *		Advisory locks in a key space of each company's own.
 *
 * PostgreSQL's advisory locks share one space of keys in a database: one company's application
 * could find out about, or hold up, another's.  Here the key of the lock is the first half of
 * SHA-256 over company and key, so that nobody can choose a key that meets another company's.
 * The lock is PostgreSQL's own, held until the end of the transaction.
 */
#include "postgres.h"

#include "common/cryptohash.h"
#include "common/sha2.h"
#include "fmgr.h"
#include "port/pg_bswap.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "args.h"
#include "context.h"
#include "errors.h"

PG_FUNCTION_INFO_V1(tc_company_lock);
PG_FUNCTION_INFO_V1(tc_try_company_lock);

/* The lock's key for a key of the company in context. */
static int64
lock_key(const char *key)
{
	const TcContext *context = tc_context_current();
	uint8 digest[PG_SHA256_DIGEST_LENGTH];
	pg_cryptohash_ctx *hash;
	uint64 result;

	if (context == NULL)
		ereport(ERROR, (errcode(ERRCODE_TC_WRONG_TENANT),
						errmsg("no tenant has been entered in this transaction"),
						errhint("Call tenantcall.enter_token() first.")));
	hash = pg_cryptohash_create(PG_SHA256);
	if (hash == NULL || pg_cryptohash_init(hash) < 0 ||
		pg_cryptohash_update(hash, (const uint8 *) &context->company_id, sizeof(int64)) < 0 ||
		pg_cryptohash_update(hash, context->company_uuid, TC_UUID_LEN) < 0 ||
		pg_cryptohash_update(hash, (const uint8 *) key, strlen(key)) < 0 ||
		pg_cryptohash_final(hash, digest, sizeof(digest)) < 0)
		elog(ERROR, "could not compute SHA-256");
	pg_cryptohash_free(hash);
	memcpy(&result, digest, sizeof(result));
	return (int64) pg_ntoh64(result);
}

/* company_lock(key text) -> void: waits */
Datum
tc_company_lock(PG_FUNCTION_ARGS)
{
	int64 key = lock_key(tc_arg_text(fcinfo, 0, "key"));

	DirectFunctionCall1(pg_advisory_xact_lock_int8, Int64GetDatum(key));
	PG_RETURN_VOID();
}

/* try_company_lock(key text) -> boolean: does not wait */
Datum
tc_try_company_lock(PG_FUNCTION_ARGS)
{
	int64 key = lock_key(tc_arg_text(fcinfo, 0, "key"));

	return DirectFunctionCall1(pg_try_advisory_xact_lock_int8, Int64GetDatum(key));
}
