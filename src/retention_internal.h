/*-------------------------------------------------------------------------
 *
 * retention_internal.h
 *	  What the parts of a retention run share; for run_retention.c,
 *	  retention_slices.c and retention_report.c.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_RETENTION_INTERNAL_H
#define JANITOR_RETENTION_INTERNAL_H

#include "batch.h"
#include "run.h"

/* A retention run, as this process sees it. */
typedef struct JanitorRetention
{
	JanitorRun *run;
	const JanitorExecution *execution;
	const JanitorJob *job;
	TimestampTz as_of;			/* what ages count from */
	TimestampTz deadline;		/* DT_NOEND: none */
	bool		afresh;			/* earlier slices do not count */
	bool		helper;
	bool		discreet;		/* errors must not show values of rows */
	MemoryContext context;
	List	   *rules;			/* of JanitorRuleRun, those that were begun */
} JanitorRetention;

/* One rule in it. */
typedef struct JanitorRuleRun
{
	JanitorRetention *retention;
	const JanitorRule *rule;
	JanitorReadyRule *ready;
	JanitorBatching *batching;
	MemoryContext context;		/* of the two above and the slices */
	List	   *leaves;			/* OIDs */
	List	   *ids;			/* of slices, in order; palloc'd int64 */
	double		estimate;		/* rows expected */
	double		total;			/* rows in the table */
	List	   *seen;			/* partitions that were tried, by slice */
	bool		stopped;		/* before the end, by a limit */

	/* for the result, in the run's context */
	TimestampTz cutoff;
	char	   *bound;
	int64		handled;		/* by all workers */
	int64		locked;
	int64		pending;		/* partitions that are half detached */
	int64		malformed;
	int64		batches;		/* by this worker; the next two likewise */
	int64		longest;
	int64		paused[JANITOR_PAUSES];
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
 */
extern void janitor_retention_plan(JanitorRuleRun *rr);

/* Inserts slices for the rule; in a transaction. */
extern void janitor_retention_add_slices(JanitorRuleRun *rr, List *slices);

/* --- retention_report.c --- */

/* Adds up what all workers have done for the rule; in a transaction. */
extern void janitor_retention_add_up(JanitorRuleRun *rr);

/* The outcome of the run, from its rules. */
extern void janitor_retention_report(const JanitorRetention *retention,
									 JanitorOutcome *outcome);

#endif							/* JANITOR_RETENTION_INTERNAL_H */
