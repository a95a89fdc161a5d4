/*-------------------------------------------------------------------------
 *
 * ledger.h
 *	  Every read and write of pg_janitor's tables, by heap access.
 *
 * See ledger.c for why heap access and what that forbids.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_LEDGER_H
#define JANITOR_LEDGER_H

#include "compat.h"

#include "access/htup.h"
#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "storage/itemptr.h"
#include "utils/jsonb.h"

#include "circuit.h"
#include "decide.h"
#include "digest.h"

#define JANITOR_EXTENSION_NAME "pg_janitor"
#define JANITOR_EXTENSION_VERSION "1.0"

/* The relations the C code touches; order of ledger.c's table of names. */
typedef enum JanitorRelation
{
	JANITOR_DEFINITION,
	JANITOR_DEFINITION_PKEY,
	JANITOR_DEFINITION_RUN_AFTER,	/* (run_after) */
	JANITOR_QUEUE,
	JANITOR_QUEUE_PKEY,
	JANITOR_QUEUE_KEY,			/* unique (job_name, key) */
	JANITOR_QUEUE_RUN_AT,		/* (run_at, id) */
	JANITOR_QUEUE_JOB_RUN_AT,	/* (job_name, run_at, id) */
	JANITOR_QUEUE_EXECUTION,	/* (execution_id) */
	JANITOR_QUEUE_SEQUENCE,
	JANITOR_EXECUTION,
	JANITOR_EXECUTION_PKEY,
	JANITOR_EXECUTION_JOB,		/* (job_name, id) */
	JANITOR_EXECUTION_SEQUENCE,
	JANITOR_COUNTER,
	JANITOR_COUNTER_PKEY,		/* (job_name, writer) */
	JANITOR_CHANGE,
	JANITOR_CHANGE_JOB,			/* (job_name, id) */
	JANITOR_CHANGE_SEQUENCE,
	JANITOR_RULE,
	JANITOR_RULE_PKEY,			/* (job_name, rule) */
	JANITOR_CURSOR,
	JANITOR_CURSOR_PKEY,
	JANITOR_CURSOR_JOB,			/* (job_name, id) */
	JANITOR_CURSOR_SEQUENCE,
	JANITOR_HOLD,
	JANITOR_HOLD_PKEY,
	JANITOR_HOLD_SEQUENCE,
	JANITOR_ITEM_FAILURE,
	JANITOR_ITEM_FAILURE_PKEY,	/* (job_name, item_key) */
	JANITOR_LEASE,
	JANITOR_LEASE_PKEY,			/* (execution_id) */
	JANITOR_LEASE_UNTIL,		/* (lease_until, execution_id) */
	JANITOR_LEASE_JOB_KEY,		/* (job_name, key) */
	JANITOR_WORK,
	JANITOR_WORK_PKEY,			/* (job_name, role) */
	JANITOR_CIRCUIT,
	JANITOR_CIRCUIT_PKEY,		/* (name) */
	JANITOR_CIRCUIT_EVENT,
	JANITOR_CIRCUIT_EVENT_INDEX,	/* (circuit, id) */
	JANITOR_CIRCUIT_EVENT_SEQUENCE,
	JANITOR_RATE_LIMIT,
	JANITOR_RATE_LIMIT_PKEY,	/* (id) */
	JANITOR_RATE_LIMIT_JOB,		/* (job_name, id) */
	JANITOR_RATE_LIMIT_SEQUENCE,
	JANITOR_RATE_HIT,
	JANITOR_RATE_HIT_INDEX,		/* (limit_id, value, at) */

	JANITOR_MASK_KEY,
	JANITOR_MASK_KEY_PKEY,		/* (name, id) */
	JANITOR_MASK_SECRET,
	JANITOR_MASK_SECRET_PKEY,	/* (id) */
	JANITOR_RECEIPT,
	JANITOR_RECEIPT_PKEY,		/* (job_name, number) */
	JANITOR_REPLAY,
	JANITOR_REPLAY_PKEY,		/* (id) */
	JANITOR_REPLAY_SEQUENCE,
	JANITOR_HOME,				/* a sequence */
	JANITOR_RELATIONS			/* how many */
} JanitorRelation;

/* Columns, in the order of sql/pg_janitor--1.0.sql. */
enum
{
	Anum_definition_name = 1,
	Anum_definition_kind,
	Anum_definition_description,
	Anum_definition_tags,
	Anum_definition_schedule,
	Anum_definition_time_zone,
	Anum_definition_command,
	Anum_definition_items,
	Anum_definition_args,
	Anum_definition_settings,
	Anum_definition_owner,
	Anum_definition_owner_oid,
	Anum_definition_enabled,
	Anum_definition_run_on_start,
	Anum_definition_run_after,
	Anum_definition_on_failure,
	Anum_definition_catch_up,
	Anum_definition_catch_up_within,
	Anum_definition_max_running,
	Anum_definition_overlap,
	Anum_definition_timeout,
	Anum_definition_stop_after,
	Anum_definition_parallel,
	Anum_definition_max_attempts,
	Anum_definition_retry_delay,
	Anum_definition_retry_max_delay,
	Anum_definition_jitter,
	Anum_definition_priority,
	Anum_definition_circuit,
	Anum_definition_channel,
	Anum_definition_receipts,
	Anum_definition_subjects,
	Anum_definition_keep_history,
	Anum_definition_keep_runs,
	Anum_definition_paused_by,
	Anum_definition_paused_reason,
	Anum_definition_paused_until,
	Anum_definition_home,
	Anum_definition_home_database,
	Anum_definition_environment,
	Anum_definition_version,
	Anum_definition_created_at,
	Anum_definition_updated_at,
	Natts_definition = Anum_definition_updated_at
};

