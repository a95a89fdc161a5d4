/*-------------------------------------------------------------------------
 *
 * recruit.c
 *	  Workers for the scheduler's looks: whom there are, whom to start.
 *
 * Runs in the scheduler only.  A worker serves one role; a look counts for
 * each role what its workers can take (room) and what waits for one (wanted),
 * and when it is committed starts what is missing, within max_workers and
 * what max_worker_processes leaves.  Where there is no place, crew.c is asked
 * for one.
 *
 * A role whose workers die before they can serve (they cannot connect) is
 * left alone for 1 to 60 s, doubled each time.
 *
 * Memory: the lists here live in TopMemoryContext.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "dispatch_internal.h"

#include "nodes/pg_list.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "bgworker.h"
#include "settings.h"
#include "shmem.h"

/* A role's workers that fail to connect are tried again after 1 to 60 s. */
#define OWNER_RETRY_MAX (60 * USECS_PER_SEC)

/* A role whose workers could not connect. */
typedef struct FailedOwner
{
	Oid			owner;
	TimestampTz until;
	int64		delay;
} FailedOwner;

/* Workers that were registered and have not come yet. */
typedef struct StartingWorker
{
	int			slot;
	uint32		serial;
	BackgroundWorkerHandle *handle;
} StartingWorker;
static List *starting_workers = NIL;
static List *failed_owners = NIL;
static bool exhausted_logged = false;

void
janitor_forgive_owners(void)
{
	list_free_deep(failed_owners);
	failed_owners = NIL;
}

static bool
owner_is_failed(Oid owner, TimestampTz now, TimestampTz *until)
{
	ListCell   *cell;

	foreach(cell, failed_owners)
	{
		FailedOwner *failed = lfirst(cell);

		if (failed->owner == owner && failed->until > now)
		{
			*until = failed->until;
			return true;
		}
	}
	return false;
}

void
janitor_owner_failed(Oid owner)
{
	FailedOwner *failed = NULL;
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	ListCell   *cell;

	foreach(cell, failed_owners)
	{
		if (((FailedOwner *) lfirst(cell))->owner == owner)
			failed = lfirst(cell);
	}
	if (failed == NULL)
	{
		failed = palloc0(sizeof(FailedOwner));
		failed->owner = owner;
		failed_owners = lappend(failed_owners, failed);
	}
	failed->delay = Min(Max(failed->delay * 2, USECS_PER_SEC),
						OWNER_RETRY_MAX);
	failed->until = janitor_clock() + failed->delay;
	MemoryContextSwitchTo(old);
}

/* Frees the places of processes that ended before they came. */
void
janitor_check_recruits(void)
{
	ListCell   *cell;

	janitor_slots_forget_stale();
	foreach(cell, starting_workers)
	{
		StartingWorker *starting = lfirst(cell);

		if (janitor_slot_starting(starting->slot, starting->serial) &&
			!janitor_process_ended(starting->handle))
			continue;
		janitor_slot_cancel(starting->slot, starting->serial);
		pfree(starting->handle);
		pfree(starting);
		starting_workers = foreach_delete_current(starting_workers, cell);
	}
}

/* One more worker for the role; false: there is no place or no process. */
static bool
start_worker(Oid owner)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	StartingWorker *starting = palloc0(sizeof(StartingWorker));

	starting->slot = janitor_slot_reserve(owner, &starting->serial);
	if (starting->slot >= 0)
	{
		starting->handle = janitor_start_worker(starting->slot,
												starting->serial);
		if (starting->handle == NULL)
			janitor_slot_cancel(starting->slot, starting->serial);
		else
			starting_workers = lappend(starting_workers, starting);
	}
	MemoryContextSwitchTo(old);

	if (starting->slot < 0)
	{
		pfree(starting);
		janitor_slot_want(owner);
		return false;
	}
	if (starting->handle == NULL)
	{
		pfree(starting);
		if (!exhausted_logged)
			ereport(LOG,
					(errmsg("pg_janitor could not start a worker: no background worker process is free"),
					 errhint("Increase max_worker_processes and restart the server. Due jobs wait; it is tried again every second.")));
		exhausted_logged = true;
		return false;
	}
	exhausted_logged = false;
	return true;
}

JanitorStaff *
janitor_find_staff(JanitorRound *round, Oid owner)
{
	JanitorCrew seen;
	JanitorStaff *staff;
	ListCell   *cell;

	foreach(cell, round->staffs)
	{
		staff = lfirst(cell);
		if (staff->owner == owner)
			return staff;
	}
	janitor_crew(owner, &seen);
	staff = palloc0(sizeof(JanitorStaff));
	staff->owner = owner;
	staff->starting = seen.starting;
	staff->room = seen.idle - seen.ready;
	if (seen.idle + seen.running > 0)
		staff->room += janitor_run_ahead(seen.idle + seen.running);
	staff->room = Max(staff->room, 0);
	round->staffs = lappend(round->staffs, staff);
	return staff;
}

/* Starts what the look found wanting; by the scheduler's clock, when else? */
void
janitor_recruit(JanitorRound *round)
{
	ListCell   *cell;
	bool		wanting = false;

	foreach(cell, round->staffs)
	{
		JanitorStaff *staff = lfirst(cell);
		TimestampTz until;

		if (staff->wanted <= staff->starting)
			continue;
		wanting = true;
		if (owner_is_failed(staff->owner, round->now, &until))
		{
			round->result->look_at = Min(round->result->look_at, until);
			continue;
		}
		for (int i = staff->starting; i < staff->wanted; i++)
		{
			if (!start_worker(staff->owner))
			{
				round->result->look_at = Min(round->result->look_at,
											 round->now + HELD_RETRY);
				break;
			}
		}
	}
	if (!wanting)
		janitor_slot_want_nothing();
}
