/*-------------------------------------------------------------------------
 *
 * shmem.c
 *	  Shared memory: which database has something due when, and who is told.
 *
 * Every transaction that touches job_queue or job_definition ends by raising
 * its database's generation and lowering its next_due (janitor_wake_at_end),
 * then sets the latch of the scheduler or, where there is none, of the
 * launcher.  It does so after an abort as well: the scheduler may have passed
 * over rows that the transaction held locked.  A scheduler may leave only
 * while the generation is the one it read before its last look, so nothing
 * told to it can be lost between that look and its end.
 *
 * A crash of any backend re-initialises all of this; the launcher then probes
 * every database once, which finds whatever the tables say.
 *
 * Places for worker processes and the ring of claimed runs are in crew.c.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "shmem_internal.h"

#include <unistd.h>

#include "access/xact.h"
#include "access/xlog.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "settings.h"

/* A scheduler is started this long before the first entry is due. */
#define START_EARLY (1 * USECS_PER_SEC)

/*
 * A scheduler that ended is not started again sooner than this; the time is
 * doubled for each start in a row that fails, up to 64 times.
 */
#define START_INTERVAL (1 * USECS_PER_SEC)
#define FAILED_STARTS_COUNTED 6

#define SHORTAGE_LASTS (5 * USECS_PER_SEC)
#define SHORTAGE_FORGOTTEN (60 * USECS_PER_SEC)

JanitorShared *janitor_shared = NULL;

static shmem_request_hook_type previous_request_hook = NULL;
static shmem_startup_hook_type previous_startup_hook = NULL;

/* What this process's transaction will tell when it ends. */
static struct
{
	bool		registered;		/* the callback, once per process */
	bool		touched;		/* anything at all */
	bool		everything;
	bool		databases;		/* pg_database changed */
	Oid			cleared;		/* this database was cleared of us */
	Oid			settings_of;	/* this database's settings changed */
	bool		loaded;			/* our tables were filled by COPY */
	bool		roles;			/* roles, their settings or rights changed */
	TimestampTz due;
}			pending;

/* --- set-up --- */

static Size
shared_size(void)
{
	return add_size(offsetof(JanitorShared, slots),
					mul_size(max_worker_processes, sizeof(JanitorSlot)));
}

static void
request_shared_memory(void)
{
	if (previous_request_hook)
		previous_request_hook();
	RequestAddinShmemSpace(shared_size());
	RequestNamedLWLockTranche("pg_janitor", 1);
}

static void
start_shared_memory(void)
{
	bool		found;

	if (previous_startup_hook)
		previous_startup_hook();

	janitor_shared = NULL;
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	janitor_shared = ShmemInitStruct("pg_janitor", shared_size(), &found);
	if (!found)
	{
		MemSet(janitor_shared, 0, shared_size());
		janitor_shared->lock = &GetNamedLWLockTranche("pg_janitor")->lock;
		janitor_shared->slot_count = max_worker_processes;
		janitor_shared->started_at = GetCurrentTimestamp();
		janitor_shared->was_standby =
			access(STANDBY_SIGNAL_FILE, F_OK) == 0 ||
			access(RECOVERY_SIGNAL_FILE, F_OK) == 0;
		ConditionVariableInit(&janitor_shared->run_ended);
	}
	LWLockRelease(AddinShmemInitLock);
}

/* From _PG_init, while shared_preload_libraries are loaded. */
void
janitor_shmem_install(void)
{
	previous_request_hook = shmem_request_hook;
	shmem_request_hook = request_shared_memory;
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = start_shared_memory;
}

bool
janitor_shmem_available(void)
{
	return janitor_shared != NULL;
}

void
janitor_shmem_require(void)
{
	if (janitor_shared == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("pg_janitor is not loaded: no job can run"),
				 errhint("Add pg_janitor to shared_preload_libraries and restart the server.")));
}

void
janitor_lock(LWLockMode mode)
{
	LWLockAcquire(janitor_shared->lock, mode);
}

void
janitor_unlock(void)
{
	LWLockRelease(janitor_shared->lock);
}

/* --- processes and databases; the lock is held --- */

void
janitor_process_set(JanitorProcess *process)
{
	process->proc_number = janitor_my_proc_number();
	process->pid = MyProcPid;
}

