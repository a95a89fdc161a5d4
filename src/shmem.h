/*-------------------------------------------------------------------------
 *
 * shmem.h
 *	  What the processes of pg_janitor tell each other: which database has
 *	  something due when, which worker runs what, what is ready to be run.
 *
 * See shmem.c for the locking.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_SHMEM_H
#define JANITOR_SHMEM_H

#include "compat.h"

#include "datatype/timestamp.h"

/* Databases that can have pg_janitor at the same time. */
#define JANITOR_MAX_DATABASES 1024

/* Runs that are claimed and wait for the worker that takes them. */
#define JANITOR_RING_SIZE 512

/* --- set-up, and whether there is anything --- */

extern void janitor_shmem_install(void);

/* Was the library preloaded, so that the processes exist? */
extern bool janitor_shmem_available(void);

/* ERROR 55000 with the setting to add, unless available. */
extern void janitor_shmem_require(void);

/* --- telling the scheduler, from any backend --- */

/*
 * The current transaction touches something that the scheduler must look at
 * no later than run_at.  Told at the end of the transaction, commit or abort.
 */
extern void janitor_wake_at_end(TimestampTz run_at);

/* Likewise, and it must look at everything again (definitions, roles). */
extern void janitor_wake_all_at_end(void);

/* Takes that back: the transaction is the scheduler's own. */
extern void janitor_wake_forget(void);

/* The same at once, for a database; from the hooks. */
extern void janitor_wake_now(Oid database);

/* A database's own settings changed: its scheduler connects anew. */
extern void janitor_settings_changed_at_end(Oid database);

/* Rows of ours were loaded: they are read, and brought into line. */
extern void janitor_tables_loaded_at_end(void);

/* The launcher looks for new and dropped databases. */
extern void janitor_databases_changed_at_end(void);

/* Workers connected before the change leave after their run. */
extern void janitor_roles_changed_at_end(void);

/* --- shortage of background worker processes --- */

/* true: it is news. */
extern bool janitor_report_shortage(void);
extern bool janitor_shortage(void);

/* There is one, and another database lacks its scheduler or a worker. */
extern bool janitor_needed_elsewhere(void);
extern bool janitor_scheduler_is_eldest(void);

/* --- runs in progress, as other sessions see them --- */

typedef enum JanitorEnd
{
	JANITOR_END_NONE,
	JANITOR_END_CANCEL,			/* job_cancel */
	JANITOR_END_TIMEOUT,		/* the job's own timeout */
	JANITOR_END_TERMINATE,		/* pg_terminate_backend */
	JANITOR_END_SHUTDOWN		/* the server is going down */
} JanitorEnd;

typedef struct JanitorRunInfo
{
	int64		execution_id;	/* 0: the worker is idle */
	uint64		job_hash;
	Oid			database;
	Oid			owner;
	int			pid;			/* 0: no worker has taken it yet, or its
								 * worker died */
	TimestampTz started_at;
} JanitorRunInfo;

/*
 * Copies what runs in this database, worker by worker, then what is claimed
 * and waits in the ring; palloc'd.  A run whose worker died is there until its
 * end is recorded.  Helpers are not.
 */
extern JanitorRunInfo *janitor_runs(int *count);

/*
 * Asks the worker that runs this execution, and its helpers, to end it.
 * false: no worker runs it (any more).  Never reaches another run of the same
 * workers.
 */
extern bool janitor_run_end(int64 execution_id, JanitorEnd why);

/* How much of what there is is in use. */
typedef struct JanitorCapacity
{
	int			busy;			/* workers of this database that have work */
	int			heavy;			/* heavy runs and helpers, in all databases */
	int			heavy_limit;
} JanitorCapacity;
extern void janitor_capacity(JanitorCapacity *capacity);

/* Runs were ended otherwise than by their worker. */
extern void janitor_runs_have_ended(void);

/* Waiting for the end of a run: prepare, { test, sleep }, done. */
extern void janitor_run_wait_prepare(void);
extern bool janitor_run_wait_sleep(long timeout_ms);	/* true: timed out */
extern void janitor_run_wait_done(void);

/* --- the launcher's side --- */

extern void janitor_launcher_attach(void);

/* Has somebody asked for a look at pg_database since the last call? */
extern bool janitor_launcher_take_rescan(void);

/* Makes the table of databases agree with these OIDs; new ones are due now. */
extern void janitor_databases_set(const Oid *oids, int count);

/*
 * The next database whose scheduler is to be started, marked as starting; or
 * InvalidOid, and *wake_at is when there will be one (DT_NOEND: never).
 */
extern Oid	janitor_database_to_start(TimestampTz now, TimestampTz *wake_at);

