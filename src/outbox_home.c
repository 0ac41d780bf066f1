/*
 * outbox_home.c
 *		Orders that came with a copy of the database.
 *
 *		tenantcall.outbox_home (where the worker ran) --differs--> queued orders: ask first
 *
 * Whoever had the original may have sent them since: the primary of a standby that was promoted,
 * the server that a backup or a dump is of.  So where the worker begins in another place than the
 * one noted, the calendar is asked about every queued order before it is sent.  create_tables()
 * makes the first note; it is not dumped.  On a Citus cluster each node has a note of its own, and
 * answers for the orders of its shards.
 *
 * Once in the life of a worker, and again when the tables are others, before it claims anything.
 * Locks: rows of outbox_due.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"

#include "act.h"
#include "node_groups.h"
#include "outbox_home.h"
#include "place.h"

static TcStatement note_place = {
	.sql = "INSERT INTO tenantcall.outbox_home AS h (place) VALUES ($1) "
		   "ON CONFLICT (singleton) DO UPDATE SET place = excluded.place, since = now() "
		   "WHERE h.place <> excluded.place RETURNING 1",
	.nparams = 1,
	.types = {INT8OID},
};
static TcStatement doubt_orders = {
	.sql = "UPDATE @@.outbox_due AS d SET state = 'reconcile' WHERE d.state = 'queued'",
};

/* tc_node_each_group() callback: has the calendar asked about what is queued. */
static bool
doubt(void *arg)
{
	uint64 *inherited = arg;

	*inherited += tc_execute(&doubt_orders, NULL);
	return true;
}

/* Sees to it that orders that came with a copy are asked about first. */
void
tc_outbox_move_in(void)
{
	TcParams params = {0};
	uint64 inherited = 0;
	TcAct act;

	tc_param_int8(&params, (int64) tc_place_of_database());
	tc_act_begin(&act, TC_AS_SYSTEM, NULL);
	if (tc_execute(&note_place, &params) > 0 && !tc_node_each_group(doubt, &inherited, true))
		ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE),
						errmsg("orders that came with this copy of the database cannot be looked "
							   "through: shards are being moved")));
	tc_act_end(&act);
	if (inherited > 0)
		ereport(LOG, (errmsg("calendars are asked about " UINT64_FORMAT
							 " orders that came with this copy of the database",
							 inherited)));
}

PG_FUNCTION_INFO_V1(tc_outbox_place);

/* outbox_place() -> bigint: where this database is */
Datum
tc_outbox_place(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64((int64) tc_place_of_database());
}
