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
#include "ledger_columns.h"

#define JANITOR_EXTENSION_NAME "pg_janitor"
#define JANITOR_EXTENSION_VERSION "1.0"

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
