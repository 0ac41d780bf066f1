/*
 * key.c
 *		The keys of tenantcall.key_file: signing, and secrets encrypted at rest.
 *
 * Each process reads the file when it first needs a key, and again when it next needs one after a
 * reload (PgReloadTime), so keys rotate without a restart.  A file that cannot be used is an error
 * then and at each use until it is mended: a key that was taken out must not live on.  Whoever
 * writes the file replaces it by a rename, since new sessions read it at any time.
 *
 * Secrets are stored encrypted by pgcrypto under a passphrase derived from the signing key, so a
 * dump holds ciphertext only.  pgcrypto's functions are called by OID: no SQL text ever holds a
 * secret.
 *
 * The keys live in a static of the process and are wiped before they are replaced.  The reason of
 * a failure goes to the server log and to whoever may read all settings.  No locks.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "common/cryptohash.h"
#include "common/hmac.h"
#include "common/sha2.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "key.h"

StaticAssertDecl(TC_HMAC_LEN == PG_SHA256_DIGEST_LENGTH, "HMAC-SHA256 has 32 bytes");

/* What the passphrase for stored secrets is derived from; a change makes them unreadable. */
#define PASSPHRASE_LABEL "tenantcall secrets v1"

/* The passphrase has full entropy, so stretching it would only cost time. */
#define PGP_OPTIONS "cipher-algo=aes256, s2k-mode=1, compress-algo=0"

static char *key_file = NULL; /* setting */
static TcKeyRing ring;		  /* the keys, when ring_valid */
static bool ring_valid = false;
static TimestampTz ring_reload = 0; /* PgReloadTime of their reading */

/* Defines the setting. */
void
tc_key_init(void)
{
	DefineCustomStringVariable("tenantcall.key_file",
							   "File with the keys that sign tokens and encrypt stored secrets.",
							   "One key a line, name and secret; the first signs, all verify.",
							   &key_file, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
}

/* Raises for want of keys; the reason is a whole sentence without secrets. */
static _Noreturn void
fail(const char *reason)
{
	bool may_see = has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_SETTINGS);

	ereport(ERROR,
			(errcode(ERRCODE_CONFIG_FILE_ERROR), errmsg("tenantcall has no usable key file"),
			 may_see ? errdetail("%s", reason) : errdetail("The reason is in the server log."),
			 errdetail_log("%s", reason),
			 errhint("Set tenantcall.key_file to a file of mode 0600 with lines of key name "
					 "and secret, then reload the server's configuration.")));
}

/* Refuses a file that anybody else could read or write: the rule of the server's SSL key. */
static void
check_file(int fd)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		fail(psprintf("Could not stat file \"%s\": %s.", key_file, strerror(errno)));
	if (!S_ISREG(st.st_mode))
		fail(psprintf("\"%s\" is not a regular file.", key_file));
	if (st.st_uid != geteuid() && st.st_uid != 0)
		fail(psprintf("File \"%s\" must be owned by the server's user or root.", key_file));
	if ((st.st_uid == geteuid() && (st.st_mode & (S_IRWXG | S_IRWXO)) != 0) ||
		(st.st_uid == 0 && (st.st_mode & (S_IWGRP | S_IXGRP | S_IRWXO)) != 0))
		fail(psprintf("File \"%s\" has group or world access; it must have mode 0600 or less, or "
					  "0640 or less if owned by root.",
					  key_file));
	if (st.st_size > TC_KEY_FILE_MAX)
		fail(psprintf("File \"%s\" is larger than %d bytes.", key_file, TC_KEY_FILE_MAX));
}

/* Reads the file into text, which has room for TC_KEY_FILE_MAX bytes; returns their number. */
static size_t
read_file(char *text)
{
	size_t len = 0;
	int fd;

	if (key_file == NULL || key_file[0] == '\0')
		fail("The setting tenantcall.key_file is empty.");
	/* relative to the data directory, where every server process runs; never wait for a pipe */
	fd = OpenTransientFile(key_file, O_RDONLY | O_NONBLOCK);
	if (fd < 0)
		fail(psprintf("Could not open file \"%s\": %s.", key_file, strerror(errno)));
	check_file(fd);
	while (len < TC_KEY_FILE_MAX)
	{
		ssize_t n = read(fd, text + len, TC_KEY_FILE_MAX - len);

		if (n < 0)
		{
			int save_errno = errno;

			explicit_bzero(text, len);
			fail(psprintf("Could not read file \"%s\": %s.", key_file, strerror(save_errno)));
		}
		if (n == 0)
			break;
		len += n;
	}
	CloseTransientFile(fd);
	return len;
}

