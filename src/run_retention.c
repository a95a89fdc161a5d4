/*-------------------------------------------------------------------------
 *
 * run_retention.c
 *	  Kind `retention`: the rules of a job.
 *
 * Runs in the worker that has the run, connected as the job's owner; what its
 * helpers do is in retention_help.c.
 *
 * Rules are taken in their order, in waves: mostly one by one, several where
 * they may be worked on side by side (retention_wave.c).  A rule is planned in
 * one transaction: made ready, its leaves looked at, the guards asked, its
 * slices written to job_cursor.  Then the slices are worked on, by whoever
 * takes them, each batch a transaction of its own.  What has been handled is
 * in job_cursor alone, in the same commits as the rows; the run's record adds
 * it up.  So nothing here has to survive an error: whatever ends the run, the
 * record is right.
 *
 * A rule that fails does not keep the others from running, unless it says so;
 * the run then fails and names it.  What ends a run (a cancel, a timeout, a
 * shutdown) leaves as an ERROR.
 *
 * Memory: a context for the run, and in it one for each rule, deleted when
 * its wave is done.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "run_retention.h"

#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "discreet.h"
#include "guard.h"
#include "partition.h"
#include "progress.h"
#include "query.h"
#include "retention_internal.h"
#include "run_sql.h"
#include "session.h"
#include "shmem.h"

/* vacuum => true: when at least this part of a leaf went. */
#define VACUUM_FRACTION 0.2

/* What a rule has left is counted in tables up to this size, 8 MB. */
#define BLOCKS_COUNTED 1024

/* --- failures --- */

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

/* What it says in the result; how far the rule came is added up later. */
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
	janitor_commit(true);
}

void
janitor_retention_rethrow(const JanitorRuleRun *rr, const JanitorError *error)
{
	if (is_delicate(rr))
		janitor_rethrow_discreetly(error);
	janitor_rethrow(error);
}

/* A step of the rule; if it fails, nobody goes on with the rule. */
static void
attempt(void (*step) (void *arg), JanitorRuleRun *rr)
{
	JanitorError *error;

	MemoryContextSwitchTo(rr->context);
	error = janitor_attempt(step, rr);
	MemoryContextSwitchTo(rr->retention->context);
	if (error == NULL)
		return;
	janitor_tally_leave();
	janitor_tally_close(rr->rule->place);
	if (ends_run(error))
	{
		janitor_helpers_dismiss(true);
		janitor_retention_rethrow(rr, error);
	}
	janitor_run_rearm_timeout();
	note_failure(rr, error);
}

/* --- one rule: its beginning and end --- */

static JanitorRuleRun *
begin_rule(JanitorRetention *retention, const JanitorRule *rule, List *beside)
{
	JanitorRuleRun *rr = palloc0(sizeof(JanitorRuleRun));

	rr->retention = retention;
	rr->rule = rule;
	rr->beside = beside;
	rr->context = AllocSetContextCreate(retention->context, "pg_janitor rule",
										ALLOCSET_DEFAULT_SIZES);
	return rr;
}

/* What the result needs is elsewhere. */
static void
end_rule(JanitorRuleRun *rr)
{
	rr->ready = NULL;
	rr->batching = NULL;
	MemoryContextDelete(rr->context);
}

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
vacuum_leaf(JanitorRuleRun *rr, Oid leaf, const char *name)
{
	janitor_progress_phase("vacuuming", leaf);
	janitor_begin_run();
	janitor_run_utility(psprintf("VACUUM %s", name));
	janitor_commit_run(true);
	rr->vacuumed++;
}

/* Of the leaf by its name; janitor_cursor_scan() adds up. */
typedef struct LeafShare
{
	const JanitorRuleRun *rr;
	const char *relation;
	int64		handled;
} LeafShare;

static bool
add_slice(JanitorCursor *cursor, void *arg)
{
	LeafShare  *share = arg;

	if (cursor->execution_id == share->rr->retention->execution->id &&
		strcmp(cursor->rule, share->rr->rule->name) == 0 &&
		strcmp(cursor->relation, share->relation) == 0)
		share->handled += cursor->handled;
	return true;
}

/* The leaf's name if enough of its rows went; NULL: not, or it did itself. */
static char *
leaf_to_vacuum(const JanitorRuleRun *rr, Oid leaf, double total)
{
	LeafShare	share = {.rr = rr};

	if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(leaf)))
		return NULL;
	share.relation = janitor_relation_name(leaf);
	janitor_cursor_scan(rr->rule->job_name, add_slice, &share);
	return share.handled > 0 && share.handled >= VACUUM_FRACTION * total ?
		unconstify(char *, share.relation) : NULL;
}

static void
vacuum_leaves(JanitorRuleRun *rr)
{
	ListCell   *cell;

	foreach(cell, rr->leaves)
	{
		Oid			leaf = lfirst_oid(cell);
		char	   *name;

		janitor_begin();
		name = leaf_to_vacuum(rr, leaf,
							  rr->leaf_totals[foreach_current_index(cell)]);
		janitor_commit(true);
		if (name != NULL)
			vacuum_leaf(rr, leaf, name);
	}
}

/* Counted where that costs nothing, else as was expected. */
static void
look_what_is_left(JanitorRuleRun *rr)
{
	rr->left = (int64) Max(0, rr->estimate - rr->handled);
	rr->left_counted = rr->blocks <= BLOCKS_COUNTED;
	if (rr->left_counted)
		rr->left = janitor_count_expired(rr->ready, rr->batching->holds,
										 janitor_relation_leaves(rr->ready->relid),
										 PG_INT64_MAX);
}

