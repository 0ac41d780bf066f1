/*
 * delivery.h
 *		A body that the voice platform delivered: is it authentic, and whose is it?
 */
#ifndef TC_DELIVERY_H
#define TC_DELIVERY_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "fmgr.h"

#include "directory.h"
#include "retell.h"

/* How a message is taken apart: one of tc_retell_parse_…(). */
typedef const char *(*TcRetellParser)(const char *body, size_t len, TcRetellMessage *message);

typedef struct TcDelivery
{
	const char *provider; /* NULL: retell */
	const char *kind;	  /* event, inbound, function_call */
	const char *body;
	size_t len;
	TimestampTz received_at;
	const char *rejected; /* why it is not authentic; NULL: it is */
	int64 verified_for;	  /* company whose own key verified it; 0: a key of the account */
	const char *unusable; /* why it could not be taken apart; NULL: it could */
	char *detail;		  /* the error behind unusable, if any */
	TcRetellMessage message;
	/* arguments beside the body, unsigned: they may select, never widen */
	char *agent;
	char *call_id;
} TcDelivery;

/* Whose it is, and how we know. */
typedef struct TcPlacement
{
	bool found;
	TcPlace place;
	bool suspended;
	const char *source; /* binding, to_number, from_number, agent */
	const char *reason; /* why it was not found, or what is in conflict */
	bool conflict;		/* names a tenant other than the one it is bound to */
	const char *number; /* the number that it was resolved by, canonical */
} TcPlacement;

/* Fills the delivery from SQL arguments: body, signature, and the time of receipt. */
extern void tc_delivery_receive(FunctionCallInfo fcinfo, int received_arg, TcRetellParser parser,
								TcDelivery *delivery);

/* Takes the body apart; a fault is noted in the delivery. */
extern void tc_delivery_parse(TcDelivery *delivery, TcRetellParser parser);

/* Has it taken in where its company is at home (node.h), binding its call first if so asked. */
extern bool tc_delivery_forward(FunctionCallInfo fcinfo, const TcDelivery *delivery, bool bind,
								Datum *result);

/* Notes on the company's node what the coordinator has bound. */
extern void tc_delivery_bind(const char *call_id, int64 company_id);

/* Resolves the tenant.  What is older than its assignment a company gets from "since" on. */
#define TC_SINCE_ASSIGNMENT DT_NOEND
extern void tc_delivery_place(const TcDelivery *delivery, TimestampTz since,
							  TcPlacement *placement);

/* The company that a call of the provider is bound to; 0: none yet. */
extern int64 tc_binding_find(const char *call_id);

/* Binds a call to a company; the company that it is bound to now, which may be another one. */
extern int64 tc_binding_make(const char *call_id, int64 company_id);

#endif /* TC_DELIVERY_H */
