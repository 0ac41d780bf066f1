/*
 * rate_turn.h
 *		Whose turn it is at a bucket, and when; within the rate module.
 */
#ifndef TC_RATE_TURN_H
#define TC_RATE_TURN_H

#include "postgres.h"

#include "rate_policy.h"
#include "rate_table.h"

/* Shared memory for the turns. */
extern Size tc_rate_waiters_size(void);

/* Notes that this backend waits for a bucket until an instant.  The bucket's exclusive lock. */
extern void tc_rate_turn_begin(uint64 born, int64 instant);
extern void tc_rate_turn_end(void);

/* The turn of this backend. */
extern int64 tc_rate_turn(void);

/* Those who wait for the bucket move up by so many ns; TC_RATE_FAR: their turn is now. */
extern void tc_rate_turn_move(uint64 born, int64 after, int64 by);

/* A bucket is about to be converted as of an instant: so are the turns of those who wait for it. */
extern void tc_rate_turn_convert(const TcRateEntry *entry, const TcRateLimit *to,
								 TcRateChange change, int64 at);

#endif /* TC_RATE_TURN_H */
