/*
 * rate_turn.c
 *		Whose turn it is at a bucket, and when.
 *
 * Who waits has spent its tokens in advance, under the partition's exclusive lock, and knows the
 * instant at which they are refilled: its turn.  Turns are in order of asking.  They stand in
 * shared memory, one slot for each backend.  When a place is given back, all later turns at that
 * bucket move up by the time its tokens take: nobody loses, and no two turns meet, which would be
 * more than the burst at one instant.
 *
 * Locks: a slot is begun by its backend, and moved by others, under the exclusive lock of the
 * bucket's partition; it is read, and ended, by its backend alone, without a lock.  A bucket is
 * named by its birth number, which is never used again.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/proc.h"

#include "compat.h"
#include "rate_shared.h"
#include "rate_turn.h"

typedef struct TcRateWaiter
{
	pg_atomic_uint64 born; /* of the bucket; 0: not waiting */
	pg_atomic_uint64 turn;
} TcRateWaiter;

/* Shared memory for the slots. */
Size
tc_rate_waiters_size(void)
{
	return mul_size(MaxBackends, sizeof(TcRateWaiter));
}

/* The slot of this backend. */
static TcRateWaiter *
my_slot(void)
{
	return &tc_rate_table_here.waiters[TC_MY_PROC_NUMBER];
}

/* Notes that this backend waits for a bucket until an instant. */
void
tc_rate_turn_begin(uint64 born, int64 instant)
{
	pg_atomic_write_u64(&my_slot()->turn, (uint64) instant);
	pg_atomic_write_u64(&my_slot()->born, born);
}

/* The turn of this backend. */
int64
tc_rate_turn(void)
{
	return (int64) pg_atomic_read_u64(&my_slot()->turn);
}

/* Moves the turns that come after an instant.  The bucket's exclusive lock. */
void
tc_rate_turn_move(uint64 born, int64 after, int64 by)
{
	for (int i = 0; i < MaxBackends; i++)
	{
		TcRateWaiter *slot = &tc_rate_table_here.waiters[i];
		int64 turn = (int64) pg_atomic_read_u64(&slot->turn);

		if (pg_atomic_read_u64(&slot->born) != born || turn <= after)
			continue;
		pg_atomic_write_u64(&slot->turn, by >= TC_RATE_FAR ? 0 : (uint64) (turn - by));
		SetLatch(&GetPGProcByNumber(i)->procLatch);
	}
}

/* Converts the turns with the bucket.  The bucket's exclusive lock. */
void
tc_rate_turn_convert(const TcRateEntry *entry, const TcRateLimit *to, TcRateChange change, int64 at)
{
	for (int i = 0; i < MaxBackends; i++)
	{
		TcRateWaiter *slot = &tc_rate_table_here.waiters[i];
		int64 turn = (int64) pg_atomic_read_u64(&slot->turn);
		int64 left;

		if (pg_atomic_read_u64(&slot->born) != tc_rate_record(entry)->born || turn <= at)
			continue;
		left = change == TC_RATE_RESET || to->shadow
				   ? 0
				   : tc_rate_convert_wait(&tc_rate_record(entry)->math, &to->math, turn - at);
		pg_atomic_write_u64(&slot->turn,
							left < PG_INT64_MAX - at ? (uint64) (at + left) : PG_INT64_MAX);
		SetLatch(&GetPGProcByNumber(i)->procLatch);
	}
}

/* Ends this backend's wait. */
void
tc_rate_turn_end(void)
{
	pg_atomic_write_u64(&my_slot()->born, 0);
}