void
janitor_wake_process(const JanitorProcess *process)
{
	if (process->pid != 0)
		SetLatch(&janitor_proc(process->proc_number)->procLatch);
}

const JanitorProcess *
janitor_who_serves(const JanitorDatabase *database)
{
	return database->scheduler.pid != 0 ? &database->scheduler :
		&janitor_shared->launcher;
}

void
janitor_wake_database(const JanitorDatabase *database)
{
	janitor_wake_process(janitor_who_serves(database));
}

JanitorDatabase *
janitor_database_entry(Oid oid, bool create)
{
	JanitorDatabase *vacant = NULL;

	Assert(LWLockHeldByMe(janitor_shared->lock));

	for (int i = 0; i < JANITOR_MAX_DATABASES; i++)
	{
		JanitorDatabase *database = &janitor_shared->databases[i];

		if (database->oid == oid)
			return database;
		if (database->oid == InvalidOid)
		{
			vacant = database;
			break;				/* places are filled from the front */
		}
	}
	if (vacant == NULL || !create)
		return NULL;

	MemSet(vacant, 0, sizeof(JanitorDatabase));
	vacant->oid = oid;
	vacant->next_due = vacant->alarm = vacant->lease_until = DT_NOEND;
	vacant->short_run = USECS_PER_SEC;
	return vacant;
}

JanitorDatabase *
janitor_my_database(void)
{
	return janitor_database_entry(MyDatabaseId, true);
}

/*
 * Notes what a database's scheduler has to look at; the lock is held.  The
 * caller wakes it, where it can when it has released the lock: else the woken
 * process would begin by waiting for it.
 */
void
janitor_tell(JanitorDatabase *database, TimestampTz due, bool everything)
{
	janitor_marks_told(database->oid, due);
	database->generation++;
	database->next_due = Min(database->next_due, due);
	database->everything |= everything;
}

/* --- telling at the end of a transaction --- */

/* The scheduler, if there is one, leaves and comes back. */
static void
restart_scheduler(Oid oid)
{
	JanitorDatabase *database;

	janitor_lock(LW_EXCLUSIVE);
	database = janitor_database_entry(oid, false);
	if (database)
	{
		database->restart = database->scheduler.pid != 0;
		janitor_tell(database, DT_NOBEGIN, true);
		janitor_wake_database(database);
	}
	janitor_unlock();
}

/* Whatever needed the database to itself is over. */
static void
readmit(Oid oid)
{
	JanitorDatabase *database;

	janitor_lock(LW_EXCLUSIVE);
	database = janitor_database_entry(oid, false);
	if (database)
	{
		database->leave_until = 0;
		janitor_tell(database, DT_NOBEGIN, true);
		janitor_wake_database(database);
	}
	janitor_unlock();
}

/* Takes the lock, writes, sets latches; nothing that can fail. */
static void
tell_all(bool is_commit)
{
	JanitorDatabase *database;
	JanitorProcess woken = {0, 0};
	JanitorProcess launcher = {0, 0};

	janitor_lock(LW_EXCLUSIVE);
	database = janitor_my_database();
	if (database)
	{
		if (pending.loaded)
			database->reconciled_at = 0;
		if (is_commit)
			janitor_faults_tell(database);
		janitor_tell(database, pending.due, pending.everything);
		woken = *janitor_who_serves(database);
	}
	if (pending.databases)
	{
		janitor_shared->rescan = true;
		launcher = janitor_shared->launcher;
	}
	janitor_unlock();
	janitor_wake_process(&woken);
	janitor_wake_process(&launcher);
	if (pending.roles)
		janitor_retire_everybody();
	if (OidIsValid(pending.settings_of))
		restart_scheduler(pending.settings_of);
	if (OidIsValid(pending.cleared))
		readmit(pending.cleared);

	/* a cancelled waiting run counts as ended */
	ConditionVariableBroadcast(&janitor_shared->run_ended);
}

/*
 * At the very end of the transaction: its locks are gone, and others have
 * been sent what it invalidated in their caches.  Whoever is woken sooner
 * could still read a role or a row as it was.
 */
static void
tell_at_end(ResourceReleasePhase phase, bool is_commit, bool is_top_level,
			void *arg)
{
	if (phase != RESOURCE_RELEASE_AFTER_LOCKS || !is_top_level ||
		!pending.touched || IsTransactionState())
		return;
	tell_all(is_commit);
	janitor_wake_forget();
}

