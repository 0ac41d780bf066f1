/*
 * token_setting.c
 *		SET LOCAL tenantcall.token: a signed token as a setting.
 *
 * It is there for Citus, which carries settings to its workers.  What Citus is given to carry is a
 * ticket (node_ticket.c) instead of a token, and treated alike.
 *
 *		token --check hook: verify--> transaction ':' claims --assign hook--> context and seal
 *
 * The check hook has no side effects and looks up no table: company and branch are taken as the
 * token names them.  It replaces the value, so that nothing keeps the token; SHOW shows nothing.
 * It accepts a token in a transaction block of this session only, never from a client's start
 * options, a role, a database or a function's SET clause.
 *
 * A hook cannot tell SET from SET LOCAL.  What a plain SET leaves behind is honoured in its own
 * transaction only (context.c).  The value names the transaction because parallel workers get the
 * value, not what we made of it: they compare with that of their leader.  They do not verify, so
 * that a token may expire while its transaction runs.
 *
 * All state is local to the process; no locks.
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "utils/guc.h"

#include "compat.h"
#include "context.h"
#include "node_ticket.h"
#include "ready.h"
#include "stat.h"
#include "token.h"

/* Room for a transaction's number, a separator, and a context. */
#define SETTING_LEN (10 + 1 + TC_CONTEXT_TEXT_LEN)

static char *token_text = NULL; /* the setting's raw value: claims, no token */

/* Takes over the leader's value; one that is left from an earlier transaction says nothing. */
static bool
take_from_leader(const char *text, void **extra)
{
	PGPROC *leader = MyProc->lockGroupLeader;
	TcContext context;
	char *end;
	unsigned long lxid = strtoul(text, &end, 10);

	if (*end != ':' || !tc_context_parse(end + 1, &context))
		return false;
	if (leader == NULL || lxid != TC_LXID_OF(leader))
		return true;
	*extra = tc_context_make_extra(&context);
	return *extra != NULL;
}

/* Takes the token out of the value, and out of memory, whatever comes next. */
static char *
take_token(char **newval)
{
	char *token = pstrdup(*newval);

	explicit_bzero(*newval, strlen(*newval));
	tc_guc_free(*newval);
	*newval = NULL;
	return token;
}

/* Makes the value that stands for the claims. */
static bool
make_value(const TcContext *context, char **newval, void **extra)
{
	char text[TC_CONTEXT_TEXT_LEN];

	*newval = tc_guc_malloc(SETTING_LEN);
	*extra = tc_context_make_extra(context);
	if (*newval == NULL || *extra == NULL)
		return false;
	tc_context_format(context, text);
	snprintf(*newval, SETTING_LEN, "%u:%s", TC_MY_LXID, text);
	return true;
}

/* Check hook. */
static bool
token_check(char **newval, void **extra, GucSource source)
{
	TcContext context;
	char *token;
	bool is_token;
	int64 until;

	if (*newval == NULL || **newval == '\0')
		return true;
	if (InitializingParallelWorker)
		return take_from_leader(*newval, extra);
	if (source != PGC_S_SESSION || !tc_preloaded || !IsTransactionState() || !IsTransactionBlock())
	{
		GUC_check_errcode(ERRCODE_NO_ACTIVE_SQL_TRANSACTION);
		GUC_check_errmsg("a token can be set only inside a transaction block");
		GUC_check_errdetail("The context lasts until the end of the transaction.");
		GUC_check_errhint("Send BEGIN first, then SET LOCAL tenantcall.token, then query.");
		return false;
	}
	token = take_token(newval);
	is_token = !tc_ticket_is(token);
	if (is_token)
		until = tc_token_verify(token, strlen(token), &context);
	else
		tc_ticket_verify(token, 0, NULL, NULL, &context);
	explicit_bzero(token, strlen(token));
	pfree(token);
	tc_context_check_may_enter(&context);
	if (is_token)
		tc_ticket_limit(until, false);
	tc_stat_count((int64) context.company_id, TC_STAT_ENTER_SETTING);
	return make_value(&context, newval, extra);
}

/* Assign hook: RESET comes with no extra and clears. */
static void
token_assign(const char *newval, void *extra)
{
	tc_context_assign_token(extra);
}

/* Show hook. */
static const char *
token_show(void)
{
	return "";
}

/* Defines the setting. */
void
tc_token_setting_init(void)
{
	DefineCustomStringVariable("tenantcall.token",
							   "Enters the tenant that a signed token names (write only).",
							   "With SET LOCAL, in a transaction block. Clients rather call "
							   "tenantcall.enter_token(), which keeps the token out of statements.",
							   &token_text, "", PGC_USERSET,
							   GUC_NOT_IN_SAMPLE | GUC_DISALLOW_IN_FILE, token_check, token_assign,
							   token_show);
}
