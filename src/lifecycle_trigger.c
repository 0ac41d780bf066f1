/*
 * lifecycle_trigger.c
 *		Refuses rows that begin or move against their lifecycle, and has each move recorded.
 *
 * Why an AFTER trigger.  It sees what is stored, whatever other BEFORE triggers made of it, and it
 * sees what happened, not what was tried: for INSERT ... ON CONFLICT DO UPDATE a BEFORE INSERT
 * trigger would judge the proposed row as a beginning even where the row exists and the move is
 * legal.  The audit row, too, may then refer to the row.
 *
 * Why without a WHEN clause on the state.  PostgreSQL reads the clause anew in each statement,
 * which costs a single-row UPDATE more than the trigger does; comparing the states here is cheap.
 *
 * An UPDATE that moves a row to another partition fires AFTER DELETE there and AFTER INSERT here,
 * hence the trigger of a partitioned table fires for DELETE as well.  A row that was deleted so
 * says so in its header; the state that it left is kept (departed) until its arrival, which is the
 * row inserted into the same table by the same command.
 *
 * Look-ups that need the catalogs are done at the first row of a statement and kept with the
 * trigger's FmgrInfo, which lives as long as the statement.  Rules are looked up again within it
 * if they change.
 *
 * Replicated changes were judged where they were made: apply workers let them pass, since refusing
 * would only stop the subscription, and do not record them again.
 *
 * All state is local to the process; no locks.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/partition.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "replication/logicalworker.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "compat.h"
#include "errors.h"
#include "lifecycle.h"
#include "lifecycle_audit.h"

/* Arguments of the trigger. */
enum
{
	ARG_LIFECYCLE,
	ARG_COLUMN,
	ARG_AUDIT, /* qualified name, or empty */
	N_ARGS
};

/* What is known of a table during a statement. */
typedef struct Tracked
{
	const char *lifecycle_name;
	const TcLifecycle *lifecycle; /* valid while the generation is this: */
	uint64 generation;
	AttrNumber column;
	FmgrInfo *output; /* of an enum's labels; NULL for text */
	TcAudit *audit;	  /* NULL without */
	bool replicating; /* in an apply worker? */
} Tracked;

/* The state of a row. */
typedef struct StateText
{
	const char *name; /* NULL for SQL's NULL; not zero-terminated */
	int len;
} StateText;

/* The state that a row had in the partition that it is leaving. */
typedef struct Departed
{
	LocalTransactionId lxid; /* invalid if there is none */
	CommandId command;
	Oid table; /* topmost ancestor */
	bool isnull;
	int len;
	char name[TC_STATE_LEN];
} Departed;

static Departed departed = {.lxid = InvalidLocalTransactionId};

/* The column of that name; raises if there is none.  Not through the catalog cache: it is quicker.
 */
static Form_pg_attribute
find_column(const Tracked *tracked, Relation rel, const char *column)
{
	TupleDesc tupdesc = RelationGetDescr(rel);

	for (int i = 0; i < tupdesc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(tupdesc, i);

		if (!attribute->attisdropped && strcmp(NameStr(attribute->attname), column) == 0)
			return attribute;
	}
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("column \"%s\" of relation \"%s\" does not exist", column,
					RelationGetRelationName(rel)),
			 errdetail("It is to hold the state of lifecycle \"%s\".", tracked->lifecycle_name),
			 errhint("Call tenantcall.track_lifecycle() with the column's present name.")));
	return NULL;
}

/* Finds out how to read states of the column; raises if it cannot hold any. */
static void
prepare_column(Tracked *tracked, Relation rel, const char *column)
{
	Form_pg_attribute attribute = find_column(tracked, rel, column);
	Oid type = attribute->atttypid;
	Oid output;
	bool varlena;

	tracked->column = attribute->attnum;
	if (type != TEXTOID && type != VARCHAROID)
		type = getBaseType(type);
	if (type == TEXTOID || type == VARCHAROID)
		return;
	if (!type_is_enum(type))
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
						errmsg("column \"%s\" of relation \"%s\" cannot hold a state", column,
							   RelationGetRelationName(rel)),
						errdetail("It is of type %s.", format_type_be(type)),
						errhint("Use a column of type text, varchar or an enum.")));
	getTypeOutputInfo(type, &output, &varlena);
	tracked->output = palloc(sizeof(FmgrInfo));
	fmgr_info(output, tracked->output);
}

