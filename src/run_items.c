/*-------------------------------------------------------------------------
 *
 * run_items.c
 *	  Kind `items`: one subtransaction for each item.
 *
 * Runs in the worker that has the run, and in the helpers that share it, both
 * connected as the job's owner.
 *
 * The items query is analysed, what is to be done for an item prepared, and
 * the keys of all items listed: until then no row has been touched, and errors
 * are those of the definition.  Then each is handled in a subtransaction, in
 * groups that commit together (items_group.c, items_subject.c).
 *
 * What was done is in job_cursor, what failed in job_item_failure, in the same
 * commits as the work; the run's record adds them up.  So nothing here has to
 * survive an error: whatever ends the run, the record is right.  A run that
 * died needs no position to go on from: what it did is no item any more, and
 * the next one makes its list anew.
 *
 * A job with `parallel` has its keys in slices, which helpers take as those of
 * a retention rule (items_list.c says how they agree on them).
 *
 * Memory: a context for the run, in it one for a group of items at a time.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "run_items.h"

#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "items_internal.h"
#include "progress.h"
#include "session.h"
#include "shmem.h"

/* Slices of a run that is shared: small enough to be given back soon. */
#define SLICES 32

/* --- before the first item --- */

static JanitorItems *
new_items(JanitorRun *run, const JanitorExecution *execution,
		  const JanitorJob *job)
{
	MemoryContext context = AllocSetContextCreate(run->context,
												  "pg_janitor items",
												  ALLOCSET_DEFAULT_SIZES);
	JanitorItems *items = MemoryContextAllocZero(context,
												 sizeof(JanitorItems));

	items->run = run;
	items->execution = execution;
	items->job = job;
	items->deadline = DT_NOEND;
	items->overdue = -1;
	items->context = context;
	items->scratch = AllocSetContextCreate(context, "pg_janitor items list",
										   ALLOCSET_SMALL_SIZES);
	items->group_context = AllocSetContextCreate(context,
												 "pg_janitor group of items",
												 ALLOCSET_DEFAULT_SIZES);
	items->slice_count = job->parallel > 1 ? SLICES : 1;
	items->slices = MemoryContextAllocZero(context,
										   items->slice_count *
										   sizeof(JanitorItemSlice));
	return items;
}

/*
 * The session as rules expect it, and as whoever wants to be forgotten does.
 * An item's statements are short: compiling a plan would take longer than they
 * do.
 */
static void
set_up_session(const JanitorJob *job)
{
	janitor_begin();
	janitor_session_set("timezone", job->time_zone);
	janitor_session_set("jit", "off");
	janitor_session_discreet();
	janitor_commit(true);
}

/* What the definition means; its errors may be shown as they are. */
static void
prepare(JanitorItems *items)
{
	Oid			type;

	MemoryContextSwitchTo(items->context);
	janitor_progress_phase("planning", InvalidOid);
	janitor_begin();
	if (items->execution->reason == JANITOR_REASON_REPLAY)
		items->replay = janitor_replay_read(items->job->name);
	items->query = items->replay == NULL ?
		janitor_items_query(items->job->items, "items query",
							items->job->name) :
		janitor_items_query(janitor_replay_query(items->job),
							"subjects query", items->job->name);
	type = items->query->key_type;
	items->subject = janitor_query_prepare(items->query->subject, 1, &type);
	janitor_items_add_steps(items);
	janitor_items_chunk_begin(items);
	janitor_items_receipts_begin(items);
	janitor_items_hold_begin(items);
	janitor_commit(true);
}

/* --- slices --- */

typedef struct Slices
{
	JanitorItems *items;
	List	   *stale;			/* of int64 *: ids of runs that are over */
} Slices;

/* Rows of this run, in their order; or of runs that died. */
static bool
find_slice(JanitorCursor *cursor, void *arg)
{
	Slices	   *slices = arg;
	JanitorItems *items = slices->items;
	JanitorExecution execution;
	int64	   *id;
	int			number;

	if (cursor->execution_id == items->execution->id)
	{
		number = pg_strtoint32(cursor->until);
		if (number >= 0 && number < items->slice_count)
			items->slices[number].cursor_id = cursor->id;
	}
	else if (!janitor_execution_find(cursor->execution_id, &execution) ||
			 execution.status != JANITOR_RUNNING)
	{
		id = palloc(sizeof(int64));
		*id = cursor->id;
		slices->stale = lappend(slices->stale, id);
	}
	return true;
}

