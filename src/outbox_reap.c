/*
 * outbox_reap.c
 *		Removes from the list of what is due whatever has no unfinished order any more.
 *
 * Order and due row are written and finished together; what parts them is a restored dump, or a
 * hand in the tables.  The worker drops such a row when it comes to it, but not one that is given
 * up or waits for another, which never becomes due.
 *
 * An order is there whenever its due row is seen, and one that is finished stays so: no lock is
 * needed to be sure of an orphan.  Locks: the deleted rows of outbox_due.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"

#include "act.h"
#include "companies.h"

PG_FUNCTION_INFO_V1(tc_reap_outbox);

static TcStatement list_due = {
	.sql = "SELECT array_agg(d.outbox_id) FROM @@.outbox_due AS d WHERE d.company_id = $1",
	.nparams = 1,
	.types = {INT8OID},
};
static TcStatement find_orphans = {
	.sql = "SELECT array_agg(g.id) FROM (SELECT u.id FROM unnest($2) AS u (id) WHERE NOT EXISTS "
		   "(SELECT FROM @.outbox AS o WHERE o.company_id = $1 AND o.outbox_id = u.id "
		   "AND o.finished_at IS NULL) LIMIT $3) AS g",
	.nparams = 3,
	.types = {INT8OID, INT8ARRAYOID, INT8OID},
};
static TcStatement delete_orphans = {
	.sql = "DELETE FROM @@.outbox_due WHERE company_id = $1 AND outbox_id = ANY ($2)",
	.nparams = 2,
	.types = {INT8OID, INT8ARRAYOID},
};

/* Removes a company's orphans, at most so many; how many. */
static int64
reap(const TcContext *company, int64 most)
{
	TcParams params = {0};
	int64 deleted = 0;
	bool isnull;
	TcAct act;
	TcAct inner;

	tc_param_int8(&params, company->company_id);
	tc_act_begin(&act, TC_AS_SYSTEM, company);
	tc_execute(&list_due, &params);
	tc_param_datum(&params, tc_result_datum(1, &isnull), false);
	if (!isnull)
	{
		tc_param_int8(&params, most);
		tc_act_begin(&inner, TC_AS_OWNER, NULL);
		tc_execute(&find_orphans, &params);
		params.values[1] = tc_result_datum(1, &isnull);
		if (!isnull)
			params.values[1] = SPI_datumTransfer(params.values[1], false, -1);
		tc_act_end(&inner);
		params.count = 2;
	}
	if (!isnull)
		deleted = (int64) tc_execute(&delete_orphans, &params);
	tc_act_end(&act);
	return deleted;
}

/* reap_outbox(max_rows integer) -> bigint */
Datum
tc_reap_outbox(PG_FUNCTION_ARGS)
{
	int64 deleted = 0;
	TcContext *companies;
	int count;

	if (PG_ARGISNULL(0) || PG_GETARG_INT32(0) <= 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"max_rows\" must be positive")));
	companies = tc_companies(&count);
	for (int i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		deleted += reap(&companies[i], PG_GETARG_INT32(0));
	}
	PG_RETURN_INT64(deleted);
}
