/*
 * key_core.h
 *		The key file: "<kid> <secret>", one key a line.  Pure C.
 */
#ifndef TC_KEY_CORE_H
#define TC_KEY_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TC_KID_MAX 64		 /* [A-Za-z0-9._-] */
#define TC_KEY_SECRET_MIN 32 /* printable bytes, used as they stand */
#define TC_KEY_SECRET_MAX 512
#define TC_KEY_MAX 8
#define TC_KEY_FILE_MAX 16384

typedef struct TcKey
{
	char kid[TC_KID_MAX + 1];
	uint8_t secret[TC_KEY_SECRET_MAX];
	size_t secretlen;
} TcKey;

/* The first key signs and encrypts, all of them verify and decrypt. */
typedef struct TcKeyRing
{
	int nkeys;
	TcKey keys[TC_KEY_MAX];
} TcKeyRing;

/* Is it a key's name? */
extern bool tc_kid_valid(const char *kid, size_t len);

/*
 * Parses the file's text.  On failure returns false, with a reason (a static string that holds
 * nothing of the file) and the number of the line at fault, 0 for the file as a whole.
 */
extern bool tc_key_parse(const char *text, size_t len, TcKeyRing *ring, const char **reason,
						 int *line);

/* The key of that name, or NULL. */
extern const TcKey *tc_key_ring_find(const TcKeyRing *ring, const char *kid, size_t len);

#endif /* TC_KEY_CORE_H */