static void
add_slice(JanitorItems *items, int number)
{
	JanitorCursor cursor = {
		.job_name = items->job->name,.rule = "",
		.execution_id = items->execution->id,.relation = "",
		.method = JANITOR_METHOD_ITEMS,.state = JANITOR_CURSOR_OPEN,
		.until = psprintf("%d", number),.as_of = items->run->now
	};

	janitor_cursor_insert(&cursor);
	items->slices[number].cursor_id = cursor.id;
}

static void
make_slices(JanitorItems *items)
{
	Slices		slices = {items, NIL};
	ListCell   *cell;

	janitor_cursor_scan(items->job->name, find_slice, &slices);
	foreach(cell, slices.stale)
		janitor_cursor_delete(*(int64 *) lfirst(cell));
	for (int i = 0; i < items->slice_count; i++)
		add_slice(items, i);
}

static void
find_slices(JanitorItems *items)
{
	Slices		slices = {items, NIL};

	janitor_cursor_scan(items->job->name, find_slice, &slices);
}

/* Takes a slice if it is to be had; without waiting for its worker. */
static bool
claim(JanitorItemSlice *slice, JanitorCursor *cursor)
{
	bool		claimed;

	janitor_begin();
	claimed = janitor_cursor_find(slice->cursor_id, cursor) &&
		cursor->state == JANITOR_CURSOR_OPEN &&
		(cursor->worker == 0 || cursor->worker == MyProcPid ||
		 !janitor_worker_lives(cursor->worker)) &&
		janitor_cursor_claim(slice->cursor_id, cursor, janitor_worker_lives);
	janitor_commit(true);
	return claimed;
}

/* Somebody else may go on after this item; NULL: the slice is done. */
static void
leave(JanitorItems *items, JanitorItemSlice *slice, JanitorSubject *last)
{
	JanitorCursor cursor;

	janitor_begin();
	if (janitor_cursor_find(slice->cursor_id, &cursor))
	{
		cursor.worker = 0;
		cursor.state = last ? JANITOR_CURSOR_OPEN : JANITOR_CURSOR_DONE;
		cursor.position = last == NULL ? NULL :
			unconstify(char *, janitor_subject_key(items, last));
		janitor_cursor_update(&cursor);
	}
	janitor_commit(true);
}

/* --- the work --- */

static bool
past(TimestampTz deadline)
{
	return deadline != DT_NOEND && GetCurrentTimestamp() >= deadline;
}

static bool
must_stop(const JanitorItems *items)
{
	return past(items->deadline) ||
		(items->helper && janitor_helper_should_leave());
}

/* The next keys; false: there are none. */
static bool
fill_group(JanitorItemGroup *group)
{
	JanitorItems *items = group->items;

	MemoryContextReset(items->group_context);
	MemoryContextSwitchTo(items->group_context);
	group->subjects = palloc0(JANITOR_ITEMS_PER_GROUP *
							  sizeof(JanitorSubject));
	group->count = 0;
	while (group->count < JANITOR_ITEMS_PER_GROUP &&
		   janitor_items_next_key(items, group->slice,
								  &group->subjects[group->count].key))
		group->count++;
	items->handled += group->count;
	return group->count > 0;
}

/*
 * Goes on after the item where another worker left.  If that is not in our
 * list, it was done when we made it, as was everything before it.
 */
static void
skip_to(JanitorItems *items, JanitorItemSlice *slice, const char *position)
{
	bool		found = false;
	Datum		key;

	MemoryContextSwitchTo(items->group_context);
	janitor_begin();
	while (!found && janitor_items_next_key(items, slice, &key))
	{
		found = strcmp(janitor_item_key_text(items->query, key),
					   position) == 0;
		MemoryContextReset(items->group_context);
	}
	janitor_commit(true);
	if (!found)
		tuplestore_rescan(slice->keys);
}

/* false: it had to stop before the slice was done. */
static bool
work_on(JanitorItems *items, JanitorItemSlice *slice, const char *position)
{
	JanitorItemGroup group = {.items = items,.slice = slice};

	tuplestore_rescan(slice->keys);
	if (position != NULL)
		skip_to(items, slice, position);
	while (fill_group(&group))
	{
		CHECK_FOR_INTERRUPTS();
		janitor_items_group(&group);
		if (must_stop(items))
		{
			leave(items, slice, &group.subjects[group.count - 1]);
			return false;
		}
	}
	leave(items, slice, NULL);
	return true;
}

