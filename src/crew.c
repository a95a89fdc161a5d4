/*-------------------------------------------------------------------------
 *
 * crew.c
 *	  The worker processes, in shared memory: their slots, and who gets one.
 *
 * A worker belongs to one (database, owner) for its whole life.  The
 * scheduler of the database reserves a slot and registers the process; the
 * process takes the slot by its serial number, connects, and from then on
 * takes runs of its database and owner out of the ring, oldest first, itself:
 * a claimed run is never pinned behind a running one.  Taking moves the run
 * from the ring into the slot under one lock, so that every execution that
 * says `running` is in exactly one place: in the ring, in a live slot, or in
 * a dead one that the scheduler has still to close.
 *
 * What happens on FATAL: the exit callback turns the slot into a dead one (or
 * frees it, when it had no run) and wakes the scheduler.  On a crash of any
 * backend all of this starts afresh.
 *
 * The rest of it: ring.c the claimed runs, crew_end.c ends of runs and of
 * workers, slot.c what the worker does with its slot.  A worker with nothing to
 * do may help another one with its run; helper.c says when, and heavy.c how
 * many workers long runs may hold at all.
 *
 * max_workers bounds the slots in use over all databases.  A scheduler that
 * finds no place asks for one (janitor_slot_want): an idle worker of another
 * owner leaves at once, else a busy one of somebody who has several leaves
 * when its run ends.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "shmem_internal.h"

#include "utils/timestamp.h"

#include "settings.h"

/* Claimed ahead: what the workers will have done after this long. */
#define RUN_AHEAD_USECS (20 * INT64CONST(1000))
#define RUN_AHEAD_LIMIT 128

/*
 * A worker that has not come after this never will: whoever registered it is
 * gone and cannot ask the postmaster.
 */
#define STALE_START (60 * USECS_PER_SEC)

bool
janitor_slot_is_of(const JanitorSlot *slot, Oid database, Oid owner)
{
	return slot->state != JANITOR_SLOT_FREE &&
		slot->database == database && slot->owner == owner;
}

void
janitor_wake_my_scheduler(void)
{
	JanitorDatabase *database = janitor_my_database();

	if (database)
		janitor_wake_database(database);
}

void
janitor_tell_of_death(Oid oid)
{
	JanitorDatabase *database = janitor_database_entry(oid, false);

	if (database == NULL)
		return;
	database->generation++;
	database->next_due = DT_NOBEGIN;
	janitor_wake_database(database);
}

bool
janitor_slot_is_leaving(const JanitorSlot *slot)
{
	return slot->state != JANITOR_SLOT_FREE && slot->retire &&
		(slot->state != JANITOR_SLOT_RUNNING || slot->helper);
}

/* Has the slot a run of its own? */
static bool
has_run(const JanitorSlot *slot)
{
	return slot->state != JANITOR_SLOT_FREE && slot->execution_id != 0 &&
		!slot->helper;
}

/* --- what the scheduler sees --- */

static void
count_slot(const JanitorSlot *slot, TimestampTz now, JanitorCrew *crew)
{
	switch (slot->state)
	{
		case JANITOR_SLOT_STARTING:
		case JANITOR_SLOT_CONNECTING:
			crew->starting++;
			break;
		case JANITOR_SLOT_IDLE:
			if (!slot->retire)
				crew->idle++;
			break;
		case JANITOR_SLOT_RUNNING:
			crew->running++;
			if (!slot->retire && !slot->heavy &&
				slot->since > now - RUN_AHEAD_USECS)
				crew->brisk++;
			break;
		default:
			break;
	}
}

void
janitor_crew(Oid owner, JanitorCrew *crew)
{
	TimestampTz now = GetCurrentTimestamp();

	MemSet(crew, 0, sizeof(JanitorCrew));
	janitor_lock(LW_SHARED);
	for (int i = 0; i < janitor_shared->slot_count; i++)
	{
		const JanitorSlot *slot = &janitor_shared->slots[i];

		if (janitor_slot_is_of(slot, MyDatabaseId, owner))
			count_slot(slot, now, crew);
	}
	crew->ready = janitor_ring_count(MyDatabaseId, owner);
	janitor_unlock();
}

