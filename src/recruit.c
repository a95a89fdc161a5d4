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
 * When nobody lacks a worker, and places can be spared, there are more for
 * runs that would like to be helped.
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

/* Freed places are told of; a worker whose turn ends is not. */
#define NO_PLACE_RETRY (100 * INT64CONST(1000))
#define NO_PROCESS_RETRY (1 * USECS_PER_SEC)

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

/* It can connect, after all. */
static void
owner_succeeded(Oid owner)
{
	ListCell   *cell;

	foreach(cell, failed_owners)
	{
		if (((FailedOwner *) lfirst(cell))->owner != owner)
			continue;
		pfree(lfirst(cell));
		failed_owners = foreach_delete_current(failed_owners, cell);
	}
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

static void
note_shortage(void)
{
	if (janitor_report_shortage())
		ereport(LOG,
				(errmsg("pg_janitor could not start a worker: no background worker process is free"),
				 errhint("Increase max_worker_processes and restart the server. Due jobs wait; it is tried again every second.")));
}

/* A process for a reserved place, or the place is free again. */
static bool
register_worker(int slot, uint32 serial)
{
	MemoryContext old;
	StartingWorker *starting;

	old = MemoryContextSwitchTo(TopMemoryContext);
	starting = palloc0(sizeof(StartingWorker));
	starting->slot = slot;
	starting->serial = serial;
	starting->handle = janitor_start_worker(slot, serial);
	if (starting->handle != NULL)
		starting_workers = lappend(starting_workers, starting);
	MemoryContextSwitchTo(old);

	if (starting->handle != NULL)
		return true;
	pfree(starting);
	janitor_slot_cancel(slot, serial);
	return false;
}

/*
 * One more worker for the role.  false: there is no place or no process;
 * *retry is when to try again.
 */
static bool
start_worker(Oid owner, bool only_idle, int64 *retry)
{
	uint32		serial;
	int			slot = janitor_slot_reserve(owner, &serial);

	if (slot < 0)
	{
		janitor_slot_want(owner, only_idle);
		*retry = NO_PLACE_RETRY;
		return false;
	}
	if (register_worker(slot, serial))
		return true;
	note_shortage();
	*retry = NO_PROCESS_RETRY;
	return false;
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
	staff->present = seen.starting + seen.idle + seen.running > 0;
	staff->starting = seen.starting;
	staff->room = seen.idle - seen.ready;
	if (seen.idle + seen.brisk > 0)
		staff->room += janitor_run_ahead(seen.idle + seen.brisk);
	if (seen.idle + seen.running > 0)
		owner_succeeded(owner);
	staff->room = Max(staff->room, 0);
	round->staffs = lappend(round->staffs, staff);
	return staff;
}

static void
look_again(JanitorRound *round, TimestampTz at)
{
	round->result->look_at = Min(round->result->look_at, at);
}

/*
 * Brings a role's workers up to a number.  false: no place, or no process,
 * was to be had.
 */
static bool
recruit_for(JanitorRound *round, JanitorStaff *staff, int number,
			bool only_idle)
{
	TimestampTz until;
	int64		retry;

	if (owner_is_failed(staff->owner, round->now, &until))
	{
		look_again(round, until);
		return true;
	}
	for (; staff->starting < number; staff->starting++)
	{
		if (!start_worker(staff->owner, only_idle, &retry))
		{
			look_again(round, round->now + retry);
			return false;
		}
		staff->present = true;
	}
	return true;
}

/* Nothing waits for them: what cannot be started now is not needed. */
static void
recruit_helpers(JanitorRound *round)
{
	Oid			owner;
	int64		again;

	while (OidIsValid(owner = janitor_helper_to_recruit(&again)))
	{
		TimestampTz until;
		uint32		serial;
		int			slot;

		if (owner_is_failed(owner, round->now, &until))
			return;
		slot = janitor_slot_reserve(owner, &serial);
		if (slot < 0 || !register_worker(slot, serial))
			return;
	}
	if (again > 0)
		look_again(round, round->now + again);
}

/*
 * First a worker for each role that has none: no backlog of one role may
 * keep another from being served at all.  More for those that have, only when
 * nobody is without; idle workers of others make room for these, busy ones
 * do not.
 */
void
janitor_recruit(JanitorRound *round)
{
	ListCell   *cell;

	foreach(cell, round->staffs)
	{
		JanitorStaff *staff = lfirst(cell);

		if (staff->wanted > 0 && !staff->present &&
			!recruit_for(round, staff, 1, false))
			return;
	}
	janitor_slot_want_nothing();
	foreach(cell, round->staffs)
	{
		JanitorStaff *staff = lfirst(cell);

		if (staff->wanted > staff->starting &&
			!recruit_for(round, staff, staff->wanted, true))
			return;
	}
	janitor_slot_want_no_more();
	recruit_helpers(round);
}
