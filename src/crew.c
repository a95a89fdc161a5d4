/*-------------------------------------------------------------------------
 *
 * crew.c
 *	  The worker processes and the ring of claimed runs, in shared memory.
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

#include <signal.h>

#include "storage/ipc.h"
#include "utils/timestamp.h"

#include "settings.h"

/* Claimed ahead: what the workers will have done after this long. */
#define RUN_AHEAD_USECS (20 * INT64CONST(1000))
#define RUN_AHEAD_LIMIT 128

/* With a backlog, workers wake the scheduler when the ring is this low. */
#define RING_LOW 16

/* A worker that was asked to end its run is asked again after this. */
#define REPEAT_END (1 * USECS_PER_SEC)
#define SIGNALS_BEFORE_DIE 3

/* This process's slot, if it is a worker. */
static JanitorSlot *my_slot = NULL;

static inline void
lock(LWLockMode mode)
{
	LWLockAcquire(janitor_shared->lock, mode);
}

static inline void
unlock(void)
{
	LWLockRelease(janitor_shared->lock);
}

static inline bool
is_of(const JanitorSlot *slot, Oid database, Oid owner)
{
	return slot->state != JANITOR_SLOT_FREE &&
		slot->database == database && slot->owner == owner;
}

static void
wake_my_scheduler(void)
{
	JanitorDatabase *database = janitor_my_database();

	if (database)
		janitor_wake_database(database);
}

/* --- the ring; the lock is held --- */

static void
ring_remove(int place)
{
	janitor_shared->ready_count--;
	memmove(&janitor_shared->ready[place], &janitor_shared->ready[place + 1],
			(janitor_shared->ready_count - place) * sizeof(JanitorReady));
}

static int
ring_count(Oid database, Oid owner)
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

/* --- what the scheduler sees --- */

static void
count_slot(const JanitorSlot *slot, JanitorCrew *crew)
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
			break;
		default:
			break;
	}
}

void
janitor_crew(Oid owner, JanitorCrew *crew)
{
	MemSet(crew, 0, sizeof(JanitorCrew));
	lock(LW_SHARED);
	for (int i = 0; i < janitor_shared->slot_count; i++)
	{
		const JanitorSlot *slot = &janitor_shared->slots[i];

		if (is_of(slot, MyDatabaseId, owner))
			count_slot(slot, crew);
	}
	crew->ready = ring_count(MyDatabaseId, owner);
	unlock();
}

int
janitor_run_ahead(int workers)
{
	int64		short_run;

	lock(LW_SHARED);
	short_run = janitor_my_database()->short_run;
	unlock();
	return (int) Min(RUN_AHEAD_USECS * workers / Max(short_run, 1),
					 RUN_AHEAD_LIMIT);
}

int
janitor_job_running(uint64 job_hash)
{
	int			count = 0;

	lock(LW_SHARED);
	for (int i = 0; i < janitor_shared->slot_count; i++)
	{
		const JanitorSlot *slot = &janitor_shared->slots[i];

		if (slot->state != JANITOR_SLOT_FREE && slot->execution_id != 0 &&
			slot->database == MyDatabaseId && slot->job_hash == job_hash)
			count++;
	}
	for (int i = 0; i < janitor_shared->ready_count; i++)
	{
		if (janitor_shared->ready[i].database == MyDatabaseId &&
			janitor_shared->ready[i].job_hash == job_hash)
			count++;
	}
	unlock();
	return count;
}

int
janitor_runs_in_progress(void)
{
	int			count = 0;

	lock(LW_SHARED);
	for (int i = 0; i < janitor_shared->slot_count; i++)
	{
		const JanitorSlot *slot = &janitor_shared->slots[i];

		if (slot->state != JANITOR_SLOT_FREE && slot->execution_id != 0 &&
			slot->database == MyDatabaseId)
			count++;
	}
	count += ring_count(MyDatabaseId, InvalidOid);
	unlock();
	return count;
}

/* --- places for workers --- */

static int
slots_in_use(void)
{
	int			used = 0;

	for (int i = 0; i < janitor_shared->slot_count; i++)
	{
		if (janitor_shared->slots[i].state != JANITOR_SLOT_FREE)
			used++;
	}
	return used;
}

/* Makes a slot free again and tells whoever waits for a place. */
static void
slot_free(JanitorSlot *slot)
{
	slot->state = JANITOR_SLOT_FREE;
	slot->worker.pid = 0;
	slot->execution_id = 0;
	slot->end = JANITOR_END_NONE;
	slot->end_execution = 0;

	for (int i = 0; i < JANITOR_MAX_DATABASES; i++)
	{
		JanitorDatabase *database = &janitor_shared->databases[i];

		if (!OidIsValid(database->oid))
			break;
		if (database->wants_worker)
			janitor_wake_database(database);
	}
}