int
janitor_run_ahead(int workers)
{
	int64		short_run;

	janitor_lock(LW_SHARED);
	short_run = janitor_my_database()->short_run;	/* ours: it is attached */
	janitor_unlock();
	return (int) Min(RUN_AHEAD_USECS * workers / Max(short_run, 1),
					 RUN_AHEAD_LIMIT);
}

int
janitor_job_running(uint64 job_hash)
{
	int			count = 0;

	janitor_lock(LW_SHARED);
	for (int i = 0; i < janitor_shared->slot_count; i++)
	{
		const JanitorSlot *slot = &janitor_shared->slots[i];

		if (has_run(slot) && slot->database == MyDatabaseId &&
			slot->job_hash == job_hash)
			count++;
	}
	for (int i = 0; i < janitor_shared->ready_count; i++)
	{
		if (janitor_shared->ready[i].database == MyDatabaseId &&
			janitor_shared->ready[i].job_hash == job_hash)
			count++;
	}
	janitor_unlock();
	return count;
}

int
janitor_runs_alive(void)
{
	int			count = 0;

	janitor_lock(LW_SHARED);
	for (int i = 0; i < janitor_shared->slot_count; i++)
	{
		const JanitorSlot *slot = &janitor_shared->slots[i];

		if (slot->state == JANITOR_SLOT_RUNNING &&
			slot->database == MyDatabaseId)
			count++;
	}
	janitor_unlock();
	return count;
}

int
janitor_idle_workers(void)
{
	int			count = 0;

	janitor_lock(LW_SHARED);
	for (int i = 0; i < janitor_shared->slot_count; i++)
	{
		const JanitorSlot *slot = &janitor_shared->slots[i];

		if (slot->state == JANITOR_SLOT_IDLE && !slot->retire &&
			slot->database == MyDatabaseId)
			count++;
	}
	count -= janitor_ring_count(MyDatabaseId, InvalidOid);
	janitor_unlock();
	return Max(count, 0);
}

int
janitor_runs_in_progress(void)
{
	int			count = 0;

	janitor_lock(LW_SHARED);
	for (int i = 0; i < janitor_shared->slot_count; i++)
	{
		const JanitorSlot *slot = &janitor_shared->slots[i];

		if (slot->state != JANITOR_SLOT_FREE && slot->execution_id != 0 &&
			slot->database == MyDatabaseId)
			count++;
	}
	count += janitor_ring_count(MyDatabaseId, InvalidOid);
	janitor_unlock();
	return count;
}

/* --- places for workers --- */

int
janitor_slots_in_use(void)
{
	int			used = 0;

	for (int i = 0; i < janitor_shared->slot_count; i++)
	{
		if (janitor_shared->slots[i].state != JANITOR_SLOT_FREE)
			used++;
	}
	return used;
}

void
janitor_slot_clear(JanitorSlot *slot)
{
	bool		heavy = slot->heavy;

	if (slot->helper)
	{
		slot->helped = slot->leaving ? 0 : slot->execution_id;
		janitor_helper_moved(slot);
	}
	slot->execution_id = 0;
	slot->job_hash = 0;
	slot->heavy = slot->helper = slot->leaving = false;
	slot->helpers_wanted = 0;
	slot->end = JANITOR_END_NONE;
	slot->end_execution = 0;
	slot->end_signals = 0;
	slot->end_by = InvalidOid;
	MemSet(&slot->progress, 0, sizeof(JanitorProgress));
	slot->at_rule = 0;
	MemSet(slot->tallies, 0, sizeof(slot->tallies));
	slot->asks_replicas = slot->awaits_replicas = false;
	if (heavy)
		janitor_heavy_ended();
}

