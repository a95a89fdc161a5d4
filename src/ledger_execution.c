/*-------------------------------------------------------------------------
 *
 * ledger_execution.c
 *	  job_execution: what was run, and how it ended.
 *
 * The scheduler inserts a `running` row when it claims an entry.  From then
 * on only the worker that runs it writes the row, once, at the end, in the
 * transaction that did the work; or the scheduler, when that worker is gone.
 * Whoever comes second finds that the row is not `running` any more and
 * writes nothing.  That update touches no indexed column and the table keeps
 * a fifth of each page free, so it is heap-only.
 *
 * See ledger.c for how rows are found, locked and written.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "ledger_internal.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* ------------------------------------------------------------------------
 * Rows and executions
 * ------------------------------------------------------------------------
 */

static JanitorStatus
row_status(const JanitorRow *row)
{
	char	   *name = janitor_row_text(row, Anum_execution_status);
	JanitorStatus status = janitor_status_from_name(name);

	pfree(name);
	return status;
}

static JanitorReason
row_reason(const JanitorRow *row)
{
	char	   *name = janitor_row_text(row, Anum_execution_reason);
	JanitorReason reason = janitor_reason_from_name(name);

	pfree(name);
	return reason;
}

/* Takes a row apart; everything is copied into the current context. */
static void
execution_from_tuple(JanitorTable *table, HeapTuple tuple,
					 JanitorExecution *it)
{
	JanitorRow	row;

	janitor_row_load(&row, table, tuple);
	it->tid = tuple->t_self;
	it->id = janitor_row_int8(&row, Anum_execution_id, 0);
	it->job_name = janitor_row_text(&row, Anum_execution_job_name);
	it->status = row_status(&row);
	it->started_at = janitor_row_time(&row, Anum_execution_started_at);
	it->completed_at = janitor_row_time(&row, Anum_execution_completed_at);
	it->scheduled_for = janitor_row_time(&row, Anum_execution_scheduled_for);
	it->reason = row_reason(&row);
	it->attempt = janitor_row_int4(&row, Anum_execution_attempt);
	it->conflicts = janitor_row_int4(&row, Anum_execution_conflicts);
	it->retry_of = janitor_row_int8(&row, Anum_execution_retry_of, 0);
	it->parent_id = janitor_row_int8(&row, Anum_execution_parent_id, 0);
	it->args = janitor_row_jsonb(&row, Anum_execution_args);
	it->error_message = janitor_row_text(&row, Anum_execution_error_message);
	it->detail = janitor_row_text(&row, Anum_execution_detail);
	it->sqlstate = janitor_row_text(&row, Anum_execution_sqlstate);
	it->records = janitor_row_int8(&row, Anum_execution_records_processed,
								   -1);
	it->triggered_by = janitor_row_text(&row, Anum_execution_triggered_by);
	it->result = janitor_row_jsonb(&row, Anum_execution_result);
	it->key = janitor_row_text(&row, Anum_execution_key);
	it->lease_until = janitor_row_time(&row, Anum_execution_lease_until);
}

/* The columns that say what is run and why. */
static void
row_from_entry(const JanitorEntry *entry, const char *run_as, JanitorRow *row)
{
	janitor_row_clear(row);
	janitor_row_set(row, Anum_execution_id,
					Int64GetDatum(entry->execution_id));
	janitor_row_set_text(row, Anum_execution_job_name, entry->job_name);
	janitor_row_set_time(row, Anum_execution_scheduled_for,
						 entry->scheduled_for);
	janitor_row_set_text(row, Anum_execution_reason,
						 janitor_reason_name(entry->reason));
	janitor_row_set(row, Anum_execution_attempt,
					Int32GetDatum(entry->attempt));
	janitor_row_set(row, Anum_execution_conflicts,
					Int32GetDatum(entry->conflicts));
	janitor_row_set_int8(row, Anum_execution_retry_of, entry->retry_of, 0);
	janitor_row_set_int8(row, Anum_execution_parent_id, entry->parent_id, 0);
	janitor_row_set_text(row, Anum_execution_triggered_by,
						 entry->triggered_by);
	janitor_row_set_jsonb(row, Anum_execution_args, entry->args);
	janitor_row_set_text(row, Anum_execution_run_as, run_as);
	if (entry->key != NULL && entry->key[0] != '@')
		janitor_row_set_text(row, Anum_execution_key, entry->key);
}

