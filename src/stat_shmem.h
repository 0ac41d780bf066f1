/*
 * stat_shmem.h
 *		The shared memory behind stat.h; for its own files only.
 */
#ifndef TC_STAT_SHMEM_H
#define TC_STAT_SHMEM_H

#include "port/atomics.h"
#include "storage/lwlock.h"

#include "stat.h"

#define TC_STAT_DATABASES 256
#define TC_STAT_OWN 64 /* entries kept for databases themselves */
#define TC_STAT_TOKEN_KEYS 32
#define TC_STAT_OUTCOMES 15
#define TC_STAT_KINDS 4
#define TC_STAT_EVENTS 6
#define TC_STAT_BOOKINGS 7
#define TC_STAT_EVENT (TC_STAT_DELIVERY + TC_STAT_KINDS * TC_STAT_OUTCOMES)
#define TC_STAT_BOOKING (TC_STAT_EVENT + TC_STAT_EVENTS)
#define TC_STAT_N_COUNTS (TC_STAT_BOOKING + TC_STAT_BOOKINGS)

/* A company of a database; company 0 is the database itself, and who found no room. */
typedef struct TcStatEntry
{
	pg_atomic_uint32 database; /* InvalidOid: free; written after the company */
	int64 company_id;
	pg_atomic_uint64 last_delivery_at;
	pg_atomic_uint64 count[TC_STAT_N_COUNTS];
} TcStatEntry;

typedef struct TcStatDatabase
{
	Oid database;					   /* InvalidOid: free */
	TimestampTz since[TC_STAT_GROUPS]; /* of counts; 0: with the server's shared memory */
} TcStatDatabase;

/* A key that signed tokens. */
typedef struct TcStatKey
{
	char kid[TC_KID_MAX + 1];	   /* empty: free */
	bool was_good;				   /* it has verified a token */
	uint64 refused;				   /* tokens, since it was not in the file any more */
	TimestampTz first_at, last_at; /* of those */
} TcStatKey;

typedef struct TcStatHappened
{
	TimestampTz since, last; /* 0: it did not happen */
	char reason[160];
} TcStatHappened;

typedef struct TcStatShared
{
	LWLock *lock; /* to take a place; for databases and keys */
	TimestampTz since;
	uint32 ncompanies, nentries; /* the rest of the entries are for databases themselves */
	pg_atomic_uint32 *tag;		 /* of each entry, behind the last one */
	TcStatDatabase database[TC_STAT_DATABASES];
	TcStatKey key[TC_STAT_TOKEN_KEYS];
	TcStatHappened happened[TC_STAT_NOTES];
	TcStatEntry entry[FLEXIBLE_ARRAY_MEMBER];
} TcStatShared;

extern TcStatShared *tc_stat_shared; /* NULL without it */

/* What a count is of. */
typedef struct TcStatName
{
	const char *area; /* context, delivery, event, booking */
	const char *kind;
	const char *outcome;
} TcStatName;

extern TcStatName tc_stat_name(int count);
extern void tc_stat_key_good(const char *kid); /* tokens by their keys: stat_key.c */
extern void tc_stat_key_unknown(const char *kid);

#endif /* TC_STAT_SHMEM_H */
