/*-------------------------------------------------------------------------
 *
 * ledger_queue.c
 *	  job_queue: what waits to be run, and when.
 *
 * Entries are written by SQL functions, by the scheduler (claims) and by
 * workers (retries, run_after), each in its own transaction.  Whatever writes
 * an entry announces its run_at, the old one and the new one, before it does
 * so: the scheduler looks again when that transaction has ended, also when it
 * was rolled back, since a claim may have passed over a row it had locked.
 *
 * See ledger.c for how rows are found, locked and written.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "ledger_internal.h"

#include "access/htup_details.h"
#include "access/stratnum.h"
#include "mark.h"
#include "shmem.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* ------------------------------------------------------------------------
 * Rows and entries
 * ------------------------------------------------------------------------
 */

/* Takes a row apart; everything is copied into the current context. */
static void
entry_from_tuple(JanitorTable *table, HeapTuple tuple, JanitorEntry *entry)
{
	JanitorRow	row;
	char	   *reason;

	janitor_row_load(&row, table, tuple);
	entry->tid = tuple->t_self;
	entry->xmin = HeapTupleHeaderGetRawXmin(tuple->t_data);
	entry->xmax = InvalidTransactionId;
	if (!(tuple->t_data->t_infomask & HEAP_XMAX_INVALID))
		entry->xmax = HeapTupleHeaderGetUpdateXid(tuple->t_data);
	entry->id = janitor_row_int8(&row, Anum_queue_id, 0);
	entry->execution_id = janitor_row_int8(&row, Anum_queue_execution_id, 0);
	entry->job_name = janitor_row_text(&row, Anum_queue_job_name);
	entry->run_at = janitor_row_time(&row, Anum_queue_run_at);
	entry->scheduled_for = janitor_row_time(&row, Anum_queue_scheduled_for);
	reason = janitor_row_text(&row, Anum_queue_reason);
	entry->reason = janitor_reason_from_name(reason);
	pfree(reason);
	entry->attempt = janitor_row_int4(&row, Anum_queue_attempt);
	entry->conflicts = janitor_row_int4(&row, Anum_queue_conflicts);
	entry->retry_of = janitor_row_int8(&row, Anum_queue_retry_of, 0);
	entry->parent_id = janitor_row_int8(&row, Anum_queue_parent_id, 0);
	entry->args = janitor_row_jsonb(&row, Anum_queue_args);
	entry->key = janitor_row_text(&row, Anum_queue_key);
	entry->triggered_by = janitor_row_text(&row, Anum_queue_triggered_by);
	entry->detail = janitor_row_text(&row, Anum_queue_detail);
	entry->pinned = false;
}

/* The row for an entry. */
static void
row_from_entry(const JanitorEntry *entry, JanitorRow *row)
{
	janitor_row_clear(row);
	janitor_row_set(row, Anum_queue_id, Int64GetDatum(entry->id));
	janitor_row_set_int8(row, Anum_queue_execution_id,
						 entry->execution_id, 0);
	janitor_row_set_text(row, Anum_queue_job_name, entry->job_name);
	janitor_row_set(row, Anum_queue_run_at,
					TimestampTzGetDatum(entry->run_at));
	janitor_row_set_time(row, Anum_queue_scheduled_for,
						 entry->scheduled_for);
	janitor_row_set_text(row, Anum_queue_reason,
						 janitor_reason_name(entry->reason));
	janitor_row_set(row, Anum_queue_attempt, Int32GetDatum(entry->attempt));
	janitor_row_set(row, Anum_queue_conflicts,
					Int32GetDatum(entry->conflicts));
	janitor_row_set_int8(row, Anum_queue_retry_of, entry->retry_of, 0);
	janitor_row_set_int8(row, Anum_queue_parent_id, entry->parent_id, 0);
	janitor_row_set_jsonb(row, Anum_queue_args, entry->args);
	janitor_row_set_text(row, Anum_queue_key, entry->key);
	janitor_row_set_text(row, Anum_queue_triggered_by, entry->triggered_by);
	janitor_row_set_text(row, Anum_queue_detail, entry->detail);
}

/* When a stored row is due. */
static TimestampTz
tuple_run_at(JanitorTable *table, HeapTuple tuple)
{
	bool		isnull;

	return DatumGetTimestampTz(heap_getattr(tuple, Anum_queue_run_at,
											RelationGetDescr(table->rel),
											&isnull));
}