/*
 * The generated column: completed_at - started_at, by the function behind
 * that operator.
 */
static void
set_duration(JanitorRow *row)
{
	if (row->nulls[Anum_execution_started_at - 1] ||
		row->nulls[Anum_execution_completed_at - 1])
		janitor_row_set_null(row, Anum_execution_duration);
	else
		janitor_row_set(row, Anum_execution_duration,
						DirectFunctionCall2(timestamp_mi,
											row->values[Anum_execution_completed_at - 1],
											row->values[Anum_execution_started_at - 1]));
}

/* status, and what follows from it: success is NULL for what never counted */
static void
set_status(JanitorRow *row, JanitorStatus status)
{
	janitor_row_set_text(row, Anum_execution_status,
						 janitor_status_name(status));
	if (status == JANITOR_RUNNING || status == JANITOR_SKIPPED)
		janitor_row_set_null(row, Anum_execution_success);
	else
		janitor_row_set(row, Anum_execution_success,
						BoolGetDatum(status == JANITOR_SUCCEEDED));
}

/* The columns that say how it ended. */
static void
set_outcome(JanitorRow *row, const JanitorOutcome *outcome)
{
	set_status(row, outcome->status);
	if (!TIMESTAMP_IS_NOBEGIN(outcome->started_at))
		janitor_row_set_time(row, Anum_execution_started_at,
							 outcome->started_at);
	janitor_row_set_time(row, Anum_execution_completed_at,
						 outcome->completed_at);
	set_duration(row);
	janitor_row_set_int8(row, Anum_execution_records_processed,
						 outcome->records, -1);
	janitor_row_set_int8(row, Anum_execution_failed_records,
						 outcome->failed_records, 0);
	janitor_row_set_text(row, Anum_execution_sqlstate,
						 outcome->sqlstate ?
						 unpack_sql_state(outcome->sqlstate) : NULL);
	janitor_row_set_text(row, Anum_execution_error_message,
						 outcome->error_message);
	janitor_row_set_text(row, Anum_execution_detail, outcome->detail);
	janitor_row_set_jsonb(row, Anum_execution_result, outcome->result);
	if (outcome->definition_version != 0)
		janitor_row_set(row, Anum_execution_definition_version,
						Int32GetDatum(outcome->definition_version));
	if (outcome->pid != 0)
		janitor_row_set(row, Anum_execution_pid, Int32GetDatum(outcome->pid));
}

/* Counts a row that has just got its end. */
static void
count_end(const JanitorRow *row)
{
	char	   *job_name = janitor_row_text(row, Anum_execution_job_name);
	JanitorEnded ended = {.count = 1};

	ended.status = row_status(row);
	ended.is_retry = !row->nulls[Anum_execution_retry_of - 1];
	ended.records =
		janitor_row_int8(row, Anum_execution_records_processed, 0);
	ended.failed_records =
		janitor_row_int8(row, Anum_execution_failed_records, 0);
	if (!row->nulls[Anum_execution_started_at - 1])
		ended.run_usecs =
			Max(janitor_row_time(row, Anum_execution_completed_at) -
				janitor_row_time(row, Anum_execution_started_at), 0);
	janitor_counter_add(job_name, &ended);
	pfree(job_name);
}

/* ------------------------------------------------------------------------
 * The life of a run
 * ------------------------------------------------------------------------
 */

static void
insert_execution(JanitorRow *row)
{
	JanitorTable table = janitor_table_open(JANITOR_EXECUTION,
											RowExclusiveLock);

	(void) janitor_row_insert(&table, row);
	janitor_table_close(&table);
}

