/*-------------------------------------------------------------------------
 *
 * conclude.h
 *	  What follows from the end of a run.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_CONCLUDE_H
#define JANITOR_CONCLUDE_H

#include "definition.h"

/* Why a run ended that did not end by itself. */
typedef enum JanitorLoss
{
	JANITOR_LOSS_NONE,			/* it ended by itself, or was asked to */
	JANITOR_LOSS_UNBEGUN,		/* no statement of it was executed */
	JANITOR_LOSS_ORDERLY,		/* shutdown or promotion: costs no attempt */
	JANITOR_LOSS_LEASE,			/* its worker outside was heard of no more */
	JANITOR_LOSS_CRASH			/* the server or its worker died */
} JanitorLoss;

/*
 * Writes the end of a run into its row and, in the same transaction, queues
 * what follows: the jobs that run after it, another attempt, the job that is
 * told of failures.  false, nothing written: the row had ended already.
 * `job` may be NULL (it was dropped meanwhile): then nothing follows.
 */
extern bool janitor_conclude(const JanitorExecution *execution,
							 const JanitorJob *job,
							 const JanitorOutcome *outcome,
							 JanitorLoss loss);

/*
 * Puts a run that was claimed back into the queue, free of charge: the same
 * execution, not before run_at.  Its row has been taken back already.
 */
extern void janitor_requeue(const JanitorExecution *was, TimestampTz run_at,
							const char *detail);

/* Puts it back from `running`, if it says so: nobody has begun it. */
extern void janitor_unclaim(int64 execution_id);

/*
 * How many runs of the job before that one have failed in a row; of the last
 * 1000.
 */
extern int	janitor_failures_before(const char *job_name, int64 execution_id);

/* Has the newest run of the job failed, other than for a shutdown? */
extern bool janitor_job_is_failing(const char *job_name);

/* The server log's line about it, as pg_janitor.log_runs asks. */
extern void janitor_log_outcome(const JanitorExecution *execution,
								const JanitorOutcome *outcome);

#endif							/* JANITOR_CONCLUDE_H */
