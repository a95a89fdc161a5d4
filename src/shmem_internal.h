/*-------------------------------------------------------------------------
 *
 * shmem_internal.h
 *	  Layout of the shared memory; for shmem.c, crew.c, crew_end.c, ring.c,
 *	  slot.c, heavy.c, helper.c, progress.c, tally.c, replicas.c, mark.c and
 *	  fault.c.
 *
 * One LWLock protects everything here unless a field says otherwise.  It is
 * held for a handful of comparisons and never across a wait, an allocation or
 * anything that can fail.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_SHMEM_INTERNAL_H
#define JANITOR_SHMEM_INTERNAL_H

#include "shmem.h"

#include "storage/condition_variable.h"
#include "storage/lwlock.h"

#include "replicas.h"
#include "tally.h"

/*
 * A process others wake.  proc_number indexes the array of all processes and
 * is valid while pid is not 0; its owner clears it before it exits.  Setting
 * the latch of whoever took over that place later is harmless.
 */
typedef struct JanitorProcess
{
	int			pid;
	int			proc_number;
} JanitorProcess;

/* One database that may have the extension. */
typedef struct JanitorDatabase
{
	Oid			oid;			/* InvalidOid: the place is free */
	uint64		generation;		/* grows with everything told to it */
	TimestampTz next_due;		/* nothing to look at before; DT_NOEND: never */
	bool		everything;		/* definitions changed since the last news */
	bool		reconciled;		/* once since the server started */
	TimestampTz reconciled_at;	/* last time */
	bool		unsettled;		/* its scheduler ended with runs in hand that
								 * nobody carries */
	TimestampTz daily_round;	/* when the history of all jobs was pruned */
	bool		disabled;		/* pg_janitor is switched off there */
	TimestampTz off_since;		/* ... since; or was last, until: both by */
	TimestampTz off_until;		/* janitor_clock() */
	bool		restart;		/* its scheduler is to connect anew */
	TimestampTz served_since;	/* when its present scheduler came */
	bool		starting;		/* its scheduler was registered */
	bool		backlog;		/* due entries wait for a run to end */
	TimestampTz last_start;		/* when its scheduler was last started; 0: the
								 * last one left in good order */
	int			failed_starts;	/* in a row, that did not come to serve */
	TimestampTz leave_until;	/* the database is wanted free of us */
	bool		wants_worker;	/* cannot get a place for ... */
	Oid			wanted_owner;
	bool		wants_more;		/* ... or for another one of an owner who has
								 * some */
	bool		told_of_heavy;	/* wakes when heavy work ends anywhere */
	bool		wants_heavy;	/* entries wait for nothing else */
	TimestampTz starved_until;	/* its scheduler can start no worker */
	int64		short_run;		/* moving average of a run, microseconds */
	TimestampTz alarm;			/* its scheduler looks again no later; see
								 * mark.c */
	TimestampTz lease_until;	/* earliest lease it was not told of yet */
	bool		faults_lost;	/* more runs failed than could be told */
	JanitorProcess scheduler;
} JanitorDatabase;

/*
 * A worker that has come, or has just ended a run, keeps its place at least
 * for so long: more than its start costs.
 */
#define JANITOR_TURN (100 * INT64CONST(1000))

typedef enum JanitorSlotState
{
	JANITOR_SLOT_FREE,
	JANITOR_SLOT_STARTING,		/* reserved; its process has not come yet */
	JANITOR_SLOT_CONNECTING,	/* the process is there, cannot serve yet */
	JANITOR_SLOT_IDLE,
	JANITOR_SLOT_RUNNING,
	JANITOR_SLOT_DEAD			/* the scheduler has to write what became of
								 * its run, then frees it */
} JanitorSlotState;

