/*
 * lifecycle.c
 *		Lifecycles: their rules in memory, and what is noted with each move.
 *
 * The rules are rows: shipped ones in lifecycle_state_defaults and lifecycle_transition_defaults,
 * changes in lifecycle_states and lifecycle_transitions, which win.  Each backend keeps all of
 * them, compiled into TcLifecycle, and loads them again when one of the four tables changed
 * (inval.c).  A row trigger needs them, so they are read by scanning the tables, not through SPI,
 * and not by the transaction's snapshot, which may be older than the message of the change was.
 *
 *		four tables ──scan──▶ rules (hash: name → TcLifecycle) ──▶ trigger, can_transition()
 *		      └──invalidation──▶ generation++
 *
 * All state is local to the process; no locks beyond AccessShareLock on the tables while loading.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "args.h"
#include "compat.h"
#include "errors.h"
#include "inval.h"
#include "lifecycle.h"
#include "node.h"

/* The tables, in the order in which they are read: overriding states first, so that they win. */
typedef enum TcRuleTable
{
	RULE_STATES,
	RULE_STATE_DEFAULTS,
	RULE_TRANSITION_DEFAULTS,
	RULE_TRANSITIONS
} TcRuleTable;

#define N_RULE_TABLES (RULE_TRANSITIONS + 1)

static const char *const rule_tables[] = {
	[RULE_STATES] = "lifecycle_states",
	[RULE_STATE_DEFAULTS] = "lifecycle_state_defaults",
	[RULE_TRANSITION_DEFAULTS] = "lifecycle_transition_defaults",
	[RULE_TRANSITIONS] = "lifecycle_transitions",
};

StaticAssertDecl(lengthof(rule_tables) == N_RULE_TABLES, "a name for each table");

/* Columns, from 1, of the tables of states and of transitions. */
enum
{
	STATE_LIFECYCLE = 1,
	STATE_NAME,
	STATE_RANK,
	STATE_INITIAL,
	STATE_TERMINAL,
	STATE_ENABLED /* lifecycle_states only */
};

enum
{
	TRANSITION_LIFECYCLE = 1,
	TRANSITION_FROM,
	TRANSITION_TO,
	TRANSITION_ENABLED /* lifecycle_transitions only */
};

/* A row of a table of states. */
typedef struct StateRow
{
	char lifecycle[TC_STATE_LEN];
	TcState state;
	bool enabled;
} StateRow;

/* What loading works on. */
typedef struct Loader
{
	HTAB *rules;
	List *states; /* of StateRow, overriding ones first */
	TcRuleTable table;
	TupleDesc tupdesc;
} Loader;

static Oid watched[N_RULE_TABLES]; /* Oids of the tables when they were last read */
static uint64 generation = 1;	   /* counts changes */
static uint64 loaded = 0;		   /* generation of what is in rules */
static HTAB *rules = NULL;
static MemoryContext rules_context = NULL;

static char *reason_text = NULL; /* setting tenantcall.reason */
static char *event_text = NULL;	 /* setting tenantcall.event */

/* Relcache callback: were these our rules?  (InvalidOid means: anything may have changed.) */
static void
relation_changed(Oid relid)
{
	bool ours = !OidIsValid(relid);

	for (int i = 0; i < N_RULE_TABLES && !ours; i++)
		ours = watched[i] == relid;
	if (ours)
		generation++;
}

/* Defines the settings and watches the tables. */
void
tc_lifecycle_init(void)
{
	DefineCustomStringVariable("tenantcall.reason",
							   "Why rows change state: noted in the audit trail.", NULL,
							   &reason_text, "", PGC_USERSET, GUC_NOT_IN_SAMPLE, NULL, NULL, NULL);
	DefineCustomStringVariable("tenantcall.event",
							   "Event that changes the state of rows: noted in the audit trail.",
							   NULL, &event_text, "", PGC_USERSET, GUC_NOT_IN_SAMPLE, NULL, NULL,
							   NULL);
	tc_on_relation_change(relation_changed);
}