/* Does the stored row have these arguments? */
static bool
has_args(JanitorTable *table, HeapTuple tuple, Jsonb *args)
{
	bool		isnull;
	Datum		stored = heap_getattr(tuple, Anum_queue_args,
									  RelationGetDescr(table->rel), &isnull);
	Jsonb	   *own;

	if (isnull || args == NULL)
		return isnull && args == NULL;
	own = DatumGetJsonbP(stored);
	return VARSIZE(own) == VARSIZE(args) &&
		memcmp(own, args, VARSIZE(own)) == 0;
}

/* The new version of a row is ours: entry names it from now on. */
static void
entry_points_at(JanitorEntry *entry, HeapTuple tuple)
{
	entry->tid = tuple->t_self;
	entry->xmin = HeapTupleHeaderGetRawXmin(tuple->t_data);
}

/* ------------------------------------------------------------------------
 * Single entries
 * ------------------------------------------------------------------------
 */

int64
janitor_next_execution_id(void)
{
	return janitor_next_id(JANITOR_EXECUTION_SEQUENCE);
}

/* Not with the transaction, as it is with sequences. */
void
janitor_pass_execution_id(int64 id)
{
	if (janitor_next_execution_id() < id)
		(void) DirectFunctionCall2(setval_oid,
								   ObjectIdGetDatum(janitor_relation(JANITOR_EXECUTION_SEQUENCE)),
								   Int64GetDatum(id));
}

/*
 * Waits for a transaction in progress that writes an entry with the same
 * (job_name, key); an error if that leaves a duplicate.
 */
void
janitor_entry_insert(JanitorEntry *entry)
{
	JanitorTable table = janitor_table_open(JANITOR_QUEUE, RowExclusiveLock);
	JanitorRow	row;

	janitor_wake_at_end(entry->run_at);
	if (entry->id == 0)
		entry->id = janitor_next_id(JANITOR_QUEUE_SEQUENCE);
	row_from_entry(entry, &row);
	entry_points_at(entry, janitor_row_insert(&table, &row));
	janitor_table_close(&table);
}

static bool
find_entry(JanitorRelation index, int nkeys, const ScanKeyData *keys,
		   JanitorEntry *entry)
{
	JanitorTable table = janitor_table_open(JANITOR_QUEUE, AccessShareLock);
	HeapTuple	tuple = janitor_row_find(&table, index, nkeys, keys);

	if (tuple != NULL)
	{
		entry_from_tuple(&table, tuple, entry);
		heap_freetuple(tuple);
	}
	janitor_table_close(&table);
	return tuple != NULL;
}

bool
janitor_entry_find_key(const char *job_name, const char *key,
					   JanitorEntry *entry)
{
	ScanKeyData keys[2];

	janitor_key_text(&keys[0], Anum_queue_job_name, job_name);
	janitor_key_text(&keys[1], Anum_queue_key, key);
	return find_entry(JANITOR_QUEUE_KEY, 2, keys, entry);
}

typedef struct KeyWriter
{
	SnapshotData dirty;
	TransactionId xid;
} KeyWriter;

static bool
visit_writer(JanitorTable *table, HeapTuple tuple, void *arg)
{
	KeyWriter  *writer = arg;

	writer->xid = writer->dirty.xmin;
	return !TransactionIdIsValid(writer->xid);
}

TransactionId
janitor_entry_key_writer(const char *job_name, const char *key)
{
	JanitorTable table = janitor_table_open(JANITOR_QUEUE, AccessShareLock);
	KeyWriter	writer = {.xid = InvalidTransactionId};
	ScanKeyData keys[2];

	InitDirtySnapshot(writer.dirty);
	janitor_key_text(&keys[0], Anum_queue_job_name, job_name);
	janitor_key_text(&keys[1], Anum_queue_key, key);
	(void) janitor_table_scan(&table, JANITOR_QUEUE_KEY, &writer.dirty,
							  ForwardScanDirection, 2, keys,
							  visit_writer, &writer);
	janitor_table_close(&table);
	return writer.xid;
}

bool
janitor_entry_find_execution(int64 execution_id, JanitorEntry *entry)
{
	ScanKeyData key;

	janitor_key_int8(&key, Anum_queue_execution_id, execution_id);
	return find_entry(JANITOR_QUEUE_EXECUTION, 1, &key, entry);
}

/* Locks the row of an entry; on success returns it in *old. */
static JanitorLock
lock_entry(JanitorTable *table, JanitorEntry *entry, LockWaitPolicy policy,
		   HeapTuple *old)
{
	return janitor_row_lock(table, &entry->tid, entry->xmin, entry->id,
							policy, old);
}

/*
 * Arguments that did not change are not written again: they may be large, and
 * a waiting entry may be moved often.
 */