static void
row_of_start(JanitorEntry *entry, TimestampTz now, int definition_version,
			 const char *run_as, JanitorRow *row)
{
	if (entry->execution_id == 0)
		entry->execution_id = janitor_next_execution_id();
	row_from_entry(entry, run_as, row);
	set_status(row, JANITOR_RUNNING);
	janitor_row_set_time(row, Anum_execution_started_at, now);
	janitor_row_set(row, Anum_execution_definition_version,
					Int32GetDatum(definition_version));
}

void
janitor_execution_start(JanitorEntry *entry, TimestampTz now,
						int definition_version, const char *run_as)
{
	JanitorRow	row;

	row_of_start(entry, now, definition_version, run_as, &row);
	insert_execution(&row);
}

void
janitor_execution_lease(JanitorEntry *entry, TimestampTz now,
						int definition_version, const char *run_as,
						TimestampTz lease_until, const char *worker)
{
	JanitorRow	row;

	row_of_start(entry, now, definition_version, run_as, &row);
	janitor_row_set_time(&row, Anum_execution_lease_until, lease_until);
	janitor_row_set_text(&row, Anum_execution_worker, worker);
	insert_execution(&row);
}

void
janitor_execution_never_ran(JanitorEntry *entry,
							const JanitorOutcome *outcome,
							const char *run_as)
{
	JanitorRow	row;

	if (entry->execution_id == 0)
		entry->execution_id = janitor_next_execution_id();
	row_from_entry(entry, run_as, &row);
	set_outcome(&row, outcome);
	insert_execution(&row);
	count_end(&row);
}

/* The newest version of the row with this id: a copy, or NULL. */
static HeapTuple
find_execution(JanitorTable *table, int64 id)
{
	ScanKeyData key;

	janitor_key_int8(&key, Anum_execution_id, id);
	return janitor_row_find(table, JANITOR_EXECUTION_PKEY, 1, &key);
}

/*
 * Finds a run that is `running` and locks its row, waiting for a concurrent
 * writer, after whom it has to be looked at again.  NULL if it has ended or
 * is gone.
 */
static HeapTuple
lock_running(JanitorTable *table, int64 id, JanitorRow *row)
{
	for (;;)
	{
		HeapTuple	tuple = find_execution(table, id);

		if (tuple == NULL)
			return NULL;
		janitor_row_load(row, table, tuple);
		if (row_status(row) != JANITOR_RUNNING)
			return NULL;
		if (janitor_row_lock(table, &tuple->t_self,
							 HeapTupleHeaderGetRawXmin(tuple->t_data), id,
							 LockWaitBlock, NULL) == JANITOR_LOCKED)
			return tuple;
		CHECK_FOR_INTERRUPTS();
	}
}

JanitorLock
janitor_execution_try_lock(int64 id)
{
	JanitorTable table = janitor_table_open(JANITOR_EXECUTION,
											RowExclusiveLock);
	HeapTuple	tuple = find_execution(&table, id);
	JanitorLock result = JANITOR_LOCK_GONE;

	if (tuple != NULL)
		result = janitor_row_lock(&table, &tuple->t_self,
								  HeapTupleHeaderGetRawXmin(tuple->t_data),
								  id, LockWaitSkip, NULL);
	janitor_table_close(&table);
	return result;
}

bool
janitor_execution_finish(int64 id, const JanitorOutcome *outcome)
{
	JanitorTable table = janitor_table_open(JANITOR_EXECUTION,
											RowExclusiveLock);
	JanitorRow	row;
	HeapTuple	tuple = lock_running(&table, id, &row);

	if (tuple != NULL)
	{
		set_outcome(&row, outcome);
		(void) janitor_row_update(&table, tuple, &row);
		count_end(&row);
	}
	janitor_table_close(&table);
	return tuple != NULL;
}

void
janitor_execution_extend(int64 id, TimestampTz lease_until)
{
	JanitorTable table = janitor_table_open(JANITOR_EXECUTION,
											RowExclusiveLock);
	JanitorRow	row;
	HeapTuple	tuple = lock_running(&table, id, &row);

	if (tuple != NULL)
	{
		janitor_row_set_time(&row, Anum_execution_lease_until, lease_until);
		(void) janitor_row_update(&table, tuple, &row);
	}
	janitor_table_close(&table);
}