/* COMMIT PREPARED and ROLLBACK PREPARED tell, by the utility hook. */
static void
forget_prepared(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PREPARE)
		janitor_wake_forget();
}

void
janitor_wake_at_end(TimestampTz run_at)
{
	if (janitor_shared == NULL)
		return;
	if (!pending.registered)
	{
		RegisterXactCallback(forget_prepared, NULL);
		RegisterResourceReleaseCallback(tell_at_end, NULL);
		pending.registered = true;
	}
	if (!pending.touched)
		pending.due = DT_NOEND;
	pending.touched = true;
	pending.due = Min(pending.due, run_at);
}

void
janitor_wake_all_at_end(void)
{
	janitor_wake_at_end(DT_NOEND);
	pending.everything = true;
}

void
janitor_databases_changed_at_end(void)
{
	janitor_wake_at_end(DT_NOEND);
	pending.databases = true;
}

void
janitor_tables_loaded_at_end(void)
{
	janitor_wake_at_end(DT_NOBEGIN);
	pending.everything = pending.loaded = true;
}

void
janitor_database_cleared_until_end(Oid database)
{
	janitor_wake_at_end(DT_NOEND);
	pending.cleared = database;
}

void
janitor_settings_changed_at_end(Oid database)
{
	janitor_wake_all_at_end();
	pending.settings_of = database;
}

void
janitor_roles_changed_at_end(void)
{
	janitor_wake_all_at_end();
	pending.roles = true;
}

/* Forgets what the scheduler's own transaction would tell itself. */
void
janitor_wake_forget(void)
{
	pending.touched = pending.everything = false;
	pending.databases = pending.roles = pending.loaded = false;
	pending.settings_of = pending.cleared = InvalidOid;
	janitor_faults_forget();
}

void
janitor_wake_now(Oid oid)
{
	JanitorDatabase *database;

	if (janitor_shared == NULL)
		return;
	janitor_lock(LW_EXCLUSIVE);
	database = janitor_database_entry(oid, true);
	if (database)
	{
		janitor_tell(database, DT_NOBEGIN, true);
		janitor_wake_database(database);
	}
	janitor_unlock();
	ConditionVariableBroadcast(&janitor_shared->run_ended);
}

/* --- shortage of processes --- */

/*
 * In a shortage: does another database lack its scheduler, or a worker?  The
 * lock is held.
 */
static bool
needed_elsewhere(TimestampTz now)
{
	if (janitor_shared->shortage_until <= now)
		return false;
	for (int i = 0; i < JANITOR_MAX_DATABASES; i++)
	{
		const JanitorDatabase *database = &janitor_shared->databases[i];

		if (!OidIsValid(database->oid))
			return false;
		if (database->oid == MyDatabaseId)
			continue;
		if (database->starved_until > now ||
			(database->scheduler.pid == 0 && database->next_due <= now))
			return true;
	}
	return false;
}

/*
 * Nobody could register a process: for a while, whoever has nothing to do
 * leaves soon, and schedulers take turns, so that the places go round.  true:
 * this is news, there was no shortage before.
 */
bool
janitor_report_shortage(void)
{
	TimestampTz now = GetCurrentTimestamp();
	JanitorDatabase *mine;
	bool		news;

	janitor_lock(LW_EXCLUSIVE);
	news = janitor_shared->shortage_until + SHORTAGE_FORGOTTEN < now;
	janitor_shared->shortage_until = now + SHORTAGE_LASTS;
	mine = OidIsValid(MyDatabaseId) ? janitor_my_database() : NULL;
	if (mine)
		mine->starved_until = now + SHORTAGE_LASTS;
	if (needed_elsewhere(now))
	{
		for (int i = 0; i < JANITOR_MAX_DATABASES &&
			 OidIsValid(janitor_shared->databases[i].oid); i++)
			janitor_wake_process(&janitor_shared->databases[i].scheduler);
		janitor_retire_idle();
	}
	janitor_unlock();
	return news;
}

bool
janitor_shortage(void)
{
	bool		shortage;

	if (janitor_shared == NULL)
		return false;
	janitor_lock(LW_SHARED);
	shortage = janitor_shared->shortage_until > GetCurrentTimestamp();
	janitor_unlock();
	return shortage;
}

