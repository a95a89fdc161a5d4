/*-------------------------------------------------------------------------
 *
 * run.h
 *	  The run that this worker is carrying out, as its own statements see it.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_RUN_H
#define JANITOR_RUN_H

#include "compat.h"

#include "datatype/timestamp.h"
#include "utils/jsonb.h"

typedef struct JanitorRun
{
	int64		execution_id;
	const char *job_name;
	const char *command;
	Jsonb	   *args;			/* the definition's, the trigger's over them */
	TimestampTz scheduled_for;	/* DT_NOBEGIN: not from a schedule */
	TimestampTz now;			/* the run's frozen instant */

	/* what the statements did, added up as they end */
	int64		records;		/* -1: not countable so far */
	bool		changed;		/* they changed rows */
	bool		foreign;		/* a plan touched a foreign table */

	/* what job_report() said; it wins */
	bool		reported;
	int64		reported_records;	/* -1: NULL */
	Jsonb	   *result;

	MemoryContext context;		/* lives as long as the run, across commits */
} JanitorRun;

/* NULL outside a run. */
extern JanitorRun *janitor_current_run;

/*
 * Carries out the claimed run that this worker has taken: loads, executes and
 * records it.  A failure of the run is recorded, not raised; an ERROR that
 * does leave means that even the failure could not be recorded, and the
 * worker must end (the scheduler then records it).
 */
extern void janitor_run_execution(int64 execution_id);

/*
 * Carries out what a run in another worker has to share, until there is
 * nothing left or this worker is wanted elsewhere.  Errors end it quietly: the
 * run's own worker does what is left, and finds them.
 */
extern void janitor_run_help(int64 execution_id);

/* After an ERROR that does not end the run: its timeout counts on. */
extern void janitor_run_rearm_timeout(void);

/*
 * What comes now is cancelled if it takes longer (0: it may take as long as it
 * does), until its end is told or the transaction aborts.  After an error,
 * janitor_run_overdue() says whether that was this limit, and nobody else.
 */
extern void janitor_run_limit(int milliseconds);
extern void janitor_run_limit_end(void);
extern bool janitor_run_overdue(void);

/* Registers the timers of runs; once per worker, after connecting. */
extern void janitor_run_init(void);

/* Error 55000 outside a run, naming the function called. */
extern JanitorRun *janitor_require_run(const char *function_name);

#endif							/* JANITOR_RUN_H */
