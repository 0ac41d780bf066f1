/*
 * maintenance.h
 *		What has to be done every few minutes: running it.
 */
#ifndef TC_MAINTENANCE_H
#define TC_MAINTENANCE_H

#include "postgres.h"

#include "context_core.h"
#include "storage/lock.h"

/* --- maintenance_job.c: the jobs, step by step ------------------------------------------------ */

typedef struct TcMaintenanceJob TcMaintenanceJob;

/* What a step, or a run, has done. */
typedef struct TcMaintenanceCount
{
	int64 rows;
	int64 companies; /* gone through */
	int64 busy;		 /* left for the next run, since others held a lock */
	int64 failed;
} TcMaintenanceCount;

extern int tc_maintenance_njobs(void);
extern TcMaintenanceJob *tc_maintenance_job(int number);
/* The number of a job; raises PT404 for a name that no job has. */
extern int tc_maintenance_find(const char *name);
extern const char *tc_maintenance_name(const TcMaintenanceJob *job);
extern bool tc_maintenance_by_company(const TcMaintenanceJob *job);

/*
 * Takes a step: for a company, or (NULL) what belongs to none.  Its error is caught, logged,
 * counted, and returned, allocated in the caller's memory context; NULL if there was none.
 * Cancellation and the end of the process are raised.
 */
extern char *tc_maintenance_step(TcMaintenanceJob *job, const TcContext *company, int max_rows,
								 TcMaintenanceCount *count);

/* --- maintenance_record.c: what is written down ----------------------------------------------- */

/* A job as it is configured, and where it was last. */
typedef struct TcMaintenancePlan
{
	bool enabled;
	int place; /* in the order of the jobs, from 1 */
	int max_rows;
	int64 last_company; /* 0: begin with the first */
	bool due;			/* the worker's timer is to run it */
} TcMaintenancePlan;

extern void tc_maintenance_read_plan(const char *job, int interval, TcMaintenancePlan *plan);
extern void tc_maintenance_note_start(const char *job, const char *by);
extern void tc_maintenance_note_end(const char *job, const TcMaintenanceCount *count,
									const char *error, int64 last_company);
/* The lock that lets one run of a job be under way at a time; pg_locks shows it. */
extern void tc_maintenance_locktag(LOCKTAG *tag, int place);

/* --- maintenance.c ---------------------------------------------------------------------------- */

typedef struct TcMaintenanceRun
{
	/* Ends the transaction and begins the next; false: go no further.  NULL: all in one. */
	bool (*commit)(void);
	const char *by; /* who runs it */
	bool named;		/* that job was asked for */
	int interval;	/* s; only what is due.  -1: whatever is enabled */
} TcMaintenanceRun;

extern void tc_maintenance_init(void);
/* Runs the job, within a transaction; false if the next must not follow. */
extern bool tc_maintenance_run(const TcMaintenanceRun *run, int job);

/* maintenance_worker.c */
extern void tc_maintenance_worker_init(void);

#endif /* TC_MAINTENANCE_H */
