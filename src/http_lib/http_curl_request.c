/*
 * http_curl_request.c
 *		One request: what it may do, and what is taken of the answer.
 *
 * Each request has an easy handle of its own, so none ever serves two credentials.  What is no GET
 * gets a new connection: when a kept one breaks, libcurl sends the request again by itself, and a
 * booking would be made twice.
 *
 * Every address is held against the filter before it is connected to, and again before each
 * request, since a connection may be kept from a request that might do more.
 *
 * No callback calls anything of PostgreSQL but the filter, which is pure.  libcurl's log stays off.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http_curl.h"

#if LIBCURL_VERSION_NUM < 0x075700
#error "tenantcall needs libcurl 7.87 or later (QUICK_EXIT)"
#endif

#define FIRST_BODY 16384  /* bytes; doubled when needed */
#define MAX_HEADERS 65536 /* bytes of one answer */
#define LIFETIME_S 300L	  /* of a connection */
#define IDLE_S 55L		  /* after which it is not used again */
#define LOW_SPEED_S 20L	  /* without a byte */
#define CA_KEPT_S 3600L	  /* authorities, before they are read again */

/* May the transfer connect to an address? */
static bool
address_allowed(TcHttpTransfer *transfer, int family, const void *address)
{
	if (family == AF_INET && transfer->filter(address, 4, transfer->trusted))
		return true;
	if (family == AF_INET6 && transfer->filter(address, 16, transfer->trusted))
		return true;
	transfer->refused = true;
	return false;
}

/* CURLOPT_OPENSOCKETFUNCTION: every address that a name leads to passes here. */
static curl_socket_t
open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *peer)
{
	struct sockaddr_storage address = {0};
	const void *bytes = &((struct sockaddr_in *) &address)->sin_addr;

	if (purpose != CURLSOCKTYPE_IPCXN || peer->addrlen > sizeof(address))
		return CURL_SOCKET_BAD;
	memcpy(&address, &peer->addr, peer->addrlen);
	if (peer->family == AF_INET6)
		bytes = &((struct sockaddr_in6 *) &address)->sin6_addr;
	if (!address_allowed(arg, peer->family, bytes))
		return CURL_SOCKET_BAD;
	return socket(peer->family, peer->socktype | SOCK_CLOEXEC, peer->protocol);
}

/* CURLOPT_PREREQFUNCTION: the same for a connection that is used again, just before sending. */
static int
before_request(void *arg, char *primary, char *local, int primary_port, int local_port)
{
	TcHttpTransfer *transfer = arg;
	uint8_t address[16];
	int family = strchr(primary, ':') != NULL ? AF_INET6 : AF_INET;

	if (inet_pton(family, primary, address) != 1 || !address_allowed(transfer, family, address))
	{
		transfer->refused = true;
		return CURL_PREREQFUNC_ABORT;
	}
	transfer->result.sent = true;
	return CURL_PREREQFUNC_OK;
}

/* Makes room for a body of that length and its final zero; false: too large, or no memory. */
static bool
make_room(TcHttpTransfer *transfer, size_t len)
{
	size_t room = transfer->room > 0 ? transfer->room : FIRST_BODY;
	char *body;

	if (len > transfer->max_body)
	{
		transfer->too_large = true;
		return false;
	}
	while (room < len + 1)
		room *= 2;
	if (room == transfer->room)
		return true;
	body = realloc(transfer->body, room);
	if (body == NULL)
		return false;
	transfer->body = body;
	transfer->room = room;
	return true;
}

/* CURLOPT_WRITEFUNCTION: a body longer than allowed ends the transfer. */
static size_t
take_body(char *data, size_t size, size_t count, void *arg)
{
	TcHttpTransfer *transfer = arg;
	size_t len = size * count;

	if (!make_room(transfer, transfer->result.len + len))
		return 0;
	memcpy(transfer->body + transfer->result.len, data, len);
	transfer->result.len += len;
	transfer->body[transfer->result.len] = '\0';
	return len;
}