enum
{
	Anum_queue_id = 1,
	Anum_queue_execution_id,
	Anum_queue_job_name,
	Anum_queue_run_at,
	Anum_queue_scheduled_for,
	Anum_queue_reason,
	Anum_queue_attempt,
	Anum_queue_conflicts,
	Anum_queue_retry_of,
	Anum_queue_parent_id,
	Anum_queue_args,
	Anum_queue_key,
	Anum_queue_triggered_by,
	Anum_queue_detail,
	Natts_queue = Anum_queue_detail
};

enum
{
	Anum_execution_id = 1,
	Anum_execution_job_name,
	Anum_execution_started_at,
	Anum_execution_completed_at,
	Anum_execution_success,
	Anum_execution_error_message,
	Anum_execution_records_processed,
	Anum_execution_status,
	Anum_execution_detail,
	Anum_execution_scheduled_for,
	Anum_execution_reason,
	Anum_execution_attempt,
	Anum_execution_retry_of,
	Anum_execution_parent_id,
	Anum_execution_triggered_by,
	Anum_execution_failed_records,
	Anum_execution_sqlstate,
	Anum_execution_args,
	Anum_execution_result,
	Anum_execution_definition_version,
	Anum_execution_run_as,
	Anum_execution_pid,
	Anum_execution_duration,
	Anum_execution_lease_until,
	Anum_execution_worker,
	Anum_execution_skipped,
	Anum_execution_conflicts,
	Anum_execution_key,
	Natts_execution = Anum_execution_key
};

enum
{
	Anum_counter_job_name = 1,
	Anum_counter_writer,
	Anum_counter_succeeded,
	Anum_counter_failed,
	Anum_counter_timed_out,
	Anum_counter_cancelled,
	Anum_counter_interrupted,
	Anum_counter_skipped,
	Anum_counter_retries,
	Anum_counter_records_processed,
	Anum_counter_failed_records,
	Anum_counter_run_usecs,
	Natts_counter = Anum_counter_run_usecs
};

enum
{
	Anum_change_id = 1,
	Anum_change_changed_at,
	Anum_change_changed_by,
	Anum_change_job_name,
	Anum_change_action,
	Anum_change_before,
	Anum_change_after,
	Natts_change = Anum_change_after
};

enum
{
	Anum_rule_job_name = 1,
	Anum_rule_rule,
	Anum_rule_place,
	Anum_rule_relation,
	Anum_rule_action,
	Anum_rule_time_column,
	Anum_rule_time_unit,
	Anum_rule_time_format,
	Anum_rule_keep,
	Anum_rule_keep_expression,
	Anum_rule_tier_column,
	Anum_rule_tiers,
	Anum_rule_keep_last,
	Anum_rule_keep_per,
	Anum_rule_expired_when,
	Anum_rule_match,
	Anum_rule_filter,
	Anum_rule_set,
	Anum_rule_done_when,
	Anum_rule_archive_to,
	Anum_rule_short_keep,
	Anum_rule_stop_on_failure,
	Anum_rule_batch_rows,
	Anum_rule_rows_per_run,
	Anum_rule_max_rows_per_second,
	Anum_rule_parallel,
	Anum_rule_max_replica_lag,
	Anum_rule_vacuum,
	Anum_rule_partitions,
	Anum_rule_drop_after,
	Anum_rule_abort_above_rows,
	Anum_rule_abort_above_fraction,
	Natts_rule = Anum_rule_abort_above_fraction
};

enum
{
	Anum_cursor_id = 1,
	Anum_cursor_job_name,
	Anum_cursor_rule,
	Anum_cursor_execution_id,
	Anum_cursor_relation,
	Anum_cursor_relfilenode,
	Anum_cursor_method,
	Anum_cursor_state,
	Anum_cursor_position,
	Anum_cursor_until,
	Anum_cursor_as_of,
	Anum_cursor_handled,
	Anum_cursor_locked,
	Anum_cursor_worker,
	Anum_cursor_updated_at,
	Natts_cursor = Anum_cursor_updated_at
};

enum
{
	Anum_hold_id = 1,
	Anum_hold_relation,
	Anum_hold_relation_oid,
	Anum_hold_relation_owner,
	Anum_hold_predicate,
	Anum_hold_reason,
	Anum_hold_until,
	Anum_hold_placed_by,
	Anum_hold_placed_at,
	Anum_hold_released_by,
	Anum_hold_released_at,
	Anum_hold_home,
	Natts_hold = Anum_hold_home
};

enum
{
	Anum_item_failure_job_name = 1,
	Anum_item_failure_item_key,
	Anum_item_failure_attempts,
	Anum_item_failure_sqlstate,
	Anum_item_failure_error_message,
	Anum_item_failure_next_attempt_at,
	Anum_item_failure_dead,
	Anum_item_failure_held,
	Anum_item_failure_due,
	Anum_item_failure_execution_id,
	Anum_item_failure_first_at,
	Anum_item_failure_last_at,
	Natts_item_failure = Anum_item_failure_last_at
};

