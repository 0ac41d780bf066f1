/*
 * companies.h
 *		The companies that a report, or upkeep, is for.
 */
#ifndef TC_COMPANIES_H
#define TC_COMPANIES_H

#include "postgres.h"

#include "context_core.h"

/*
 * The company that was entered; without one all, for whoever may enter any.  Raises PT403 for
 * others.  Allocated in the current memory context, by id.
 */
extern TcContext *tc_companies(int *count);

/* The same, of all only those with rows in this table of the tenants, at the cost of reading it. */
extern TcContext *tc_companies_in(const char *table, int *count);

/* The same for statistics, which members of pg_monitor may see as well. */
extern TcContext *tc_companies_seen(const char *table, int *count);

/* May the caller see statistics of all companies?  Administrators, and members of pg_monitor. */
extern bool tc_sees_all(void);

/* The same of one company; raises PT403 if it is not the caller's, PT404 if there is none. */
extern TcContext tc_company_required(int64 company_id);

/* May the caller enter any company, and has not entered one? */
extern bool tc_may_enter_any(void);

#endif /* TC_COMPANIES_H */