/* Is it a header about limits? */
static bool
is_limit_header(const char *line, size_t len)
{
	static const char *const names[] = {"x-ratelimit-", "ratelimit", "retry-after"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
	{
		if (len > strlen(names[i]) && strncasecmp(line, names[i], strlen(names[i])) == 0)
			return true;
	}
	return false;
}

/* CURLOPT_HEADERFUNCTION: keeps headers about limits; those of an interim answer are forgotten. */
static size_t
take_header(char *line, size_t size, size_t count, void *arg)
{
	TcHttpTransfer *transfer = arg;
	size_t len = size * count;

	transfer->headers_seen += len;
	if (transfer->headers_seen > MAX_HEADERS)
	{
		transfer->too_large = true;
		return 0;
	}
	if (len >= 5 && strncmp(line, "HTTP/", 5) == 0)
		transfer->limits_len = 0;
	else if (is_limit_header(line, len) && transfer->limits_len + len < TC_HTTP_LIMIT_HEADERS)
	{
		memcpy(transfer->limits + transfer->limits_len, line, len);
		transfer->limits_len += len;
	}
	return len;
}

/* Frees a transfer; its headers held the credential. */
void
tc_http_transfer_free(TcHttpTransfer *transfer)
{
	if (transfer == NULL)
		return;
	for (struct curl_slist *header = transfer->headers; header != NULL; header = header->next)
		explicit_bzero(header->data, strlen(header->data));
	curl_slist_free_all(transfer->headers);
	curl_easy_cleanup(transfer->easy);
	free(transfer->body);
	free(transfer);
}

/* Options that are the same for every request: what may happen at all. */
static void
set_rules(CURL *easy, bool http2)
{
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_PROXY, "");
	curl_easy_setopt(easy, CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
	curl_easy_setopt(easy, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
	curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION,
					 (long) (http2 ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_1_1));
	curl_easy_setopt(easy, CURLOPT_MAXLIFETIME_CONN, LIFETIME_S);
	curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, IDLE_S);
	curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
	curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, LOW_SPEED_S);
	curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
	curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 1L);
}

/* Has the system its authorities in one file? */
static bool
has_bundle(void)
{
	static int known = -1;

	if (known < 0)
	{
		const char *bundle = curl_version_info(CURLVERSION_NOW)->cainfo;

		known = bundle != NULL && access(bundle, R_OK) == 0;
	}
	return known;
}

/*
 * Which authorities are trusted: those of the file, or the system's.  While a directory of them is
 * set, libcurl trusts that as well, and reads all of them again for each new connection, which
 * takes 20 ms in which nothing else goes on.
 */
static bool
set_authorities(CURL *easy, const char *file)
{
	bool named = file != NULL && file[0] != '\0';

	if (named || has_bundle())
		curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
	curl_easy_setopt(easy, CURLOPT_CA_CACHE_TIMEOUT, CA_KEPT_S);
	return !named || curl_easy_setopt(easy, CURLOPT_CAINFO, file) == CURLE_OK;
}

/* Where the request goes, and what comes back where. */
static bool
set_target(TcHttpTransfer *transfer, const TcHttpLibRequest *request)
{
	CURL *easy = transfer->easy;

	curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, request->trusted ? "http,https" : "https");
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, request->timeout_ms);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, request->connect_timeout_ms);
	curl_easy_setopt(easy, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t) request->max_body);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, transfer);
	curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, before_request);
	curl_easy_setopt(easy, CURLOPT_PREREQDATA, transfer);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, take_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, transfer);
	if (!set_authorities(easy, request->ca_file))
		return false;
	return curl_easy_setopt(easy, CURLOPT_URL, request->url) == CURLE_OK;
}

/* Adds a header; false without memory. */
static bool
add_header(TcHttpTransfer *transfer, const char *header)
{
	struct curl_slist *list = curl_slist_append(transfer->headers, header);

	if (list == NULL)
		return false;
	transfer->headers = list;
	return true;
}

