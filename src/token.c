/*
 * token.c
 *		Signed tokens: enter_token() and sign_token().
 *
 * A token is verified in this order: parts, header, key, signature, claims, tenant.  Claims are
 * read only after the signature was found right.  Whatever fails, the client gets one and the same
 * PT401; the reason goes to the server log, without the token, and the statement is kept out of the
 * log because it may hold the token as a literal.
 *
 * A missing or unusable key file is the operator's fault and a different error.  No locks.
 */
#include "postgres.h"

#include "commands/dbcommands.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "args.h"
#include "compat.h"
#include "context.h"
#include "directory.h"
#include "errors.h"
#include "key.h"
#include "node.h"
#include "node_ticket.h"
#include "ready.h"
#include "stat.h"
#include "stat_shmem.h"
#include "token.h"

#define JTI_BYTES 16

/* What sign_token() puts into a token. */
typedef struct TokenRequest
{
	int64 company_id;
	int64 branch_id; /* 0: the whole company */
	pg_time_t issued;
	pg_time_t expires;
	const char *role; /* NULL: any */
} TokenRequest;

int tc_token_leeway = 30;				 /* seconds */
static int token_max_ttl = SECS_PER_DAY; /* seconds */

/* Defines the settings. */
void
tc_token_init(void)
{
	DefineCustomIntVariable("tenantcall.token_leeway",
							"By how much clocks may differ when a token's times are checked.", NULL,
							&tc_token_leeway, 30, 0, 300, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("tenantcall.token_max_ttl",
							"Longest life of a token that tenantcall.sign_token() signs.", NULL,
							&token_max_ttl, SECS_PER_DAY, 1, 366 * SECS_PER_DAY, PGC_SIGHUP,
							GUC_UNIT_S, NULL, NULL, NULL);
}

/* The one error for every faulty token. */
void
tc_token_refuse(TcTokenFault fault)
{
	tc_stat_token_refused(fault);
	ereport(ERROR,
			(errcode(ERRCODE_TC_BAD_TOKEN), errmsg("invalid token"),
			 errdetail("The token does not admit this session to a tenant of this database."),
			 errdetail_log("Reason: %s.", tc_token_fault_text(fault)),
			 errhint("Ask the service that signs tokens for a new one, made for this database "
					 "and role."),
			 errhidestmt(true)));
}

/* Does the signature fit the key that the header names? */
static TcTokenFault
verify_signature(const char *token, const TcTokenParts *parts)
{
	char kid[TC_KID_MAX + 1];
	uint8 mac[TC_HMAC_LEN];
	const TcKey *key;
	TcTokenFault fault = tc_token_header(parts, kid);

	if (fault != TC_TOKEN_OK)
		return fault;
	key = tc_key_find(kid, strlen(kid));
	if (key == NULL)
	{
		tc_stat_key_unknown(kid);
		return TC_TOKEN_KEY;
	}
	tc_hmac_sha256(TC_BYTES(key->secret, key->secretlen), TC_BYTES(token, parts->signedlen),
				   TC_NO_BYTES, mac);
	if (!tc_equal_ct(mac, parts->signature, TC_HMAC_LEN))
		return TC_TOKEN_FORGED;
	tc_stat_key_good(kid);
	return TC_TOKEN_OK;
}

/* Seconds since 1970 of a point in time. */
static pg_time_t
unix_seconds(TimestampTz at)
{
	return timestamptz_to_time_t(at);
}

/* Holds the claims against this session and the clock. */
static TcTokenFault
check_claims(const TcTokenClaims *claims)
{
	TcTokenCheck check = {
		.now = unix_seconds(GetCurrentTimestamp()),
		.leeway = tc_token_leeway,
		.database = get_database_name(MyDatabaseId),
		.role = GetUserNameFromId(GetSessionUserId(), false),
	};

	return tc_token_check(claims, &check);
}

/* Verifies a token; raises PT401.  Returns when it expires. */
int64
tc_token_verify(const char *token, size_t len, TcContext *context)
{
	TcTokenParts parts;
	TcTokenClaims claims = {0};
	TcTokenFault fault = tc_token_split(token, len, &parts);

	if (fault == TC_TOKEN_OK)
		fault = verify_signature(token, &parts);
	if (fault == TC_TOKEN_OK)
		fault = tc_token_claims(&parts, &claims);
	if (fault == TC_TOKEN_OK)
		fault = check_claims(&claims);
	if (fault != TC_TOKEN_OK)
		tc_token_refuse(fault);
	*context = claims.context;
	return claims.exp;
}

PG_FUNCTION_INFO_V1(tc_enter_token);

/* enter_token(token text): enters the tenant that a signed token names */
Datum
tc_enter_token(PG_FUNCTION_ARGS)
{
	TcContext context;
	text *token;
	int64 until;

	tc_require_ready();
	if (PG_ARGISNULL(0))
		tc_token_refuse(TC_TOKEN_SHAPE);
	token = PG_GETARG_TEXT_PP(0);
	until = tc_token_verify(VARDATA_ANY(token), VARSIZE_ANY_EXHDR(token), &context);
	if (!tc_directory_fill(&context))
		tc_token_refuse(TC_TOKEN_TENANT);
	tc_context_enter(&context);
	tc_ticket_limit(until, false);
	tc_node_spread(&context);
	tc_stat_count((int64) context.company_id, TC_STAT_ENTER_TOKEN);
	PG_RETURN_VOID();
}

/* When a token issued now with this lifetime expires: the next full second. */
static pg_time_t
expiry(TimestampTz now, Interval *ttl)
{
	TimestampTz end =
		DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval, TimestampTzGetDatum(now),
												IntervalPGetDatum(ttl)));

	if (end <= now)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the lifetime of a token must be positive")));
	if (end > now + token_max_ttl * USECS_PER_SEC)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the lifetime of a token must not exceed %d seconds", token_max_ttl),
				 errhint("Sign short-lived tokens often, or raise tenantcall.token_max_ttl.")));
	return unix_seconds(end + USECS_PER_SEC - 1);
}

