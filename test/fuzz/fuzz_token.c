/*
 * fuzz_token.c
 *		Fuzzes a token's parts, header and claims, and base64.
 *
 * The first byte chooses what the rest is: a token as it stands, or the text of a header and of
 * claims (which a fuzzer would hardly get through base64).  Checked besides the sanitizers:
 * whatever decodes encodes back to the same text, and claims that are taken lie within what the
 * header file promises.
 */
#include <stdlib.h>
#include <string.h>

#include "codec_core.h"
#include "fuzz.h"
#include "token_core.h"

/* What was taken must be what the contract says. */
static void
check_claims(const TcTokenClaims *claims)
{
	TcTokenCheck check = {.now = 1000, .leeway = 300, .database = "db", .role = "r"};
	const TcContext *context = &claims->context;

	require((context->company_id > 0) != !tc_uuid_is_nil(context->company_uuid));
	require(context->branch_id >= 0);
	require(context->branch_id == 0 || context->company_id > 0);
	require(tc_uuid_is_nil(context->branch_uuid) || !tc_uuid_is_nil(context->company_uuid));
	require(claims->exp > 0 && claims->nbf >= 0 && claims->iat >= 0);
	require(claims->aud[0] != '\0' && strlen(claims->aud) < sizeof(claims->aud));
	require(strlen(claims->role) < sizeof(claims->role));
	(void) tc_token_check(claims, &check);
}

/* Reads a token. */
static void
fuzz_token(const char *token, size_t len)
{
	TcTokenParts parts;
	TcTokenClaims claims;
	char kid[TC_KID_MAX + 1];

	if (tc_token_split(token, len, &parts) != TC_TOKEN_OK)
		return;
	if (tc_token_header(&parts, kid) == TC_TOKEN_OK)
		require(tc_kid_valid(kid, strlen(kid)));
	if (tc_token_claims(&parts, &claims) == TC_TOKEN_OK)
		check_claims(&claims);
}

/* Reads the text as header and as claims of a token made of it. */
static void
fuzz_parts(const char *text, size_t len)
{
	static char token[4 * TC_TOKEN_MAX];
	size_t n;

	if (len > TC_TOKEN_MAX)
		return;
	n = tc_base64url_encode((const uint8_t *) text, len, token);
	token[n++] = '.';
	n += tc_base64url_encode((const uint8_t *) text, len, token + n);
	token[n++] = '.';
	memset(token + n, 'A', 43);
	fuzz_token(token, n + 43);
}

/* Decodes the text and encodes it again. */
static void
fuzz_codec(const char *text, size_t len)
{
	static uint8_t bytes[TC_TOKEN_MAX];
	static char back[2 * TC_TOKEN_MAX];
	size_t n;

	if (!tc_base64url_decode(text, len, bytes, sizeof(bytes), &n))
		return;
	require(tc_base64url_encode(bytes, n, back) == len && memcmp(back, text, len) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const targets[])(const char *, size_t) = {fuzz_token, fuzz_parts, fuzz_codec};
	char *text;

	if (size == 0)
		return 0;
	/* a copy of its own, so that the sanitizer sees a read beyond its end */
	text = calloc(1, size > 1 ? size - 1 : 1);
	memcpy(text, data + 1, size - 1);
	targets[data[0] % (sizeof(targets) / sizeof(targets[0]))](text, size - 1);
	free(text);
	return 0;
}
