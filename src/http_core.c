/*
 * http_core.c
 *		Which hosts and addresses may be spoken to, and what may stand in a request.
 *
 * Addresses follow IANA's registries of special-purpose addresses.  For IPv6 only what is global
 * unicast today (2000::/3) is public; addresses that carry an IPv4 address are what that one is.
 */
#include "http_core.h"

#include <string.h>

/* A block of IPv4 addresses that are not public. */
typedef struct Block
{
	uint32_t first;
	int bits;
	TcHttpAddressKind kind;
} Block;

#define IPV4(a, b, c, d)                                                                           \
	(((uint32_t) (a) << 24) | ((uint32_t) (b) << 16) | ((uint32_t) (c) << 8) | (uint32_t) (d))

static const Block blocks[] = {
	{IPV4(0, 0, 0, 0), 8, TC_HTTP_NEVER},		   /* this network */
	{IPV4(10, 0, 0, 0), 8, TC_HTTP_LOCAL},		   /* private */
	{IPV4(100, 100, 100, 200), 32, TC_HTTP_NEVER}, /* metadata */
	{IPV4(100, 64, 0, 0), 10, TC_HTTP_LOCAL},	   /* shared by carriers */
	{IPV4(127, 0, 0, 0), 8, TC_HTTP_LOCAL},		   /* loopback */
	{IPV4(168, 63, 129, 16), 32, TC_HTTP_NEVER},   /* metadata */
	{IPV4(169, 254, 0, 0), 16, TC_HTTP_NEVER},	   /* link-local, metadata */
	{IPV4(172, 16, 0, 0), 12, TC_HTTP_LOCAL},	   /* private */
	{IPV4(192, 0, 0, 0), 24, TC_HTTP_NEVER},	   /* protocol assignments, metadata */
	{IPV4(192, 0, 2, 0), 24, TC_HTTP_NEVER},	   /* documentation */
	{IPV4(192, 88, 99, 0), 24, TC_HTTP_NEVER},	   /* relays */
	{IPV4(192, 168, 0, 0), 16, TC_HTTP_LOCAL},	   /* private */
	{IPV4(198, 18, 0, 0), 15, TC_HTTP_NEVER},	   /* benchmarks */
	{IPV4(198, 51, 100, 0), 24, TC_HTTP_NEVER},	   /* documentation */
	{IPV4(203, 0, 113, 0), 24, TC_HTTP_NEVER},	   /* documentation */
	{IPV4(224, 0, 0, 0), 4, TC_HTTP_NEVER},		   /* multicast */
	{IPV4(240, 0, 0, 0), 4, TC_HTTP_NEVER},		   /* reserved, broadcast */
};

/* Blocks of 2000::/3 that are not public. */
static const struct
{
	uint8_t first[4];
	int bits;
} blocks6[] = {
	{{0x20, 0x01, 0x00, 0x00}, 23}, /* protocol assignments, Teredo */
	{{0x20, 0x01, 0x0d, 0xb8}, 32}, /* documentation */
	{{0x20, 0x02, 0x00, 0x00}, 16}, /* 6to4: carries an IPv4 address */
	{{0x3f, 0xff, 0x00, 0x00}, 20}, /* documentation */
};

static const uint8_t zeros[16] = {0};

/* Do the first bits agree? */
static bool
same_prefix(const uint8_t *a, const uint8_t *b, int bits)
{
	int rest = bits % 8;

	if (memcmp(a, b, (size_t) (bits / 8)) != 0)
		return false;
	return rest == 0 || ((a[bits / 8] ^ b[bits / 8]) >> (8 - rest)) == 0;
}

/* What an IPv4 address is for. */
static TcHttpAddressKind
kind_of_ipv4(const uint8_t *address)
{
	uint32_t number = IPV4(address[0], address[1], address[2], address[3]);

	for (size_t i = 0; i < sizeof(blocks) / sizeof(blocks[0]); i++)
	{
		if ((number ^ blocks[i].first) >> (32 - blocks[i].bits) == 0)
			return blocks[i].kind;
	}
	return TC_HTTP_PUBLIC;
}

/* What an IPv6 address is for. */
static TcHttpAddressKind
kind_of_ipv6(const uint8_t *address)
{
	static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
	static const uint8_t nat64[12] = {0x00, 0x64, 0xff, 0x9b};
	static const uint8_t metadata[16] = {0xfd, 0x00, 0x0e, 0xc2, 0, 0, 0, 0,
										 0,	   0,	 0,	   0,	 0, 0, 2, 0x54};

	if (memcmp(address, zeros, 15) == 0)
		return address[15] == 1 ? TC_HTTP_LOCAL : TC_HTTP_NEVER;
	if (memcmp(address, mapped, 12) == 0 || memcmp(address, nat64, 12) == 0 ||
		memcmp(address, zeros, 12) == 0)
		return kind_of_ipv4(address + 12);
	if (memcmp(address, metadata, 16) == 0)
		return TC_HTTP_NEVER;
	if ((address[0] & 0xfe) == 0xfc)
		return TC_HTTP_LOCAL;
	for (size_t i = 0; i < sizeof(blocks6) / sizeof(blocks6[0]); i++)
	{
		if (same_prefix(address, blocks6[i].first, blocks6[i].bits))
			return TC_HTTP_NEVER;
	}
	return (address[0] & 0xe0) == 0x20 ? TC_HTTP_PUBLIC : TC_HTTP_NEVER;
}

