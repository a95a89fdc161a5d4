/*-------------------------------------------------------------------------
 *
 * retention_internal.h
 *	  What the parts of a retention run share; for run_retention.c and the
 *	  retention_*.c.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_RETENTION_INTERNAL_H
#define JANITOR_RETENTION_INTERNAL_H

#include "batch.h"
#include "run.h"
#include "session.h"
#include "tally.h"

/* A retention run, as this process sees it. */
typedef struct JanitorRetention
{
	JanitorRun *run;
	const JanitorExecution *execution;
	const JanitorJob *job;
	TimestampTz as_of;			/* what ages count from */
	TimestampTz deadline;		/* DT_NOEND: none */
	bool		afresh;			/* earlier slices do not count */
	bool		repeats;		/* a run that died, with its instant */
	bool		discreet;		/* errors must not show values of rows */
	MemoryContext context;
	List	   *rules;			/* of JanitorRuleRun, those that were begun */
	int64		handled;		/* rows, by those that are done */
} JanitorRetention;

/* One rule in it. */
typedef struct JanitorRuleRun
{
	JanitorRetention *retention;
	const JanitorRule *rule;
	JanitorReadyRule *ready;
	JanitorBatching *batching;
	MemoryContext context;		/* of the two above and the slices */
	List	   *beside;			/* of JanitorRuleRun, in the same wave before */
	bool		joined;			/* it fits to them */
	List	   *leaves;			/* OIDs */
	double	   *leaf_totals;	/* rows in each, as expected */
	List	   *changes;		/* topmost relations, if it may have company */
	List	   *reads;			/* likewise */
	List	   *ids;			/* of slices, in order; palloc'd int64 */
	bool		goes_on;		/* with slices of an earlier run */
	double		estimate;		/* rows expected */
	double		total;			/* rows in the table */
	int64		blocks;			/* of it */
	List	   *seen;			/* partitions that were tried, by slice */
	bool		alone;			/* the next pass only if nobody is there */
	bool		found;			/* the last pass had something to do */
	bool		stopped;		/* before the end, by a limit */

	/* for the result, in the run's context */
	TimestampTz cutoff;
	char	   *bound;
	int64		handled;		/* by all workers */
	int64		locked;
	int64		pending;		/* partitions that are half detached */
	int64		left;			/* if it stopped */
	bool		left_counted;
	int64		malformed;
	JanitorTally tally;
	int64		methods[3];		/* slices, by method */
	int64		vacuumed;		/* leaves */
	char	   *failure;		/* NULL: it did not fail */
	char	   *hint;
	int			sqlstate;
} JanitorRuleRun;

/* The id of a slice, as an element of a list. */
static inline int64 *
janitor_slice_id(int64 id)
{
	int64	   *copy = palloc(sizeof(int64));

	*copy = id;
	return copy;
}

/* --- retention_slices.c --- */

/*
 * Finds out whether this run goes on where an earlier one ended, and from
 * which instant ages count.  Slices that do not count any more are deleted.
 * In transactions of its own.
 */
extern void janitor_retention_look_back(JanitorRetention *retention);

/*
 * Makes the rule ready, asks the guards and writes its slices.  One
 * transaction: nothing of the rule is touched before it has committed.
 * false: it cannot be worked on beside the rules in the wave (of
 * JanitorRuleRun); nothing has happened.
 */
extern bool janitor_retention_plan(JanitorRuleRun *rr, List *wave);

/* Inserts slices for the rule; in a transaction. */
extern void janitor_retention_add_slices(JanitorRuleRun *rr, List *slices);

/* --- run_retention.c --- */

/* The rules of the job, and the session as they expect it. */
extern List *janitor_retention_set_up(JanitorRetention *retention);

/* Raises an error of a rule that ends more than the rule. */
pg_noreturn extern void janitor_retention_rethrow(const JanitorRuleRun *rr,
												  const JanitorError *error);

/* --- retention_wave.c --- */

/* May this rule be asked whether it fits to those of a wave? */
extern bool janitor_retention_may_join(List *wave, const JanitorRule *rule);

/* Can a rule that has been made ready be worked on beside them? */
extern bool janitor_retention_fits(List *wave, JanitorRuleRun *rr);

/* --- retention_work.c --- */

/* The limits of a rule that is ready, in whichever process. */
extern void janitor_retention_set_limits(JanitorRuleRun *rr);

/*
 * One pass over the slices of the rule that this worker has entered, taking
 * what is to be had; *found: there was any.  false: it had to stop.
 */
extern bool janitor_retention_pass(JanitorRuleRun *rr, bool *found);

/* --- retention_report.c --- */

/* Adds up what all workers have done for the rule; in a transaction. */
extern void janitor_retention_add_up(JanitorRuleRun *rr);

/* The outcome of the run, from its rules. */
extern void janitor_retention_report(const JanitorRetention *retention,
									 JanitorOutcome *outcome);

#endif							/* JANITOR_RETENTION_INTERNAL_H */
