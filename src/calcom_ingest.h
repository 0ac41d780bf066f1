/*
 * calcom_ingest.h
 *		What a calendar tells of its bookings.
 */
#ifndef TC_CALCOM_INGEST_H
#define TC_CALCOM_INGEST_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "calcom_webhook_core.h"

/* A webhook's body, and whose it is. */
typedef struct TcTold
{
	const char *body;
	size_t len;
	TimestampTz received_at;
	const char *rejected; /* why it is not authentic; NULL: it is */
	const char *unusable; /* why it could not be taken apart; NULL: it could */
	int64 verified_for;	  /* company whose own key verified it; 0: a key of the account */
	TcCalcomWebhook webhook;
} TcTold;

/* What became of it. */
typedef struct TcToldResult
{
	const char *outcome; /* applied, duplicate, merged, conflict, quarantined, rejected */
	const char *reason;	 /* or NULL */
	char *detail;		 /* or NULL */
	int64 company_id;	 /* this and the following ids: 0 for none */
	int64 branch_id;
	int64 appointment_id;
	char *status;
} TcToldResult;

/* Takes the body apart, noting why it cannot be. */
extern void tc_calcom_parse(TcTold *told);

/* Places and applies an authentic body; what is to be quarantined the caller quarantines. */
extern void tc_calcom_ingest(TcTold *told, TcToldResult *result);

/*
 * Applies it to the company that is being acted for.  Raises on content that the tables refuse:
 * call under tc_guard().
 */
extern void tc_calcom_apply(const TcTold *told, int64 company_id, TcToldResult *result);

#endif /* TC_CALCOM_INGEST_H */
