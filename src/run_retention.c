/*-------------------------------------------------------------------------
 *
 * run_retention.c
 *	  Kind `retention`: the rules of a job, one after the other.
 *
 * Runs in the worker that has the run, and in the helpers that share it, both
 * connected as the job's owner.
 *
 * A rule is planned in one transaction: made ready, its leaves looked at, the
 * guards asked, its slices written to job_cursor.  Then the slices are worked
 * on, by whoever takes them, each batch a transaction of its own.  What has
 * been handled is in job_cursor alone, in the same commits as the rows; the
 * run's record adds it up.  So nothing here has to survive an error: whatever
 * ends the run, the record is right.
 *
 * A rule that fails does not keep the others from running, unless it says so;
 * the run then fails and names it.  What ends a run (a cancel, a timeout, a
 * shutdown) leaves as an ERROR.
 *
 * Memory: a context for the run, and in it one for each rule, deleted when
 * the rule is done.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "run_retention.h"

#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "discreet.h"
#include "partition.h"
#include "plan.h"
#include "progress.h"
#include "query.h"
#include "retention_internal.h"
#include "run_sql.h"
#include "session.h"
#include "shmem.h"

/* vacuum => true: when at least this part of the table went. */
#define VACUUM_FRACTION 0.2

/* The limits of a rule, in whichever process. */
static void
set_limits(JanitorRuleRun *rr)
{
	JanitorBatching *batching = rr->batching;
	const JanitorRule *rule = rr->rule;

	batching->deadline = rr->retention->deadline;
	batching->estimate = (int64) rr->estimate;
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
		rr->batching->handled += cursor->handled - before;
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
static bool
pass_over(JanitorRuleRun *rr, bool *found)
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

static bool
wants_helpers(const JanitorRuleRun *rr)
{
	return rr->rule->parallel > 1 && rr->rule->rows_per_run == 0 &&
		list_length(rr->ids) > 1;
}

/* All slices, with helpers if there are any to be had. */
static void
work_on_slices(JanitorRuleRun *rr)
{
	bool		found;

	if (wants_helpers(rr))
		janitor_helpers_want(rr->rule->parallel - 1);
	for (;;)
	{
		rr->stopped = !pass_over(rr, &found);
		if (rr->stopped || (!found && janitor_helpers_here() == 0))
			break;
		if (!found)
			janitor_helpers_wait(-1);
	}
	janitor_helpers_dismiss(false);
	janitor_batch_revisit(rr->batching);
}

/* --- afterwards --- */

static int64
count_malformed(const JanitorRuleRun *rr)
{
	Datum		count;

	if (rr->ready->malformed == NULL)
		return 0;
	(void) janitor_query_value(psprintf("SELECT pg_catalog.count(*) FROM %s r WHERE %s",
										janitor_relation_name(rr->ready->relid),
										rr->ready->malformed),
							   0, NULL, NULL, &count);
	return DatumGetInt64(count);
}

static void
vacuum_leaves(JanitorRuleRun *rr)
{
	ListCell   *cell;

	if (!rr->rule->vacuum || rr->handled < VACUUM_FRACTION * rr->total)
		return;
	foreach(cell, rr->leaves)
	{
		char	   *name;

		janitor_begin();
		name = get_rel_name(lfirst_oid(cell)) == NULL ? NULL :
			janitor_relation_name(lfirst_oid(cell));
		janitor_commit(true);
		if (name == NULL)
			continue;
		janitor_progress_phase("vacuuming", lfirst_oid(cell));
		janitor_begin_run();
		janitor_run_utility(psprintf("VACUUM %s", name));
		janitor_commit_run(true);
		rr->vacuumed++;
	}
}

/* What the result says of the rule. */
static void
sum_up(JanitorRuleRun *rr)
{
	const JanitorBatching *batching = rr->batching;

	janitor_begin();
	janitor_retention_add_up(rr);
	if (!rr->stopped)
		rr->malformed = count_malformed(rr);
	janitor_commit(true);
	rr->batches = batching->batches;
	rr->longest = batching->longest;
	memcpy(rr->paused, batching->throttle.paused, sizeof(rr->paused));
}

static void
run_rule(void *arg)
{
	JanitorRuleRun *rr = arg;

	MemoryContextSwitchTo(rr->context);
	janitor_retention_plan(rr);
	set_limits(rr);
	work_on_slices(rr);
	sum_up(rr);
	if (!rr->stopped)
		vacuum_leaves(rr);
}

/* Was it somebody who ended the run, rather than the rule that failed? */
static bool
ends_run(const JanitorError *error)
{
	return janitor_worker_end() != JANITOR_END_NONE ||
		error->sqlstate == ERRCODE_QUERY_CANCELED;
}

/*
 * May the error show values of rows that are to be anonymized?  What is found
 * before a rule is ready is wrong with its definition, and says so.
 */
static bool
is_delicate(const JanitorRuleRun *rr)
{
	return rr->retention->discreet && rr->ready != NULL;
}

static void
note_failure(JanitorRuleRun *rr, const JanitorError *error)
{
	MemoryContext context = rr->retention->context;

	janitor_begin();
	rr->failure = MemoryContextStrdup(context, is_delicate(rr) ?
									  janitor_error_discreetly(error) :
									  error->message);
	if (error->hint != NULL && (error->plain || !is_delicate(rr)))
		rr->hint = MemoryContextStrdup(context, error->hint);
	rr->sqlstate = error->sqlstate;
	janitor_retention_add_up(rr);
	janitor_commit(true);
}

static void
rethrow(const JanitorRuleRun *rr, const JanitorError *error)
{
	if (is_delicate(rr))
		janitor_rethrow_discreetly(error);
	janitor_rethrow(error);
}

/* One rule, and what becomes of its failure; false: the others do not run. */
static bool
attempt_rule(JanitorRetention *retention, const JanitorRule *rule)
{
	JanitorRuleRun *rr = palloc0(sizeof(JanitorRuleRun));
	JanitorError *error;
	bool		go_on = true;

	rr->retention = retention;
	rr->rule = rule;
	rr->context = AllocSetContextCreate(retention->context, "pg_janitor rule",
										ALLOCSET_DEFAULT_SIZES);
	retention->rules = lappend(retention->rules, rr);
	error = janitor_attempt(run_rule, rr);
	if (error != NULL)
	{
		janitor_helpers_dismiss(true);
		if (ends_run(error))
			rethrow(rr, error);
		janitor_run_rearm_timeout();
		note_failure(rr, error);
		go_on = !rule->stop_on_failure;
	}
	MemoryContextSwitchTo(retention->context);
	rr->ready = NULL;
	rr->batching = NULL;
	MemoryContextDelete(rr->context);
	return go_on;
}

static bool
past(TimestampTz deadline)
{
	return deadline != DT_NOEND && GetCurrentTimestamp() >= deadline;
}

/*
 * The rules, and the session as they expect it: dates are read in the job's
 * zone.  A batch is short: compiling its plan would take longer than it does.
 * Where a rule anonymizes, nothing may show what it forgets.
 */
static List *
set_up(JanitorRetention *retention)
{
	List	   *rules;
	ListCell   *cell;

	janitor_begin();
	janitor_session_set("timezone", retention->job->time_zone);
	janitor_session_set("jit", "off");
	rules = janitor_rules_load(retention->job->name);
	foreach(cell, rules)
	{
		if (((JanitorRule *) lfirst(cell))->action == JANITOR_ANONYMIZE)
			retention->discreet = true;
	}
	if (retention->discreet)
		janitor_session_discreet();
	janitor_commit(true);
	return rules;
}

void
janitor_run_retention(JanitorRun *run, const JanitorExecution *execution,
					  const JanitorJob *job, JanitorOutcome *outcome)
{
	JanitorRetention retention = {
		.run = run,.execution = execution,.job = job,
		.as_of = run->now,.deadline = DT_NOEND,.context = run->context
	};
	List	   *rules;
	ListCell   *cell;

	MemoryContextSwitchTo(run->context);
	if (job->stop_after > 0)
		retention.deadline = GetCurrentTimestamp() + job->stop_after;
	rules = set_up(&retention);
	janitor_retention_look_back(&retention);
	run->now = retention.as_of;

	(void) janitor_partitions_drop_detached(job, rules, run->now);
	foreach(cell, rules)
	{
		if (past(retention.deadline) ||
			!attempt_rule(&retention, lfirst(cell)))
			break;
	}
	if (retention.discreet)
		janitor_session_heard();
	janitor_report_statistics();

	janitor_retention_report(&retention, outcome);
}

typedef struct Tidying
{
	List	   *ids;			/* slices that are not needed any more */
	bool		open;			/* somebody has to go on with them */
} Tidying;

/* Partitions on their way out keep their slices whatever happens. */
static bool
collect_slice(JanitorCursor *cursor, void *arg)
{
	Tidying    *tidying = arg;

	if (cursor->state == JANITOR_CURSOR_DETACHED ||
		(cursor->state == JANITOR_CURSOR_OPEN &&
		 cursor->method == JANITOR_METHOD_PARTITION))
		return true;
	if (cursor->state == JANITOR_CURSOR_OPEN)
		tidying->open = true;
	tidying->ids = lappend(tidying->ids, janitor_slice_id(cursor->id));
	return true;
}

/* A run that did everything leaves nothing to go on with. */
void
janitor_retention_tidy(const JanitorExecution *execution,
					   const JanitorOutcome *outcome)
{
	Tidying		tidying = {NIL, false};
	ListCell   *cell;

	if (outcome->status != JANITOR_SUCCEEDED)
		return;
	janitor_cursor_scan(execution->job_name, collect_slice, &tidying);
	if (tidying.open)
		return;
	foreach(cell, tidying.ids)
		janitor_cursor_delete(*(int64 *) lfirst(cell));
}

/* --- a helper --- */

static bool
collect_help(JanitorCursor *cursor, void *arg)
{
	JanitorRuleRun *rr = arg;

	if (cursor->execution_id != rr->retention->execution->id ||
		cursor->state != JANITOR_CURSOR_OPEN ||
		cursor->method == JANITOR_METHOD_PARTITION ||
		(rr->rule != NULL && strcmp(cursor->rule, rr->rule->name) != 0))
		return true;
	rr->retention->as_of = cursor->as_of;
	if (rr->rule == NULL)
	{
		ListCell   *cell;

		foreach(cell, rr->retention->rules)
		{
			JanitorRule *rule = lfirst(cell);

			if (strcmp(rule->name, cursor->rule) == 0)
				rr->rule = rule;
		}
	}
	if (rr->rule != NULL)
		rr->ids = lappend(rr->ids, janitor_slice_id(cursor->id));
	return true;
}

/* The rule in hand is the one that has open slices. */
static bool
find_help(JanitorRuleRun *rr)
{
	janitor_begin();
	janitor_cursor_scan(rr->retention->job->name, collect_help, rr);
	if (rr->rule != NULL)
	{
		rr->ready = janitor_rule_ready(rr->rule, rr->retention->job,
									   rr->retention->as_of);
		rr->batching = janitor_batching_begin(rr->ready);
		rr->batching->should_leave = janitor_helper_should_leave;
	}
	janitor_commit(true);
	return rr->rule != NULL;
}

static void
help(void *arg)
{
	JanitorRuleRun *rr = arg;
	bool		found;

	if (pass_over(rr, &found))
		janitor_batch_revisit(rr->batching);
}

void
janitor_help_retention(JanitorRun *run, const JanitorExecution *execution,
					   const JanitorJob *job)
{
	JanitorRetention retention = {
		.run = run,.execution = execution,.job = job,
		.as_of = run->now,.deadline = DT_NOEND,.helper = true,
		.context = run->context
	};
	JanitorRuleRun rr = {.retention = &retention,.context = run->context};
	JanitorError *error;

	MemoryContextSwitchTo(run->context);
	if (job->stop_after > 0)
		retention.deadline = execution->started_at + job->stop_after;
	retention.rules = set_up(&retention);
	if (!find_help(&rr))
		return;
	run->now = retention.as_of;
	set_limits(&rr);
	error = janitor_attempt(help, &rr);
	if (error != NULL)
		rethrow(&rr, error);
	janitor_report_statistics();
}
