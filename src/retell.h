/*
 * retell.h
 *		Messages of Retell AI, taken apart.
 */
#ifndef TC_RETELL_H
#define TC_RETELL_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/jsonb.h"

#include "retell_core.h"

/* What a message says of a call; absent texts are NULL, absent numbers 0. */
typedef struct TcCallFacts
{
	char *direction; /* inbound, outbound */
	char *from_number;
	char *to_number;
	char *agent;
	char *call_status;
	char *disconnection_reason;
	char *sentiment;
	char *summary;
	char *transcript;
	char *recording_url;
	TimestampTz started_at;
	TimestampTz ended_at;
	TimestampTz analyzed_at;
	int64 duration_ms;
	Numeric cost_cents;
} TcCallFacts;

typedef struct TcRetellMessage
{
	TcRetellEvent event;
	char *event_name;
	char *call_id;	   /* NULL for the inbound webhook */
	bool web;		   /* a call without numbers */
	char *correlation; /* our token in the call's metadata, unverified; NULL if there is none */
	TcCallFacts facts;
	char *function_name; /* of a function call, as the next ones; NULL: arguments alone */
	Jsonb *arguments;	 /* NULL if absent */
	char *tool_call_id;
} TcRetellMessage;

#define TC_RETELL_ID_MAX 200

/*
 * Take a message apart; NULL, or a reason why it is none.  Raise for what is no JSON, and for
 * values that are out of range: call under tc_guard().
 */
extern const char *tc_retell_parse_event(const char *body, size_t len, TcRetellMessage *message);
extern const char *tc_retell_parse_inbound(const char *body, size_t len, TcRetellMessage *message);
extern const char *tc_retell_parse_function(const char *body, size_t len, TcRetellMessage *message);

/* Overlays what the newer facts say. */
extern void tc_facts_overlay(TcCallFacts *facts, const TcCallFacts *newer);

#endif /* TC_RETELL_H */