/* One pass over the slices, taking what is to be had. */
static bool
pass_over(JanitorItems *items, bool *found)
{
	*found = false;
	for (int i = 0; i < items->slice_count; i++)
	{
		JanitorItemSlice *slice = &items->slices[i];
		JanitorCursor cursor;

		MemoryContextSwitchTo(items->context);
		if (slice->cursor_id == 0 || !claim(slice, &cursor))
			continue;
		*found = true;
		if (!work_on(items, slice, cursor.position))
			return false;
	}
	return true;
}

/* All slices, with helpers if there are any to be had. */
static void
work_on_slices(JanitorItems *items)
{
	bool		found;

	janitor_progress_phase("items", InvalidOid);
	if (items->job->parallel > 1 && items->listed > JANITOR_ITEMS_PER_GROUP)
		janitor_helpers_want(items->job->parallel - 1);
	for (;;)
	{
		items->stopped = !pass_over(items, &found);
		if (items->stopped || (!found && janitor_helpers_here() == 0))
			break;
		if (!found)
			janitor_helpers_wait(-1);
	}
	janitor_helpers_dismiss(false);
}

/* --- the list --- */

static void
list_keys(void *arg)
{
	JanitorItems *items = arg;

	janitor_begin();
	if (items->helper)
		find_slices(items);
	else
		make_slices(items);
	janitor_items_list(items);
	if (items->replay != NULL)
		janitor_replay_wipe(items->replay);
	janitor_commit(true);
}

/* The query reads rows, and its errors may show them. */
static void
ask(JanitorItems *items, void (*function) (void *arg))
{
	JanitorError *error;

	MemoryContextSwitchTo(items->context);
	janitor_progress_phase("listing", InvalidOid);
	error = janitor_attempt(function, items);
	if (error != NULL)
	{
		janitor_run_rearm_timeout();
		if (items->helper || janitor_items_ended(error))
			janitor_rethrow_discreetly(error);
		ereport(ERROR,
				(errcode(error->sqlstate),
				 errmsg("the items query failed: %s",
						janitor_error_discreetly(error))));
	}
}

/*
 * Items that a run has not come to are in no table of ours: who looks has to
 * be told that deadlines pass.
 */
static void
count_overdue(void *arg)
{
	JanitorItems *items = arg;
	Datum		count;

	janitor_begin();
	if (janitor_query_value(items->query->overdue, 0, NULL, NULL, &count))
		items->overdue = DatumGetInt64(count);
	janitor_commit(true);
}

/* --- afterwards --- */

/* What became of the items, whoever handled them. */
typedef struct Tally
{
	int64		execution_id;
	int64		done;
	int64		gone;
	int64		failed;
	int64		held;
	int64		waiting;		/* for their next attempt */
	int64		dead;
	int64		overdue;		/* of all that are not done, but those held */
	int64		held_overdue;
	int64		undone;			/* failed or held in this run */
	TimestampTz now;
} Tally;

static bool
tally_slice(JanitorCursor *cursor, void *arg)
{
	Tally	   *tally = arg;

	if (cursor->execution_id == tally->execution_id)
	{
		tally->done += cursor->handled;
		tally->gone += cursor->locked;
	}
	return true;
}

static void
tally_failure(JanitorItemFailure *failure, void *arg)
{
	Tally	   *tally = arg;

	if (!TIMESTAMP_NOT_FINITE(failure->due) && failure->due < tally->now)
	{
		if (failure->held)
			tally->held_overdue++;
		else
			tally->overdue++;
	}
	if (failure->execution_id == tally->execution_id)
		tally->undone++;
	if (failure->held)
		tally->held++;
	else if (failure->execution_id == tally->execution_id)
		tally->failed++;
	else if (failure->dead)
		tally->dead++;
	else
		tally->waiting++;
}

static void
report_number(JanitorObject *result, const char *key, int64 number)
{
	if (number > 0)
		janitor_object_number(result, key, number);
}

/* Rows by rule: only where one worker has done it all does it know. */
static void
report_steps(JanitorObject *result, const JanitorItems *items)
{
	ListCell   *cell;

	if (items->slice_count > 1)
		return;
	janitor_object_open(result, "rows");
	foreach(cell, items->steps)
	{
		const JanitorStep *step = lfirst(cell);

		if (step->name != NULL)
			janitor_object_number(result, step->name, step->rows);
	}
	janitor_object_close(result);
}

