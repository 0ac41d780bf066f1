/*
 * forget.h
 *		Calls whose caller was forgotten.
 */
#ifndef TC_FORGET_H
#define TC_FORGET_H

#include "postgres.h"

#include "delivery.h"

/*
 * What may be merged of an event of a forgotten call: what happened when, with nothing of who said
 * what.  The caller acts for the call's company (act.h).
 */
extern TcDelivery tc_forgotten_event(const TcDelivery *delivery);

/* Was the caller of this call forgotten?  Outside of tc_act_begin(). */
extern bool tc_call_forgotten(const TcDelivery *delivery, int64 company_id);

#endif /* TC_FORGET_H */