enum
{
	Anum_mask_key_name = 1,
	Anum_mask_key_id,
	Anum_mask_key_owner,
	Anum_mask_key_owner_oid,
	Anum_mask_key_created_by,
	Anum_mask_key_created_at,
	Anum_mask_key_forgotten_by,
	Anum_mask_key_forgotten_at,
	Natts_mask_key = Anum_mask_key_forgotten_at
};

enum
{
	Anum_lease_execution_id = 1,
	Anum_lease_job_name,
	Anum_lease_key,
	Anum_lease_lease_until,
	Anum_lease_claimed_at,
	Anum_lease_token_hash,
	Natts_lease = Anum_lease_token_hash
};

enum
{
	Anum_work_job_name = 1,
	Anum_work_role,
	Anum_work_role_oid,
	Anum_work_granted_by,
	Anum_work_granted_at,
	Natts_work = Anum_work_granted_at
};

enum
{
	Anum_circuit_name = 1,
	Anum_circuit_failure_threshold,
	Anum_circuit_window,
	Anum_circuit_cooldown,
	Anum_circuit_state,
	Anum_circuit_since,
	Anum_circuit_owner,
	Anum_circuit_owner_oid,
	Natts_circuit = Anum_circuit_owner_oid
};

enum
{
	Anum_circuit_event_id = 1,
	Anum_circuit_event_circuit,
	Anum_circuit_event_at,
	Anum_circuit_event_event,
	Anum_circuit_event_began,
	Anum_circuit_event_execution_id,
	Anum_circuit_event_reported_by,
	Natts_circuit_event = Anum_circuit_event_reported_by
};

enum
{
	Anum_rate_limit_id = 1,
	Anum_rate_limit_job_name,
	Anum_rate_limit_arg,
	Anum_rate_limit_max_runs,
	Anum_rate_limit_per,
	Natts_rate_limit = Anum_rate_limit_per
};

enum
{
	Anum_rate_hit_limit_id = 1,
	Anum_rate_hit_value,
	Anum_rate_hit_at,
	Natts_rate_hit = Anum_rate_hit_at
};

enum
{
	Anum_mask_secret_id = 1,
	Anum_mask_secret_secret,
	Natts_mask_secret = Anum_mask_secret_secret
};

enum
{
	Anum_receipt_job_name = 1,
	Anum_receipt_number,
	Anum_receipt_execution_id,
	Anum_receipt_erased_at,
	Anum_receipt_subject,
	Anum_receipt_key_id,
	Anum_receipt_rows,
	Anum_receipt_verified,
	Anum_receipt_policy_version,
	Anum_receipt_previous,
	Anum_receipt_hash,
	Natts_receipt = Anum_receipt_hash
};

enum
{
	Anum_replay_id = 1,
	Anum_replay_job_name,
	Anum_replay_first,
	Anum_replay_last,
	Anum_replay_requested_by,
	Anum_replay_requested_at,
	Anum_replay_execution_id,
	Anum_replay_replayed_at,
	Natts_replay = Anum_replay_replayed_at
};

/*
 * Keys that pg_janitor itself gives to queue entries, so that the unique
 * index on (job_name, key) holds them to one per job.  Keys given by users
 * never begin with '@'.
 */
#define JANITOR_KEY_SCHEDULE "@schedule"	/* the next occurrence */
#define JANITOR_KEY_QUEUED "@queued"	/* overlap = queue */
#define JANITOR_KEY_STARTUP "@startup"	/* run_on_start */
#define JANITOR_KEY_REPLAY "@replay"	/* job_erasure_replay() */

/* Why occurrences were skipped: what their row's detail says. */
#define JANITOR_DETAIL_OVERLAP "the job was still running"
#define JANITOR_DETAIL_MISSED "missed, and not made up"
#define JANITOR_DETAIL_PAUSED "the job was paused"
#define JANITOR_DETAIL_OFF "pg_janitor was switched off"
#define JANITOR_DETAIL_CIRCUIT "its circuit was open"
#define JANITOR_DETAIL_RATE "a rate limit was reached"
#define JANITOR_DETAIL_UNCLAIMED "the run before was not claimed yet"

/* Why an entry waits longer than it was asked to. */
#define JANITOR_DETAIL_WAITS_RATE "rate limit"
#define JANITOR_DETAIL_WAITS_SNOOZE "snoozed by its worker"

/* What a job does. */
typedef enum JanitorKind
{
	JANITOR_KIND_SQL,
	JANITOR_KIND_RETENTION,
	JANITOR_KIND_ITEMS,
	JANITOR_KIND_EXTERNAL
} JanitorKind;

