/*
 * webhook.h
 *		Webhook keys: whose key signed a body?
 */
#ifndef TC_WEBHOOK_H
#define TC_WEBHOOK_H

#include "postgres.h"

/* Does the secret fit?  arg is what the caller handed over. */
typedef bool (*TcSecretTest)(const char *secret, size_t len, const void *arg);

/*
 * Tries the live keys of a provider that belong to one company (0: to the provider account as a
 * whole); true as soon as one fits.
 */
extern bool tc_webhook_verify(const char *provider, int64 company_id, TcSecretTest test,
							  const void *arg);

/* Has the company keys of its own with this provider? */
extern bool tc_webhook_has_keys(const char *provider, int64 company_id);

#endif /* TC_WEBHOOK_H */
