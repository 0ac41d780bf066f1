/*
 * node_ticket.h
 *		Tickets: what proves to another node that this library has sent a session of a role there.
 */
#ifndef TC_NODE_TICKET_H
#define TC_NODE_TICKET_H

#include "postgres.h"

#include "context_core.h"

/* Is it a ticket, not a token? */
extern bool tc_ticket_is(const char *text);

/* A ticket for the present role; the context may be none, and so may company, function and call. */
extern char *tc_ticket_make(const TcContext *context, int64 company_id, const char *function,
							const char *call);

/* Verifies one that was made for this session, company, function and call; raises PT401. */
extern void tc_ticket_verify(const char *ticket, int64 company_id, const char *function,
							 const char *call, TcContext *context);

/* Notes until when the token, or (hard) the ticket, is good by which this transaction entered. */
extern void tc_ticket_limit(int64 until, bool hard);

/* Is a ticket being set in the session that made it? */
extern bool tc_ticket_own;

/* Has a ticket admitted the delivery that is to be taken in now? */
extern bool tc_ticket_admits(void);

#endif /* TC_NODE_TICKET_H */
