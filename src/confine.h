/*
 * confine.h
 *		What application roles may not do, beside what row security hides.
 */
#ifndef TC_CONFINE_H
#define TC_CONFINE_H

#include "postgres.h"

extern void tc_confine_init(void);

/* Why an application's session may not call the function, if that is one of Citus; NULL: it may. */
extern const char *tc_confine_citus(Oid function);

#endif /* TC_CONFINE_H */
