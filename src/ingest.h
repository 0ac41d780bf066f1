/*
 * ingest.h
 *		Applying an authentic event.
 */
#ifndef TC_INGEST_H
#define TC_INGEST_H

#include "postgres.h"

#include "delivery.h"

typedef struct TcIngested
{
	const char *outcome; /* applied, duplicate, merged, conflict, quarantined, rejected */
	const char *reason;
	const char *detail;
	int64 company_id;
	int64 branch_id;
	int64 call_id;
	char *status;
} TcIngested;

/*
 * Places and merges an authentic event that was taken apart.  What is quarantined is for the
 * caller to keep.
 */
extern void tc_ingest_event(const TcDelivery *delivery, TcPlacement *placement, TimestampTz since,
							TcIngested *ingested);

#endif /* TC_INGEST_H */
