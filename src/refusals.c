/*
 * refusals.c
 *		Refusals that are returned, in the audit trail.
 *
 *		outcome --> refusals: counted by company, kind, reason and quarter of an hour
 *		        \-> tenant_decisions: the first DETAILED of each in full
 *
 * Every refusal counts; a flood of them fills rows of detail only up to a bound.  Whose refusal it
 * is follows the keys: what a company's own key has verified is noted with that company, whatever
 * the body says.  What concerns no company goes to tenantcall.unplaced_refusals.
 *
 * Locks: a row of this server process's own (column slot), until the end of the transaction; so
 * nobody waits, in whatever order refusals are counted.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"

#include "act.h"
#include "calls.h"
#include "compat.h"
#include "directory.h"
#include "forget.h"
#include "refusals.h"
#include "trail.h"

#define DETAILED 100 /* rows of tenant_decisions per row of refusals */

#define QUARTER "date_bin('15 minutes', clock_timestamp(), '2000-01-01 00:00+00')"
#define COUNT_ONE                                                                                  \
	"DO UPDATE SET refused = r.refused + 1, last_at = excluded.last_at RETURNING r.refused"

static TcStatement count_placed = {
	.sql = "INSERT INTO @.refusals AS r (quarter, kind, outcome, reason, by_role, slot, last_at, "
		   "company_id) VALUES (" QUARTER ", $1, $2, $3, $4, $5, clock_timestamp(), $6) "
		   "ON CONFLICT (company_id, quarter, kind, outcome, reason, by_role, slot) " COUNT_ONE,
	.nparams = 6,
	.types = {TEXTOID, TEXTOID, TEXTOID, TEXTOID, INT4OID, INT8OID},
};
static TcStatement count_unplaced = {
	.sql = "INSERT INTO tenantcall.unplaced_refusals AS r (quarter, kind, outcome, reason, "
		   "by_role, slot, last_at) VALUES (" QUARTER ", $1, $2, $3, $4, $5, clock_timestamp()) "
		   "ON CONFLICT (quarter, kind, outcome, reason, by_role, slot) " COUNT_ONE,
	.nparams = 5,
	.types = {TEXTOID, TEXTOID, TEXTOID, TEXTOID, INT4OID},
};

/* Is the outcome a refusal? */
static bool
is_refusal(const char *outcome)
{
	static const char *const refusals[] = {"limited", "suspended", "unknown", "rejected",
										   "conflict"};

	for (size_t i = 0; i < lengthof(refusals); i++)
		if (strcmp(outcome, refusals[i]) == 0)
			return true;
	return false;
}

/* Counts the refusal; how many there were of it in this row. */
static int64
count(TcStatement *statement, TcParams *params)
{
	int64 refused;

	tc_trail_open();
	tc_execute(statement, params);
	tc_trail_close();
	refused = tc_result_int8(1);
	return refused;
}

/* Notes the refusal in the books of the company. */
static void
note_placed(const TcDelivery *delivery, const TcPlacement *placement, const char *outcome,
			const char *reason, TcParams *params)
{
	TcPlacement noted = *placement;
	TcDelivery stripped;
	TcContext tenant = {0};
	TcAct act;

	if (delivery->verified_for != 0 && delivery->verified_for != placement->place.company_id)
		noted.place = (TcPlace){.company_id = delivery->verified_for};
	tenant.company_id = noted.place.company_id;
	if (!tc_directory_fill(&tenant))
		return; /* deleted meanwhile, with its books */
	if (tc_call_forgotten(delivery, tenant.company_id))
	{
		stripped = *delivery;
		stripped.message.facts.from_number = stripped.message.facts.to_number = NULL;
		delivery = &stripped;
	}
	tc_param_int8(params, tenant.company_id);
	tc_act_begin(&act, TC_AS_OWNER, &tenant);
	if (count(&count_placed, params) <= DETAILED)
		tc_calls_record(delivery, &noted, outcome, reason);
	tc_act_end(&act);
}

/* Notes what was returned, if that is a refusal. */
void
tc_refusal_note(const TcDelivery *delivery, const TcPlacement *placement, const char *outcome,
				const char *reason)
{
	TcParams params = {0};
	TcAct act;

	if (!is_refusal(outcome) || XactReadOnly || RecoveryInProgress())
		return;
	tc_param_text(&params, delivery->kind);
	tc_param_text(&params, outcome);
	tc_param_text(&params, reason != NULL ? reason : "");
	tc_param_text(&params, GetUserNameFromId(GetOuterUserId(), false));
	tc_param_datum(&params, Int32GetDatum(TC_MY_PROC_NUMBER), false);
	if (placement->place.company_id != 0 || delivery->verified_for != 0)
	{
		note_placed(delivery, placement, outcome, reason, &params);
		return;
	}
	tc_act_begin(&act, TC_AS_SYSTEM, NULL);
	(void) count(&count_unplaced, &params);
	tc_act_end(&act);
}
