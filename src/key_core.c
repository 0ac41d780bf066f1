/*
 * key_core.c
 *		The key file.
 *
 *		# comment
 *		2026-08 0f7c…  (32 to 512 printable bytes)
 *		2026-01 91ab…
 *
 * One key a line: a name, blanks, the secret, which is used byte for byte as it stands so that any
 * JWT library can be given the same string.  Nothing of the file ever leaves in a reason.
 */
#include "key_core.h"

#include <string.h>

/* May the character stand in a key's name? */
static bool
is_kid_char(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '.' ||
		   c == '_' || c == '-';
}

/* A blank between the parts of a line; a carriage return at its end counts as one. */
static bool
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* Is it a key's name? */
bool
tc_kid_valid(const char *kid, size_t len)
{
	if (len == 0 || len > TC_KID_MAX)
		return false;
	for (size_t i = 0; i < len; i++)
		if (!is_kid_char(kid[i]))
			return false;
	return true;
}

/* The key of that name, or NULL. */
const TcKey *
tc_key_ring_find(const TcKeyRing *ring, const char *kid, size_t len)
{
	for (int i = 0; i < ring->nkeys; i++)
		if (strlen(ring->keys[i].kid) == len && memcmp(ring->keys[i].kid, kid, len) == 0)
			return &ring->keys[i];
	return NULL;
}

/* Adds a key, given its two parts; returns the reason why not, or NULL. */
static const char *
add_key(TcKeyRing *ring, const char *kid, size_t kidlen, const char *secret, size_t secretlen)
{
	TcKey *key;

	if (!tc_kid_valid(kid, kidlen))
		return "a key's name has 1 to 64 characters of A-Z, a-z, 0-9, \".\", \"_\" and \"-\"";
	if (secretlen < TC_KEY_SECRET_MIN || secretlen > TC_KEY_SECRET_MAX)
		return "a secret has 32 to 512 characters";
	for (size_t i = 0; i < secretlen; i++)
		if (secret[i] < 0x21 || secret[i] > 0x7e)
			return "a secret consists of printable ASCII characters without blanks";
	if (tc_key_ring_find(ring, kid, kidlen) != NULL)
		return "two keys have the same name";
	if (ring->nkeys == TC_KEY_MAX)
		return "there are more than 8 keys";
	key = &ring->keys[ring->nkeys++];
	memcpy(key->kid, kid, kidlen);
	key->kid[kidlen] = '\0';
	memcpy(key->secret, secret, secretlen);
	key->secretlen = secretlen;
	return NULL;
}

/* Parses one line without its end; returns the reason why not, or NULL. */
static const char *
parse_line(TcKeyRing *ring, const char *line, const char *end)
{
	const char *kid;
	const char *secret;
	size_t kidlen;

	while (line < end && is_blank(*line))
		line++;
	while (line < end && is_blank(end[-1]))
		end--;
	if (line == end || *line == '#')
		return NULL;
	kid = line;
	while (line < end && !is_blank(*line))
		line++;
	kidlen = line - kid;
	while (line < end && is_blank(*line))
		line++;
	secret = line;
	if (secret == end)
		return "a line consists of a key's name, a blank and a secret";
	return add_key(ring, kid, kidlen, secret, end - secret);
}

/* Parses the file's text. */
bool
tc_key_parse(const char *text, size_t len, TcKeyRing *ring, const char **reason, int *line)
{
	const char *end = text + len;

	memset(ring, 0, sizeof(*ring));
	*reason = NULL;
	for (*line = 1; text < end; ++*line)
	{
		const char *eol = memchr(text, '\n', end - text);

		if (eol == NULL)
			eol = end;
		*reason = parse_line(ring, text, eol);
		if (*reason != NULL)
			return false;
		text = eol < end ? eol + 1 : end;
	}
	*line = 0;
	if (ring->nkeys == 0)
		*reason = "there is no key in it";
	return ring->nkeys > 0;
}
