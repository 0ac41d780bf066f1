/*
 * tenantcall.h
 *		What every module needs to know of the extension as a whole.
 */
#ifndef TC_TENANTCALL_H
#define TC_TENANTCALL_H

#include "postgres.h"

/* True when the library was loaded by shared_preload_libraries. */
extern bool tc_preloaded;

/*
 * Raises one clear error unless the library was preloaded and is of the same version as the SQL
 * objects.  Cheap after the first success in a session.
 */
extern void tc_require_ready(void);

#endif /* TC_TENANTCALL_H */
