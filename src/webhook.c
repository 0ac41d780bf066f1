/*
 * webhook.c
 *		Webhook keys and credentials: kept encrypted, used from memory.
 *
 *		set_webhook_key() --encrypt under the key file--> tenantcall.secrets
 *		tenantcall.secrets --decrypt once per process--> memory --> tc_webhook_verify()
 *
 * Secrets are encrypted and decrypted by C calls (key.c), never in SQL text, so that no log line,
 * error context or statistics view can show them.  In memory they are kept by (provider, company),
 * at most MAX_GROUPS of these, and wiped when tenantcall.secrets changes (relation cache callback,
 * see inval.c) or the configuration is reloaded.  State of the process only, no locks.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "act.h"
#include "args.h"
#include "directory.h"
#include "errors.h"
#include "inval.h"
#include "key.h"
#include "ready.h"
#include "slot_generation.h"
#include "telephony.h"
#include "webhook.h"

PG_FUNCTION_INFO_V1(tc_set_webhook_key);
PG_FUNCTION_INFO_V1(tc_drop_webhook_key);
PG_FUNCTION_INFO_V1(tc_set_credential);

#define MAX_GROUPS 1000
#define PROVIDER_LEN 16

/* One secret in the clear. */
typedef struct Secret
{
	struct Secret *next;
	size_t len;
	char *text;
} Secret;

typedef struct KeyGroupId
{
	char provider[PROVIDER_LEN];
	int64 company_id;
} KeyGroupId;

/* The live keys of one company with one provider. */
typedef struct KeyGroup
{
	KeyGroupId key;
	Secret *secrets;
} KeyGroup;

static HTAB *groups = NULL;
static MemoryContext secrets_context = NULL;
static Oid secrets_relid = InvalidOid;
static bool stale = true;
static bool loading = false;		 /* also left behind by a load that failed */
static TimestampTz loaded_under = 0; /* PgReloadTime when the first secret was read */

static TcStatement upsert_secret = {
	.sql =
		"INSERT INTO tenantcall.secrets AS s "
		"(kind, provider, name, company_id, base_url, key_id, ciphertext) "
		"VALUES ($1, $2, $3, coalesce($4, 0), $5, $6, $7) "
		"ON CONFLICT (kind, provider, name) DO UPDATE SET base_url = excluded.base_url, "
		"key_id = excluded.key_id, ciphertext = excluded.ciphertext, changed_at = excluded.changed_at "
		"WHERE s.company_id = excluded.company_id",
	.nparams = 7,
	.types = {TEXTOID, TEXTOID, TEXTOID, INT8OID, TEXTOID, TEXTOID, BYTEAOID},
};
static TcStatement delete_key = {
	.sql = "DELETE FROM tenantcall.secrets "
		   "WHERE kind = 'webhook' AND provider = $1 AND name = $2",
	.nparams = 2,
	.types = {TEXTOID, TEXTOID},
};

/* Relation cache callback. */
static void
secrets_changed(Oid relid)
{
	if (relid == InvalidOid || relid == secrets_relid)
		stale = true;
}

/* Wipes and forgets every secret. */
static void
wipe(void)
{
	HASH_SEQ_STATUS status;
	KeyGroup *group;

	if (groups == NULL)
		return;
	hash_seq_init(&status, groups);
	while ((group = hash_seq_search(&status)) != NULL)
	{
		for (Secret *secret = group->secrets; secret != NULL; secret = secret->next)
			explicit_bzero(secret->text, secret->len);
	}
	groups = NULL;
	MemoryContextReset(secrets_context);
}

