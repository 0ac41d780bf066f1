/*
 * signature.c
 *		Verification of webhook bodies, over the raw bytes as received.
 *
 * Retell AI signs body ‖ time in decimal, Cal.com the body alone, both with HMAC-SHA256.  Digests
 * are compared in constant time.  No state, no locks.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "key.h"
#include "signature.h"

/* Was the body signed by Retell with the secret? */
bool
tc_retell_verify(const char *secret, size_t secretlen, const char *body, size_t bodylen,
				 const TcRetellSignature *sig)
{
	uint8 mac[TC_HMAC_LEN];

	if (secretlen == 0)
		return false;
	tc_hmac_sha256(TC_BYTES(secret, secretlen), TC_BYTES(body, bodylen),
				   TC_BYTES(sig->stamp, sig->stamplen), mac);
	return tc_equal_ct(mac, sig->digest, TC_HMAC_LEN);
}

/* Was the body signed by Cal.com with the secret? */
bool
tc_calcom_verify(const char *secret, size_t secretlen, const char *body, size_t bodylen,
				 const uint8 digest[TC_CALCOM_DIGEST_LEN])
{
	uint8 mac[TC_HMAC_LEN];

	if (secretlen == 0)
		return false;
	tc_hmac_sha256(TC_BYTES(secret, secretlen), TC_BYTES(body, bodylen), TC_NO_BYTES, mac);
	return tc_equal_ct(mac, digest, TC_HMAC_LEN);
}

/* Milliseconds since 1970; raises unless finite and not before. */
static int64
unix_milliseconds(TimestampTz at)
{
	const TimestampTz epoch = (UNIX_EPOCH_JDATE - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY;

	if (TIMESTAMP_NOT_FINITE(at) || at < epoch)
		ereport(ERROR, (errcode(ERRCODE_DATETIME_FIELD_OVERFLOW),
						errmsg("a body cannot be signed at that time"),
						errdetail("The time must be finite and not before 1970.")));
	return at / 1000 - epoch / 1000;
}

PG_FUNCTION_INFO_V1(tc_retell_signature);

/* retell_signature(body text|bytea, secret text, at timestamptz) -> text: signs like Retell AI */
Datum
tc_retell_signature(PG_FUNCTION_ARGS)
{
	bytea *body;
	text *secret;
	char stamp[TC_RETELL_STAMP_MAX + 1];
	char hex[2 * TC_HMAC_LEN + 1] = {0};
	uint8 mac[TC_HMAC_LEN];

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("arguments of retell_signature must not be NULL")));
	body = PG_GETARG_BYTEA_PP(0);
	secret = PG_GETARG_TEXT_PP(1);
	if (VARSIZE_ANY_EXHDR(secret) == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("a body cannot be signed with an empty secret")));
	snprintf(stamp, sizeof(stamp), INT64_FORMAT, unix_milliseconds(PG_GETARG_TIMESTAMPTZ(2)));
	tc_hmac_sha256(TC_BYTES(VARDATA_ANY(secret), VARSIZE_ANY_EXHDR(secret)),
				   TC_BYTES(VARDATA_ANY(body), VARSIZE_ANY_EXHDR(body)),
				   TC_BYTES(stamp, strlen(stamp)), mac);
	tc_hex_encode(mac, TC_HMAC_LEN, hex);
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("v=%s,d=%s", stamp, hex)));
}
