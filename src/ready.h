/*
 * ready.h
 *		Is the library loaded as it must be, and of one version with the SQL objects?
 */
#ifndef TC_READY_H
#define TC_READY_H

#include "postgres.h"

extern void tc_ready_init(void);

/* True when the library was loaded by shared_preload_libraries. */
extern bool tc_preloaded;

/*
 * Raises one clear error unless the library was preloaded and is of the same version as the SQL
 * objects.  Cheap after the first success in a session.
 */
extern void tc_require_ready(void);

/* The same without raising: true, and what is wrong (detail may be NULL), unless all is well. */
typedef struct TcUnready
{
	const char *message;
	const char *detail;
	const char *hint;
} TcUnready;

extern bool tc_unready(TcUnready *why);

/* Within a transaction of a background worker: is the extension there, and will it stay? */
extern bool tc_hold_extension(void);

#endif /* TC_READY_H */
