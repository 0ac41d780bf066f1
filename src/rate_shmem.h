/*
 * rate_shmem.h
 *		Setting up the table of buckets; within the rate module.
 */
#ifndef TC_RATE_SHMEM_H
#define TC_RATE_SHMEM_H

/* While preloaded: settings, shared memory, background worker. */
extern void tc_rate_shmem_init(void);

#endif /* TC_RATE_SHMEM_H */
