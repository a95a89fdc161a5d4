/*-------------------------------------------------------------------------
 *
 * heavy.c
 *	  Room for heavy work: long runs and their helpers.
 *
 * A run that goes through whole tables takes as long as they are large.  So
 * that it cannot keep short runs waiting, heavy runs and helpers together hold
 * at most max_workers - 1 workers (but one in any case), over all databases.
 * What counts is a slot or a place in the ring: a heavy run is let into the
 * ring under the lock and only while there is room, so the schedulers of two
 * databases cannot both take the last of it.
 *
 * A scheduler with a heavy entry that finds no room leaves it in the queue and
 * is woken when heavy work ends, wherever that was.  A database that holds
 * some of the room leaves what becomes free to those that wait and hold none.
 *
 * Everything here expects the lock to be held, unless it is for the scheduler
 * or other backends.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "shmem_internal.h"

#include "settings.h"

/* Heavy work in slots and in the ring; InvalidOid: of all databases. */
static int
heavy_in_use(Oid database)
{
	int			count = 0;

	for (int i = 0; i < janitor_shared->slot_count; i++)
	{
		const JanitorSlot *slot = &janitor_shared->slots[i];

		if (slot->state != JANITOR_SLOT_FREE && slot->heavy &&
			(database == InvalidOid || slot->database == database))
			count++;
	}
	for (int i = 0; i < janitor_shared->ready_count; i++)
	{
		const JanitorReady *ready = &janitor_shared->ready[i];

		if (ready->heavy &&
			(database == InvalidOid || ready->database == database))
			count++;
	}
	return count;
}

static int
heavy_limit(void)
{
	return Max(janitor_max_workers - 1, 1);
}

int
janitor_heavy_room(void)
{
	return Max(heavy_limit() - heavy_in_use(InvalidOid), 0);
}

bool
janitor_heavy_wanted(void)
{
	for (int i = 0; i < JANITOR_MAX_DATABASES; i++)
	{
		const JanitorDatabase *database = &janitor_shared->databases[i];

		if (!OidIsValid(database->oid))
			return false;
		if (database->wants_heavy)
			return true;
	}
	return false;
}

void
janitor_heavy_ended(void)
{
	for (int i = 0; i < JANITOR_MAX_DATABASES; i++)
	{
		const JanitorDatabase *database = &janitor_shared->databases[i];

		if (!OidIsValid(database->oid))
			return;
		if (database->told_of_heavy)
			janitor_wake_database(database);
	}
}

/* Other databases that wait for room and hold none. */
static int
others_without(const JanitorDatabase *mine)
{
	int			count = 0;

	for (int i = 0; i < JANITOR_MAX_DATABASES; i++)
	{
		const JanitorDatabase *other = &janitor_shared->databases[i];

		if (!OidIsValid(other->oid))
			break;
		if (other != mine && other->wants_heavy &&
			heavy_in_use(other->oid) == 0)
			count++;
	}
	return count;
}

/* --- for the scheduler and other backends; the lock is not held --- */

int
janitor_heavy_announce(void)
{
	JanitorDatabase *mine;
	int			room;

	janitor_lock(LW_EXCLUSIVE);
	mine = janitor_my_database();
	mine->told_of_heavy = true;
	room = janitor_heavy_room();
	if (room > 0 && heavy_in_use(mine->oid) > 0)
		room -= others_without(mine);
	janitor_unlock();
	return Max(room, 0);
}

void
janitor_heavy_recall(bool waiting)
{
	JanitorDatabase *mine;
	bool		satisfied;

	janitor_lock(LW_EXCLUSIVE);
	mine = janitor_my_database();
	satisfied = mine->wants_heavy && !waiting;
	mine->told_of_heavy = mine->wants_heavy = waiting;
	if (satisfied)
	{
		janitor_heavy_ended();	/* others need not stand back any more */
		janitor_offer_help();
	}
	janitor_unlock();
}

void
janitor_capacity(JanitorCapacity *capacity)
{
	MemSet(capacity, 0, sizeof(JanitorCapacity));
	capacity->heavy_limit = heavy_limit();
	if (janitor_shared == NULL)
		return;
	janitor_lock(LW_SHARED);
	capacity->heavy = heavy_in_use(InvalidOid);
	for (int i = 0; i < janitor_shared->slot_count; i++)
	{
		const JanitorSlot *slot = &janitor_shared->slots[i];

		if (slot->state == JANITOR_SLOT_RUNNING &&
			slot->database == MyDatabaseId)
			capacity->busy++;
	}
	janitor_unlock();
}