bool
janitor_execution_unstart(int64 id, JanitorExecution *was)
{
	JanitorTable table = janitor_table_open(JANITOR_EXECUTION,
											RowExclusiveLock);
	JanitorRow	row;
	HeapTuple	tuple = lock_running(&table, id, &row);

	if (tuple != NULL)
	{
		if (was)
			execution_from_tuple(&table, tuple, was);
		janitor_row_delete(&table, &tuple->t_self);
	}
	janitor_table_close(&table);
	return tuple != NULL;
}

/* ------------------------------------------------------------------------
 * Skipped occurrences
 * ------------------------------------------------------------------------
 */

static bool
visit_copy(JanitorTable *table, HeapTuple tuple, void *arg)
{
	*(HeapTuple *) arg = heap_copytuple(tuple);
	return false;
}

/*
 * The job's newest row if it is `skipped` for the same reason; else NULL.
 * Only the scheduler skips, so nobody else changes or adds to such a row.
 */
static HeapTuple
newest_skip(JanitorTable *table, const char *job_name, const char *detail,
			JanitorRow *row)
{
	ScanKeyData key;
	HeapTuple	tuple = NULL;
	char	   *stored;

	janitor_key_text(&key, Anum_execution_job_name, job_name);
	(void) janitor_table_scan(table, JANITOR_EXECUTION_JOB, SnapshotSelf,
							  BackwardScanDirection, 1, &key,
							  visit_copy, &tuple);
	if (tuple == NULL)
		return NULL;
	janitor_row_load(row, table, tuple);
	if (row_status(row) != JANITOR_SKIPPED)
		return NULL;
	stored = janitor_row_text(row, Anum_execution_detail);
	if (stored == NULL || detail == NULL)
		return stored == detail ? tuple : NULL;
	return strcmp(stored, detail) == 0 ? tuple : NULL;
}

/* Counts more skips in a row; false if somebody else holds or removed it. */
static bool
add_to_skip(JanitorTable *table, HeapTuple tuple, JanitorRow *row,
			TimestampTz scheduled_for, int64 count)
{
	TimestampTz newest = janitor_row_time(row, Anum_execution_scheduled_for);
	int64		skipped = janitor_row_int8(row, Anum_execution_skipped, 0);

	if (janitor_row_lock(table, &tuple->t_self,
						 HeapTupleHeaderGetRawXmin(tuple->t_data), 0,
						 LockWaitSkip, NULL) != JANITOR_LOCKED)
		return false;
	janitor_row_set(row, Anum_execution_skipped,
					Int64GetDatum(skipped + count));
	janitor_row_set_time(row, Anum_execution_completed_at,
						 GetCurrentTimestamp());
	janitor_row_set_time(row, Anum_execution_scheduled_for,
						 Max(newest, scheduled_for));
	(void) janitor_row_update(table, tuple, row);
	return true;
}

static void
insert_skip(JanitorTable *table, const char *job_name,
			TimestampTz scheduled_for, const char *detail, int64 count,
			const char *run_as)
{
	JanitorEntry entry = {0};
	JanitorRow	row;

	entry.execution_id = janitor_next_execution_id();
	entry.job_name = unconstify(char *, job_name);
	entry.scheduled_for = scheduled_for;
	entry.reason = JANITOR_REASON_SCHEDULE;
	entry.attempt = 1;
	row_from_entry(&entry, run_as, &row);
	set_status(&row, JANITOR_SKIPPED);
	janitor_row_set_time(&row, Anum_execution_completed_at,
						 GetCurrentTimestamp());
	janitor_row_set_text(&row, Anum_execution_detail, detail);
	janitor_row_set(&row, Anum_execution_skipped, Int64GetDatum(count));
	(void) janitor_row_insert(table, &row);
}

