/*
 * context.c
 *		The tenant context: unforgeable, set once, bound to its transaction.
 *
 * The context lives in the setting tenantcall.company_id, because settings reach parallel workers
 * and are undone by PostgreSQL itself at the end of a transaction, subtransaction or nest level.
 * Nobody can set it: its check hook accepts a value only from the setter below (static in_setter)
 * or while a parallel worker takes over its leader's settings.  RESET may clear it, never switch.
 *
 * The hook turns the text into an "extra" which also holds the transaction it was set in.  A value
 * is honoured in that transaction only (in a worker: if the leader sent it), so nothing that keeps
 * or restores an old value (pooled connections, holdable cursors, COMMIT AND CHAIN) revives it.
 *
 * tenantcall.token (token_setting.c) is a second carrier, of claims that were verified when it was
 * set.  It counts where tenantcall.company_id holds nothing; both answer to the one seal.
 *
 * The seal makes it set-once: a static that remembers what this transaction entered.  Rolling
 * back to a savepoint undoes the setting but never the seal.
 *
 * All state is local to the process; no locks.
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/uuid.h"

#include "compat.h"
#include "context.h"
#include "errors.h"
#include "ready.h"
#include "stat.h"

/* What a check hook makes of a value; owned by the settings machinery. */
struct TcContextExtra
{
	LocalTransactionId lxid; /* transaction it was set in; invalid in a worker */
	bool from_leader;		 /* came with a leader's settings */
	bool pushed;			 /* set by tc_context_push(), not by enter() */
	TcContext context;
};

/* What a read does without a context. */
typedef enum TcMissing
{
	TC_MISSING_EMPTY,
	TC_MISSING_ERROR
} TcMissing;

static const struct config_enum_entry missing_options[] = {
	{"empty", TC_MISSING_EMPTY, false},
	{"error", TC_MISSING_ERROR, false},
	{NULL, 0, false},
};

static char *context_text = NULL;			   /* the setting's raw value */
static const TcContextExtra *extra_now = NULL; /* kept by the assign hook alone */
static const TcContextExtra *token_now = NULL; /* the same of tenantcall.token */
static bool in_setter = false;				   /* is set_context() at work? */
static bool setter_pushes = false;			   /* ... on behalf of a push? */
static LocalTransactionId seal_lxid = InvalidLocalTransactionId;
static TcContext seal;
static int missing_context = TC_MISSING_EMPTY;
static bool test_mode = false;

/* An extra for a context that holds from now until the end of the transaction. */
TcContextExtra *
tc_context_make_extra(const TcContext *context)
{
	TcContextExtra *extra = tc_guc_malloc(sizeof(TcContextExtra));

	if (extra == NULL)
		return NULL;
	extra->from_leader = InitializingParallelWorker;
	extra->lxid = InitializingParallelWorker ? InvalidLocalTransactionId : TC_MY_LXID;
	extra->pushed = setter_pushes;
	extra->context = *context;
	return extra;
}

/* Check hook: lets only our own setter, and a starting parallel worker, bring a value. */
static bool
context_check(char **newval, void **extra, GucSource source)
{
	TcContext context;

	if (*newval == NULL || **newval == '\0')
		return true;
	if (!(in_setter && source == PGC_S_SESSION) && !InitializingParallelWorker)
	{
		GUC_check_errcode(ERRCODE_INSUFFICIENT_PRIVILEGE);
		GUC_check_errmsg("the tenant context cannot be set directly");
		GUC_check_errhint("Call tenantcall.enter_token(), or tenantcall.enter() as a gateway.");
		return false;
	}
	if (!tc_context_parse(*newval, &context))
		return false;
	*extra = tc_context_make_extra(&context);
	return *extra != NULL;
}

/* Assign hook: RESET comes with no extra and clears. */
static void
context_assign(const char *newval, void *extra)
{
	extra_now = extra;
}

