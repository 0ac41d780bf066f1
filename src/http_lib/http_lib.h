/*
 * http_lib.h
 *		What tenantcall.so may ask of tenantcall_http.so.  Pure C: neither PostgreSQL nor libcurl.
 *
 * tenantcall_http.so wraps libcurl.  The HTTP worker alone loads it.  Nothing in it raises or
 * waits: requests go on in run(), to be called when fd is readable or timeout() has passed.
 */
#ifndef TC_HTTP_LIB_H
#define TC_HTTP_LIB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct TcHttpLib TcHttpLib;

/* May a request of this trust connect to the address, of 4 or 16 bytes in network order? */
typedef bool (*TcHttpLibFilter)(const uint8_t *address, size_t len, bool trusted);

typedef enum TcHttpLibOutcome
{
	TC_HTTPLIB_ANSWERED,
	TC_HTTPLIB_TIMEOUT,
	TC_HTTPLIB_DNS,
	TC_HTTPLIB_CONNECT,
	TC_HTTPLIB_ADDRESS, /* the filter refused all that the name leads to */
	TC_HTTPLIB_TLS,
	TC_HTTPLIB_TOO_LARGE,
	TC_HTTPLIB_BROKEN, /* the answer broke off, or is no HTTP */
	TC_HTTPLIB_FAILED  /* out of memory, or a bug */
} TcHttpLibOutcome;

#define TC_HTTPLIB_N_OUTCOME (TC_HTTPLIB_FAILED + 1)

/* All texts are the caller's.  The body must stay until the result is there, the rest is copied. */
typedef struct TcHttpLibRequest
{
	const char *method;
	const char *url;
	const char *const *headers; /* "Name: value", then NULL */
	const char *body;			/* or NULL */
	size_t body_len;
	const char *ca_file; /* or NULL: the system's */
	long timeout_ms;
	long connect_timeout_ms;
	size_t max_body;
	bool trusted; /* plain http is allowed too; handed to the filter */
	void *tag;
} TcHttpLibRequest;

typedef struct TcHttpLibResult
{
	void *tag;
	TcHttpLibOutcome outcome;
	bool sent; /* may have reached the peer */
	int status;
	const char *body; /* zero-terminated */
	size_t len;
	const char *headers; /* those about limits: "Name: value\r\n"... */
} TcHttpLibResult;

typedef struct TcHttpLibApi
{
	const char *version;											/* of tenantcall */
	TcHttpLib *(*open)(TcHttpLibFilter filter, long connections);	/* NULL: failed */
	int (*fd)(const TcHttpLib *lib);								/* readable: run() */
	long (*timeout)(const TcHttpLib *lib);							/* ms until run(), -1: none */
	bool (*start)(TcHttpLib *lib, const TcHttpLibRequest *request); /* false: no memory */
	void (*run)(TcHttpLib *lib);
	bool (*next)(TcHttpLib *lib, TcHttpLibResult *result); /* valid until the next call */
	void (*close)(TcHttpLib *lib);
} TcHttpLibApi;

/* The library's only function. */
__attribute__((visibility("default"))) extern const TcHttpLibApi *tc_httplib_api(void);

#endif /* TC_HTTP_LIB_H */
