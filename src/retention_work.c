/*-------------------------------------------------------------------------
 *
 * retention_work.c
 *	  The slices of a rule, one after the other.
 *
 * By the run's own worker and by its helpers alike; only partitions that go as
 * a whole are left to the former.  A slice is taken by writing one's pid into
 * its row in job_cursor, in a transaction that comes before its first batch.
 *
 * On ERROR the batch in hand is undone; whoever called decides.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "retention_internal.h"

#include "partition.h"
#include "plan.h"
#include "progress.h"
#include "session.h"
#include "shmem.h"

/* The limits of a rule, in whichever process. */
void
janitor_retention_set_limits(JanitorRuleRun *rr)
{
	JanitorBatching *batching = rr->batching;
	const JanitorRule *rule = rr->rule;

	batching->deadline = rr->retention->deadline;
	if (rule->rows_per_run > 0)
		batching->budget = rule->rows_per_run;
	janitor_throttle_begin(&batching->throttle,
						   rule->max_rows_per_second, rule->max_replica_lag);
}

/* --- the work --- */

/* Takes a slice if it is to be had; without waiting for its worker. */
static bool
claim_slice(int64 id, JanitorCursor *cursor)
{
	bool		claimed;

	janitor_begin();
	claimed = janitor_cursor_find(id, cursor) &&
		cursor->state == JANITOR_CURSOR_OPEN &&
		(cursor->worker == 0 || cursor->worker == MyProcPid ||
		 !janitor_worker_lives(cursor->worker)) &&
		janitor_cursor_claim(id, cursor, janitor_worker_lives);
	janitor_commit(true);
	return claimed;
}

/* Somebody else may go on with it. */
static void
release_slice(JanitorCursor *cursor)
{
	cursor->worker = 0;
	janitor_begin();
	janitor_cursor_update(cursor);
	janitor_commit(true);
}

/* A partition that cannot be had as a whole is worked on row by row. */
static void
replan_partition(JanitorRuleRun *rr, JanitorCursor *cursor, Oid leaf)
{
	JanitorLeafPlan plan;

	janitor_begin();
	janitor_plan_leaf(rr->ready, leaf, rr->batching->holds, &plan);
	plan.method = JANITOR_METHOD_BLOCKS;
	janitor_cursor_delete(cursor->id);
	janitor_retention_add_slices(rr, janitor_plan_slices(rr->ready, &plan));
	janitor_commit(true);
}

/* Its rows are gone, whatever the guard says; what comes after them counts. */
static void
count_partition(int64 rows)
{
	JanitorGuard guard;

	(void) janitor_tally_reserve(rows, &guard);
	janitor_progress_add(rows);
}

/*
 * Once a run: what is half-done after that waits for transactions that still
 * use the partition, and for the next run.
 */
static void
detach_partition(JanitorRuleRun *rr, JanitorCursor *cursor)
{
	int64		before = cursor->handled;
	Oid			leaf;

	rr->seen = lappend(rr->seen, janitor_slice_id(cursor->id));
	janitor_begin();
	leaf = janitor_partition_find(cursor);
	janitor_commit(true);
	janitor_progress_phase("detaching", leaf);
	if (!janitor_partition_detach(rr->ready, leaf, rr->batching->holds,
								  cursor))
		replan_partition(rr, cursor, leaf);
	else
		count_partition(cursor->handled - before);
}

static bool
was_tried(const JanitorRuleRun *rr, int64 id)
{
	ListCell   *cell;

	foreach(cell, rr->seen)
	{
		if (*(int64 *) lfirst(cell) == id)
			return true;
	}
	return false;
}

/* false: it had to stop before the slice was done. */
static bool
work_on(JanitorRuleRun *rr, JanitorCursor *cursor)
{
	if (cursor->method == JANITOR_METHOD_PARTITION)
	{
		detach_partition(rr, cursor);
		return true;
	}
	if (janitor_batch_slice(rr->batching, cursor))
		return true;
	release_slice(cursor);
	return false;
}

/*
 * One pass over the slices, taking what is to be had; the list grows while we
 * are at it where a partition is replaced by others.  *found: there was any.
 * false: it had to stop.
 */
bool
janitor_retention_pass(JanitorRuleRun *rr, bool *found)
{
	*found = false;
	for (int i = 0; i < list_length(rr->ids); i++)
	{
		JanitorCursor *cursor = palloc0(sizeof(JanitorCursor));
		int64		id = *(int64 *) list_nth(rr->ids, i);

		if (was_tried(rr, id) || !claim_slice(id, cursor))
			continue;
		*found = true;
		if (!work_on(rr, cursor))
			return false;
	}
	return true;
}
