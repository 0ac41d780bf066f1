/*
 * call_row.h
 *		The row of a call, locked while an event is merged into it.
 */
#ifndef TC_CALL_ROW_H
#define TC_CALL_ROW_H

#include "postgres.h"

#include "call_events.h"
#include "rows.h"

/* The call's row while it is locked. */
typedef struct TcCallRow
{
	TcRow row;
	TcCallKey key;
	int64 branch_id;
	char *status;
	bool reason_known; /* does it have a reason for its end? */
	int seen;
	TcPlace place; /* branch and number to be written; none: they stay */
} TcCallRow;

/* Locks the call's row, making it if it is not there; true if it was made. */
extern bool tc_call_row_take(const TcDelivery *delivery, const TcPlacement *placement,
							 TcCallRow *row);

/* Writes facts (what they do not tell stays), the events seen, and a state unless it is NULL. */
extern void tc_call_row_write(TcCallRow *row, const TcCallFacts *facts, const char *status);

/* Writes another state. */
extern void tc_call_row_move(TcCallRow *row, const char *status);

#endif /* TC_CALL_ROW_H */
