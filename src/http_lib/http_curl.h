/*
 * http_curl.h
 *		One request as libcurl sees it; between the two files that know libcurl.
 */
#ifndef TC_HTTP_CURL_H
#define TC_HTTP_CURL_H

#include <curl/curl.h>

#include "http_lib.h"

#define TC_HTTP_LIMIT_HEADERS 2048 /* bytes of headers about limits that are kept */

typedef struct TcHttpTransfer
{
	CURL *easy;
	struct curl_slist *headers;
	struct TcHttpTransfer *next; /* in the finished list */
	TcHttpLibFilter filter;
	TcHttpLibResult result;
	char *body;
	size_t room, max_body;
	size_t headers_seen;
	size_t limits_len;
	bool trusted, refused, too_large;
	char limits[TC_HTTP_LIMIT_HEADERS];
} TcHttpTransfer;

/* A request, ready to be added to the multi handle; NULL without memory. */
extern TcHttpTransfer *tc_http_transfer_make(const TcHttpLibRequest *request,
											 TcHttpLibFilter filter, bool http2);
/* Fills the result in. */
extern void tc_http_transfer_finish(TcHttpTransfer *transfer, CURLcode code);
extern void tc_http_transfer_free(TcHttpTransfer *transfer);

#endif /* TC_HTTP_CURL_H */
