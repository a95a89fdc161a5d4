/*-------------------------------------------------------------------------
 *
 * items_group.c
 *	  A group of items: one transaction, one commit.
 *
 * The commit is what costs most, hence groups; the server keeps 64
 * subtransactions of a transaction at hand, hence no larger ones.  Items are
 * handled together where they can be (items_chunk.c), and one by one where they
 * cannot.  An item that fails is rolled back by itself and the group goes on.  One that met a
 * lock is tried again after the group, when nothing is locked any more.  A
 * group that cannot be committed is repeated one item at a time, so that the
 * error is that of one item.
 *
 * A cancel, a timeout or the end of the server comes between two items or
 * ends those in hand; those before them in the group are committed.
 *
 * Waits for locks are short: meanwhile the group holds locks of its own.
 *
 * Memory: a context for the group, reset before the next.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "items_internal.h"

#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "progress.h"
#include "run_sql.h"
#include "shmem.h"

/* How long an item in a group waits for a lock, and one by itself. */
#define GROUP_LOCK_TIMEOUT_MS 200
#define LONE_LOCK_TIMEOUT_MS 2000

/* Attempts of an item that meets locks, after that in its group. */
#define LONE_ATTEMPTS 3

/* --- one transaction --- */

static void
limit_waits(const JanitorItemGroup *group)
{
	int			most = group->alone ? LONE_LOCK_TIMEOUT_MS :
	GROUP_LOCK_TIMEOUT_MS;

	if (LockTimeout == 0 || LockTimeout > most)
		janitor_session_set_local("lock_timeout", psprintf("%d", most));
}

/*
 * Begins the transaction.  While somebody places a hold there is nothing to be
 * done but to wait for him, in a transaction that holds nothing.
 */
static void
begin(JanitorItemGroup *group)
{
	JanitorItems *items = group->items;
	bool		waited = false;

	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		janitor_begin();
		if (janitor_items_hold_read(items))
			break;
		janitor_commit(true);
		waited = true;
		janitor_progress_wait("hold");
		janitor_begin();
		janitor_session_set_local("lock_timeout", "0");
		janitor_items_hold_wait(items);
		janitor_commit(true);
	}
	if (waited)
		janitor_progress_wait(NULL);
	limit_waits(group);
}

static void
handle_subject(JanitorItemGroup *group, JanitorSubject *subject)
{
	if (subject->state != JANITOR_SUBJECT_LEFT)
		return;
	group->end = janitor_subject_handle(group->items, subject);
	if (group->alone && group->last_attempt &&
		subject->state == JANITOR_SUBJECT_CONFLICT)
		subject->state = JANITOR_SUBJECT_FAILED;
}

/*
 * Together as far as that goes, then one by one.  The first error that ends
 * the run ends the group, too.
 */
static void
handle_subjects(JanitorItemGroup *group)
{
	JanitorItems *items = group->items;
	int			next = 0;

	for (int i = 0; i < group->count; i++)
		janitor_subject_begin(items, &group->subjects[i]);
	while (next < group->count && group->end == NULL)
	{
		int			first = next;

		next = Min(group->count, first + items->chunk);
		if (next - first > 1)
			group->end = janitor_items_chunk(items, &group->subjects[first],
											 next - first);
		for (int i = first; i < next && group->end == NULL; i++)
			handle_subject(group, &group->subjects[i]);
	}
}

static int64
count_state(const JanitorItemGroup *group, JanitorSubjectState state)
{
	int64		count = 0;

	for (int i = 0; i < group->count; i++)
		count += group->subjects[i].state == state;
	return count;
}