/*
 * The clock went back: every database where anything is due some time is due
 * for a look and a reconcile; or settings changed: every one.
 */
extern void janitor_databases_recheck(bool all);

/* A reload: pg_janitor.enabled may be on again. */
extern void janitor_databases_recheck_disabled(void);

/* Its process could not be registered, or ended: may be started again. */
extern void janitor_database_start_failed(Oid database);

/* Any scheduler that left since: nothing of it lingers. */
extern bool janitor_scheduler_alive(Oid database);

/* --- the scheduler's side; all for MyDatabaseId --- */

/* false: this database has a live scheduler already. */
extern bool janitor_scheduler_attach(void);

/*
 * pg_janitor is switched off here.  It is switched on (and there is the
 * extension): *off_since and *off_until are when it last was not, by
 * janitor_clock().
 */
extern void janitor_scheduler_stands_by(void);
extern void janitor_scheduler_serves(TimestampTz *off_since,
									 TimestampTz *off_until);

/* What has been told since the last call. */
typedef struct JanitorNews
{
	uint64		generation;		/* to be given back on leaving */
	TimestampTz due;			/* look at entries from this run_at on;
								 * DT_NOEND: no entry was touched */
	bool		everything;		/* definitions changed */
	bool		leave;			/* the database is wanted free of us */
	bool		unsettled;		/* janitor_set_unsettled(true) */
} JanitorNews;
extern void janitor_scheduler_news(JanitorNews *news);

/*
 * Publishes when the next entry is due and detaches, unless something was
 * told since the news of that generation: then false.  `disabled`: because
 * pg_janitor.enabled is off.
 */
extern bool janitor_scheduler_leave(uint64 generation, TimestampTz next_due,
									bool disabled);

/*
 * When a scheduler last put things right; DT_NOBEGIN: not since the start; 0:
 * something has called for it since.
 */
extern TimestampTz janitor_reconciled_at(void);
extern void janitor_set_reconciled(TimestampTz at);

/*
 * A scheduler that ends has runs in hand that say `running` and that nobody
 * carries; a later one has seen to them.
 */
extern void janitor_set_unsettled(bool unsettled);

/* When this shared memory was set up: at the start, or after a crash. */
extern TimestampTz janitor_started_at(void);

/* Did this server start as a standby, or from a backup? */
extern bool janitor_was_standby(void);

/* Has nobody done the daily round for a day?  Then it is the caller's. */
extern bool janitor_take_daily_round(void);

/* Entries are due that could not be started: workers tell us of each end. */
extern void janitor_scheduler_set_backlog(bool backlog);

/*
 * Heavy runs (heavy.c).  Announced: how many more there is room for; from now
 * on the end of one anywhere wakes this scheduler.  Recalled at the end of the
 * look, saying whether any entry waits for nothing but this room.
 */
extern int	janitor_heavy_announce(void);
extern void janitor_heavy_recall(bool waiting);

/* Workers of one owner, and how many runs the ring may hold ahead of them. */
typedef struct JanitorCrew
{
	int			starting;
	int			idle;
	int			running;
	int			brisk;			/* of these, at it for a moment only */
	int			ready;			/* in the ring */
} JanitorCrew;
extern void janitor_crew(Oid owner, JanitorCrew *crew);

/* Room for claimed runs beyond the idle workers, by how short runs are. */
extern int	janitor_run_ahead(int workers);

/* A place for a new worker; -1: max_workers is reached. */
extern int	janitor_slot_reserve(Oid owner, uint32 *serial);
extern void janitor_slot_cancel(int slot, uint32 serial);

/* Frees the places of workers that a former scheduler waited for in vain. */
extern void janitor_slots_forget_stale(void);

/* Asks for a place: some other worker of ours or another's will give way. */
extern void janitor_slot_want(Oid owner, bool only_idle);
extern void janitor_slot_want_nothing(void);
extern void janitor_slot_want_no_more(void);

/*
 * The owner of a run that would like more helpers than its owner's idle and
 * coming workers, while a place for one more can be spared; else InvalidOid,
 * and if *again is not 0, it is worth another look after so many microseconds.
 */
extern Oid	janitor_helper_to_recruit(int64 *again);

/* Is the worker that was to start in this slot still on its way? */
extern bool janitor_slot_starting(int slot, uint32 serial);

/* A claimed run, for the workers of its owner. */
typedef struct JanitorClaim
{
	int64		execution_id;
	uint64		job_hash;
	Oid			owner;
	JanitorEnd	end;			/* asked for before it was begun */
	bool		heavy;			/* counts among the heavy runs */
} JanitorClaim;

/*
 * Hands them over.  Returns how many there was room for, in the ring and among
 * the heavy runs; those are moved to the front, the others to the end.
 */
