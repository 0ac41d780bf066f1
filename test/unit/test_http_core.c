/* Unit test of http_core.c. */
#include <arpa/inet.h>

#include "http_core.h"
#include "unit.h"

/* What an address in text is for. */
static TcHttpAddressKind
kind(const char *text)
{
	uint8_t address[16];
	bool six = strchr(text, ':') != NULL;

	CHECK(inet_pton(six ? AF_INET6 : AF_INET, text, address) == 1);
	return tc_http_address_kind(address, six ? 16 : 4);
}

/* Addresses that nobody may be led to, those for named hosts, and public ones. */
static void
test_addresses(void)
{
	static const char *const never[] = {"0.0.0.0",
										"0.1.2.3",
										"169.254.169.254",
										"169.254.0.1",
										"100.100.100.200",
										"168.63.129.16",
										"192.0.0.192",
										"192.0.2.1",
										"198.18.0.1",
										"198.19.255.255",
										"198.51.100.7",
										"203.0.113.9",
										"224.0.0.1",
										"239.255.255.255",
										"240.0.0.1",
										"255.255.255.255",
										"::",
										"fe80::1",
										"febf::1",
										"fec0::1",
										"ff02::1",
										"fd00:ec2::254",
										"::ffff:169.254.169.254",
										"64:ff9b::169.254.169.254",
										"64:ff9b:1::1",
										"::169.254.169.254",
										"2002:a9fe:a9fe::1",
										"2001::1",
										"2001:1ff::1",
										"2001:db8::1",
										"3fff::1",
										"100::1",
										"5f00::1"};
	static const char *const local[] = {"127.0.0.1",		 "127.255.255.254",
										"10.0.0.1",			 "172.16.0.1",
										"172.31.255.255",	 "192.168.1.1",
										"100.64.0.1",		 "::1",
										"fc00::1",			 "fdff::1",
										"::ffff:127.0.0.1",	 "::ffff:10.0.0.1",
										"64:ff9b::10.1.2.3", "::127.0.0.1"};
	static const char *const public[] = {"1.1.1.1",		   "9.255.255.255",	  "11.0.0.0",
										 "172.15.0.1",	   "172.32.0.1",	  "192.167.1.1",
										 "100.63.0.1",	   "100.128.0.1",	  "126.0.0.1",
										 "128.0.0.1",	   "169.253.1.1",	  "223.255.255.255",
										 "2600::1",		   "2001:200::1",	  "2a00:1450::1",
										 "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"};

	for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++)
		if (!CHECK_INT(kind(never[i]), TC_HTTP_NEVER))
			printf("  of %s\n", never[i]);
	for (size_t i = 0; i < sizeof(local) / sizeof(local[0]); i++)
		if (!CHECK_INT(kind(local[i]), TC_HTTP_LOCAL))
			printf("  of %s\n", local[i]);
	for (size_t i = 0; i < sizeof(public) / sizeof(public[0]); i++)
		if (!CHECK_INT(kind(public[i]), TC_HTTP_PUBLIC))
			printf("  of %s\n", public[i]);
	CHECK_INT(tc_http_address_kind((const uint8_t *) "abcdef", 6), TC_HTTP_NEVER);
	CHECK(!tc_http_address_allowed((const uint8_t[]){127, 0, 0, 1}, 4, false));
	CHECK(tc_http_address_allowed((const uint8_t[]){127, 0, 0, 1}, 4, true));
	CHECK(!tc_http_address_allowed((const uint8_t[]){169, 254, 169, 254}, 4, true));
	CHECK(tc_http_address_allowed((const uint8_t[]){1, 1, 1, 1}, 4, false));
}

/* Base URLs. */
static void
test_origins(void)
{
	static const char *const bad[] = {"",
									  "api.cal.com",
									  "ftp://api.cal.com",
									  "https://",
									  "https:///x",
									  "https://a@b",
									  "https://a:b@c",
									  "https://a:0",
									  "https://a:65536",
									  "https://a:",
									  "https://a:1x",
									  "https://[::1",
									  "https://[::1]x",
									  "https://a b",
									  "https://a\r\nX: y",
									  "https://a//b",
									  "https://a\\b",
									  "https://[::1%25eth0]"};
	TcHttpOrigin origin;
	char text[512];

	memset(text, 'a', sizeof(text));
	memcpy(text, "https://", 8);
	text[sizeof(text) - 1] = '\0';
	CHECK(!tc_http_origin(text, &origin)); /* a host of more than 253 letters */
	CHECK(tc_http_origin("https://API.Cal.com", &origin));
	CHECK_STR(origin.host, "api.cal.com");
	CHECK_INT(origin.port, 443);
	CHECK(!origin.plain);
	CHECK(tc_http_origin("http://[::1]:8080/base/", &origin));
	CHECK_STR(origin.host, "::1");
	CHECK_INT(origin.port, 8080);
	CHECK(origin.plain);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (!CHECK(!tc_http_origin(bad[i], &origin)))
			printf("  %s\n", bad[i]);
}

/* Lists of hosts. */
static void
test_lists(void)
{
	TcHttpOrigin origin;

	CHECK(tc_http_origin("http://localhost:8080", &origin));
	CHECK(tc_http_listed("localhost", &origin));
	CHECK(tc_http_listed("127.0.0.1, LOCALHOST:8080", &origin));
	CHECK(!tc_http_listed("localhost:80", &origin));
	CHECK(!tc_http_listed("localhost.evil", &origin));
	CHECK(!tc_http_listed("", &origin));
	CHECK(!tc_http_listed(NULL, &origin));
	CHECK(tc_http_list_valid(""));
	CHECK(tc_http_list_valid("localhost, [::1]:80 ,x.y"));
	CHECK(!tc_http_list_valid("localhost,"));
	CHECK(!tc_http_list_valid("http://localhost"));
	CHECK(!tc_http_list_valid("a;b"));
	CHECK(!tc_http_list_valid("*"));
}

/* What may stand in a request. */
static void
test_texts(void)
{
	CHECK(tc_http_header_safe("2024-09-04"));
	CHECK(!tc_http_header_safe("a\r\nb: c"));
	CHECK(!tc_http_header_safe("a\nb"));
	CHECK(!tc_http_header_safe("\x7f"));
	CHECK(!tc_http_header_safe("\xc3\xa4"));
	CHECK(tc_http_path_safe("/v2/slots?a=b&c=%20"));
	CHECK(!tc_http_path_safe("v2"));
	CHECK(!tc_http_path_safe("@evil"));
	CHECK(!tc_http_path_safe(".evil.com/"));
	CHECK(!tc_http_path_safe("//evil"));
	CHECK(!tc_http_path_safe("/a b"));
	CHECK(!tc_http_path_safe("/a\r\nX: y"));
	CHECK(!tc_http_path_safe("/a#b"));
	CHECK(!tc_http_path_safe(""));
}

int
main(void)
{
	RUN(test_addresses);
	RUN(test_origins);
	RUN(test_lists);
	RUN(test_texts);
	return unit_summary();
}
