/*
 * token_core.c
 *		A compact JWS of ours: its parts, header and claims.
 *
 *		base64url(header) . base64url(claims) . base64url(HMAC-SHA256 of all before this dot)
 *
 * The header must say alg HS256 and name the key (kid); typ, if there, is JWT; crit is refused,
 * since it demands what we do not know.  The claims:
 *
 *		company_id, branch_id		integers from 1; the branch may be left out
 *		company_uuid, branch_uuid	or these instead; the two forms do not mix
 *		aud							a string, the database (an array is refused)
 *		exp							seconds since 1970
 *		nbf, iat, jti, role			optional
 *
 * Anything else is ignored.  null is a value of a wrong type, so that a branch that somebody forgot
 * to fill in does not turn into the whole company.
 */
#include "token_core.h"

#include <string.h>

#include "codec_core.h"
#include "json_core.h"

/* Times up to the year 9999: later additions cannot overflow. */
#define TIME_MAX INT64_C(253402300799)

/* One decoded part and its members, which point into the text. */
typedef struct Part
{
	char text[TC_TOKEN_MAX];
	TcJsonObject object;
} Part;

static const char *const fault_texts[] = {
	[TC_TOKEN_OK] = "valid",
	[TC_TOKEN_SHAPE] = "not three base64url parts, or too long",
	[TC_TOKEN_HEADER] = "header is not that of a JWT signed with HS256 by a named key",
	[TC_TOKEN_KEY] = "no such key in the key file",
	[TC_TOKEN_FORGED] = "signature does not fit",
	[TC_TOKEN_CLAIMS] = "claims are missing, of a wrong type or out of range",
	[TC_TOKEN_AUDIENCE] = "made for another database",
	[TC_TOKEN_ROLE] = "made for another role",
	[TC_TOKEN_EXPIRED] = "expired",
	[TC_TOKEN_NOT_YET] = "not valid yet",
	[TC_TOKEN_TENANT] = "company or branch does not exist",
};

#define N_FAULTS (sizeof(fault_texts) / sizeof(fault_texts[0]))

_Static_assert(N_FAULTS == TC_TOKEN_TENANT + 1, "every fault has a text");

/* The reason, for the server log. */
const char *
tc_token_fault_text(TcTokenFault fault)
{
	return fault_texts[fault];
}

/* Finds the parts and decodes the signature. */
TcTokenFault
tc_token_split(const char *token, size_t len, TcTokenParts *parts)
{
	const char *end = token + len;
	const char *dot1;
	const char *dot2;
	size_t siglen;

	memset(parts, 0, sizeof(*parts));
	if (len == 0 || len > TC_TOKEN_MAX)
		return TC_TOKEN_SHAPE;
	dot1 = memchr(token, '.', len);
	if (dot1 == NULL)
		return TC_TOKEN_SHAPE;
	dot2 = memchr(dot1 + 1, '.', end - (dot1 + 1));
	if (dot2 == NULL)
		return TC_TOKEN_SHAPE;
	parts->header = token;
	parts->headerlen = dot1 - token;
	parts->payload = dot1 + 1;
	parts->payloadlen = dot2 - parts->payload;
	parts->signedlen = dot2 - token;
	if (!tc_base64url_decode(dot2 + 1, end - (dot2 + 1), parts->signature, TC_TOKEN_SIGNATURE,
							 &siglen) ||
		siglen != TC_TOKEN_SIGNATURE)
		return TC_TOKEN_SHAPE;
	return TC_TOKEN_OK;
}

/* Decodes and scans one part. */
static TcTokenFault
read_part(const char *text, size_t len, TcTokenFault fault, Part *part)
{
	size_t n;

	if (!tc_base64url_decode(text, len, (uint8_t *) part->text, sizeof(part->text), &n))
		return TC_TOKEN_SHAPE;
	return tc_json_scan(part->text, n, &part->object) ? TC_TOKEN_OK : fault;
}

/* Reads a string; a missing one is empty, and false if it is required. */
static bool
read_string(const Part *part, const char *name, bool required, char *out, size_t outsize)
{
	const TcJsonMember *member = tc_json_find(&part->object, name);

	out[0] = '\0';
	if (member == NULL)
		return !required;
	return tc_json_string(member, out, outsize) && out[0] != '\0';
}

/* Reads an integer within [min, max]; a missing one is zero, and false if it is required. */
static bool
read_integer(const Part *part, const char *name, bool required, int64_t max, int64_t *value)
{
	const TcJsonMember *member = tc_json_find(&part->object, name);

	*value = 0;
	if (member == NULL)
		return !required;
	return tc_json_integer(member, value) && *value >= 1 && *value <= max;
}