/* Copies a text column of bounded length; returns its length. */
static int
copy_name(char target[TC_STATE_LEN], HeapTuple tuple, int column, TupleDesc tupdesc)
{
	bool isnull;
	Datum value = heap_getattr(tuple, column, tupdesc, &isnull);
	text *name;
	int len;

	if (isnull)
		elog(ERROR, "null in column %d of a lifecycle table", column);
	name = DatumGetTextPP(value);
	len = VARSIZE_ANY_EXHDR(name);
	if (len >= TC_STATE_LEN)
		elog(ERROR, "name of %d bytes in a lifecycle table", len);
	memcpy(target, VARDATA_ANY(name), len);
	target[len] = '\0';
	return len;
}

/* A boolean column. */
static bool
get_flag(HeapTuple tuple, int column, TupleDesc tupdesc)
{
	bool isnull;
	Datum value = heap_getattr(tuple, column, tupdesc, &isnull);

	return !isnull && DatumGetBool(value);
}

/* Is this state of this lifecycle listed already? */
static bool
state_listed(const Loader *loader, const StateRow *row)
{
	ListCell *cell;

	foreach(cell, loader->states)
	{
		StateRow *other = lfirst(cell);

		if (strcmp(other->lifecycle, row->lifecycle) == 0 &&
			strcmp(other->state.name, row->state.name) == 0)
			return true;
	}
	return false;
}

/* Lists a state, unless an overriding one is there. */
static void
take_state(Loader *loader, HeapTuple tuple)
{
	StateRow *row = palloc0(sizeof(StateRow));
	TupleDesc tupdesc = loader->tupdesc;
	bool isnull;

	copy_name(row->lifecycle, tuple, STATE_LIFECYCLE, tupdesc);
	row->state.len = copy_name(row->state.name, tuple, STATE_NAME, tupdesc);
	row->state.rank = DatumGetInt32(heap_getattr(tuple, STATE_RANK, tupdesc, &isnull));
	row->state.initial = get_flag(tuple, STATE_INITIAL, tupdesc);
	row->state.terminal = get_flag(tuple, STATE_TERMINAL, tupdesc);
	row->enabled = loader->table == RULE_STATE_DEFAULTS || get_flag(tuple, STATE_ENABLED, tupdesc);
	if (!state_listed(loader, row))
		loader->states = lappend(loader->states, row);
}

/* Puts the listed states into their lifecycles. */
static void
compile_states(Loader *loader)
{
	ListCell *cell;

	foreach(cell, loader->states)
	{
		StateRow *row = lfirst(cell);
		TcLifecycle *lifecycle;
		bool found;

		if (!row->enabled)
			continue;
		lifecycle = hash_search(loader->rules, row->lifecycle, HASH_ENTER, &found);
		if (!found)
		{
			memset(lifecycle, 0, sizeof(TcLifecycle));
			strlcpy(lifecycle->name, row->lifecycle, TC_STATE_LEN);
		}
		if (!tc_lifecycle_add_state(lifecycle, &row->state))
			ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
							errmsg("lifecycle \"%s\" has more than %d states", lifecycle->name,
								   TC_MAX_STATES),
							errhint("Remove states with tenantcall.drop_lifecycle_state().")));
	}
}

/* Permits or forbids a transition between known states. */
static void
take_transition(Loader *loader, HeapTuple tuple)
{
	TupleDesc tupdesc = loader->tupdesc;
	char name[TC_STATE_LEN], from[TC_STATE_LEN], to[TC_STATE_LEN];
	TcLifecycle *lifecycle;
	int from_len, to_len;

	copy_name(name, tuple, TRANSITION_LIFECYCLE, tupdesc);
	from_len = copy_name(from, tuple, TRANSITION_FROM, tupdesc);
	to_len = copy_name(to, tuple, TRANSITION_TO, tupdesc);
	lifecycle = hash_search(loader->rules, name, HASH_FIND, NULL);
	if (lifecycle == NULL)
		return;
	tc_lifecycle_permit(lifecycle, tc_lifecycle_find(lifecycle, from, from_len),
						tc_lifecycle_find(lifecycle, to, to_len),
						loader->table == RULE_TRANSITION_DEFAULTS ||
							get_flag(tuple, TRANSITION_ENABLED, tupdesc));
}