/* Refuses what does not exist: a token for it would be refused later, without a reason. */
static void
check_exists(const TokenRequest *request)
{
	TcContext context = {.company_id = request->company_id, .branch_id = request->branch_id};

	if (!tc_directory_fill(&context))
		ereport(ERROR,
				(errcode(ERRCODE_TC_UNKNOWN), errmsg("unknown company or branch"),
				 request->branch_id != 0
					 ? errdetail("Company " INT64_FORMAT ", branch " INT64_FORMAT ".",
								 request->company_id, request->branch_id)
					 : errdetail("Company " INT64_FORMAT ".", request->company_id),
				 errhint("Sign for a company of tenantcall's directory, and a branch of it.")));
	if (request->role != NULL)
		(void) get_role_oid(request->role, false);
}

/* Appends base64url of data. */
static void
append_base64url(StringInfo out, const void *data, size_t len)
{
	enlargeStringInfo(out, TC_BASE64URL_LEN(len));
	out->len += tc_base64url_encode(data, len, out->data + out->len);
	out->data[out->len] = '\0';
}

/* Writes the claims as JSON. */
static void
format_claims(StringInfo json, const TokenRequest *request)
{
	uint8 jti[JTI_BYTES];
	char hex[2 * JTI_BYTES + 1] = {0};

	if (!pg_strong_random(jti, sizeof(jti)))
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate a token id")));
	tc_hex_encode(jti, sizeof(jti), hex);
	appendStringInfo(json, "{\"company_id\":" INT64_FORMAT, request->company_id);
	if (request->branch_id != 0)
		appendStringInfo(json, ",\"branch_id\":" INT64_FORMAT, request->branch_id);
	appendStringInfo(json,
					 ",\"iat\":" INT64_FORMAT ",\"nbf\":" INT64_FORMAT ",\"exp\":" INT64_FORMAT,
					 (int64) request->issued, (int64) request->issued, (int64) request->expires);
	appendStringInfo(json, ",\"jti\":\"%s\",\"aud\":", hex);
	escape_json(json, get_database_name(MyDatabaseId));
	if (request->role != NULL)
	{
		appendStringInfoString(json, ",\"role\":");
		escape_json(json, request->role);
	}
	appendStringInfoChar(json, '}');
}

/* Makes the token. */
static text *
sign(const TokenRequest *request)
{
	const TcKey *key = tc_key_signing();
	uint8 mac[TC_HMAC_LEN];
	StringInfoData json;
	StringInfoData token;

	initStringInfo(&json);
	initStringInfo(&token);
	appendStringInfo(&json, "{\"alg\":\"HS256\",\"typ\":\"JWT\",\"kid\":\"%s\"}", key->kid);
	append_base64url(&token, json.data, json.len);
	appendStringInfoChar(&token, '.');
	resetStringInfo(&json);
	format_claims(&json, request);
	append_base64url(&token, json.data, json.len);
	tc_hmac_sha256(TC_BYTES(key->secret, key->secretlen), TC_BYTES(token.data, token.len),
				   TC_NO_BYTES, mac);
	appendStringInfoChar(&token, '.');
	append_base64url(&token, mac, sizeof(mac));
	return cstring_to_text_with_len(token.data, token.len);
}

PG_FUNCTION_INFO_V1(tc_sign_token);

/* sign_token(company_id bigint, branch_id bigint, ttl interval, role name) -> text */
Datum
tc_sign_token(PG_FUNCTION_ARGS)
{
	TimestampTz now = GetCurrentTimestamp();
	TokenRequest request = {.issued = unix_seconds(now)};

	tc_require_ready();
	request.company_id = tc_arg_id(fcinfo, 0, "company_id");
	request.branch_id = tc_arg_optional_id(fcinfo, 1, "branch_id");
	if (PG_ARGISNULL(2))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("argument \"ttl\" must not be NULL"),
						errhint("Say how long the token is to be valid, such as '15 minutes'.")));
	request.expires = expiry(now, PG_GETARG_INTERVAL_P(2));
	if (!PG_ARGISNULL(3))
		request.role = NameStr(*PG_GETARG_NAME(3));
	check_exists(&request);
	PG_RETURN_TEXT_P(sign(&request));
}