int
janitor_slot_reserve(Oid owner, uint32 *serial)
{
	int			reserved = -1;

	lock(LW_EXCLUSIVE);
	if (slots_in_use() < janitor_max_workers)
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
			reserved = i;
			break;
		}
	}
	unlock();
	return reserved;
}

void
janitor_slot_cancel(int place, uint32 serial)
{
	JanitorSlot *slot = &janitor_shared->slots[place];

	lock(LW_EXCLUSIVE);
	if (slot->serial == serial && slot->state == JANITOR_SLOT_STARTING)
		slot_free(slot);
	unlock();
}

bool
janitor_slot_starting(int place, uint32 serial)
{
	JanitorSlot *slot = &janitor_shared->slots[place];
	bool		starting;

	lock(LW_SHARED);
	starting = slot->serial == serial &&
		slot->state == JANITOR_SLOT_STARTING;
	unlock();
	return starting;
}

/* Has the owner of this slot at least two workers, this one included? */
static bool
has_company(const JanitorSlot *slot)
{
	for (int i = 0; i < janitor_shared->slot_count; i++)
	{
		const JanitorSlot *other = &janitor_shared->slots[i];

		if (other != slot && is_of(other, slot->database, slot->owner))
			return true;
	}
	return false;
}

/*
 * A worker that can be spared for (database, owner): an idle one of somebody
 * else first, then one of a crew of several; NULL if there is none.  One that
 * is leaving already counts as found.
 */
static JanitorSlot *
spare_worker(Oid database, Oid owner)
{
	JanitorSlot *busy = NULL;

	for (int i = 0; i < janitor_shared->slot_count; i++)
	{
		JanitorSlot *slot = &janitor_shared->slots[i];

		if (slot->state == JANITOR_SLOT_FREE ||
			is_of(slot, database, owner))
			continue;
		if (slot->state == JANITOR_SLOT_IDLE || slot->retire)
			return slot;
		if (slot->state == JANITOR_SLOT_RUNNING && has_company(slot))
			busy = slot;
	}
	return busy;
}

void
janitor_slot_want(Oid owner)
{
	JanitorDatabase *database;
	JanitorSlot *slot;

	lock(LW_EXCLUSIVE);
	database = janitor_my_database();
	database->wants_worker = true;
	database->wanted_owner = owner;
	slot = spare_worker(MyDatabaseId, owner);
	if (slot && !slot->retire)
	{
		slot->retire = true;
		janitor_wake_process(&slot->worker);
	}
	unlock();
}

void
janitor_slot_want_nothing(void)
{
	lock(LW_EXCLUSIVE);
	janitor_my_database()->wants_worker = false;
	unlock();
}

/* --- the ring, from the scheduler's side --- */

/* An idle worker of that database and owner is told. */
static void
wake_idle(Oid database, Oid owner)
{
	for (int i = 0; i < janitor_shared->slot_count; i++)
	{
		JanitorSlot *slot = &janitor_shared->slots[i];

		if (is_of(slot, database, owner) &&
			slot->state == JANITOR_SLOT_IDLE && !slot->retire)
			janitor_wake_process(&slot->worker);
	}
}

bool
janitor_ring_push(int64 execution_id, uint64 job_hash, Oid owner)
{
	bool		pushed = false;

	lock(LW_EXCLUSIVE);
	if (janitor_shared->ready_count < JANITOR_RING_SIZE)
	{
		JanitorReady *ready =
		&janitor_shared->ready[janitor_shared->ready_count++];

		ready->execution_id = execution_id;
		ready->job_hash = job_hash;
		ready->database = MyDatabaseId;
		ready->owner = owner;
		ready->since = GetCurrentTimestamp();
		ready->end = JANITOR_END_NONE;
		wake_idle(MyDatabaseId, owner);
		pushed = true;
	}
	unlock();
	return pushed;
}

int
janitor_ring_free(void)
{
	int			free;

	lock(LW_SHARED);
	free = JANITOR_RING_SIZE - janitor_shared->ready_count;
	unlock();
	return free;
}

int
janitor_ring_take_back(TimestampTz before, int64 *execution_ids, int size)
{
	int			taken = 0;

	lock(LW_EXCLUSIVE);
	for (int i = 0; i < janitor_shared->ready_count && taken < size;)
	{
		const JanitorReady *ready = &janitor_shared->ready[i];

		if (ready->database == MyDatabaseId && ready->since < before)
		{
			execution_ids[taken++] = ready->execution_id;
			ring_remove(i);
		}
		else
			i++;
	}
	unlock();
	return taken;
}