/* Makes the memory ready, emptied if anything changed since it was filled. */
static void
prepare_memory(void)
{
	static bool registered = false;
	HASHCTL control = {.keysize = sizeof(KeyGroupId), .entrysize = sizeof(KeyGroup)};

	AcceptInvalidationMessages();
	if (!registered)
	{
		tc_on_relation_change(secrets_changed);
		secrets_context = AllocSetContextCreate(TopMemoryContext, "tenantcall webhook keys",
												ALLOCSET_DEFAULT_SIZES);
		registered = true;
	}
	if (!stale && !loading && loaded_under == PgReloadTime && groups != NULL &&
		hash_get_num_entries(groups) < MAX_GROUPS)
		return;
	wipe();
	secrets_relid = tc_own_relation("secrets");
	stale = false;
	loading = false;
	loaded_under = PgReloadTime;
	control.hcxt = secrets_context;
	groups =
		hash_create("tenantcall webhook keys", 16, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* Takes a row of secrets. */
static bool
visit_secret(HeapTuple tuple, TupleDesc desc, void *arg)
{
	KeyGroup *group = arg;
	char *key_id = tc_row_text(tuple, desc, "key_id");
	MemoryContext caller;
	Secret *secret;
	Datum cipher;
	char *plain;

	if (!tc_row_datum(tuple, desc, "ciphertext", &cipher))
		return true;
	plain = tc_secret_decrypt(key_id, DatumGetByteaPP(cipher));
	caller = MemoryContextSwitchTo(secrets_context);
	secret = palloc(sizeof(Secret));
	secret->len = strlen(plain);
	secret->text = pstrdup(plain);
	secret->next = group->secrets;
	group->secrets = secret;
	MemoryContextSwitchTo(caller);
	tc_secret_free(plain);
	return true;
}

/* The live keys of a company with a provider. */
static const Secret *
find_secrets(const char *provider, int64 company_id)
{
	KeyGroupId key = {.company_id = company_id};
	KeyGroup *group;
	TcMatch matches[3] = {{"kind", TEXTOID, CStringGetTextDatum("webhook")},
						  {"provider", TEXTOID, CStringGetTextDatum(provider)},
						  {"company_id", INT8OID, Int64GetDatum(company_id)}};

	prepare_memory();
	strlcpy(key.provider, provider, PROVIDER_LEN);
	group = hash_search(groups, &key, HASH_FIND, NULL);
	if (group != NULL)
		return group->secrets;
	group = hash_search(groups, &key, HASH_ENTER, NULL);
	group->secrets = NULL;
	loading = true; /* if one cannot be decrypted, the next look-up wipes and begins anew */
	tc_read_rows(secrets_relid, matches, 3, visit_secret, group);
	loading = false;
	return group->secrets;
}

/* Has the company keys of its own with this provider? */
bool
tc_webhook_has_keys(const char *provider, int64 company_id)
{
	return find_secrets(provider, company_id) != NULL;
}

/* Does one of the company's live keys fit? */
bool
tc_webhook_verify(const char *provider, int64 company_id, TcSecretTest test, const void *arg)
{
	for (const Secret *secret = find_secrets(provider, company_id); secret != NULL;
		 secret = secret->next)
	{
		if (test(secret->text, secret->len, arg))
			return true;
	}
	return false;
}

/* Providers that sign webhooks. */
static void
check_provider(const char *provider)
{
	if (strcmp(provider, "retell") != 0 && strcmp(provider, "calcom") != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("unknown provider \"%s\"", provider),
						errhint("Providers are retell and calcom.")));
}

/* Stores a secret, encrypted.  A name that belongs to another company is a conflict. */
static void
store_secret(const char *kind, const char *provider, const char *name, char *secret,
			 const char *base_url, int64 company_id)
{
	TcAct act;
	TcParams params = {0};
	const char *key_id;
	bytea *cipher;
	uint64 rows;

	tc_act_begin(&act, TC_AS_SYSTEM, NULL);
	cipher = tc_secret_encrypt(secret, strlen(secret), &key_id);
	explicit_bzero(secret, strlen(secret));
	tc_param_text(&params, kind);
	tc_param_text(&params, provider);
	tc_param_text(&params, name);
	tc_param_int8(&params, company_id);
	tc_param_text(&params, base_url);
	tc_param_text(&params, key_id);
	tc_param_datum(&params, PointerGetDatum(cipher), false);
	rows = tc_execute(&upsert_secret, &params);
	tc_act_end(&act);
	if (rows == 0)
		ereport(ERROR, (errcode(ERRCODE_TC_CONFLICT),
						errmsg("a key named \"%s\" exists for another company", name),
						errhint("Drop it first, or use another name.")));
}

/* set_webhook_key(provider, kid, secret, company_id) -> void */
Datum
tc_set_webhook_key(PG_FUNCTION_ARGS)
{
	char *provider = tc_arg_text(fcinfo, 0, "provider");
	char *kid = tc_arg_name(fcinfo, 1, "kid");
	char *secret = tc_arg_text(fcinfo, 2, "secret");
	int64 company_id = tc_arg_optional_id(fcinfo, 3, "company_id");
	TcCompany company;

	(void) tc_telephony_required();
	check_provider(provider);
	if (company_id != 0 && !tc_directory_company(company_id, &company))
		ereport(ERROR, (errcode(ERRCODE_TC_UNKNOWN),
						errmsg("company " INT64_FORMAT " does not exist", company_id)));
	store_secret("webhook", provider, kid, secret, NULL, company_id);
	PG_RETURN_VOID();
}

/* drop_webhook_key(provider, kid) -> void */
Datum
tc_drop_webhook_key(PG_FUNCTION_ARGS)
{
	char *provider = tc_arg_text(fcinfo, 0, "provider");
	char *kid = tc_arg_text(fcinfo, 1, "kid");
	TcAct act;
	TcParams params = {0};
	uint64 rows;

	check_provider(provider);
	tc_act_begin(&act, TC_AS_SYSTEM, NULL);
	tc_param_text(&params, provider);
	tc_param_text(&params, kid);
	rows = tc_execute(&delete_key, &params);
	tc_act_end(&act);
	if (rows == 0)
		ereport(ERROR, (errcode(ERRCODE_TC_UNKNOWN),
						errmsg("provider \"%s\" has no webhook key \"%s\"", provider, kid)));
	PG_RETURN_VOID();
}

/* The base of a service's URLs: http or https, no user, no query, no white space. */
static void
check_base_url(const char *url)
{
	const char *rest = NULL;

	if (strncmp(url, "https://", 8) == 0)
		rest = url + 8;
	else if (strncmp(url, "http://", 7) == 0)
		rest = url + 7;
	if (rest != NULL && rest[0] != '\0' && rest[0] != '/' && strpbrk(rest, "@?# \t\r\n") == NULL)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid base URL"),
			 errdetail("It must begin with https:// (or http://) and a host, and have neither "
					   "user, query, fragment nor white space."),
			 errhint("For Cal.com: https://api.cal.com")));
}

/* set_credential(name, secret, base_url) -> void */
Datum
tc_set_credential(PG_FUNCTION_ARGS)
{
	char *name = tc_arg_name(fcinfo, 0, "name");
	char *secret = tc_arg_text(fcinfo, 1, "secret");
	char *base_url = tc_arg_text(fcinfo, 2, "base_url");

	(void) tc_telephony_required();
	if (strlen(name) >= NAMEDATALEN)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("argument \"name\" is too long"),
				 errdetail("At most %d bytes are possible.", NAMEDATALEN - 1)));
	check_base_url(base_url);
	store_secret("credential", "calcom", name, secret, base_url, 0);
	tc_slot_changed_at_commit(NULL, 0); /* it may lead to another calendar now */
	PG_RETURN_VOID();
}
