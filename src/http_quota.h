/*
 * http_quota.h
 *		What calendars admit, by key: shared by all databases and names that a key is stored under.
 */
#ifndef TC_HTTP_QUOTA_H
#define TC_HTTP_QUOTA_H

#include "postgres.h"

#include "quota_core.h"

#define TC_HTTP_KEY_LEN 32

/* Names a key without telling it: a digest of the key and the server that it is for. */
typedef struct TcHttpKeyId
{
	uint8 digest[TC_HTTP_KEY_LEN]; /* all zeros: none */
} TcHttpKeyId;

extern Size tc_http_quota_size(void);
extern void tc_http_quota_startup(void);

/*
 * The key's quota, begun without tokens if wished; NULL: none, or no room.  Under tc_http_lock(),
 * exclusively to make one; not to be kept beyond it.
 */
extern TcQuota *tc_http_quota(const TcHttpKeyId *key, bool make);

#endif /* TC_HTTP_QUOTA_H */
