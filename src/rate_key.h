/*
 * rate_key.h
 *		What names a bucket.
 */
#ifndef TC_RATE_KEY_H
#define TC_RATE_KEY_H

#include "postgres.h"

#define TC_RATE_BY_UUID 0x100 /* in a key's level: the company is known by its UUID only */

/* Whose bucket. */
typedef enum TcRateLevel
{
	TC_RATE_UNKNOWN, /* all callers whose company is not known; instead of TC_RATE_COMPANY */
	TC_RATE_COMPANY,
	TC_RATE_GLOBAL,	 /* of all companies together */
	TC_RATE_BRANCH,	 /* those without a branch share one */
	TC_RATE_NUMBER,	 /* a phone number, of a company */
	TC_RATE_CALL,	 /* a call of a company */
	TC_RATE_FUNCTION /* a function within a call */
} TcRateLevel;

/* Compared as bytes: no padding. */
typedef struct TcRateKey
{
	Oid database; /* not InvalidOid */
	int32 policy_id;
	uint32 level;
	uint32 private_version; /* not 0: only for the transaction that made this version */
	uint64 subject[2];
	uint64 detail; /* for finer buckets within the subject, else 0 */
} TcRateKey;

StaticAssertDecl(sizeof(TcRateKey) == 40, "TcRateKey has padding");

/* Mixes another word into a hash; the multiplier is that of MurmurHash2, 64 bit. */
static inline uint64
tc_rate_mix(uint64 hash, uint64 word)
{
	hash = (hash ^ word) * UINT64CONST(0xc6a4a7935bd1e995);
	return hash ^ (hash >> 47);
}

/*
 * The hash of a key.  Its words are put together from members: reading a word whose halves have
 * just been written would wait for both writes.
 */
static inline uint32
tc_rate_hash(const TcRateKey *key)
{
	uint64 hash = tc_rate_mix(0, (uint64) (uint32) key->policy_id << 32 | key->database);

	hash = tc_rate_mix(hash, (uint64) key->private_version << 32 | key->level);
	hash = tc_rate_mix(hash, key->subject[0]);
	hash = tc_rate_mix(hash, key->subject[1]);
	hash = tc_rate_mix(hash, key->detail);
	return (uint32) (hash ^ (hash >> 32));
}

/*
 * A key but for database, policy and subject[0], in one word: that is all of it for a company's or
 * everybody's bucket.  Other keys have a bit set that says that the word may stand for several.
 */
#define TC_RATE_REST_MIXED (UINT64CONST(1) << 63)

static inline uint64
tc_rate_key_rest(const TcRateKey *key)
{
	uint64 hash;

	if (likely((key->subject[1] | key->detail | key->private_version) == 0))
		return key->level;
	hash = tc_rate_mix(0, (uint64) key->private_version << 32 | key->level);
	hash = tc_rate_mix(hash, key->subject[1]);
	return tc_rate_mix(hash, key->detail) | TC_RATE_REST_MIXED;
}

/* Names of levels; there is none for a level that no policy may have. */
extern const char *tc_rate_level_name(uint32 level);
extern bool tc_rate_level_parse(const char *name, TcRateLevel *level);

#endif /* TC_RATE_KEY_H */
