/*
 * outbox.h
 *		Orders to calendars: written with the appointment, sent by the HTTP worker.
 */
#ifndef TC_OUTBOX_H
#define TC_OUTBOX_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "appointments.h"

/* Name of the member of a booking's metadata that holds the order's idempotency key. */
#define TC_OUTBOX_MARK "tenantcall"

/* Settings. */
extern int tc_outbox_max_attempts;
extern int tc_outbox_timeout; /* of one request, ms */
extern int tc_outbox_settle;  /* time after which a request that was not answered is over, ms */

/* A claim lasts so much longer than its request may take. */
#define TC_LEASE_MARGIN_MS 2000

extern void tc_outbox_init(void);

/* A key that no other order has, nor will have in any database; palloc'd. */
extern char *tc_outbox_new_key(void);

typedef struct TcOrder
{
	const char *kind; /* create, cancel, reschedule */
	const char *key;
	const char *request; /* body of the request, JSON */
	bool waits;			 /* for the order before it, of the same appointment */
} TcOrder;

/* All of the following: the caller acts for the company (act.h). */

/* Writes an order; the worker is woken at commit. */
extern void tc_outbox_put(const TcAppointment *appointment, const TcOrder *order);

/* What is being done about an appointment. */
typedef struct TcOpenOrder
{
	int64 outbox_id; /* 0: nothing */
	char *state;
	bool untouched; /* surely nothing was sent, and nothing is under way */
} TcOpenOrder;

/*
 * Locks the orders of an appointment that are not finished, against the worker too, and describes
 * the first.  To be called before the appointment's row is locked.
 */
extern void tc_outbox_lock_open(int64 company_id, int64 appointment_id, TcOpenOrder *open);

/* Drops an untouched order that was locked before. */
extern void tc_outbox_drop(int64 company_id, int64 outbox_id, const char *why);

#endif /* TC_OUTBOX_H */
