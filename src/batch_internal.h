/*-------------------------------------------------------------------------
 *
 * batch_internal.h
 *	  What the parts of the batch engine share; for batch.c, batch_keys.c and
 *	  batch_rows.c.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_BATCH_INTERNAL_H
#define JANITOR_BATCH_INTERNAL_H

#include "batch.h"

#include "query.h"

/* Rows of one statement, where they are handled by their places. */
#define JANITOR_PORTION 500

/* A range of the slice, as parameters of a statement. */
typedef struct JanitorBatchRange
{
	JanitorRange kind;
	Datum		from;			/* $2, see JanitorRange */
	Datum		to;				/* $3 */
} JanitorBatchRange;

/* One attempt at a batch, as an argument of janitor_attempt(). */
typedef struct JanitorBatch
{
	JanitorBatching *batching;
	JanitorCursor *cursor;
	Oid			leaf;
	JanitorBatchRange range;
	bool		skip_locked;
	bool		patient;		/* it may take as long as it does */
	char	   *position;		/* of the cursor afterwards; NULL: as before */
	bool		last;			/* the slice is done with it */
	int64		rows;			/* result */
	int64		reserved;		/* of them, in the rule's tally */
	int64		took;			/* microseconds */
} JanitorBatch;

/* --- batch.c --- */

/* Begins the transaction of a batch, with holds and timeouts in place. */
extern void janitor_batch_begin(JanitorBatching *batching);

/* A statement on a range of a leaf; `lists`: it only reads where rows lie. */
extern JanitorQuery *janitor_batch_query(JanitorBatching *batching, Oid leaf,
										 JanitorRange range, bool skip_locked,
										 bool lists);
extern void janitor_batch_parameters(const JanitorBatching *batching,
									 const JanitorBatchRange *range,
									 Datum *values, bool *nulls);

/*
 * Carries a batch out; false: it met a lock, or took too long, and has been
 * rolled back.  Other errors pass.
 */
extern bool janitor_batch_attempt(JanitorBatch *batch);

/*
 * One range of a slice, whatever it takes; false: the slice has to stop within
 * it.
 */
extern bool janitor_batch_work_off(JanitorBatch *batch, JanitorMethod method);

/* Between batches: has this slice to end here? */
extern bool janitor_batch_must_stop(const JanitorBatching *batching);

/* A copy of a range's parameter that outlives the batch. */
extern Datum janitor_batch_keep_value(JanitorBatching *batching,
									  JanitorRange kind, Datum value);

extern void janitor_batch_set_position(JanitorBatching *batching,
									   JanitorCursor *cursor,
									   const char *position);
extern void janitor_batch_write_cursor(JanitorCursor *cursor);

/*
 * Moves the cursor over a range that was worked off in other ways; position
 * NULL: as it is.
 */
extern void janitor_batch_move_cursor(JanitorBatching *batching,
									  JanitorCursor *cursor,
									  const char *position, bool last);

/* --- batch_keys.c --- */

/* As janitor_batch_slice(), by keys. */
extern bool janitor_batch_keys(JanitorBatching *batching,
							   JanitorCursor *cursor, Oid leaf);

/* --- batch_rows.c --- */

/*
 * Handles a range as rows, in portions, passing over what is locked; *left:
 * how many of those it found it could not handle.  No more than the budget
 * allows.  false: it had to stop before the end.
 */
extern bool janitor_batch_as_rows(JanitorBatching *batching,
								  JanitorCursor *cursor, Oid leaf,
								  const JanitorBatchRange *range, int64 *left);

/* Remembers a range, some rows of which could not be had, for the end. */
extern void janitor_batch_remember(JanitorBatching *batching,
								   JanitorCursor *cursor, Oid leaf,
								   const JanitorBatchRange *range,
								   int64 rows);

#endif							/* JANITOR_BATCH_INTERNAL_H */
