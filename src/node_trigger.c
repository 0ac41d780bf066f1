/*
 * node_trigger.c
 *		Numbers for the rows of shards.
 *
 * Citus leaves the defaults of shards without sequences: it fills them in for statements that name
 * the whole table.  Rows that the library writes into a shard get theirs here, from the same
 * sequence, of which each node has a range of its own.  No locks.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "commands/sequence.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/regproc.h"
#include "utils/rel.h"
#include "utils/varlena.h"

#include "compat.h"

PG_FUNCTION_INFO_V1(tc_fill_id_trigger);

/* fill_id_trigger(column, sequence): BEFORE INSERT of rows that have none */
Datum
tc_fill_id_trigger(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	Datum value;
	bool isnull = false;
	RangeVar *name;
	int column;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(data->tg_event) ||
		!TRIGGER_FIRED_BY_INSERT(data->tg_event) || data->tg_trigger->tgnargs != 2)
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("fill_id_trigger() must be called by a BEFORE INSERT trigger with a "
							   "column and a sequence")));
	column = SPI_fnumber(RelationGetDescr(data->tg_relation), data->tg_trigger->tgargs[0]);
	if (column <= 0)
		elog(ERROR, "column \"%s\" does not exist", data->tg_trigger->tgargs[0]);
	name = makeRangeVarFromNameList(tc_qualified_name_list(data->tg_trigger->tgargs[1]));
	value = Int64GetDatum(nextval_internal(RangeVarGetRelid(name, NoLock, false), false));
	return PointerGetDatum(heap_modify_tuple_by_cols(data->tg_trigtuple,
													 RelationGetDescr(data->tg_relation), 1,
													 &column, &value, &isnull));
}
