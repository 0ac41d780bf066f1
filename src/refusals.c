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
 * The first refusal of a kind in a transaction is counted in the table at once; more of them are
 * added up in memory and written when the transaction commits, since a row that one transaction
 * updates again and again gets slower each time.  What is added up belongs to a subtransaction, and
 * is forgotten with it; in another one than that of the first refusal each is counted at once.
 *
 * Locks: the company's row, against its deletion, and a row of this server process's own (column
 * slot), both until the end of the transaction; so nobody waits but for a deletion, in whatever
 * order refusals are counted.  The one exception is PREPARE TRANSACTION: who has the same slot
 * afterwards waits for COMMIT PREPARED.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "act.h"
#include "calls.h"
#include "compat.h"
#include "directory.h"
#include "forget.h"
#include "refusals.h"
#include "trail.h"

#define DETAILED 100 /* rows of tenant_decisions per row of refusals */

#define QUARTER "date_bin('15 minutes', clock_timestamp(), '2000-01-01 00:00+00')"
#define COUNT                                                                                      \
	"DO UPDATE SET refused = r.refused + excluded.refused, last_at = excluded.last_at RETURNING r.refused"

/* The company, if it is still there: from then on it cannot be deleted until we have ended. */
static TcStatement hold_company = {
	.sql = "SELECT 1 FROM @.companies WHERE company_id = $1 FOR KEY SHARE",
	.nparams = 1,
	.types = {INT8OID},
};
static TcStatement count_placed = {
	.sql =
		"INSERT INTO @.refusals AS r (quarter, kind, outcome, reason, by_role, slot, refused, "
		"last_at, company_id) VALUES (" QUARTER ", $1, $2, $3, $4, $5, $6, clock_timestamp(), $7) "
		"ON CONFLICT (company_id, quarter, kind, outcome, reason, by_role, slot) " COUNT,
	.nparams = 7,
	.types = {TEXTOID, TEXTOID, TEXTOID, TEXTOID, INT4OID, INT8OID, INT8OID},
};
static TcStatement count_unplaced = {
	.sql = "INSERT INTO tenantcall.unplaced_refusals AS r (quarter, kind, outcome, reason, "
		   "by_role, slot, refused, last_at) VALUES (" QUARTER ", $1, $2, $3, $4, $5, $6, "
		   "clock_timestamp()) ON CONFLICT (quarter, kind, outcome, reason, by_role, slot) " COUNT,
	.nparams = 6,
	.types = {TEXTOID, TEXTOID, TEXTOID, TEXTOID, INT4OID, INT8OID},
};

/* What is counted together; compared as bytes. */
typedef struct RefusalKey
{
	int64 company_id; /* 0: no company's */
	Oid role;
	char kind[16];
	char outcome[16];
	char reason[64];
} RefusalKey;

typedef struct Refusal
{
	RefusalKey key;
	SubTransactionId subxact; /* whose they are */
	int64 counted;			  /* in the table's row, as of the first one */
	int64 pending;			  /* more of them, not yet in the table */
} Refusal;

/* Those of this transaction, in TopTransactionContext; NULL: none. */
static HTAB *refusals = NULL;

/* Is the outcome a refusal? */
static bool
is_refusal(const char *outcome)
{
	static const char *const outcomes[] = {"limited", "suspended", "unknown", "rejected",
										   "conflict"};

	for (size_t i = 0; i < lengthof(outcomes); i++)
		if (strcmp(outcome, outcomes[i]) == 0)
			return true;
	return false;
}

/* The company was entered as its owner.  Waits for a deletion that is under way. */
bool
tc_company_hold(int64 company_id)
{
	TcParams params = {0};

	tc_param_int8(&params, company_id);
	return tc_execute(&hold_company, &params) > 0;
}

/* Adds to the count in the table; how many there are in this row then. */
static int64
count_in_table(const RefusalKey *key, int64 refused)
{
	TcContext tenant = {.company_id = key->company_id};
	TcParams params = {0};
	char *role = GetUserNameFromId(key->role, true);
	int64 counted = 0;
	TcAct act;

	if (key->company_id != 0 && !tc_directory_fill(&tenant))
		return 0; /* deleted meanwhile, with its books */
	tc_param_text(&params, key->kind);
	tc_param_text(&params, key->outcome);
	tc_param_text(&params, key->reason);
	tc_param_text(&params, role != NULL ? role : "");
	tc_param_datum(&params, Int32GetDatum(TC_MY_PROC_NUMBER), false);
	tc_param_int8(&params, refused);
	if (key->company_id != 0)
		tc_param_int8(&params, key->company_id);
	tc_act_begin(&act, key->company_id != 0 ? TC_AS_OWNER : TC_AS_SYSTEM,
				 key->company_id != 0 ? &tenant : NULL);
	if (key->company_id == 0 || tc_company_hold(key->company_id))
	{
		tc_trail_open();
		tc_execute(key->company_id != 0 ? &count_placed : &count_unplaced, &params);
		tc_trail_close();
		counted = tc_result_int8(1);
	}
	tc_act_end(&act);
	return counted;
}

