/*
 * http_reasons.h
 *		Why a request has no answer: short, stable texts, which say nothing of keys.
 */
#ifndef TC_HTTP_REASONS_H
#define TC_HTTP_REASONS_H

/* Not sent. */
#define TC_HTTP_R_QUOTA "quota" /* no request is free before the deadline */
#define TC_HTTP_R_BREAKER "breaker_open"
#define TC_HTTP_R_QUEUE_FULL "queue_full"
#define TC_HTTP_R_DEADLINE "deadline"		 /* it passed while others were served */
#define TC_HTTP_R_CREDENTIAL "no_credential" /* none of that name, or it cannot be decrypted */
#define TC_HTTP_R_INVALID "invalid_request"
#define TC_HTTP_R_ADDRESS "address_refused"
#define TC_HTTP_R_PLAIN "plain_http_refused"
#define TC_HTTP_R_TAKEN_BACK "taken_back" /* by its source */
#define TC_HTTP_R_NO_LIBRARY "no_http_library"
#define TC_HTTP_R_NOT_ELECTED "not_elected" /* another node of the cluster speaks to calendars */

/* Perhaps sent: the result says. */
#define TC_HTTP_R_TIMEOUT "timeout"
#define TC_HTTP_R_DNS "dns"
#define TC_HTTP_R_CONNECT "connect"
#define TC_HTTP_R_TLS "tls"
#define TC_HTTP_R_TOO_LARGE "too_large"
#define TC_HTTP_R_BROKEN "broken_answer"
#define TC_HTTP_R_REDIRECT "redirect" /* never followed */
#define TC_HTTP_R_FAILED "failed"
#define TC_HTTP_R_SHUTDOWN "shutdown"

#endif /* TC_HTTP_REASONS_H */