/* One row of job_queue.  Pointers belong to the caller's context. */
typedef struct JanitorEntry
{
	ItemPointerData tid;		/* where the row was seen; set by reads */
	TransactionId xmin;			/* who wrote that version; set by reads */
	TransactionId xmax;			/* who locked or changed it since, perhaps
								 * still in progress; set by reads */
	int64		id;				/* 0: allot one at insertion */
	int64		execution_id;	/* 0: none yet */
	char	   *job_name;
	TimestampTz run_at;
	TimestampTz scheduled_for;	/* DT_NOBEGIN: NULL */
	JanitorReason reason;
	int			attempt;
	int			conflicts;		/* repeats of this attempt after deadlocks,
								 * serialization and lock-timeout failures */
	int64		retry_of;		/* 0: NULL; likewise parent_id */
	int64		parent_id;
	Jsonb	   *args;			/* NULL: none; likewise key, triggered_by */
	char	   *key;
	char	   *triggered_by;
	const char *detail;			/* likewise */
	bool		pinned;			/* only locked by somebody, not being deleted;
								 * set by janitor_entry_take() */
} JanitorEntry;

typedef enum JanitorStatus
{
	JANITOR_RUNNING,
	JANITOR_SUCCEEDED,
	JANITOR_FAILED,
	JANITOR_TIMED_OUT,
	JANITOR_CANCELLED,
	JANITOR_INTERRUPTED,
	JANITOR_SKIPPED
} JanitorStatus;

/* How a run ended, as it is written into its row. */
typedef struct JanitorOutcome
{
	JanitorStatus status;
	TimestampTz started_at;		/* DT_NOBEGIN: leave the row's own */
	TimestampTz completed_at;
	int64		records;		/* -1: not countable */
	int64		failed_records; /* 0: none, or not counted */
	int			sqlstate;		/* 0: none */
	const char *error_message;	/* NULL: none; likewise detail, result */
	const char *detail;
	Jsonb	   *result;
	int			definition_version; /* 0: leave the row's own */
	int			pid;			/* 0: leave the row's own */
	bool		permanent;		/* another attempt would fail as well */
} JanitorOutcome;

/* The end, now, of a run that nobody began. */
extern void janitor_outcome_cancelled(JanitorOutcome *outcome, int sqlstate,
									  const char *message);

/* What a worker or the scheduler needs of a job_execution row. */
typedef struct JanitorExecution
{
	ItemPointerData tid;
	int64		id;
	char	   *job_name;
	JanitorStatus status;
	TimestampTz started_at;		/* DT_NOBEGIN: NULL; the next two likewise */
	TimestampTz completed_at;
	TimestampTz scheduled_for;
	JanitorReason reason;
	int			attempt;
	int			conflicts;
	int64		retry_of;
	int64		parent_id;
	Jsonb	   *args;
	char	   *error_message;
	char	   *detail;
	char	   *sqlstate;
	int64		records;		/* -1: NULL */
	char	   *triggered_by;
	Jsonb	   *result;
	char	   *key;			/* NULL: none */
	TimestampTz lease_until;	/* of a worker outside; DT_NOBEGIN: none */
} JanitorExecution;

/* --- the extension and its relations; inside a transaction --- */

/* Is there a pg_janitor in this database, of the library's version? */
extern bool janitor_extension_exists(void);

/* Schema of the extension; error if there is no extension. */
extern Oid	janitor_extension_schema(void);

/* OID of one of our relations; error if there is no extension. */
extern Oid	janitor_relation(JanitorRelation which);

/*
 * The version of a pg_janitor in this database that is not the library's, and
 * what to do about it; NULL: there is none, or it is.  palloc'd.
 */
extern char *janitor_other_version(const char **hint);

/* Is the first version, by its numbers, older than the second? */
extern bool janitor_version_precedes(const char *version, const char *other);

/*
 * The random number that CREATE EXTENSION has given this database.  A dump
 * does not carry it, a copy of the files does.
 */
extern int64 janitor_home(void);

/* --- names --- */

extern const char *janitor_reason_name(JanitorReason reason);
extern JanitorReason janitor_reason_from_name(const char *name);
extern const char *janitor_kind_name(JanitorKind kind);
extern JanitorKind janitor_kind_from_name(const char *name);
extern const char *janitor_status_name(JanitorStatus status);
extern JanitorStatus janitor_status_from_name(const char *name);

/* An interval as microseconds, a month counting as 30 days. */
extern int64 janitor_interval_usec(const Interval *interval);

/* --- job_definition, as raw rows; definition.c knows what they mean --- */

/* The newest committed-or-ours row, or NULL.  A copy in our context. */
extern HeapTuple janitor_definition_find(const char *job_name);

/* Calls `each` for every definition; the tuple is gone after the call. */
extern void janitor_definition_scan(void (*each) (HeapTuple tuple, void *arg),
									void *arg);

/* Calls `each` with the name of every job that runs after this one. */
extern void janitor_definition_scan_children(const char *job_name,
											 void (*each) (const char *child,
														   void *arg),
											 void *arg);
extern TupleDesc janitor_definition_tupdesc(void);
extern void janitor_definition_insert(Datum *values, bool *nulls);
extern void janitor_definition_update(HeapTuple old, Datum *values,
									  bool *nulls, bool *replaces);
extern void janitor_definition_delete(HeapTuple old);
extern void janitor_change_insert(const char *job_name, const char *action,
								  Jsonb *before, Jsonb *after);

/* Is the newest change of the job that it was removed? */
extern bool janitor_was_removed(const char *job_name);

/* --- job_queue --- */

extern int64 janitor_next_execution_id(void);

/* No execution gets an id up to this any more. */
extern void janitor_pass_execution_id(int64 id);

