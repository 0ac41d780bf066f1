/*
 * time_zone.c
 *		Time zones of companies and branches are names of the IANA data base.
 *
 * PostgreSQL takes POSIX's own notation as well, in which "UTC+3" lies three hours west of
 * Greenwich, "Foo5" is a zone, and other programs and calendars see something else or nothing.
 * All such texts hold a digit: only names with one have to be looked up in pg_timezone_names, which
 * is slow, since it reads the whole data base.
 *
 * No state, no locks.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "act.h"
#include "time_zone.h"

PG_FUNCTION_INFO_V1(tc_time_zone_trigger);

static TcStatement find_name = {
	.sql = "SELECT 1 FROM pg_catalog.pg_timezone_names AS z WHERE z.name OPERATOR(pg_catalog.=) $1",
	.nparams = 1,
	.types = {TEXTOID},
};

/* Is it listed? */
static bool
is_listed(const char *name)
{
	TcParams params = {0};
	bool found;

	tc_param_text(&params, name);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	found = tc_execute(&find_name, &params) > 0;
	SPI_finish();
	return found;
}

/* Raises unless it is a name of pg_timezone_names. */
void
tc_time_zone_check(const char *name)
{
	const pg_tz *zone = pg_tzset(name);
	const char *canonical = zone == NULL ? NULL : pg_get_timezone_name((pg_tz *) zone);

	if (zone == NULL || (strpbrk(name, "0123456789") != NULL && !is_listed(name)))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("time zone \"%s\" not recognized", name),
						errdetail("Time zones are named as in the IANA data base; abbreviations, "
								  "offsets and POSIX's notation are not taken."),
						errhint("Use a name of pg_timezone_names, such as Europe/Berlin.")));
	if (strcmp(canonical, name) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("time zone \"%s\" not recognized", name),
				 errdetail("Upper and lower case count."), errhint("Write it as %s.", canonical)));
}

/* A row's time zone; NULL if it has none. */
static char *
zone_of(HeapTuple row, TupleDesc desc)
{
	int column = SPI_fnumber(desc, "time_zone");

	return column <= 0 ? NULL : SPI_getvalue(row, desc, column);
}

/* Row trigger BEFORE INSERT OR UPDATE */
Datum
tc_time_zone_trigger(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	HeapTuple row;
	TupleDesc desc;
	char *zone;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("function was not called by the trigger manager")));
	row = TRIGGER_FIRED_BY_UPDATE(data->tg_event) ? data->tg_newtuple : data->tg_trigtuple;
	desc = RelationGetDescr(data->tg_relation);
	zone = zone_of(row, desc);
	if (zone != NULL && TRIGGER_FIRED_BY_UPDATE(data->tg_event))
	{
		char *before = zone_of(data->tg_trigtuple, desc);

		if (before != NULL && strcmp(before, zone) == 0)
			zone = NULL;
	}
	if (zone != NULL)
		tc_time_zone_check(zone);
	PG_RETURN_POINTER(row);
}
