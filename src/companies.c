/*
 * companies.c
 *		The companies that a report, or upkeep, is for.
 *
 * What concerns many companies is done for one after the other, each under its own tenant (act.h).
 * This is the list to go through.  It is read below row security, as of now.
 *
 * No state, no locks that stay.
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"

#include "args.h"
#include "companies.h"
#include "context.h"
#include "directory.h"
#include "errors.h"
#include "node.h"
#include "telephony.h"

/* A list that grows. */
typedef struct List64
{
	int64 *ids;
	int count;
	int room;
} List64;

/* Takes the id of a row of companies. */
static bool
visit_company(HeapTuple tuple, TupleDesc desc, void *arg)
{
	List64 *list = arg;

	if (list->count == list->room)
	{
		list->room *= 2;
		list->ids = repalloc(list->ids, list->room * sizeof(int64));
	}
	list->ids[list->count++] = tc_row_int8(tuple, desc, "company_id");
	return true;
}

/* Orders ids. */
static int
compare_ids(const void *a, const void *b)
{
	int64 left = *(const int64 *) a;
	int64 right = *(const int64 *) b;

	return (left > right) - (left < right);
}

/* May the caller enter any company, and has not entered one? */
bool
tc_may_enter_any(void)
{
	static const Oid enter_types[2] = {INT8OID, INT8OID};

	return tc_context_current() == NULL && tc_may_call("enter", 2, enter_types);
}

/* Raises unless the caller may enter any company. */
static void
require_any(void)
{
	if (!tc_may_enter_any())
		ereport(ERROR, (errcode(ERRCODE_TC_WRONG_TENANT), errmsg("no tenant has been entered"),
						errhint("Enter a company first, in the same transaction.")));
}

/* May the caller see statistics of all companies? */
bool
tc_sees_all(void)
{
	static const Oid admin_types[3] = {INT8OID, TEXTOID, TEXTOID};

	return has_privs_of_role(GetUserId(), ROLE_PG_MONITOR) ||
		   tc_may_call("set_company_status", 3, admin_types);
}

/* The companies with rows in a table, each once, in order of their ids. */
static TcContext *
list_companies(const char *table, bool for_statistics, int *count)
{
	const TcContext *entered = tc_context_current();
	Oid relid = tc_telephony_table(tc_node_distributed() ? "companies" : table);
	List64 list = {.room = 64};
	TcContext *companies;

	if (entered != NULL)
	{
		*count = 1;
		companies = palloc(sizeof(TcContext));
		*companies = *entered;
		return companies;
	}
	if (!for_statistics || !has_privs_of_role(GetUserId(), ROLE_PG_MONITOR))
		require_any();
	list.ids = palloc(list.room * sizeof(int64));
	if (OidIsValid(relid))
		tc_read_rows(relid, NULL, 0, visit_company, &list);
	qsort(list.ids, list.count, sizeof(int64), compare_ids);
	companies = palloc0(Max(list.count, 1) * sizeof(TcContext));
	*count = 0;
	for (int i = 0; i < list.count; i++)
	{
		TcContext *company = &companies[*count];

		if (i > 0 && list.ids[i] == list.ids[i - 1])
			continue;
		company->company_id = list.ids[i];
		if (tc_node_here(company->company_id) && tc_directory_fill(company))
			(*count)++;
		else
			memset(company, 0, sizeof(*company)); /* deleted meanwhile, or of another node */
	}
	pfree(list.ids);
	return companies;
}

/* The companies with rows in a table. */
TcContext *
tc_companies_in(const char *table, int *count)
{
	return list_companies(table, false, count);
}

/* The same for statistics. */
TcContext *
tc_companies_seen(const char *table, int *count)
{
	return list_companies(table, true, count);
}

/* All companies. */
TcContext *
tc_companies(int *count)
{
	return tc_companies_in("companies", count);
}

/* One company. */
TcContext
tc_company_required(int64 company_id)
{
	const TcContext *entered = tc_context_current();
	TcContext company = {.company_id = company_id};

	(void) tc_telephony_required();
	if (entered == NULL)
		require_any();
	else if (entered->company_id != company_id)
		ereport(ERROR, (errcode(ERRCODE_TC_WRONG_TENANT), errmsg("another tenant has been entered"),
						errhint("End the transaction first.")));
	if (!tc_directory_fill(&company))
		ereport(ERROR, (errcode(ERRCODE_TC_UNKNOWN),
						errmsg("company " INT64_FORMAT " does not exist", company_id)));
	return company;
}
