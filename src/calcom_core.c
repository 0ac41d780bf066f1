/*
 * calcom_core.c
 *		Cal.com: the webhook's signature header.
 *
 * X-Cal-Signature-256 is the HMAC-SHA256 of the raw body in hex, or the words "no-secret-provided",
 * which fail here like anything else that is not 64 digits.
 */
#include "calcom_core.h"

#include "codec_core.h"

/* Parses the whole header. */
bool
tc_calcom_signature_parse(const char *header, size_t len, uint8_t digest[TC_CALCOM_DIGEST_LEN])
{
	return tc_hex_decode(header, len, digest, TC_CALCOM_DIGEST_LEN);
}