/* Reads the keys, unless they are those of the latest reload. */
static void
load_keys(void)
{
	char text[TC_KEY_FILE_MAX];
	const char *reason;
	size_t len;
	int line;

	if (likely(ring_valid && ring_reload == PgReloadTime))
		return;
	explicit_bzero(&ring, sizeof(ring));
	ring_valid = false;
	len = read_file(text);
	ring_valid = tc_key_parse(text, len, &ring, &reason, &line);
	explicit_bzero(text, len);
	if (ring_valid)
	{
		ring_reload = PgReloadTime;
		return;
	}
	explicit_bzero(&ring, sizeof(ring));
	if (line == 0)
		fail(psprintf("File \"%s\" is not usable: %s.", key_file, reason));
	fail(psprintf("File \"%s\", line %d: %s.", key_file, line, reason));
}

/* The key that signs and encrypts. */
const TcKey *
tc_key_signing(void)
{
	load_keys();
	return &ring.keys[0];
}

/* The key of a name, or NULL. */
const TcKey *
tc_key_find(const char *kid, int len)
{
	load_keys();
	return tc_key_ring_find(&ring, kid, len);
}

/* HMAC-SHA256 of first ‖ second. */
void
tc_hmac_sha256(TcBytes key, TcBytes first, TcBytes second, uint8 out[TC_HMAC_LEN])
{
	pg_hmac_ctx *ctx = pg_hmac_create(PG_SHA256);
	bool ok = ctx != NULL && pg_hmac_init(ctx, key.data, key.len) >= 0 &&
			  (first.len == 0 || pg_hmac_update(ctx, first.data, first.len) >= 0) &&
			  (second.len == 0 || pg_hmac_update(ctx, second.data, second.len) >= 0) &&
			  pg_hmac_final(ctx, out, TC_HMAC_LEN) >= 0;

	if (ctx != NULL)
		pg_hmac_free(ctx);
	if (!ok)
		elog(ERROR, "could not compute an HMAC-SHA256");
}

/* SHA-256 of first ‖ second. */
void
tc_sha256(TcBytes first, TcBytes second, uint8 out[TC_HMAC_LEN])
{
	pg_cryptohash_ctx *ctx = pg_cryptohash_create(PG_SHA256);
	bool ok = ctx != NULL && pg_cryptohash_init(ctx) >= 0 &&
			  (first.len == 0 || pg_cryptohash_update(ctx, first.data, first.len) >= 0) &&
			  (second.len == 0 || pg_cryptohash_update(ctx, second.data, second.len) >= 0) &&
			  pg_cryptohash_final(ctx, out, TC_HMAC_LEN) >= 0;

	if (ctx != NULL)
		pg_cryptohash_free(ctx);
	if (!ok)
		elog(ERROR, "could not compute SHA-256");
}

/* Finds pgcrypto and its schema; raises when it is not installed. */
static Oid
pgcrypto_extension(Oid *schema)
{
	Relation rel = table_open(ExtensionRelationId, AccessShareLock);
	Oid extension = InvalidOid;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
				CStringGetDatum("pgcrypto"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		Form_pg_extension form = (Form_pg_extension) GETSTRUCT(tuple);

		extension = form->oid;
		*schema = form->extnamespace;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	if (!OidIsValid(extension))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("stored secrets need the extension \"pgcrypto\""),
						errdetail("Secrets are encrypted at rest."),
						errhint("Run CREATE EXTENSION pgcrypto, or tenantcall.create_tables(), "
								"which does so.")));
	return extension;
}

