/*-------------------------------------------------------------------------
 *
 * definition.h
 *	  Jobs as the C code sees them: load, validate, next occurrence.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_DEFINITION_H
#define JANITOR_DEFINITION_H

#include "ledger.h"
#include "pgtime.h"
#include "schedule.h"

#define JANITOR_NAME_LIMIT 128	/* characters in a job's name */

/* A schedule and a zone as the calendar takes them, once they are needed. */
typedef struct JanitorCalendar
{
	bool		ready;
	JanitorSchedule schedule;
	pg_tz	   *zone;
} JanitorCalendar;

/* Does an items job write receipts? */
typedef enum JanitorReceipts
{
	JANITOR_RECEIPTS_DEFAULT,	/* if one of its rules erases */
	JANITOR_RECEIPTS_OFF,
	JANITOR_RECEIPTS_ON
} JanitorReceipts;

/*
 * One loaded job_definition row.  All pointers belong to the context that
 * was current when it was loaded.  Durations are microseconds.
 */
typedef struct JanitorJob
{
	HeapTuple	tuple;			/* the row it was loaded from */
	char	   *name;
	JanitorKind kind;
	char	   *schedule;		/* NULL: on demand only */
	char	   *time_zone;
	JanitorCalendar *calendar;	/* both of these, parsed at first use */
	char	   *command;		/* NULL: its kind has none */
	char	   *items;			/* likewise */
	Jsonb	   *args;
	Jsonb	   *settings;
	char	   *owner;			/* name, as of the last definition */
	Oid			owner_oid;
	bool		enabled;
	bool		run_on_start;
	char	   *run_after;		/* NULL: none; likewise on_failure */
	char	   *on_failure;
	JanitorCatchUp catch_up;
	int64		catch_up_within;	/* 0: no limit */
	int			max_running;	/* 0: no limit */
	JanitorOverlap overlap;
	int64		timeout;		/* 0: none */
	int64		stop_after;		/* 0: none */
	int			parallel;		/* workers on one run */
	int			max_attempts;
	int64		retry_delay;
	int64		retry_max_delay;
	int64		jitter;
	int			priority;
	char	   *circuit;		/* NULL: none; likewise channel */
	char	   *channel;
	JanitorReceipts receipts;
	char	   *subjects;		/* NULL: not given */
	int64		keep_history;
	int			keep_runs;
	bool		paused;
	TimestampTz paused_until;	/* DT_NOEND: until resumed */
	int64		home;			/* where it was armed, see home.c; 0: never */
	Oid			home_database;
	char	   *environment;	/* likewise; NULL: never */
	int			version;
	TimestampTz updated_at;
} JanitorJob;

/*
 * May a run of the job have left something committed that a second run would
 * do again?  Then recovery does not repeat it, only its max_attempts do.
 */
extern bool janitor_job_is_non_atomic(const JanitorJob *job);

/* Does a run of it go through whole tables?  See heavy.c. */
extern bool janitor_job_is_heavy(const JanitorJob *job);

/* Loads the newest version of a job; NULL if there is none. */
extern JanitorJob *janitor_job_load(const char *job_name);

/* The same from a row at hand. */
extern JanitorJob *janitor_job_from_tuple(HeapTuple tuple);

/*
 * May the current user know of what this role owns?  The same as the filter of
 * the views, or the right to read the tables.
 */
extern bool janitor_owner_visible(Oid owner, const char *owner_name);

/* The same for a job. */
extern bool janitor_job_visible(const JanitorJob *job);

/*
 * Loads a job or raises ERROR 42704 "job ... does not exist", with the
 * nearest existing name as hint (names of jobs the caller may see only).
 */
extern JanitorJob *janitor_job_require(const char *job_name);

/* Raises an error unless the current user may act for the job's owner. */
extern void janitor_job_check_owner(const JanitorJob *job);

/*
 * Is the owner still the role it was defined with?  NULL if so, else why
 * not, as a message for people.  Also names a missing LOGIN (below 17) or
 * CONNECT right: whatever would keep a worker from connecting as it.
 */
extern const char *janitor_job_owner_problem(const JanitorJob *job);
extern const char *janitor_owner_problem(const char *owner, Oid owner_oid);

/* The server's zone of that name; NULL if unknown. */
extern pg_tz *janitor_zone_find(const char *name);

/* The same, or ERROR 22023. */
extern pg_tz *janitor_zone_require(const char *name);

/*
 * The first occurrence strictly after `after`, without jitter: what
 * scheduled_for holds; DT_NOEND if there is none (or no schedule).
 * `previous` is the last scheduled time, the anchor of `every` (DT_NOBEGIN:
 * `after` is).
 */
extern TimestampTz janitor_job_occurrence(const JanitorJob *job,
										  TimestampTz previous,
										  TimestampTz after);

/* The job's jitter: run_at is always scheduled_for plus this. */
extern int64 janitor_job_delay(const JanitorJob *job);

/* The same of a schedule that belongs to no job (yet). */
extern TimestampTz janitor_occurrence(const JanitorSchedule *schedule,
									  const pg_tz *zone,
									  TimestampTz previous,
									  TimestampTz after);

/*
 * Parses a schedule or raises ERROR 22023 `invalid schedule "...": ...`.
 */
extern void janitor_schedule_require(const char *text,
									 JanitorSchedule *schedule);

/* A list of next runs for job_next_runs(); count > 0. */
extern int	janitor_next_runs(const char *schedule, const char *time_zone,
							  TimestampTz after, int count,
							  TimestampTz *result);

/*
 * Brings the job's schedule entry in job_queue into line with its definition
 * (inserts, moves or deletes it) and returns the next run, DT_NOEND if none.
 * `now` is the scheduler's clock.  In the defining transaction, or in the
 * scheduler's reconcile.  An entry that is right already is left alone.
 */
extern TimestampTz janitor_job_sync_entry(const JanitorJob *job,
										  TimestampTz now, bool recompute);

/* The job's arguments with others (NULL: none) over them. */
extern Jsonb *janitor_job_merge_args(const JanitorJob *job, Jsonb *args);

/* Serialises changes of one job until the end of the transaction. */
extern void janitor_job_lock(const char *job_name);

/* The same without waiting; false: somebody is changing the job. */
extern bool janitor_job_try_lock(const char *job_name);

/*
 * Serialises triggers of one job with the same key.  It can be given back as
 * soon as the entry is there for others to see, committed or not: a bulk of
 * triggers would not find room for so many locks.
 */
extern void janitor_trigger_lock(const char *job_name, const char *key);
extern void janitor_trigger_unlock(const char *job_name, const char *key);

/* janitor_job_lock() for every job at once, with one lock. */
extern void janitor_job_lock_all(void);

/*
 * Serialises claims of one job's runs by clients, among themselves; given
 * back before the transaction ends.
 */
extern void janitor_claim_lock(const char *job_name);
extern void janitor_claim_unlock(const char *job_name);

/* janitor_trigger_lock() without waiting. */
extern bool janitor_trigger_try_lock(const char *job_name, const char *key);

/* 64-bit hash of a job's name, for shared memory. */
extern uint64 janitor_job_hash(const char *job_name);

#endif							/* JANITOR_DEFINITION_H */