/* Inserts; sets entry->id.  Wakes the scheduler at commit. */
extern void janitor_entry_insert(JanitorEntry *entry);

/* The newest row by its key, by its execution id, by its id; false if none. */
extern bool janitor_entry_find_key(const char *job_name, const char *key,
								   JanitorEntry *entry);
extern bool janitor_entry_find_execution(int64 execution_id,
										 JanitorEntry *entry);

/*
 * Whose transaction in progress has inserted an entry under this key; invalid:
 * nobody's but maybe ours.
 */
extern TransactionId janitor_entry_key_writer(const char *job_name,
											  const char *key);

/*
 * Writes the entry over the row at entry->tid, waiting for a concurrent
 * writer; false if the row is gone or was changed since it was read (read it
 * again).  Wakes the scheduler at commit.
 */
extern bool janitor_entry_update(JanitorEntry *entry);
extern bool janitor_entry_delete(JanitorEntry *entry);

/* Locks the row at entry->tid without waiting. */
typedef enum JanitorLock
{
	JANITOR_LOCKED,				/* ours until the end of the transaction */
	JANITOR_LOCK_HELD,			/* somebody else's open transaction has it */
	JANITOR_LOCK_GONE			/* changed or deleted since it was read */
} JanitorLock;
extern JanitorLock janitor_entry_try_lock(JanitorEntry *entry);

/*
 * Deletes the row at entry->tid without waiting, for a claim by a client: the
 * scheduler is told only if that is rolled back.
 */
extern JanitorLock janitor_entry_take(JanitorEntry *entry);

/* The same, and: not before run_at; of a row that the caller has locked. */
extern void janitor_entry_take_locked(JanitorEntry *entry);
extern void janitor_entry_postpone(JanitorEntry *entry, TimestampTz run_at,
								   const char *detail);

/* Removes every entry of a job; those held by others are waited for. */
extern int64 janitor_entry_delete_all(const char *job_name);

/*
 * Scans of waiting entries in (run_at, id) order: of all jobs, or of one.
 * Starts strictly after (after_run_at, after_id), ends at until.  `each`
 * returns false to stop.  Pointers in the entry live in the context that is
 * current during the call.  Needs an active snapshot.
 */
extern void janitor_entry_scan(const char *job_name,
							   TimestampTz after_run_at, int64 after_id,
							   TimestampTz until,
							   bool (*each) (JanitorEntry *entry, void *arg),
							   void *arg);

/* Earliest run_at strictly after the given position; DT_NOEND if none. */
extern TimestampTz janitor_entry_earliest(TimestampTz after_run_at,
										  int64 after_id);

/* --- job_execution --- */

/*
 * Inserts a `running` row for an entry; allots entry->execution_id if there
 * is none.  For a worker outside: its lease and its name (NULL: unnamed).
 */
extern void janitor_execution_start(JanitorEntry *entry, TimestampTz now,
									int definition_version,
									const char *run_as);
extern void janitor_execution_lease(JanitorEntry *entry, TimestampTz now,
									int definition_version,
									const char *run_as,
									TimestampTz lease_until,
									const char *worker);

/* The lease of a run was extended. */
extern void janitor_execution_extend(int64 id, TimestampTz lease_until);

/* Inserts the finished row of an entry that never ran (cancelled). */
extern void janitor_execution_never_ran(JanitorEntry *entry,
										const JanitorOutcome *outcome,
										const char *run_as);

/*
 * Records skipped occurrences: adds to the job's newest row if that is a
 * `skipped` one with the same detail, else inserts one.
 */
extern void janitor_execution_skip(const char *job_name,
								   TimestampTz scheduled_for,
								   const char *detail, int64 count,
								   const char *run_as);

/* Ends a run.  false, nothing written: the row is not `running` any more. */
extern bool janitor_execution_finish(int64 id, const JanitorOutcome *outcome);

/* Locks a row without waiting, until the end of the transaction. */
extern JanitorLock janitor_execution_try_lock(int64 id);

/* Takes back a claim that nobody started: deletes the `running` row. */
extern bool janitor_execution_unstart(int64 id, JanitorExecution *was);

extern bool janitor_execution_find(int64 id, JanitorExecution *execution);

/* Newest first; `each` returns false to stop. */
extern void janitor_execution_scan(const char *job_name,
								   bool (*each) (JanitorExecution *execution,
												 void *arg),
								   void *arg);

/* Calls `each` for every row that says `running`; reads the whole table. */
extern void janitor_execution_scan_running(void (*each) (JanitorExecution *execution, void *arg),
										   void *arg);
extern void janitor_execution_delete(JanitorExecution *execution);

/* --- job_counter --- */

/* One row of job_execution that has got its end, or skips added to one. */
typedef struct JanitorEnded
{
	JanitorStatus status;
	int64		count;			/* occurrences, if skipped; else 1 */
	bool		is_retry;
	int64		records;		/* 0: none, or not countable */
	int64		failed_records;
	int64		run_usecs;
} JanitorEnded;

/* Counts it, in the caller's transaction; waits for nobody. */
extern void janitor_counter_add(const char *job_name,
								const JanitorEnded *ended);

/* --- job_rule, as raw rows; rule.c knows what they mean --- */

