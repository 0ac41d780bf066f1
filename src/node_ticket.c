/*
 * node_ticket.c
 *		Tickets: what proves to another node that this library has sent a session of a role there.
 *
 *		"node:" expiry ":" context ":" key id ":" HMAC-SHA256
 *
 * Signed are, beside what stands in the ticket, the database, the role, the name by which Citus
 * makes itself known there, which has the process that began, and, for a call that is forwarded,
 * the company it is for and the voice platform's call.  So it is good for nothing else, and in no
 * session but one that a node has opened (node_peer.c), or the one that made it, while it does.
 *
 * A client can see the tickets of its own work (citus.log_remote_commands), and they must not make
 * its rights last longer than the token by which it entered.  So a ticket ends with the token, or a
 * minute later than now, and one that was made under a ticket never later than that.
 *
 * State of the transaction: until when tickets may be good; is a forwarded delivery to be taken in.
 * No locks.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "commands/dbcommands.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parse_func.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "act.h"
#include "args.h"
#include "codec_core.h"
#include "compat.h"
#include "context.h"
#include "delivery.h"
#include "errors.h"
#include "key.h"
#include "node.h"
#include "node_peer.h"
#include "node_ticket.h"
#include "token.h"

#define PREFIX "node:"
#define SHORT_LIFE 60  /* seconds */
#define LONG_LIFE 3600 /* for who may enter without a token */

bool tc_ticket_own = false;

static LocalTransactionId limit_lxid = InvalidLocalTransactionId;
static int64 limit_until = 0;
static bool limit_is_hard = false;
static TimestampTz front_at = 0; /* beginning of the statement that a ticket came with */

/* Seconds since 1970. */
static int64
now_seconds(void)
{
	return timestamptz_to_time_t(GetCurrentTimestamp());
}

/* Is it a ticket, not a token? */
bool
tc_ticket_is(const char *text)
{
	return strncmp(text, PREFIX, strlen(PREFIX)) == 0;
}

/* Notes the end of the token, or of the ticket, by which this transaction has entered. */
void
tc_ticket_limit(int64 until, bool hard)
{
	limit_lxid = TC_MY_LXID;
	limit_until = until;
	limit_is_hard = hard;
}

/* Until when a new ticket is good. */
static int64
expiry(const TcContext *context)
{
	int64 now = now_seconds();

	if (context == NULL)
		return now + SHORT_LIFE;
	if (limit_lxid != TC_MY_LXID)
		return now + LONG_LIFE;
	return limit_is_hard ? limit_until : Max(limit_until, now + SHORT_LIFE);
}

/* The name by which Citus makes itself known on other nodes. */
static char *
name_there(void)
{
	Oid function =
		LookupFuncName(list_make2(makeString("pg_catalog"), makeString("citus_backend_gpid")), 0,
					   NULL, false);

	return psprintf("citus_internal gpid=" INT64_FORMAT, DatumGetInt64(OidFunctionCall0(function)));
}

/* What is signed beside the ticket's own text. */
static void
append_binding(StringInfo out, const char *role, const char *name, int64 company_id,
			   const char *function, const char *call)
{
	appendStringInfoString(out, get_database_name(MyDatabaseId));
	appendStringInfoChar(out, '\0');
	appendStringInfoString(out, role);
	appendStringInfoChar(out, '\0');
	appendStringInfoString(out, name);
	appendStringInfoChar(out, '\0');
	appendStringInfo(out, INT64_FORMAT, company_id);
	appendStringInfoChar(out, '\0');
	appendStringInfoString(out, function == NULL ? "" : function);
	appendStringInfoChar(out, '\0');
	appendStringInfoString(out, call == NULL ? "" : call);
}

/* A ticket for the present role; the context may be none, and so may company, function and call. */
char *
tc_ticket_make(const TcContext *context, int64 company_id, const char *function, const char *call)
{
	static const TcContext nobody = {0};
	const TcKey *key = tc_key_signing();
	char text[TC_CONTEXT_TEXT_LEN];
	char hex[2 * TC_HMAC_LEN + 1] = {0};
	uint8 mac[TC_HMAC_LEN];
	StringInfoData binding;
	char *signed_text;

	tc_context_format(context == NULL ? &nobody : context, text);
	signed_text = psprintf(PREFIX INT64_FORMAT ":%s:%s", expiry(context), text, key->kid);
	initStringInfo(&binding);
	append_binding(&binding, GetUserNameFromId(GetUserId(), false), name_there(), company_id,
				   function, call);
	tc_hmac_sha256(TC_BYTES(key->secret, key->secretlen),
				   TC_BYTES(signed_text, strlen(signed_text)), TC_BYTES(binding.data, binding.len),
				   mac);
	tc_hex_encode(mac, sizeof(mac), hex);
	return psprintf("%s:%s", signed_text, hex);
}