bool
janitor_entry_update(JanitorEntry *entry)
{
	JanitorTable table = janitor_table_open(JANITOR_QUEUE, RowExclusiveLock);
	HeapTuple	old;
	JanitorRow	row;
	bool		found;

	found = lock_entry(&table, entry, LockWaitBlock, &old) == JANITOR_LOCKED;
	if (found)
	{
		janitor_wake_at_end(Min(entry->run_at, tuple_run_at(&table, old)));
		row_from_entry(entry, &row);
		row.replaces[Anum_queue_args - 1] =
			!has_args(&table, old, entry->args);
		entry_points_at(entry, janitor_row_update(&table, old, &row));
	}
	janitor_table_close(&table);
	return found;
}

/* Deletes the row of an entry from an open table; false if it is gone. */
static bool
delete_entry(JanitorTable *table, ItemPointer tid, TransactionId xmin,
			 int64 id)
{
	HeapTuple	old;

	if (janitor_row_lock(table, tid, xmin, id,
						 LockWaitBlock, &old) != JANITOR_LOCKED)
		return false;
	janitor_wake_at_end(tuple_run_at(table, old));
	janitor_row_delete(table, tid);
	heap_freetuple(old);
	return true;
}

bool
janitor_entry_delete(JanitorEntry *entry)
{
	JanitorTable table = janitor_table_open(JANITOR_QUEUE, RowExclusiveLock);
	bool		found = delete_entry(&table, &entry->tid, entry->xmin,
									 entry->id);

	janitor_table_close(&table);
	return found;
}

/*
 * Wakes nobody: what the caller then writes does.  A row that has been locked
 * and left alone is looked at again within a second anyway.
 */
JanitorLock
janitor_entry_try_lock(JanitorEntry *entry)
{
	JanitorTable table = janitor_table_open(JANITOR_QUEUE, RowExclusiveLock);
	JanitorLock result = lock_entry(&table, entry, LockWaitSkip, NULL);

	janitor_table_close(&table);
	return result;
}

JanitorLock
janitor_entry_take(JanitorEntry *entry)
{
	JanitorTable table = janitor_table_open(JANITOR_QUEUE, RowExclusiveLock);
	JanitorLock result;

	janitor_wake_at_abort(entry->run_at);
	result = janitor_row_take(&table, &entry->tid, entry->xmin, entry->id,
							  &entry->pinned);
	janitor_table_close(&table);
	return result;
}

void
janitor_entry_take_locked(JanitorEntry *entry)
{
	JanitorTable table = janitor_table_open(JANITOR_QUEUE, RowExclusiveLock);

	janitor_wake_at_abort(entry->run_at);
	janitor_row_delete(&table, &entry->tid);
	janitor_table_close(&table);
}

void
janitor_entry_postpone(JanitorEntry *entry, TimestampTz run_at,
					   const char *detail)
{
	JanitorTable table = janitor_table_open(JANITOR_QUEUE, RowExclusiveLock);
	HeapTuple	old;
	JanitorRow	row;

	janitor_wake_at_abort(entry->run_at);
	janitor_alarm_at_end(run_at);
	if (lock_entry(&table, entry, LockWaitBlock, &old) != JANITOR_LOCKED)
		elog(ERROR, "entry " INT64_FORMAT " of the queue is not locked",
			 entry->id);
	janitor_row_load(&row, &table, old);
	janitor_row_set_time(&row, Anum_queue_run_at, run_at);
	janitor_row_set_text(&row, Anum_queue_detail, detail);
	entry_points_at(entry, janitor_row_update(&table, old, &row));
	entry->run_at = run_at;
	janitor_table_close(&table);
}

/* ------------------------------------------------------------------------
 * Every entry of a job
 * ------------------------------------------------------------------------
 */

typedef struct DeleteAll
{
	int64		seen;
	int64		deleted;
} DeleteAll;

static bool
visit_delete(JanitorTable *table, HeapTuple tuple, void *arg)
{
	DeleteAll  *all = arg;

	all->seen++;
	if (delete_entry(table, &tuple->t_self,
					 HeapTupleHeaderGetRawXmin(tuple->t_data), 0))
		all->deleted++;
	return true;
}

/*
 * Under a fresh snapshot each time, until it shows none: an entry that a
 * claim moved while we waited for it is only seen, and removed, in the next
 * round.
 */
