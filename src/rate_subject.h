/*
 * rate_subject.h
 *		Whose bucket is asked; within the rate module.
 */
#ifndef TC_RATE_SUBJECT_H
#define TC_RATE_SUBJECT_H

#include "postgres.h"

#include "miscadmin.h"

#include "rate_key.h"
#include "rate_policy.h"

typedef struct TcRateSubject
{
	uint32 level;
	uint64 subject[2];
	uint64 detail;
} TcRateSubject;

/* rate_bucket.c: the subject of a request, as the limit counts; raises if it is not known. */
extern void tc_rate_subject(const TcRateLimit *limit, const TcRateWho *who, TcRateSubject *subject);

/*
 * The key of a bucket; what an uncommitted policy governs is apart from everything else.  Inline,
 * since the hash is then made of what is in registers.
 */
static inline void
tc_rate_key(TcRateKey *key, const TcRateLimit *limit, const TcRateSubject *subject)
{
	key->database = MyDatabaseId;
	key->policy_id = limit->policy_id;
	key->level = subject->level;
	key->private_version = unlikely(limit->uncommitted) ? (uint32) limit->version : 0;
	key->subject[0] = subject->subject[0];
	key->subject[1] = subject->subject[1];
	key->detail = subject->detail;
}

#endif /* TC_RATE_SUBJECT_H */