bool
janitor_ring_oldest(TimestampTz *since)
{
	bool		found = false;

	lock(LW_SHARED);
	for (int i = 0; i < janitor_shared->ready_count && !found; i++)
	{
		if (janitor_shared->ready[i].database == MyDatabaseId)
		{
			*since = janitor_shared->ready[i].since;
			found = true;
		}
	}
	unlock();
	return found;
}

/* --- ends of runs and of workers --- */

bool
janitor_next_death(JanitorDeath *death)
{
	bool		found = false;

	lock(LW_SHARED);
	for (int i = death->slot + 1; i < janitor_shared->slot_count && !found; i++)
	{
		const JanitorSlot *slot = &janitor_shared->slots[i];

		if (slot->state == JANITOR_SLOT_DEAD &&
			slot->database == MyDatabaseId)
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
	unlock();
	return found;
}

void
janitor_slot_bury(int place)
{
	lock(LW_EXCLUSIVE);
	Assert(janitor_shared->slots[place].state == JANITOR_SLOT_DEAD);
	slot_free(&janitor_shared->slots[place]);
	unlock();
	ConditionVariableBroadcast(&janitor_shared->run_ended);
}

int
janitor_terminated(int64 *execution_ids, int size)
{
	int			count = 0;

	lock(LW_SHARED);
	for (int i = 0; i < janitor_shared->slot_count && count < size; i++)
	{
		const JanitorSlot *slot = &janitor_shared->slots[i];

		if (slot->state == JANITOR_SLOT_RUNNING &&
			slot->database == MyDatabaseId && slot->term_requested &&
			slot->end == JANITOR_END_NONE)
			execution_ids[count++] = slot->execution_id;
	}
	unlock();
	return count;
}

/* Writes who ends the run, then signals; the lock is held exclusively. */
static void
end_slot(JanitorSlot *slot, JanitorEnd why, int signal_number)
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
	wake_my_scheduler();		/* it repeats the signal if need be */
}

