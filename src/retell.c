/*
 * retell.c
 *		Messages of Retell AI, taken apart.
 *
 *		body --jsonb_in--> Jsonb --by key--> TcRetellMessage
 *
 * Nothing here decides anything.  A value of an unexpected type counts as absent, since the vendor
 * adds and changes optional fields; only what identifies the call is required.  Shapes follow the
 * vendor's documentation (docs.retellai.com: webhook overview, inbound call webhook, custom
 * functions).
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "phone.h"
#include "retell.h"

/* Latest time taken for real, in ms since 1970: the end of year 9999. */
#define LAST_MS INT64CONST(253402300799999)

/* The member of an object; false if absent or JSON null. */
static bool
member(const JsonbContainer *object, const char *name, JsonbValue *value)
{
	return getKeyJsonValueFromContainer((JsonbContainer *) object, name, strlen(name), value) !=
			   NULL &&
		   value->type != jbvNull;
}

/* A member that is an object; NULL otherwise. */
static const JsonbContainer *
object_member(const JsonbContainer *object, const char *name)
{
	JsonbValue value;

	if (!member(object, name, &value) || value.type != jbvBinary ||
		!JsonContainerIsObject(value.val.binary.data))
		return NULL;
	return value.val.binary.data;
}

/* A member that is a string, not empty; NULL otherwise. */
static char *
text_member(const JsonbContainer *object, const char *name)
{
	JsonbValue value;

	if (!member(object, name, &value) || value.type != jbvString || value.val.string.len == 0)
		return NULL;
	return pnstrdup(value.val.string.val, value.val.string.len);
}

/* A member that is a number, as integer; 0 otherwise.  Raises when out of range. */
static int64
integer_member(const JsonbContainer *object, const char *name)
{
	JsonbValue value;

	if (!member(object, name, &value) || value.type != jbvNumeric)
		return 0;
	return DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(value.val.numeric)));
}

