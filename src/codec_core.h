/*
 * codec_core.h
 *		base64url, hex and comparison in constant time.  Pure C.
 */
#ifndef TC_CODEC_CORE_H
#define TC_CODEC_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Length of n bytes in base64url, which knows no padding here; no final zero is counted. */
#define TC_BASE64URL_LEN(n) (((size_t) (n) *4 + 2) / 3)

/* Writes TC_BASE64URL_LEN(len) characters without a final zero; returns their number. */
extern size_t tc_base64url_encode(const uint8_t *data, size_t len, char *out);

/*
 * Decodes RFC 4648 base64url without padding; false for any other character, an impossible length,
 * bits left over that are not zero, or more than outsize bytes.
 */
extern bool tc_base64url_decode(const char *text, size_t len, uint8_t *out, size_t outsize,
								size_t *outlen);

/* Writes 2 * len lower-case digits without a final zero. */
extern void tc_hex_encode(const uint8_t *data, size_t len, char *out);

/* Decodes exactly 2 * outlen digits of either case; false otherwise. */
extern bool tc_hex_decode(const char *text, size_t len, uint8_t *out, size_t outlen);

/* Are the bytes equal?  Takes the same time wherever they differ. */
extern bool tc_equal_ct(const void *a, const void *b, size_t len);

#endif /* TC_CODEC_CORE_H */
