/*-------------------------------------------------------------------------
 *
 * decide.h
 *	  Policy: what happens to a queue entry that is due.
 *
 * Pure: no server state, no clock, no allocation; compiles and is tested
 * without a server.  All times are microseconds since 2000-01-01 UTC.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_DECIDE_H
#define JANITOR_DECIDE_H

#include <stdbool.h>
#include <stdint.h>

typedef enum JanitorReason
{
	JANITOR_REASON_SCHEDULE,	/* an occurrence of the schedule */
	JANITOR_REASON_MANUAL,		/* job_trigger, job_run */
	JANITOR_REASON_RETRY,		/* another attempt of a failed run */
	JANITOR_REASON_STARTUP,		/* run_on_start */
	JANITOR_REASON_AFTER,		/* run_after: the parent succeeded */
	JANITOR_REASON_FAILURE,		/* on_failure: the parent failed */
	JANITOR_REASON_REPLAY		/* job_erasure_replay() */
} JanitorReason;

typedef enum JanitorCatchUp
{
	JANITOR_CATCH_UP_ONCE,
	JANITOR_CATCH_UP_ALL,
	JANITOR_CATCH_UP_SKIP
} JanitorCatchUp;

typedef enum JanitorOverlap
{
	JANITOR_OVERLAP_SKIP,
	JANITOR_OVERLAP_QUEUE
} JanitorOverlap;

/* An occurrence later than this (microseconds) is a missed one. */
#define JANITOR_MISSED_AFTER INT64_C(60000000)

/* The most missed occurrences that catch_up = all makes up. */
#define JANITOR_CATCH_UP_LIMIT 1000

/* What decide() looks at. */
typedef struct JanitorCase
{
	JanitorReason reason;		/* why the entry is in the queue */
	bool		enabled;		/* does the schedule run at all? */
	bool		paused;			/* nothing of the job starts */
	bool		circuit_open;	/* nor does anything while this lasts */
	JanitorCatchUp catch_up;
	int64_t		catch_up_within;	/* 0: no limit */
	JanitorOverlap overlap;
	int			max_running;	/* 0: no limit */
	int			running;		/* runs in progress now */
	bool		queued;			/* overlap = queue: one is kept already */
	int64_t		now;
	int64_t		scheduled_for;	/* of the entry; for occurrences only */
	int64_t		following;		/* the occurrence after scheduled_for;
								 * INT64_MAX if there is none */
} JanitorCase;

typedef enum JanitorVerdict
{
	JANITOR_START,				/* run it now */
	JANITOR_WAIT,				/* leave it in the queue */
	JANITOR_KEEP_ONE,			/* occurrence: keep it as the one queued run */
	JANITOR_SKIP_OVERLAP,		/* occurrence: record that it was skipped
								 * because the job was still running */
	JANITOR_SKIP_MISSED,		/* occurrence: missed, and not made up */
	JANITOR_SKIP_PAUSED,		/* occurrence: the job is paused */
	JANITOR_SKIP_CIRCUIT,		/* occurrence: its circuit is open */
	JANITOR_DROP				/* remove without a trace: cannot happen again */
} JanitorVerdict;

/*
 * The verdict on one due entry.  For an occurrence the caller moves the
 * schedule entry on to `following` whenever the verdict is not JANITOR_WAIT.
 */
extern JanitorVerdict janitor_decide(const JanitorCase *it);

/*
 * Delay before attempt number `attempt` (2 or more), in microseconds:
 * retry_delay doubled for each attempt after the second, at most max_delay,
 * then spread over [3/4, 5/4] of itself by `random` (any 64 bits) but never
 * above max_delay.
 */
extern int64_t janitor_backoff(int attempt, int64_t retry_delay,
							   int64_t max_delay, uint64_t random);

#endif							/* JANITOR_DECIDE_H */
