/*
 * signature.h
 *		Verification of webhook bodies, over the raw bytes as received.
 *
 * The header is parsed, and for Retell its time checked (tc_retell_fresh), beforehand; a body is
 * then tried against each candidate key.
 */
#ifndef TC_SIGNATURE_H
#define TC_SIGNATURE_H

#include "postgres.h"

#include "calcom_core.h"
#include "retell_core.h"

/* Was the body signed with the secret?  An empty secret never verifies. */
extern bool tc_retell_verify(const char *secret, size_t secretlen, const char *body, size_t bodylen,
							 const TcRetellSignature *sig);
extern bool tc_calcom_verify(const char *secret, size_t secretlen, const char *body, size_t bodylen,
							 const uint8 digest[TC_CALCOM_DIGEST_LEN]);

#endif /* TC_SIGNATURE_H */
