/*-------------------------------------------------------------------------
 *
 * slot.c
 *	  A worker's own slot in shared memory.
 *
 * Everything here is called by the worker that holds the slot: it takes the
 * slot, takes runs out of the ring into it, and gives it up.  How slots and
 * ring fit together is told in crew.c.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "shmem_internal.h"

#include "storage/ipc.h"
#include "utils/timestamp.h"

#include "settings.h"

/* With a backlog, workers wake the scheduler when the ring is this low. */
#define RING_LOW 16

/* This process's slot, if it is a worker. */
static JanitorSlot *my_slot = NULL;

JanitorSlot *
janitor_my_slot(void)
{
	return my_slot;
}

/* The lock is held. */
static void
leave_dead_slot(void)
{
	my_slot->state = JANITOR_SLOT_DEAD;
	my_slot->helpers_wanted = 0;
	if (my_slot->execution_id != 0)
		janitor_end_helpers(my_slot->database, my_slot->execution_id,
							JANITOR_END_TERMINATE);
	janitor_tell_of_death(my_slot->database);
}

/*
 * PG_CATCH does not run for FATAL, this does.  A worker that had a run of its
 * own in hand, or that never could serve, leaves a dead slot for the scheduler.
 */
static void
worker_exit(int code, Datum arg)
{
	JanitorDatabase *database;

	janitor_lock(LW_EXCLUSIVE);
	my_slot->worker.pid = 0;
	if ((my_slot->execution_id != 0 && !my_slot->helper) ||
		(!my_slot->served && !my_slot->retire))
		leave_dead_slot();
	else
	{
		janitor_slot_free(my_slot);
		database = janitor_database_entry(my_slot->database, false);
		if (database)
			janitor_wake_database(database);
	}
	janitor_unlock();
	my_slot = NULL;
}

bool
janitor_worker_attach(int place, uint32 serial, Oid *database, Oid *owner)
{
	JanitorSlot *slot = &janitor_shared->slots[place];
	bool		attached = false;

	janitor_lock(LW_EXCLUSIVE);
	if (slot->state == JANITOR_SLOT_STARTING && slot->serial == serial)
	{
		slot->state = JANITOR_SLOT_CONNECTING;
		janitor_process_set(&slot->worker);
		*database = slot->database;
		*owner = slot->owner;
		my_slot = slot;
		attached = true;
	}
	janitor_unlock();
	if (attached)
		before_shmem_exit(worker_exit, (Datum) 0);
	return attached;
}

void
janitor_worker_ready(void)
{
	janitor_lock(LW_EXCLUSIVE);
	my_slot->state = JANITOR_SLOT_IDLE;
	my_slot->served = true;
	my_slot->since = my_slot->connected_at = GetCurrentTimestamp();
	janitor_wake_my_scheduler();
	janitor_unlock();
}

/*
 * Shall this worker leave for somebody who has none?  Only one at a time, when
 * there is no other place, and when it has had its turn.
 */
static bool
wanted_elsewhere(void)
{
	if (my_slot->connected_at > GetCurrentTimestamp() - JANITOR_TURN ||
		janitor_slots_in_use() < janitor_max_workers)
		return false;
	for (int i = 0; i < janitor_shared->slot_count; i++)
	{
		if (janitor_slot_is_leaving(&janitor_shared->slots[i]))
			return false;
	}
	return janitor_others_want(my_slot->database, my_slot->owner);
}

/* Nothing may be left of the one before; the lock is held. */
static void
begin(int64 execution_id, uint64 job_hash, bool heavy)
{
	my_slot->execution_id = execution_id;
	my_slot->job_hash = job_hash;
	my_slot->heavy = heavy;
	my_slot->state = JANITOR_SLOT_RUNNING;
	my_slot->since = GetCurrentTimestamp();
	janitor_progress_start(&my_slot->progress);
}

static JanitorTake
take_help(int64 *execution_id)
{
	JanitorSlot *leader = janitor_run_to_help(my_slot);

	if (leader == NULL)
		return JANITOR_TAKE_NOTHING;
	*execution_id = leader->execution_id;
	begin(leader->execution_id, leader->job_hash, true);
	my_slot->helper = true;
	my_slot->call = leader->call;
	janitor_wake_process(&leader->worker);
	return JANITOR_TAKE_HELP;
}