/* The newest version of one rule, or NULL; a copy in our context. */
extern HeapTuple janitor_rule_find(const char *job_name, const char *rule);

/* Calls `each` for every rule of a job, in the order of their names. */
extern void janitor_rule_scan(const char *job_name,
							  void (*each) (HeapTuple tuple, void *arg),
							  void *arg);
extern TupleDesc janitor_rule_tupdesc(void);
extern void janitor_rule_insert(Datum *values, bool *nulls);
extern void janitor_rule_update(HeapTuple old, Datum *values, bool *nulls);
extern void janitor_rule_delete(HeapTuple old);

/* --- job_cursor --- */

typedef enum JanitorCursorState
{
	JANITOR_CURSOR_OPEN,
	JANITOR_CURSOR_DONE,
	JANITOR_CURSOR_DETACHED		/* a partition that is still to be dropped */
} JanitorCursorState;

typedef enum JanitorMethod
{
	JANITOR_METHOD_PARTITION,	/* detach or drop as a whole */
	JANITOR_METHOD_KEYS,		/* ranges of the time column, by its index */
	JANITOR_METHOD_BLOCKS,		/* ranges of blocks, in physical order */
	JANITOR_METHOD_ITEMS		/* items, one after the other */
} JanitorMethod;

/*
 * One row of job_cursor: the progress of one slice.  Written by whoever
 * carries the slice out, in the transaction of each batch.
 */
typedef struct JanitorCursor
{
	ItemPointerData tid;		/* set by reads and writes */
	int64		id;				/* 0: allot one at insertion */
	char	   *job_name;
	char	   *rule;
	int64		execution_id;	/* the run that `handled` belongs to */
	char	   *relation;		/* qualified and quoted */
	Oid			relfilenode;	/* a rewritten relation starts again */
	JanitorMethod method;
	JanitorCursorState state;
	char	   *position;		/* where to go on; NULL: at the beginning */
	char	   *until;			/* where to end; NULL: at the end */
	TimestampTz as_of;			/* what ages count from */
	int64		handled;		/* rows, committed with them */
	int64		locked;			/* rows passed over, somebody held them */
	int			worker;			/* pid of whoever works on it; 0: nobody */
	TimestampTz updated_at;		/* set by writes */
} JanitorCursor;

extern const char *janitor_method_name(JanitorMethod method);

/* Sets cursor->id if it is 0. */
extern void janitor_cursor_insert(JanitorCursor *cursor);

/* Writes all columns over the row with its id; error if it is gone. */
extern void janitor_cursor_update(JanitorCursor *cursor);
extern void janitor_cursor_delete(int64 id);

/* The newest version by its id; false if there is none. */
extern bool janitor_cursor_find(int64 id, JanitorCursor *cursor);

/*
 * Takes an open slice for this process: sets worker, unless it has one that
 * lives (is_alive says so), in this transaction.  false: not to be had.
 */
extern bool janitor_cursor_claim(int64 id, JanitorCursor *cursor,
								 bool (*is_alive) (int pid));

/* Every cursor of a job, oldest first; `each` returns false to stop. */
extern void janitor_cursor_scan(const char *job_name,
								bool (*each) (JanitorCursor *cursor,
											  void *arg),
								void *arg);

/* Removes those of one execution. */
extern void janitor_cursor_forget(const char *job_name, int64 execution_id);

/* Rows that an execution has handled so far; -1: it has no cursors. */
extern int64 janitor_cursor_handled(const char *job_name,
									int64 execution_id);

/* --- job_hold --- */

typedef struct JanitorHold
{
	int64		id;
	char	   *relation;		/* qualified and quoted */
	Oid			relation_oid;	/* what that was when the hold was placed;
								 * InvalidOid: in another database */
	char	   *relation_owner; /* and whose */
	char	   *predicate;		/* over the row r; NULL: every row */
	char	   *reason;
	TimestampTz until;			/* DT_NOEND: until released */
	char	   *placed_by;
	TimestampTz placed_at;
	char	   *released_by;	/* NULL: nobody yet */
	TimestampTz released_at;	/* DT_NOBEGIN: likewise */
} JanitorHold;

/* Allots the id, which it returns, and the time. */
extern int64 janitor_hold_insert(JanitorHold *hold);
extern bool janitor_hold_find(int64 id, JanitorHold *hold);

/*
 * Marks it released; false: it was already, or there is none.  *hold is what
 * it is then.
 */
extern bool janitor_hold_release(int64 id, const char *released_by,
								 JanitorHold *hold);

/*
 * Calls `each` for every hold in force (not released, not past its end), in
 * its newest committed version, with a snapshot taken now.
 */
extern void janitor_hold_scan(void (*each) (JanitorHold *hold, void *arg),
							  void *arg);

/* --- job_item_failure --- */

/* One row of job_item_failure: an item that is not done. */
typedef struct JanitorItemFailure
{
	char	   *job_name;
	char	   *item_key;
	int			attempts;
	char	   *sqlstate;		/* NULL: it did not fail, it is held */
	char	   *error_message;
	TimestampTz next_attempt_at;	/* DT_NOBEGIN: with the next run */
	bool		dead;			/* no further attempt by itself */
	bool		held;
	TimestampTz due;			/* DT_NOBEGIN: it has no deadline */
	int64		execution_id;	/* the run that wrote the row */
	TimestampTz first_at;		/* when it failed first; last */
	TimestampTz last_at;
} JanitorItemFailure;

