/*
 * outbox_flight.h
 *		One order while the worker has it: claimed, under way, to be recorded.
 *
 * outbox_claim.c makes flights, outbox_send.c lets them fly, outbox_record.c writes what came of
 * them.  All of it in the worker's process only.
 */
#ifndef TC_OUTBOX_FLIGHT_H
#define TC_OUTBOX_FLIGHT_H

#include "postgres.h"

#include "http.h"
#include "outbox_core.h"

typedef enum TcOrderKind
{
	TC_ORDER_CREATE,
	TC_ORDER_CANCEL,
	TC_ORDER_RESCHEDULE
} TcOrderKind;

/* Allocated in a memory context of its own, with all that it points to. */
typedef struct TcFlight
{
	TcHttpJob job;
	MemoryContext memory;
	int64 company_id;
	int64 outbox_id;
	int64 appointment_id;
	char credential[NAMEDATALEN];
	int attempt, last_attempt;
	TcOrderKind kind;
	TcOutboxStep step;
	bool overdue;	  /* the time has come: too late to send it */
	bool sent_before; /* by an earlier attempt, perhaps */
	bool settled;
	bool refused; /* the calendar had said no */
	char *key;
	char *request; /* body, JSON */
	char *status;  /* of the appointment */
	char *uid;	   /* of the booking, if known */
	char *old_uid; /* of the booking that is to be moved */
	char *email;   /* of the customer, or NULL */
	int64 event_type_id;
	TimestampTz starts_at, ends_at;
	TimestampTz began;				 /* before it was claimed: what its deadline counts from */
	int skip;						 /* entries of a list that were looked through */
	struct TcOutcome *outcome;		 /* not recorded yet; NULL while it is under way */
	TimestampTz ended_at, record_at; /* of it: since when, when to try again */
} TcFlight;

/* What to write about it. */
typedef struct TcOutcome
{
	TcOutboxNext next;
	int64 delay_ms;
	int http_status;	/* 0: none */
	bool refusal;		/* reason is the calendar's refusal */
	bool not_sent;		/* surely nothing reached the calendar */
	const char *uid;	/* the booking's, or NULL */
	const char *reason; /* of what went wrong, or NULL */
	const char *became; /* status of the appointment if not the one of next, or NULL */
} TcOutcome;

/* Registers the worker's source. */
extern void tc_outbox_send_init(void);

#endif /* TC_OUTBOX_FLIGHT_H */
