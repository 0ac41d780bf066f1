/*
 * stat.h
 *		What was asked, entered, delivered and refused, counted in shared memory.
 */
#ifndef TC_STAT_H
#define TC_STAT_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "key_core.h"
#include "token_core.h"

/* Single counts; the first of a row in the tables of stat.c. */
typedef enum TcStatCount
{
	TC_STAT_ENTER_ID,
	TC_STAT_ENTER_UUID,
	TC_STAT_ENTER_PHONE,
	TC_STAT_ENTER_TOKEN,
	TC_STAT_ENTER_SETTING, /* SET LOCAL tenantcall.token */
	TC_STAT_REFUSED_OTHER_TENANT,
	TC_STAT_REFUSED_NO_BLOCK,
	TC_STAT_REFUSED_UNKNOWN,
	TC_STAT_MISSING_READ,
	TC_STAT_MISSING_WRITE,
	TC_STAT_DIRECTORY_HIT,
	TC_STAT_DIRECTORY_MISS,
	TC_STAT_TOKEN, /* and one for each other TcTokenFault */
	TC_STAT_DELIVERY = TC_STAT_TOKEN + TC_TOKEN_TENANT
} TcStatCount;

/* What reset functions set back. */
typedef enum TcStatGroup
{
	TC_STAT_CALLS, /* all that is counted here */
	TC_STAT_RATE,
	TC_STAT_HTTP,
	TC_STAT_CACHE,
	TC_STAT_GROUPS
} TcStatGroup;

/* What happened to the server, and is to be seen long after. */
typedef enum TcStatNote
{
	TC_STAT_TABLE_FULL,	  /* of buckets */
	TC_STAT_SAVE_FAILED,  /* of buckets, to their file */
	TC_STAT_LOAD_REFUSED, /* of that file, at the server's start */
	TC_STAT_NOTES
} TcStatNote;

extern void tc_stat_init(void);

/* Counts one of a company (0: none), in this database; nothing where shared memory is missing. */
extern void tc_stat_count(int64 company_id, TcStatCount what);
extern void tc_stat_token_refused(TcTokenFault fault);
/* By names; what has none of its own is counted as "other". */
extern void tc_stat_delivery(const char *kind, const char *outcome, int64 company_id);
extern void tc_stat_event(const char *event, int64 company_id);
extern void tc_stat_booking(const char *status, int64 company_id);

/* Notes that it happened, with a reason (or ""); over: it does not go on. */
extern void tc_stat_note(TcStatNote what, const char *reason);
extern void tc_stat_note_over(TcStatNote what);

/* When the group's counts of this database began. */
extern TimestampTz tc_stat_since(TcStatGroup group);
extern void tc_stat_note_reset(TcStatGroup group);

#endif /* TC_STAT_H */