extern bool janitor_item_failure_find(const char *job_name,
									  const char *item_key,
									  JanitorItemFailure *failure);

/* Inserts it, or writes it over the row of that item. */
extern void janitor_item_failure_put(const JanitorItemFailure *failure);

/* false: there was none. */
extern bool janitor_item_failure_delete(const char *job_name,
										const char *item_key);

/* Every row of a job, in the order of the keys. */
extern void janitor_item_failure_scan(const char *job_name,
									  void (*each) (JanitorItemFailure *failure,
													void *arg),
									  void *arg);

/* Items that failed in an execution, and have not been done since. */
extern int64 janitor_item_failures_of(const char *job_name,
									  int64 execution_id);

/* --- job_lease: runs of external jobs in the hands of workers outside --- */

#define JANITOR_TOKEN_SIZE 16

typedef struct JanitorLease
{
	ItemPointerData tid;		/* set by reads */
	TransactionId xmin;			/* likewise */
	int64		execution_id;
	char	   *job_name;
	char	   *key;			/* NULL: none */
	TimestampTz lease_until;
	TimestampTz claimed_at;
	unsigned char token_hash[JANITOR_TOKEN_SIZE];
} JanitorLease;

extern void janitor_lease_insert(const JanitorLease *lease);

/* The newest version; false if there is none. */
extern bool janitor_lease_find(int64 execution_id, JanitorLease *lease);

/*
 * Locks the row as it was read.  JANITOR_LOCK_GONE: it was changed or deleted
 * since; JANITOR_LOCK_HELD only without waiting.
 */
extern JanitorLock janitor_lease_lock(JanitorLease *lease, bool wait);

/* Of a row that the caller has locked. */
extern void janitor_lease_extend(JanitorLease *lease, TimestampTz until);
extern void janitor_lease_delete(JanitorLease *lease);

/*
 * Leases of a job, also those of transactions in progress that insert or
 * delete them: how many; is one under this key?
 */
extern int	janitor_lease_count(const char *job_name);
extern bool janitor_lease_has_key(const char *job_name, const char *key);

/* Committed ones by their end, from one time on; `each` returns false to stop. */
extern void janitor_lease_scan(TimestampTz from, TimestampTz until,
							   bool (*each) (JanitorLease *lease, void *arg),
							   void *arg);

/* Committed ones of a job. */
extern void janitor_lease_scan_job(const char *job_name,
								   bool (*each) (JanitorLease *lease,
												 void *arg),
								   void *arg);

/* --- job_work: who may claim runs of an external job --- */

extern void janitor_work_insert(const char *job_name, const char *role,
								Oid role_oid);

/* false: there was none. */
extern bool janitor_work_delete(const char *job_name, const char *role);
extern void janitor_work_delete_all(const char *job_name);

/* The OIDs of roles are looked up anew: the rows came with a dump. */
extern void janitor_work_find_roles(const char *job_name);

/* Was any job granted to this role? */
extern bool janitor_work_any(const char *role);

/* Calls `each` for every role that a job was granted to. */
extern void janitor_work_scan(const char *job_name,
							  void (*each) (Oid role_oid, const char *role,
											void *arg),
							  void *arg);

/* --- job_circuit and job_circuit_event --- */

typedef struct JanitorCircuit
{
	ItemPointerData tid;		/* set by reads */
	TransactionId xmin;			/* likewise */
	char	   *name;
	JanitorCircuitPolicy policy;
	JanitorBreaker breaker;
	char	   *owner;
	Oid			owner_oid;
} JanitorCircuit;

extern const char *janitor_circuit_state_name(JanitorCircuitState state);

extern bool janitor_circuit_find(const char *name, JanitorCircuit *circuit);
extern void janitor_circuit_insert(const JanitorCircuit *circuit,
								   const Interval *window,
								   const Interval *cooldown);

/* Of a row that the caller has locked; policy, owner; the breaker's state. */
extern JanitorLock janitor_circuit_lock(JanitorCircuit *circuit, bool wait);
extern void janitor_circuit_update(JanitorCircuit *circuit,
								   const Interval *window,
								   const Interval *cooldown);
extern void janitor_circuit_set_breaker(JanitorCircuit *circuit,
										const JanitorBreaker *breaker);
extern void janitor_circuit_delete(JanitorCircuit *circuit);

/* The OID of its owner is looked up anew: the row came with a dump. */
extern void janitor_circuit_find_owner(const char *name);

/* Calls `each` for every circuit. */
extern void janitor_circuit_scan(void (*each) (JanitorCircuit *circuit,
											   void *arg),
								 void *arg);

/* A line of the circuit's history: success, failure, or a change of state. */
extern void janitor_circuit_note(const char *name, const char *event,
								 TimestampTz at, TimestampTz began,
								 int64 execution_id);

/* The newest reports after `since`, oldest first; no more than `size`. */
extern int	janitor_circuit_reports(const char *name, TimestampTz since,
									JanitorReport *reports, int size);

/* Forgets what is older; how many, no more than `most`. */
extern int	janitor_circuit_prune(const char *name, TimestampTz before,
								  int most);

