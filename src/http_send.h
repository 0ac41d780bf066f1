/*
 * http_send.h
 *		Between jobs and libcurl's library.
 */
#ifndef TC_HTTP_SEND_H
#define TC_HTTP_SEND_H

#include "http_credential.h"
#include "http_worker.h"

/* Why nothing may be sent to this peer, or NULL. */
extern const char *tc_http_obstacle(const TcHttpCredential *credential);
/* Hands a job to the library; false if it did not take it. */
extern bool tc_http_send(TcHttpJob *job, const TcHttpCredential *credential);
/* The next request that has ended; its texts are valid until the next call. */
extern bool tc_http_next_end(TcHttpTransferEnd *end);

#endif /* TC_HTTP_SEND_H */
