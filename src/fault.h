/*-------------------------------------------------------------------------
 *
 * fault.h
 *	  Runs that have failed, or succeeded after others had, on their way to
 *	  the scheduler.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_FAULT_H
#define JANITOR_FAULT_H

#include "compat.h"

/*
 * When the transaction commits, the scheduler is told to look at this run,
 * which has failed.  Else it has succeeded: then nothing is told unless the
 * job is known to be failing.
 */
extern void janitor_fault_at_end(uint64 job_hash, int64 execution_id,
								 bool failed);

/* The newest run of the job has failed, or has not; for MyDatabaseId. */
extern void janitor_set_failing(uint64 job_hash, bool failing);

/*
 * What this database's scheduler was told since the last call, oldest first:
 * how many of at most `size`.  *lost: there were more than could be kept.
 */
extern int	janitor_faults_take(int64 *execution_ids, int size, bool *lost);

#endif							/* JANITOR_FAULT_H */
