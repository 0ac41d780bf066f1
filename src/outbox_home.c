/*
 * outbox_home.c
 *		Orders that came with a copy of the database.
 *
 *		tenantcall.outbox_home (where the worker ran) --differs--> queued orders: ask first
 *
 * Whoever had the original may have sent them since: the primary of a standby that was promoted,
 * the server that a backup or a dump is of.  So where the worker begins in another place than the
 * one noted, the calendar is asked about every queued order before it is sent.  create_tables()
 * makes the first note; it is not dumped.
 *
 * Once in the life of a worker, before it claims anything.  Locks: rows of outbox_due.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"

#include "act.h"
#include "outbox_home.h"
#include "place.h"

static TcStatement move_in = {
	.sql = "WITH last AS (SELECT h.place FROM tenantcall.outbox_home AS h), "
		   "noted AS (INSERT INTO tenantcall.outbox_home AS h (place) VALUES ($1) "
		   "ON CONFLICT (singleton) DO UPDATE SET place = excluded.place, since = now() "
		   "WHERE h.place <> excluded.place) "
		   "UPDATE tenantcall.outbox_due AS d SET state = 'reconcile' WHERE d.state = 'queued' "
		   "AND NOT EXISTS (SELECT FROM last AS l WHERE l.place = $1)",
	.nparams = 1,
	.types = {INT8OID},
};

/* Sees to it that orders that came with a copy are asked about first. */
void
tc_outbox_move_in(void)
{
	TcParams params = {0};
	uint64 inherited;
	TcAct act;

	tc_param_int8(&params, (int64) tc_place_of_database());
	tc_act_begin(&act, TC_AS_SYSTEM, NULL);
	inherited = tc_execute(&move_in, &params);
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