/* Reads one table. */
static void
scan_rules(Loader *loader, TcRuleTable table, Snapshot snapshot)
{
	Relation rel = table_open(watched[table], AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, snapshot, 0, NULL);
	HeapTuple tuple;

	loader->table = table;
	loader->tupdesc = RelationGetDescr(rel);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		if (table == RULE_STATES || table == RULE_STATE_DEFAULTS)
			take_state(loader, tuple);
		else
			take_transition(loader, tuple);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

/* Notes which tables hold the rules in this database. */
static void
find_tables(void)
{
	Oid schema = get_namespace_oid("tenantcall", true);

	for (int i = 0; i < N_RULE_TABLES; i++)
	{
		watched[i] = OidIsValid(schema) ? get_relname_relid(rule_tables[i], schema) : InvalidOid;
		watched[i] = tc_node_copy(watched[i]);
		if (!OidIsValid(watched[i]))
			ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
							errmsg("table tenantcall.%s does not exist", rule_tables[i]),
							errhint("Run CREATE EXTENSION tenantcall, or ALTER EXTENSION "
									"tenantcall UPDATE.")));
	}
}

/* An empty hash table of lifecycles in the current memory context. */
static HTAB *
create_rules(void)
{
	HASHCTL control = {.keysize = TC_STATE_LEN, .entrysize = sizeof(TcLifecycle)};

	StaticAssertStmt(offsetof(TcLifecycle, name) == 0, "the name is the key");
	control.hcxt = CurrentMemoryContext;
	return hash_create("tenantcall lifecycles", 4, &control,
					   HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
}

/*
 * Loads all rules.  An error in the middle leaves the old ones, out of date: the next look-up
 * tries again.
 */
static void
load_rules(void)
{
	uint64 now = generation;
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "tenantcall lifecycles", ALLOCSET_SMALL_SIZES);
	MemoryContext work = AllocSetContextCreate(context, "loading", ALLOCSET_SMALL_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	Loader loader = {.rules = create_rules()};
	Snapshot snapshot;

	MemoryContextSwitchTo(work);
	find_tables();
	/* a new one each time, unlike the transaction's, and allowed in parallel mode */
	snapshot = RegisterSnapshot(GetCatalogSnapshot(watched[0]));
	for (int table = 0; table < N_RULE_TABLES; table++)
	{
		scan_rules(&loader, table, snapshot);
		if (table == RULE_STATE_DEFAULTS)
			compile_states(&loader);
	}
	UnregisterSnapshot(snapshot);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(work);
	if (rules_context != NULL)
		MemoryContextDelete(rules_context);
	MemoryContextSetParent(context, CacheMemoryContext);
	rules_context = context;
	rules = loader.rules;
	loaded = now;
}

/* The rules of a lifecycle as committed just now, or NULL. */
const TcLifecycle *
tc_lifecycle_lookup(const char *name)
{
	char key[TC_STATE_LEN] = {0};

	AcceptInvalidationMessages();
	while (unlikely(loaded != generation))
		load_rules();
	if (strlen(name) >= TC_STATE_LEN)
		return NULL;
	strlcpy(key, name, TC_STATE_LEN);
	return hash_search(rules, key, HASH_FIND, NULL);
}

/* The rules of a lifecycle; raises if there are none. */
const TcLifecycle *
tc_lifecycle_required(const char *name)
{
	const TcLifecycle *lifecycle = tc_lifecycle_lookup(name);

	if (lifecycle == NULL)
		ereport(ERROR, (errcode(ERRCODE_TC_UNKNOWN), errmsg("unknown lifecycle: \"%s\"", name),
						errdetail("No state of such a lifecycle is defined."),
						errhint("See view tenantcall.lifecycles, or define states with "
								"tenantcall.set_lifecycle_state().")));
	return lifecycle;
}

/* Changes whenever a rule may have changed. */
uint64
tc_lifecycle_generation(void)
{
	return generation;
}

/* States of a set, in order of rank; palloc'd. */
char *
tc_lifecycle_list(const TcLifecycle *lifecycle, TcStateSet states)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < lifecycle->n_states; i++)
		if ((states >> i) & 1)
			appendStringInfo(&list, "%s%s", list.len > 0 ? ", " : "", lifecycle->states[i].name);
	return list.data;
}