void
janitor_slot_free(JanitorSlot *slot)
{
	janitor_slot_clear(slot);
	slot->state = JANITOR_SLOT_FREE;
	slot->worker.pid = 0;

	for (int i = 0; i < JANITOR_MAX_DATABASES; i++)
	{
		JanitorDatabase *database = &janitor_shared->databases[i];

		if (!OidIsValid(database->oid))
			break;
		if (database->wants_worker || database->wants_more)
			janitor_wake_database(database);
	}
	janitor_offer_help();
}

int
janitor_slot_reserve(Oid owner, uint32 *serial)
{
	int			reserved = -1;

	janitor_lock(LW_EXCLUSIVE);
	if (janitor_slots_in_use() < janitor_max_workers &&
		!(janitor_has_worker(MyDatabaseId, owner) &&
		  janitor_others_want(MyDatabaseId, owner)))
	{
		for (int i = 0; i < janitor_shared->slot_count; i++)
		{
			JanitorSlot *slot = &janitor_shared->slots[i];

			if (slot->state != JANITOR_SLOT_FREE)
				continue;
			*serial = slot->serial + 1;
			MemSet(slot, 0, sizeof(JanitorSlot));
			slot->serial = *serial;
			slot->state = JANITOR_SLOT_STARTING;
			slot->database = MyDatabaseId;
			slot->owner = owner;
			slot->since = GetCurrentTimestamp();
			reserved = i;
			break;
		}
	}
	janitor_unlock();
	return reserved;
}

void
janitor_slot_cancel(int place, uint32 serial)
{
	JanitorSlot *slot = &janitor_shared->slots[place];

	janitor_lock(LW_EXCLUSIVE);
	if (slot->serial == serial && slot->state == JANITOR_SLOT_STARTING)
		janitor_slot_free(slot);
	janitor_unlock();
}

void
janitor_slots_forget_stale(void)
{
	TimestampTz before = GetCurrentTimestamp() - STALE_START;

	janitor_lock(LW_EXCLUSIVE);
	for (int i = 0; i < janitor_shared->slot_count; i++)
	{
		JanitorSlot *slot = &janitor_shared->slots[i];

		if (slot->state == JANITOR_SLOT_STARTING &&
			slot->database == MyDatabaseId && slot->since < before)
			janitor_slot_free(slot);
	}
	janitor_unlock();
}

bool
janitor_slot_starting(int place, uint32 serial)
{
	JanitorSlot *slot = &janitor_shared->slots[place];
	bool		starting;

	janitor_lock(LW_SHARED);
	starting = slot->serial == serial &&
		slot->state == JANITOR_SLOT_STARTING;
	janitor_unlock();
	return starting;
}

bool
janitor_has_worker(Oid database, Oid owner)
{
	for (int i = 0; i < janitor_shared->slot_count; i++)
	{
		if (janitor_slot_is_of(&janitor_shared->slots[i], database, owner))
			return true;
	}
	return false;
}

bool
janitor_others_want(Oid database, Oid owner)
{
	for (int i = 0; i < JANITOR_MAX_DATABASES; i++)
	{
		const JanitorDatabase *other = &janitor_shared->databases[i];

		if (!OidIsValid(other->oid))
			return false;
		if (other->wants_worker &&
			!(other->oid == database && other->wanted_owner == owner) &&
			!janitor_has_worker(other->oid, other->wanted_owner))
			return true;
	}
	return false;
}

/* Has the owner of this slot at least two workers, this one included? */
static bool
has_company(const JanitorSlot *slot)
{
	for (int i = 0; i < janitor_shared->slot_count; i++)
	{
		const JanitorSlot *other = &janitor_shared->slots[i];

		if (other != slot && janitor_slot_is_of(other, slot->database, slot->owner))
			return true;
	}
	return false;
}

/*
 * A worker that can be spared for (database, owner): an idle one with nothing
 * coming first, then a helper, then one of a crew of several, after its run;
 * NULL if there is none.  One that is leaving already counts as found; one that
 * was asked to leave after its run does so only if there is no idle one, since
 * that run may be long.  Each has its turn first: else more demand than places
 * would be spent on starting processes.
 */
