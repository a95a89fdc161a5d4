/*-------------------------------------------------------------------------
 *
 * ring.c
 *	  The ring of claimed runs, in shared memory.
 *
 * The scheduler pushes what it has claimed, durable or not; a worker of the
 * run's database and owner takes the oldest one that it may (slot.c).  What
 * nobody takes in time its scheduler takes back, free of charge.  The ring
 * outlives a scheduler, not a crash.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "shmem_internal.h"

#include "utils/timestamp.h"

/* --- the ring; the lock is held --- */

void
janitor_ring_remove(int place)
{
	janitor_shared->ready_count--;
	memmove(&janitor_shared->ready[place], &janitor_shared->ready[place + 1],
			(janitor_shared->ready_count - place) * sizeof(JanitorReady));
}

int
janitor_ring_count(Oid database, Oid owner)
{
	int			count = 0;

	for (int i = 0; i < janitor_shared->ready_count; i++)
	{
		const JanitorReady *ready = &janitor_shared->ready[i];

		if (ready->database == database &&
			(owner == InvalidOid || ready->owner == owner))
			count++;
	}
	return count;
}

/* --- the ring, from the scheduler's side --- */

/* Idle workers of the owners of what was pushed; at most one per run. */
static int
find_idle(const JanitorClaim *claims, int count, JanitorProcess *idle)
{
	int			found = 0;

	for (int i = 0; i < janitor_shared->slot_count && found < count; i++)
	{
		const JanitorSlot *slot = &janitor_shared->slots[i];

		if (slot->state != JANITOR_SLOT_IDLE || slot->retire ||
			slot->database != MyDatabaseId)
			continue;
		for (int j = 0; j < count; j++)
		{
			if (claims[j].owner == slot->owner)
			{
				idle[found++] = slot->worker;
				break;
			}
		}
	}
	return found;
}

static void
push_one(const JanitorClaim *claim, TimestampTz now)
{
	JanitorReady *ready = &janitor_shared->ready[janitor_shared->ready_count++];

	ready->execution_id = claim->execution_id;
	ready->job_hash = claim->job_hash;
	ready->database = MyDatabaseId;
	ready->owner = claim->owner;
	ready->since = now;
	ready->end = JANITOR_END_NONE;
	ready->heavy = claim->heavy;
}

/*
 * Latches are set when the lock is free: the woken take it first thing.  What
 * has no room keeps its order as well.
 */
int
janitor_ring_push(JanitorClaim *claims, int count)
{
	JanitorProcess idle[JANITOR_RING_SIZE];
	JanitorClaim *left = palloc(count * sizeof(JanitorClaim) + 1);
	TimestampTz now = GetCurrentTimestamp();
	int			heavy_room;
	int			idle_count;
	int			taken = 0;

	janitor_lock(LW_EXCLUSIVE);
	heavy_room = janitor_heavy_room();
	for (int i = 0; i < count; i++)
	{
		if (janitor_shared->ready_count < JANITOR_RING_SIZE &&
			(!claims[i].heavy || heavy_room-- > 0))
		{
			push_one(&claims[i], now);
			claims[taken++] = claims[i];
		}
		else
			left[i - taken] = claims[i];
	}
	idle_count = find_idle(claims, taken, idle);
	janitor_unlock();

	for (int i = 0; i < idle_count; i++)
		janitor_wake_process(&idle[i]);
	memcpy(claims + taken, left, (count - taken) * sizeof(JanitorClaim));
	pfree(left);
	return taken;
}

int
janitor_ring_free(void)
{
	int			free;

	janitor_lock(LW_SHARED);
	free = JANITOR_RING_SIZE - janitor_shared->ready_count;
	janitor_unlock();
	return free;
}

int
janitor_ring_take_back(TimestampTz before, JanitorClaim *claims, int size)
{
	int			taken = 0;
	bool		heavy = false;

	janitor_lock(LW_EXCLUSIVE);
	for (int i = 0; i < janitor_shared->ready_count && taken < size;)
	{
		const JanitorReady *ready = &janitor_shared->ready[i];

		if (ready->database == MyDatabaseId && ready->since < before)
		{
			claims[taken].execution_id = ready->execution_id;
			claims[taken].job_hash = ready->job_hash;
			claims[taken].owner = ready->owner;
			claims[taken].end = ready->end;
			claims[taken].heavy = ready->heavy;
			heavy = heavy || ready->heavy;
			taken++;
			janitor_ring_remove(i);
		}
		else
			i++;
	}
	if (heavy)
		janitor_heavy_ended();
	janitor_unlock();
	return taken;
}

bool
janitor_ring_oldest(TimestampTz *since)
{
	bool		found = false;

	janitor_lock(LW_SHARED);
	for (int i = 0; i < janitor_shared->ready_count && !found; i++)
	{
		if (janitor_shared->ready[i].database == MyDatabaseId)
		{
			*since = janitor_shared->ready[i].since;
			found = true;
		}
	}
	janitor_unlock();
	return found;
}