static JanitorTake
take_locked(int64 *execution_id)
{
	if (my_slot->retire || my_slot->term_requested || wanted_elsewhere())
	{
		my_slot->retire = true;
		return JANITOR_TAKE_LEAVE;
	}
	for (int i = 0; i < janitor_shared->ready_count; i++)
	{
		const JanitorReady *ready = &janitor_shared->ready[i];

		if (ready->database != my_slot->database ||
			ready->owner != my_slot->owner)
			continue;
		*execution_id = ready->execution_id;
		begin(ready->execution_id, ready->job_hash, ready->heavy);
		my_slot->end = ready->end;
		my_slot->end_execution =
			ready->end != JANITOR_END_NONE ? ready->execution_id : 0;
		janitor_ring_remove(i);
		return JANITOR_TAKE_RUN;
	}
	return take_help(execution_id);
}

JanitorTake
janitor_worker_take(int64 *execution_id)
{
	JanitorTake took;

	janitor_lock(LW_EXCLUSIVE);
	took = take_locked(execution_id);
	janitor_unlock();
	return took;
}

bool
janitor_worker_try_leave(void)
{
	bool		leaves;

	janitor_lock(LW_EXCLUSIVE);
	leaves = janitor_ring_count(my_slot->database, my_slot->owner) == 0;
	if (leaves)
		my_slot->retire = true;
	janitor_unlock();
	return leaves;
}

/*
 * The scheduler is woken when it has something that this end may let start:
 * not at every end, since that would cost a context switch each.
 */
void
janitor_worker_done(void)
{
	JanitorDatabase *database;
	JanitorProcess woken = {0, 0};
	int64		took = GetCurrentTimestamp() - my_slot->since;
	bool		heavy = my_slot->heavy;
	int			ready;

	janitor_lock(LW_EXCLUSIVE);
	database = janitor_my_database();
	ready = janitor_ring_count(my_slot->database, my_slot->owner);
	janitor_slot_clear(my_slot);
	my_slot->state = JANITOR_SLOT_IDLE;
	my_slot->since += took;
	if (database)
	{
		if (!heavy)
			database->short_run = (database->short_run * 7 +
								   Min(Max(took, 0), USECS_PER_SEC)) / 8;
		if (database->backlog && ready <= RING_LOW)
			woken = *janitor_who_serves(database);
	}
	if (ready == 0)
		janitor_offer_help();	/* it stays idle, or helps itself */
	janitor_unlock();
	janitor_wake_process(&woken);
	ConditionVariableBroadcast(&janitor_shared->run_ended);
}

JanitorEnd
janitor_worker_end(void)
{
	return my_slot->end_execution == my_slot->execution_id ?
		my_slot->end : JANITOR_END_NONE;
}

Oid
janitor_worker_ended_by(void)
{
	return my_slot->end_by;
}

void
janitor_worker_set_end(JanitorEnd why)
{
	if (my_slot->end == JANITOR_END_NONE)
	{
		my_slot->end = why;
		my_slot->end_execution = my_slot->execution_id;
	}
}

/*
 * From the SIGTERM handler: notes the request where the scheduler sees it and
 * wakes it.  true: a scheduler is there that will decide; false: end now.
 *
 * The postmaster signals each child twice, by its process and by its process
 * group; that is one request.  What the scheduler decides it says in `end`
 * before it signals.
 */
bool
janitor_worker_term_requested(void)
{
	JanitorSlot *slot = my_slot;

	if (slot == NULL || slot->execution_id == 0 ||
		slot->end != JANITOR_END_NONE)
		return false;
	slot->term_requested = true;
	for (int i = 0; i < JANITOR_MAX_DATABASES; i++)
	{
		JanitorDatabase *database = &janitor_shared->databases[i];

		if (database->oid != slot->database)
			continue;
		if (database->scheduler.pid == 0)
			return false;
		janitor_wake_process(&database->scheduler);
		return true;
	}
	return false;
}
