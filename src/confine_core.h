/*
 * confine_core.h
 *		Functions of PostgreSQL that reach past row security, by name.  Pure C.
 */
#ifndef TC_CONFINE_CORE_H
#define TC_CONFINE_CORE_H

/*
 * Why an application role may not call the function of that name in pg_catalog, as the detail of
 * an error message; NULL: it may.
 */
extern const char *tc_confine_function(const char *name);

/* May an application's own session call the function of Citus of that name? */
extern int tc_confine_citus_for_clients(const char *name);

/* Why not. */
extern const char *const tc_confine_citus_reason;

#endif /* TC_CONFINE_CORE_H */