/* --- job_rate_limit and job_rate_hit --- */

typedef struct JanitorRateLimit
{
	ItemPointerData tid;		/* set by reads */
	TransactionId xmin;			/* likewise */
	int64		id;
	char	   *arg;			/* NULL: one window for all runs */
	int			max_runs;
	int64		per;
} JanitorRateLimit;

/* Those of a job, in the order of their ids; palloc'd. */
extern JanitorRateLimit *janitor_rate_limits(const char *job_name,
											 int *count);
extern void janitor_rate_limit_insert(const char *job_name, const char *arg,
									  int max_runs, const Interval *per);
extern void janitor_rate_limit_update(JanitorRateLimit *limit, int max_runs);
extern void janitor_rate_limit_delete(JanitorRateLimit *limit);

/*
 * Admissions that count in one window, also those of transactions in progress,
 * oldest first; no more than it may have.  palloc'd, with room for *size.
 * With `prune`, removes some that do not count any more.
 */
extern int64_t *janitor_rate_hits(const JanitorRateLimit *limit, int64 value,
								  TimestampTz now, bool prune,
								  int *count, int *size);
extern void janitor_rate_hit_insert(int64 limit_id, int64 value,
									TimestampTz at);

/* Removes what no window counts any more; how many, no more than `most`. */
extern int	janitor_rate_hit_prune(int most);

/* --- job_mask_key and job_mask_secret --- */

typedef enum JanitorMaskState
{
	JANITOR_MASK_ABSENT,		/* nobody ever made a key of this name */
	JANITOR_MASK_LIVE,
	JANITOR_MASK_FORGOTTEN,
	JANITOR_MASK_LOST			/* made in another database, see ledger_mask.c */
} JanitorMaskState;

/* What is known of the keys of one name. */
typedef struct JanitorMaskKeyRow
{
	JanitorMaskState state;
	char	   *owner;			/* NULL: everybody's; likewise InvalidOid */
	Oid			owner_oid;
	uint8		secret[JANITOR_SECRET_LENGTH];	/* of a live one */
} JanitorMaskKeyRow;

/*
 * Until the end of the transaction no key is forgotten.  Returns the OID of
 * job_mask_secret; relcache invalidation of it means that keys have changed.
 */
extern Oid	janitor_mask_hold_secrets(void);

/* Until the end of the transaction nobody else makes or forgets keys. */
extern void janitor_mask_lock_keys(void);

/* Reads the newest versions; also in parallel mode and on a standby. */
extern void janitor_mask_key_find(const char *name, JanitorMaskKeyRow *key);
extern void janitor_mask_key_insert(const char *name, const char *owner,
									Oid owner_oid, const uint8 *secret);

/* The secret of the key with this id; false: it is not in this database. */
extern bool janitor_mask_secret_find(const uint8 *id, uint8 *secret);

/* Of the live keys of this name the newest; false: there is none. */
extern bool janitor_mask_key_newest(const char *name, uint8 *id,
									uint8 *secret);

/*
 * Forgets every key of this name: marks them, and writes job_mask_secret anew
 * without their secrets.  Waits for all transactions that hold secrets.
 */
extern void janitor_mask_key_forget(const char *name);

/* --- job_receipt and job_replay --- */

#define JANITOR_KEY_ID_LENGTH 16

/* One row of job_receipt. */
typedef struct JanitorReceipt
{
	char	   *job_name;
	int64		number;
	int64		execution_id;
	TimestampTz erased_at;
	uint8		subject[JANITOR_DIGEST_LENGTH];
	uint8		key_id[JANITOR_KEY_ID_LENGTH];
	Jsonb	   *rows;
	bool		verified;
	int			policy_version;
	uint8		previous[JANITOR_DIGEST_LENGTH];
	uint8		hash[JANITOR_DIGEST_LENGTH];
} JanitorReceipt;

/* The newest of a job, as committed; false: it has none. */
extern bool janitor_receipt_last(const char *job_name,
								 JanitorReceipt *receipt);

/* Writes them, in their order; nobody else does so to the same job. */
extern void janitor_receipts_insert(const JanitorReceipt *receipts,
									int count);

/*
 * Calls `each` for the receipts of a job from a number on, in their order, in
 * a context that is reset after each call; it returns false to stop.
 */
extern void janitor_receipt_scan(const char *job_name, int64 from,
								 bool (*each) (const JanitorReceipt *receipt,
											   void *arg),
								 void *arg);

/* Names of the jobs that have receipts; of char *. */
extern List *janitor_receipt_jobs(void);

/* The row, for functions that return rows of job_receipt. */
extern HeapTuple janitor_receipt_tuple(const JanitorReceipt *receipt,
									   TupleDesc desc);

/* One row of job_replay: receipts whose subjects are to be erased again. */
typedef struct JanitorReplay
{
	int64		id;
	char	   *job_name;
	int64		first;
	int64		last;
} JanitorReplay;

extern void janitor_replay_insert(const char *job_name, int64 first,
								  int64 last, const char *requested_by);

/* Those of a job (NULL: of all) that are not done; of JanitorReplay. */
extern List *janitor_replays_pending(const char *job_name);
extern void janitor_replay_finish(int64 id, int64 execution_id);

#endif							/* JANITOR_LEDGER_H */