/* Parses a UUID in its canonical form; the nil UUID is none. */
static bool
parse_uuid(const char *text, uint8_t uuid[TC_UUID_LEN])
{
	char digits[2 * TC_UUID_LEN];
	size_t n = 0;

	if (strlen(text) != 36)
		return false;
	for (int i = 0; i < 36; i++)
	{
		bool hyphen = i == 8 || i == 13 || i == 18 || i == 23;

		if (hyphen != (text[i] == '-'))
			return false;
		if (!hyphen)
			digits[n++] = text[i];
	}
	return tc_hex_decode(digits, n, uuid, TC_UUID_LEN) && !tc_uuid_is_nil(uuid);
}

/* Reads a UUID; a missing one is nil, and false if it is required. */
static bool
read_uuid(const Part *part, const char *name, bool required, uint8_t uuid[TC_UUID_LEN])
{
	char text[36 + 1];

	if (!read_string(part, name, required, text, sizeof(text)))
		return false;
	return text[0] == '\0' || parse_uuid(text, uuid);
}

/* Reads the tenant in one of its two forms. */
static bool
read_tenant(const Part *part, TcContext *context)
{
	bool by_uuid = tc_json_find(&part->object, "company_uuid") != NULL;
	const char *other_company = by_uuid ? "company_id" : "company_uuid";
	const char *other_branch = by_uuid ? "branch_id" : "branch_uuid";

	if (tc_json_find(&part->object, other_company) != NULL ||
		tc_json_find(&part->object, other_branch) != NULL)
		return false;
	if (by_uuid)
		return read_uuid(part, "company_uuid", true, context->company_uuid) &&
			   read_uuid(part, "branch_uuid", false, context->branch_uuid);
	return read_integer(part, "company_id", true, INT64_MAX, &context->company_id) &&
		   read_integer(part, "branch_id", false, INT64_MAX, &context->branch_id);
}

/* Reads the header: the name of the key. */
TcTokenFault
tc_token_header(const TcTokenParts *parts, char kid[TC_KID_MAX + 1])
{
	Part part;
	char alg[8];
	char typ[8];
	TcTokenFault fault = read_part(parts->header, parts->headerlen, TC_TOKEN_HEADER, &part);

	kid[0] = '\0';
	if (fault != TC_TOKEN_OK)
		return fault;
	if (!read_string(&part, "alg", true, alg, sizeof(alg)) || strcmp(alg, "HS256") != 0)
		return TC_TOKEN_HEADER;
	if (!read_string(&part, "typ", false, typ, sizeof(typ)) ||
		(typ[0] != '\0' && strcmp(typ, "JWT") != 0))
		return TC_TOKEN_HEADER;
	if (tc_json_find(&part.object, "crit") != NULL)
		return TC_TOKEN_HEADER;
	if (!read_string(&part, "kid", true, kid, TC_KID_MAX + 1) || !tc_kid_valid(kid, strlen(kid)))
		return TC_TOKEN_HEADER;
	return TC_TOKEN_OK;
}

/* Reads the claims, whose signature was verified before. */
TcTokenFault
tc_token_claims(const TcTokenParts *parts, TcTokenClaims *claims)
{
	Part part;
	char jti[TC_TOKEN_JTI + 1];
	TcTokenFault fault = read_part(parts->payload, parts->payloadlen, TC_TOKEN_CLAIMS, &part);

	memset(claims, 0, sizeof(*claims));
	if (fault != TC_TOKEN_OK)
		return fault;
	if (!read_tenant(&part, &claims->context) ||
		!read_integer(&part, "exp", true, TIME_MAX, &claims->exp) ||
		!read_integer(&part, "nbf", false, TIME_MAX, &claims->nbf) ||
		!read_integer(&part, "iat", false, TIME_MAX, &claims->iat) ||
		!read_string(&part, "jti", false, jti, sizeof(jti)) ||
		!read_string(&part, "aud", true, claims->aud, sizeof(claims->aud)) ||
		!read_string(&part, "role", false, claims->role, sizeof(claims->role)))
		return TC_TOKEN_CLAIMS;
	return TC_TOKEN_OK;
}

/* Holds the claims against database, role and clock. */
TcTokenFault
tc_token_check(const TcTokenClaims *claims, const TcTokenCheck *check)
{
	if (strcmp(claims->aud, check->database) != 0)
		return TC_TOKEN_AUDIENCE;
	if (claims->role[0] != '\0' && strcmp(claims->role, check->role) != 0)
		return TC_TOKEN_ROLE;
	if (check->now >= claims->exp + check->leeway)
		return TC_TOKEN_EXPIRED;
	if (claims->nbf > check->now + check->leeway || claims->iat > check->now + check->leeway)
		return TC_TOKEN_NOT_YET;
	return TC_TOKEN_OK;
}