/* Finds a function of pgcrypto itself: nobody else's of that name in the same schema will do. */
static Oid
pgcrypto_function(const char *name, const Oid *argtypes, int nargs)
{
	Oid schema = InvalidOid;
	Oid extension = pgcrypto_extension(&schema);
	oidvector *args = buildoidvector(argtypes, nargs);
	Oid function = GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid, CStringGetDatum(name),
								   PointerGetDatum(args), ObjectIdGetDatum(schema));

	pfree(args);
	if (!OidIsValid(function) || getExtensionOfObject(ProcedureRelationId, function) != extension)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FUNCTION),
						errmsg("extension \"pgcrypto\" has no function \"%s\"", name),
						errhint("Drop and create the extension \"pgcrypto\" again.")));
	return function;
}

/* The passphrase under which a key encrypts secrets; wipe it after use. */
static text *
passphrase(const TcKey *key)
{
	text *result = palloc(VARHDRSZ + 2 * TC_HMAC_LEN);
	uint8 mac[TC_HMAC_LEN];

	tc_hmac_sha256(TC_BYTES(key->secret, key->secretlen),
				   TC_BYTES(PASSPHRASE_LABEL, strlen(PASSPHRASE_LABEL)), TC_NO_BYTES, mac);
	SET_VARSIZE(result, VARHDRSZ + 2 * TC_HMAC_LEN);
	tc_hex_encode(mac, TC_HMAC_LEN, VARDATA(result));
	explicit_bzero(mac, sizeof(mac));
	return result;
}

/* Wipes and frees a value that held a secret. */
static void
wipe_varlena(void *value)
{
	explicit_bzero(VARDATA(value), VARSIZE(value) - VARHDRSZ);
	pfree(value);
}

/* Encrypts a secret for storage. */
bytea *
tc_secret_encrypt(const char *plain, int len, const char **kid)
{
	static const Oid argtypes[] = {BYTEAOID, TEXTOID, TEXTOID};
	Oid function = pgcrypto_function("pgp_sym_encrypt_bytea", argtypes, lengthof(argtypes));
	const TcKey *key = tc_key_signing();
	text *pass = passphrase(key);
	bytea *data = (bytea *) cstring_to_text_with_len(plain, len);
	Datum cipher;

	cipher = OidFunctionCall3(function, PointerGetDatum(data), PointerGetDatum(pass),
							  CStringGetTextDatum(PGP_OPTIONS));
	wipe_varlena(data);
	wipe_varlena(pass);
	*kid = pstrdup(key->kid);
	return DatumGetByteaP(cipher);
}

/* Names the key in whatever pgcrypto raises. */
static void
decrypt_context(void *kid)
{
	errcontext("decryption of a secret that was stored under key \"%s\"", (const char *) kid);
}

/* Decrypts a stored secret. */
char *
tc_secret_decrypt(const char *kid, bytea *cipher)
{
	static const Oid argtypes[] = {BYTEAOID, TEXTOID};
	Oid function = pgcrypto_function("pgp_sym_decrypt_bytea", argtypes, lengthof(argtypes));
	const TcKey *key = tc_key_find(kid, strlen(kid));
	ErrorContextCallback callback = {error_context_stack, decrypt_context, unconstify(char *, kid)};
	text *pass;
	bytea *data;
	char *plain;

	if (key == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("a stored secret needs a key that is not in the key file"),
				 errdetail("It was encrypted under key \"%s\".", kid),
				 errhint("Put that key back below the first line of the key file and reload, "
						 "or store the secret anew.")));
	pass = passphrase(key);
	error_context_stack = &callback;
	data =
		DatumGetByteaP(OidFunctionCall2(function, PointerGetDatum(cipher), PointerGetDatum(pass)));
	error_context_stack = callback.previous;
	plain = pnstrdup(VARDATA_ANY(data), VARSIZE_ANY_EXHDR(data));
	wipe_varlena(data);
	wipe_varlena(pass);
	return plain;
}

/* Wipes and frees a decrypted secret. */
void
tc_secret_free(char *plain)
{
	if (plain == NULL)
		return;
	explicit_bzero(plain, strlen(plain));
	pfree(plain);
}
