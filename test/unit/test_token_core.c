/*
 * test_token_core.c
 *		The parts, header and claims of a token.
 */
#include "codec_core.h"
#include "token_core.h"
#include "unit.h"

#define HEADER "{\"alg\":\"HS256\",\"typ\":\"JWT\",\"kid\":\"k1\"}"
#define REST ",\"exp\":1000,\"aud\":\"db\"}"
#define UUID1 "11111111-2222-3333-4444-555555555555"
#define UUID2 "AAAAAAAA-bbbb-cccc-dddd-EEEEEEEEEEEE"

static char token[3 * TC_TOKEN_MAX];
static TcTokenParts parts;
static TcTokenClaims claims;
static char kid[TC_KID_MAX + 1];

/* Builds a token with a signature of zeros; returns its length. */
static size_t
build(const char *header, const char *payload)
{
	static const uint8_t signature[TC_TOKEN_SIGNATURE];
	size_t len;

	len = tc_base64url_encode((const uint8_t *) header, strlen(header), token);
	token[len++] = '.';
	len += tc_base64url_encode((const uint8_t *) payload, strlen(payload), token + len);
	token[len++] = '.';
	len += tc_base64url_encode(signature, sizeof(signature), token + len);
	token[len] = '\0';
	return len;
}

static TcTokenFault
header(const char *text)
{
	TcTokenFault fault = tc_token_split(token, build(text, "{}"), &parts);

	return fault == TC_TOKEN_OK ? tc_token_header(&parts, kid) : fault;
}

static TcTokenFault
payload(const char *text)
{
	TcTokenFault fault = tc_token_split(token, build(HEADER, text), &parts);

	return fault == TC_TOKEN_OK ? tc_token_claims(&parts, &claims) : fault;
}

static TcTokenFault
split(const char *text)
{
	return tc_token_split(text, strlen(text), &parts);
}

#define SIG "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

static void
splitting(void)
{
	CHECK_INT(split("e30.e30." SIG), TC_TOKEN_OK);
	CHECK_INT(parts.headerlen, 3);
	CHECK_INT(parts.payloadlen, 3);
	CHECK_INT(parts.signedlen, 7);
	CHECK_INT(split(""), TC_TOKEN_SHAPE);
	CHECK_INT(split("."), TC_TOKEN_SHAPE);
	CHECK_INT(split(".."), TC_TOKEN_SHAPE);
	CHECK_INT(split("e30.e30"), TC_TOKEN_SHAPE);
	CHECK_INT(split("e30.e30."), TC_TOKEN_SHAPE);
	CHECK_INT(split("e30.e30." SIG "="), TC_TOKEN_SHAPE);
	CHECK_INT(split("e30.e30." SIG "A"), TC_TOKEN_SHAPE);
	CHECK_INT(split("e30.e30." SIG ".e30"), TC_TOKEN_SHAPE);
	CHECK_INT(split("e30.e30." SIG "\n"), TC_TOKEN_SHAPE);
	CHECK_INT(split("e30.e30.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB"), TC_TOKEN_SHAPE);
}

static void
size_limit(void)
{
	char *text = token + TC_TOKEN_MAX + 100;

	memset(text, 'A', TC_TOKEN_MAX + 1);
	text[3] = '.';
	text[TC_TOKEN_MAX - 43 - 1] = '.';
	CHECK_INT(tc_token_split(text, TC_TOKEN_MAX, &parts), TC_TOKEN_OK);
	text[TC_TOKEN_MAX - 43 - 1] = 'A';
	text[TC_TOKEN_MAX - 43] = '.';
	CHECK_INT(tc_token_split(text, TC_TOKEN_MAX + 1, &parts), TC_TOKEN_SHAPE);
}

