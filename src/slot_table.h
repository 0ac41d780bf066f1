/*
 * slot_table.h
 *		The table behind slot_cache.h: for its own files only.
 */
#ifndef TC_SLOT_TABLE_H
#define TC_SLOT_TABLE_H

#include "postgres.h"

#include "storage/lwlock.h"

#include "slot_count.h"
#include "slot_entry.h"

/* Companies share a group by hash. */
#define TC_SLOT_GROUPS 1024

typedef struct TcSlotGroup
{
	uint32 oldest, newest;
	int count;
} TcSlotGroup;

typedef struct TcSlotShared
{
	int max_entries;
	int max_pages;
	uint32 mask; /* of chains */
	uint32 free_entry;
	uint32 free_page;
	int free_pages;
	uint32 hand; /* of the clock */
	uint32 queue_first, queue_last;
	TcSlotGroup group[TC_SLOT_GROUPS];
	TcSlotCounters stat[TC_SLOT_STATS];
} TcSlotShared;

extern TcSlotShared *tc_slot_shared;
extern TcSlotEntry *tc_slot_entries;
extern TcSlotPage *tc_slot_pages;
extern LWLock *tc_slot_lock;

extern void tc_slot_table_init(void);

/* The entry of a question, or NULL.  Either lock. */
extern TcSlotEntry *tc_slot_find(const TcSlotQuestion *question);

/* The entry, made if need be; NULL: the company has its share of the table in use.  Exclusive. */
extern TcSlotEntry *tc_slot_find_or_make(const TcSlotQuestion *question);

/* Replaces the answer's starts; false: no room.  Exclusive. */
extern bool tc_slot_store(TcSlotEntry *entry, const TimestampTz *starts, int count);

/* Copies them, palloc'd by the caller.  Either lock. */
extern void tc_slot_load(const TcSlotEntry *entry, TimestampTz *starts);

/* The queue to the worker.  Exclusive. */
extern void tc_slot_enqueue(TcSlotEntry *entry);
extern TcSlotEntry *tc_slot_dequeue(Oid database);

static inline uint32
tc_slot_number(const TcSlotEntry *entry)
{
	return (uint32) (entry - tc_slot_entries);
}

#endif /* TC_SLOT_TABLE_H */
