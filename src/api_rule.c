/*-------------------------------------------------------------------------
 *
 * api_rule.c
 *	  SQL functions that make, change and drop the rules of retention jobs.
 *
 * A rule goes through two checks: what can be said without its tables, as the
 * user who defines it, and what depends on them, as the job's owner, in the
 * job's search_path and time zone: the rule is made ready as a run would make
 * it, looked at, and counted.  Only then is it written, with its line in
 * job_change and a new version of its job.  Nothing different writes nothing.
 *
 * A definition that is repeated is not tried again, so that a migration can
 * run at any time: what was no trap then need not look harmless now (a
 * column of expiry times, all of them past).
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "api.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "advice.h"
#include "discreet.h"
#include "nearest.h"
#include "object.h"
#include "option.h"
#include "rule_draft.h"
#include "session.h"
#include "settings.h"

PG_FUNCTION_INFO_V1(job_schedule_retention);
PG_FUNCTION_INFO_V1(job_set_rule);
PG_FUNCTION_INFO_V1(job_drop_rule);

#define MAIN_RULE "main"

/* The arguments that are columns of job_rule, in order; match is the last. */
static const AttrNumber rule_arguments[] = {
	Anum_rule_relation,
	Anum_rule_time_column,
	Anum_rule_keep,
	Anum_rule_action,
	Anum_rule_time_unit,
	Anum_rule_time_format,
	Anum_rule_keep_expression,
	Anum_rule_tier_column,
	Anum_rule_tiers,
	Anum_rule_keep_last,
	Anum_rule_keep_per,
	Anum_rule_expired_when,
	Anum_rule_filter,
	Anum_rule_set,
	Anum_rule_done_when,
	Anum_rule_archive_to,
	Anum_rule_short_keep,
	Anum_rule_stop_on_failure,
	Anum_rule_batch_rows,
	Anum_rule_rows_per_run,
	Anum_rule_max_rows_per_second,
	Anum_rule_parallel,
	Anum_rule_max_replica_lag,
	Anum_rule_vacuum,
	Anum_rule_partitions,
	Anum_rule_drop_after,
	Anum_rule_abort_above_rows,
	Anum_rule_abort_above_fraction,
	Anum_rule_match
};

/* Those that follow in job_schedule_retention(): columns of job_definition. */
static const AttrNumber job_arguments[] = {
	Anum_definition_description,
	Anum_definition_tags,
	Anum_definition_time_zone,
	Anum_definition_args,
	Anum_definition_settings,
	Anum_definition_owner,
	Anum_definition_enabled,
	Anum_definition_run_on_start,
	Anum_definition_run_after,
	Anum_definition_on_failure,
	Anum_definition_catch_up,
	Anum_definition_catch_up_within,
	Anum_definition_max_running,
	Anum_definition_overlap,
	Anum_definition_timeout,
	Anum_definition_stop_after,
	Anum_definition_max_attempts,
	Anum_definition_retry_delay,
	Anum_definition_retry_max_delay,
	Anum_definition_jitter,
	Anum_definition_priority,
	Anum_definition_keep_history,
	Anum_definition_keep_runs
};

/* --- arguments --- */

static void
set_arguments(FunctionCallInfo fcinfo, int first, int count,
			  JanitorRuleDraft *draft)
{
	janitor_rule_draft_begin(draft);
	for (int i = 0; i < count; i++)
		if (!PG_ARGISNULL(first + i))
			janitor_rule_draft_set(draft, rule_arguments[i],
								   PG_GETARG_DATUM(first + i));
}

static void
unknown_option(const char *key, bool job_options, const char *function)
{
	JanitorNearest nearest = {key};

	janitor_rule_offer_options(&nearest);
	if (job_options)
		(void) janitor_draft_offer_options(&nearest);
	janitor_option_unknown(&nearest, function);
}

static Jsonb *
without_key(Jsonb *object, const char *key)
{
	return DatumGetJsonbP(DirectFunctionCall2(jsonb_delete,
											  JsonbPGetDatum(object),
											  CStringGetTextDatum(key)));
}