static void
add_up(JanitorRuleRun *rr)
{
	janitor_begin();
	janitor_retention_add_up(rr);
	if (rr->failure == NULL && rr->stopped)
		look_what_is_left(rr);
	else if (rr->failure == NULL)
		rr->malformed = count_malformed(rr);
	janitor_commit(true);
}

/* All its slices are done, or it has to stop; helpers are gone. */
static void
finish(void *arg)
{
	JanitorRuleRun *rr = arg;

	if (janitor_tally_enter(rr->rule->place, false))
	{
		janitor_batch_revisit(rr->batching);
		janitor_tally_leave();
	}
	add_up(rr);
	if (rr->rule->vacuum && !rr->stopped)
		vacuum_leaves(rr);
}

/* --- a wave --- */

static void
plan(void *arg)
{
	JanitorRuleRun *rr = arg;

	rr->joined = janitor_retention_plan(rr, rr->beside);
}

/*
 * The next rule, and those after it that can be worked on beside it; *next is
 * the first that is not among them.
 */
static List *
plan_wave(JanitorRetention *retention, List *rules, int *next)
{
	List	   *wave = NIL;

	while (*next < list_length(rules) &&
		   janitor_retention_may_join(wave, list_nth(rules, *next)))
	{
		JanitorRuleRun *rr = begin_rule(retention, list_nth(rules, *next),
										wave);

		attempt(plan, rr);
		if (rr->failure == NULL && !rr->joined)
		{
			end_rule(rr);
			break;
		}
		retention->rules = lappend(retention->rules, rr);
		wave = lappend(wave, rr);
		(*next)++;
	}
	return wave;
}

/* One who handles so many rows at most has to do it alone. */
static int
useful_workers(const JanitorRuleRun *rr)
{
	return rr->failure != NULL ? 0 :
		Min(rr->rule->rows_per_run > 0 ? 1 : rr->rule->parallel,
			list_length(rr->ids));
}

static void
call_for_help(JanitorRetention *retention, List *wave)
{
	int64		expected = retention->handled;
	int			workers = 0;
	ListCell   *cell;

	foreach(cell, wave)
	{
		const JanitorRuleRun *rr = lfirst(cell);

		workers += useful_workers(rr);
		expected += (int64) rr->estimate;
	}
	janitor_progress_expect(expected);
	if (workers > 1)
		janitor_helpers_want(workers - 1);
}

static void
pass(void *arg)
{
	JanitorRuleRun *rr = arg;

	if (!janitor_tally_enter(rr->rule->place, rr->alone))
		return;
	rr->stopped = !janitor_retention_pass(rr, &rr->found);
	janitor_tally_leave();
}

/* false: there was nothing to be had; with `alone`, where nobody is. */
static bool
pass_over(List *wave, bool alone)
{
	bool		found = false;
	ListCell   *cell;

	foreach(cell, wave)
	{
		JanitorRuleRun *rr = lfirst(cell);

		rr->found = false;
		rr->alone = alone;
		if (rr->failure == NULL && !rr->stopped)
			attempt(pass, rr);
		found |= rr->found;
	}
	return found;
}

/*
 * All slices, with helpers if there are any to be had.  A helper that leaves
 * may leave a slice to others: the last look is when none can come any more.
 */
static void
work_on(JanitorRetention *retention, List *wave)
{
	call_for_help(retention, wave);
	for (;;)
	{
		if (pass_over(wave, true) || pass_over(wave, false))
			continue;
		if (janitor_helpers_here() > 0)
		{
			janitor_progress_phase("waiting for helpers", InvalidOid);
			janitor_helpers_wait(-1);
			continue;
		}
		janitor_helpers_dismiss(false);
		if (!pass_over(wave, false))
			break;
	}
}

/* false: the rules after these must not run. */
static bool
conclude(JanitorRetention *retention, List *wave)
{
	bool		go_on = true;
	ListCell   *cell;

	foreach(cell, wave)
	{
		JanitorRuleRun *rr = lfirst(cell);

		if (rr->failure == NULL)
			attempt(finish, rr);
		if (rr->failure != NULL)
		{
			add_up(rr);
			go_on = go_on && !rr->rule->stop_on_failure;
		}
		rr->tally = janitor_tally_take(rr->rule->place);
		retention->handled += rr->handled;
		end_rule(rr);
	}
	return go_on;
}

static bool
run_wave(JanitorRetention *retention, List *rules, int *next)
{
	List	   *wave = plan_wave(retention, rules, next);

	work_on(retention, wave);
	return conclude(retention, wave);
}

/* --- the run --- */

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
List *
janitor_retention_set_up(JanitorRetention *retention)
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
	int			next = 0;

	MemoryContextSwitchTo(run->context);
	if (job->stop_after > 0)
		retention.deadline = GetCurrentTimestamp() + job->stop_after;
	rules = janitor_retention_set_up(&retention);
	janitor_retention_look_back(&retention);
	run->now = retention.as_of;

	(void) janitor_partitions_drop_detached(job, rules, run->now);
	while (next < list_length(rules) && !past(retention.deadline) &&
		   run_wave(&retention, rules, &next))
		;
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
