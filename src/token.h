/*
 * token.h
 *		Signed tokens: enter_token() and sign_token().
 */
#ifndef TC_TOKEN_H
#define TC_TOKEN_H

#include "postgres.h"

#include "compat.h"
#include "context_core.h"
#include "token_core.h"

extern void tc_token_init(void);
extern void tc_token_setting_init(void); /* token_setting.c */

/*
 * Verifies a token: signature, audience, role and times.  Raises PT401, always the same, for any
 * fault of the token, and a configuration error when there are no keys to verify with.  No look-up
 * of the tenant: the caller completes and checks it.
 */
extern int64 tc_token_verify(const char *token, size_t len, TcContext *context);

/* The one error for every faulty token. */
extern TC_NORETURN void tc_token_refuse(TcTokenFault fault);

extern int tc_token_leeway; /* by how many seconds clocks may differ */

#endif /* TC_TOKEN_H */
