/*-------------------------------------------------------------------------
 *
 * batch.h
 *	  One slice of one relation, batch by batch.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_BATCH_H
#define JANITOR_BATCH_H

#include "hold.h"
#include "rule.h"
#include "throttle.h"

/* A statement on one leaf, prepared; see batch.c. */
struct JanitorChange;

/*
 * What one process needs for one rule in one run.  Lives in a context of its
 * own, across transactions.
 */
typedef struct JanitorBatching
{
	const JanitorReadyRule *ready;
	JanitorHolds *holds;
	JanitorThrottle throttle;
	TimestampTz deadline;		/* begin no batch after it; DT_NOEND */
	int64		budget;			/* rows it may still handle */

	int16		key_length;		/* of the bound's type */
	bool		key_by_value;

	MemoryContext context;		/* of all this */
	MemoryContext scratch;		/* of one batch */
	List	   *changes;		/* of struct JanitorChange */
	List	   *conflicts;		/* ranges with rows that somebody held */
	int64		size;			/* rows, or blocks, of the next batch */
	double		rows_per_block; /* of the leaf in hand, where it is full */
} JanitorBatching;

/*
 * In a transaction.  The current context becomes its own: everything ends when
 * that is reset or deleted.
 */
extern JanitorBatching *janitor_batching_begin(const JanitorReadyRule *ready);

/*
 * Works on a slice that this process has claimed; called and returns outside
 * a transaction.  true: it is done.  false: the deadline, the budget or
 * should_leave ended it before; the cursor says where to go on.
 */
extern bool janitor_batch_slice(JanitorBatching *batching,
								JanitorCursor *cursor);

/*
 * Comes back to the rows that somebody else had locked, once; what still
 * cannot be had is counted in their cursors.
 */
extern void janitor_batch_revisit(JanitorBatching *batching);

#endif							/* JANITOR_BATCH_H */