/* Everything there is to know of a table, in the current memory context; raises if unfit. */
static Tracked *
prepare_tracked(Relation rel, char *const args[N_ARGS])
{
	Tracked *tracked = palloc0(sizeof(Tracked));

	tracked->lifecycle_name = pstrdup(args[ARG_LIFECYCLE]);
	tracked->replicating = IsLogicalWorker();
	if (tracked->replicating)
		return tracked; /* nothing is judged, nor could a shard on its way be audited */
	tracked->lifecycle = tc_lifecycle_required(tracked->lifecycle_name);
	tracked->generation = tc_lifecycle_generation();
	prepare_column(tracked, rel, args[ARG_COLUMN]);
	if (args[ARG_AUDIT][0] != '\0')
		tracked->audit = tc_audit_prepare(rel, args[ARG_AUDIT]);
	return tracked;
}

/* The same for the trigger that is firing, out of memory from its second row on. */
static Tracked *
find_tracked(FunctionCallInfo fcinfo, const TriggerData *trigdata)
{
	Tracked *tracked = fcinfo->flinfo->fn_extra;
	MemoryContext caller;

	if (unlikely(tracked == NULL))
	{
		if (trigdata->tg_trigger->tgnargs != N_ARGS)
			ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
							errmsg("trigger \"%s\" must have %d arguments",
								   trigdata->tg_trigger->tgname, N_ARGS),
							errhint("Use tenantcall.track_lifecycle() to create it.")));
		caller = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
		tracked = prepare_tracked(trigdata->tg_relation, trigdata->tg_trigger->tgargs);
		MemoryContextSwitchTo(caller);
		fcinfo->flinfo->fn_extra = tracked;
	}
	else if (unlikely(tracked->generation != tc_lifecycle_generation()) && !tracked->replicating)
	{
		tracked->lifecycle = tc_lifecycle_required(tracked->lifecycle_name);
		tracked->generation = tc_lifecycle_generation();
	}
	return tracked;
}

/* The state of a row, in place where possible. */
static inline StateText
get_state(const Tracked *tracked, TupleTableSlot *slot)
{
	StateText state = {NULL, 0};
	bool isnull;
	Datum value = slot_getattr(slot, tracked->column, &isnull);

	if (isnull)
		return state;
	if (tracked->output != NULL)
	{
		state.name = OutputFunctionCall(tracked->output, value);
		state.len = strlen(state.name);
	}
	else
	{
		text *name = DatumGetTextPP(value);

		state.name = VARDATA_ANY(name);
		state.len = VARSIZE_ANY_EXHDR(name);
	}
	return state;
}

/* The table that users know: of a partition, the topmost of its ancestors. */
static Oid
topmost(Relation rel)
{
	if (!rel->rd_rel->relispartition)
		return RelationGetRelid(rel);
	return llast_oid(get_partition_ancestors(RelationGetRelid(rel)));
}

/* A state as an error shows it: a name that is too long for any state is cut off. */
static StateText
shown(StateText state)
{
	state.len = pg_mbcliplen(state.name, state.len, TC_STATE_LEN);
	return state;
}

/* Raises: a row cannot be without a state. */
static void
refuse_null(const Tracked *tracked, Relation rel)
{
	ereport(ERROR,
			(errcode(ERRCODE_NOT_NULL_VIOLATION),
			 errmsg("a row of relation \"%s\" must have a state", RelationGetRelationName(rel)),
			 errdetail("It follows lifecycle \"%s\".", tracked->lifecycle->name),
			 errhint("A row begins in one of these states: %s.",
					 tc_lifecycle_list(tracked->lifecycle,
									   tc_lifecycle_initial(tracked->lifecycle))),
			 errtablecol(rel, tracked->column)));
}

