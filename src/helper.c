/*-------------------------------------------------------------------------
 *
 * helper.c
 *	  Workers that help with another worker's run.
 *
 * The worker that has a run (its own, in what follows) may say that so many
 * helpers would be welcome.  A helper is a worker of the same database and
 * owner that has nothing of its own to do, and only while no one else lacks
 * anything: no claimed run, no place for a worker, no heavy room is waited
 * for, and one more place stays free, or its worker idle, for whatever comes.
 * Between two batches it asks whether that still holds, and leaves when it
 * does not.  A process is started for help only where a place can be spared:
 * one is free, or held by a worker that has been idle for a while.
 *
 * A helper's slot has the execution's id and `helper`; it is no run, and is
 * not counted as one.  What the run did is only known when all its helpers are
 * gone, since each commits its own batches.  Hence the order of ends:
 *
 * - The run ends by itself, or fails: its own worker calls
 *	 janitor_helpers_dismiss() before it records anything.
 * - Cancel, timeout, shutdown's end: helpers are sent the same signal as the
 *	 run's own worker, or (a timeout is only known there) by that worker's
 *	 dismissal.  They end quietly; their batch in hand is rolled back.
 * - The run's own worker dies (FATAL): its exit callback signals the helpers
 *	 and leaves a dead slot.  The scheduler does not bury it, that is, does not
 *	 write the end of the run, while a helper is there; the last helper to leave
 *	 wakes it.  A helper that does not heed the signal gets it again each second,
 *	 the third time for good, like any run that was asked to end.
 * - A helper is terminated, or dies: its slot is free at once and there is
 *	 nothing to record; the run goes on and its own worker is told.
 * - Fast shutdown: each worker gets SIGTERM.  A helper leaves after its batch,
 *	 the run goes on until pg_janitor.shutdown_grace is over; then all are
 *	 cancelled and the run's own worker, having waited for the others, records
 *	 it.  The scheduler leaves last.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "shmem_internal.h"

#include <signal.h>

#include "utils/timestamp.h"

#include "settings.h"

/* An idle worker of another owner gives way to a helper after this. */
#define IDLE_FOR_LONG (1 * USECS_PER_SEC)

/* --- who is there; the lock is held --- */

static bool
is_at(const JanitorSlot *slot, Oid database, int64 execution_id)
{
	return slot->state == JANITOR_SLOT_RUNNING &&
		slot->database == database && slot->execution_id == execution_id;
}

static bool
is_helper_of(const JanitorSlot *slot, Oid database, int64 execution_id)
{
	return slot->helper && is_at(slot, database, execution_id);
}

/* Those about to leave are counted or not. */
static int
count_helpers(Oid database, int64 execution_id, bool leaving)
{
	int			count = 0;

	for (int i = 0; i < janitor_shared->slot_count; i++)
	{
		const JanitorSlot *slot = &janitor_shared->slots[i];

		if (is_helper_of(slot, database, execution_id) &&
			(leaving || !slot->leaving))
			count++;
	}
	return count;
}

bool
janitor_has_helpers(Oid database, int64 execution_id)
{
	return count_helpers(database, execution_id, true) > 0;
}

/* How many more helpers the run would like to have. */
static int
helpers_lacking(const JanitorSlot *slot)
{
	if (slot->helpers_wanted == 0 || slot->helper ||
		slot->state != JANITOR_SLOT_RUNNING ||
		slot->end != JANITOR_END_NONE || slot->term_requested)
		return 0;
	return slot->helpers_wanted -
		count_helpers(slot->database, slot->execution_id, false);
}

/* --- may anybody help? --- */

/* Does any scheduler wait for a place for a worker? */
static bool
place_is_wanted(void)
{
	for (int i = 0; i < JANITOR_MAX_DATABASES; i++)
	{
		const JanitorDatabase *database = &janitor_shared->databases[i];

		if (!OidIsValid(database->oid))
			return false;
		if (database->wants_worker || database->wants_more)
			return true;
	}
	return false;
}

/*
 * With one more worker at work, and one for each run in the ring, would there
 * be a free place or an idle worker left?
 */
static bool
another_stays_free(void)
{
	int			busy = janitor_shared->ready_count;

	for (int i = 0; i < janitor_shared->slot_count; i++)
	{
		JanitorSlotState state = janitor_shared->slots[i].state;

		if (state != JANITOR_SLOT_FREE && state != JANITOR_SLOT_IDLE)
			busy++;
	}
	return busy + 1 < janitor_max_workers;
}

static bool
help_is_possible(void)
{
	return janitor_heavy_room() > 0 && !janitor_heavy_wanted() &&
		!place_is_wanted() && another_stays_free() &&
		janitor_shared->shortage_until < GetCurrentTimestamp();
}