static JanitorSlot *
spare_worker(Oid database, Oid owner, bool only_idle)
{
	JanitorSlot *idle = NULL;
	JanitorSlot *helper = NULL;
	JanitorSlot *busy = NULL;
	TimestampTz turn_over = GetCurrentTimestamp() - JANITOR_TURN;

	for (int i = 0; i < janitor_shared->slot_count; i++)
	{
		JanitorSlot *slot = &janitor_shared->slots[i];

		if (slot->state == JANITOR_SLOT_FREE)
			continue;
		if (janitor_slot_is_leaving(slot))
			return slot;
		if (janitor_slot_is_of(slot, database, owner) ||
			slot->connected_at > turn_over)
			continue;
		if (slot->state == JANITOR_SLOT_IDLE && slot->since < turn_over &&
			janitor_ring_count(slot->database, slot->owner) == 0)
			idle = slot;
		if (slot->state != JANITOR_SLOT_RUNNING)
			continue;
		if (slot->helper)
			helper = slot;
		else if (slot->retire || (busy == NULL && has_company(slot)))
			busy = slot;
	}
	if (idle == NULL && helper == NULL && !only_idle)
		return busy;
	return idle ? idle : helper;
}

void
janitor_slot_want(Oid owner, bool only_idle)
{
	JanitorDatabase *database;
	JanitorSlot *slot;

	janitor_lock(LW_EXCLUSIVE);
	database = janitor_my_database();
	if (only_idle)
		database->wants_more = true;
	else
	{
		/* whoever asked first is first, until he has one */
		if (!database->wants_worker ||
			janitor_has_worker(MyDatabaseId, database->wanted_owner))
			database->wanted_owner = owner;
		database->wants_worker = true;
	}
	slot = spare_worker(MyDatabaseId, owner, only_idle);
	if (slot && !slot->retire)
	{
		slot->retire = true;
		janitor_wake_process(&slot->worker);
	}
	janitor_unlock();
}

void
janitor_slot_want_nothing(void)
{
	janitor_lock(LW_EXCLUSIVE);
	janitor_my_database()->wants_worker = false;
	janitor_unlock();
}

/* Nor one more: whatever it lacked may be used to help. */
void
janitor_slot_want_no_more(void)
{
	JanitorDatabase *database;

	janitor_lock(LW_EXCLUSIVE);
	database = janitor_my_database();
	if (database->wants_more)
	{
		database->wants_more = false;
		janitor_offer_help();
	}
	janitor_unlock();
}

/* --- what other sessions see --- */

JanitorRunInfo *
janitor_runs(int *count)
{
	JanitorRunInfo *runs;
	int			n = 0;

	*count = 0;
	if (janitor_shared == NULL)
		return NULL;
	runs = palloc0((janitor_shared->slot_count + JANITOR_RING_SIZE) *
				   sizeof(JanitorRunInfo));

	janitor_lock(LW_SHARED);
	for (int i = 0; i < janitor_shared->slot_count; i++)
	{
		const JanitorSlot *slot = &janitor_shared->slots[i];

		if (slot->database != MyDatabaseId || slot->helper ||
			(slot->worker.pid == 0 && slot->state != JANITOR_SLOT_DEAD))
			continue;
		runs[n].execution_id = slot->execution_id;
		runs[n].job_hash = slot->job_hash;
		runs[n].database = slot->database;
		runs[n].owner = slot->owner;
		runs[n].pid = slot->worker.pid;
		runs[n].started_at = slot->since;
		n++;
	}
	for (int i = 0; i < janitor_shared->ready_count; i++)
	{
		const JanitorReady *ready = &janitor_shared->ready[i];

		if (ready->database != MyDatabaseId)
			continue;
		runs[n].execution_id = ready->execution_id;
		runs[n].job_hash = ready->job_hash;
		runs[n].database = ready->database;
		runs[n].owner = ready->owner;
		runs[n].started_at = ready->since;
		n++;
	}
	janitor_unlock();
	*count = n;
	return runs;
}