/* Raises: a row cannot begin in this state. */
static void
refuse_beginning(const Tracked *tracked, Relation rel, StateText to, bool known)
{
	to = shown(to);
	ereport(ERROR, (errcode(ERRCODE_TC_CONFLICT),
					errmsg("a row of relation \"%s\" cannot begin in state \"%.*s\"",
						   RelationGetRelationName(rel), to.len, to.name),
					known ? errdetail("State \"%.*s\" is not an initial state of lifecycle \"%s\".",
									  to.len, to.name, tracked->lifecycle->name)
						  : errdetail("Lifecycle \"%s\" has no state \"%.*s\".",
									  tracked->lifecycle->name, to.len, to.name),
					errhint("A row begins in one of these states: %s.",
							tc_lifecycle_list(tracked->lifecycle,
											  tc_lifecycle_initial(tracked->lifecycle))),
					errtablecol(rel, tracked->column)));
}

/* What a row in this state may do, as a hint. */
static char *
next_states_hint(const TcLifecycle *lifecycle, int from)
{
	TcStateSet next = tc_lifecycle_successors(lifecycle, from);

	if (from == TC_NO_STATE)
		return psprintf("Define the state with tenantcall.set_lifecycle_state('%s', ...).",
						lifecycle->name);
	if (next == 0)
		return psprintf("State \"%s\" is a terminal state.", lifecycle->states[from].name);
	return psprintf("From \"%s\" a row can move to: %s.", lifecycle->states[from].name,
					tc_lifecycle_list(lifecycle, next));
}

/* Raises: a row cannot move so. */
static void
refuse_move(const Tracked *tracked, Relation rel, StateText from, StateText to)
{
	const TcLifecycle *lifecycle = tracked->lifecycle;
	int from_state = tc_lifecycle_find(lifecycle, from.name, from.len);
	int to_state = tc_lifecycle_find(lifecycle, to.name, to.len);
	StateText unknown = shown(from_state == TC_NO_STATE ? from : to);

	from = shown(from);
	to = shown(to);
	ereport(ERROR, (errcode(ERRCODE_TC_CONFLICT),
					errmsg("a row of relation \"%s\" cannot move from state \"%.*s\" to \"%.*s\"",
						   RelationGetRelationName(rel), from.len, from.name, to.len, to.name),
					from_state == TC_NO_STATE || to_state == TC_NO_STATE
						? errdetail("Lifecycle \"%s\" has no state \"%.*s\".", lifecycle->name,
									unknown.len, unknown.name)
						: errdetail("Lifecycle \"%s\" has no transition from \"%.*s\" to \"%.*s\".",
									lifecycle->name, from.len, from.name, to.len, to.name),
					errhint("%s", next_states_hint(lifecycle, from_state)),
					errtablecol(rel, tracked->column)));
}

/* Are the states the same, byte by byte, or both missing? */
static inline bool
same_state(StateText a, StateText b)
{
	if (a.name == NULL || b.name == NULL)
		return a.name == b.name;
	return a.len == b.len && memcmp(a.name, b.name, a.len) == 0;
}

/* Judges a row that had the state from (NULL: it begins); raises if it may not have another now. */
static inline void
judge(const Tracked *tracked, Relation rel, StateText from, StateText to)
{
	const TcLifecycle *lifecycle = tracked->lifecycle;
	int to_state;

	if (unlikely(to.name == NULL))
		refuse_null(tracked, rel);
	if (from.name == NULL)
	{
		to_state = tc_lifecycle_find(lifecycle, to.name, to.len);
		if (unlikely(!tc_lifecycle_may_begin(lifecycle, to_state)))
			refuse_beginning(tracked, rel, to, to_state != TC_NO_STATE);
		return;
	}
	to_state = tc_lifecycle_find(lifecycle, to.name, to.len);
	if (unlikely(!tc_lifecycle_may_move(lifecycle,
										tc_lifecycle_find(lifecycle, from.name, from.len),
										to_state)))
		refuse_move(tracked, rel, from, to);
}

/* Has a move recorded. */
static void
record(const Tracked *tracked, TupleTableSlot *row, StateText from, StateText to)
{
	if (tracked->audit != NULL)
		tc_audit_write(tracked->audit, row,
					   from.name == NULL ? NULL : pnstrdup(from.name, from.len),
					   pnstrdup(to.name, to.len));
}

