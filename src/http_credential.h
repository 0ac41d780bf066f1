/*
 * http_credential.h
 *		Calendar accounts in the clear, in the HTTP worker only.
 */
#ifndef TC_HTTP_CREDENTIAL_H
#define TC_HTTP_CREDENTIAL_H

#include "postgres.h"

#include "http_core.h"
#include "http_quota.h"

typedef struct TcHttpCredential
{
	char name[NAMEDATALEN];
	char *base_url;		 /* without a slash at its end; NULL: there is no such credential */
	char *authorization; /* the whole header */
	TcHttpOrigin origin;
	TcHttpKeyId key;
	int64 read_again; /* tc_http_now() when to read what could not be read; 0: it could */
} TcHttpCredential;

/*
 * Takes note of changes; outside of any transaction, before credentials are looked up.  What was
 * looked up before is gone.
 */
extern void tc_http_credentials_refresh(void);

/* The credential of a name, or NULL.  Valid until the next refresh.  Logs why; does not raise. */
extern const TcHttpCredential *tc_http_credential(const char *name);

#endif /* TC_HTTP_CREDENTIAL_H */