static void
headers(void)
{
	CHECK_INT(header(HEADER), TC_TOKEN_OK);
	CHECK_STR(kid, "k1");
	CHECK_INT(header("{\"kid\":\"k1\",\"alg\":\"HS256\",\"jku\":\"http://x\",\"y\":[{}]}"),
			  TC_TOKEN_OK);
	CHECK_INT(header("{\"alg\":\"HS256\"}"), TC_TOKEN_HEADER);
	CHECK_INT(header("{\"kid\":\"k1\"}"), TC_TOKEN_HEADER);
	CHECK_INT(header("{\"alg\":\"none\",\"kid\":\"k1\"}"), TC_TOKEN_HEADER);
	CHECK_INT(header("{\"alg\":\"HS512\",\"kid\":\"k1\"}"), TC_TOKEN_HEADER);
	CHECK_INT(header("{\"alg\":\"RS256\",\"kid\":\"k1\"}"), TC_TOKEN_HEADER);
	CHECK_INT(header("{\"alg\":\"hs256\",\"kid\":\"k1\"}"), TC_TOKEN_HEADER);
	CHECK_INT(header("{\"alg\":\"HS256\",\"kid\":\"k1\",\"alg\":\"none\"}"), TC_TOKEN_HEADER);
	CHECK_INT(header("{\"alg\":\"HS256\",\"kid\":\"k1\",\"crit\":[\"exp\"]}"), TC_TOKEN_HEADER);
	CHECK_INT(header("{\"alg\":\"HS256\",\"kid\":\"k1\",\"typ\":\"JOSE\"}"), TC_TOKEN_HEADER);
	CHECK_INT(header("{\"alg\":\"HS256\",\"kid\":\"k1\",\"typ\":null}"), TC_TOKEN_HEADER);
	CHECK_INT(header("{\"alg\":\"HS256\",\"kid\":\"\"}"), TC_TOKEN_HEADER);
	CHECK_INT(header("{\"alg\":\"HS256\",\"kid\":\"../k1\"}"), TC_TOKEN_HEADER);
	CHECK_INT(header("{\"alg\":\"HS256\",\"kid\":1}"), TC_TOKEN_HEADER);
	CHECK_INT(header("{\"alg\":[\"HS256\"],\"kid\":\"k1\"}"), TC_TOKEN_HEADER);
	CHECK_INT(header("[]"), TC_TOKEN_HEADER);
	CHECK_INT(header(""), TC_TOKEN_HEADER);
}

static void
tenants(void)
{
	CHECK_INT(payload("{\"company_id\":7,\"branch_id\":9" REST), TC_TOKEN_OK);
	CHECK_INT(claims.context.company_id, 7);
	CHECK_INT(claims.context.branch_id, 9);
	CHECK(tc_uuid_is_nil(claims.context.company_uuid));
	CHECK_INT(payload("{\"company_id\":9223372036854775807" REST), TC_TOKEN_OK);
	CHECK_INT(claims.context.branch_id, 0);
	CHECK_INT(payload("{\"company_uuid\":\"" UUID1 "\",\"branch_uuid\":\"" UUID2 "\"" REST),
			  TC_TOKEN_OK);
	CHECK_INT(claims.context.company_id, 0);
	CHECK_INT(claims.context.company_uuid[0], 0x11);
	CHECK_INT(claims.context.branch_uuid[15], 0xee);
	CHECK_INT(payload("{\"company_uuid\":\"" UUID1 "\"" REST), TC_TOKEN_OK);
}

/* Every payload here lacks a tenant, or names one in a way that is refused. */
static void
bad_tenants(void)
{
	static const char *const tenants[] = {
		"\"x\":1",
		"\"branch_id\":9",
		"\"company_id\":0",
		"\"company_id\":-7",
		"\"company_id\":7.0",
		"\"company_id\":7e0",
		"\"company_id\":\"7\"",
		"\"company_id\":null",
		"\"company_id\":[7]",
		"\"company_id\":{\"company_id\":7}",
		"\"company_id\":9223372036854775808",
		"\"company_id\":18446744073709551623",
		"\"company_id\":7,\"company_id\":8",
		"\"company_id\":7,\"company\\u005fid\":8",
		"\"company_id\":7,\"branch_id\":null",
		"\"company_id\":7,\"branch_id\":0",
		"\"company_id\":7,\"branch_id\":\"\"",
		"\"company_id\":7,\"company_uuid\":\"" UUID1 "\"",
		"\"company_id\":7,\"branch_uuid\":\"" UUID1 "\"",
		"\"company_uuid\":\"" UUID1 "\",\"branch_id\":9",
		"\"company_uuid\":\"\"",
		"\"company_uuid\":7",
		"\"company_uuid\":null",
		"\"company_uuid\":\"11111111222233334444555555555555\"",
		"\"company_uuid\":\"{" UUID1 "}\"",
		"\"company_uuid\":\"1111111-12222-3333-4444-555555555555\"",
		"\"company_uuid\":\"g1111111-2222-3333-4444-555555555555\"",
		"\"company_uuid\":\"00000000-0000-0000-0000-000000000000\"",
	};
	char text[256];

	for (size_t i = 0; i < sizeof(tenants) / sizeof(tenants[0]); i++)
	{
		snprintf(text, sizeof(text), "{%s" REST, tenants[i]);
		CHECK_STR(payload(text) == TC_TOKEN_CLAIMS ? "refused" : text, "refused");
	}
}

