/*
 * rate_wait.h
 *		Waiting for one's turn at a bucket; within the rate module.
 */
#ifndef TC_RATE_WAIT_H
#define TC_RATE_WAIT_H

#include "postgres.h"

#include "rate_bucket.h"

/* Notes that this backend waits for a bucket until an instant.  The bucket's exclusive lock. */
extern void tc_rate_wait_begin(uint64 born, int64 instant);

/*
 * Waits; if that ends early, by an error or the backend's end, the place is given back.  When the
 * policy changes meanwhile, the turn changes with it.
 */
extern void tc_rate_wait(const TcRateTicket *ticket, const char *policy, const TcRateWho *who);

/* A bucket is about to be converted as of an instant: so are the turns of those who wait for it. */
extern void tc_rate_wait_convert(const TcRateEntry *entry, const TcRateLimit *to,
								 TcRateChange change, int64 at);

/* Those who wait for the bucket move up by so many ns; TC_RATE_FAR: their turn is now. */
extern void tc_rate_wait_move(uint64 born, int64 after, int64 by);

/* The turn of this backend. */
extern int64 tc_rate_wait_turn(void);

#endif /* TC_RATE_WAIT_H */
