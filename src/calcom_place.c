/*
 * calcom_place.c
 *		Which company does a calendar's webhook speak of?
 *
 *		uid, uid of the booking that was replaced --> appointments.uid
 *		our own mark in the metadata              --> outbox.idempotency_key
 *		event type                                --> services, branch_services
 *
 * The calendar knows no companies of ours, so these are read across companies, below row security
 * (telephony.h), for nothing but the company's id.  No locks that stay.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "calcom_place.h"
#include "telephony.h"

/* Is it one of them? */
bool
tc_candidates_have(const TcCandidates *candidates, int64 company_id)
{
	for (int i = 0; i < candidates->count; i++)
	{
		if (candidates->ids[i] == company_id)
			return true;
	}
	return false;
}

/* Takes the company of a row. */
static bool
visit_row(HeapTuple tuple, TupleDesc desc, void *arg)
{
	TcCandidates *candidates = arg;
	int64 company_id = tc_row_int8(tuple, desc, "company_id");

	if (tc_candidates_have(candidates, company_id))
		return true;
	candidates->too_many = candidates->count == TC_MAX_CANDIDATES;
	if (!candidates->too_many)
		candidates->ids[candidates->count++] = company_id;
	return !candidates->too_many;
}

/* Adds the companies that have a row with this value. */
static void
add_matches(const char *table, TcMatch match, TcCandidates *candidates)
{
	Oid rel = tc_telephony_table(table);

	if (!OidIsValid(rel))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
						errmsg("table \"%s\" of tenantcall is missing", table)));
	tc_read_rows(rel, &match, 1, visit_row, candidates);
}

/* Those that have the booking, or the order. */
void
tc_calcom_owners(const TcCalcomWebhook *webhook, TcCandidates *owners)
{
	memset(owners, 0, sizeof(*owners));
	if (webhook->uid[0] != '\0')
		add_matches("appointments", (TcMatch){"uid", TEXTOID, CStringGetTextDatum(webhook->uid)},
					owners);
	if (webhook->reschedule_uid[0] != '\0')
		add_matches("appointments",
					(TcMatch){"uid", TEXTOID, CStringGetTextDatum(webhook->reschedule_uid)},
					owners);
	if (webhook->mark[0] != '\0')
		add_matches("outbox",
					(TcMatch){"idempotency_key", TEXTOID, CStringGetTextDatum(webhook->mark)},
					owners);
}

/* Those that offer the event type. */
void
tc_calcom_offerers(int64 event_type_id, TcCandidates *offerers)
{
	TcMatch match = {"calcom_event_type_id", INT8OID, Int64GetDatum(event_type_id)};

	memset(offerers, 0, sizeof(*offerers));
	if (event_type_id == 0)
		return;
	add_matches("services", match, offerers);
	add_matches("branch_services", match, offerers);
}