/* What an address is for. */
TcHttpAddressKind
tc_http_address_kind(const uint8_t *address, size_t len)
{
	if (len == 4)
		return kind_of_ipv4(address);
	return len == 16 ? kind_of_ipv6(address) : TC_HTTP_NEVER;
}

/* May a request connect to it? */
bool
tc_http_address_allowed(const uint8_t *address, size_t len, bool trusted)
{
	TcHttpAddressKind kind = tc_http_address_kind(address, len);

	return kind == TC_HTTP_PUBLIC || (kind == TC_HTTP_LOCAL && trusted);
}

/* The same letter in lower case. */
static char
lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char) (c - 'A' + 'a') : c;
}

/* May the character stand in a host's name? */
static bool
in_host(char c)
{
	c = lower(c);
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
}

/* May it stand in an IPv6 address? */
static bool
in_ipv6(char c)
{
	c = lower(c);
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || c == ':' || c == '.';
}

/* Reads "host" or "[IPv6]"; what follows, or NULL. */
static const char *
read_host(const char *text, TcHttpOrigin *origin)
{
	bool brackets = text[0] == '[';
	size_t len = 0;

	if (brackets)
		text++;
	while (brackets ? in_ipv6(*text) : in_host(*text))
	{
		if (len + 1 >= sizeof(origin->host))
			return NULL;
		origin->host[len++] = lower(*text++);
	}
	origin->host[len] = '\0';
	if (len == 0 || (brackets && *text++ != ']'))
		return NULL;
	return text;
}

/* Reads ":port" if it is there; what follows, or NULL. */
static const char *
read_port(const char *text, int *port)
{
	int number = 0;

	if (*text != ':')
		return text;
	for (text++; *text >= '0' && *text <= '9'; text++)
	{
		number = number * 10 + (*text - '0');
		if (number > 65535)
			return NULL;
	}
	*port = number;
	return number > 0 ? text : NULL;
}

/* Reads the origin of a base URL. */
bool
tc_http_origin(const char *url, TcHttpOrigin *origin)
{
	origin->plain = strncmp(url, "http://", 7) == 0;
	if (!origin->plain && strncmp(url, "https://", 8) != 0)
		return false;
	origin->port = origin->plain ? 80 : 443;
	url = read_host(url + (origin->plain ? 7 : 8), origin);
	if (url != NULL)
		url = read_port(url, &origin->port);
	return url != NULL && (*url == '\0' || tc_http_path_safe(url));
}

/* Reads one entry of a list; what follows its comma, or NULL if it is none. */
static const char *
read_entry(const char *list, TcHttpOrigin *entry)
{
	while (*list == ' ')
		list++;
	entry->port = 0;
	list = read_host(list, entry);
	if (list != NULL)
		list = read_port(list, &entry->port);
	if (list == NULL)
		return NULL;
	while (*list == ' ')
		list++;
	if (*list == ',' && list[1] != '\0')
		return list + 1;
	return *list == '\0' ? list : NULL;
}

/* Is the list well-formed? */
bool
tc_http_list_valid(const char *list)
{
	TcHttpOrigin entry;

	while (list != NULL && *list != '\0')
		list = read_entry(list, &entry);
	return list != NULL;
}

/* Is the origin in the list? */
bool
tc_http_listed(const char *list, const TcHttpOrigin *origin)
{
	TcHttpOrigin entry;

	while (list != NULL && *list != '\0')
	{
		list = read_entry(list, &entry);
		if (list != NULL && strcmp(entry.host, origin->host) == 0 &&
			(entry.port == 0 || entry.port == origin->port))
			return true;
	}
	return false;
}

/* May it be a header's value? */
bool
tc_http_header_safe(const char *value)
{
	for (; *value != '\0'; value++)
	{
		if ((unsigned char) *value < ' ' || (unsigned char) *value > '~')
			return false;
	}
	return true;
}

/* May it follow a base URL? */
bool
tc_http_path_safe(const char *path)
{
	if (path[0] != '/' || path[1] == '/')
		return false;
	for (; *path != '\0'; path++)
	{
		if ((unsigned char) *path <= ' ' || (unsigned char) *path > '~' || *path == '#' ||
			*path == '\\')
			return false;
	}
	return true;
}
