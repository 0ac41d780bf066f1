/*
 * company_lock.h
 *		Advisory locks in a key space of each company's own.
 */
#ifndef TC_COMPANY_LOCK_H
#define TC_COMPANY_LOCK_H

/*
 * Waits for a lock of the library's own for the company in context, held until the end of the
 * transaction.  No key that SQL can pass to company_lock() meets it.
 */
extern void tc_company_lock_internal(const char *purpose);

#endif /* TC_COMPANY_LOCK_H */