/*
 * Sets the rule's options and returns those of the job; NULL options: none.
 * Without job_options there must not be any.
 */
static Jsonb *
set_options(JanitorRuleDraft *draft, Jsonb *options, bool job_options,
			const char *function)
{
	JanitorNearest nearest = {NULL};
	Jsonb	   *rest = options;
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	item;
	char	   *key = NULL;

	if (options == NULL)
		return NULL;
	iterator = JsonbIteratorInit(&options->root);
	while ((token = JsonbIteratorNext(&iterator, &item, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			nearest.wanted = key = pnstrdup(item.val.string.val,
											item.val.string.len);
		else if (token != WJB_VALUE)
			continue;
		else if (janitor_rule_draft_set_option(draft, key, &item))
			rest = without_key(rest, key);
		else if (!job_options || !janitor_draft_offer_options(&nearest))
			unknown_option(key, job_options, function);
	}
	return rest;
}

/* --- trying a rule as the owner --- */

typedef struct Trial
{
	const JanitorRule *rule;
	const JanitorJob *job;
	TimestampTz now;
	bool		fresh;			/* it differs from what was there */
	JanitorReadyRule *ready;
	int64		rows;
	bool		exact;
	List	   *advice;
} Trial;

/* Another rule of the job, beside the one that is tried. */
typedef struct Neighbour
{
	Trial	   *trial;
	const JanitorRule *rule;
} Neighbour;

static void
look_at_neighbour(void *arg)
{
	Neighbour  *neighbour = arg;
	Trial	   *trial = neighbour->trial;
	JanitorReadyRule *other = janitor_rule_ready(neighbour->rule, trial->job,
												 trial->now);
	bool		before = other->rule->place < trial->rule->place;
	const JanitorReadyRule *first = before ? other : trial->ready;
	const JanitorReadyRule *second = before ? trial->ready : other;
	char	   *column = janitor_set_undone(first, second);

	if (column != NULL)
		trial->ready->remarks =
			lappend(trial->ready->remarks,
					psprintf("rule \"%s\" changes column \"%s\" of %s again after rule \"%s\" has: rows that both are for are changed by every run; narrow rule \"%s\" with filter, or give it done_when",
							 first->rule->name, column, first->rule->relation,
							 second->rule->name, first->rule->name));
}

/* What is wrong with another rule is not to be told now. */
static void
look_at_neighbours(Trial *trial)
{
	ListCell   *cell;

	foreach(cell, janitor_rules_load(trial->job->name))
	{
		Neighbour	neighbour = {trial, lfirst(cell)};
		JanitorError *error;

		if (strcmp(neighbour.rule->name, trial->rule->name) == 0 ||
			strcmp(neighbour.rule->relation, trial->rule->relation) != 0)
			continue;
		error = janitor_attempt_inside(look_at_neighbour, &neighbour);
		if (error != NULL && error->sqlstate == ERRCODE_QUERY_CANCELED)
			janitor_rethrow(error);
	}
}

static void
count_rows(void *arg)
{
	Trial	   *trial = arg;

	trial->rows = janitor_rule_rows(trial->ready, &trial->exact);
}

static void
try_rule(void *arg)
{
	Trial	   *trial = arg;

	trial->ready = janitor_rule_ready(trial->rule, trial->job, trial->now);
	if (trial->fresh)
	{
		janitor_check_zero_keep(trial->ready, trial->now);
		janitor_set_try(trial->ready);
		look_at_neighbours(trial);
	}
	janitor_rule_try(trial->ready);
	if (trial->rule->action == JANITOR_ANONYMIZE &&
		trial->job->kind == JANITOR_KIND_RETENTION)
		janitor_discreetly(count_rows, trial);
	else if (trial->job->kind == JANITOR_KIND_RETENTION)
		count_rows(trial);
	trial->advice = janitor_advice(trial->ready);
}

/* Its conditions are executed, and may ask for job_now(). */
static void
try_with_now(void *arg)
{
	Trial	   *trial = arg;

	janitor_with_now(trial->now, try_rule, trial);
}

static void
trial_error_context(void *arg)
{
	Trial	   *trial = arg;

	errcontext("rule \"%s\" of job \"%s\"", trial->rule->name,
			   trial->job->name);
}

static void
try_as_owner(Trial *trial)
{
	ErrorContextCallback context;

	trial->now = GetCurrentTimestamp();
	context.callback = trial_error_context;
	context.arg = trial;
	context.previous = error_context_stack;
	error_context_stack = &context;
	janitor_as_role(trial->job->owner_oid,
					janitor_object_get_text(trial->job->settings,
											"search_path"),
					trial->job->time_zone, try_with_now, trial);
	error_context_stack = context.previous;
}

void
janitor_rules_check(const JanitorJob *job)
{
	ListCell   *cell;

	foreach(cell, janitor_rules_load(job->name))
	{
		Trial		trial = {lfirst(cell), job};

		try_as_owner(&trial);
	}
}

/* --- telling what was armed --- */

static char *
describe_next_run(const char *job_name)
{
	JanitorEntry entry;

	if (!janitor_entry_find_key(job_name, JANITOR_KEY_SCHEDULE, &entry))
		return pstrdup("No run is scheduled.");
	return psprintf("The next run is at %s.", timestamptz_to_str(entry.run_at));
}

static char *
describe_condition(const JanitorReadyRule *ready)
{
	if (ready->bound_text == NULL)
		return pstrdup("Expired is what its condition says.");
	if (ready->rule->tiers != NULL)
		return psprintf("Nothing with %s from %s on is expired.",
						ready->time_column, ready->bound_text);
	return psprintf("Expired is what has %s before %s.", ready->time_column,
					ready->bound_text);
}

static void
announce(const Trial *trial)
{
	ListCell   *cell;

	if (trial->job->kind == JANITOR_KIND_RETENTION)
		ereport(NOTICE,
				(errmsg("rule \"%s\" of job \"%s\" is armed; rows of %s to %s now: %s" INT64_FORMAT,
						trial->rule->name, trial->job->name,
						trial->rule->relation,
						janitor_action_name(trial->rule->action),
						trial->exact ? "" : "about ", trial->rows),
				 errdetail("%s %s", describe_condition(trial->ready),
						   describe_next_run(trial->job->name))));
	foreach(cell, trial->advice)
		ereport(WARNING, (errmsg("%s", (char *) lfirst(cell))));
}

/* --- progress that nobody goes on with --- */

typedef struct Leftovers
{
	const char *rule;			/* NULL: of all rules */
	List	   *running;		/* of int64 *; executions still at work */
	List	   *cursors;		/* of int64 * */
} Leftovers;

static bool
note_running(JanitorExecution *execution, void *arg)
{
	Leftovers  *left = arg;
	int64	   *id = palloc(sizeof(int64));

	*id = execution->id;
	if (execution->status == JANITOR_RUNNING)
		left->running = lappend(left->running, id);
	return true;
}

static bool
is_running(const Leftovers *left, int64 execution_id)
{
	ListCell   *cell;

	foreach(cell, left->running)
		if (*(int64 *) lfirst(cell) == execution_id)
		return true;
	return false;
}

/* A partition that was detached is still to be dropped, whatever the rule. */
static bool
note_cursor(JanitorCursor *cursor, void *arg)
{
	Leftovers  *left = arg;
	int64	   *id = palloc(sizeof(int64));

	*id = cursor->id;
	if (left->rule == NULL ||
		(strcmp(left->rule, cursor->rule) == 0 &&
		 cursor->state != JANITOR_CURSOR_DETACHED))
	{
		if (!is_running(left, cursor->execution_id))
			left->cursors = lappend(left->cursors, id);
	}
	return true;
}

/*
 * Of one rule, or (NULL) of a job that goes or is new.  A run in progress has
 * read its rules, and writes its progress to its cursors: those stay.
 */
static void
forget_progress(const char *job_name, const char *rule)
{
	Leftovers	left = {rule};
	ListCell   *cell;

	janitor_execution_scan(job_name, note_running, &left);
	janitor_cursor_scan(job_name, note_cursor, &left);
	foreach(cell, left.cursors)
		janitor_cursor_delete(*(int64 *) lfirst(cell));
}

/* --- writing a rule --- */

/* Rules run in the order of their creation. */
static int
next_place(const char *job_name)
{
	List	   *rules = janitor_rules_load(job_name);

	return rules == NIL ? 1 : ((JanitorRule *) llast(rules))->place + 1;
}

/* Fills in what is not an option: job, name and place. */
static void
complete(JanitorRuleDraft *draft, const JanitorJob *job, const char *name,
		 HeapTuple old_tuple, const JanitorRuleDraft *old)
{
	janitor_rule_draft_set_text(draft, Anum_rule_job_name, job->name);
	janitor_rule_draft_set_text(draft, Anum_rule_rule, name);
	janitor_rule_draft_set(draft, Anum_rule_place,
						   old_tuple != NULL ?
						   old->values[Anum_rule_place - 1] :
						   Int32GetDatum(next_place(job->name)));
}

static void
write_rule(JanitorRuleDraft *draft, const JanitorJob *job,
		   HeapTuple old_tuple, JanitorRuleDraft *old)
{
	if (old_tuple != NULL)
	{
		janitor_rule_update(old_tuple, draft->values, draft->nulls);
		forget_progress(job->name,
						janitor_rule_draft_text(draft, Anum_rule_rule));
	}
	else
		janitor_rule_insert(draft->values, draft->nulls);
	janitor_change_insert(job->name, "set rule",
						  old_tuple ? janitor_rule_draft_to_jsonb(old) : NULL,
						  janitor_rule_draft_to_jsonb(draft));
}

/*
 * Sets a rule of a job that is locked.  With job_changed the job has a new
 * version already, and the rule may mean something else even if it is the
 * same.
 */
static void
set_rule(const JanitorJob *job, const char *name, JanitorRuleDraft *draft,
		 bool job_changed)
{
	HeapTuple	old_tuple = janitor_rule_find(job->name, name);
	JanitorRuleDraft old;
	Trial		trial = {NULL, job};

	if (old_tuple != NULL)
		janitor_rule_draft_load(&old, old_tuple);
	else
		janitor_name_check("rule", name);
	janitor_rule_draft_check(draft, job->kind);
	complete(draft, job, name, old_tuple, &old);
	trial.fresh = old_tuple == NULL || !janitor_rule_draft_same(draft, &old);
	if (!trial.fresh && !job_changed)
		return;

	trial.rule = janitor_rule_draft_rule(draft);
	try_as_owner(&trial);
	if (trial.fresh)
	{
		write_rule(draft, job, old_tuple, &old);
		if (!job_changed)
			janitor_job_bump(job);
	}
	announce(&trial);
}

/*
 * job_schedule_retention(job_name, schedule, relation, time_column, keep, ...)
 * returns timestamptz
 */
Datum
job_schedule_retention(PG_FUNCTION_ARGS)
{
	int			rule_count = lengthof(rule_arguments) - 1;	/* no match */
	int			first = 2 + rule_count;
	int			job_count = lengthof(job_arguments);
	char	   *job_name;
	JanitorRuleDraft rule;
	JanitorDraft draft;
	JanitorJob *job;
	Jsonb	   *options;
	int			version;
	TimestampTz next;

	janitor_prevent_misuse("job_schedule_retention()");
	job_name = janitor_arg_text_required(fcinfo, 0, "job_name");
	set_arguments(fcinfo, 2, rule_count, &rule);
	options = set_options(&rule, janitor_arg_object(fcinfo, first + job_count,
													"options"),
						  true, "job_schedule_retention()");
	janitor_arg_draft(fcinfo, JANITOR_KIND_RETENTION, job_arguments, first,
					  job_count, options, &draft);
	if (!PG_ARGISNULL(1))
		janitor_draft_set(&draft, Anum_definition_schedule,
						  PG_GETARG_DATUM(1), false);

	job = janitor_job_load(job_name);
	version = job == NULL ? 0 : job->version;
	next = janitor_define_job(&draft, job_name);
	job = janitor_job_load(job_name);
	if (version == 0)
		forget_progress(job_name, NULL);
	set_rule(job, MAIN_RULE, &rule, job->version != version);
	return janitor_next_run(fcinfo, next);
}

/* --- job_set_rule, job_drop_rule --- */

static JanitorJob *
job_with_rules(FunctionCallInfo fcinfo)
{
	JanitorJob *job;

	job = janitor_job_for_change(janitor_arg_text_required(fcinfo, 0,
														   "job_name"));
	if (!janitor_job_is_heavy(job))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("job \"%s\" is of kind \"%s\" and has no rules",
						job->name, janitor_kind_name(job->kind)),
				 errhint("Jobs with rules are made with job_schedule_retention() and job_schedule_items().")));
	return job;
}

