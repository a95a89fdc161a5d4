/*-------------------------------------------------------------------------
 *
 * mark.h
 *	  What clients that claim runs tell each other and the scheduler.
 *
 * See mark.c.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_MARK_H
#define JANITOR_MARK_H

#include "compat.h"

#include "datatype/timestamp.h"

/* --- how far the queue of a job has been claimed --- */

/* Nothing is left to be claimed at or before this position. */
typedef struct JanitorPosition
{
	TimestampTz run_at;
	int64		id;
	uint32		told;			/* what may have changed that, when read */
} JanitorPosition;

extern void janitor_mark_read(uint64 job_hash, const char *job_name,
							  JanitorPosition *position);

/* Unless something was told since it was read. */
extern void janitor_mark_advance(uint64 job_hash,
								 const JanitorPosition *position);

/*
 * The caller leaves entries from run_at on unclaimed that the end of a run, a
 * change of the job or of its circuit, or that time would free.  To be said
 * before that is found to be so for certain.
 */
extern void janitor_mark_starved(uint64 job_hash, TimestampTz run_at,
								 TimestampTz until);

/* --- at the end of the transaction --- */

/* Committed: the scheduler has to look again no later than this. */
extern void janitor_alarm_at_end(TimestampTz at);

/* The same, since a lease ends then. */
extern void janitor_lease_at_end(TimestampTz lease_until);

/* Rolled back: this entry, which we took, is there again. */
extern void janitor_wake_at_abort(TimestampTz run_at);

/* Committed: a run of this job has ended. */
extern void janitor_run_ended_at_end(uint64 job_hash);

/* Takes all that back: the transaction is the scheduler's own. */
extern void janitor_claims_forget(void);

/* --- the scheduler's side --- */

/*
 * Forgets what it was told before, and returns the earliest end of the leases
 * among that; then says when it looks again.
 */
extern TimestampTz janitor_alarm_clear(void);
extern TimestampTz janitor_alarm_set(TimestampTz at);

/*
 * Calls `each` for the jobs of which something can be claimed again (with
 * `all`, for all that were starved), and of which many runs have ended since
 * the last call.  `each` is called without a lock.  Returns when another one
 * may be claimed from again.
 */
extern TimestampTz janitor_marks_visit(bool all, int many,
									   void (*each) (const char *job_name,
													 bool claimable,
													 int ended, void *arg),
									   void *arg);

#endif							/* JANITOR_MARK_H */
