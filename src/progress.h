/*-------------------------------------------------------------------------
 *
 * progress.h
 *	  How far the runs in progress have come, in shared memory.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_PROGRESS_H
#define JANITOR_PROGRESS_H

#include "compat.h"

#include "datatype/timestamp.h"

/* Why a batch waits. */
typedef enum JanitorPause
{
	JANITOR_PAUSE_RATE,			/* max_rows_per_second */
	JANITOR_PAUSE_LAG,			/* a standby is behind */
	JANITOR_PAUSE_SLOT,			/* a replication slot holds back too much */
	JANITOR_PAUSE_ARCHIVER,		/* archive_command fails */
	JANITOR_PAUSE_HOLD,			/* a hold is being placed */
	JANITOR_PAUSES				/* how many */
} JanitorPause;

extern const char *janitor_pause_name(JanitorPause pause);

/*
 * One worker's part in a run.  A run has one row for its own worker and one
 * for each helper.
 */
typedef struct JanitorProgress
{
	int64		execution_id;
	Oid			owner;
	int			pid;			/* 0: it waits for a worker, or its worker
								 * died */
	bool		helper;
	char		phase[NAMEDATALEN]; /* 'planning', 'deleting', ... */
	Oid			relation;		/* the leaf in hand; InvalidOid: none */
	int64		rows;			/* handled so far, by this worker */
	int64		helped;			/* by helpers that have left */
	int64		total;			/* estimated, of all; -1: unknown */
	double		fraction;		/* of the work, 0 to 1; -1: unknown */
	TimestampTz since;			/* start of the run */
	char		waits_for[NAMEDATALEN]; /* '' : it works */
} JanitorProgress;

/*
 * --- by the worker, for itself; cheap.  In other processes they do nothing ---
 */

extern void janitor_progress_phase(const char *phase, Oid relation);
extern void janitor_progress_rows(int64 rows, int64 total, double fraction);

/* So many more rows are handled; so many are expected in all. */
extern void janitor_progress_add(int64 rows);
extern void janitor_progress_expect(int64 total);

/* What it pauses for: 'replica lag', 'rate', 'hold', ...; NULL: it goes on. */
extern void janitor_progress_wait(const char *reason);

/* --- by others --- */

/* What a run begins with. */
extern void janitor_progress_start(JanitorProgress *progress);

/* Of this database; palloc'd. */
extern JanitorProgress *janitor_progress_all(int *count);

#endif							/* JANITOR_PROGRESS_H */
