/*
 * outbox_claim.h
 *		Orders as the worker takes them, and as it writes what came of them.
 */
#ifndef TC_OUTBOX_CLAIM_H
#define TC_OUTBOX_CLAIM_H

#include "postgres.h"

#include "utils/array.h"

#include "outbox_flight.h"

/* What is claimed, and for how long. */
typedef struct TcClaim
{
	int most;
	ArrayType *busy_credentials; /* of which none is */
	double lease;				 /* s: longer than the request may take */
	double settle;				 /* s after which what was sent is over */
} TcClaim;

/* Claims orders that are due, of companies that are at home here; how many. */
extern int tc_outbox_claim(const TcClaim *claim, TcFlight **flights);

extern TcFlight *tc_flight_make(void);
extern TcOrderKind tc_order_kind(const char *kind);

/* outbox_node.c: the same on the other nodes of a cluster; *due is lowered to their next order. */
extern int tc_outbox_claim_elsewhere(const TcClaim *claim, TcFlight **flights, int room,
									 TimestampTz *due);

/* Writes the outcome of an order whose company is at home on another node. */
extern bool tc_outbox_record_elsewhere(const TcFlight *flight, const TcOutcome *outcome);

/* Has the outbox been paused? */
extern bool tc_outbox_paused(void);

/* When the next order is due; 0: none. */
extern TimestampTz tc_outbox_next_due(void);

/* Writes the outcome, unless the order is somebody else's by now; false: it is locked now. */
extern bool tc_outbox_record(const TcFlight *flight, const TcOutcome *outcome);

/* Bookings that one list of the calendar has. */
#define TC_OUTBOX_PAGE 100

/* Hands the request of an order to the worker; false if it cannot be made. */
extern bool tc_outbox_submit(TcFlight *flight, void (*done)(TcHttpJob *, const TcHttpResult *));

#endif /* TC_OUTBOX_CLAIM_H */