/* What the group did, written beside it; then the commit. */
static void
finish(JanitorItemGroup *group)
{
	JanitorItems *items = group->items;
	JanitorCursor cursor;

	for (int i = 0; i < group->count; i++)
		janitor_subject_conclude(items, &group->subjects[i]);
	if (!janitor_cursor_find(group->slice->cursor_id, &cursor))
		janitor_ereport_plain(ERROR,
							  (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
							   errmsg("the progress of job \"%s\" was deleted from job_cursor",
									  items->job->name)));
	cursor.handled += count_state(group, JANITOR_SUBJECT_DONE);
	cursor.locked += count_state(group, JANITOR_SUBJECT_GONE);
	janitor_cursor_update(&cursor);
	janitor_items_receipts(group);
	janitor_commit(items->job->channel == NULL);
}

static void
carry_out(void *arg)
{
	JanitorItemGroup *group = arg;

	group->end = NULL;
	begin(group);
	handle_subjects(group);
	if (group->end == NULL)
		janitor_items_verify(group);

	/* what ends the run has been heard, and can wait for this */
	HOLD_CANCEL_INTERRUPTS();
	if (group->end != NULL)
		janitor_items_verify(group);
	finish(group);
	RESUME_CANCEL_INTERRUPTS();
}

/* --- after it --- */

static void
count_up(const JanitorItemGroup *group)
{
	JanitorItems *items = group->items;
	ListCell   *cell;

	items->groups++;
	items->done += count_state(group, JANITOR_SUBJECT_DONE);
	items->failed += count_state(group, JANITOR_SUBJECT_FAILED);
	for (int i = 0; i < group->count; i++)
	{
		const JanitorSubject *subject = &group->subjects[i];

		if (subject->state == JANITOR_SUBJECT_FAILED && items->sqlstate == 0)
			items->sqlstate = subject->error->sqlstate;
		if (subject->state != JANITOR_SUBJECT_DONE)
			continue;
		foreach(cell, items->steps)
			((JanitorStep *) lfirst(cell))->rows +=
			subject->rows[foreach_current_index(cell)];
	}
	janitor_progress_rows(items->done, items->listed,
						  items->slice_count > 1 || items->listed == 0 ? -1 :
						  (double) items->handled / items->listed);
}

/* One transaction; the error that undid it all, or NULL. */
static JanitorError *
attempt(JanitorItemGroup *group)
{
	JanitorError *error = janitor_attempt(carry_out, group);

	if (error != NULL)
	{
		janitor_run_rearm_timeout();
		if (janitor_items_ended(error))
			janitor_rethrow_discreetly(error);
		return error;
	}
	count_up(group);
	if (group->end != NULL)
		janitor_rethrow_discreetly(group->end);
	return NULL;
}

/* A failure that was found out when the item's transaction was committed. */
static void
record(void *arg)
{
	JanitorItemGroup *group = arg;

	janitor_begin();
	finish(group);
}

static void
record_failure(JanitorItemGroup *group, JanitorError *error)
{
	group->subjects[0].state = JANITOR_SUBJECT_FAILED;
	group->subjects[0].error = error;
	error = janitor_attempt(record, group);
	if (error != NULL)
	{
		janitor_run_rearm_timeout();
		janitor_rethrow_discreetly(error);
	}
	count_up(group);
}

/* An item by itself, which may have to wait for others. */
static void
handle_alone(JanitorItemGroup *whole, JanitorSubject *subject)
{
	JanitorItemGroup group = *whole;

	group.subjects = subject;
	group.count = 1;
	group.alone = true;
	for (int i = 1; i <= LONE_ATTEMPTS; i++)
	{
		JanitorError *error;

		group.last_attempt = i == LONE_ATTEMPTS;
		error = attempt(&group);
		if (error != NULL &&
			(group.last_attempt || !janitor_items_is_conflict(error)))
		{
			record_failure(&group, error);
			return;
		}
		if (error == NULL && subject->state != JANITOR_SUBJECT_CONFLICT)
			return;
	}
}

void
janitor_items_group(JanitorItemGroup *group)
{
	JanitorError *error = attempt(group);

	for (int i = 0; i < group->count; i++)
	{
		JanitorSubject *subject = &group->subjects[i];

		if (error != NULL || subject->state == JANITOR_SUBJECT_CONFLICT)
			handle_alone(group, subject);
	}
}
