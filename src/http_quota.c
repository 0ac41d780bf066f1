/*
 * http_quota.c
 *		What calendars admit, by key: shared by all databases and names that a key is stored under.
 *
 * A calendar counts the requests of a key, and does not care which of our databases, or which of
 * the names that we gave to the same key, they came from.  So the quota is found by a digest of the
 * key.  Whatever has not been used for as long as a block may last is full again, and forgotten
 * when room is needed.
 *
 * Everything here is done under tc_http_lock().
 */
#include "postgres.h"

#include "storage/shmem.h"

#include "http_quota.h"
#include "http_settings.h"
#include "http_shmem.h"

#define FORGET_NS (INT64CONST(7200) * 1000000000) /* longer than any block, or window, counts */

typedef struct Slot
{
	TcHttpKeyId key;
	int64 used_at; /* 0: free */
	TcQuota quota;
} Slot;

static Slot *slots = NULL;

/* How many keys there is room for: as many as for credentials. */
static int
slot_count(void)
{
	return tc_http_settings.max_entries / 4;
}

/* Size of the table. */
Size
tc_http_quota_size(void)
{
	return mul_size(slot_count(), sizeof(Slot));
}

/* Finds the table, or creates it; under AddinShmemInitLock. */
void
tc_http_quota_startup(void)
{
	bool found;

	slots = ShmemInitStruct("tenantcall http quotas", tc_http_quota_size(), &found);
	if (!found)
		memset(slots, 0, tc_http_quota_size());
}

/* The slot of a key; else *room is one that may be used for it, or NULL. */
static Slot *
find_slot(const TcHttpKeyId *key, int64 now, Slot **room)
{
	*room = NULL;
	for (int i = 0; i < slot_count(); i++)
	{
		Slot *slot = &slots[i];

		if (slot->used_at != 0 && memcmp(&slot->key, key, sizeof(*key)) == 0)
			return slot;
		if (*room == NULL && (slot->used_at == 0 || now - slot->used_at > FORGET_NS))
			*room = slot;
	}
	return NULL;
}

/* The key's quota. */
TcQuota *
tc_http_quota(const TcHttpKeyId *key, bool make)
{
	TcQuotaRules rules = tc_http_quota_rules();
	int64 now = tc_http_now();
	Slot *room;
	Slot *slot = find_slot(key, now, &room);

	if (slot == NULL && make && room != NULL)
	{
		slot = room;
		slot->key = *key;
		tc_quota_init(&slot->quota, &rules, now);
	}
	if (slot == NULL)
		return NULL;
	if (make)
		slot->used_at = now;
	return &slot->quota;
}
