/*-------------------------------------------------------------------------
 *
 * tally.h
 *	  What the workers of one run have done together, rule by rule, in shared
 *	  memory.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_TALLY_H
#define JANITOR_TALLY_H

#include "compat.h"

#include "progress.h"

/* Rules of one run that may be worked on at the same time. */
#define JANITOR_TALLIES 8

/* The most rows that a rule may handle in a run, and what says so. */
typedef enum JanitorGuardKind
{
	JANITOR_GUARD_JUMP,			/* the comparison with earlier runs */
	JANITOR_GUARD_ROWS,			/* abort_above_rows */
	JANITOR_GUARD_FRACTION		/* abort_above_fraction */
} JanitorGuardKind;

typedef struct JanitorGuard
{
	int64		limit;			/* PG_INT64_MAX: none */
	JanitorGuardKind kind;
} JanitorGuard;

typedef struct JanitorTally
{
	int			place;			/* of the rule in its job; 0: free */
	bool		closed;			/* nobody begins another slice of it */
	int			workers;		/* so many may be at it */
	JanitorGuard guard;
	int64		rows;			/* handled, or in a batch that is about to
								 * commit */
	int64		batches;
	int64		longest;		/* transaction, in microseconds */
	int64		paused[JANITOR_PAUSES]; /* likewise, in all */
} JanitorTally;

/* --- by the worker that has the run --- */

/* From now on the rule can be worked on.  At most JANITOR_TALLIES at a time. */
extern void janitor_tally_open(int place, int workers, JanitorGuard guard);

/* No new slice of it is begun; what goes on, ends after its batch. */
extern void janitor_tally_close(int place);

/* What came of it; its place is free then.  No helper is there any more. */
extern JanitorTally janitor_tally_take(int place);

/* --- by each of the run's workers --- */

/*
 * false: it is not open, or as many as may be are at it (with `alone`: anyone
 * is).
 */
extern bool janitor_tally_enter(int place, bool alone);
extern void janitor_tally_leave(void);

/* The rest is about the rule that was entered. */

extern bool janitor_tally_is_closed(void);

/* How many workers are at it; at least 1. */
extern int	janitor_tally_workers(void);

/*
 * Rows of a batch, before it commits; false: with them it would be more than
 * *guard allows.  Whoever rolls the batch back releases them.
 */
extern bool janitor_tally_reserve(int64 rows, JanitorGuard *guard);
extern void janitor_tally_release(int64 rows);

extern void janitor_tally_batch(int64 took);
extern void janitor_tally_pause(JanitorPause pause, int64 took);

#endif							/* JANITOR_TALLY_H */