/* One worker process. */
typedef struct JanitorSlot
{
	JanitorSlotState state;
	uint32		serial;			/* of the present use; a late process of an
								 * earlier one leaves */
	Oid			database;
	Oid			owner;
	JanitorProcess worker;
	int64		execution_id;	/* 0: none */
	uint64		job_hash;
	TimestampTz since;			/* start of the run, or of being idle */
	TimestampTz connected_at;	/* its turn lasts from here */
	bool		served;			/* got as far as IDLE once */
	bool		retire;			/* leaves when it has nothing in hand */
	bool		heavy;			/* counts among the heavy runs */

	/* helper.c */
	bool		helper;			/* execution_id is another worker's run */
	bool		leaving;		/* ... and it was told to leave it */
	int			helpers_wanted; /* by the worker that has the run */
	uint32		call;			/* counts its calls for help; a helper's: the
								 * one that it followed */
	int64		helped;			/* the run that it helped last, and had
								 * nothing more to do for */

	/* what is known elsewhere is filled in when it is copied */
	JanitorProgress progress;

	/* tally.c */
	int			at_rule;		/* place of the rule that it is at; 0: none */
	JanitorTally tallies[JANITOR_TALLIES];	/* of its own run */

	/* replicas.c */
	bool		asks_replicas;	/* its run needs samples */
	bool		awaits_replicas;	/* to be woken by the next one */

	/*
	 * Who asked for the end of which run.  Written under the lock, before the
	 * signal is sent; read by the worker's signal handler without it.
	 */
	volatile JanitorEnd end;
	volatile int64 end_execution;
	Oid			end_by;			/* who asked, if it was a user */
	TimestampTz end_since;		/* when the worker was last signalled */
	int			end_signals;	/* how often */

	/* Set by the worker's SIGTERM handler, without the lock. */
	volatile sig_atomic_t term_requested;
} JanitorSlot;

/* A claimed run that no worker has taken yet. */
typedef struct JanitorReady
{
	int64		execution_id;
	uint64		job_hash;
	Oid			database;
	Oid			owner;
	TimestampTz since;
	JanitorEnd	end;			/* cancelled before it was begun */
	bool		heavy;
} JanitorReady;

/* How far the log had been written when. */
typedef struct JanitorLogNote
{
	TimestampTz at;
	XLogRecPtr	flushed;
} JanitorLogNote;

#define JANITOR_LOG_NOTES 256

/* A run that the scheduler is told of, and a job that is failing; fault.c. */
#define JANITOR_FAULTS 256
#define JANITOR_FAILING 1024

typedef struct JanitorFault
{
	Oid			database;
	uint64		job_hash;
	int64		execution_id;
	bool		failed;
} JanitorFault;

typedef struct JanitorFailing
{
	Oid			database;
	uint64		job_hash;
} JanitorFailing;

/* A job that clients claim from; see mark.c. */
#define JANITOR_MARKS 128

typedef struct JanitorMark
{
	Oid			database;		/* InvalidOid: the place is free */
	uint64		job_hash;
	TimestampTz used;			/* when it was last read */
	TimestampTz run_at;			/* nothing is left to claim at or before */
	int64		id;
	uint32		told;			/* grows with whatever may undo that */
	bool		starved;		/* a claim left entries from starved_at on */
	TimestampTz starved_at;
	TimestampTz starved_until;	/* they may be claimed then */
	bool		announce;		/* they can be claimed now */
	int			ended;			/* runs, since the scheduler asked */
	char		job_name[4 * 128 + 1];
} JanitorMark;

typedef struct JanitorShared
{
	LWLock	   *lock;
	JanitorProcess launcher;
	bool		rescan;			/* look at pg_database again */
	bool		was_standby;	/* fixed at start: began in recovery of an
								 * archive or as a standby */
	TimestampTz shortage_until; /* processes are short until then */
	TimestampTz started_at;		/* fixed at start */
	ConditionVariable run_ended;	/* has a lock of its own */
	JanitorReplicas replicas;	/* the newest sample */
	int			log_note_count;
	JanitorLogNote log_notes[JANITOR_LOG_NOTES];	/* oldest first */
	int			fault_count;
	JanitorFault faults[JANITOR_FAULTS];	/* oldest first */
	volatile int failing_count; /* read without the lock */
	JanitorFailing failing[JANITOR_FAILING];	/* oldest first */
	int			slot_count;		/* fixed at start */
	int			ready_count;
	JanitorReady ready[JANITOR_RING_SIZE];	/* oldest first */
	JanitorDatabase databases[JANITOR_MAX_DATABASES];
	JanitorMark marks[JANITOR_MARKS];
	JanitorSlot slots[FLEXIBLE_ARRAY_MEMBER];
} JanitorShared;

