/*-------------------------------------------------------------------------
 *
 * crew_end.c
 *	  Ends of runs and of workers, in shared memory.
 *
 * A run is ended by a signal to its worker, or by a note on it in the ring; the
 * first to ask is named in the record.  A worker that was asked and goes on is
 * asked again each second, and made to leave in the end: a cancel may reach it
 * where it cannot be served.  The scheduler repeats, so that no session that
 * asks has to stay.
 *
 * A worker retires when nobody has work for it: at once if it is idle, after
 * its run if not.  A slot that is dead keeps the run until its scheduler has
 * recorded it.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "shmem_internal.h"

#include <signal.h>

#include "storage/ipc.h"
#include "utils/timestamp.h"

/* A worker that was asked to end its run is asked again after this. */
#define REPEAT_END (1 * USECS_PER_SEC)
#define SIGNALS_BEFORE_DIE 3

bool
janitor_next_death(JanitorDeath *death)
{
	bool		found = false;

	janitor_lock(LW_SHARED);
	for (int i = death->slot + 1; i < janitor_shared->slot_count && !found; i++)
	{
		const JanitorSlot *slot = &janitor_shared->slots[i];

		if (slot->state == JANITOR_SLOT_DEAD &&
			slot->database == MyDatabaseId &&
			!janitor_has_helpers(slot->database, slot->execution_id))
		{
			death->slot = i;
			death->owner = slot->owner;
			death->execution_id = slot->execution_id;
			death->served = slot->served;
			death->end = slot->end_execution == slot->execution_id ?
				slot->end : JANITOR_END_NONE;
			found = true;
		}
	}
	janitor_unlock();
	return found;
}

void
janitor_slot_bury(int place)
{
	janitor_lock(LW_EXCLUSIVE);
	Assert(janitor_shared->slots[place].state == JANITOR_SLOT_DEAD);
	janitor_slot_free(&janitor_shared->slots[place]);
	janitor_unlock();
	ConditionVariableBroadcast(&janitor_shared->run_ended);
}

void
janitor_forget_dead(void)
{
	janitor_lock(LW_EXCLUSIVE);
	for (int i = 0; i < janitor_shared->slot_count; i++)
	{
		JanitorSlot *slot = &janitor_shared->slots[i];

		if (slot->state == JANITOR_SLOT_DEAD &&
			slot->database == MyDatabaseId)
			janitor_slot_free(slot);
	}
	janitor_unlock();
	ConditionVariableBroadcast(&janitor_shared->run_ended);
}

/* Does the worker wait for the scheduler's word on its SIGTERM? */
static bool
waits_for_word(const JanitorSlot *slot)
{
	return slot->state == JANITOR_SLOT_RUNNING &&
		slot->database == MyDatabaseId && slot->term_requested &&
		slot->end == JANITOR_END_NONE;
}

int
janitor_terminated(int *slots, int size)
{
	int			count = 0;

	janitor_lock(LW_SHARED);
	for (int i = 0; i < janitor_shared->slot_count && count < size; i++)
	{
		if (waits_for_word(&janitor_shared->slots[i]))
			slots[count++] = i;
	}
	janitor_unlock();
	return count;
}

void
janitor_terminate_slot(int place)
{
	JanitorSlot *slot = &janitor_shared->slots[place];

	janitor_lock(LW_EXCLUSIVE);
	if (waits_for_word(slot))
		janitor_end_slot(slot, JANITOR_END_TERMINATE, SIGTERM);
	janitor_unlock();
}

/* The lock is held exclusively. */
void
janitor_end_slot(JanitorSlot *slot, JanitorEnd why, int signal_number)
{
	/* the first to ask is the one the record names */
	if (slot->end == JANITOR_END_NONE)
	{
		slot->end = why;
		slot->end_execution = slot->execution_id;
	}
	slot->end_since = GetCurrentTimestamp();
	slot->end_signals++;
	if (slot->worker.pid != 0)
		kill(slot->worker.pid, signal_number);
	janitor_wake_my_scheduler();	/* it repeats the signal if need be */
}

JanitorSlot *
janitor_slot_of_run(Oid database, int64 execution_id)
{
	for (int i = 0; i < janitor_shared->slot_count; i++)
	{
		JanitorSlot *slot = &janitor_shared->slots[i];

		if (slot->state == JANITOR_SLOT_RUNNING && !slot->helper &&
			slot->database == database && slot->execution_id == execution_id)
			return slot;
	}
	return NULL;
}