/* The extra, if it is in force here and now, or NULL. */
static inline const TcContextExtra *
in_force(const TcContextExtra *extra)
{
	if (extra == NULL)
		return NULL;
	if (likely(extra->lxid == TC_MY_LXID && extra->lxid != InvalidLocalTransactionId))
		return extra;
	if (extra->from_leader && IsParallelWorker())
		return extra;
	return NULL;
}

/* The value in force here and now, or NULL. */
static inline const TcContextExtra *
honoured(void)
{
	const TcContextExtra *extra = in_force(extra_now);

	return likely(extra != NULL) ? extra : in_force(token_now);
}

/* Show hook: the company alone, and only while it is in force. */
static const char *
context_show(void)
{
	static char text[24];
	const TcContextExtra *extra = honoured();

	text[0] = '\0';
	if (extra != NULL && extra->context.company_id != 0)
		snprintf(text, sizeof(text), INT64_FORMAT, (int64) extra->context.company_id);
	return text;
}

/* Defines the settings. */
void
tc_context_init(void)
{
	DefineCustomStringVariable("tenantcall.company_id",
							   "Shows the company whose context is in force (read only).", NULL,
							   &context_text, "", PGC_SUSET,
							   GUC_NOT_IN_SAMPLE | GUC_DISALLOW_IN_FILE, context_check,
							   context_assign, context_show);
	DefineCustomEnumVariable("tenantcall.missing_context",
							 "What a read of a scoped table does without a tenant context.",
							 "empty returns no rows; error raises PT403.", &missing_context,
							 TC_MISSING_EMPTY, missing_options, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("tenantcall.test_mode",
							 "Lets one transaction enter more than one tenant, for test suites.",
							 "Never in production: tenantcall.check_isolation() reports it.",
							 &test_mode, false, PGC_SUSET, GUC_NOT_IN_SAMPLE, NULL, NULL, NULL);
}

/* The context in force, or NULL. */
const TcContext *
tc_context_current(void)
{
	const TcContextExtra *extra = honoured();

	return extra == NULL ? NULL : &extra->context;
}

/* Sets the value through the settings machinery. */
static void
set_context(const TcContext *context, GucAction action, bool push)
{
	char text[TC_CONTEXT_TEXT_LEN];

	tc_context_format(context, text);
	in_setter = true;
	setter_pushes = push;
	PG_TRY();
	{
		(void) set_config_option("tenantcall.company_id", text, PGC_SUSET, PGC_S_SESSION, action,
								 true, 0, false);
	}
	PG_FINALLY();
	{
		in_setter = false;
		setter_pushes = false;
	}
	PG_END_TRY();
}

/* Refuses to enter where the context could not be kept, or must not be changed. */
void
tc_context_check_may_enter(const TcContext *context)
{
	const TcContextExtra *now = honoured();

	if (IsInParallelMode() || IsParallelWorker())
		ereport(ERROR, (errcode(ERRCODE_INVALID_TRANSACTION_STATE),
						errmsg("cannot enter a tenant during a parallel operation")));
	if (!IsTransactionBlock())
	{
		tc_stat_count((int64) context->company_id, TC_STAT_REFUSED_NO_BLOCK);
		ereport(ERROR, (errcode(ERRCODE_NO_ACTIVE_SQL_TRANSACTION),
						errmsg("a tenant can be entered only inside a transaction block"),
						errdetail("The context lasts until the end of the transaction."),
						errhint("Send BEGIN first, then enter, then query.")));
	}
	if (now != NULL && now->pushed)
		ereport(ERROR, (errcode(ERRCODE_TC_WRONG_TENANT),
						errmsg("cannot enter a tenant while tenantcall is acting for one")));
	if (seal_lxid == TC_MY_LXID && !tc_context_agrees(&seal, context) && !test_mode)
	{
		tc_stat_count((int64) context->company_id, TC_STAT_REFUSED_OTHER_TENANT);
		ereport(ERROR, (errcode(ERRCODE_TC_WRONG_TENANT),
						errmsg("another tenant was already entered in this transaction"),
						errdetail("Company and branch are set once per transaction, also across "
								  "savepoints."),
						errhint("End this transaction and begin a new one.")));
	}
}

/* Remembers what this transaction entered. */
static void
shut_seal(const TcContext *context)
{
	TcContext before = seal;
	bool again = seal_lxid == TC_MY_LXID && tc_context_agrees(&before, context);

	seal = *context;
	if (again)
		tc_context_complete(&seal, &before);
	seal_lxid = TC_MY_LXID;
}

/* Enters a tenant for the rest of the transaction. */
void
tc_context_enter(const TcContext *context)
{
	Assert(context->company_id != 0 || !tc_uuid_is_nil(context->company_uuid));
	tc_require_ready();
	tc_context_check_may_enter(context);
	set_context(context, GUC_ACTION_LOCAL, false);
	shut_seal(context);
}

/* Takes over what the check hook of tenantcall.token made, or NULL; also when it is restored. */
void
tc_context_assign_token(const TcContextExtra *extra)
{
	token_now = extra;
	if (extra != NULL && in_force(extra) != NULL && !extra->from_leader)
		shut_seal(&extra->context);
}

/* Overrides the context until the caller's settings nest level ends. */
void
tc_context_push(const TcContext *context)
{
	/* not the token's, should anything clear ours */
	if (unlikely(token_now != NULL))
		(void) set_config_option("tenantcall.token", "", PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	set_context(context, GUC_ACTION_SAVE, true);
}

/* The context for a current_…() function; raises when missing and the setting says so. */
static inline const TcContext *
context_for_read(void)
{
	const TcContextExtra *extra = honoured();

	if (likely(extra != NULL))
		return &extra->context;
	if (missing_context == TC_MISSING_ERROR)
	{
		tc_stat_count(0, TC_STAT_MISSING_READ);
		ereport(ERROR, (errcode(ERRCODE_TC_WRONG_TENANT),
						errmsg("no tenant has been entered in this transaction"),
						errhint("Call tenantcall.enter_token() first, or set "
								"tenantcall.missing_context to empty.")));
	}
	return NULL;
}

PG_FUNCTION_INFO_V1(tc_current_company_id);
PG_FUNCTION_INFO_V1(tc_current_branch_id);
PG_FUNCTION_INFO_V1(tc_current_company_uuid);
PG_FUNCTION_INFO_V1(tc_current_branch_uuid);

/* current_company_id() -> bigint */
Datum
tc_current_company_id(PG_FUNCTION_ARGS)
{
	const TcContext *context = context_for_read();

	if (context == NULL || context->company_id == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(context->company_id);
}

/* current_branch_id() -> bigint */
Datum
tc_current_branch_id(PG_FUNCTION_ARGS)
{
	const TcContext *context = context_for_read();

	if (context == NULL || context->branch_id == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(context->branch_id);
}

/* A copy of a UUID as a Datum, or NULL for the nil one. */
static Datum
uuid_result(FunctionCallInfo fcinfo, const uint8_t *uuid)
{
	pg_uuid_t *result;

	if (tc_uuid_is_nil(uuid))
		PG_RETURN_NULL();
	result = palloc(sizeof(pg_uuid_t));
	memcpy(result->data, uuid, TC_UUID_LEN);
	PG_RETURN_UUID_P(result);
}

/* current_company_uuid() -> uuid */
Datum
tc_current_company_uuid(PG_FUNCTION_ARGS)
{
	const TcContext *context = context_for_read();

	if (context == NULL)
		PG_RETURN_NULL();
	return uuid_result(fcinfo, context->company_uuid);
}

/* current_branch_uuid() -> uuid */
Datum
tc_current_branch_uuid(PG_FUNCTION_ARGS)
{
	const TcContext *context = context_for_read();

	if (context == NULL)
		PG_RETURN_NULL();
	return uuid_result(fcinfo, context->branch_uuid);
}
