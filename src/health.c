/*
 * health.c
 *		health(): what is wrong, since when, and what to do; report(): the same to look at.
 *
 *		health() --as the extension's owner--> health_findings() (SQL): one function per matter
 *
 * What there is to look at lies in tables that nobody else may read and in shared memory.  So the
 * checks, which are SQL, run as the extension's owner; tables of tenants they reach through the
 * same functions as everybody else, which act for one company after the other (act.h).
 *
 * report() is made likewise, by report_page().
 *
 * Where the library is not preloaded, or of another version than the SQL objects, that is the one
 * finding: nothing else can be known then.  No state, no locks.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "act.h"
#include "http.h"
#include "ready.h"

PG_FUNCTION_INFO_V1(tc_health);
PG_FUNCTION_INFO_V1(tc_report);
PG_FUNCTION_INFO_V1(tc_worker_state);

#define N_COLUMNS 4

static TcStatement find = {
	.sql = "SELECT f.severity, f.what, f.since, f.remedy FROM tenantcall.health_findings() AS f",
};

static TcStatement write_page = {
	.sql = "SELECT tenantcall.report_page()",
};

/* Puts out the one finding that the library is not as it must be. */
static void
put_unready(ReturnSetInfo *info, const TcUnready *why)
{
	Datum values[N_COLUMNS] = {
		CStringGetTextDatum("error"),
		CStringGetTextDatum(why->message),
		(Datum) 0,
		CStringGetTextDatum(why->hint),
	};
	bool nulls[N_COLUMNS] = {false, false, true, false};

	tuplestore_putvalues(info->setResult, info->setDesc, values, nulls);
}

/* health() -> rows */
Datum
tc_health(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *info = (ReturnSetInfo *) fcinfo->resultinfo;
	TcUnready why;
	uint64 count;
	TcAct act;

	InitMaterializedSRF(fcinfo, 0);
	if (tc_unready(&why))
	{
		put_unready(info, &why);
		return (Datum) 0;
	}
	tc_act_begin(&act, TC_AS_SYSTEM, NULL);
	count = tc_execute(&find, NULL);
	for (uint64 i = 0; i < count; i++)
		tuplestore_puttuple(info->setResult, SPI_tuptable->vals[i]);
	tc_act_end(&act);
	return (Datum) 0;
}

/* report() -> text */
Datum
tc_report(PG_FUNCTION_ARGS)
{
	MemoryContext caller = CurrentMemoryContext;
	char *page;
	TcAct act;

	tc_act_begin(&act, TC_AS_SYSTEM, NULL);
	(void) tc_execute(&write_page, NULL);
	page = MemoryContextStrdup(caller, tc_result_text(1));
	tc_act_end(&act);
	PG_RETURN_TEXT_P(cstring_to_text(page));
}

/* worker_state() -> text: unwanted, missing or running */
Datum
tc_worker_state(PG_FUNCTION_ARGS)
{
	const char *state = "unwanted";

	tc_require_ready();
	if (tc_http_worker_alive())
		state = "running";
	else if (tc_http_worker_expected())
		state = "missing";
	PG_RETURN_TEXT_P(cstring_to_text(state));
}
