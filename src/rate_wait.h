/*
 * rate_wait.h
 *		Waiting for one's turn at a bucket; within the rate module.
 */
#ifndef TC_RATE_WAIT_H
#define TC_RATE_WAIT_H

#include "postgres.h"

#include "rate_bucket.h"

/*
 * Waits; if that ends early, by an error or the backend's end, the place is given back.  When the
 * policy changes meanwhile, the turn changes with it.
 */
extern void tc_rate_wait(const TcRateTicket *ticket, const char *policy, const TcRateWho *who);

#endif /* TC_RATE_WAIT_H */
