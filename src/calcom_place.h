/*
 * calcom_place.h
 *		Which company does a calendar's webhook speak of?
 */
#ifndef TC_CALCOM_PLACE_H
#define TC_CALCOM_PLACE_H

#include "postgres.h"

#include "calcom_webhook_core.h"

#define TC_MAX_CANDIDATES 32

/* Companies, each once. */
typedef struct TcCandidates
{
	int64 ids[TC_MAX_CANDIDATES];
	int count;
	bool too_many;
} TcCandidates;

/* Those that have the booking, or the order, that the webhook names. */
extern void tc_calcom_owners(const TcCalcomWebhook *webhook, TcCandidates *owners);

/* Those that offer the event type. */
extern void tc_calcom_offerers(int64 event_type_id, TcCandidates *offerers);

extern bool tc_candidates_have(const TcCandidates *candidates, int64 company_id);

#endif /* TC_CALCOM_PLACE_H */
