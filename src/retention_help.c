/*-------------------------------------------------------------------------
 *
 * retention_help.c
 *	  What a helper does for a retention run.
 *
 * Runs in a worker that has nothing of its own to do, connected as the job's
 * owner.  The rules in hand are those that the run's own worker has opened in
 * its tallies; their slices are in job_cursor.  A helper goes to rules first
 * that nobody is at, so that those which are worked on side by side are.
 *
 * Errors end the helper; the run's own worker does what is left, and finds
 * them.
 *
 * Memory: all of it in the run's context.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "run_retention.h"

#include "progress.h"
#include "retention_internal.h"
#include "session.h"
#include "shmem.h"

static bool
collect_slice(JanitorCursor *cursor, void *arg)
{
	JanitorRuleRun *rr = arg;

	if (cursor->execution_id != rr->retention->execution->id ||
		cursor->state != JANITOR_CURSOR_OPEN ||
		cursor->method == JANITOR_METHOD_PARTITION ||
		strcmp(cursor->rule, rr->rule->name) != 0)
		return true;
	rr->retention->as_of = cursor->as_of;
	rr->ids = lappend(rr->ids, janitor_slice_id(cursor->id));
	return true;
}

/* Its open slices, and what it means; false: there is nothing to do. */
static bool
find_slices(JanitorRuleRun *rr)
{
	JanitorRetention *retention = rr->retention;

	janitor_begin();
	rr->ids = NIL;
	janitor_cursor_scan(retention->job->name, collect_slice, rr);
	retention->run->now = retention->as_of;
	if (rr->ids != NIL && rr->ready == NULL)
	{
		rr->ready = janitor_rule_ready(rr->rule, retention->job,
									   retention->as_of);
		rr->batching = janitor_batching_begin(rr->ready);
		janitor_retention_set_limits(rr);
	}
	janitor_commit(true);
	return rr->ids != NIL;
}

static void
work_on_slices(void *arg)
{
	JanitorRuleRun *rr = arg;

	rr->stopped = !janitor_retention_pass(rr, &rr->found);
	if (!rr->stopped)
		janitor_batch_revisit(rr->batching);
}

/* false: it has to stop. */
static bool
help_with(JanitorRuleRun *rr, bool *found)
{
	if (find_slices(rr))
	{
		JanitorError *error = janitor_attempt(work_on_slices, rr);

		if (error != NULL)
			janitor_retention_rethrow(rr, error);
		*found |= rr->found;
	}
	janitor_tally_leave();
	return !rr->stopped;
}

/* The rules in hand; *found: there was something to do. */
static bool
pass_over(List *rules, bool alone, bool *found)
{
	ListCell   *cell;

	foreach(cell, rules)
	{
		JanitorRuleRun *rr = lfirst(cell);

		/* its own worker keeps count of the rows it may handle */
		if (rr->rule->rows_per_run > 0 ||
			!janitor_tally_enter(rr->rule->place, alone))
			continue;
		if (!help_with(rr, found))
			return false;
	}
	return true;
}

static void
help(JanitorRetention *retention)
{
	bool		found;

	do
	{
		found = false;
		if (!pass_over(retention->rules, true, &found) ||
			!pass_over(retention->rules, false, &found))
			break;
	} while (found);
}

static void
make_rule_runs(JanitorRetention *retention, List *rules)
{
	ListCell   *cell;

	foreach(cell, rules)
	{
		JanitorRuleRun *rr = palloc0(sizeof(JanitorRuleRun));

		rr->retention = retention;
		rr->rule = lfirst(cell);
		rr->context = retention->context;
		retention->rules = lappend(retention->rules, rr);
	}
}

void
janitor_help_retention(JanitorRun *run, const JanitorExecution *execution,
					   const JanitorJob *job)
{
	JanitorRetention retention = {
		.run = run,.execution = execution,.job = job,
		.as_of = run->now,.deadline = DT_NOEND,.context = run->context
	};

	MemoryContextSwitchTo(run->context);
	if (job->stop_after > 0)
		retention.deadline = execution->started_at + job->stop_after;
	make_rule_runs(&retention, janitor_retention_set_up(&retention));
	help(&retention);
	janitor_report_statistics();
}
