/*
 * holds.h
 *		Slots that are held for a caller, or booked.
 */
#ifndef TC_HOLDS_H
#define TC_HOLDS_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "context_core.h"

/* A row of slot_holds; in orders, what it is to be. */
typedef struct TcHold
{
	int64 hold_id;
	int64 branch_id; /* 0: none */
	int64 service_id;
	int64 call_id; /* 0: none */
	char *credential;
	int64 event_type_id;
	TimestampTz starts_at;
	TimestampTz ends_at;
	char *state;
	char *reason;
	bool expired; /* held, but for too long */
} TcHold;

extern void tc_holds_init(void);

/* The tenant that was entered; raises PT403 without one. */
extern const TcContext *tc_entered_tenant(void);

/* Raises PT409 when the tenant is suspended; what says for what it is asked. */
extern void tc_require_active(const TcContext *tenant, const char *what);

/* All of the following: the caller acts for the company (act.h). */

/* Locks a hold until the end of the transaction, and reads it; raises PT404, and unless usable
 * PT409. */
extern void tc_hold_lock(int64 company_id, int64 hold_id, TcHold *hold);
extern void tc_hold_require_usable(const TcHold *hold);

/* Held becomes booked; either becomes released. */
extern void tc_hold_book(int64 company_id, int64 hold_id);
extern void tc_hold_release(int64 company_id, int64 hold_id, const char *reason);

/* A slot that was booked elsewhere: takes a seat, beyond the capacity if need be; its hold_id. */
extern int64 tc_hold_occupy(int64 company_id, const TcHold *order);

/* Releases what a call still holds. */
extern void tc_holds_release_call(int64 company_id, int64 call_id);

#endif /* TC_HOLDS_H */
