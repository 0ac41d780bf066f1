/*
 * refusals.h
 *		Refusals that are returned, in the audit trail.
 */
#ifndef TC_REFUSALS_H
#define TC_REFUSALS_H

#include "postgres.h"

#include "delivery.h"

/*
 * Notes what was returned for a delivery, if that is a refusal: limited, suspended, unknown,
 * rejected or conflict.  Outside of tc_act_begin(); does nothing where nothing can be written.
 */
extern void tc_refusal_note(const TcDelivery *delivery, const TcPlacement *placement,
							const char *outcome, const char *reason);

/* The same of what stands in tenant_decisions already: how many there are of it; 0: is none. */
extern int64 tc_refusal_count(const TcDelivery *delivery, const TcPlacement *placement,
							  const char *outcome, const char *reason);

#endif /* TC_REFUSALS_H */