extern JanitorShared *janitor_shared;

extern void janitor_lock(LWLockMode mode);
extern void janitor_unlock(void);

/* The rest expects the lock to be held. */

/* --- slot.c --- */

/* This process's own slot; NULL: it is no worker. */
extern JanitorSlot *janitor_my_slot(void);

/* --- crew.c --- */

extern void janitor_wake_my_scheduler(void);
extern bool janitor_slot_is_of(const JanitorSlot *slot, Oid database,
							   Oid owner);

/*
 * A run is left without its worker: where no scheduler is alive, one is to
 * come and record its end.
 */
extern void janitor_tell_of_death(Oid database);

/* Is it about to be free, without a run that may take as long as it likes? */
extern bool janitor_slot_is_leaving(const JanitorSlot *slot);

/* Has the owner any worker, or one on its way? */
extern bool janitor_has_worker(Oid database, Oid owner);

/*
 * Is there somebody without any worker who waits for a place?  Other than
 * this one.
 */
extern bool janitor_others_want(Oid database, Oid owner);
extern int	janitor_slots_in_use(void);

/* Makes a slot free again and tells whoever waits for a place. */
extern void janitor_slot_free(JanitorSlot *slot);

/* Nothing is in hand any more; tells whoever waits for that. */
extern void janitor_slot_clear(JanitorSlot *slot);

/* --- heavy.c --- */

extern int	janitor_heavy_room(void);

/* Does the scheduler of any database wait for nothing but this room? */
extern bool janitor_heavy_wanted(void);

/* Heavy work has ended: whoever waits for the room is told. */
extern void janitor_heavy_ended(void);

/* --- helper.c --- */

/* Has a helper of this run not left yet? */
extern bool janitor_has_helpers(Oid database, int64 execution_id);

/* A run that this idle worker is to help; or NULL. */
extern JanitorSlot *janitor_run_to_help(const JanitorSlot *slot);

/* Something has become free: whoever could help is told. */
extern void janitor_offer_help(void);

/* A helper begins or leaves: its run's worker is told. */
extern void janitor_helper_moved(const JanitorSlot *helper);

/* Its worker is gone, or its end was asked for. */
extern void janitor_end_helpers(Oid database, int64 execution_id,
								JanitorEnd why);

/* --- crew_end.c --- */

/* The live worker that has this run of this database; or NULL. */
extern JanitorSlot *janitor_slot_of_run(Oid database, int64 execution_id);

/* Writes who ends the run, then signals. */
extern void janitor_end_slot(JanitorSlot *slot, JanitorEnd why,
							 int signal_number);

/* What is left of a database that is gone; false: a worker is still there. */
extern bool janitor_forget_crews(Oid database);

/* Ends the workers whose SIGTERM waits for the scheduler's word. */
extern void janitor_end_deferred(void);
extern void janitor_retire_idle(void);

/* --- ring.c --- */

/* InvalidOid: of all owners. */
extern int	janitor_ring_count(Oid database, Oid owner);
extern void janitor_ring_remove(int place);

/* --- shmem.c --- */

/* The database's place; with create, a new one if there is room. */
extern JanitorDatabase *janitor_database_entry(Oid oid, bool create);

/* This process's own database. */
extern JanitorDatabase *janitor_my_database(void);

/* Its scheduler, or the launcher if it has none. */
extern const JanitorProcess *janitor_who_serves(const JanitorDatabase *database);
extern void janitor_wake_database(const JanitorDatabase *database);
extern void janitor_wake_process(const JanitorProcess *process);

/* Notes what its scheduler has to look at; does not wake it. */
extern void janitor_tell(JanitorDatabase *database, TimestampTz due,
						 bool everything);

/* --- fault.c --- */

/* What this process's transaction has to tell: its commit; its abort. */
extern void janitor_faults_tell(JanitorDatabase *database);
extern void janitor_faults_forget(void);
extern void janitor_faults_drop(Oid database);

/* An entry due then can be claimed (again). */
extern void janitor_marks_told(Oid database, TimestampTz run_at);

/* Fills in this process. */
extern void janitor_process_set(JanitorProcess *process);

#endif							/* JANITOR_SHMEM_INTERNAL_H */