/* Method, headers and body. */
static bool
set_message(TcHttpTransfer *transfer, const TcHttpLibRequest *request)
{
	CURL *easy = transfer->easy;
	bool get = strcmp(request->method, "GET") == 0;

	for (const char *const *header = request->headers; *header != NULL; header++)
	{
		if (!add_header(transfer, *header))
			return false;
	}
	if (get)
		curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
	else
	{
		if (!add_header(transfer, "Expect:"))
			return false;
		curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
		curl_easy_setopt(easy, CURLOPT_POST, 1L);
		curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) request->body_len);
		curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request->body != NULL ? request->body : "");
		if (strcmp(request->method, "POST") != 0)
			curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method);
	}
	return curl_easy_setopt(easy, CURLOPT_HTTPHEADER, transfer->headers) == CURLE_OK;
}

/* A request, ready to be added to the multi handle. */
TcHttpTransfer *
tc_http_transfer_make(const TcHttpLibRequest *request, TcHttpLibFilter filter, bool http2)
{
	TcHttpTransfer *transfer = calloc(1, sizeof(TcHttpTransfer));

	if (transfer == NULL)
		return NULL;
	transfer->filter = filter;
	transfer->max_body = request->max_body;
	transfer->trusted = request->trusted;
	transfer->result.tag = request->tag;
	transfer->easy = curl_easy_init();
	if (transfer->easy == NULL)
	{
		free(transfer);
		return NULL;
	}
	set_rules(transfer->easy, http2);
	if (set_target(transfer, request) && set_message(transfer, request))
		return transfer;
	tc_http_transfer_free(transfer);
	return NULL;
}

/* What an error of libcurl means. */
static TcHttpLibOutcome
outcome_of(const TcHttpTransfer *transfer, CURLcode code)
{
	switch (code)
	{
		case CURLE_OK:
			return TC_HTTPLIB_ANSWERED;
		case CURLE_OPERATION_TIMEDOUT:
			return TC_HTTPLIB_TIMEOUT;
		case CURLE_COULDNT_RESOLVE_HOST:
			return TC_HTTPLIB_DNS;
		case CURLE_COULDNT_CONNECT:
			return transfer->refused ? TC_HTTPLIB_ADDRESS : TC_HTTPLIB_CONNECT;
		case CURLE_UNSUPPORTED_PROTOCOL: /* plain http to a peer that is not trusted */
		case CURLE_ABORTED_BY_CALLBACK:
			return TC_HTTPLIB_ADDRESS;
		case CURLE_SSL_CONNECT_ERROR:
		case CURLE_PEER_FAILED_VERIFICATION:
		case CURLE_SSL_CACERT_BADFILE:
		case CURLE_SSL_CIPHER:
		case CURLE_SSL_ISSUER_ERROR:
			return TC_HTTPLIB_TLS;
		case CURLE_FILESIZE_EXCEEDED:
			return TC_HTTPLIB_TOO_LARGE;
		case CURLE_WRITE_ERROR:
			return transfer->too_large ? TC_HTTPLIB_TOO_LARGE : TC_HTTPLIB_FAILED;
		case CURLE_OUT_OF_MEMORY:
		case CURLE_FAILED_INIT:
		case CURLE_URL_MALFORMAT:
			return TC_HTTPLIB_FAILED;
		default:
			return TC_HTTPLIB_BROKEN;
	}
}

/* Fills the result in. */
void
tc_http_transfer_finish(TcHttpTransfer *transfer, CURLcode code)
{
	long status = 0;

	curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
	transfer->limits[transfer->limits_len] = '\0';
	transfer->result.outcome = outcome_of(transfer, code);
	transfer->result.status = (int) status;
	transfer->result.body = transfer->body != NULL ? transfer->body : "";
	transfer->result.headers = transfer->limits;
}
