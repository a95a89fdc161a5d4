/*-------------------------------------------------------------------------
 *
 * retention_slices.c
 *	  Where a retention run begins: what earlier runs left, the plan of a rule.
 *
 * Going on.  A run that repeats one which died (retry_of) goes on with its
 * slices and counts ages from the same instant.  After a run that stopped
 * early as a success, the next one goes on with its slices too, but from its
 * own instant; rules that it had finished begin anew.  In any other case, and
 * when the job was changed since, the slices are planned afresh; only
 * partitions on their way out are always seen to.
 *
 * Errors, memory: see run_retention.c.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "retention_internal.h"

#include "nodes/value.h"
#include "utils/memutils.h"

#include "guard.h"
#include "object.h"
#include "plan.h"
#include "progress.h"
#include "session.h"
#include "tally.h"

/* --- what earlier runs left --- */

typedef struct Leftovers
{
	JanitorCursor *newest;		/* of any slice but detached ones */
	bool		unfinished;		/* there are open ones to go on with, other
								 * than detaches, which are planned anew or
								 * finished in any case */
	List	   *cursors;		/* of JanitorCursor: all of them */
} Leftovers;

static bool
collect_leftover(JanitorCursor *cursor, void *arg)
{
	Leftovers  *leftovers = arg;
	JanitorCursor *copy;

	if (cursor->state == JANITOR_CURSOR_DETACHED)
		return true;
	copy = palloc(sizeof(JanitorCursor));
	*copy = *cursor;
	leftovers->cursors = lappend(leftovers->cursors, copy);
	if (copy->state == JANITOR_CURSOR_OPEN &&
		copy->method != JANITOR_METHOD_PARTITION)
		leftovers->unfinished = true;
	if (leftovers->newest == NULL ||
		copy->execution_id > leftovers->newest->execution_id)
		leftovers->newest = copy;
	return true;
}

/* Did that run end as a success, before everything was done? */
static bool
stopped_early(int64 execution_id)
{
	JanitorExecution execution;

	return janitor_execution_find(execution_id, &execution) &&
		execution.status == JANITOR_SUCCEEDED;
}

void
janitor_retention_look_back(JanitorRetention *retention)
{
	Leftovers	leftovers = {0};
	ListCell   *cell;

	janitor_begin();
	janitor_cursor_scan(retention->job->name, collect_leftover, &leftovers);
	retention->afresh = true;
	if (leftovers.newest != NULL &&
		retention->job->updated_at <= leftovers.newest->updated_at)
	{
		int64		before = leftovers.newest->execution_id;

		retention->repeats = retention->execution->retry_of == before;
		if (retention->repeats)
			retention->as_of = leftovers.newest->as_of;
		retention->afresh = !retention->repeats &&
			!(leftovers.unfinished && stopped_early(before));
	}
	foreach(cell, leftovers.cursors)
	{
		JanitorCursor *cursor = lfirst(cell);

		if (retention->afresh &&
			!(cursor->method == JANITOR_METHOD_PARTITION &&
			  cursor->state == JANITOR_CURSOR_OPEN))
			janitor_cursor_delete(cursor->id);
	}
	janitor_commit(true);
}

/* --- planning a rule --- */

/* Is the slice still about what it was about? */
static bool
still_valid(const JanitorCursor *cursor, List *leaves)
{
	ListCell   *cell;

	foreach(cell, leaves)
	{
		Oid			leaf = lfirst_oid(cell);

		if (strcmp(janitor_relation_name(leaf), cursor->relation) == 0)
			return janitor_relfilenode(leaf) == cursor->relfilenode;
	}
	return false;
}

/*
 * Has the rule been done to its end, while another one of the job has not?
 * Then there is something new to look for, unless this repeats that run, with
 * the same instant.
 */
static bool
is_finished(const JanitorRuleRun *rr, List *cursors)
{
	ListCell   *cell;

	if (rr->retention->repeats)
		return false;
	foreach(cell, cursors)
	{
		const JanitorCursor *cursor = lfirst(cell);

		if (cursor->state == JANITOR_CURSOR_OPEN &&
			cursor->method != JANITOR_METHOD_PARTITION &&
			strcmp(cursor->rule, rr->rule->name) == 0)
			return false;
	}
	return true;
}

/*
 * Takes over the slices that an earlier run left of this rule; returns the
 * relations, as text, that need no plan any more.
 */
