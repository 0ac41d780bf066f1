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
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "act.h"
#include "calcom_place.h"
#include "node.h"
#include "node_groups.h"
#include "telephony.h"

/* Where a company's row is found by what the calendar says. */
typedef struct Place
{
	const char *table;
	const char *column;
	TcStatement everywhere;
} Place;

#define PLACE(table, column, type)                                                                 \
	{                                                                                              \
		table, column,                                                                             \
		{                                                                                          \
			.sql = "SELECT DISTINCT t.company_id FROM @!." table " AS t WHERE t." column " = $1",  \
			.nparams = 1, .types = {type},                                                         \
		}                                                                                          \
	}

static Place by_uid = PLACE("appointments", "uid", TEXTOID);
static Place by_key = PLACE("outbox", "idempotency_key", TEXTOID);
static Place by_service = PLACE("services", "calcom_event_type_id", INT8OID);
static Place by_branch_service = PLACE("branch_services", "calcom_event_type_id", INT8OID);

/* A search that is under way. */
typedef struct Search
{
	Place *place;
	TcMatch match;
	TcCandidates *candidates;
} Search;

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

/* Adds a company; false: there are too many. */
static bool
add_candidate(TcCandidates *candidates, int64 company_id)
{
	if (tc_candidates_have(candidates, company_id))
		return true;
	candidates->too_many = candidates->count == TC_MAX_CANDIDATES;
	if (!candidates->too_many)
		candidates->ids[candidates->count++] = company_id;
	return !candidates->too_many;
}

/* Takes the company of a row. */
static bool
visit_row(HeapTuple tuple, TupleDesc desc, void *arg)
{
	return add_candidate(arg, tc_row_int8(tuple, desc, "company_id"));
}

/* tc_node_each_group() callback: adds the companies of what is on this node. */
static bool
search(void *arg)
{
	Search *search = arg;
	Oid rel = tc_telephony_table(search->place->table);

	if (!OidIsValid(rel))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
						errmsg("table \"%s\" of tenantcall is missing", search->place->table)));
	tc_read_rows(rel, &search->match, 1, visit_row, search->candidates);
	return !search->candidates->too_many;
}

/* Adds those of all nodes. */
static void
search_cluster(const Search *search)
{
	TcParams params = {0};
	uint64 rows;
	TcAct act;

	tc_param_datum(&params, search->match.value, false);
	tc_act_begin(&act, TC_AS_SYSTEM, NULL);
	rows = tc_execute(&search->place->everywhere, &params);
	for (uint64 i = 0; i < rows; i++)
	{
		bool isnull;

		if (!add_candidate(search->candidates,
						   DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc,
													   1, &isnull))))
			break;
	}
	tc_act_end(&act);
}

/*
 * Adds the companies that have a row with this value.  On a Citus cluster the coordinator asks all
 * nodes, whose it is; the company's node, to which it has sent the message, looks at its own rows.
 */
static void
add_matches(Place *place, Datum value, TcCandidates *candidates)
{
	Search what = {.place = place,
				   .match = {place->column, place->everywhere.types[0], value},
				   .candidates = candidates};

	if (unlikely(tc_node_is_coordinator()))
		search_cluster(&what);
	else
		(void) tc_node_each_group(search, &what, false);
}

/* Those that have the booking, or the order. */
void
tc_calcom_owners(const TcCalcomWebhook *webhook, TcCandidates *owners)
{
	memset(owners, 0, sizeof(*owners));
	if (webhook->uid[0] != '\0')
		add_matches(&by_uid, CStringGetTextDatum(webhook->uid), owners);
	if (webhook->reschedule_uid[0] != '\0')
		add_matches(&by_uid, CStringGetTextDatum(webhook->reschedule_uid), owners);
	if (webhook->mark[0] != '\0')
		add_matches(&by_key, CStringGetTextDatum(webhook->mark), owners);
}

/* Those that offer the event type. */
void
tc_calcom_offerers(int64 event_type_id, TcCandidates *offerers)
{
	memset(offerers, 0, sizeof(*offerers));
	if (event_type_id == 0)
		return;
	add_matches(&by_service, Int64GetDatum(event_type_id), offerers);
	add_matches(&by_branch_service, Int64GetDatum(event_type_id), offerers);
}