extern int	janitor_ring_push(JanitorClaim *claims, int count);
extern int	janitor_ring_free(void);

/* Takes back claimed runs that waited since before the given time. */
extern int	janitor_ring_take_back(TimestampTz before, JanitorClaim *claims,
								   int size);

/* Workers of this database that have nothing to do and nothing coming. */
extern int	janitor_idle_workers(void);
extern bool janitor_ring_oldest(TimestampTz *since);

/* Runs of one job, in slots and in the ring. */
extern int	janitor_job_running(uint64 job_hash);

/* A worker that died with a run, or before it could serve. */
typedef struct JanitorDeath
{
	int			slot;
	Oid			owner;
	int64		execution_id;	/* 0: it died without a run */
	bool		served;			/* false: it died while connecting */
	JanitorEnd	end;			/* who asked for it */
} JanitorDeath;

/*
 * The next after death->slot; begin with -1.  Not a run that a helper is still
 * at.
 */
extern bool janitor_next_death(JanitorDeath *death);
extern void janitor_slot_bury(int slot);

/* All of them at once, where there is no table left to record them in. */
extern void janitor_forget_dead(void);

/* Slots whose worker was sent SIGTERM with a run, and waits for our word. */
extern int	janitor_terminated(int *slots, int size);

/* The word: it ends. */
extern void janitor_terminate_slot(int slot);

/* Helpers count in both. */
extern int	janitor_runs_in_progress(void);

/* Only those that a live worker is at. */
extern int	janitor_runs_alive(void);
extern void janitor_end_all(JanitorEnd why);

/*
 * Runs that were asked to end and go on (a command can swallow a cancel) are
 * asked again each second, the third time for good.  Returns when to call
 * this again; DT_NOEND: no run has been asked.
 */
extern TimestampTz janitor_repeat_ends(void);
extern void janitor_retire_all(void);
extern void janitor_retire_everybody(void);

/* --- the worker's side --- */

/* Takes the slot it was started for; false: too late, leave. */
extern bool janitor_worker_attach(int slot, uint32 serial,
								  Oid *database, Oid *owner);

/* It has connected and can serve. */
extern void janitor_worker_ready(void);

typedef enum JanitorTake
{
	JANITOR_TAKE_RUN,			/* *execution_id is ours now */
	JANITOR_TAKE_HELP,			/* we are to help that execution */
	JANITOR_TAKE_NOTHING,		/* wait for the latch */
	JANITOR_TAKE_LEAVE			/* this worker is wanted elsewhere */
} JanitorTake;
extern JanitorTake janitor_worker_take(int64 *execution_id);

/* With nothing to do for long: false if a run has become ready meanwhile. */
extern bool janitor_worker_try_leave(void);

/* The run has ended and is recorded; or we help it no more. */
extern void janitor_worker_done(void);

/* Who asked for the end of our present run. */
extern JanitorEnd janitor_worker_end(void);
extern Oid	janitor_worker_ended_by(void);
extern void janitor_worker_set_end(JanitorEnd why);

/* From the SIGTERM handler of a worker; no lock is taken. */
extern bool janitor_worker_term_requested(void);

/* --- helpers (helper.c); by the worker that has the run --- */

/*
 * So many helpers would be welcome from now on; 0: none any more, and those
 * who are there leave when their batch is done.  A worker that helped and
 * found nothing to do comes back only after another call.
 */
extern void janitor_helpers_want(int count);

/* How many there are now, those included that are about to leave. */
extern int	janitor_helpers_here(void);

/*
 * Sleeps until their number changes or anything else happens to this process,
 * at most so long (-1: no limit).  Test what you wait for, then call this.
 */
extern void janitor_helpers_wait(long timeout_ms);

/*
 * Wants no more helpers and waits until none is left, so that all they did is
 * committed or rolled back; `at_once`: cancels their batches.  To be called
 * before the end of a run is recorded, whatever the end.  Outside a
 * transaction.
 */
extern void janitor_helpers_dismiss(bool at_once);

/* Is that a worker that runs or helps the execution that we run or help? */
extern bool janitor_worker_lives(int pid);

/* --- by a helper --- */

/*
 * Between batches: the run is over or wants no (so many) helpers, somebody
 * waits for a worker or its place, or we were asked to end.  Once true, always
 * true.  Never for the worker whose run it is.
 */
extern bool janitor_helper_should_leave(void);

/*
 * Run by anybody: idle processes of ours in that database leave, and stay
 * away until the transaction has ended.
 */
extern void janitor_clear_database(Oid database);
extern void janitor_database_cleared_until_end(Oid database);

#endif							/* JANITOR_SHMEM_H */