/* Transaction callback: writes what has been added up. */
static void
end_transaction(XactEvent event, void *arg)
{
	HASH_SEQ_STATUS scan;
	HTAB *mine = refusals;
	Refusal *refusal;

	if (mine == NULL)
		return;
	refusals = NULL;
	if (event != XACT_EVENT_PRE_COMMIT && event != XACT_EVENT_PRE_PREPARE)
		return;
	XactReadOnly = false; /* it was not when they were returned, and it ends here */
	PushActiveSnapshot(GetTransactionSnapshot());
	hash_seq_init(&scan, mine);
	while ((refusal = hash_seq_search(&scan)) != NULL)
		if (refusal->pending > 0)
			(void) count_in_table(&refusal->key, refusal->pending);
	PopActiveSnapshot();
}

/* Subtransaction callback: hands what was added up to the parent, or forgets it. */
static void
end_subtransaction(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	HASH_SEQ_STATUS scan;
	Refusal *refusal;

	if (refusals == NULL || (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB))
		return;
	hash_seq_init(&scan, refusals);
	while ((refusal = hash_seq_search(&scan)) != NULL)
	{
		if (refusal->subxact != mine)
			continue;
		if (event == SUBXACT_EVENT_COMMIT_SUB)
			refusal->subxact = parent;
		else
			(void) hash_search(refusals, &refusal->key, HASH_REMOVE, NULL);
	}
}

/* The entry of this transaction. */
static Refusal *
find_refusal(const RefusalKey *key, bool *found)
{
	static bool registered = false;

	if (!registered)
	{
		RegisterXactCallback(end_transaction, NULL);
		RegisterSubXactCallback(end_subtransaction, NULL);
		registered = true;
	}
	if (refusals == NULL)
	{
		HASHCTL control = {.keysize = sizeof(RefusalKey),
						   .entrysize = sizeof(Refusal),
						   .hcxt = TopTransactionContext};

		refusals =
			hash_create("tenantcall refusals", 16, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	return hash_search(refusals, key, HASH_ENTER, found);
}

/* Counts one; how many there are of it in this row, with those that are still to be written. */
static int64
count_one(const RefusalKey *key)
{
	bool found;
	Refusal *refusal = find_refusal(key, &found);

	if (found && refusal->subxact != GetCurrentSubTransactionId())
		return count_in_table(key, 1) + refusal->pending;
	if (found)
		return refusal->counted + ++refusal->pending;
	refusal->subxact = GetCurrentSubTransactionId();
	refusal->pending = 0;
	refusal->counted = count_in_table(key, 1);
	return refusal->counted;
}

/* Writes the refusal in full into the books of its company. */
static void
write_in_full(const TcDelivery *delivery, const TcPlacement *placement, const RefusalKey *key)
{
	TcPlacement noted = *placement;
	TcContext tenant = {.company_id = key->company_id};
	TcDelivery stripped;
	TcAct act;

	if (!tc_directory_fill(&tenant))
		return;
	if (noted.place.company_id != key->company_id)
		noted.place = (TcPlace){.company_id = key->company_id};
	if (tc_call_forgotten(delivery, tenant.company_id))
	{
		stripped = *delivery;
		stripped.message.facts.from_number = stripped.message.facts.to_number = NULL;
		delivery = &stripped;
	}
	tc_act_begin(&act, TC_AS_OWNER, &tenant);
	tc_calls_record(delivery, &noted, key->outcome, key->reason[0] == '\0' ? NULL : key->reason);
	tc_act_end(&act);
}

/* What a refusal is counted as; false if it is none, or nothing can be written. */
static bool
make_key(const TcDelivery *delivery, const TcPlacement *placement, const char *outcome,
		 const char *reason, RefusalKey *key)
{
	if (!is_refusal(outcome) || XactReadOnly || RecoveryInProgress())
		return false;
	memset(key, 0, sizeof(*key));
	key->company_id =
		delivery->verified_for != 0 ? delivery->verified_for : placement->place.company_id;
	key->role = GetOuterUserId();
	strlcpy(key->kind, delivery->kind, sizeof(key->kind));
	strlcpy(key->outcome, outcome, sizeof(key->outcome));
	if (reason != NULL)
		strlcpy(key->reason, reason, sizeof(key->reason));
	return true;
}

/* Counts what was returned, if that is a refusal. */
int64
tc_refusal_count(const TcDelivery *delivery, const TcPlacement *placement, const char *outcome,
				 const char *reason)
{
	RefusalKey key;

	return make_key(delivery, placement, outcome, reason, &key) ? count_one(&key) : 0;
}

/* Notes what was returned, if that is a refusal. */
void
tc_refusal_note(const TcDelivery *delivery, const TcPlacement *placement, const char *outcome,
				const char *reason)
{
	RefusalKey key;

	if (make_key(delivery, placement, outcome, reason, &key) && count_one(&key) <= DETAILED &&
		key.company_id != 0)
		write_in_full(delivery, placement, &key);
}
