/*-------------------------------------------------------------------------
 *
 * progress.c
 *	  How far the runs in progress have come, in shared memory.
 *
 * A worker writes into its own slot, between batches, under the lock: a few
 * assignments, some ten times a second.  Others copy all of it under the
 * shared lock and then look at it.  What a slot says is of the run in it, and
 * is wiped when that run ends (crew.c).
 *
 * Texts are constants of the code, in ASCII.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "shmem_internal.h"

static const char *const pause_names[JANITOR_PAUSES] = {
	[JANITOR_PAUSE_RATE] = "rate",
	[JANITOR_PAUSE_LAG] = "replica lag",
	[JANITOR_PAUSE_SLOT] = "replication slot",
	[JANITOR_PAUSE_ARCHIVER] = "archiver",
	[JANITOR_PAUSE_HOLD] = "hold",
};

const char *
janitor_pause_name(JanitorPause pause)
{
	return pause_names[pause];
}

void
janitor_progress_start(JanitorProgress *progress)
{
	MemSet(progress, 0, sizeof(JanitorProgress));
	strlcpy(progress->phase, "running", sizeof(progress->phase));
	progress->total = -1;
	progress->fraction = -1;
}

/* --- by the worker --- */

/* The lock is held; NULL: this is no worker, or it has nothing in hand. */
static JanitorProgress *
my_progress(void)
{
	JanitorSlot *mine = janitor_my_slot();

	return mine && mine->execution_id != 0 ? &mine->progress : NULL;
}

void
janitor_progress_phase(const char *phase, Oid relation)
{
	JanitorProgress *progress = my_progress();

	if (progress == NULL)
		return;
	janitor_lock(LW_EXCLUSIVE);
	strlcpy(progress->phase, phase, sizeof(progress->phase));
	progress->relation = relation;
	janitor_unlock();
}

void
janitor_progress_rows(int64 rows, int64 total, double fraction)
{
	JanitorProgress *progress = my_progress();

	if (progress == NULL)
		return;
	janitor_lock(LW_EXCLUSIVE);
	progress->rows = rows;
	progress->total = total;
	progress->fraction = fraction;
	janitor_unlock();
}

void
janitor_progress_add(int64 rows)
{
	JanitorProgress *progress = my_progress();

	if (progress == NULL)
		return;
	janitor_lock(LW_EXCLUSIVE);
	progress->rows += rows;
	janitor_unlock();
}

void
janitor_progress_expect(int64 total)
{
	JanitorProgress *progress = my_progress();

	if (progress == NULL)
		return;
	janitor_lock(LW_EXCLUSIVE);
	progress->total = total;
	janitor_unlock();
}

void
janitor_progress_wait(const char *reason)
{
	JanitorProgress *progress = my_progress();

	if (progress == NULL)
		return;
	janitor_lock(LW_EXCLUSIVE);
	strlcpy(progress->waits_for, reason ? reason : "",
			sizeof(progress->waits_for));
	janitor_unlock();
}

/* --- by others --- */

static void
copy_slot(const JanitorSlot *slot, JanitorProgress *progress)
{
	*progress = slot->progress;
	progress->execution_id = slot->execution_id;
	progress->owner = slot->owner;
	progress->pid = slot->worker.pid;
	progress->helper = slot->helper;
	progress->since = slot->since;
	if (slot->state == JANITOR_SLOT_DEAD)
		strlcpy(progress->phase, "ending", sizeof(progress->phase));
}

static void
copy_ready(const JanitorReady *ready, JanitorProgress *progress)
{
	janitor_progress_start(progress);
	strlcpy(progress->phase, "waiting for a worker", sizeof(progress->phase));
	progress->execution_id = ready->execution_id;
	progress->owner = ready->owner;
	progress->since = ready->since;
}

JanitorProgress *
janitor_progress_all(int *count)
{
	JanitorProgress *all;
	int			n = 0;

	*count = 0;
	if (janitor_shared == NULL)
		return NULL;
	all = palloc0((janitor_shared->slot_count + JANITOR_RING_SIZE) *
				  sizeof(JanitorProgress));

	janitor_lock(LW_SHARED);
	for (int i = 0; i < janitor_shared->slot_count; i++)
	{
		const JanitorSlot *slot = &janitor_shared->slots[i];

		if (slot->state != JANITOR_SLOT_FREE && slot->execution_id != 0 &&
			slot->database == MyDatabaseId)
			copy_slot(slot, &all[n++]);
	}
	for (int i = 0; i < janitor_shared->ready_count; i++)
	{
		const JanitorReady *ready = &janitor_shared->ready[i];

		if (ready->database == MyDatabaseId)
			copy_ready(ready, &all[n++]);
	}
	janitor_unlock();
	*count = n;
	return all;
}
