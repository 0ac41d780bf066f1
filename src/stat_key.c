/*
 * stat_key.c
 *		What is noted for health(): keys by which tokens were signed, and what happened to the
 *server.
 *
 * A key that verified tokens and is not in the key file any more was taken out too early, if tokens
 * signed by it still come; one that never was good is somebody's attempt, or a mistake.  Keys that
 * were good are not pushed out by such.
 *
 * What happened once a second or more often is one matter, which began with the first; after a
 * pause of NEW_AFTER it begins anew.
 *
 * The server has one key file, so this is of all databases.  Locks: that of tc_stat_shared,
 * exclusive, once per session and key that is good, and for each token whose key is not known.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "stat_shmem.h"

#define NEW_AFTER (15 * USECS_PER_MINUTE)

/* The place of a key, or one that may be had for it; NULL: none.  Under the lock. */
static TcStatKey *
find_place(const char *kid, bool good)
{
	TcStatKey *room = NULL;

	for (int i = 0; i < TC_STAT_TOKEN_KEYS; i++)
	{
		TcStatKey *key = &tc_stat_shared->key[i];

		if (strcmp(key->kid, kid) == 0)
			return key;
		if (key->was_good && !(good && key->refused == 0))
			continue;
		if (room == NULL || (room->kid[0] != '\0' && key->last_at < room->last_at))
			room = key;
	}
	if (room == NULL)
		return NULL;
	memset(room, 0, sizeof(*room));
	strlcpy(room->kid, kid, sizeof(room->kid));
	return room;
}

/* A token signed by it was verified. */
void
tc_stat_key_good(const char *kid)
{
	static char last[TC_KID_MAX + 1] = "";
	TcStatKey *key;

	if (tc_stat_shared == NULL || strcmp(kid, last) == 0)
		return;
	strlcpy(last, kid, sizeof(last));
	LWLockAcquire(tc_stat_shared->lock, LW_EXCLUSIVE);
	key = find_place(kid, true);
	if (key != NULL)
	{
		key->was_good = true;
		key->refused = 0;
		key->first_at = key->last_at = 0;
	}
	LWLockRelease(tc_stat_shared->lock);
}

/* A token signed by it was refused, since the key file does not have it. */
void
tc_stat_key_unknown(const char *kid)
{
	TcStatKey *key;

	if (tc_stat_shared == NULL)
		return;
	LWLockAcquire(tc_stat_shared->lock, LW_EXCLUSIVE);
	key = find_place(kid, false);
	if (key != NULL)
	{
		key->refused++;
		key->last_at = GetCurrentTimestamp();
		if (key->first_at == 0)
			key->first_at = key->last_at;
	}
	LWLockRelease(tc_stat_shared->lock);
}

/* Notes that something happened. */
void
tc_stat_note(TcStatNote what, const char *reason)
{
	TimestampTz now = GetCurrentTimestamp();
	TcStatHappened *happened;

	if (tc_stat_shared == NULL)
		return;
	happened = &tc_stat_shared->happened[what];
	if (now - happened->last < USECS_PER_SEC && now >= happened->last)
		return; /* read without a lock: at worst noted once more */
	LWLockAcquire(tc_stat_shared->lock, LW_EXCLUSIVE);
	if (happened->since == 0 || now - happened->last > NEW_AFTER)
		happened->since = now;
	happened->last = now;
	strlcpy(happened->reason, reason, sizeof(happened->reason));
	LWLockRelease(tc_stat_shared->lock);
}

/* It does not go on. */
void
tc_stat_note_over(TcStatNote what)
{
	if (tc_stat_shared == NULL || tc_stat_shared->happened[what].since == 0)
		return;
	LWLockAcquire(tc_stat_shared->lock, LW_EXCLUSIVE);
	memset(&tc_stat_shared->happened[what], 0, sizeof(TcStatHappened));
	LWLockRelease(tc_stat_shared->lock);
}
