/*
 * token.h
 *		Signed tokens: enter_token() and sign_token().
 */
#ifndef TC_TOKEN_H
#define TC_TOKEN_H

#include "postgres.h"

#include "context_core.h"
#include "token_core.h"

extern void tc_token_init(void);
extern void tc_token_setting_init(void); /* token_setting.c */

/*
 * Verifies a token: signature, audience, role and times.  Raises PT401, always the same, for any
 * fault of the token, and a configuration error when there are no keys to verify with.  No look-up
 * of the tenant: the caller completes and checks it.
 */
extern void tc_token_verify(const char *token, size_t len, TcContext *context);

/* A token for a context, for one role and so many seconds. */
extern char *tc_token_make(const TcContext *context, const char *role, int seconds);

#endif /* TC_TOKEN_H */
