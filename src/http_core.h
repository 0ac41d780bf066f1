/*
 * http_core.h
 *		Which hosts and addresses may be spoken to, and what may stand in a request.  Pure C.
 */
#ifndef TC_HTTP_CORE_H
#define TC_HTTP_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TC_HTTP_HOST_LEN 254

/* Where a base URL leads to. */
typedef struct TcHttpOrigin
{
	bool plain;					 /* http, not https */
	char host[TC_HTTP_HOST_LEN]; /* in lower case; IPv6 without brackets */
	int port;
} TcHttpOrigin;

typedef enum TcHttpAddressKind
{
	TC_HTTP_PUBLIC,
	TC_HTTP_LOCAL, /* loopback and private networks: for hosts that the configuration names */
	TC_HTTP_NEVER  /* link-local, metadata, multicast, reserved: for nobody */
} TcHttpAddressKind;

/* Reads "https://host[:port][/path]"; false for anything else, a user in it included. */
extern bool tc_http_origin(const char *url, TcHttpOrigin *origin);

/* Is it in a list such as "localhost:8080, 127.0.0.1, [::1]:80"?  Without a port: on all ports. */
extern bool tc_http_listed(const char *list, const TcHttpOrigin *origin);

/* Is the list well-formed? */
extern bool tc_http_list_valid(const char *list);

/* What an IPv4 (4 bytes) or IPv6 (16 bytes) address in network order is for. */
extern TcHttpAddressKind tc_http_address_kind(const uint8_t *address, size_t len);

/* May a request connect to it? */
extern bool tc_http_address_allowed(const uint8_t *address, size_t len, bool trusted);

/* May it be a header's value: printable, no line end? */
extern bool tc_http_header_safe(const char *value);

/* May it follow a base URL: begins with one slash, printable, no space, no fragment? */
extern bool tc_http_path_safe(const char *path);

#endif /* TC_HTTP_CORE_H */