bool
janitor_needed_elsewhere(void)
{
	bool		needed;

	janitor_lock(LW_SHARED);
	needed = needed_elsewhere(GetCurrentTimestamp());
	janitor_unlock();
	return needed;
}

/* Is this the scheduler that has been there longest? */
bool
janitor_scheduler_is_eldest(void)
{
	JanitorDatabase *mine;
	bool		eldest = true;

	janitor_lock(LW_SHARED);
	mine = janitor_my_database();
	for (int i = 0; i < JANITOR_MAX_DATABASES; i++)
	{
		JanitorDatabase *other = &janitor_shared->databases[i];

		if (!OidIsValid(other->oid))
			break;
		if (other != mine && other->scheduler.pid != 0 &&
			(other->served_since < mine->served_since ||
			 (other->served_since == mine->served_since &&
			  other->oid < mine->oid)))
			eldest = false;
	}
	janitor_unlock();
	return eldest;
}

/* --- the launcher --- */

static void
launcher_exit(int code, Datum arg)
{
	janitor_lock(LW_EXCLUSIVE);
	janitor_shared->launcher.pid = 0;
	janitor_unlock();
}

void
janitor_launcher_attach(void)
{
	before_shmem_exit(launcher_exit, (Datum) 0);
	janitor_lock(LW_EXCLUSIVE);
	janitor_process_set(&janitor_shared->launcher);
	janitor_shared->rescan = true;

	/* schedulers that an earlier launcher registered and that never came */
	for (int i = 0; i < JANITOR_MAX_DATABASES; i++)
		janitor_shared->databases[i].starting = false;
	janitor_unlock();
}

bool
janitor_launcher_take_rescan(void)
{
	bool		rescan;

	janitor_lock(LW_EXCLUSIVE);
	rescan = janitor_shared->rescan;
	janitor_shared->rescan = false;
	janitor_unlock();
	return rescan;
}

static bool
oid_listed(Oid oid, const Oid *oids, int count)
{
	for (int i = 0; i < count; i++)
	{
		if (oids[i] == oid)
			return true;
	}
	return false;
}

/* Frees a place and closes the gap, since places are filled from the front. */
static void
forget_database(int place)
{
	int			last = place;

	janitor_faults_drop(janitor_shared->databases[place].oid);
	while (last + 1 < JANITOR_MAX_DATABASES &&
		   OidIsValid(janitor_shared->databases[last + 1].oid))
		last++;
	janitor_shared->databases[place] = janitor_shared->databases[last];
	janitor_shared->databases[last].oid = InvalidOid;
	janitor_shared->databases[last].scheduler.pid = 0;
}

void
janitor_databases_set(const Oid *oids, int count)
{
	int			unplaced = 0;

	janitor_lock(LW_EXCLUSIVE);
	for (int i = 0; i < JANITOR_MAX_DATABASES;)
	{
		JanitorDatabase *database = &janitor_shared->databases[i];

		if (OidIsValid(database->oid) && database->scheduler.pid == 0 &&
			!oid_listed(database->oid, oids, count) &&
			janitor_forget_crews(database->oid))
			forget_database(i);
		else
			i++;
	}
	for (int i = 0; i < count; i++)
	{
		JanitorDatabase *database = janitor_database_entry(oids[i], false);

		if (database == NULL)
		{
			database = janitor_database_entry(oids[i], true);
			if (database)
				database->next_due = DT_NOBEGIN;	/* probe it */
			else
				unplaced++;
		}
	}
	janitor_unlock();

	if (unplaced > 0)
		ereport(LOG,
				(errmsg("pg_janitor serves at most %d databases; %d more are left out",
						JANITOR_MAX_DATABASES, unplaced)));
}