/* A row was deleted: keeps its state if it did not end but went to another partition. */
static void
note_departure(const Tracked *tracked, const TriggerData *trigdata)
{
	HeapTupleHeader header = trigdata->tg_trigtuple->t_data;
	StateText state;

	if (!HeapTupleHeaderIndicatesMovedPartitions(header))
		return;
	state = get_state(tracked, trigdata->tg_trigslot);
	/* a longer name is no state; what is left of it is none either */
	departed.len = Min(state.len, TC_STATE_LEN);
	departed.isnull = state.name == NULL;
	if (state.name != NULL)
		memcpy(departed.name, state.name, departed.len);
	departed.command = HeapTupleHeaderGetCmax(header);
	departed.table = topmost(trigdata->tg_relation);
	departed.lxid = TC_MY_LXID;
}

/* A row was inserted: sets the state it had in the partition that it came from; false if none. */
static bool
find_departure(const TriggerData *trigdata, StateText *from)
{
	HeapTupleHeader header = trigdata->tg_trigtuple->t_data;

	if (likely(departed.lxid != TC_MY_LXID) || !trigdata->tg_relation->rd_rel->relispartition)
		return false;
	if (departed.table != topmost(trigdata->tg_relation) ||
		departed.command != HeapTupleHeaderGetCmin(header))
		return false;
	departed.lxid = InvalidLocalTransactionId;
	if (!departed.isnull)
		*from = (StateText){departed.name, departed.len};
	return true;
}

PG_FUNCTION_INFO_V1(tc_lifecycle_trigger);
PG_FUNCTION_INFO_V1(tc_lifecycle_verify);
PG_FUNCTION_INFO_V1(tc_lifecycle_trigger_args);

/* lifecycle_trigger() -> trigger */
Datum
tc_lifecycle_trigger(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	StateText from = {NULL, 0};
	StateText to;
	TupleTableSlot *row;
	Tracked *tracked;
	bool existed = true;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(trigdata->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigdata->tg_event))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("tenantcall.lifecycle_trigger() must be called by an AFTER ROW "
							   "trigger"),
						errhint("Use tenantcall.track_lifecycle() to create it.")));
	tracked = find_tracked(fcinfo, trigdata);
	if (tracked->replicating)
		return PointerGetDatum(NULL);
	if (TRIGGER_FIRED_BY_DELETE(trigdata->tg_event))
	{
		note_departure(tracked, trigdata);
		return PointerGetDatum(NULL);
	}
	row = trigdata->tg_trigslot;
	if (TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event))
	{
		from = get_state(tracked, trigdata->tg_trigslot);
		row = trigdata->tg_newslot;
	}
	else
		existed = find_departure(trigdata, &from);
	to = get_state(tracked, row);
	if (existed && same_state(from, to))
		return PointerGetDatum(NULL);
	judge(tracked, trigdata->tg_relation, from, to);
	record(tracked, row, from, to);
	return PointerGetDatum(NULL);
}

/*
 * lifecycle_verify(rel regclass, state_column name, lifecycle text, audit text) -> void
 *
 * Raises, as the trigger would, if the table cannot be tracked so.
 */
Datum
tc_lifecycle_verify(PG_FUNCTION_ARGS)
{
	Relation rel = table_open(PG_GETARG_OID(0), AccessShareLock);
	char *args[N_ARGS];

	args[ARG_COLUMN] = NameStr(*PG_GETARG_NAME(1));
	args[ARG_LIFECYCLE] = text_to_cstring(PG_GETARG_TEXT_PP(2));
	args[ARG_AUDIT] = text_to_cstring(PG_GETARG_TEXT_PP(3));
	(void) prepare_tracked(rel, args);
	table_close(rel, AccessShareLock);
	PG_RETURN_VOID();
}

/* lifecycle_trigger_args(tgargs bytea) -> text[]: a trigger's arguments, which end in zeros */
Datum
tc_lifecycle_trigger_args(PG_FUNCTION_ARGS)
{
	bytea *args = PG_GETARG_BYTEA_PP(0);
	const char *at = VARDATA_ANY(args);
	const char *end = at + VARSIZE_ANY_EXHDR(args);
	ArrayBuildState *result = initArrayResult(TEXTOID, CurrentMemoryContext, false);

	while (at < end)
	{
		int len = strnlen(at, end - at);

		result = accumArrayResult(result, PointerGetDatum(cstring_to_text_with_len(at, len)), false,
								  TEXTOID, CurrentMemoryContext);
		at += len + 1;
	}
	PG_RETURN_DATUM(makeArrayResult(result, CurrentMemoryContext));
}
