/*
 * http_credential.c
 *		Calendar accounts in the clear, in the HTTP worker only.
 *
 *		tenantcall.secrets --decrypt at first use--> memory of the worker --> request headers
 *
 * They are wiped as soon as tenantcall.secrets has changed (relation cache callback, see inval.h)
 * or the configuration, and with it perhaps the key file, was read again.  Nothing here, errors
 * included, ever shows one.  State of the process only, no locks.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "http_credential.h"
#include "http_shmem.h"
#include "http_worker.h"
#include "inval.h"
#include "key.h"
#include "ready.h"
#include "telephony.h"

#define PROVIDER "calcom"
#define MAX_CREDENTIALS 10000
#define READ_AGAIN_NS (INT64CONST(5) * 1000000000) /* what could not be read */

static HTAB *known = NULL;
static MemoryContext credentials_context = NULL;
static Oid secrets_relid = InvalidOid;
static bool stale = true;
static TimestampTz loaded_under = 0; /* PgReloadTime */

/* Relation cache callback. */
static void
secrets_changed(Oid relid)
{
	if (relid == InvalidOid || relid == secrets_relid)
		stale = true;
}

/* Wipes and forgets everything. */
static void
wipe(void)
{
	HASHCTL control = {.keysize = NAMEDATALEN, .entrysize = sizeof(TcHttpCredential)};
	TcHttpCredential *credential;
	HASH_SEQ_STATUS status;

	if (credentials_context == NULL)
	{
		tc_on_relation_change(secrets_changed);
		credentials_context = AllocSetContextCreate(TopMemoryContext, "tenantcall credentials",
													ALLOCSET_DEFAULT_SIZES);
	}
	if (known != NULL)
	{
		hash_seq_init(&status, known);
		while ((credential = hash_seq_search(&status)) != NULL)
		{
			if (credential->base_url != NULL)
				explicit_bzero(credential->authorization, strlen(credential->authorization));
		}
	}
	MemoryContextReset(credentials_context);
	control.hcxt = credentials_context;
	known = hash_create("tenantcall credentials", 16, &control,
						HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
}

/* Takes note of changes: the beginning of a transaction receives them. */
void
tc_http_credentials_refresh(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	CommitTransactionCommand();
	if (known != NULL && !stale && loaded_under == PgReloadTime &&
		hash_get_num_entries(known) < MAX_CREDENTIALS)
		return;
	wipe();
	stale = false;
	loaded_under = PgReloadTime;
}

/* Takes a row of secrets. */
static bool
visit_secret(HeapTuple tuple, TupleDesc desc, void *arg)
{
	TcHttpCredential *credential = arg;
	char *base_url = tc_row_text(tuple, desc, "base_url");
	char *key_id = tc_row_text(tuple, desc, "key_id");
	size_t len = base_url != NULL ? strlen(base_url) : 0;
	size_t size;
	Datum cipher;
	char *plain;

	if (len == 0 || !tc_row_datum(tuple, desc, "ciphertext", &cipher) ||
		!tc_http_origin(base_url, &credential->origin))
		return false;
	plain = tc_secret_decrypt(key_id, DatumGetByteaPP(cipher));
	if (tc_http_header_safe(plain))
	{
		if (base_url[len - 1] == '/')
			len--;
		size = strlen(plain) + sizeof("Authorization: Bearer ");
		credential->authorization = MemoryContextAlloc(credentials_context, size);
		snprintf(credential->authorization, size, "Authorization: Bearer %s", plain);
		credential->base_url = MemoryContextAlloc(credentials_context, len + 1);
		strlcpy(credential->base_url, base_url, len + 1);
	}
	tc_secret_free(plain);
	return false;
}

/* Names its key: other names, and other databases, may hold the same one. */
static void
name_key(TcHttpCredential *credential)
{
	char *server = psprintf("%s:%d ", credential->origin.host, credential->origin.port);

	StaticAssertStmt(TC_HTTP_KEY_LEN == TC_HMAC_LEN, "the digest is SHA-256");
	tc_sha256(TC_BYTES(server, strlen(server)),
			  TC_BYTES(credential->authorization, strlen(credential->authorization)),
			  credential->key.digest);
	pfree(server);
}

/* Looks a credential up in the table. */
static void
load(TcHttpCredential *credential)
{
	TcMatch matches[3] = {{"kind", TEXTOID, CStringGetTextDatum("credential")},
						  {"provider", TEXTOID, CStringGetTextDatum(PROVIDER)},
						  {"name", TEXTOID, CStringGetTextDatum(credential->name)}};

	secrets_relid = tc_own_relation("secrets");
	if (OidIsValid(secrets_relid))
		tc_read_rows(secrets_relid, matches, lengthof(matches), visit_secret, credential);
	if (credential->base_url != NULL)
		name_key(credential);
}

/* tc_http_protected() callback */
static void
load_protected(void *arg)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	if (tc_hold_extension())
		load(arg);
	else
		((TcHttpCredential *) arg)->read_again = tc_http_now() + READ_AGAIN_NS;
	CommitTransactionCommand();
}

/* The credential of a name, or NULL.  An error while it was read says nothing of it for long. */
const TcHttpCredential *
tc_http_credential(const char *name)
{
	TcHttpCredential *credential;
	bool found;

	credential = hash_search(known, name, HASH_ENTER, &found);
	if (!found || (credential->read_again != 0 && credential->read_again <= tc_http_now()))
	{
		credential->base_url = NULL;
		credential->authorization = NULL;
		credential->read_again = 0;
		if (!tc_http_protected(load_protected, credential))
		{
			credential->base_url = NULL;
			credential->read_again = tc_http_now() + READ_AGAIN_NS;
		}
	}
	return credential->base_url != NULL ? credential : NULL;
}