/* The parts of a ticket. */
typedef struct Parts
{
	int64 until;
	TcContext context;
	const char *kid;
	size_t signedlen;
	uint8 mac[TC_HMAC_LEN];
} Parts;

/* Takes a ticket apart; false if it is none. */
static bool
split(const char *ticket, Parts *parts)
{
	char *copy = pstrdup(ticket);
	char *hex = strrchr(copy, ':');
	char *kid;
	char *end;

	if (!tc_ticket_is(ticket) || hex == NULL)
		return false;
	parts->signedlen = hex - copy;
	*hex++ = '\0';
	kid = strrchr(copy, ':');
	if (kid == NULL || !tc_hex_decode(hex, strlen(hex), parts->mac, sizeof(parts->mac)))
		return false;
	*kid++ = '\0';
	parts->kid = kid;
	if (strlen(copy) < strlen(PREFIX))
		return false;
	parts->until = strtoll(copy + strlen(PREFIX), &end, 10);
	return *end == ':' && tc_kid_valid(kid, strlen(kid)) &&
		   tc_context_parse(end + 1, &parts->context);
}

/* What is wrong with a ticket in this session? */
static TcTokenFault
check(const char *ticket, const Parts *parts, int64 company_id, const char *function,
	  const char *call)
{
	const TcKey *key;
	uint8 mac[TC_HMAC_LEN];
	StringInfoData binding;

	if (!tc_node_internal())
		return TC_TOKEN_ROLE;
	key = tc_key_find(parts->kid, strlen(parts->kid));
	if (key == NULL)
		return TC_TOKEN_KEY;
	initStringInfo(&binding);
	append_binding(&binding, GetUserNameFromId(GetSessionUserId(), false), name_there(), company_id,
				   function, call);
	tc_hmac_sha256(TC_BYTES(key->secret, key->secretlen), TC_BYTES(ticket, parts->signedlen),
				   TC_BYTES(binding.data, binding.len), mac);
	if (!tc_equal_ct(mac, parts->mac, TC_HMAC_LEN))
		return TC_TOKEN_FORGED;
	return now_seconds() >= parts->until + tc_token_leeway ? TC_TOKEN_EXPIRED : TC_TOKEN_OK;
}

/* Verifies a ticket; raises PT401.  The context may be none: company 0. */
void
tc_ticket_verify(const char *ticket, int64 company_id, const char *function, const char *call,
				 TcContext *context)
{
	Parts parts = {0};
	TcTokenFault fault = TC_TOKEN_SHAPE;

	if (split(ticket, &parts))
		fault = tc_ticket_own ? TC_TOKEN_OK : check(ticket, &parts, company_id, function, call);
	if (fault != TC_TOKEN_OK)
		tc_token_refuse(fault);
	if (!tc_ticket_own)
		tc_ticket_limit(parts.until, true);
	*context = parts.context;
}

/* Is a call to be done here, because the coordinator has sent it?  Once for each. */
bool
tc_ticket_admits(void)
{
	bool admits = front_at == GetCurrentStatementStartTimestamp();

	front_at = 0;
	return admits;
}

PG_FUNCTION_INFO_V1(tc_arrive);

/*
 * arrive(company_id bigint, ticket text, function text, provider_call_id text) -> void: what
 * call_at_home() begins with, where the company is at home
 */
Datum
tc_arrive(PG_FUNCTION_ARGS)
{
	int64 company_id = tc_arg_id(fcinfo, 0, "company_id");
	char *ticket = tc_arg_optional_text(fcinfo, 1);
	char *function = tc_arg_optional_text(fcinfo, 2);
	char *call = tc_arg_optional_text(fcinfo, 3);
	TcContext context = {0};

	front_at = 0;
	tc_node_require_home(company_id);
	if (ticket == NULL && call != NULL)
		tc_token_refuse(TC_TOKEN_SHAPE);
	if (ticket == NULL || !tc_node_distributed())
		PG_RETURN_VOID();
	tc_ticket_verify(ticket, company_id, function, call, &context);
	if (context.company_id != 0)
		tc_context_enter(&context);
	front_at = GetCurrentStatementStartTimestamp();
	if (call != NULL)
		tc_delivery_bind(call, company_id);
	PG_RETURN_VOID();
}