/* job_set_rule(job_name, rule, relation, time_column, keep, ...) */
Datum
job_set_rule(PG_FUNCTION_ARGS)
{
	int			count = lengthof(rule_arguments);
	char	   *name;
	JanitorRuleDraft draft;
	JanitorJob *job;

	janitor_prevent_misuse("job_set_rule()");
	job = job_with_rules(fcinfo);
	name = janitor_arg_text_required(fcinfo, 1, "rule");
	set_arguments(fcinfo, 2, count, &draft);
	(void) set_options(&draft, janitor_arg_object(fcinfo, count + 2,
												  "options"),
					   false, "job_set_rule()");
	set_rule(job, name, &draft, false);
	PG_RETURN_VOID();
}

static void
no_such_rule(const JanitorJob *job, const char *name)
{
	JanitorNearest nearest = {name};
	ListCell   *cell;

	foreach(cell, janitor_rules_load(job->name))
		janitor_nearest_offer(&nearest, ((JanitorRule *) lfirst(cell))->name);
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("rule \"%s\" of job \"%s\" does not exist", name,
					job->name),
			 nearest.best == NULL ? 0 :
			 errhint("Perhaps you meant the rule \"%s\".", nearest.best)));
}

static void
drop_rule(const JanitorJob *job, HeapTuple tuple)
{
	JanitorRuleDraft old;

	janitor_rule_draft_load(&old, tuple);
	janitor_rule_delete(tuple);
	janitor_change_insert(job->name, "drop rule",
						  janitor_rule_draft_to_jsonb(&old), NULL);
}

/* job_drop_rule(job_name text, rule text) returns void */
Datum
job_drop_rule(PG_FUNCTION_ARGS)
{
	JanitorJob *job;
	HeapTuple	tuple;
	char	   *name;

	janitor_prevent_misuse("job_drop_rule()");
	job = job_with_rules(fcinfo);
	name = janitor_arg_text_required(fcinfo, 1, "rule");
	tuple = janitor_rule_find(job->name, name);
	if (tuple == NULL)
		no_such_rule(job, name);
	if (job->kind == JANITOR_KIND_RETENTION &&
		list_length(janitor_rules_load(job->name)) == 1)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("rule \"%s\" is the only one of job \"%s\"", name,
						job->name),
				 errhint("To remove the job, use job_unschedule().")));
	drop_rule(job, tuple);
	forget_progress(job->name, name);
	janitor_job_bump(job);
	PG_RETURN_VOID();
}

/* --- removing a job --- */

void
janitor_rules_remove(const JanitorJob *job)
{
	ListCell   *cell;

	if (!janitor_job_is_heavy(job))
		return;
	foreach(cell, janitor_rules_load(job->name))
		drop_rule(job, ((JanitorRule *) lfirst(cell))->tuple);
	forget_progress(job->name, NULL);
}
