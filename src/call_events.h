/*
 * call_events.h
 *		The events of a call: each stored once, and read back to be folded anew.
 */
#ifndef TC_CALL_EVENTS_H
#define TC_CALL_EVENTS_H

#include "postgres.h"

#include "compat.h"

#include "call_core.h"
#include "delivery.h"

/* What identifies the events of a call. */
typedef struct TcCallKey
{
	int64 company_id;
	int64 call_id;
	TimestampTz created_at; /* of the call: its partition */
} TcCallKey;

/* What became of an event that was to be stored. */
typedef enum TcStored
{
	TC_STORED_NEW,
	TC_STORED_INSTEAD,	  /* of a shorter transcript */
	TC_STORED_ALREADY,	  /* the very same */
	TC_STORED_DIFFERENTLY /* there is one already, and it stays */
} TcStored;

/*
 * Stores the event, counting deliveries.  The caller holds the call's row; if he has just made it,
 * there is no event yet.
 */
extern TcStored tc_call_event_store(const TcDelivery *delivery, const TcCallKey *key,
									bool new_call);

/* What counts of an event's facts. */
extern TcCallFacts tc_call_event_facts(const TcRetellMessage *message, TimestampTz received_at);

/* Reads the stored events back, each at the place of its bit; the bits of those that are there. */
extern int tc_call_events_read(const TcCallKey *key, TcCallFacts stages[TC_SEEN_ANALYZED + 1]);

/* Raises: only a snapshot older than another session's change can bring us there. */
extern TC_NORETURN void tc_call_report_changed(void);

#endif /* TC_CALL_EVENTS_H */
