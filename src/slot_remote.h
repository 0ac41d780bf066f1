/*
 * slot_remote.h
 *		Free slots by way of the elected node of a Citus cluster.
 */
#ifndef TC_SLOT_REMOTE_H
#define TC_SLOT_REMOTE_H

#include "postgres.h"

#include "slot_cache.h"

/* What tc_slot_cache_get() does, on the node that is elected to speak to calendars. */
extern void tc_slot_ask(TcSlotQuestion *question, int64 max_wait, int64 max_age,
						TcSlotAnswer *answer);

#endif /* TC_SLOT_REMOTE_H */
