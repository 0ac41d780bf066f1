/*
 * rate_save.h
 *		Buckets across a restart; within the rate module.
 */
#ifndef TC_RATE_SAVE_H
#define TC_RATE_SAVE_H

#include "postgres.h"

/* While preloaded: setting and background worker. */
extern void tc_rate_save_init(void);

/* Loads the file into the empty table, if it is whole and ours. */
extern void tc_rate_load(void);

/* on_shmem_exit callback of the postmaster. */
extern void tc_rate_save_at_exit(int code, Datum arg);

#endif /* TC_RATE_SAVE_H */