static Jsonb *
report(const JanitorItems *items, const Tally *tally)
{
	JanitorObject result;

	janitor_object_begin(&result);
	janitor_object_number(&result, "items", items->listed);
	janitor_object_number(&result, "done", tally->done);
	report_number(&result, "failed", tally->failed);
	report_number(&result, "held", tally->held);
	report_number(&result, "waiting", tally->waiting);
	report_number(&result, "dead", tally->dead);
	report_number(&result, "called_off", tally->gone);
	report_number(&result, "overdue", tally->overdue);
	report_number(&result, "without_key", items->without_key);
	if (items->stopped)
		janitor_object_bool(&result, "stopped", true);
	janitor_items_report_receipts(items, &result);
	report_steps(&result, items);
	return janitor_object_end(&result);
}

/* What people should know, in words; NULL: nothing. */
static char *
describe_rest(const JanitorItems *items, const Tally *tally)
{
	StringInfoData text;

	initStringInfo(&text);
	if (items->stopped)
		appendStringInfo(&text, "stopped early, about " INT64_FORMAT " items are left; ",
						 items->listed - items->handled);
	if (tally->held > 0)
		appendStringInfo(&text, INT64_FORMAT " under a hold; ", tally->held);
	if (tally->waiting > 0)
		appendStringInfo(&text, INT64_FORMAT " waiting for another attempt; ",
						 tally->waiting);
	if (tally->dead > 0)
		appendStringInfo(&text, INT64_FORMAT " dead; ", tally->dead);
	if (items->without_key > 0)
		appendStringInfo(&text, INT64_FORMAT " without a key; ",
						 items->without_key);
	if (text.len == 0)
		return NULL;
	text.data[text.len - 2] = '\0';
	return text.data;
}

/* In a transaction of its own: no worker changes anything any more. */
static void
sum_up(JanitorItems *items, JanitorOutcome *outcome)
{
	Tally		tally = {.execution_id = items->execution->id,
	.now = GetCurrentTimestamp()};

	MemoryContextSwitchTo(items->run->context);
	janitor_begin();
	janitor_session_heard();
	if (!items->stopped && items->replay == NULL)
		janitor_items_sweep(items);
	janitor_cursor_scan(items->job->name, tally_slice, &tally);
	janitor_item_failure_scan(items->job->name, tally_failure, &tally);
	if (items->overdue >= 0)
		tally.overdue = Max(items->overdue - tally.held_overdue, 0);
	if (items->replay != NULL && !items->stopped && tally.undone == 0)
		janitor_replay_done(items->replay, items->execution->id);
	outcome->result = report(items, &tally);
	janitor_commit(true);

	outcome->status = JANITOR_SUCCEEDED;
	outcome->records = tally.done;
	outcome->detail = describe_rest(items, &tally);
	if (tally.failed == 0)
		return;
	outcome->status = JANITOR_FAILED;
	outcome->failed_records = tally.failed;
	outcome->sqlstate = items->sqlstate;
	outcome->error_message = psprintf(INT64_FORMAT " of " INT64_FORMAT " items failed",
									  tally.failed, tally.failed + tally.done);
}

static void
carry_out(JanitorItems *items)
{
	prepare(items);
	ask(items, list_keys);
	work_on_slices(items);
	if (items->stopped && items->query->overdue != NULL)
		ask(items, count_overdue);
}

void
janitor_run_items(JanitorRun *run, const JanitorExecution *execution,
				  const JanitorJob *job, JanitorOutcome *outcome)
{
	JanitorItems *items = new_items(run, execution, job);

	if (job->stop_after > 0)
		items->deadline = GetCurrentTimestamp() + job->stop_after;
	set_up_session(job);
	PG_TRY();
	{
		carry_out(items);
	}
	PG_FINALLY();
	{
		janitor_items_forget(items);
	}
	PG_END_TRY();
	sum_up(items, outcome);
	janitor_report_statistics();
}

/* --- a helper --- */

void
janitor_help_items(JanitorRun *run, const JanitorExecution *execution,
				   const JanitorJob *job)
{
	JanitorItems *items = new_items(run, execution, job);
	bool		found;

	items->helper = true;
	if (job->stop_after > 0)
		items->deadline = execution->started_at + job->stop_after;
	set_up_session(job);
	PG_TRY();
	{
		prepare(items);
		ask(items, list_keys);
		(void) pass_over(items, &found);
	}
	PG_FINALLY();
	{
		janitor_items_forget(items);
	}
	PG_END_TRY();
	janitor_report_statistics();
}
