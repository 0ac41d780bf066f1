/*
 * key.h
 *		The keys of tenantcall.key_file: signing, and secrets encrypted at rest.
 */
#ifndef TC_KEY_H
#define TC_KEY_H

#include "postgres.h"

#include "codec_core.h"
#include "key_core.h"

#define TC_HMAC_LEN 32

/* Bytes that somebody else owns. */
typedef struct TcBytes
{
	const void *data;
	size_t len;
} TcBytes;

#define TC_BYTES(data, len) ((TcBytes){(data), (len)})
#define TC_NO_BYTES ((TcBytes){NULL, 0})

extern void tc_key_init(void);

/*
 * The key that signs and encrypts, and the key of a name (NULL if there is none).  Both raise when
 * the key file is not set or cannot be used.  The result is valid within the current command: the
 * next look-up after a reload reads the file again and wipes the old keys.
 */
extern const TcKey *tc_key_signing(void);
extern const TcKey *tc_key_find(const char *kid, int len);

/* HMAC-SHA256 of first ‖ second; either may be empty. */
extern void tc_hmac_sha256(TcBytes key, TcBytes first, TcBytes second, uint8 out[TC_HMAC_LEN]);

/* SHA-256 of first ‖ second; either may be empty. */
extern void tc_sha256(TcBytes first, TcBytes second, uint8 out[TC_HMAC_LEN]);

/*
 * Encrypts a secret for storage under the signing key, whose name goes beside the result into the
 * table.  *kid is palloc'd.  Raises when pgcrypto is not installed.
 */
extern bytea *tc_secret_encrypt(const char *plain, int len, const char **kid);

/* Decrypts it; raises when the key is gone.  Returns a palloc'd, zero-terminated string. */
extern char *tc_secret_decrypt(const char *kid, bytea *cipher);

/* Wipes and frees what tc_secret_decrypt() returned; NULL is allowed. */
extern void tc_secret_free(char *plain);

#endif /* TC_KEY_H */