static JanitorSlot *
slot_of_run(int64 execution_id)
{
	for (int i = 0; i < janitor_shared->slot_count; i++)
	{
		JanitorSlot *slot = &janitor_shared->slots[i];

		if (slot->state == JANITOR_SLOT_RUNNING &&
			slot->database == MyDatabaseId &&
			slot->execution_id == execution_id)
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
	lock(LW_EXCLUSIVE);
	slot = slot_of_run(execution_id);
	if (slot)
	{
		end_slot(slot, why, SIGINT);
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
	unlock();
	return found;
}

void
janitor_terminate_run(int64 execution_id)
{
	JanitorSlot *slot;

	lock(LW_EXCLUSIVE);
	slot = slot_of_run(execution_id);
	if (slot)
		end_slot(slot, JANITOR_END_TERMINATE, SIGTERM);
	unlock();
}

void
janitor_end_all(JanitorEnd why)
{
	lock(LW_EXCLUSIVE);
	for (int i = 0; i < janitor_shared->slot_count; i++)
	{
		JanitorSlot *slot = &janitor_shared->slots[i];

		if (slot->state == JANITOR_SLOT_RUNNING &&
			slot->database == MyDatabaseId)
			end_slot(slot, why, SIGINT);
	}
	unlock();
}

TimestampTz
janitor_repeat_ends(void)
{
	TimestampTz again = DT_NOEND;
	TimestampTz now = GetCurrentTimestamp();

	lock(LW_EXCLUSIVE);
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
	unlock();
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

void
janitor_retire_all(void)
{
	lock(LW_EXCLUSIVE);
	retire_crews(MyDatabaseId);
	unlock();
}

void
janitor_retire_everybody(void)
{
	lock(LW_EXCLUSIVE);
	retire_crews(InvalidOid);
	unlock();
}

void
janitor_clear_database(Oid oid)
{
	JanitorDatabase *database;

	if (janitor_shared == NULL)
		return;
	lock(LW_EXCLUSIVE);
	database = janitor_database_entry(oid, false);
	if (database)
	{
		database->leave_until = GetCurrentTimestamp() + 10 * USECS_PER_SEC;
		database->generation++;
		janitor_wake_database(database);
	}
	retire_crews(oid);
	unlock();
}

/* --- the worker --- */

/*
 * PG_CATCH does not run for FATAL, this does.  A worker that had a run in
 * hand, or that never could serve, leaves a dead slot for the scheduler.
 */
static void
worker_exit(int code, Datum arg)
{
	lock(LW_EXCLUSIVE);
	my_slot->worker.pid = 0;
	if (my_slot->execution_id != 0 || (!my_slot->served && !my_slot->retire))
		my_slot->state = JANITOR_SLOT_DEAD;
	else
		slot_free(my_slot);
	if (OidIsValid(my_slot->database))
	{
		JanitorDatabase *database =
		janitor_database_entry(my_slot->database, false);

		if (database)
		{
			/* where no scheduler is alive, one is to come and close it */
			if (my_slot->state == JANITOR_SLOT_DEAD)
			{
				database->generation++;
				database->next_due = DT_NOBEGIN;
			}
			janitor_wake_database(database);
		}
	}
	unlock();
	my_slot = NULL;
}

bool
janitor_worker_attach(int place, uint32 serial, Oid *database, Oid *owner)
{
	JanitorSlot *slot = &janitor_shared->slots[place];
	bool		attached = false;

	lock(LW_EXCLUSIVE);
	if (slot->state == JANITOR_SLOT_STARTING && slot->serial == serial)
	{
		slot->state = JANITOR_SLOT_CONNECTING;
		janitor_process_set(&slot->worker);
		*database = slot->database;
		*owner = slot->owner;
		my_slot = slot;
		attached = true;
	}
	unlock();
	if (attached)
		before_shmem_exit(worker_exit, (Datum) 0);
	return attached;
}

void
janitor_worker_ready(void)
{
	lock(LW_EXCLUSIVE);
	my_slot->state = JANITOR_SLOT_IDLE;
	my_slot->served = true;
	my_slot->since = GetCurrentTimestamp();
	wake_my_scheduler();
	unlock();
}

/* Is there somebody without any worker who waits for a place? */
static bool
wanted_elsewhere(void)
{
	for (int i = 0; i < JANITOR_MAX_DATABASES; i++)
	{
		const JanitorDatabase *database = &janitor_shared->databases[i];
		bool		served = false;

		if (!OidIsValid(database->oid))
			return false;
		if (!database->wants_worker ||
			(database->oid == my_slot->database &&
			 database->wanted_owner == my_slot->owner))
			continue;
		for (int j = 0; j < janitor_shared->slot_count && !served; j++)
			served = is_of(&janitor_shared->slots[j], database->oid,
						   database->wanted_owner);
		if (!served)
			return true;
	}
	return false;
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
		my_slot->execution_id = ready->execution_id;
		my_slot->job_hash = ready->job_hash;
		my_slot->end = ready->end;
		my_slot->end_execution =
			ready->end != JANITOR_END_NONE ? ready->execution_id : 0;
		my_slot->state = JANITOR_SLOT_RUNNING;
		my_slot->since = GetCurrentTimestamp();
		ring_remove(i);
		return JANITOR_TAKE_RUN;
	}
	return JANITOR_TAKE_NOTHING;
}

JanitorTake
janitor_worker_take(int64 *execution_id)
{
	JanitorTake took;

	lock(LW_EXCLUSIVE);
	took = take_locked(execution_id);
	unlock();
	return took;
}

bool
janitor_worker_try_leave(void)
{
	bool		leaves;

	lock(LW_EXCLUSIVE);
	leaves = ring_count(my_slot->database, my_slot->owner) == 0;
	if (leaves)
		my_slot->retire = true;
	unlock();
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
	int64		took;

	lock(LW_EXCLUSIVE);
	database = janitor_my_database();
	took = GetCurrentTimestamp() - my_slot->since;
	database->short_run = (database->short_run * 7 +
						   Min(Max(took, 0), USECS_PER_SEC)) / 8;
	my_slot->state = JANITOR_SLOT_IDLE;
	my_slot->execution_id = 0;
	my_slot->end = JANITOR_END_NONE;
	my_slot->end_execution = 0;
	my_slot->end_signals = 0;
	if (database->backlog &&
		ring_count(my_slot->database, my_slot->owner) <= RING_LOW)
		janitor_wake_database(database);
	unlock();
	ConditionVariableBroadcast(&janitor_shared->run_ended);
}

JanitorEnd
janitor_worker_end(void)
{
	return my_slot->end_execution == my_slot->execution_id ?
		my_slot->end : JANITOR_END_NONE;
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
 */
bool
janitor_worker_term_requested(void)
{
	JanitorSlot *slot = my_slot;

	if (slot == NULL || slot->execution_id == 0 || slot->term_requested ||
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

	lock(LW_SHARED);
	for (int i = 0; i < janitor_shared->slot_count; i++)
	{
		const JanitorSlot *slot = &janitor_shared->slots[i];

		if (slot->database != MyDatabaseId || slot->worker.pid == 0)
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
	unlock();
	*count = n;
	return runs;
}
