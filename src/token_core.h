/*
 * token_core.h
 *		A compact JWS of ours: its parts, header and claims.  Pure C, no allocation.
 */
#ifndef TC_TOKEN_CORE_H
#define TC_TOKEN_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "context_core.h"
#include "key_core.h"

#define TC_TOKEN_MAX 4096	  /* longest token accepted, in bytes */
#define TC_TOKEN_SIGNATURE 32 /* bytes of an HMAC-SHA256 */
#define TC_TOKEN_NAME 64	  /* room for a database's or role's name (NAMEDATALEN) */
#define TC_TOKEN_JTI 128	  /* longest token id */

/* Why a token is refused: for the server log only, the client is never told. */
typedef enum TcTokenFault
{
	TC_TOKEN_OK,
	TC_TOKEN_SHAPE,	   /* not three base64url parts of allowed size */
	TC_TOKEN_HEADER,   /* header not as required */
	TC_TOKEN_KEY,	   /* no such key */
	TC_TOKEN_FORGED,   /* signature does not fit */
	TC_TOKEN_CLAIMS,   /* claims missing, of a wrong type, or out of range */
	TC_TOKEN_AUDIENCE, /* made for another database */
	TC_TOKEN_ROLE,	   /* made for another role */
	TC_TOKEN_EXPIRED,  /* exp has passed */
	TC_TOKEN_NOT_YET,  /* nbf or iat lies ahead */
	TC_TOKEN_TENANT,   /* names no company or branch that exists */
} TcTokenFault;

/* The parts of a compact JWS, pointing into it; the signature is decoded. */
typedef struct TcTokenParts
{
	const char *header;
	size_t headerlen;
	const char *payload;
	size_t payloadlen;
	size_t signedlen; /* of "header.payload", from the token's start */
	uint8_t signature[TC_TOKEN_SIGNATURE];
} TcTokenParts;

/* What the claims say; seconds since 1970.  nbf and iat are 0 when absent. */
typedef struct TcTokenClaims
{
	TcContext context; /* ids, or UUIDs, never both */
	int64_t exp;
	int64_t nbf;
	int64_t iat;
	char aud[TC_TOKEN_NAME];
	char role[TC_TOKEN_NAME]; /* empty when absent */
} TcTokenClaims;

/* Against what the claims are held. */
typedef struct TcTokenCheck
{
	int64_t now;
	int64_t leeway;
	const char *database;
	const char *role; /* the session user */
} TcTokenCheck;

extern TcTokenFault tc_token_split(const char *token, size_t len, TcTokenParts *parts);
extern TcTokenFault tc_token_header(const TcTokenParts *parts, char kid[TC_KID_MAX + 1]);
extern TcTokenFault tc_token_claims(const TcTokenParts *parts, TcTokenClaims *claims);
extern TcTokenFault tc_token_check(const TcTokenClaims *claims, const TcTokenCheck *check);
extern const char *tc_token_fault_text(TcTokenFault fault);

#endif /* TC_TOKEN_CORE_H */
