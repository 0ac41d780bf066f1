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

/* Is the company there, and will it be until we have ended?  Within tc_act_begin() of its own. */
extern bool tc_company_hold(int64 company_id);

#endif /* TC_REFUSALS_H */