void
janitor_execution_skip(const char *job_name, TimestampTz scheduled_for,
					   const char *detail, int64 count, const char *run_as)
{
	JanitorTable table = janitor_table_open(JANITOR_EXECUTION,
											RowExclusiveLock);
	JanitorEnded ended = {.status = JANITOR_SKIPPED,.count = count};
	JanitorRow	row;
	HeapTuple	tuple = newest_skip(&table, job_name, detail, &row);

	if (tuple == NULL ||
		!add_to_skip(&table, tuple, &row, scheduled_for, count))
		insert_skip(&table, job_name, scheduled_for, detail, count, run_as);
	janitor_counter_add(job_name, &ended);
	janitor_table_close(&table);
}

void
janitor_outcome_cancelled(JanitorOutcome *outcome, int sqlstate,
						  const char *message)
{
	MemSet(outcome, 0, sizeof(JanitorOutcome));
	outcome->status = JANITOR_CANCELLED;
	outcome->started_at = DT_NOBEGIN;
	outcome->completed_at = GetCurrentTimestamp();
	outcome->records = -1;
	outcome->sqlstate = sqlstate;
	outcome->error_message = message;
}

/* ------------------------------------------------------------------------
 * Reading
 * ------------------------------------------------------------------------
 */

bool
janitor_execution_find(int64 id, JanitorExecution *execution)
{
	JanitorTable table = janitor_table_open(JANITOR_EXECUTION,
											AccessShareLock);
	HeapTuple	tuple = find_execution(&table, id);

	if (tuple != NULL)
	{
		execution_from_tuple(&table, tuple, execution);
		heap_freetuple(tuple);
	}
	janitor_table_close(&table);
	return tuple != NULL;
}

typedef struct ExecutionScan
{
	bool		(*each) (JanitorExecution *execution, void *arg);
	void	   *arg;
} ExecutionScan;

static bool
visit_execution(JanitorTable *table, HeapTuple tuple, void *arg)
{
	ExecutionScan *scan = arg;
	JanitorExecution execution;

	execution_from_tuple(table, tuple, &execution);
	return scan->each(&execution, scan->arg);
}

/* As the active snapshot sees them. */
void
janitor_execution_scan(const char *job_name,
					   bool (*each) (JanitorExecution *execution, void *arg),
					   void *arg)
{
	JanitorTable table = janitor_table_open(JANITOR_EXECUTION,
											AccessShareLock);
	ExecutionScan scan = {each, arg};
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	ScanKeyData key;

	/* a fresh snapshot: what this transaction wrote counts, too */
	janitor_key_text(&key, Anum_execution_job_name, job_name);
	(void) janitor_table_scan(&table, JANITOR_EXECUTION_JOB,
							  snapshot, BackwardScanDirection,
							  1, &key, visit_execution, &scan);
	UnregisterSnapshot(snapshot);
	janitor_table_close(&table);
}

/*
 * Not by an index: status is not indexed, so that its update is heap-only.
 * The scan itself compares it, so other rows are not even taken apart.
 */
void
janitor_execution_scan_running(void (*each) (JanitorExecution *execution, void *arg),
							   void *arg)
{
	JanitorTable table = janitor_table_open(JANITOR_EXECUTION,
											AccessShareLock);
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple	tuple;

	janitor_key_text(&key, Anum_execution_status,
					 janitor_status_name(JANITOR_RUNNING));
	scan = systable_beginscan(table.rel, InvalidOid, false,
							  GetActiveSnapshot(), 1, &key);
	while ((tuple = systable_getnext(scan)) != NULL)
	{
		JanitorExecution execution;

		CHECK_FOR_INTERRUPTS();
		execution_from_tuple(&table, tuple, &execution);
		each(&execution, arg);
	}
	systable_endscan(scan);
	janitor_table_close(&table);
}

/* Waits for a concurrent writer; a row that changed or is gone is left. */
void
janitor_execution_delete(JanitorExecution *execution)
{
	JanitorTable table = janitor_table_open(JANITOR_EXECUTION,
											RowExclusiveLock);

	if (janitor_row_lock(&table, &execution->tid, InvalidTransactionId,
						 execution->id, LockWaitBlock,
						 NULL) == JANITOR_LOCKED)
		janitor_row_delete(&table, &execution->tid);
	janitor_table_close(&table);
}