Oid
janitor_database_to_start(TimestampTz now, TimestampTz *wake_at)
{
	Oid			found = InvalidOid;

	*wake_at = DT_NOEND;
	janitor_lock(LW_EXCLUSIVE);
	for (int i = 0; i < JANITOR_MAX_DATABASES; i++)
	{
		JanitorDatabase *database = &janitor_shared->databases[i];
		TimestampTz start_at;

		if (!OidIsValid(database->oid))
			break;
		if (database->scheduler.pid != 0 || database->starting ||
			database->next_due == DT_NOEND)
			continue;
		start_at = database->next_due;
		if (start_at != DT_NOBEGIN)
			start_at -= START_EARLY +
				janitor_debug_clock_offset * USECS_PER_SEC;

		/*
		 * A failed start or a crash of the scheduler is not repeated at once;
		 * a scheduler that left in good order may come back at once.
		 */
		if (database->last_start != 0)
			start_at = Max(start_at, database->last_start +
						   (START_INTERVAL << database->failed_starts));
		start_at = Max(start_at, database->leave_until);
		if (start_at <= now)
		{
			database->starting = true;
			database->last_start = now;
			found = database->oid;
			break;
		}
		*wake_at = Min(*wake_at, start_at);
	}
	janitor_unlock();
	return found;
}

void
janitor_databases_recheck(bool all)
{
	janitor_lock(LW_EXCLUSIVE);
	for (int i = 0; i < JANITOR_MAX_DATABASES; i++)
	{
		JanitorDatabase *database = &janitor_shared->databases[i];

		if (!OidIsValid(database->oid))
			break;
		database->reconciled_at = 0;
		database->last_start = 0;
		if (all || database->next_due != DT_NOEND || database->disabled)
		{
			janitor_tell(database, DT_NOBEGIN, true);
			janitor_wake_database(database);
		}
	}
	janitor_unlock();
}

void
janitor_database_start_failed(Oid oid)
{
	JanitorDatabase *database;

	janitor_lock(LW_EXCLUSIVE);
	database = janitor_database_entry(oid, false);
	if (database && database->starting)
	{
		database->starting = false;
		database->failed_starts = Min(database->failed_starts + 1,
									  FAILED_STARTS_COUNTED);
	}
	janitor_unlock();
}

/* Those that were switched off may have been switched on. */
void
janitor_databases_recheck_disabled(void)
{
	janitor_lock(LW_EXCLUSIVE);
	for (int i = 0; i < JANITOR_MAX_DATABASES; i++)
	{
		JanitorDatabase *database = &janitor_shared->databases[i];

		if (!OidIsValid(database->oid))
			break;
		if (database->disabled)
			database->next_due = DT_NOBEGIN;
	}
	janitor_unlock();
}

bool
janitor_scheduler_alive(Oid oid)
{
	JanitorDatabase *database;
	bool		alive;

	janitor_lock(LW_SHARED);
	database = janitor_database_entry(oid, false);
	alive = database && database->scheduler.pid != 0;
	janitor_unlock();
	return alive;
}

/* --- the scheduler --- */

/* A scheduler that goes wants nothing any more; nobody stands back for it. */
static void
forget_wants(JanitorDatabase *database)
{
	bool		wanted = database->wants_more || database->wants_worker ||
	database->wants_heavy;

	database->scheduler.pid = 0;
	database->wants_worker = database->wants_more = false;
	database->told_of_heavy = database->wants_heavy = false;
	database->backlog = false;
	if (wanted)
	{
		janitor_heavy_ended();
		janitor_offer_help();
	}
}

/*
 * Whatever ended it, the database is due for another look, unless it has
 * published when the next one is.
 */
static void
scheduler_exit(int code, Datum arg)
{
	JanitorDatabase *database;

	janitor_lock(LW_EXCLUSIVE);
	database = janitor_my_database();
	if (database && database->scheduler.pid == MyProcPid)
	{
		forget_wants(database);
		database->next_due = DT_NOBEGIN;
		database->everything = true;
		janitor_end_deferred();
		janitor_wake_process(&janitor_shared->launcher);
	}
	janitor_unlock();
}

bool
janitor_scheduler_attach(void)
{
	JanitorDatabase *database;
	bool		attached = false;

	before_shmem_exit(scheduler_exit, (Datum) 0);
	janitor_lock(LW_EXCLUSIVE);
	database = janitor_my_database();
	if (database && database->scheduler.pid == 0)
	{
		janitor_process_set(&database->scheduler);
		database->served_since = GetCurrentTimestamp();
		database->starting = false;
		database->restart = false;
		database->failed_starts = 0;
		attached = true;
	}
	janitor_unlock();
	return attached;
}

/* The lock is held. */
static void
switch_off(JanitorDatabase *database)
{
	if (!database->disabled)
		database->off_since = janitor_clock();
	database->disabled = true;
}