/* Sets a text setting for the caller's nest level. */
static void
set_note(const char *setting, const char *value)
{
	(void) set_config_option(setting, value == NULL ? "" : value, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

/* Notes why the following moves happen. */
void
tc_lifecycle_set_reason(const char *reason)
{
	set_note("tenantcall.reason", reason);
}

/* Notes which event brings the following moves. */
void
tc_lifecycle_set_event(const char *event)
{
	set_note("tenantcall.event", event);
}

/* The reason noted now, or NULL. */
const char *
tc_lifecycle_reason(void)
{
	return reason_text == NULL || reason_text[0] == '\0' ? NULL : reason_text;
}

/* The event noted now, or NULL. */
const char *
tc_lifecycle_event(void)
{
	return event_text == NULL || event_text[0] == '\0' ? NULL : event_text;
}

/* Position of a state given as an argument; raises if the lifecycle has none such. */
static int
required_state(FunctionCallInfo fcinfo, int arg, const char *name, const TcLifecycle *lifecycle)
{
	char *state = tc_arg_text(fcinfo, arg, name);
	int found = tc_lifecycle_find(lifecycle, state, strlen(state));

	if (found == TC_NO_STATE)
		ereport(ERROR, (errcode(ERRCODE_TC_UNKNOWN),
						errmsg("unknown state of lifecycle \"%s\": \"%s\"", lifecycle->name, state),
						errdetail("The lifecycle has these states: %s.",
								  tc_lifecycle_list(lifecycle, ~(TcStateSet) 0)),
						errhint("See view tenantcall.lifecycles.")));
	return found;
}

PG_FUNCTION_INFO_V1(tc_can_transition);
PG_FUNCTION_INFO_V1(tc_next_states);

/* can_transition(lifecycle text, from_state text, to_state text) -> boolean */
Datum
tc_can_transition(PG_FUNCTION_ARGS)
{
	const TcLifecycle *lifecycle = tc_lifecycle_required(tc_arg_text(fcinfo, 0, "lifecycle"));
	int from = required_state(fcinfo, 1, "from_state", lifecycle);
	int to = required_state(fcinfo, 2, "to_state", lifecycle);

	PG_RETURN_BOOL(tc_lifecycle_may_move(lifecycle, from, to));
}

/* next_states(lifecycle text, state text) -> setof text, in order of rank */
Datum
tc_next_states(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	const TcLifecycle *lifecycle = tc_lifecycle_required(tc_arg_text(fcinfo, 0, "lifecycle"));
	TcStateSet next =
		tc_lifecycle_successors(lifecycle, required_state(fcinfo, 1, "state", lifecycle));

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	for (int i = 0; i < lifecycle->n_states; i++)
	{
		Datum value = CStringGetTextDatum(lifecycle->states[i].name);
		bool isnull = false;

		if ((next >> i) & 1)
			tuplestore_putvalues(result->setResult, result->setDesc, &value, &isnull);
	}
	return (Datum) 0;
}