/* Nothing of its own waits for the worker; see take_locked(). */
JanitorSlot *
janitor_run_to_help(const JanitorSlot *mine)
{
	bool		possible = false;

	for (int i = 0; i < janitor_shared->slot_count; i++)
	{
		JanitorSlot *slot = &janitor_shared->slots[i];

		if (slot->helpers_wanted == 0 || helpers_lacking(slot) <= 0 ||
			!janitor_slot_is_of(slot, mine->database, mine->owner) ||
			(mine->helped == slot->execution_id && mine->call == slot->call))
			continue;
		possible = possible || help_is_possible();
		return possible ? slot : NULL;
	}
	return NULL;
}

/* Wakes idle workers that can help this run, up to a number; how many. */
static int
wake_idle(const JanitorSlot *leader, int number)
{
	int			woken = 0;

	for (int i = 0; i < janitor_shared->slot_count && woken < number; i++)
	{
		const JanitorSlot *slot = &janitor_shared->slots[i];

		if (slot->state != JANITOR_SLOT_IDLE || slot->retire ||
			!janitor_slot_is_of(slot, leader->database, leader->owner) ||
			(slot->helped == leader->execution_id &&
			 slot->call == leader->call))
			continue;
		janitor_wake_process(&slot->worker);
		woken++;
	}
	return woken;
}

void
janitor_offer_help(void)
{
	bool		possible = false;

	for (int i = 0; i < janitor_shared->slot_count; i++)
	{
		const JanitorSlot *slot = &janitor_shared->slots[i];
		int			lacking;

		if (slot->helpers_wanted == 0 ||
			(lacking = helpers_lacking(slot)) <= 0)
			continue;
		if (!possible && !help_is_possible())
			return;
		possible = true;

		/* the scheduler sees whether there is a place for another worker */
		if (wake_idle(slot, lacking) < lacking)
			janitor_wake_database(janitor_database_entry(slot->database, true));
	}
}

/* Workers of the same owner that could help it, or will when they come. */
static int
helpers_coming(const JanitorSlot *leader)
{
	int			count = 0;

	for (int i = 0; i < janitor_shared->slot_count; i++)
	{
		const JanitorSlot *slot = &janitor_shared->slots[i];

		if (!janitor_slot_is_of(slot, leader->database, leader->owner) ||
			slot->retire)
			continue;
		if (slot->state == JANITOR_SLOT_STARTING ||
			slot->state == JANITOR_SLOT_CONNECTING ||
			slot->state == JANITOR_SLOT_IDLE)
			count++;
	}
	return count;
}

/*
 * All places are taken, but more than one of them by idle workers: of those of
 * other owners the one that has been idle longest gives way, when it has been
 * for a while.  Returns how long until then, at least; 0: it is told, or there
 * is none.
 */
static int64
make_place(const JanitorSlot *leader)
{
	JanitorSlot *idlest = NULL;
	int64		left;

	for (int i = 0; i < janitor_shared->slot_count; i++)
	{
		JanitorSlot *slot = &janitor_shared->slots[i];

		if (slot->state == JANITOR_SLOT_FREE ||
			janitor_slot_is_of(slot, leader->database, leader->owner))
			continue;
		if (janitor_slot_is_leaving(slot))
			return 0;			/* we are told when it is gone */
		if (slot->state == JANITOR_SLOT_IDLE &&
			(idlest == NULL || slot->since < idlest->since))
			idlest = slot;
	}
	if (idlest == NULL)
		return 0;
	left = idlest->since + IDLE_FOR_LONG - GetCurrentTimestamp();
	if (left > 0)
		return Min(left, IDLE_FOR_LONG);
	idlest->retire = true;
	janitor_wake_process(&idlest->worker);
	return 0;
}

Oid
janitor_helper_to_recruit(int64 *again)
{
	Oid			owner = InvalidOid;

	*again = 0;
	janitor_lock(LW_EXCLUSIVE);
	for (int i = 0; i < janitor_shared->slot_count; i++)
	{
		const JanitorSlot *slot = &janitor_shared->slots[i];

		if (slot->helpers_wanted == 0 || slot->database != MyDatabaseId ||
			helpers_lacking(slot) <= helpers_coming(slot) ||
			!help_is_possible())
			continue;
		if (janitor_slots_in_use() < janitor_max_workers)
			owner = slot->owner;
		else
			*again = make_place(slot);
		break;
	}
	janitor_unlock();
	return owner;
}

/* --- coming, leaving, ends --- */

void
janitor_helper_moved(const JanitorSlot *helper)
{
	JanitorSlot *leader = janitor_slot_of_run(helper->database,
											  helper->execution_id);

	if (leader)
	{
		leader->progress.helped += helper->progress.rows;
		janitor_wake_process(&leader->worker);
	}
	else
		janitor_tell_of_death(helper->database);
}

void
janitor_end_helpers(Oid database, int64 execution_id, JanitorEnd why)
{
	for (int i = 0; i < janitor_shared->slot_count; i++)
	{
		JanitorSlot *slot = &janitor_shared->slots[i];

		if (is_helper_of(slot, database, execution_id))
			janitor_end_slot(slot, why, SIGINT);
	}
}