/* A member that is a time in ms since 1970; 0 otherwise.  Raises when out of range. */
static TimestampTz
time_member(const JsonbContainer *object, const char *name)
{
	int64 ms = integer_member(object, name);

	if (ms == 0)
		return 0;
	if (ms < 0 || ms > LAST_MS)
		ereport(ERROR, (errcode(ERRCODE_DATETIME_FIELD_OVERFLOW),
						errmsg("%s is out of range: " INT64_FORMAT, name, ms)));
	return (TimestampTz) (ms * 1000 -
						  (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY);
}

/* A member that is a length in ms; 0 otherwise.  Raises when too long. */
static int64
duration_member(const JsonbContainer *object, const char *name)
{
	int64 ms = integer_member(object, name);

	if (ms > LAST_MS)
		ereport(ERROR, (errcode(ERRCODE_DATETIME_FIELD_OVERFLOW),
						errmsg("%s is out of range: " INT64_FORMAT, name, ms)));
	return Max(ms, 0);
}

/* Parses the body; NULL unless it is an object.  Raises when it is no JSON. */
static Jsonb *
parse_object(const char *body, size_t len)
{
	char *text;
	Jsonb *json;

	if (!pg_verify_mbstr(PG_UTF8, body, (int) len, true))
		ereport(ERROR, (errcode(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE),
						errmsg("the body is not valid UTF-8")));
	text = pnstrdup(body, len);
	json = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
	pfree(text);
	return JB_ROOT_IS_OBJECT(json) ? json : NULL;
}

/* Numbers and agent, common to all messages. */
static void
parse_parties(const JsonbContainer *object, TcRetellMessage *message)
{
	TcCallFacts *facts = &message->facts;
	char *direction = text_member(object, "direction");
	char *type = text_member(object, "call_type");

	facts->from_number = text_member(object, "from_number");
	facts->to_number = text_member(object, "to_number");
	facts->agent = text_member(object, "agent_id");
	if (direction != NULL &&
		(strcmp(direction, "inbound") == 0 || strcmp(direction, "outbound") == 0))
		facts->direction = direction;
	message->web = type != NULL && strcmp(type, "web_call") == 0;
}

/* The rest of a call object. */
static void
parse_facts(const JsonbContainer *call, TcCallFacts *facts)
{
	const JsonbContainer *analysis = object_member(call, "call_analysis");
	const JsonbContainer *cost = object_member(call, "call_cost");
	JsonbValue value;

	facts->call_status = text_member(call, "call_status");
	facts->started_at = time_member(call, "start_timestamp");
	facts->ended_at = time_member(call, "end_timestamp");
	facts->duration_ms = duration_member(call, "duration_ms");
	facts->disconnection_reason = text_member(call, "disconnection_reason");
	facts->transcript = text_member(call, "transcript");
	facts->recording_url = text_member(call, "recording_url");
	if (analysis != NULL)
	{
		facts->sentiment = text_member(analysis, "user_sentiment");
		facts->summary = text_member(analysis, "call_summary");
	}
	if (cost != NULL && member(cost, "combined_cost", &value) && value.type == jbvNumeric)
		facts->cost_cents = value.val.numeric;
}

/* Is it an id that can be stored and looked up? */
static bool
usable_id(const char *id)
{
	return id != NULL && strlen(id) <= TC_RETELL_ID_MAX;
}

/*
 * The token that answer_inbound_call() put into the call's metadata, if it is there; nothing else
 * of the metadata is ever read.  What cannot be one becomes a token that nobody has.
 */
static char *
find_correlation(const JsonbContainer *call)
{
	const JsonbContainer *metadata = object_member(call, "metadata");
	char *token;
	JsonbValue value;

	if (metadata == NULL || !member(metadata, "tenantcall", &value))
		return NULL;
	token = text_member(metadata, "tenantcall");
	return usable_id(token) ? token : pstrdup("");
}

/* A webhook event about a call. */
const char *
tc_retell_parse_event(const char *body, size_t len, TcRetellMessage *message)
{
	Jsonb *json = parse_object(body, len);
	const JsonbContainer *root;
	const JsonbContainer *call;

	memset(message, 0, sizeof(*message));
	if (json == NULL)
		return "not_an_object";
	root = &json->root;
	message->event_name = text_member(root, "event");
	if (!usable_id(message->event_name))
		return "no_event";
	message->event = tc_retell_event(message->event_name, strlen(message->event_name));
	call = object_member(root, "call");
	if (call == NULL)
		return "no_call";
	message->call_id = text_member(call, "call_id");
	if (!usable_id(message->call_id))
	{
		message->call_id = NULL;
		return "no_call_id";
	}
	parse_parties(call, message);
	parse_facts(call, &message->facts);
	message->correlation = find_correlation(call);
	if (message->event == TC_RETELL_CALL_INBOUND)
		return "not_a_call_event";
	return NULL;
}

/* The inbound webhook, sent before a call exists. */
const char *
tc_retell_parse_inbound(const char *body, size_t len, TcRetellMessage *message)
{
	Jsonb *json = parse_object(body, len);
	const JsonbContainer *inbound;

	memset(message, 0, sizeof(*message));
	if (json == NULL)
		return "not_an_object";
	message->event = TC_RETELL_CALL_INBOUND;
	message->event_name = pstrdup("call_inbound");
	inbound = object_member(&json->root, "call_inbound");
	if (inbound == NULL)
		return "no_call_inbound";
	parse_parties(inbound, message);
	message->facts.direction = pstrdup("inbound");
	if (message->facts.to_number == NULL)
		return "no_to_number";
	return NULL;
}

/* The id of the last tool call of that name in the transcript: the one that is being made. */
static char *
find_tool_call(const JsonbContainer *call, const char *name)
{
	JsonbValue list;
	char *found = NULL;
	int count;

	if (!member(call, "transcript_with_tool_calls", &list) || list.type != jbvBinary ||
		!JsonContainerIsArray(list.val.binary.data))
		return NULL;
	count = JsonContainerSize(list.val.binary.data);
	for (int i = count - 1; i >= 0 && found == NULL; i--)
	{
		JsonbValue *entry = getIthJsonbValueFromContainer(list.val.binary.data, i);
		const JsonbContainer *object;
		char *entry_name;

		if (entry == NULL || entry->type != jbvBinary ||
			!JsonContainerIsObject(entry->val.binary.data))
			continue;
		object = entry->val.binary.data;
		entry_name = text_member(object, "name");
		if (entry_name != NULL && strcmp(entry_name, name) == 0)
			found = text_member(object, "tool_call_id");
	}
	return usable_id(found) ? found : NULL;
}

/* A custom function's request: {name, args, call}, or the arguments alone ("args at root"). */
const char *
tc_retell_parse_function(const char *body, size_t len, TcRetellMessage *message)
{
	Jsonb *json = parse_object(body, len);
	const JsonbContainer *call;
	JsonbValue arguments;

	memset(message, 0, sizeof(*message));
	if (json == NULL)
		return "not_an_object";
	call = object_member(&json->root, "call");
	message->function_name = text_member(&json->root, "name");
	if (call == NULL || message->function_name == NULL)
	{
		message->function_name = NULL;
		message->arguments = json;
		return NULL;
	}
	if (!usable_id(message->function_name))
		return "no_name";
	if (member(&json->root, "args", &arguments))
		message->arguments = JsonbValueToJsonb(&arguments);
	message->call_id = text_member(call, "call_id");
	if (!usable_id(message->call_id))
		return "no_call_id";
	parse_parties(call, message);
	parse_facts(call, &message->facts);
	message->tool_call_id = find_tool_call(call, message->function_name);
	return NULL;
}

/* Overlays what the newer facts say. */
void
tc_facts_overlay(TcCallFacts *facts, const TcCallFacts *newer)
{
#define OVERLAY(field)                                                                             \
	do                                                                                             \
	{                                                                                              \
		if (newer->field)                                                                          \
			facts->field = newer->field;                                                           \
	} while (0)

	OVERLAY(direction);
	OVERLAY(from_number);
	OVERLAY(to_number);
	OVERLAY(agent);
	OVERLAY(call_status);
	OVERLAY(disconnection_reason);
	OVERLAY(sentiment);
	OVERLAY(summary);
	OVERLAY(transcript);
	OVERLAY(recording_url);
	OVERLAY(started_at);
	OVERLAY(ended_at);
	OVERLAY(analyzed_at);
	OVERLAY(duration_ms);
	OVERLAY(cost_cents);
#undef OVERLAY
}