void
janitor_scheduler_stands_by(void)
{
	janitor_lock(LW_EXCLUSIVE);
	switch_off(janitor_my_database());
	janitor_unlock();
}

void
janitor_scheduler_serves(TimestampTz *off_since, TimestampTz *off_until)
{
	JanitorDatabase *database;

	janitor_lock(LW_EXCLUSIVE);
	database = janitor_my_database();
	if (database->disabled)
		database->off_until = janitor_clock();
	database->disabled = false;
	*off_since = database->off_since;
	*off_until = database->off_until;
	janitor_unlock();
}

void
janitor_scheduler_news(JanitorNews *news)
{
	JanitorDatabase *database;

	janitor_lock(LW_EXCLUSIVE);
	database = janitor_my_database();
	news->generation = database->generation;
	news->due = database->next_due;
	news->everything = database->everything;
	news->leave = database->restart ||
		database->leave_until > GetCurrentTimestamp();
	news->unsettled = database->unsettled;
	database->next_due = DT_NOEND;
	database->everything = false;
	janitor_unlock();
}

bool
janitor_scheduler_leave(uint64 generation, TimestampTz next_due,
						bool disabled)
{
	JanitorDatabase *database;
	bool		left = false;

	janitor_lock(LW_EXCLUSIVE);
	database = janitor_my_database();
	if (database->generation == generation)
	{
		forget_wants(database);
		database->next_due = next_due;
		if (disabled)
			switch_off(database);
		else
			database->disabled = false;
		database->last_start = 0;	/* left in good order */
		janitor_wake_process(&janitor_shared->launcher);
		left = true;
	}
	janitor_unlock();
	if (left)
		ereport(DEBUG1,
				(errmsg_internal("scheduler leaves, next due in %.3f s",
								 next_due == DT_NOEND ? -1.0 :
								 (next_due - GetCurrentTimestamp()) /
								 (double) USECS_PER_SEC)));
	return left;
}

TimestampTz
janitor_reconciled_at(void)
{
	JanitorDatabase *database;
	TimestampTz at;

	janitor_lock(LW_SHARED);
	database = janitor_my_database();
	at = database->reconciled ? database->reconciled_at : DT_NOBEGIN;
	janitor_unlock();
	return at;
}

void
janitor_set_reconciled(TimestampTz at)
{
	JanitorDatabase *database;

	janitor_lock(LW_EXCLUSIVE);
	database = janitor_my_database();
	database->reconciled = true;
	database->reconciled_at = at;
	janitor_unlock();
}

void
janitor_set_unsettled(bool unsettled)
{
	janitor_lock(LW_EXCLUSIVE);
	janitor_my_database()->unsettled = unsettled;
	janitor_unlock();
}

TimestampTz
janitor_started_at(void)
{
	return janitor_shared->started_at;
}

bool
janitor_was_standby(void)
{
	return janitor_shared->was_standby;
}

bool
janitor_take_daily_round(void)
{
	TimestampTz now = GetCurrentTimestamp();
	JanitorDatabase *database;
	bool		due;

	janitor_lock(LW_EXCLUSIVE);
	database = janitor_my_database();
	due = database->daily_round + USECS_PER_DAY <= now ||
		database->daily_round > now;
	if (due)
		database->daily_round = now;
	janitor_unlock();
	return due;
}

void
janitor_scheduler_set_backlog(bool backlog)
{
	janitor_lock(LW_EXCLUSIVE);
	janitor_my_database()->backlog = backlog;
	janitor_unlock();
}

/* --- waiting for the end of a run --- */

void
janitor_runs_have_ended(void)
{
	ConditionVariableBroadcast(&janitor_shared->run_ended);
}

static uint32 wait_event_run_end = 0;

void
janitor_run_wait_prepare(void)
{
	if (wait_event_run_end == 0)
		wait_event_run_end = janitor_new_wait_event("JanitorRunEnd");
	ConditionVariablePrepareToSleep(&janitor_shared->run_ended);
}

bool
janitor_run_wait_sleep(long timeout_ms)
{
	return ConditionVariableTimedSleep(&janitor_shared->run_ended, timeout_ms,
									   wait_event_run_end);
}

void
janitor_run_wait_done(void)
{
	ConditionVariableCancelSleep();
}