static List *
take_over(JanitorRuleRun *rr)
{
	Leftovers	leftovers = {0};
	List	   *covered = NIL;
	bool		afresh;
	ListCell   *cell;

	janitor_cursor_scan(rr->rule->job_name, collect_leftover, &leftovers);
	afresh = is_finished(rr, leftovers.cursors);
	foreach(cell, leftovers.cursors)
	{
		JanitorCursor *cursor = lfirst(cell);

		if (strcmp(cursor->rule, rr->rule->name) != 0)
			continue;

		/* a partition that was detached is no leaf, or is one again */
		if (cursor->method == JANITOR_METHOD_PARTITION ?
			cursor->state == JANITOR_CURSOR_DONE :
			afresh || !still_valid(cursor, rr->leaves))
		{
			janitor_cursor_delete(cursor->id);
			continue;
		}
		cursor->execution_id = rr->retention->execution->id;
		cursor->handled = cursor->locked = 0;
		cursor->worker = 0;
		cursor->as_of = rr->retention->as_of;
		janitor_cursor_update(cursor);
		rr->ids = lappend(rr->ids, janitor_slice_id(cursor->id));
		rr->methods[cursor->method]++;
		rr->goes_on |= cursor->method != JANITOR_METHOD_PARTITION;
		covered = lappend(covered, makeString(cursor->relation));
	}
	return covered;
}

void
janitor_retention_add_slices(JanitorRuleRun *rr, List *slices)
{
	ListCell   *cell;

	foreach(cell, slices)
	{
		JanitorCursor *cursor = lfirst(cell);

		cursor->execution_id = rr->retention->execution->id;
		cursor->as_of = rr->retention->as_of;
		janitor_cursor_insert(cursor);
		rr->ids = lappend(rr->ids, janitor_slice_id(cursor->id));
		rr->methods[cursor->method]++;
	}
}

/* The slices of all leaves that are not covered; partitions come first. */
static void
plan_leaves(JanitorRuleRun *rr, List *covered)
{
	JanitorHolds *holds = rr->batching->holds;
	List	   *later = NIL;
	ListCell   *cell;

	rr->leaf_totals = palloc(list_length(rr->leaves) * sizeof(double));
	foreach(cell, rr->leaves)
	{
		JanitorLeafPlan leaf;
		List	   *slices;

		janitor_plan_leaf(rr->ready, lfirst_oid(cell), holds, &leaf);
		rr->estimate += leaf.rows;
		rr->total += leaf.total;
		rr->blocks += leaf.blocks;
		rr->leaf_totals[foreach_current_index(cell)] = leaf.total;
		if (list_member(covered, makeString(janitor_relation_name(leaf.leaf))))
			continue;
		slices = janitor_plan_slices(rr->ready, &leaf);
		if (leaf.method == JANITOR_METHOD_PARTITION)
			janitor_retention_add_slices(rr, slices);
		else
			later = list_concat(later, slices);
	}
	janitor_retention_add_slices(rr, later);
}

/* What the rule means for this run; in a transaction. */
static void
make_ready(JanitorRuleRun *rr)
{
	MemoryContextSwitchTo(rr->context);
	rr->ready = janitor_rule_ready(rr->rule, rr->retention->job,
								   rr->retention->as_of);
	rr->batching = janitor_batching_begin(rr->ready);
	rr->leaves = janitor_relation_leaves(rr->ready->relid);
	(void) janitor_holds_read(rr->batching->holds);
	rr->cutoff = rr->ready->cutoff;
	if (rr->ready->bound_text != NULL)
		rr->bound = MemoryContextStrdup(rr->retention->context,
										rr->ready->bound_text);
}

/*
 * A run that goes on with the rule has been let through before; one that was
 * confirmed is meant.
 */
static JanitorGuard
ask_guards(JanitorRuleRun *rr)
{
	bool		confirmed = janitor_object_get_bool(rr->retention->run->args,
													"confirm");

	return janitor_guard(rr->ready, rr->batching->holds, rr->leaves,
						 rr->estimate, rr->total, confirmed || rr->goes_on);
}

bool
janitor_retention_plan(JanitorRuleRun *rr, List *wave)
{
	JanitorGuard guard;
	bool		fits;

	janitor_progress_phase("planning", InvalidOid);
	janitor_begin();
	make_ready(rr);
	fits = janitor_retention_fits(wave, rr);
	if (fits)
	{
		plan_leaves(rr, take_over(rr));
		guard = ask_guards(rr);
	}
	janitor_commit(true);
	if (!fits)
		return false;
	janitor_retention_set_limits(rr);
	janitor_tally_open(rr->rule->place, rr->rule->parallel, guard);
	return true;
}
