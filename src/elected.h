/*
 * elected.h
 *		The one node of a Citus cluster that speaks to calendars.
 */
#ifndef TC_ELECTED_H
#define TC_ELECTED_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* The row of tenantcall.elected_nodes. */
typedef struct TcElected
{
	int node;		  /* by Citus's number; the coordinator's is 0 */
	int previous;	  /* who was it before; -1: nobody */
	int64 place;	  /* of its database (place.h): a copy of it is not elected */
	int64 generation; /* rises with each election */
	TimestampTz since;
} TcElected;

/* Who is elected, as far as this node knows; false where tables are not distributed. */
extern bool tc_elected(TcElected *elected);

/* Is it another node? */
extern bool tc_elected_elsewhere(TcElected *elected);
extern void tc_require_elected(void); /* raises if it is */

/* This node hears of an election: from the one that won it, or as newest_election() says it. */
extern void tc_elected_note(int node, int64 place, int64 generation);
extern void tc_elected_hear(const char *newest);

/* What this node's worker does about calendars. */
typedef enum TcDuty
{
	TC_DUTY_UNKNOWN,	/* no worker has looked yet */
	TC_DUTY_ALONE,		/* no cluster */
	TC_DUTY_IDLE,		/* another node is elected */
	TC_DUTY_COPY,		/* this place is not the one that was elected */
	TC_DUTY_TAKES_OVER, /* waits for the end of its predecessor's requests */
	TC_DUTY_ELECTED
} TcDuty;

extern const char *tc_duty_name(TcDuty which);

/* In the worker: finds out; within a transaction.  Whether it may speak now: */
extern void tc_elected_look(void);
extern bool tc_elected_speaks(void);

/* In the worker: is that still so?  Within the transaction that takes orders. */
extern bool tc_elected_still(void);

/* In the worker, where it may not: when to look again, in ms; -1: no wish. */
extern long tc_elected_wish(void);

/* Registers the worker's source that tells the elected node what comes up on another one. */
extern void tc_elected_init(void);

#endif /* TC_ELECTED_H */