int64
janitor_entry_delete_all(const char *job_name)
{
	JanitorTable table = janitor_table_open(JANITOR_QUEUE, RowExclusiveLock);
	DeleteAll	all = {0, 0};

	do
	{
		Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
		ScanKeyData key;

		all.seen = 0;
		janitor_key_text(&key, Anum_queue_job_name, job_name);
		(void) janitor_table_scan(&table, JANITOR_QUEUE_JOB_RUN_AT, snapshot,
								  ForwardScanDirection, 1, &key,
								  visit_delete, &all);
		UnregisterSnapshot(snapshot);
	} while (all.seen > 0);
	janitor_table_close(&table);
	return all.deleted;
}

/* ------------------------------------------------------------------------
 * Scans in (run_at, id) order
 * ------------------------------------------------------------------------
 */

static void
key_run_at(ScanKey key, StrategyNumber strategy, RegProcedure procedure,
		   TimestampTz value)
{
	ScanKeyInit(key, Anum_queue_run_at, strategy, procedure,
				TimestampTzGetDatum(value));
}

/*
 * One scan of the right index; keys[0] is free for the job's name.  Under a
 * fresh snapshot: what this transaction wrote counts, too.
 */
static bool
scan_range(JanitorTable *table, const char *job_name, int nkeys,
		   ScanKeyData *keys, JanitorVisit visit, void *arg)
{
	JanitorRelation index = JANITOR_QUEUE_RUN_AT;
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	bool		went_on;

	if (job_name)
	{
		index = JANITOR_QUEUE_JOB_RUN_AT;
		janitor_key_text(&keys[0], Anum_queue_job_name, job_name);
	}
	went_on = janitor_table_scan(table, index, snapshot,
								 ForwardScanDirection,
								 job_name ? nkeys : nkeys - 1,
								 job_name ? keys : keys + 1, visit, arg);
	UnregisterSnapshot(snapshot);
	return went_on;
}

/*
 * Visits the entries after the position (after_run_at, after_id) as two
 * ranges, so that neither reads what it does not want: the rest of the
 * entries due at that very instant, then those due later.
 */
static void
scan_entries(JanitorTable *table, const char *job_name,
			 TimestampTz after_run_at, int64 after_id, TimestampTz until,
			 JanitorVisit visit, void *arg)
{
	ScanKeyData keys[3];

	if (after_run_at > until)
		return;
	if (!TIMESTAMP_IS_NOBEGIN(after_run_at))
	{
		key_run_at(&keys[1], BTEqualStrategyNumber, F_TIMESTAMPTZ_EQ,
				   after_run_at);
		ScanKeyInit(&keys[2], Anum_queue_id, BTGreaterStrategyNumber,
					F_INT8GT, Int64GetDatum(after_id));
		if (!scan_range(table, job_name, 3, keys, visit, arg))
			return;
	}
	key_run_at(&keys[1], BTLessEqualStrategyNumber, F_TIMESTAMPTZ_LE, until);
	key_run_at(&keys[2], BTGreaterStrategyNumber, F_TIMESTAMPTZ_GT,
			   after_run_at);
	(void) scan_range(table, job_name,
					  TIMESTAMP_IS_NOBEGIN(after_run_at) ? 2 : 3, keys,
					  visit, arg);
}

typedef struct EntryScan
{
	bool		(*each) (JanitorEntry *entry, void *arg);
	void	   *arg;
} EntryScan;

static bool
visit_entry(JanitorTable *table, HeapTuple tuple, void *arg)
{
	EntryScan  *scan = arg;
	JanitorEntry entry;

	entry_from_tuple(table, tuple, &entry);
	return scan->each(&entry, scan->arg);
}

void
janitor_entry_scan(const char *job_name, TimestampTz after_run_at,
				   int64 after_id, TimestampTz until,
				   bool (*each) (JanitorEntry *entry, void *arg), void *arg)
{
	JanitorTable table = janitor_table_open(JANITOR_QUEUE, AccessShareLock);
	EntryScan	scan = {each, arg};

	scan_entries(&table, job_name, after_run_at, after_id, until,
				 visit_entry, &scan);
	janitor_table_close(&table);
}

static bool
visit_first(JanitorTable *table, HeapTuple tuple, void *arg)
{
	*(TimestampTz *) arg = tuple_run_at(table, tuple);
	return false;
}

TimestampTz
janitor_entry_earliest(TimestampTz after_run_at, int64 after_id)
{
	JanitorTable table = janitor_table_open(JANITOR_QUEUE, AccessShareLock);
	TimestampTz earliest = DT_NOEND;

	scan_entries(&table, NULL, after_run_at, after_id, DT_NOEND,
				 visit_first, &earliest);
	janitor_table_close(&table);
	return earliest;
}
