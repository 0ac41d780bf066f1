/*
 * call_over.h
 *		What becomes of the things that a call owns when it is over.
 */
#ifndef TC_CALL_OVER_H
#define TC_CALL_OVER_H

#include "postgres.h"

/*
 * To be called when a call comes to its end, however it does.  The caller acts for the company
 * (act.h) and holds the call's row.
 */
extern void tc_call_over(int64 company_id, int64 call_id);

#endif /* TC_CALL_OVER_H */