static void
other_claims(void)
{
	CHECK_INT(
		payload(
			"{\"company_id\":7,\"nbf\":5,\"iat\":6,\"jti\":\"x\",\"role\":\"r\",\"sub\":{\"a\":[1.5]}" REST),
		TC_TOKEN_OK);
	CHECK_INT(claims.exp, 1000);
	CHECK_INT(claims.nbf, 5);
	CHECK_INT(claims.iat, 6);
	CHECK_STR(claims.aud, "db");
	CHECK_STR(claims.role, "r");
	CHECK_INT(payload("{\"company_id\":7,\"exp\":1000}"), TC_TOKEN_CLAIMS);
	CHECK_INT(payload("{\"company_id\":7,\"aud\":\"db\"}"), TC_TOKEN_CLAIMS);
	CHECK_INT(payload("{\"company_id\":7,\"exp\":1000,\"aud\":[\"db\"]}"), TC_TOKEN_CLAIMS);
	CHECK_INT(payload("{\"company_id\":7,\"exp\":1000,\"aud\":\"\"}"), TC_TOKEN_CLAIMS);
	CHECK_INT(payload("{\"company_id\":7,\"exp\":1e3,\"aud\":\"db\"}"), TC_TOKEN_CLAIMS);
	CHECK_INT(payload("{\"company_id\":7,\"exp\":\"1000\",\"aud\":\"db\"}"), TC_TOKEN_CLAIMS);
	CHECK_INT(payload("{\"company_id\":7,\"exp\":999999999999999,\"aud\":\"db\"}"),
			  TC_TOKEN_CLAIMS);
	CHECK_INT(payload("{\"company_id\":7,\"nbf\":null" REST), TC_TOKEN_CLAIMS);
	CHECK_INT(payload("{\"company_id\":7,\"jti\":5" REST), TC_TOKEN_CLAIMS);
	CHECK_INT(payload("{\"company_id\":7,\"role\":\"\"" REST), TC_TOKEN_CLAIMS);
	CHECK_INT(payload("{\"company_id\":7" REST "x"), TC_TOKEN_CLAIMS);
}

static TcTokenFault
check(int64_t now, const char *database, const char *role)
{
	TcTokenCheck against = {.now = now, .leeway = 30, .database = database, .role = role};

	return tc_token_check(&claims, &against);
}

static void
checks(void)
{
	memset(&claims, 0, sizeof(claims));
	claims.exp = 1000;
	strcpy(claims.aud, "db");
	CHECK_INT(check(1029, "db", "r"), TC_TOKEN_OK);
	CHECK_INT(check(1030, "db", "r"), TC_TOKEN_EXPIRED);
	CHECK_INT(check(500, "DB", "r"), TC_TOKEN_AUDIENCE);
	CHECK_INT(check(500, "db2", "r"), TC_TOKEN_AUDIENCE);
	claims.nbf = 500;
	CHECK_INT(check(470, "db", "r"), TC_TOKEN_OK);
	CHECK_INT(check(469, "db", "r"), TC_TOKEN_NOT_YET);
	claims.nbf = 0;
	claims.iat = 500;
	CHECK_INT(check(469, "db", "r"), TC_TOKEN_NOT_YET);
	strcpy(claims.role, "r");
	CHECK_INT(check(500, "db", "r"), TC_TOKEN_OK);
	CHECK_INT(check(500, "db", "r2"), TC_TOKEN_ROLE);
	for (int fault = TC_TOKEN_OK; fault <= TC_TOKEN_TENANT; fault++)
		CHECK(tc_token_fault_text((TcTokenFault) fault) != NULL);
}

int
main(void)
{
	RUN(splitting);
	RUN(size_limit);
	RUN(headers);
	RUN(tenants);
	RUN(bad_tenants);
	RUN(other_claims);
	RUN(checks);
	return unit_summary();
}
