/*
 * quarantine.h
 *		Authentic content that could not be parsed, placed or applied.
 */
#ifndef TC_QUARANTINE_H
#define TC_QUARANTINE_H

#include "postgres.h"

#include "delivery.h"

/*
 * Keeps the body raw with the outcome that it was answered with, and the reason; the same body
 * again is counted.
 */
extern void tc_quarantine(const TcDelivery *delivery, const TcPlacement *placement,
						  const char *outcome, const char *reason, const char *detail);

#endif /* TC_QUARANTINE_H */
