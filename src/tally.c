/*-------------------------------------------------------------------------
 *
 * tally.c
 *	  What the workers of one run have done together, rule by rule, in shared
 *	  memory.
 *
 * A rule that several workers share has one limit of rows, and its result adds
 * up what all of them did.  Tallies live in the slot of the worker that has
 * the run, which opens one for each rule in hand and is the last to leave it.
 * Each worker's own slot says which rule it is at.  All under the lock, some
 * ten times a second for each worker.
 *
 * Records do not depend on this: the rows that a run reports are those in
 * job_cursor.  A worker that dies between reserving the rows of a batch and
 * its commit leaves them in the tally; the limit is reached so much sooner.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "shmem_internal.h"

#include "tally.h"

/* --- the lock is held --- */

static JanitorTally *
find(JanitorSlot *leader, int place)
{
	for (int i = 0; leader != NULL && i < JANITOR_TALLIES; i++)
	{
		if (leader->tallies[i].place == place)
			return &leader->tallies[i];
	}
	return NULL;
}

/* Of the run that this worker is at; NULL: its own worker has died. */
static JanitorTally *
tally_of(int place)
{
	JanitorSlot *mine = janitor_my_slot();

	return find(mine->helper ?
				janitor_slot_of_run(mine->database, mine->execution_id) :
				mine, place);
}

static JanitorTally *
my_tally(void)
{
	int			place = janitor_my_slot()->at_rule;

	return place == 0 ? NULL : tally_of(place);
}

static int
workers_at(int place)
{
	const JanitorSlot *mine = janitor_my_slot();
	int			count = 0;

	for (int i = 0; i < janitor_shared->slot_count; i++)
	{
		const JanitorSlot *slot = &janitor_shared->slots[i];

		if (slot->state == JANITOR_SLOT_RUNNING && slot->at_rule == place &&
			slot->database == mine->database &&
			slot->execution_id == mine->execution_id)
			count++;
	}
	return count;
}

/* --- by the worker that has the run; the lock is not held --- */

void
janitor_tally_open(int place, int workers, JanitorGuard guard)
{
	JanitorTally *tally;

	janitor_lock(LW_EXCLUSIVE);
	tally = find(janitor_my_slot(), 0);
	if (tally != NULL)
	{
		MemSet(tally, 0, sizeof(JanitorTally));
		tally->place = place;
		tally->workers = workers;
		tally->guard = guard;
	}
	janitor_unlock();
	if (tally == NULL)
		elog(ERROR, "too many rules in hand");
}

void
janitor_tally_close(int place)
{
	JanitorTally *tally;

	janitor_lock(LW_EXCLUSIVE);
	tally = tally_of(place);
	if (tally != NULL)
		tally->closed = true;
	janitor_unlock();
}

JanitorTally
janitor_tally_take(int place)
{
	JanitorTally result = {0};
	JanitorTally *tally;

	janitor_lock(LW_EXCLUSIVE);
	tally = tally_of(place);
	if (tally != NULL)
	{
		result = *tally;
		tally->place = 0;
	}
	janitor_unlock();
	return result;
}

/* --- by each of the run's workers; the lock is not held --- */

bool
janitor_tally_enter(int place, bool alone)
{
	JanitorTally *tally;
	bool		entered;

	janitor_lock(LW_EXCLUSIVE);
	tally = tally_of(place);
	entered = tally != NULL && !tally->closed &&
		workers_at(place) < (alone ? 1 : tally->workers);
	if (entered)
		janitor_my_slot()->at_rule = place;
	janitor_unlock();
	return entered;
}

void
janitor_tally_leave(void)
{
	janitor_lock(LW_EXCLUSIVE);
	janitor_my_slot()->at_rule = 0;
	janitor_unlock();
}

bool
janitor_tally_is_closed(void)
{
	const JanitorTally *tally;
	bool		closed;

	janitor_lock(LW_SHARED);
	tally = my_tally();
	closed = tally == NULL || tally->closed;
	janitor_unlock();
	return closed;
}

int
janitor_tally_workers(void)
{
	int			count;

	janitor_lock(LW_SHARED);
	count = workers_at(janitor_my_slot()->at_rule);
	janitor_unlock();
	return Max(count, 1);
}

bool
janitor_tally_reserve(int64 rows, JanitorGuard *guard)
{
	JanitorTally *tally;
	bool		within = true;

	janitor_lock(LW_EXCLUSIVE);
	tally = my_tally();
	if (tally != NULL)
	{
		tally->rows += rows;
		*guard = tally->guard;
		within = tally->rows <= guard->limit;
	}
	janitor_unlock();
	return within;
}

void
janitor_tally_release(int64 rows)
{
	JanitorTally *tally;

	janitor_lock(LW_EXCLUSIVE);
	tally = my_tally();
	if (tally != NULL)
		tally->rows -= rows;
	janitor_unlock();
}

void
janitor_tally_batch(int64 took)
{
	JanitorTally *tally;

	janitor_lock(LW_EXCLUSIVE);
	tally = my_tally();
	if (tally != NULL)
	{
		tally->batches++;
		tally->longest = Max(tally->longest, took);
	}
	janitor_unlock();
}

void
janitor_tally_pause(JanitorPause pause, int64 took)
{
	JanitorTally *tally;

	janitor_lock(LW_EXCLUSIVE);
	tally = my_tally();
	if (tally != NULL)
		tally->paused[pause] += Max(took, 0);
	janitor_unlock();
}