/* --- by the run's own worker; the lock is not held --- */

void
janitor_helpers_want(int count)
{
	JanitorSlot *mine = janitor_my_slot();

	janitor_lock(LW_EXCLUSIVE);
	mine->helpers_wanted = count;
	mine->call++;
	for (int i = 0; i < janitor_shared->slot_count; i++)
	{
		JanitorSlot *slot = &janitor_shared->slots[i];

		if (is_helper_of(slot, mine->database, mine->execution_id))
			janitor_wake_process(&slot->worker);	/* one may be too many */
	}
	janitor_offer_help();
	janitor_unlock();
}

int
janitor_helpers_here(void)
{
	const JanitorSlot *mine = janitor_my_slot();
	int			count;

	janitor_lock(LW_SHARED);
	count = count_helpers(mine->database, mine->execution_id, true);
	janitor_unlock();
	return count;
}

void
janitor_helpers_wait(long timeout_ms)
{
	static uint32 wait_event = 0;

	if (wait_event == 0)
		wait_event = janitor_new_wait_event("JanitorHelpers");
	(void) WaitLatch(MyLatch,
					 WL_LATCH_SET | WL_EXIT_ON_PM_DEATH |
					 (timeout_ms >= 0 ? WL_TIMEOUT : 0),
					 timeout_ms, wait_event);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/*
 * A cancel of the run waits until they are gone; they have been sent it as
 * well.  Once its own worker is here to say how it ended, it need not be asked
 * again.
 */
void
janitor_helpers_dismiss(bool at_once)
{
	JanitorSlot *mine = janitor_my_slot();

	janitor_helpers_want(0);
	if (at_once)
	{
		janitor_lock(LW_EXCLUSIVE);
		if (mine->end != JANITOR_END_NONE)
			mine->end_signals = 0;
		janitor_end_helpers(mine->database, mine->execution_id,
							JANITOR_END_CANCEL);
		janitor_unlock();
	}
	HOLD_CANCEL_INTERRUPTS();
	while (janitor_helpers_here() > 0)
		janitor_helpers_wait(-1);
	RESUME_CANCEL_INTERRUPTS();
}

bool
janitor_worker_lives(int pid)
{
	const JanitorSlot *mine = janitor_my_slot();
	bool		lives = false;

	janitor_lock(LW_SHARED);
	for (int i = 0; i < janitor_shared->slot_count && !lives; i++)
	{
		const JanitorSlot *slot = &janitor_shared->slots[i];

		lives = slot->worker.pid == pid &&
			is_at(slot, mine->database, mine->execution_id);
	}
	janitor_unlock();
	return lives;
}

/* --- by a helper --- */

/* Does a claimed run of its owner wait that no other worker will take? */
static bool
has_own_work(const JanitorSlot *mine)
{
	int			takers = 0;

	for (int i = 0; i < janitor_shared->slot_count; i++)
	{
		const JanitorSlot *slot = &janitor_shared->slots[i];

		if (slot != mine && !slot->retire &&
			janitor_slot_is_of(slot, mine->database, mine->owner) &&
			(slot->state == JANITOR_SLOT_IDLE || slot->leaving))
			takers++;
	}
	return janitor_ring_count(mine->database, mine->owner) > takers;
}

/*
 * Does somebody wait for a worker's place, or for heavy room, that no one else
 * is about to make free?
 */
static bool
is_in_the_way(const JanitorSlot *mine)
{
	bool		place_wanted = place_is_wanted() &&
	janitor_slots_in_use() >= janitor_max_workers;
	bool		room_wanted = janitor_heavy_wanted() &&
	janitor_heavy_room() == 0;

	if (!place_wanted && !room_wanted)
		return false;
	for (int i = 0; i < janitor_shared->slot_count; i++)
	{
		const JanitorSlot *slot = &janitor_shared->slots[i];

		if (slot == mine || slot->state == JANITOR_SLOT_FREE)
			continue;
		if (slot->leaving)
			return false;
		if (slot->state == JANITOR_SLOT_IDLE || janitor_slot_is_leaving(slot))
			place_wanted = false;
	}
	return place_wanted || room_wanted;
}

static bool
must_leave(const JanitorSlot *mine)
{
	const JanitorSlot *leader = janitor_slot_of_run(mine->database,
													mine->execution_id);

	return mine->leaving || mine->retire || mine->term_requested ||
		mine->end != JANITOR_END_NONE || leader == NULL ||
		leader->end != JANITOR_END_NONE || helpers_lacking(leader) < 0 ||
		has_own_work(mine) || is_in_the_way(mine);
}

bool
janitor_helper_should_leave(void)
{
	JanitorSlot *mine = janitor_my_slot();
	bool		leaves;

	if (!mine->helper)
		return false;
	janitor_lock(LW_EXCLUSIVE);
	leaves = mine->leaving = must_leave(mine);
	janitor_unlock();
	return leaves;
}