bool
janitor_run_end(int64 execution_id, JanitorEnd why)
{
	JanitorSlot *slot;
	bool		found = false;

	if (janitor_shared == NULL)
		return false;
	janitor_lock(LW_EXCLUSIVE);
	slot = janitor_slot_of_run(MyDatabaseId, execution_id);
	if (slot)
	{
		if (why == JANITOR_END_CANCEL && slot->end == JANITOR_END_NONE)
			slot->end_by = GetSessionUserId();
		janitor_end_slot(slot, why, SIGINT);
		janitor_end_helpers(MyDatabaseId, execution_id, why);
		found = true;
	}
	for (int i = 0; i < janitor_shared->ready_count && !found; i++)
	{
		JanitorReady *ready = &janitor_shared->ready[i];

		if (ready->database == MyDatabaseId &&
			ready->execution_id == execution_id)
		{
			ready->end = why;	/* the worker that takes it records it */
			found = true;
		}
	}
	janitor_unlock();
	return found;
}

void
janitor_end_all(JanitorEnd why)
{
	janitor_lock(LW_EXCLUSIVE);
	for (int i = 0; i < janitor_shared->slot_count; i++)
	{
		JanitorSlot *slot = &janitor_shared->slots[i];

		if (slot->state == JANITOR_SLOT_RUNNING &&
			slot->database == MyDatabaseId)
			janitor_end_slot(slot, why, SIGINT);
	}
	janitor_unlock();
}

TimestampTz
janitor_repeat_ends(void)
{
	TimestampTz again = DT_NOEND;
	TimestampTz now = GetCurrentTimestamp();

	janitor_lock(LW_EXCLUSIVE);
	for (int i = 0; i < janitor_shared->slot_count; i++)
	{
		JanitorSlot *slot = &janitor_shared->slots[i];

		if (slot->state != JANITOR_SLOT_RUNNING ||
			slot->database != MyDatabaseId || slot->end_signals == 0)
			continue;
		if (now - slot->end_since >= REPEAT_END)
		{
			slot->end_since = now;
			kill(slot->worker.pid,
				 ++slot->end_signals < SIGNALS_BEFORE_DIE ? SIGINT : SIGTERM);
		}
		again = Min(again, slot->end_since + REPEAT_END);
	}
	janitor_unlock();
	return again;
}

/*
 * Idle workers leave now, busy ones after their run; of one database, or
 * (InvalidOid) of all.
 */
static void
retire_crews(Oid database)
{
	for (int i = 0; i < janitor_shared->slot_count; i++)
	{
		JanitorSlot *slot = &janitor_shared->slots[i];

		if (slot->state != JANITOR_SLOT_FREE &&
			(slot->database == database || database == InvalidOid))
		{
			slot->retire = true;
			janitor_wake_process(&slot->worker);
		}
	}
}

/* Called with the lock held. */
void
janitor_retire_idle(void)
{
	for (int i = 0; i < janitor_shared->slot_count; i++)
	{
		JanitorSlot *slot = &janitor_shared->slots[i];

		if (slot->state == JANITOR_SLOT_IDLE)
		{
			slot->retire = true;
			janitor_wake_process(&slot->worker);
		}
	}
}

void
janitor_end_deferred(void)
{
	for (int i = 0; i < janitor_shared->slot_count; i++)
	{
		JanitorSlot *slot = &janitor_shared->slots[i];

		if (slot->state == JANITOR_SLOT_RUNNING &&
			slot->database == MyDatabaseId && slot->term_requested)
			janitor_end_slot(slot, JANITOR_END_TERMINATE, SIGTERM);
	}
}

bool
janitor_forget_crews(Oid database)
{
	bool		empty = true;

	for (int i = 0; i < janitor_shared->slot_count; i++)
	{
		JanitorSlot *slot = &janitor_shared->slots[i];

		if (slot->state == JANITOR_SLOT_FREE || slot->database != database)
			continue;
		if (slot->worker.pid != 0)
			empty = false;
		else
			janitor_slot_free(slot);
	}
	for (int i = janitor_shared->ready_count - 1; i >= 0; i--)
	{
		if (janitor_shared->ready[i].database == database)
			janitor_ring_remove(i);
	}
	return empty;
}

void
janitor_retire_all(void)
{
	janitor_lock(LW_EXCLUSIVE);
	retire_crews(MyDatabaseId);
	janitor_unlock();
}

void
janitor_retire_everybody(void)
{
	janitor_lock(LW_EXCLUSIVE);
	retire_crews(InvalidOid);
	janitor_unlock();
}

void
janitor_clear_database(Oid oid)
{
	JanitorDatabase *database;

	if (janitor_shared == NULL)
		return;
	janitor_lock(LW_EXCLUSIVE);
	database = janitor_database_entry(oid, false);
	if (database)
	{
		database->leave_until = GetCurrentTimestamp() + 10 * USECS_PER_SEC;
		database->generation++;
		janitor_wake_database(database);
	}
	retire_crews(oid);
	janitor_unlock();
	janitor_database_cleared_until_end(oid);
}
